"""Winograd's algorithm for 3x3 convolutions on CPUs: fewer multiplications.

Minimal filtering F(4x4, 3x3) (Lavin & Gray 2015, arXiv 1509.09308): a block of 4x4 outputs takes 36
products of matrices [blocks,I] x [I,O] in place of 144. The transforms before and after them are
additions and products with small constants. In float32 results differ from a direct sum by about
1e-5 of their size: good enough for g_a and g_s, not for the integer networks.

A convolution of stride 2 is one of stride 1 over cells of 2x2 pixels, [B,H,2,W,2,I]: `strided`. A
5x5 kernel fills only 5 of the 6 taps that three cells have along an axis. The products that would
see the sixth taps alone are left out: 121 remain of 144.
"""

from collections.abc import Iterator

import jax
import jax.numpy as jnp
import numpy as np
from jax import Array, lax

BLOCK = 4  # outputs along an axis
_SIDE = 6  # inputs that they need: the points of the products
_INPUT = (
    (4, 0, -5, 0, 1, 0),
    (0, -4, -4, 1, 1, 0),
    (0, 4, -4, -1, 1, 0),
    (0, -2, -1, 2, 1, 0),
    (0, 2, -1, -2, 1, 0),
    (0, 4, 0, -5, 0, 1),
)
_KERNEL = (
    (1 / 4, 0, 0),
    (-1 / 6, -1 / 6, -1 / 6),
    (-1 / 6, 1 / 6, -1 / 6),
    (1 / 24, 1 / 12, 1 / 6),
    (1 / 24, -1 / 12, 1 / 6),
    (0, 0, 1),
)
_OUTPUT = ((1, 1, 1, 1, 1, 0), (0, 1, -1, 2, -2, 0), (0, 1, 1, 4, 4, 0), (0, 1, -1, 8, -8, 1))


def convolve(x: Array, kernel: Array) -> Array:
    """3x3 convolution, zero padding of 1. x: [B,H,W,I], H and W multiples of 4 -> [B,H,W,O]."""
    return _convolve(x[:, :, None, :, None], kernel)


def strided(x: Array, kernel: Array) -> Array:
    """5x5 convolution of stride 2, zero padding of 2: [B,H,W,I] -> [B,H/2,W/2,O].

    kernel: [3,3,4*I,O] on cells of 2x2 pixels, without sixth taps (`convolution.block_kernel`). H
    and W: multiples of 8.
    """
    return _convolve(_cells(x), kernel)


def strided_kernel_gradient(x: Array, g: Array) -> Array:
    """Gradient of sum(g * strided(x, kernel)) in the kernel; zero at sixth taps."""
    x = _cells(x)
    b, h, cell, w, _, in_ = x.shape
    out = g.shape[3]
    g = g.reshape(b, h // BLOCK, BLOCK, w // BLOCK, BLOCK, out)
    back = tuple(zip(*_OUTPUT, strict=True))
    down = _stage(back, [g[:, :, k] for k in range(BLOCK)])
    across = _stage(back, [down[:, :, :, :, k] for k in range(BLOCK)])
    across = across.reshape(_SIDE, _SIDE, -1, out)
    total = jnp.zeros((_SIDE, _SIDE, out, cell, cell, in_), x.dtype)  # quicker so than [...,I,O]
    for (*points, rows, cols), inputs in _inputs(x):
        found = _product(across[*points], inputs, over=1)
        at = (*points, slice(None), rows, cols)
        total = total.at[at].set(found.reshape(total[at].shape))
    like = jax.ShapeDtypeStruct((3, 3, out, cell * cell * in_), x.dtype)
    total = total.reshape(_SIDE**2, out, -1)
    return jax.linear_transpose(_transformed_kernel, like)(total)[0].swapaxes(2, 3)


def _cells(x: Array) -> Array:
    b, h, w, in_ = x.shape
    return x.reshape(b, h // 2, 2, w // 2, 2, in_)


def _convolve(x: Array, kernel: Array) -> Array:
    b, h, cell, w, _, in_ = x.shape
    kernels = _transformed_kernel(kernel).reshape(_SIDE, _SIDE, cell, cell, in_, -1)
    rows: list[list] = [[] for _ in range(_SIDE)]
    for at, inputs in _inputs(x):
        taps = kernels[at].reshape(*inputs.shape[::2], -1)
        rows[at[1]] += list(_product(inputs, taps, over=2))
    across = [_stage(_OUTPUT, products) for products in rows]
    y = jnp.stack([_combined(row, across) for row in _OUTPUT])
    y = y.reshape(BLOCK, BLOCK, b, h // BLOCK, w // BLOCK, -1)
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(b, h, w, -1)


def _inputs(x: Array) -> Iterator[tuple[tuple, Array]]:
    """Inputs of the products, for x in cells [B,H,R,W,S,I]: ones that share a cache at a time.

    Gives where in the transformed kernels [6,6,R,S,I,O] their factors are, and [L,blocks,I'].
    """
    b, h, cell, w, _, _ = x.shape
    x = jnp.pad(x, ((0, 0), (1, 1), (0, 0), (1, 1), (0, 0), (0, 0)))
    parts = [x[:, j : j + h - 3 : BLOCK].swapaxes(2, 3) for j in range(_SIDE)]
    down = _stage(_INPUT, parts, axis=2)  # [B,H/4,6,W+2,R,S,I]: all rows of points from the same x
    last = _SIDE - 1
    for k in range(_SIDE):
        rows = slice(cell if k < last else 1)
        for points, cols in ((slice(last), slice(cell)), (slice(last, _SIDE), slice(1))):
            here = down[:, :, k, :, rows, cols]
            parts = [here[:, :, j : j + w - 3 : BLOCK] for j in range(_SIDE)]
            across = _stage(_INPUT[points], parts)
            yield (points, k, rows, cols), across.reshape(len(across), b * h * w // BLOCK**2, -1)


def _product(a: Array, b: Array, over: int) -> Array:
    """Products of matrices [L,...] over that axis of a and the first of b's."""
    dimensions = (((over,), (1,)), ((0,), (0,)))
    return lax.dot_general(a, b, dimensions, precision=lax.Precision.HIGHEST)


def _transformed_kernel(kernel: Array) -> Array:
    """[3,3,I,O] -> [36,I,O], columns first, as the inputs are."""
    rows = _stage(_KERNEL, list(kernel))
    both = _stage(_KERNEL, list(rows.swapaxes(0, 1)))
    return both.reshape(_SIDE**2, *kernel.shape[2:])


def _stage(matrix: tuple, parts: list[Array], axis: int = 0) -> Array:
    # a barrier: fused with the next stage, each of its results would compute all inputs anew
    return lax.optimization_barrier(jnp.stack([_combined(row, parts) for row in matrix], axis))


def _combined(row: tuple, parts: list[Array]) -> Array:
    """Sum of the parts times the row's factors."""
    factors = zip(row, parts, strict=True)
    terms = [p if f == 1 else np.asarray(f, p.dtype) * p for f, p in factors if f]
    return sum(terms[1:], terms[0])
