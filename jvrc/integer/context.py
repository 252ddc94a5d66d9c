"""The integer context model of mbt2018: sigma, mu and y^ that are equal on every machine.

All that a latent's scale index depends on is evaluated in integers (jvrc.integer.network): the
context's convolution, the entropy parameters network and the reconstruction y^, which later latents
see. jvrc/coding/FORMAT.md, section 6.1, specifies it.

y^ is in units of 2**MU_EXPONENT = 1/64; the context sees it divided by a power of two for each
channel and saturated to FEATURE_MAX.
"""

from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
from jax import Array

from jvrc.integer import hyper_synthesis
from jvrc.integer.hyper_synthesis import MU_EXPONENT
from jvrc.integer.network import Network, leaky_relu, per_channel, product, rescale, saturate
from jvrc.model import context
from jvrc.model.config import Config
from jvrc.qstep import CODES_PER_OCTAVE, QSTEP_CODE_MIN

FEATURE_MAX = 2**10 - 1  # psi, the context's input and all activations behind it saturate here
BIAS_COUNT = 97  # biases of the context: one for each eight qstep codes, 1/16 octave
OFFSET_EXPONENT = -9  # delta is an integer number of 2**-9

_QSTEP_EXPONENT = -10  # Delta is an integer number of 2**-10
_Y_MAX = 2**20  # |mu| saturates here, in units of 1/64
_PRODUCT_MAX = 2**30  # of (|q| - delta) * Delta: |y^ - mu| saturates at 2048


class Matrices(NamedTuple):
    """The kernels as float32 matrices [I,O], made once before the loop over positions."""

    rows: tuple[Array, Array, Array]  # of the context: [5M,2M], [5M,2M], [2M,2M]
    conv0: Array  # [2M,.]: its rows for the context's features; `psi_part` has those for psi
    conv1: Array
    conv2: Array


def matrices(network: Network) -> Matrices:
    """Return the kernels of the context's convolution and of the entropy parameters network."""
    conv = jnp.asarray(network.context.conv.kernel, jnp.float32)
    conv0, conv1, conv2 = (
        jnp.asarray(layer.kernel[0, 0], jnp.float32) for layer in network.context.entropy_parameters
    )
    width = conv.shape[-1]
    rows = tuple(conv[r].reshape(-1, width) for r in context.ROWS)
    return Matrices(rows, conv0[width:], conv1, conv2)


def psi_part(config: Config, network: Network, z_hat: Array, valid: tuple) -> Array:
    """Return what psi = h_s(z^) adds to the sums of `conv0`: int32 [B,h,w,10M/3].

    z_hat, valid: as `hyper_synthesis.synthesise` takes them.
    """
    psi = hyper_synthesis.hyper_layers(config, network, z_hat, valid)
    kernel = network.context.entropy_parameters.conv0.kernel[0, 0, : 2 * config.M]
    return product(saturate(psi, FEATURE_MAX), kernel).astype(jnp.int32)


def bias_row(qstep_code: Array | int) -> Array | int:
    """Return the row of the context's bias [BIAS_COUNT,2M] for a qstep code."""
    return (qstep_code - QSTEP_CODE_MIN + 4) >> 3


def parameters(
    config: Config, network: Network, weights: Matrices, seen: tuple, psi: Array, bias: Array
) -> tuple[Array, Array]:
    """Return (log2 sigma, mu), int32 [...,M], as `hyper_synthesis.synthesise` gives them.

    seen: the context's input at each position, see `seen_latents`: [...,5M] and [...,5M] of the
      two rows above, [...,2M] to the left.
    psi: [...,10M/3], see `psi_part`. bias: int32 [...,2M], that of the context at the qstep.
    """
    layers = network.context.entropy_parameters
    features = saturate(_features(network, weights, seen, bias), FEATURE_MAX)
    x = rescale(layers.conv0, product(features, weights.conv0).astype(jnp.int32) + psi)
    x = saturate(leaky_relu(x), FEATURE_MAX)
    x = saturate(leaky_relu(rescale(layers.conv1, product(x, weights.conv1))), FEATURE_MAX)
    x = rescale(layers.conv2, product(x, weights.conv2))
    return hyper_synthesis.split_parameters(config, x)


def _features(network: Network, weights: Matrices, seen: tuple, bias: Array) -> Array:
    """Return the context's convolution: int32 [...,2M]. Arguments as in `parameters`."""
    parts = [product(x, w).astype(jnp.int32) for x, w in zip(seen, weights.rows, strict=True)]
    return rescale(network.context.conv._replace(bias=bias), sum(parts))


def seen_latents(network: Network, q: Array, mu: Array, delta: Array, qstep: Array) -> Array:
    """Return y^ = mu + Delta * sign(q) * (|q| - delta) as the context sees it.

    The result is float32 with integer values, [...,M]. q: symbols, int32. mu: int32 in each
    channel's unit. delta: int32 in units of 2**OFFSET_EXPONENT. qstep: see `qstep_integer`.
    """
    latent_shift = per_channel(network.context.latent_shift, q)
    up = per_channel(network.mu_exponent - MU_EXPONENT, q)
    limit = _Y_MAX >> up
    y_hat = (jnp.clip(mu, -limit, limit) << up) + _dequantised(q, delta, qstep)
    coarse = (y_hat + ((1 << latent_shift) >> 1)) >> latent_shift
    return saturate(coarse, FEATURE_MAX).astype(jnp.float32)


def _dequantised(q: Array, delta: Array, qstep: Array) -> Array:
    """Return Delta * sign(q) * (|q| - delta) in units of 1/64: int32."""
    size = jnp.where(q == 0, 0, (jnp.abs(q) << -OFFSET_EXPONENT) - delta)
    size = jnp.minimum(size, _PRODUCT_MAX // qstep) * qstep
    down = MU_EXPONENT - _QSTEP_EXPONENT - OFFSET_EXPONENT  # 13
    return jnp.sign(q) * ((size + (1 << down - 1)) >> down)


@cache
def qstep_integer(qstep_code: int) -> int:
    """Return Delta = 2**(qstep_code / 128) in units of 2**-10, rounded, in integer arithmetic."""
    n = round(2 ** (qstep_code / CODES_PER_OCTAVE - _QSTEP_EXPONENT))  # within one of the result
    power = CODES_PER_OCTAVE * (1 - _QSTEP_EXPONENT) + qstep_code
    while (2 * n + 1) ** CODES_PER_OCTAVE <= 1 << power:
        n += 1
    while (2 * n - 1) ** CODES_PER_OCTAVE > 1 << power:
        n -= 1
    return n
