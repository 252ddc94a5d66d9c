"""What the encoder sees of the blocks of an image before it decodes any: cheap statistics.

A model restores badly what photographs lack: luma beyond half the bandwidth, and chroma detail. The
energies of 8x8 DCT coefficients tell where. They are of the colours of each block of 64x64 pixels,
in squared grey levels, averaged over pixels and the three colours.
"""

from typing import NamedTuple

import numpy as np

from jvrc.codec.transforms.tiling import padded_to_blocks
from jvrc.coding.patch import packed_colours
from jvrc.coding.tile_grid import BLOCK, blocks_of

_DCT = 8  # pixels
_NOVEL = 0.5  # of a simple block's pixels, at most: those unlike both left and upper neighbour
_FEW = 64  # colours of a block that is simple whatever it repeats
# Rows: an orthonormal luma and two chromas of (R, G, B).
_OPPONENT = np.array([[1, 1, 1], [1, 0, -1], [1, -2, 1]], np.float32)
_OPPONENT /= np.sqrt(np.sum(np.square(_OPPONENT), axis=1, keepdims=True))


class Statistics(NamedTuple):
    """Of each block, float [rows,columns]; what lies outside of the image is not counted.

    energy and detail are in grey levels squared, the mean over the block's samples.
    """

    energy: np.ndarray  # variance within 8x8 pixels, plus the variance of their means
    detail: np.ndarray  # weighted DCT energy, about four times a model's squared error
    simple: np.ndarray  # bool: repetitive or of few colours, as photographs seldom are
    pixels: np.ndarray  # within the image


def statistics(img: np.ndarray) -> Statistics:
    """Return the statistics of the blocks of uint8 [h,w,3]."""
    blocks = blocks_of(*img.shape[:2])
    energy, detail = _energies(padded_to_blocks(img))
    heights, widths = (_inside(size, n) for size, n in zip(img.shape[:2], blocks, strict=True))
    pixels = heights[:, None] * widths[None]
    return Statistics(energy, detail, _simple(img, pixels), pixels)


def blocks_in(img: np.ndarray) -> list[np.ndarray]:
    """Return the blocks of an image [h,w,...], row by row, as far as they lie within it."""
    rows, columns = blocks_of(*img.shape[:2])
    return [
        img[BLOCK * i : BLOCK * (i + 1), BLOCK * j : BLOCK * (j + 1)]
        for i in range(rows)
        for j in range(columns)
    ]


def _simple(img: np.ndarray, pixels: np.ndarray) -> np.ndarray:
    """Return which blocks of uint8 [h,w,3] repeat their colours or have few.

    pixels: within the image, of each block.
    """
    (height, width), (rows, columns) = img.shape[:2], pixels.shape
    packed = packed_colours(img)
    novel = [differs(packed, axis) for axis in (0, 1)]
    novel[0][::BLOCK], novel[1][:, ::BLOCK] = True, True  # blocks by themselves
    counted = np.zeros((BLOCK * rows, BLOCK * columns), bool)
    counted[:height, :width] = novel[0] & novel[1]
    simple = counted.reshape(rows, BLOCK, columns, BLOCK).sum(axis=(1, 3)) < _NOVEL * pixels
    for row, column in np.argwhere(~simple & _few(packed[::4, ::4], BLOCK // 4)).tolist():
        block = packed[BLOCK * row : BLOCK * (row + 1), BLOCK * column : BLOCK * (column + 1)]
        simple[row, column] = len(np.unique(block)) <= _FEW
    return simple


def _few(packed: np.ndarray, side: int) -> np.ndarray:
    """Return which blocks of side x side have few colours; packed: [h,w]."""
    rows, columns = (-(-n // side) for n in packed.shape)
    pads = [(0, side * n - size) for n, size in zip((rows, columns), packed.shape, strict=True)]
    padded = np.pad(packed, pads, constant_values=-1)  # one colour more, at the edges
    blocks = padded.reshape(rows, side, columns, side).swapaxes(1, 2).reshape(rows, columns, -1)
    return np.count_nonzero(np.diff(np.sort(blocks)), axis=2) <= _FEW


def differs(x: np.ndarray, axis: int) -> np.ndarray:
    """Return where x [h,w] differs from the sample before along an axis; True at the first."""
    return np.diff(x, axis=axis, prepend=-1) != 0


def _energies(img: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return (energy, detail) of each block of uint8 [h,w,3], h and w multiples of 64."""
    height, width = img.shape[:2]
    planes = np.moveaxis(img.astype(np.float32) @ _OPPONENT.T, 2, 0)
    basis = _dct()
    x = basis @ planes.reshape(3, height // _DCT, _DCT, width)
    x = x.reshape(3, height // _DCT, _DCT, width // _DCT, _DCT) @ basis.T
    means = _per_block(x[:, :, 0, :, 0])
    between = np.sum(np.var(means, axis=(2, 4)), axis=0)
    x = np.square(x)
    x[:, :, 0, :, 0] = 0
    energies = np.sum(_per_block(x.transpose(0, 2, 4, 1, 3)), axis=(4, 6))  # [3,8,8,rows,columns]
    count = np.float32(3 * BLOCK**2)
    energy = np.sum(energies, axis=(0, 1, 2)) / count + between * np.float32(1 / (3 * _DCT**2))
    return energy, np.einsum("cuvij,cuv->ij", energies, _detail_weights()) / count


def _per_block(x: np.ndarray) -> np.ndarray:
    """[...,h,w], of 8x8 pixels each -> [...,rows,8,columns,8]."""
    each = BLOCK // _DCT
    *rest, height, width = x.shape
    return x.reshape(*rest, height // each, each, width // each, each)


def _dct() -> np.ndarray:
    """Return the orthonormal DCT [8 frequencies,8 pixels], float32."""
    k = np.arange(_DCT)
    basis = np.cos(np.pi * np.outer(k, 2 * k + 1) / (2 * _DCT)) * np.sqrt(2 / _DCT)
    basis[0] /= np.sqrt(2)
    return basis.astype(np.float32)


def _detail_weights() -> np.ndarray:
    """Return the weight of each frequency of luma and two chromas, float32 [3,8,8].

    Models lose nearly all of the highest luma frequencies, as of a checkerboard over a photograph
    or the mosaic of a sensor. Of 756 such blocks, those below the floor had a detail of 657 and
    more.
    """
    total = np.add.outer(np.arange(_DCT), np.arange(_DCT))
    luma = np.select([total >= 10, total >= 7], [5.0, 1.0])
    chroma = np.select([total >= 4, total >= 2, total == 1], [6.0, 1.0, 0.2])
    return np.stack([luma, chroma, chroma]).astype(np.float32)


def _inside(size: int, blocks: int) -> np.ndarray:
    """Return how many samples of each block of an axis lie within an image of this size."""
    return np.minimum(BLOCK, size - BLOCK * np.arange(blocks))
