"""How an image is divided into tiles. Sizes are in blocks of 64x64 pixels, the stride of z.

Along an axis of n blocks there are ceil(n / side) tiles, and tile i begins at block
floor(i * n / number): their sizes differ by one block at most.
"""

from collections.abc import Iterator
from typing import NamedTuple

BLOCK = 64  # pixels; images are coded padded to multiples of it
Y_UNIT = 4  # positions of y along a block's side


class Area(NamedTuple):
    """Rows [top, bottom) and columns [left, right), of blocks or of pixels."""

    top: int
    left: int
    bottom: int
    right: int

    @property
    def size(self) -> tuple[int, int]:
        """(height, width)."""
        return self.bottom - self.top, self.right - self.left

    def common(self, other: "Area") -> "Area":
        """Return what two areas that meet have in common."""
        begin = (max(a, b) for a, b in zip(self[:2], other[:2], strict=True))
        end = (min(a, b) for a, b in zip(self[2:], other[2:], strict=True))
        return Area(*begin, *end)

    def relative_to(self, outer: "Area") -> "Area":
        """Return the area counted from the first row and column of another one."""
        return Area(*(edge - outer[i % 2] for i, edge in enumerate(self)))

    def in_blocks(self) -> "Area":
        """Return the blocks that an area of pixels touches."""
        begin, end = self[:2], self[2:]
        return Area(*(edge // BLOCK for edge in begin), *(-(-edge // BLOCK) for edge in end))

    def scaled(self, unit: int) -> "Area":
        """Return the area in samples, `unit` of them a block."""
        return Area(*(unit * edge for edge in self))

    def pixels(self, height: int, width: int) -> "Area":
        """Return the pixels of an area of blocks, as far as an image of so many pixels has them."""
        return self.scaled(BLOCK).common(Area(0, 0, height, width))

    def grown(self, margin: int, blocks: tuple[int, int]) -> "Area":
        """Return the area with `margin` blocks around it, as far as the image has them."""
        top, left, bottom, right = self
        around = Area(top - margin, left - margin, bottom + margin, right + margin)
        return around.common(Area(0, 0, *blocks))

    def within(self, outer: "Area", unit: int = 1) -> tuple[slice, slice]:
        """Return where the area lies in an array that covers `outer`, `unit` samples a block."""
        return tuple(
            slice((self[i] - outer[i]) * unit, (self[i + 2] - outer[i]) * unit) for i in (0, 1)
        )


class TileGrid(NamedTuple):
    """The tiles of an image, numbered row by row."""

    blocks: tuple[int, int]  # of the padded image
    tiles: tuple[int, int]  # rows of tiles, and tiles in a row

    @property
    def count(self) -> int:
        return self.tiles[0] * self.tiles[1]

    def area(self, number: int) -> Area:
        """Return the blocks of a tile."""
        places = divmod(number, self.tiles[1])
        begin, end = (
            [(i + j) * b // n for i, b, n in zip(places, self.blocks, self.tiles, strict=True)]
            for j in (0, 1)
        )
        return Area(*begin, *end)

    def touching(self, area: Area) -> Iterator[int]:
        """Return the numbers, in ascending order, of the tiles that have blocks of an area."""
        rows, columns = (self._places(axis, area[axis], area[axis + 2]) for axis in (0, 1))
        return (row * self.tiles[1] + column for row in rows for column in columns)

    def _places(self, axis: int, begin: int, end: int) -> range:
        # Block b is in tile i with i * n <= b * number + number - 1 (both sides rounded down).
        n, number = self.blocks[axis], self.tiles[axis]
        first, last = ((number * (b + 1) - 1) // n for b in (begin, end - 1))
        return range(first, last + 1)


def blocks_of(height: int, width: int) -> tuple[int, int]:
    """Return how many blocks of 64x64 pixels cover an image, along each axis."""
    return -(-height // BLOCK), -(-width // BLOCK)


def tile_grid(height: int, width: int, side: int) -> TileGrid:
    """Return the tiles of an image of so many pixels, of at most side x side blocks each."""
    blocks = blocks_of(height, width)
    return TileGrid(blocks, (-(-blocks[0] // side), -(-blocks[1] // side)))
