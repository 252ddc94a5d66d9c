"""Entropy models: the factorised bottleneck of z and the conditional Gaussian of y.

All rates are in bits, summed over all but the batch axis. Bins have a width: the probability of a
value v under a density p is the integral of p over [v - width/2, v + width/2].
"""

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers

SCALE_MIN = 0.11  # of sigma / Delta, as in the literature
_LIKELIHOOD_MIN = 1e-9
_FILTERS = (1, 3, 3, 3, 3, 1)


def init_bottleneck(key: Array, channels: int, *, init_scale: float = 10.0) -> dict:
    """Parameters of Ballé et al. 2018, App. 6.1, in CompressAI's parametrisation and shapes.

    matrix_i [C, f_{i+1}, f_i], bias_i and factor_i [C, f_{i+1}, 1], quantiles [C, 1, 3].
    """
    scale = init_scale ** (1 / (len(_FILTERS) - 1))
    params = {}
    for i, (f_in, f_out) in enumerate(zip(_FILTERS[:-1], _FILTERS[1:], strict=True)):
        value = jnp.log(jnp.expm1(1 / scale / f_out))
        params[f"matrix{i}"] = jnp.full((channels, f_out, f_in), value)
        key_i, shape = jax.random.fold_in(key, i), (channels, f_out, 1)
        params[f"bias{i}"] = jax.random.uniform(key_i, shape, minval=-0.5, maxval=0.5)
        if i < len(_FILTERS) - 2:
            params[f"factor{i}"] = jnp.zeros((channels, f_out, 1))
    params["quantiles"] = jnp.tile(jnp.array([[-init_scale, 0.0, init_scale]]), (channels, 1, 1))
    return params


def bottleneck_logits(params: dict, x: Array) -> Array:
    """logit of the cumulative of each channel (monotone network). x: [C, 1, n] -> [C, 1, n]."""
    for i in range(len(_FILTERS) - 1):
        matrix = jax.nn.softplus(params[f"matrix{i}"])
        # a product and a sum, not a dot: the network is so thin that a batched dot is slower
        x = jnp.sum(matrix[:, :, :, None] * x[:, None, :, :], axis=2) + params[f"bias{i}"]
        if i < len(_FILTERS) - 2:
            x = x + jnp.tanh(params[f"factor{i}"]) * jnp.tanh(x)
    return x


def bottleneck_probability(params: dict, z: Array, width: Array | float) -> Array:
    """Probability of the bin of the given width around z. z: [..., C], width broadcasts to it."""
    half = jnp.broadcast_to(jnp.asarray(width, z.dtype) / 2, z.shape)
    flat = jnp.moveaxis(z, -1, 0).reshape(z.shape[-1], 1, -1)
    half = jnp.moveaxis(half, -1, 0).reshape(flat.shape)
    lower = bottleneck_logits(params, flat - half)
    upper = bottleneck_logits(params, flat + half)
    # the difference of two sigmoids is taken in the tail where they are small
    sign = jnp.where(lower + upper > 0, -1.0, 1.0)  # never 0, as jnp.sign is at the median
    p = sign * (jax.nn.sigmoid(sign * upper) - jax.nn.sigmoid(sign * lower))
    return jnp.moveaxis(p.reshape(z.shape[-1:] + z.shape[:-1]), 0, -1)


def medians(params: dict) -> Array:
    """m: [C], the learned median of each channel of z."""
    return params["quantiles"][:, 0, 1]


def quantile_loss(params: dict, *, tail_mass: float = 1e-9) -> Array:
    """Auxiliary loss that drives `quantiles` to the tails and the median of the fixed density."""
    fixed = jax.lax.stop_gradient({k: v for k, v in params.items() if k != "quantiles"})
    target = jnp.log(2 / tail_mass - 1)
    logits = bottleneck_logits(fixed, params["quantiles"])
    wanted = jnp.broadcast_to(jnp.array([-target, 0.0, target]), logits.shape)
    return jnp.sum(jnp.abs(logits - wanted))


def normal_cdf(x: Array) -> Array:
    """Standard normal cumulative, accurate in the lower tail."""
    return 0.5 * jax.scipy.special.erfc(-(2**-0.5) * x)


def gaussian_probability(value: Array, scale: Array, width: Array | float = 1.0) -> Array:
    """Probability of the bin around `value` under N(0, max(scale, SCALE_MIN)^2), elementwise.

    Value and scale are in units of the step Delta: (y - mu) / Delta and sigma / Delta.
    """
    scale = layers.lower_bound(scale, SCALE_MIN)
    value = jnp.abs(value)
    half = width / 2
    return normal_cdf((half - value) / scale) - normal_cdf((-half - value) / scale)


def bits(probability: Array) -> Array:
    """-log2 p summed over all axes but the first: [B]."""
    p = layers.lower_bound(probability, _LIKELIHOOD_MIN)
    return -jnp.sum(jnp.log2(p), axis=tuple(range(1, p.ndim)))
