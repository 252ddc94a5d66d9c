"""Rate-distortion objectives over a continuum of steps.

L = bpp + lambda * 255^2 * MSE with lambda = 0.18 / Delta^2 (Kamisli et al. 2024, Sec. 4: the eight
published pairs lie on this line), MSE on [0,1].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import entropy_models
from jvrc.model.config import Config
from jvrc.model.hyperprior import Forward
from jvrc.model.modules import VariableRateModel
from jvrc.qstep import rd_lambda

WIDE = ("g_a", "g_s")  # nine tenths of the arithmetic; their precision is a choice
AUXILIARY = 1e-3  # weight of the loss that moves the bottleneck's quantiles


class Losses(NamedTuple):
    """For each picture of a batch: [B]."""

    rd: Array
    bpp: Array
    mse: Array


def draw_qsteps(key: Array, batch: int, low: float, high: float) -> Array:
    """Log-uniform steps, stratified: one in each of `batch` equal parts of the range, shuffled."""
    k_position, k_order = jax.random.split(key)
    part = (jnp.arange(batch, dtype=jnp.float32) + jax.random.uniform(k_position, (batch,))) / batch
    return low * (high / low) ** jax.random.permutation(k_order, part)


def losses(config: Config, params: dict, x: Array, qstep: Array, key: Array | None) -> Losses:
    """Per-picture losses of x [B,H,W,3] in [0,1] at qstep [B]; key None: rounded, not noisy."""
    rngs = None if key is None else {"noise": key}
    out = VariableRateModel(config).apply({"params": params}, x, qstep, rngs=rngs)
    if key is None:
        out = out._replace(x_hat=jnp.clip(out.x_hat, 0, 1))
    return losses_of(out, x, rd_lambda(qstep))


def losses_of(out: Forward, x: Array, weight: Array) -> Losses:
    """Per-picture losses of one pass over x [B,H,W,3]; weight: lambda, [] or [B]."""
    bpp = (out.bits_y + out.bits_z) / (x.shape[1] * x.shape[2])
    mse = jnp.mean(jnp.square(x - out.x_hat), axis=(1, 2, 3))
    return Losses(bpp + weight * 255**2 * mse, bpp, mse)


def held_fixed(params: dict, *names: str) -> dict:
    """The parameters, those of the named parts among them as constants: they get no gradient."""
    return params | {n: jax.lax.stop_gradient(params[n]) for n in names if n in params}


def in_precision(params: dict, dtype: jnp.dtype) -> dict:
    """The parameters, those of g_a and g_s in another precision, in which they then compute.

    bfloat16 is for the beginning: in a model that is nearly trained, gradients of g_a have a cosine
    of 0.64 with true ones at Delta = 1, of 0.84 at 4 and 0.99 at 16.
    """
    found = [name for name in WIDE if name in params]
    return params | {n: jax.tree.map(lambda a: a.astype(dtype), params[n]) for n in found}


def balanced_mean(rd: Array, qstep: Array, power: float = 1.0) -> Array:
    """Mean over rates, each weighted by a power of Delta (of geometric mean 4).

    A plain mean, power 0, belongs to the highest rate, whose loss is ten times that of the lowest.
    At 1, the root of lambda inverse, losses are about equal; gradients still fall with the step.
    """
    return jnp.mean(rd * (qstep / 4.0) ** power)


def training_loss(
    config: Config, params: dict, x: Array, qstep: Array, key: Array, balance: float = 1.0
) -> tuple[Array, Losses]:
    """Scalar to differentiate (with the bottleneck's auxiliary loss), and what to report.

    balance: the power of `balanced_mean`.
    """
    parts = losses(config, params, x, qstep, key)
    auxiliary = entropy_models.quantile_loss(params["bottleneck"])
    loss = balanced_mean(parts.rd, qstep, balance) + AUXILIARY * auxiliary
    return loss, jax.lax.stop_gradient(parts)
