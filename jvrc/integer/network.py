"""Integer networks: their types, and layer arithmetic that is exact on every machine.

A layer computes (sum of kernel * input + bias) / 2**shift, rounded, on integers. The sums are
matrix products in float32 whose operands, products and partial sums are integers of magnitude at
most 2**24. float32 holds all of these exactly, so neither the order of summation, nor the number
of threads, nor fused operations can change a result. Matrix products, not convolutions: libraries
may compute a convolution through transforms (Winograd, FFT) with fractions that are not exact.
Between the products all values are int32.

jvrc/coding/FORMAT.md specifies the networks; jvrc.integer.fixed_point derives them from a trained
model.
"""

from collections.abc import Callable
from typing import NamedTuple

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

SUM_MAX = 2**24  # float32 holds every integer up to this magnitude
RUN_CHANNELS = 8  # input channels of one product in `product_in_runs`

_SLOPE, _SLOPE_BITS = 41, 12  # of LeakyReLU: 41 / 4096 = 0.01001


class Layer(NamedTuple):
    """A layer's integers: out = (sum of kernel * in + bias + 2**(shift - 1)) >> shift."""

    kernel: np.ndarray  # int16 [k,k,I,O], k odd; of the context [12,M,2M]
    bias: np.ndarray  # int32 [O]; of the context [BIAS_COUNT,2M]
    shift: np.ndarray  # int32 [O], not negative
    low: np.ndarray | None = None  # int32 [O]: a hidden layer of h_s may saturate at these
    high: np.ndarray | None = None


class HyperSynthesis(NamedTuple):
    """The layers of h_s: two transposed convolutions of stride 2 and a convolution."""

    deconv0: Layer
    deconv1: Layer
    conv2: Layer


class EntropyParameters(NamedTuple):
    """The 1x1 layers that give (sigma, mu) from psi and the context's features (mbt2018)."""

    conv0: Layer
    conv1: Layer
    conv2: Layer


class ContextNetwork(NamedTuple):
    """The layers behind h_s in mbt2018."""

    conv: Layer  # the masked convolution of y^
    entropy_parameters: EntropyParameters
    latent_shift: np.ndarray  # int32 [M]: y^ (in 1/64) is divided by 2**latent_shift for `conv`


class Network(NamedTuple):
    """All integer networks of a model."""

    h_s: HyperSynthesis
    context: ContextNetwork | None
    mu_exponent: np.ndarray  # int32 [M], mu is in units of 2**mu_exponent; [0] in models without mu


def per_channel(values: Array, x: Array) -> Array:
    """Return values [C] with leading axes of length one, to broadcast against x [...,C]."""
    return values.reshape((1,) * (x.ndim - values.ndim) + values.shape)


def rescale(layer: Layer, total: Array) -> Array:
    """Return (total + bias) / 2**shift, rounded half up: int32. total: the sums [...,O]."""
    return rounded_shift(total, layer.bias, layer.shift)


def rounded_shift(total: Array, bias: Array, shift: Array) -> Array:
    """Return (total + bias) / 2**shift, rounded half up: int32 [...,O]; bias and shift: [O]."""
    bias, shift = (per_channel(a.astype(jnp.int32), total) for a in (bias, shift))
    return (total.astype(jnp.int32) + (bias + ((1 << shift) >> 1))) >> shift


def saturate(x: Array, limit: int) -> Array:
    """Return x clipped to -limit ... limit."""
    return jnp.clip(x, -limit, limit)


def leaky_relu(x: Array) -> Array:
    """Return LeakyReLU of slope 0.01 on int32; x below -2**15 counts as -2**15."""
    negative = jnp.maximum(x, -(2**15)) * _SLOPE + (1 << _SLOPE_BITS >> 1)
    return jnp.where(x < 0, negative >> _SLOPE_BITS, x)


