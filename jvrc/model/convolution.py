"""Convolutions without bias, and the forms of them that are fast on a CPU.

Images and features are NHWC. Kernels are stored [height, width, in, out], those of transposed
convolutions too, so that a PyTorch kernel maps onto ours by one transposition:
`conv.weight.transpose(2, 3, 1, 0)` and `deconv.weight.transpose(2, 3, 0, 1)`.

    convolve      stride 1                     3x3: by Winograd's algorithm where that is faster
    downsample    5x5, stride 2                likewise
    upsample      5x5, stride 2, transposed    as a 3x3 sub-pixel convolution

On accelerators, and in other precisions than float32, all are XLA's convolution (`direct`).
"""

from collections.abc import Callable
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

from jvrc.model import winograd

_LAYOUT = ("NHWC", "HWIO", "NHWC")


def direct(x: Array, kernel: Array, stride: int) -> Array:
    """Return XLA's convolution with zero padding of k // 2: [B,H,W,I] -> [B,H/stride,W/stride,O].

    Everything below that is not a form of its own for the CPU comes down to this function.
    """
    pad = [(k // 2, k // 2) for k in kernel.shape[:2]]
    return lax.conv_general_dilated(x, kernel, (stride, stride), pad, dimension_numbers=_LAYOUT)


def subpixel_kernel(kernel: Array) -> Array:
    """Return the sub-pixel form [3,3,I,4*O] of the kernel [5,5,I,O] of a transposed convolution.

    Output pixel 2p+r receives input pixel p+t-1 through the tap 4-2t+r (the sixth tap is zero).
    """
    in_, out = kernel.shape[2:]
    k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    k = k.reshape(3, 2, 3, 2, in_, out)[::-1, :, ::-1]
    return k.transpose(0, 2, 4, 1, 3, 5).reshape(3, 3, in_, 4 * out)


def block_kernel(kernel: Array) -> Array:
    """Return the kernel [3,3,4*I,O] on blocks of 2x2 pixels of a stride-2 convolution [5,5,I,O].

    Output pixel p sees row r of block p+a-1 through the tap 2a+r (the sixth tap is zero).
    """
    in_, out = kernel.shape[2:]
    k = jnp.pad(kernel, ((0, 1), (0, 1), (0, 0), (0, 0)))
    return k.reshape(3, 2, 3, 2, in_, out).transpose(0, 2, 1, 3, 4, 5).reshape(3, 3, 4 * in_, out)


# For some shapes there are faster ways than XLA's convolution on a CPU. The limits below were
# measured with XLA of jaxlib 0.10, I and O = 64 … 480, 32 … 98,304 positions, by CPU time.


def _by_platform(on_cpu: Callable, default: Callable, x: Array, *others: Array) -> Array:
    """Call `on_cpu` when lowered for a CPU and x is float32, `default` otherwise."""
    if x.dtype != jnp.float32:
        return default(x, *others)
    return lax.platform_dependent(x, *others, cpu=on_cpu, default=default)


def _use_winograd(shape: tuple[int, ...], kernel: Array, channels: int, positions: int) -> bool:
    """Return True if features [B,H,W,...] have at least so many channels and positions (B*H*W)."""
    b, h, w = shape[:3]
    whole = h % winograd.BLOCK == 0 == w % winograd.BLOCK
    return whole and min(kernel.shape[2:]) >= channels and b * h * w >= positions


def _halved(x: Array) -> tuple[int, int, int]:
    return x.shape[0], x.shape[1] // 2, x.shape[2] // 2


def _strided(x: Array, kernel: Array) -> Array:
    return _by_platform(_strided_on_cpu, partial(direct, stride=2), x, kernel)


def _strided_on_cpu(x: Array, kernel: Array) -> Array:
    if _use_winograd(_halved(x), kernel, 128, 1024):
        return winograd.strided(x, block_kernel(kernel))
    return _windowed(x, kernel, 2)


def _subpixel(x: Array, kernel: Array) -> Array:
    default = partial(_subpixel_by, partial(direct, stride=1))
    return _by_platform(_subpixel_on_cpu, default, x, kernel)


def _subpixel_on_cpu(x: Array, kernel: Array) -> Array:
    if kernel.shape[3] <= 4:
        return _planes(x, kernel)
    wide = _use_winograd(x.shape, kernel, 64, 384)
    return _subpixel_by(winograd.convolve if wide else partial(_windowed, stride=1), x, kernel)


def _subpixel_by(convolution: Callable, x: Array, kernel: Array) -> Array:
    """Return the transposed convolution by a 3x3 convolution (x, kernel) of stride 1."""
    y = convolution(x, subpixel_kernel(kernel)).reshape(*x.shape[:3], 2, 2, -1)
    return _interleaved(y.transpose(0, 1, 3, 2, 4, 5))


def _interleaved(y: Array) -> Array:
    """Reshape [B,H,2,W,2,O] to [B,2H,2W,O]."""
    b, h, _, w, _, out = y.shape
    return y.reshape(b, 2 * h, 2 * w, out)


def _windowed(x: Array, kernel: Array, stride: int) -> Array:
    """Return `direct` of the same; for few positions as one product of matrices (im2col).

    XLA's convolution is slow there.
    """
    b, h, w, _ = x.shape
    if b * h * w > 64 * stride**2:
        return direct(x, kernel, stride)
    size = len(kernel)
    rows, cols = (np.arange(0, n, stride)[:, None] + np.arange(size) for n in (h, w))
    x = jnp.pad(x, ((0, 0), (size // 2,) * 2, (size // 2,) * 2, (0, 0)))
    windows = x[:, rows[:, None, :, None], cols[None, :, None, :]]  # [B,h,w,size,size,I]
    return windows.reshape(*windows.shape[:3], -1) @ kernel.reshape(-1, kernel.shape[3])


# (offset of the input pixel + 1, tap) of the inputs that an even and an odd output pixel sums
_INPUTS_OF_OUTPUT = (((0, 4), (1, 2), (2, 0)), ((1, 3), (2, 1)))


def _planes(x: Array, kernel: Array) -> Array:
    """Return the transposed convolution to few channels (the last layer of g_s, to RGB).

    One product of matrices gives 25 planes, one a tap; each output pixel sums 4, 6 or 9 of them.
    """
    b, h, w, in_ = x.shape
    taps = kernel.transpose(0, 1, 3, 2).reshape(-1, in_)
    planes = lax.dot_general(taps, x.reshape(-1, in_), (((1,), (1,)), ((), ())))
    planes = jnp.pad(planes.reshape(5, 5, -1, b, h, w), ((0, 0),) * 4 + ((1, 1), (1, 1)))
    y = [
        sum(planes[u, v, :, :, i : i + h, j : j + w] for i, u in rows for j, v in cols)
        for rows in _INPUTS_OF_OUTPUT
        for cols in _INPUTS_OF_OUTPUT
    ]
    return _interleaved(jnp.stack(y).reshape(2, 2, -1, b, h, w).transpose(3, 4, 0, 5, 1, 2))


# The two stride-2 operators below are each other's adjoint. Gradients written so need no dilated
# convolutions, which are slow on a CPU: a training step takes two thirds of the time.


@jax.custom_vjp
def downsample(x: Array, kernel: Array) -> Array:
    """Return the 5x5 convolution of stride 2 with zero padding of 2.

    x: [B,H,W,I] with even H and W, kernel: [5,5,I,O] -> [B,H/2,W/2,O].
    """
    return _strided(x, kernel)


@jax.custom_vjp
def upsample(x: Array, kernel: Array) -> Array:
    """Return the 5x5 transposed convolution of stride 2, computed as a sub-pixel convolution.

    Equal to PyTorch's ConvTranspose2d(kernel 5, stride 2, padding 2, output padding 1).
    x: [B,H,W,I], kernel: [5,5,I,O] -> [B,2H,2W,O].
    """
    return _subpixel(x, kernel)


def _kernel_gradient(large: Array, small: Array, kernel: Array) -> Array:
    """Return the gradient of sum(small * downsample(large, kernel)) in the kernel [5,5,I,O]."""

    def default(large: Array, small: Array) -> Array:
        return jax.linear_transpose(lambda k: direct(large, k, 2), kernel)(small)[0]

    def on_cpu(large: Array, small: Array) -> Array:
        gradient = winograd.strided_kernel_gradient(large, small)
        return jax.linear_transpose(block_kernel, kernel)(gradient)[0]

    wide = _use_winograd(small.shape, kernel, 128, 1024)
    return _by_platform(on_cpu if wide else default, default, large, small)


def _downsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    return _subpixel(g, jnp.swapaxes(kernel, 2, 3)), _kernel_gradient(x, g, kernel)


def _upsample_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    swapped = jnp.swapaxes(kernel, 2, 3)
    return _strided(g, swapped), jnp.swapaxes(_kernel_gradient(g, x, swapped), 2, 3)


downsample.defvjp(lambda x, k: (downsample(x, k), (x, k)), _downsample_bwd)
upsample.defvjp(lambda x, k: (upsample(x, k), (x, k)), _upsample_bwd)


@jax.custom_vjp
def convolve(x: Array, kernel: Array) -> Array:
    """Return the convolution of stride 1 with zero padding that keeps the size.

    x: [B,H,W,I], kernel: [k,k,I,O] with odd k -> [B,H,W,O].
    """
    default = partial(direct, stride=1)
    wide = len(kernel) == 3 and _use_winograd(x.shape, kernel, 128, 1024)
    return _by_platform(winograd.convolve if wide else default, default, x, kernel)


def _convolve_bwd(res: tuple[Array, Array], g: Array) -> tuple[Array, Array]:
    x, kernel = res
    x_gradient = convolve(g, jnp.swapaxes(kernel[::-1, ::-1], 2, 3))
    return x_gradient, jax.linear_transpose(lambda k: direct(x, k, 1), kernel)(g)[0]


convolve.defvjp(lambda x, k: (convolve(x, k), (x, k)), _convolve_bwd)
