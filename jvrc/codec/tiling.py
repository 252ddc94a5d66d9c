"""Running a transform over an image of any size in tiles of few shapes.

Sizes are in blocks of 64x64 pixels, the stride of z. An axis of at most 18 blocks (the largest tile
of a file, jvrc.coding.tile_grid, with its margin) is one tile, its size rounded up to one of a few;
a longer one is cut into the fewest tiles of at most 18 blocks, all of one size, that overlap by as
much as the transform looks around. What lies outside the image is
masked (see jvrc.model.transforms), so the result is that of the whole image at once, while few
shapes are ever compiled and memory stays bounded.
"""

import itertools
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jvrc.coding.tile_grid import BLOCK

TILE = 18
_SIDES = (1, 2, 3, 4, 5, 6, 7, 8, 10, 12, 14, 16, 18)


class Span(NamedTuple):
    """One tile along one axis, in blocks: [start, start + size), of which [low, high) is kept.

    The end may exceed the image.
    """

    start: int
    size: int
    low: int
    high: int


def spans(blocks: int, margin: int) -> list[Span]:
    """The tiles along an axis of `blocks` blocks, with `margin` blocks of context on each side.

    Neighbours share 2 * margin blocks, in the middle of which one takes over from the other.
    """
    shared = 2 * margin
    number = 1 if blocks <= TILE else -(-(blocks - shared) // (TILE - shared))
    covered = -(-(blocks - shared) // number) + shared  # by each tile at least
    size = next(s for s in _SIDES if s >= covered)
    core = size - shared
    cuts = [margin + core * i for i in range(1, number)]
    edges = zip([0, *cuts], [*cuts, blocks], strict=True)
    return [Span(core * i, size, low, high) for i, (low, high) in enumerate(edges)]


def map_tiles(
    function: Callable[..., tuple], inputs: tuple, blocks: tuple[int, int], margin: int
) -> list[np.ndarray]:
    """Applies a function of tiles to whole arrays.

    function(*tiles, valid) -> tuple of tiles, arrays [h,w,C] whose sides are multiples of the
    tile's blocks; valid is int32 [4] (see jvrc.model.transforms). inputs: arrays [H,W,C] that
    cover blocks[0] x blocks[1] blocks. Returns the outputs' whole arrays.
    """
    outputs: list[np.ndarray] = []
    for rows, cols in itertools.product(spans(blocks[0], margin), spans(blocks[1], margin)):
        tiles = [_cut(x, rows, cols, x.shape[0] // blocks[0]) for x in inputs]
        results = function(*tiles, _valid(rows, cols, blocks))
        for i, result in enumerate(map(np.asarray, results)):
            unit = result.shape[0] // rows.size
            if i == len(outputs):
                shape = (blocks[0] * unit, blocks[1] * unit, *result.shape[2:])
                outputs.append(np.empty(shape, result.dtype))
            outputs[i][_kept(rows, unit, 0), _kept(cols, unit, 0)] = result[
                _kept(rows, unit, rows.start), _kept(cols, unit, cols.start)
            ]
    return outputs


def _kept(span: Span, unit: int, origin: int) -> slice:
    return slice((span.low - origin) * unit, (span.high - origin) * unit)


def _cut(x: np.ndarray, rows: Span, cols: Span, unit: int) -> np.ndarray:
    """The tile of x [H,W,C], with `unit` samples a block; zero outside."""
    pads = []
    for axis, span in enumerate((rows, cols)):
        begin, end = span.start * unit, (span.start + span.size) * unit
        low, high = max(begin, 0), min(end, x.shape[axis])
        pads.append((low - begin, end - high))
        x = x[low:high] if axis == 0 else x[:, low:high]
    return np.pad(x, [*pads, (0, 0)]) if any(p != (0, 0) for p in pads) else x


def _valid(rows: Span, cols: Span, blocks: tuple[int, int]) -> np.ndarray:
    """(top, bottom, left, right) in pixels: the part of the tile that lies inside the image."""
    inside = [
        (max(0, -span.start), min(span.size, n - span.start))
        for span, n in zip((rows, cols), blocks, strict=True)
    ]
    return np.array(inside, np.int32).ravel() * BLOCK
