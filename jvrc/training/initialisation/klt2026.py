"""KLT initialisation of jvrc2026: a linear transform codec of photographs.

`first` and `last` hold the eigenvectors of 8x8 blocks, a Karhunen-Loeve transform (KLT), `down` and
`up` those of 2x2 blocks of their outputs. New blocks are the identity, so that g_s(g_a(x)) is the
projection of x onto what the M channels keep (but for small noise in `down`).
"""

import jax.numpy as jnp
import numpy as np

from jvrc.model.jvrc2026 import space_to_depth

_NOISE = 0.02  # factor on the usual random values of `down`


def fit_transforms(g_a: dict, g_s: dict, crops: np.ndarray) -> None:
    """Set the kernels outside the blocks of g_a and g_s, in place; crops: [n,H,W,3] in [0,1].

    C above 192: the other channels of `first` keep random kernels, which `last` does not read.
    M above 4 C: the other channels of `down` are noise, which `up` does not read.
    """
    first, down = g_a["first"]["kernel"], g_a["down"]["kernel"]
    up, last = g_s["up"]["kernel"], g_s["last"]["kernel"]
    blocks = _blocks(crops - np.float32(0.5), 8)
    basis = leading_eigenvectors(blocks.reshape(-1, 192), first.shape[1])  # [192,kept]
    kept = basis.shape[1]
    pairs = _blocks(blocks @ basis, 2).reshape(-1, 4 * kept)
    taps = leading_eigenvectors(pairs, down.shape[3]).reshape(2, 2, kept, -1)
    count = taps.shape[3]
    first[:, :kept] = basis
    last[:kept], last[kept:] = basis.T, 0
    down *= _NOISE
    down[2:4, 2:4, :kept, :count] += taps  # of stride 2: the samples of one 2x2 block
    up[:] = 0
    up.reshape(-1, 2, 2, last.shape[0])[:count, ..., :kept] = taps.transpose(3, 0, 1, 2)


def leading_eigenvectors(samples: np.ndarray, count: int) -> np.ndarray:
    """Return eigenvectors of the second moment of samples [n,I]: [I,min(count,I)]."""
    _, vectors = np.linalg.eigh(samples.T @ samples / len(samples))
    return vectors[:, ::-1][:, :count]


def _blocks(x: np.ndarray, size: int) -> np.ndarray:
    return np.asarray(space_to_depth(jnp.asarray(x), size))