def product(x: Array, taps: Array) -> Array:
    """Return the matrix product in float32: [...,O] of x [...,T*I] and taps [...,I,O].

    The leading axes of taps hold T taps in all. Exact if the products' magnitudes sum to at most
    SUM_MAX.
    """
    x = x.astype(jnp.float32)
    matrix = jnp.reshape(taps, (-1, taps.shape[-1])).astype(jnp.float32)
    contract = (((x.ndim - 1,), (0,)), ((), ()))
    return lax.dot_general(x, matrix, contract, precision=lax.Precision.HIGHEST)


def product_in_runs(x: Array, taps: Array) -> Array:
    """Return `product` as int32, added from one float32 product for each run of input channels.

    Only the sum over each run of RUN_CHANNELS channels must stay within SUM_MAX, so weights may be
    larger.
    """
    rest = -taps.shape[-2] % RUN_CHANNELS
    x = x.astype(jnp.float32).reshape(*x.shape[:-1], -1, taps.shape[-2])
    x = jnp.pad(x, (*[(0, 0)] * (x.ndim - 1), (0, rest)))
    taps = taps.astype(jnp.float32).reshape(-1, *taps.shape[-2:])
    taps = jnp.pad(taps, ((0, 0), (0, rest), (0, 0)))
    x = x.reshape(*x.shape[:-1], -1, RUN_CHANNELS)
    taps = taps.reshape(taps.shape[0], -1, RUN_CHANNELS, taps.shape[-1])
    parts = jnp.einsum("...tri,trio->r...o", x, taps, precision=lax.Precision.HIGHEST)
    return jnp.sum(parts.astype(jnp.int32), axis=0, dtype=jnp.int32)


def convolve(kernel: Array, x: Array) -> Array:
    """Return the sums of a convolution with zero padding: [B,h,w,I] -> float32 [B,h,w,O].

    kernel: [k,k,I,O] of any odd size k.
    """
    size = kernel.shape[0]
    if size == 1:
        return product(x, kernel)
    around = tuple(range(-(size // 2), size // 2 + 1))
    # one product a row of the kernel: the windows of all taps at once would outgrow the cache
    return sum(product(_windows(x, (r,), around), kernel[r - around[0]]) for r in around)


# Of even and of odd output rows (or columns) of a 5x5 transposed convolution: the offsets of the
# inputs that reach them, and the kernel's taps in the same order.
_PHASES = (((-1, 0, 1), slice(4, None, -2)), ((0, 1), slice(3, None, -2)))


def upsample(kernel: Array, x: Array, multiply: Callable[[Array, Array], Array] = product) -> Array:
    """Return the sums of a 5x5 transposed convolution of stride 2: [B,h,w,I] -> [B,2h,2w,O].

    Pixel (p, q) of the output sums over the inputs (u, v) and taps (a, b) with p = 2 u + a - 2 and
    q = 2 v + b - 2. multiply: `product` or `product_in_runs`.
    """
    b, h, w, _ = x.shape
    pixels = [
        multiply(_windows(x, rows, cols), kernel[row_taps, col_taps])
        for rows, row_taps in _PHASES
        for cols, col_taps in _PHASES
    ]
    y = jnp.stack(pixels).reshape(2, 2, b, h, w, kernel.shape[3])
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(b, 2 * h, 2 * w, kernel.shape[3])


def _windows(x: Array, rows: tuple[int, ...], cols: tuple[int, ...]) -> Array:
    """Return float32 [B,h,w,T*I]: x [B,h,w,I] at all T offsets (row, column), zero outside."""
    b, h, w, _ = x.shape
    reach = max(map(abs, (*rows, *cols)))
    x = jnp.pad(x.astype(jnp.float32), ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    i = np.arange(reach, h + reach)[:, None] + np.array(rows)[None]
    j = np.arange(reach, w + reach)[:, None] + np.array(cols)[None]
    # a gather: as a concatenation of slices it takes seconds to compile
    return x[:, i[:, None, :, None], j[None, :, None, :]].reshape(b, h, w, -1)
