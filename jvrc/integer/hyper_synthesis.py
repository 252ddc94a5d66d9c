"""The integer hyper synthesis h_s: scale indices and means that are equal on every machine.

The scale index of a latent selects its CDF table. One index that differs between encoder and
decoder ruins the rest of the image, and the last bits of a float network differ between processors,
libraries and versions. So h_s is evaluated in integers (jvrc.integer.network) on both sides.

Real values are integers times a *unit*, a power of two: 2**Z_EXPONENT for z^ unless
the fixed-point format says otherwise, 2**exponent for each channel of the activations and of mu.
jvrc/coding/FORMAT.md, section 5, specifies this network.
"""

from functools import cache
from typing import TypeVar

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jvrc.integer.network import (
    Layer,
    Network,
    convolve,
    leaky_relu,
    per_channel,
    product_in_runs,
    rescale,
    saturate,
    upsample,
)
from jvrc.model import transforms
from jvrc.model.config import Config
from jvrc.qstep import CODES_PER_OCTAVE

Z_EXPONENT = -4  # of the unit of z^, unless it has to be larger
Z_MAX = 2**11 - 1  # |z^| saturates here, in its unit
ACTIVATION_MAX = 2**8 - 1  # activations within h_s saturate here, or channel by channel at less

SCALES_PER_OCTAVE = CODES_PER_OCTAVE  # log2 sigma is an integer number of these, as qstep codes are
SIGMA_EXPONENT = -9  # of the unit of sigma, in models that predict sigma and not its logarithm
MU_EXPONENT = -6  # of the unit of mu, unless it has to be larger

INDEX_COUNT = 90  # scale indices, one for each CDF table of y
INDEX_SHIFT = 4  # 2**4 steps of 1 / SCALES_PER_OCTAVE, an eighth of an octave, to a scale index
SCALE_CODE_MIN = -408  # log2 (sigma / Delta) of index 0, in steps of 1 / SCALES_PER_OCTAVE
LOG_SIGMA_MAX = 2**13  # 64 octaves: beyond the first and the last scale index at every Delta

T = TypeVar("T", np.ndarray, Array)


def scale_table() -> np.ndarray:
    """Return the scale sigma / Delta of each scale index: float64 [INDEX_COUNT], 0.11 ... 245."""
    codes = SCALE_CODE_MIN + (np.arange(INDEX_COUNT) << INDEX_SHIFT)
    return 2.0 ** (codes / SCALES_PER_OCTAVE)


def scale_index(log_sigma: T, qstep_code: Array | int) -> T:
    """Return the index of the scale next to sigma / Delta: uint8, of log_sigma's shape.

    log_sigma: log2 sigma, int32, in steps of 1 / SCALES_PER_OCTAVE. An array of NumPy or JAX.
    """
    rounded = log_sigma - qstep_code - (SCALE_CODE_MIN - (1 << INDEX_SHIFT >> 1))
    return (rounded >> INDEX_SHIFT).clip(0, INDEX_COUNT - 1).astype(np.uint8)


def packed_log_sigma(log_sigma: Array) -> Array:
    """Return log_sigma as int16, clipped to what has the same scale index at every Delta."""
    return log_sigma.clip(-LOG_SIGMA_MAX, LOG_SIGMA_MAX).astype(jnp.int16)


def synthesise(
    config: Config, network: Network, z_hat: Array, valid: transforms.Valid = None
) -> tuple[Array, Array]:
    """Return (log2 sigma, mu), int32 [B,H/16,W/16,M], of z^ int [B,H/64,W/64,N], |z^| <= Z_MAX.

    log2 sigma is in steps of 1 / SCALES_PER_OCTAVE; mu is in its channel's unit, and 0 in models
    that do not predict it. valid: the part of a tile inside the image (jvrc.model.transforms).
    """
    return split_parameters(config, hyper_layers(config, network, z_hat, valid))


def hyper_layers(
    config: Config, network: Network, z_hat: Array, valid: transforms.Valid = None
) -> Array:
    """Return the output of h_s for z^ (see `synthesise`): int32 [B,H/16,W/16,M or 2M]."""
    h_s = network.h_s
    x = _activate(config, h_s.deconv0, upsample(h_s.deconv0.kernel, z_hat, product_in_runs))
    x = transforms.within(x, valid, 32)
    x = _activate(config, h_s.deconv1, upsample(h_s.deconv1.kernel, x))
    x = transforms.within(x, valid, 16)
    return rescale(h_s.conv2, convolve(h_s.conv2.kernel, x))


def _activate(config: Config, layer: Layer, total: Array) -> Array:
    x = rescale(layer, total)
    x = leaky_relu(x) if config.predicts_mean else jnp.maximum(x, 0)
    if layer.low is None:
        return saturate(x, ACTIVATION_MAX)
    return jnp.clip(x, per_channel(layer.low, x), per_channel(layer.high, x))


def split_parameters(config: Config, x: Array) -> tuple[Array, Array]:
    """Return (log2 sigma, mu), see `synthesise`, from the last layer's output [...,M or 2M]."""
    sigma, mu = x[..., : config.M], x[..., config.M :]
    log_sigma = sigma if config.log_scale else _log2(sigma)
    return log_sigma, mu if config.predicts_mean else jnp.zeros_like(log_sigma)


def mu_of(network: Network, mu: Array) -> Array:
    """Return mu as float32, exactly, from integers [...,M] in each channel's unit."""
    if not network.mu_exponent.shape[0]:
        return mu.astype(jnp.float32)
    unit = lax.bitcast_convert_type((network.mu_exponent + 127) << 23, jnp.float32)
    return mu.astype(jnp.float32) * per_channel(unit, mu)


@cache
def _log_thresholds() -> np.ndarray:
    """Return int32 [k]: the least n of each k >= 1 with SCALES_PER_OCTAVE * log2(n) >= k - 1/2.

    For n up to 2**24, in integer arithmetic.
    """
    found = []
    for k in range(1, SCALES_PER_OCTAVE * 24 + 1):
        n = max(1, int(2 ** ((k - 0.5) / SCALES_PER_OCTAVE)) - 1)  # a lower bound
        while n ** (2 * SCALES_PER_OCTAVE) < 1 << (2 * k - 1):
            n += 1
        found.append(n)
    return np.array(found, np.int32)


def _log2(sigma: Array) -> Array:
    """Return log2 of sigma in steps of 1 / SCALES_PER_OCTAVE, rounded: int32.

    sigma: int32 in units of 2**SIGMA_EXPONENT; values below one unit count as one.
    """
    steps = jnp.searchsorted(jnp.asarray(_log_thresholds()), sigma, side="right")
    return steps.astype(jnp.int32) + SIGMA_EXPONENT * SCALES_PER_OCTAVE
