"""Layers of the networks: convolutions with bias, GDN, LeakyReLU, rounding and bounds.

Features are NHWC float32; a layer's parameters are a dict, {"kernel", "bias"} or {"beta", "gamma"}.
"""

from functools import partial

import jax
import jax.numpy as jnp
from jax import Array, lax

from jvrc.model import convolution

# GDN stores sqrt(value + PEDESTAL), so that gradients do not vanish at zero
# (Ballé 2018, "Efficient Nonlinear Transforms", Sec. 3; CompressAI's NonNegativeParametrizer).
PEDESTAL = 2.0**-36
BETA_MIN = 1e-6


def add_bias(x: Array, bias: Array) -> Array:
    """Return x [...,C] plus a bias [C]."""
    return x + jnp.broadcast_to(bias, x.shape)


def conv(params: dict, x: Array) -> Array:
    """Return the convolution of stride 1 plus bias: [B,H,W,I] -> [B,H,W,O]."""
    return add_bias(convolution.convolve(x, params["kernel"]), params["bias"])


def down(params: dict, x: Array) -> Array:
    """Return the convolution of stride 2 plus bias: [B,H,W,I] -> [B,H/2,W/2,O]."""
    return add_bias(convolution.downsample(x, params["kernel"]), params["bias"])


def up(params: dict, x: Array) -> Array:
    """Return the transposed convolution of stride 2 plus bias: [B,H,W,I] -> [B,2H,2W,O]."""
    return add_bias(convolution.upsample(x, params["kernel"]), params["bias"])


@jax.custom_vjp
def lower_bound(x: Array, bound: float) -> Array:
    """Return max(x, bound), with a gradient that also passes where it raises x towards the bound.

    As CompressAI's LowerBound: below the bound, gradient descent can raise x but not lower it.
    """
    return jnp.maximum(x, bound)


def _lower_bound_fwd(x: Array, bound: float) -> tuple[Array, tuple[Array, Array]]:
    return jnp.maximum(x, bound), (x, bound)


def _lower_bound_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, None]:
    x, bound = res
    return jnp.where((x >= bound) | (g < 0), g, 0), None


lower_bound.defvjp(_lower_bound_fwd, _lower_bound_bwd)


def non_negative(stored: Array, *, minimum: float = 0.0) -> Array:
    """Return the value (at least `minimum`) of a GDN parameter that is stored as a square root."""
    bound = (minimum + PEDESTAL) ** 0.5
    return jnp.square(lower_bound(stored, bound)) - PEDESTAL


def gdn(params: dict, x: Array, *, inverse: bool = False) -> Array:
    """Return the (inverse) generalised divisive normalisation of x [B,H,W,C].

    x_i / sqrt(beta_i + sum_j gamma_ji x_j^2), or times the root for the inverse (Ballé et al. 2016,
    Eq. 2). params: beta [C] and gamma [C,C] (rows: j), stored as square roots.
    """
    beta = non_negative(params["beta"], minimum=BETA_MIN)
    gamma = non_negative(params["gamma"])
    return _normalised(inverse, x, gamma, beta)


@partial(jax.custom_vjp, nondiff_argnums=(0,))
def _normalised(inverse: bool, x: Array, gamma: Array, beta: Array) -> Array:
    return x * _factor(inverse, x, gamma, beta)


def _factor(inverse: bool, x: Array, gamma: Array, beta: Array) -> Array:
    norm = add_bias(jnp.square(x) @ gamma, beta)
    return jnp.sqrt(norm) if inverse else lax.rsqrt(norm)


def _normalised_fwd(inverse: bool, x: Array, gamma: Array, beta: Array) -> tuple[Array, tuple]:
    factor = _factor(inverse, x, gamma, beta)
    return x * factor, (x, gamma, factor)


def _normalised_bwd(inverse: bool, res: tuple, g: Array) -> tuple[Array, Array, Array]:
    x, gamma, factor = res
    slope = 0.5 / factor if inverse else -0.5 * factor**3  # d factor / d norm
    # the barrier: without it XLA computes this product three times, once for each use
    norm_gradient = lax.optimization_barrier(g * x * slope)
    x_gradient = g * factor + 2 * x * (norm_gradient @ gamma.T)
    flat = norm_gradient.reshape(-1, x.shape[-1])
    return x_gradient, jnp.square(x).reshape(flat.shape).T @ flat, flat.sum(0)


_normalised.defvjp(_normalised_fwd, _normalised_bwd)


def leaky_relu(x: Array) -> Array:
    """Return x, or x / 100 where x is negative."""
    return jnp.where(x >= 0, x, x * 0.01)


def ste_round(x: Array) -> Array:
    """Return round(x) with the gradient of x (straight-through estimator)."""
    return x + lax.stop_gradient(jnp.round(x) - x)
