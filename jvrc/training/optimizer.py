"""The optimiser: Muon for kernels, Adam for the rest, and one cosine schedule."""

from collections.abc import Collection
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array

from jvrc.model.config import Config, HyperpriorConfig
from jvrc.training.muon import muon_or_adam


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


def adam_parts(config: Config) -> tuple[str, ...]:
    """Return the parts of a model whose kernels Adam trains too.

    In the models of 2018 the entropy model has wide kernels, which would take Muon long and are
    learned easily.
    """
    wide = ("h_s", "context", "entropy_parameters")
    return wide if isinstance(config, HyperpriorConfig) else ("delta",)


def is_kernel(path: tuple, leaf: Array) -> bool:
    """Return True for the kernels of dense layers and convolutions.

    Depthwise kernels are none, nor are the films of jvrc2026, which read a few features of Delta.
    """
    *_, layer, name = ("", *(key.key for key in path))
    return name == "kernel" and leaf.ndim in (2, 4) and not layer.startswith("film")


def make_optimizer(
    name: str,
    learning_rate: optax.Schedule,
    *,
    weight_decay: float = 0.0,
    adam_parts: Collection[str] = (),
    fixed: Collection[str] = (),
) -> optax.GradientTransformation:
    """Return `muon` or `adam`; the size of their updates does not depend on the gradient's.

    Gradients are clipped to a norm below the usual one, so that every batch weighs the same in the
    averages and an outlier, of a norm a hundred times that, no more than any other.

    weight_decay: of kernels, times the learning rate at each training step, except in the parts
    `fixed`. adam_parts: those that Muon leaves to Adam altogether.
    """

    def kernels(params: dict, without: Collection[str]) -> dict:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: is_kernel(path, leaf) and path[0].key not in without, params
        )

    adam = optax.scale_by_adam()
    rule = optax.chain(
        optax.clip_by_global_norm(1.0),
        adam if name == "adam" else muon_or_adam(lambda params: kernels(params, adam_parts)),
        optax.add_decayed_weights(weight_decay, lambda params: kernels(params, fixed)),
        optax.scale_by_learning_rate(learning_rate),
    )
    return _with_implicit_promotion(rule)


def _with_implicit_promotion(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the rule with dtype and rank promotion allowed, which optax needs (float ** int32)."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return rule.update(grads, state, params)

    return optax.GradientTransformation(rule.init, update)
