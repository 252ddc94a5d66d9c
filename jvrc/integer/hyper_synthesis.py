"""The hyper synthesis on integers: the same scale indices and means on every machine.

One scale index that differs between encoder and decoder destroys the rest of the picture, and the
last bits of a float network differ between processors, libraries and versions. So what coding uses
is h_s rounded to integers. Its sums are matrix products in float32 whose operands, products and
partial sums are all integers of magnitude at most 2**24, which float32 holds exactly: whatever
the order of summation, the number of threads, fused or not, the result is the same. The first
layer, whose inputs are the largest, has a product for every few channels, so that its weights can
be finer. Between the products everything is int32. Products, not convolutions: libraries may
compute a convolution by way of transforms (Winograd, FFT), whose fractions are not exact.

jvrc/coding/FORMAT.md specifies the network. Real values are integers times a *unit*, a power of
two: 1/16 for z^, 2**exponent for each channel of the activations and of mu. `rounding` makes the
integers from a trained h_s.
"""

from collections.abc import Callable
from functools import cache
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jvrc.model import transforms
from jvrc.model.config import Config

Z_EXPONENT = -4  # of the unit of z^
Z_MAX = 2**11 - 1  # |z^| saturates here
Z_RUN = 8  # channels of z^ to a product; what these give is added in int32
ACTIVATION_MAX = 2**8 - 1  # activations within h_s saturate here
FEATURE_MAX = 2**10 - 1  # psi, and all else behind h_s in models with a context, saturates here
SUM_MAX = 2**24  # float32 holds every integer up to here

SCALES_PER_OCTAVE = 128  # log2 sigma is an integer number of these, as the step code is
SIGMA_EXPONENT = -9  # of the unit of sigma, in models that predict sigma itself
MU_EXPONENT = -6  # of the unit of mu, unless it has to be larger

INDEX_SHIFT = 4  # 16 steps of the grid, an eighth of an octave, to a scale index
INDEX_COUNT = 90
SCALE_CODE_MIN = -408  # log2 0.1098: sigma / Delta of index 0, in steps of the grid

CONTEXT_STEPS = 97  # biases of the context: one for each eight step codes, 1/16 octave

_SLOPE, _SLOPE_SHIFT = 41, 12  # LeakyReLU: 41 / 4096 = 0.01001


class Layer(NamedTuple):
    """out = (sum of kernel * in + bias + 2**(shift - 1)) >> shift."""

    kernel: np.ndarray  # int16 [k,k,I,O], of a transposed convolution where k is 5; [12,M,2M]
    bias: np.ndarray  # int32 [O]; of the context's convolution [steps,2M]
    shift: np.ndarray  # int32 [O]


class Network(NamedTuple):
    """The integers that `synthesise` computes with, and for mbt2018 jvrc.integer.context."""

    layers: tuple[Layer, ...]  # three of h_s; context, and three of entropy_parameters
    mu_exponent: np.ndarray  # int32 [M]; [0] where there is no mu
    latent_shift: np.ndarray  # int32 [M]: what the context sees of y^ (1/64); [0] without context


def scale_table() -> np.ndarray:
    """sigma / Delta of each scale index, float64 [INDEX_COUNT]: 0.11 … 245."""
    codes = SCALE_CODE_MIN + (np.arange(INDEX_COUNT) << INDEX_SHIFT)
    return 2.0 ** (codes / SCALES_PER_OCTAVE)


def scale_index(log_sigma: Array, code: Array | int) -> Array:
    """Scale index uint8 of sigma / Delta, from log2 sigma (int32) and the step code."""
    rounded = log_sigma - code - (SCALE_CODE_MIN - (1 << INDEX_SHIFT >> 1))
    return jnp.clip(rounded >> INDEX_SHIFT, 0, INDEX_COUNT - 1).astype(jnp.uint8)


def synthesise(
    config: Config, network: Network, z_hat: Array, valid: transforms.Valid = None
) -> tuple[Array, Array]:
    """z^ int [B,H/64,W/64,N], |z^| <= Z_MAX -> (log2 sigma, mu), int32 [B,H/16,W/16,M].

    log2 sigma is in steps of 1 / SCALES_PER_OCTAVE; mu, in its channel's unit, is 0 if none.
    """
    return split_parameters(config, hyper_layers(config, network, z_hat, valid))


def hyper_layers(
    config: Config, network: Network, z_hat: Array, valid: transforms.Valid = None
) -> Array:
    """What h_s gives for z^ (see `synthesise`), int32 [B,H/16,W/16,M or 2M]."""
    x = z_hat.astype(jnp.int32)
    for i, multiply in enumerate((_product_in_runs, product)):
        layer = network.layers[i]
        total = _upsample(layer.kernel, x, multiply)
        x = activation(config, shifted(layer, total), ACTIVATION_MAX)
        x = transforms.within(x, valid, 32 >> i)
    return shifted(network.layers[2], _convolve(network.layers[2].kernel, x))


def split_parameters(config: Config, x: Array) -> tuple[Array, Array]:
    """(log2 sigma, mu) from the integers of the last layer."""
    sigma, mu = x[..., : config.M], x[..., config.M :]
    log_sigma = sigma if config.log_scale else _log2(sigma)
    return log_sigma, mu if config.predicts_mean else jnp.zeros_like(log_sigma)


