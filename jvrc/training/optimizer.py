"""The optimiser: Muon for kernels, Adam for the rest, and one cosine schedule."""

import jax
import jax.numpy as jnp
import optax
from optax.contrib import MuonDimensionNumbers, muon

_WIDE = ("h_s", "context", "entropy_parameters")


def schedule(
    peak: float, steps: int, *, warmup: int, final: float, begin: int = 0
) -> optax.Schedule:
    """Linear warm-up to `peak`, then a cosine to final * peak at `steps`.

    The warm-up takes a tenth of the steps at most. A piece that begins later, with an optimiser
    that knows nothing yet, counts from `begin` and warms up to where the cosine is by then.
    """
    warmup = min(warmup, max(1, steps // 10))
    whole = optax.warmup_cosine_decay_schedule(
        0.0, peak, warmup, max(steps, warmup + 1), final * peak
    )
    if begin == 0:
        return whole
    return lambda count: whole(begin + count) * jnp.minimum(1.0, count / warmup)


def _as_matrix(path: tuple, leaf: jax.Array) -> MuonDimensionNumbers | None:
    """Kernels are matrices [taps * in, out]; wide ones that are cheap to learn go to Adam."""
    if leaf.ndim == 4 and path[0].key not in _WIDE:
        return MuonDimensionNumbers(reduction_axis=(0, 1, 2), output_axis=3)
    return None


def make_optimizer(name: str, rate: optax.Schedule) -> optax.GradientTransformation:
    """`muon` or `adam`, whose steps do not depend on the gradient's scale.

    Gradients are clipped to a norm below the usual one, so that every batch weighs the same in the
    averages and an outlier, of a norm a hundred times that, no more than any other.
    """
    if name == "adam":
        rule = optax.adam(rate)
    else:
        rule = muon(
            rate,
            consistent_rms=0.2,
            muon_weight_dimension_numbers=lambda p: jax.tree_util.tree_map_with_path(_as_matrix, p),
        )
    return optax.chain(optax.clip_by_global_norm(1.0), rule)
