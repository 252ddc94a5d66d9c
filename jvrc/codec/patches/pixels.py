"""The pixels of a tile as plain, lossless coding sees them: what of them suits it, and its cost."""

from functools import cached_property

import numpy as np

from jvrc.codec.patches.near_lossless import STEPS, rounded
from jvrc.codec.tiles.block_statistics import Statistics, blocks_in
from jvrc.coding import patch
from jvrc.coding.tile_grid import BLOCK
from jvrc.model.config import Config, HyperpriorConfig
from jvrc.qstep import rd_lambda

_SAFETY = 0.93  # 0.3 dB: tiles around were not coded yet when a tile's blocks are decoded
_OVERHEAD = 64  # bits of a patched block that are not counted
_SIMPLE_STEP = 5  # grey levels: the coarsest grid for simple blocks
_MOST_PACKED = 0.9  # of the bits counted for plain coding, what WebP takes


def floor_psnr(qstep: float, config: Config, *, simple: bool) -> float:
    """Return the PSNR in dB that no block of 64x64 pixels of a file comes out below.

    simple: of blocks that repeat their colours or have few (jvrc.codec.tiles.block_statistics).
    Photographs stay above both floors.
    """
    falling = 10 * np.log10(max(qstep, 1.0))
    full = not isinstance(config, HyperpriorConfig)  # of 2018, which restore less at fine steps
    if simple:
        return float(min(33 if full else 30, 33 - falling))
    return float(min(27 if full else 22, 29 - falling))


class PatchPixels:
    """A tile's pixels, any blocks of which can be patched. Masks are bool [rows,columns]."""

    def __init__(self, img: np.ndarray, seen: Statistics, qstep: float, config: Config) -> None:
        """img: uint8 [h,w,3], the tile as far as it lies within the image; seen: of its blocks."""
        self._img, self.seen, self._rounded = img, seen, {}
        self.error_weight = rd_lambda(max(qstep, 1.0))  # below a step of 1, bits hardly buy quality
        mse = [_mse(floor_psnr(qstep, config, simple=simple)) for simple in (False, True)]
        self.floor = _SAFETY * np.where(self.seen.simple, mse[1], mse[0])  # of squared errors

    @cached_property
    def cost(self) -> np.ndarray:
        """About the cost in bits of each simple block if it is patched, infinite of others.

        Scaled by what WebP takes of all of them, which finds more repetitions than are counted.
        """
        simple = self.seen.simple
        cost = np.full(simple.shape, np.inf)
        if not simple.any():
            return cost
        for place in np.argwhere(simple).tolist():
            cost[*place] = self._round(*place)[1]
        packed = 8 * len(self._alone(simple)) / max(cost[simple].sum(), 1.0)
        return min(packed, _MOST_PACKED) * cost + _OVERHEAD

    def patch(self, blocks: np.ndarray) -> bytes:
        """Return the patch of blocks of the tile."""
        return patch.encode(self._pixels(blocks), blocks)

    def _alone(self, blocks: np.ndarray) -> bytes:
        """Return the patch of blocks of a tile that has no other rows and columns of blocks."""
        rows, columns = blocks.any(axis=1), blocks.any(axis=0)
        pixels = self._pixels(blocks)
        inside = rows.repeat(BLOCK)[: len(pixels)], columns.repeat(BLOCK)[: pixels.shape[1]]
        return patch.encode(pixels[np.ix_(*inside)], blocks[np.ix_(rows, columns)])

    def _pixels(self, blocks: np.ndarray) -> np.ndarray:
        """Return the pixels of the tile with blocks as they are to be patched."""
        pixels = self._img.copy()
        for row, column in np.argwhere(blocks).tolist():
            block = pixels[BLOCK * row : BLOCK * (row + 1), BLOCK * column : BLOCK * (column + 1)]
            block[...] = self._round(row, column)[0]
        return pixels

    def _round(self, row: int, column: int) -> tuple[np.ndarray, float]:
        """Return a block as it is to be patched, and about its cost."""
        if (row, column) not in self._rounded:
            block = blocks_in(self._img)[row * self.seen.simple.shape[1] + column]
            most = _SIMPLE_STEP if self.seen.simple[row, column] else STEPS[-1]
            found = rounded(block, self.error_weight, most)
            self._rounded[row, column] = found
        return self._rounded[row, column]


def _mse(psnr: float) -> float:
    return 255**2 / 10 ** (psnr / 10)
