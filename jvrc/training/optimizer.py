"""The optimiser: Muon for kernels, Adam for the rest, and one cosine schedule."""

from typing import Any

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

# Parts whose wide kernels would take Muon long and are learned easily: Adam trains them.
_ADAM_PARTS = ("h_s", "context", "entropy_parameters")


def schedule(
    peak: float, steps: int, *, warmup: int, final_fraction: float, first_step: int = 0
) -> optax.Schedule:
    """Return a linear warm-up to `peak`, then a cosine to final_fraction * peak at `steps`.

    The warm-up takes a tenth of the steps at most. A run that enters the schedule later, with a new
    state of the optimiser, counts from `first_step` and warms up to where the cosine is by then.
    """
    warmup = min(warmup, max(1, steps // 10))
    whole = optax.warmup_cosine_decay_schedule(
        0.0, peak, warmup, max(steps, warmup + 1), final_fraction * peak
    )
    if first_step == 0:
        return whole
    return lambda count: whole(first_step + count) * jnp.minimum(1.0, count / warmup)


def _as_matrix(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
    """Return how Muon sees a leaf: a kernel is a matrix [taps * in, out]; None: Adam has it."""
    if leaf.ndim == 4 and path[0].key not in _ADAM_PARTS:
        return MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return None


def make_optimizer(name: str, learning_rate: optax.Schedule) -> optax.GradientTransformation:
    """Return `muon` or `adam`; the size of their updates does not depend on the gradient's.

    Gradients are clipped to a norm below the usual one, so that every batch weighs the same in the
    averages and an outlier, of a norm a hundred times that, no more than any other.
    """
    if name == "adam":
        rule = optax.adam(learning_rate)
    else:
        rule = muon(
            learning_rate,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda p: jax.tree_util.tree_map_with_path(_as_matrix, p),
        )
    return _with_implicit_promotion(optax.chain(optax.clip_by_global_norm(1.0), rule))


def _with_implicit_promotion(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the rule with dtype and rank promotion allowed, which optax needs (float ** int32)."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return rule.update(grads, state, params)

    return optax.GradientTransformation(rule.init, update)
