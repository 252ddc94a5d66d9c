"""The optimiser: Muon or SOAP for kernels, Adam for the rest; the schedule of learning rates."""

from collections.abc import Collection
from functools import partial
from typing import Any

import jax
import jax.numpy as jnp
import optax
from jax import Array
from jax.typing import ArrayLike

from jvrc.model.config import Config, HyperpriorConfig
from jvrc.training.update.muon import muon_or_adam
from jvrc.training.update.soap import soap_or_adam

_CLOCK_WARMUP = 0.03  # of a schedule by the clock, whose number of training steps is not known


def warmup_fraction(warmup: int, steps: int | None) -> float:
    """Return the part of a schedule in which the learning rate rises, a tenth at most.

    warmup: training steps, of `steps` in all. steps: None for a schedule by the clock.
    """
    return _CLOCK_WARMUP if steps is None else min(warmup / steps, 0.1)


def learning_rate(
    fraction: Array, peak: ArrayLike, *, warmup: ArrayLike, final_fraction: ArrayLike
) -> Array:
    """Return the learning rate [] when a fraction [] of the schedule is done.

    It rises to `peak` at the fraction `warmup`, then follows a cosine to final_fraction * peak.
    """
    rising = fraction / jnp.maximum(warmup, 1e-6)
    cosine = 0.5 + 0.5 * jnp.cos(jnp.pi * jnp.clip((fraction - warmup) / (1 - warmup), 0.0, 1.0))
    return peak * jnp.where(
        fraction < warmup, rising, final_fraction + (1 - final_fraction) * cosine
    )


def adam_parts(config: Config, name: str = "muon") -> tuple[str, ...]:
    """Return the parts of a model whose kernels Adam trains too, beside the optimiser `name`.

    In the models of 2018 the entropy model has wide kernels, which take Muon long on a CPU and are
    learned easily.
    """
    wide = ("h_s", "context", "entropy_parameters")
    if isinstance(config, HyperpriorConfig):
        return wide if name == "muon" else ()
    return ("delta",)


def is_kernel(path: tuple, leaf: Array) -> bool:
    """Return True for the kernels of dense layers and convolutions.

    Depthwise kernels are none, nor are the films of jvrc2026, which read a few features of Delta.
    """
    *_, layer, name = ("", *(key.key for key in path))
    return name == "kernel" and leaf.ndim in (2, 4) and not layer.startswith("film")


def make_optimizer(
    name: str,
    *,
    weight_decay: ArrayLike = 0.0,
    adam_parts: Collection[str] = (),
    fixed: Collection[str] = (),
) -> optax.GradientTransformation:
    """Return an optimiser for a learning rate of one, by which updates are to be multiplied.

    name: one of jvrc.training.recipe.schema.OPTIMIZERS.

    The size of its updates does not depend on the gradient's.

    Gradients are clipped to a norm below the usual one, so that every batch weighs the same in the
    averages and an outlier, of a norm a hundred times that, no more than any other.

    weight_decay: of kernels, times the learning rate at each training step. adam_parts: those that
    are left to Adam altogether. fixed: those whose gradients are zero, which do not decay either.
    """

    def kernels(params: dict, without: Collection[str]) -> dict:
        return jax.tree_util.tree_map_with_path(
            lambda path, leaf: is_kernel(path, leaf) and path[0].key not in without, params
        )

    def is_matrix(params: dict) -> dict:
        return kernels(params, {*adam_parts, *fixed})  # Adam takes a zero gradient in no time

    muon, soap = partial(muon_or_adam, is_matrix), partial(soap_or_adam, is_matrix)
    rules = {"adam": optax.scale_by_adam, "muon": muon, "muon-all": muon, "soap": soap}
    rule = optax.chain(
        optax.clip_by_global_norm(1.0),
        rules[name](),
        optax.add_decayed_weights(weight_decay, lambda params: kernels(params, fixed)),
        optax.scale(-1.0),
    )
    return _with_implicit_promotion(rule)


def _with_implicit_promotion(rule: optax.GradientTransformation) -> optax.GradientTransformation:
    """Return the rule with dtype and rank promotion allowed, which optax needs (float ** int32)."""

    def update(grads: Any, state: Any, params: Any = None) -> tuple:
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return rule.update(grads, state, params)

    return optax.GradientTransformation(rule.init, update)