def mu_of(network: Network, mu: Array) -> Array:
    """mu as float32, exactly, from integers in each channel's unit."""
    if not network.mu_exponent.shape[0]:
        return mu.astype(jnp.float32)
    unit = lax.bitcast_convert_type((network.mu_exponent + 127) << 23, jnp.float32)
    return mu.astype(jnp.float32) * unit


def shifted(layer: Layer, total: Array) -> Array:
    """Rounded division of the sums by 2**shift: int32."""
    half = (1 << layer.shift) >> 1
    return (total.astype(jnp.int32) + (layer.bias + half)) >> layer.shift


def activation(config: Config, x: Array, limit: int) -> Array:
    """LeakyReLU or ReLU, saturated to the limit."""
    if config.predicts_mean:
        leaked = jnp.maximum(x, -(2**15)) * _SLOPE + (1 << _SLOPE_SHIFT >> 1)
        x = jnp.where(x < 0, leaked >> _SLOPE_SHIFT, x)
    else:
        x = jnp.maximum(x, 0)
    return jnp.clip(x, -limit, limit)


def product(x: Array, taps: Array) -> Array:
    """float32 [...,O] of x [...,T*I] and taps [...,I,O] of T * I rows in all, all integers."""
    x = x.astype(jnp.float32)
    matrix = jnp.reshape(taps, (-1, taps.shape[-1])).astype(jnp.float32)
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(x, matrix, contract, precision=lax.Precision.HIGHEST)


def _product_in_runs(x: Array, taps: Array) -> Array:
    """`product` as int32: a sum in float32 for each Z_RUN channels of I, which are then added."""
    rest = -taps.shape[-2] % Z_RUN
    x = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, taps.shape[-2])
    x = jnp.pad(x, (*[(0, 0)] * (x.ndim - 1), (0, rest)))
    taps = taps.astype(jnp.float32).reshape(-1, *taps.shape[-2:])
    taps = jnp.pad(taps, ((0, 0), (0, rest), (0, 0)))
    x = x.reshape(*x.shape[:-1], -1, Z_RUN)
    taps = taps.reshape(taps.shape[0], -1, Z_RUN, taps.shape[-1])
    parts = jnp.einsum("...tri,trio->r...o", x, taps, precision=lax.Precision.HIGHEST)
    return jnp.sum(parts.astype(jnp.int32), axis=0, dtype=jnp.int32)


def _windows(x: Array, rows: tuple, cols: tuple) -> Array:
    """float32 [B,h,w,T*I]: x [B,h,w,I] at (+ row, + col), each -1, 0 or 1, zero outside."""
    b, h, w, _ = x.shape
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (1, 1), (1, 1), (0, 0)))
    i = np.arange(1, h + 1)[:, None] + np.array(rows)
    j = np.arange(1, w + 1)[:, None] + np.array(cols)
    # a gather: as a concatenation of slices it takes seconds to compile
    return x[:, i[:, None, :, None], j[None, :, None, :]].reshape(b, h, w, -1)


def _convolve(kernel: Array, x: Array) -> Array:
    """3x3 convolution, zero padding: [B,h,w,I] -> float32 [B,h,w,O]."""
    around = (-1, 0, 1)
    # row by row of the kernel: windows of all nine taps would outgrow the cache
    return sum(product(_windows(x, (r,), around), kernel[r + 1]) for r in around)


# Which inputs reach an even or an odd output pixel of a transposed convolution, through which taps
_PHASES = (((-1, 0, 1), slice(4, None, -2)), ((0, 1), slice(3, None, -2)))


def _upsample(kernel: Array, x: Array, multiply: Callable[[Array, Array], Array]) -> Array:
    """5x5 transposed convolution of stride 2 (see `ops.upsample`): -> [B,2h,2w,O].

    multiply: `product` or `_product_in_runs`.
    """
    b, h, w, _ = x.shape
    out = kernel.shape[3]
    pixels = []
    for rows, row_taps in _PHASES:
        for cols, col_taps in _PHASES:
            pixels.append(multiply(_windows(x, rows, cols), kernel[row_taps, col_taps]))
    y = jnp.stack(pixels).reshape(2, 2, b, h, w, out)
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(b, 2 * h, 2 * w, out)


@cache
def _log_thresholds() -> np.ndarray:
    """int32: entry k - 1 is the least n with SCALES_PER_OCTAVE * log2(n) >= k - 1/2, n <= 2**24."""
    count = SCALES_PER_OCTAVE * 24
    found = []
    for k in range(1, count + 1):
        n = max(1, int(2 ** ((k - 0.5) / SCALES_PER_OCTAVE)) - 1)  # about there, then exactly
        while n ** (2 * SCALES_PER_OCTAVE) < 1 << (2 * k - 1):
            n += 1
        found.append(n)
    return np.array(found, np.int32)


def _log2(sigma: Array) -> Array:
    """int32: log2 of sigma >= 1 (smaller ones count as 1) in steps of the grid, from its unit."""
    steps = jnp.searchsorted(jnp.asarray(_log_thresholds()), sigma, side="right")
    return steps.astype(jnp.int32) + SIGMA_EXPONENT * SCALES_PER_OCTAVE
