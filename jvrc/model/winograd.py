"""3x3 convolutions in fewer multiplications, for processors: accelerators have their own.

Minimal filtering F(4x4, 3x3) (Lavin & Gray 2015, arXiv 1509.09308): blocks of 4x4 outputs
take 36 products of matrices [blocks,I] x [I,O] where the sum over taps takes 144. The transforms
around them are additions and small factors. In float32 results differ from a direct sum by about
1e-5 of their size: for g_a and g_s, never for what must be exact.

May import: jax only.
"""

import jax.numpy as jnp
import numpy as np
from jax import Array, lax

BLOCK = 4  # outputs along an axis
_SIDE = 6  # inputs that they need
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
    b, h, w, in_ = x.shape
    rows, cols, out = h // BLOCK, w // BLOCK, kernel.shape[3]
    x = jnp.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0)))
    # a barrier after each stage: fused, each of 36 results would compute all of its inputs anew
    down = _stage(_INPUT, [x[:, k : k + h - 3 : BLOCK] for k in range(_SIDE)])
    across = _stage(_INPUT, [down[:, :, :, k : k + w - 3 : BLOCK] for k in range(_SIDE)])
    kernels = _transformed_kernel(kernel)
    blocks = across.reshape(_SIDE**2, b * rows * cols, in_)
    contract = (((2,), (1,)), ((0,), (0,)))
    products = lax.dot_general(blocks, kernels, contract, precision=lax.Precision.HIGHEST)
    products = products.reshape(_SIDE, _SIDE, b, rows, cols, out)
    across = _stage(_OUTPUT, list(products))  # [4,6,B,rows,cols,O]
    y = jnp.stack([_combined(row, list(across.swapaxes(0, 1))) for row in _OUTPUT])
    return y.transpose(2, 3, 0, 4, 1, 5).reshape(b, h, w, out)


def _transformed_kernel(kernel: Array) -> Array:
    """[3,3,I,O] -> [36,I,O], columns first, as the blocks are."""
    g = np.array(_KERNEL, kernel.dtype)
    # plain products of matrices: as one einsum it takes twenty times as long
    rows = lax.dot(g, kernel.reshape(3, -1), precision=lax.Precision.HIGHEST)
    rows = rows.reshape(_SIDE, 3, -1).swapaxes(0, 1).reshape(3, -1)
    both = lax.dot(g, rows, precision=lax.Precision.HIGHEST)
    return both.reshape(_SIDE**2, *kernel.shape[2:])


def _stage(matrix: tuple, parts: list[Array]) -> Array:
    return lax.optimization_barrier(jnp.stack([_combined(row, parts) for row in matrix]))


def _combined(row: tuple, parts: list[Array]) -> Array:
    """Sum of the parts times the row's factors."""
    factors = zip(row, parts, strict=True)
    terms = [p if f == 1 else np.asarray(f, p.dtype) * p for f, p in factors if f]
    return sum(terms[1:], terms[0])
