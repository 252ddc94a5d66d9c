"""Rate-distortion objectives over a range of quantisation steps Delta.

L = bpp + lambda * 255^2 * MSE with lambda = 0.18 / Delta^2 (Kamisli et al. 2024, Sec. 4: the eight
published pairs lie on this line), MSE on [0,1].
"""

from typing import NamedTuple

import jax
import jax.numpy as jnp
from jax import Array
from jax.typing import ArrayLike

from jvrc.model import entropy_models
from jvrc.model.config import Config
from jvrc.model.latents import Forward
from jvrc.model.modules import VariableRateModel
from jvrc.qstep import rd_lambda
from jvrc.training.loss import outliers

TRANSFORMS = ("g_a", "g_s")  # nine tenths of the arithmetic; their precision is a choice
AUXILIARY = 1e-3  # weight of the loss that moves the bottleneck's quantiles


class Losses(NamedTuple):
    """Losses of each image of a batch: [B]."""

    rd: Array  # bpp + lambda * 255^2 * MSE
    bpp: Array
    mse: Array


def draw_qsteps(key: Array, batch: int, low: ArrayLike, high: ArrayLike) -> Array:
    """Draw log-uniform quantisation steps [batch] in low … high.

    They are stratified: one in each of `batch` equal parts of the range, in random order.
    """
    k_position, k_order = jax.random.split(key)
    position = jax.random.uniform(k_position, (batch,))
    part = (jnp.arange(batch, dtype=position.dtype) + position) / batch
    return low * (high / low) ** jax.random.permutation(k_order, part)


def losses(config: Config, params: dict, x: Array, qstep: Array, key: Array | None) -> Losses:
    """Return the losses of images x [B,H,W,3] in [0,1] at quantisation steps qstep [B].

    key: of the noise that stands for quantisation; None: latents are rounded.
    """
    rngs = None if key is None else {"noise": key}
    out = VariableRateModel(config).apply({"params": params}, x, qstep, rngs=rngs)
    if key is None:
        out = out._replace(x_hat=jnp.clip(out.x_hat, 0, 1))
    return losses_of(out, x, rd_lambda(qstep))


def losses_of(out: Forward, x: Array, weight: Array) -> Losses:
    """Return the losses of one forward pass over x [B,H,W,3]; weight: lambda, [] or [B]."""
    bpp = (out.bits_y + out.bits_z) / (x.shape[1] * x.shape[2])
    mse = jnp.mean(jnp.square(x - out.x_hat), axis=(1, 2, 3))
    return Losses(bpp + weight * 255**2 * mse, bpp, mse)


def stop_gradients(params: dict, *names: str) -> dict:
    """Return the parameters with the named parts as constants, which get no gradient."""
    return params | {n: jax.lax.stop_gradient(params[n]) for n in names if n in params}


def cast_transforms(params: dict, dtype: jnp.dtype) -> dict:
    """Return the parameters with g_a and g_s in another precision, in which they then compute.

    bfloat16 is for the beginning of training: in a model that is nearly trained, gradients of g_a
    have a cosine of 0.64 with true ones at Delta = 1, of 0.84 at 4 and 0.99 at 16.
    """
    found = [name for name in TRANSFORMS if name in params]
    return params | {n: jax.tree.map(lambda a: a.astype(dtype), params[n]) for n in found}


def balanced_mean(rd: Array, qstep: Array, power: ArrayLike = 1.0) -> Array:
    """Return the mean of losses rd, each weighted by (Delta / 4)^power.

    Power 0, a plain mean, serves the highest rate, whose loss is ten times that of the lowest. At
    1, which is lambda^-1/2 but for a factor, losses are about equal; gradients still fall with
    Delta.
    """
    return jnp.mean(balanced(rd, qstep, power))


def balanced(rd: Array, qstep: Array, power: ArrayLike = 1.0) -> Array:
    """Return losses rd weighted by (Delta / 4)^power, those that `balanced_mean` averages."""
    return rd * (qstep / 4.0) ** power


def training_loss(
    config: Config, params: dict, x: Array, qstep: Array, key: Array, balance: ArrayLike = 1.0
) -> tuple[Array, tuple[Losses, Array]]:
    """Return the scalar to differentiate, and (losses, weights [B] of the crops), constants.

    The scalar is the mean of the crops' balanced losses, each times its weight by
    `outliers.crop_weights`, and the bottleneck's auxiliary loss. balance: the power of `balanced`;
    weights are those of power 1, at which the losses of all rates are about equal.
    """
    parts = losses(config, params, x, qstep, key)
    weights = outliers.crop_weights(balanced(parts.rd, qstep))
    loss = outliers.weighted_mean(weights, balanced(parts.rd, qstep, balance))
    auxiliary = entropy_models.quantile_loss(params["bottleneck"])
    return loss + AUXILIARY * auxiliary, jax.lax.stop_gradient((parts, weights))
