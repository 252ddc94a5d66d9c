"""Running a transform over an image of any size in tiles of few shapes.

Sizes are in blocks of 64x64 pixels, the stride of z. An array is covered by one tile of one of the
SHAPES, or by several of one shape that overlap by as much as the transform looks around, whichever
computes the fewest blocks. What lies outside the image is masked (see jvrc.model.transforms), so
the result is that of the whole image at once, while memory stays bounded.

Each function is compiled once for each shape that occurs, so there are few, chosen so that usual
sizes of images need few blocks beyond their own (tests/codec/test_tiling.py has some).
"""

import itertools
import math
from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from jvrc.coding.tile_grid import BLOCK, blocks_of

Size = tuple[int, int]  # rows and columns, in blocks

# The largest holds the largest tile of a file (jvrc.coding.tile_grid) with its margin.
_SQUARE = (1, 2, 4, 5, 6, 8, 12, 13, 15, 16, 17, 18)
_UPRIGHT = ((12, 8), (13, 10), (16, 10), (16, 12))
SHAPES: tuple[Size, ...] = (
    *((side, side) for side in _SQUARE),
    *_UPRIGHT,
    *((columns, rows) for rows, columns in _UPRIGHT),
)


class Span(NamedTuple):
    """One tile along one axis, in blocks: [start, start + size), of which [low, high) is kept.

    The end may exceed the image.
    """

    start: int
    size: int
    low: int
    high: int


def shape_of(blocks: Size, margin: int) -> Size:
    """Return the shape of the tiles of so many blocks with `margin` blocks of context around."""

    def cost(shape: Size) -> tuple[int, int]:
        number = _count(blocks, shape, margin)
        return number * math.prod(shape), number

    fitting = [shape for shape in SHAPES if _fits(blocks, shape, margin)]
    return min(fitting, key=cost)


def covering(blocks: Size) -> Size:
    """Return the smallest of the shapes that covers so many blocks with one tile.

    Where none does, the blocks themselves, rounded up to even numbers.
    """
    found = [s for s in SHAPES if s[0] >= blocks[0] and s[1] >= blocks[1]]
    rounded = (blocks[0] + blocks[0] % 2, blocks[1] + blocks[1] % 2)
    return min(found, key=math.prod, default=rounded)


def tile_count(blocks: Size, margin: int) -> int:
    """Return how many tiles `map_tiles` runs."""
    return _count(blocks, shape_of(blocks, margin), margin)


def spans(blocks: int, size: int, margin: int) -> list[Span]:
    """Return the tiles of `size` along an axis, with `margin` blocks of context on each side.

    Neighbours share at least 2 * margin blocks, in the middle of which one takes over from the
    other.
    """
    number = _along(blocks, size, margin)
    core = size - 2 * margin
    cuts = [margin + core * i for i in range(1, number)]
    edges = zip([0, *cuts], [*cuts, blocks], strict=True)
    return [Span(core * i, size, low, high) for i, (low, high) in enumerate(edges)]


def padded_to_blocks(img: np.ndarray) -> np.ndarray:
    """Repeat the last row and column of an image [h,w,...] up to whole blocks."""
    sizes = zip(blocks_of(*img.shape[:2]), img.shape[:2], strict=True)
    pads = [(0, n * BLOCK - size) for n, size in sizes] + [(0, 0)] * (img.ndim - 2)
    return np.pad(img, pads, mode="edge") if any(after for _, after in pads) else img


def map_tiles(
    function: Callable[..., tuple], inputs: tuple, blocks: Size, margin: int
) -> list[np.ndarray]:
    """Return the whole arrays of a function's outputs, computed in tiles.

    function(*tiles, valid) -> tuple of tiles, arrays [h,w,C] whose sides are multiples of the
    tile's blocks; valid is int32 [4] (see jvrc.model.transforms). inputs: arrays [H,W,C] that
    cover blocks[0] x blocks[1] blocks.
    """
    outputs: list[np.ndarray] = []
    shape = shape_of(blocks, margin)
    axes = [spans(n, size, margin) for n, size in zip(blocks, shape, strict=True)]
    for rows, cols in itertools.product(*axes):
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


def _along(blocks: int, size: int, margin: int) -> int:
    """Return the number of tiles along an axis."""
    return 1 if blocks <= size else -(-(blocks - 2 * margin) // (size - 2 * margin))


def _count(blocks: Size, shape: Size, margin: int) -> int:
    return math.prod(_along(n, s, margin) for n, s in zip(blocks, shape, strict=True))


def _fits(blocks: Size, shape: Size, margin: int) -> bool:
    """Return whether tiles of a shape can cover so many blocks: several need room for margins."""
    return all(n <= s or s > 2 * margin for n, s in zip(blocks, shape, strict=True))


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


def _valid(rows: Span, cols: Span, blocks: Size) -> np.ndarray:
    """(top, bottom, left, right) in pixels: the part of the tile that lies inside the image."""
    inside = [
        (max(0, -span.start), min(span.size, n - span.start))
        for span, n in zip((rows, cols), blocks, strict=True)
    ]
    return np.array(inside, np.int32).ravel() * BLOCK
