"""Entropy models: the factorised prior of z (entropy bottleneck) and the conditional Gaussian of y.

Rates are in bits, summed over all axes but the batch. The probability of a value v under a density
p is the integral of p over the bin [v - width/2, v + width/2].

The bottleneck is that of Ballé et al. 2018, App. 6.1, in CompressAI's parametrisation: for layer i
matrix_i [C,f_{i+1},f_i], bias_i and factor_i [C,f_{i+1},1]; and quantiles [C,1,3].
"""

import jax
import jax.numpy as jnp
from jax import Array

from jvrc.model import layers

SCALE_MIN = 0.11  # of sigma / Delta, as in the literature
_LIKELIHOOD_MIN = 1e-9
FILTERS = (1, 3, 3, 3, 3, 1)  # widths of the bottleneck's networks, one network a channel


def bottleneck_logits(params: dict, x: Array) -> Array:
    """Return the logits of each channel's cumulative distribution at x: [C,1,n] -> [C,1,n].

    The network is monotone in x (Ballé et al. 2018, App. 6.1).
    """
    for i in range(len(FILTERS) - 1):
        matrix = jax.nn.softplus(params[f"matrix{i}"])
        # product and sum: the network is so narrow that a batched dot product is slower
        x = jnp.sum(matrix[:, :, :, None] * x[:, None, :, :], axis=2) + params[f"bias{i}"]
        if i < len(FILTERS) - 2:
            x = x + jnp.tanh(params[f"factor{i}"]) * jnp.tanh(x)
    return x


def bottleneck_probability(params: dict, z: Array, width: Array | float) -> Array:
    """Return the probability of the bin around z [...,C]; width: a number, or of z's rank."""
    half = jnp.broadcast_to(jnp.asarray(width, z.dtype) / 2, z.shape)
    flat = jnp.moveaxis(z, -1, 0).reshape(z.shape[-1], 1, -1)
    half = jnp.moveaxis(half, -1, 0).reshape(flat.shape)
    lower = bottleneck_logits(params, flat - half)
    upper = bottleneck_logits(params, flat + half)
    # the difference of two sigmoids keeps its precision where both are small
    sign = jnp.where(lower + upper > 0, -1.0, 1.0)  # never 0, as jnp.sign is at the median
    p = sign * (jax.nn.sigmoid(sign * upper) - jax.nn.sigmoid(sign * lower))
    return jnp.moveaxis(p.reshape(z.shape[-1:] + z.shape[:-1]), 0, -1)


def medians(params: dict) -> Array:
    """Return the learned median m [C] of each channel of z."""
    return params["quantiles"][:, 0, 1]


def quantile_loss(params: dict, *, tail_mass: float = 1e-9) -> Array:
    """Return the auxiliary loss that moves `quantiles` to the density's tails and median.

    Only the quantiles get a gradient.
    """
    fixed = jax.lax.stop_gradient({k: v for k, v in params.items() if k != "quantiles"})
    target = jnp.log(2 / tail_mass - 1)
    logits = bottleneck_logits(fixed, params["quantiles"])
    wanted = jnp.broadcast_to(jnp.array([-target, 0.0, target]), logits.shape)
    return jnp.sum(jnp.abs(logits - wanted))


def normal_cdf(x: Array) -> Array:
    """Return the standard normal cumulative distribution at x, accurate in the lower tail."""
    return 0.5 * jax.scipy.special.erfc(-(2**-0.5) * x)


def gaussian_probability(value: Array, scale: Array, width: Array | float = 1.0) -> Array:
    """Return the probability of the bin around each value under N(0, max(scale, SCALE_MIN)^2).

    Value and scale are in units of Delta: (y - mu) / Delta and sigma / Delta.
    """
    scale = layers.lower_bound(scale, SCALE_MIN)
    value = jnp.abs(value)
    half = width / 2
    return normal_cdf((half - value) / scale) - normal_cdf((-half - value) / scale)


def bits(probability: Array) -> Array:
    """Return -log2 p summed over all axes but the first: [B,...] -> [B]."""
    p = layers.lower_bound(probability, _LIKELIHOOD_MIN)
    return -jnp.sum(jnp.log2(p), axis=tuple(range(1, p.ndim)))
