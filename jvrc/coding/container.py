"""What a compressed file holds, of any version of the format (FORMAT.md, section 1).

jvrc.coding.packing makes bytes of it and reads them back.
"""

from collections.abc import Sequence
from typing import NamedTuple

from jvrc.coding.tile_grid import BLOCK, Area, TileGrid, blocks_of, tile_grid
from jvrc.errors import BitstreamError
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN

MAX_PIXELS = 2**27  # of an image, padded
UNLIMITED = 2**64  # pixels: more than a header can name
MAX_LANES_LOG2 = 12
MODEL_ID = slice(5, 9)  # bytes of a file, of every version
REFINEMENT_BYTES = 4  # that the header of version 3 has more than that of version 2
MAX_TILE_SIDE = 16  # blocks of 64x64 pixels: 64x64 positions of y
SKIPPABLE = 0x80  # this bit of a section's type: a decoder that does not know it skips it
GREY, RGB = 1, 3  # channels


class Stream(NamedTuple):
    """The coded integers of one latent, y or z, of a tile."""

    words: bytes  # what range_coder.encode returned: final states, then 16-bit words
    escapes: bytes  # the values outside the tables (jvrc.coding.escapes)
    lanes: int  # interleaved lanes of the range coder, a power of two, 1 ... 4096


NO_STREAM = Stream(b"", b"", 1)


class Tile(NamedTuple):
    """A part of the image, coded without reference to any other."""

    scale_adapted: bool  # the z stream ends with index shifts (jvrc.coding.scale_adaptation)
    z: Stream
    y: Stream
    patch: bytes = b""  # pixels that are coded without the model (jvrc.coding.patch)
    alpha: bytes = b""  # of the tile (jvrc.coding.alpha)
    refined: bool = False  # tables come from refined scale indices (jvrc.integer.scale_refinement)

    @property
    def has_streams(self) -> bool:
        """Whether it has any; a tile that is patched all over needs none."""
        flags = self.scale_adapted or self.refined
        return self.z != NO_STREAM or self.y != NO_STREAM or flags


class Section(NamedTuple):
    """Something else that a file holds; jvrc keeps what it does not know as it is."""

    kind: int  # 128 ... 255: types that a decoder may skip
    payload: bytes


class Container(NamedTuple):
    """The contents of a file."""

    model_id: str  # eight hex digits
    height: int  # pixels, >= 1
    width: int  # pixels, >= 1
    qstep_code: int  # see jvrc.qstep
    tiles: Sequence[Tile]  # row by row, as many as the grid has
    tile_side: int = MAX_TILE_SIDE  # largest side of a tile, in blocks; 0: one tile (version 1)
    sections: tuple[Section, ...] = ()
    channels: int = RGB
    refinement_id: str = ""  # eight hex digits; "": no tile is refined, and the version below 3

    @property
    def version(self) -> int:
        """The version of the format that it was read from or will be written in."""
        if not self.tile_side:
            return 1
        return 3 if self.refinement_id else 2

    @property
    def grid(self) -> TileGrid:
        """The tiles' places."""
        if self.tile_side == 0:
            return TileGrid(blocks_of(self.height, self.width), (1, 1))
        return tile_grid(self.height, self.width, self.tile_side)

    def name_of(self, number: int) -> str:
        """Return a tile's number and place in pixels, for messages."""
        return f"tile {number} ({place(self.grid.area(number), self.height, self.width)})"


def place(area: Area, height: int, width: int) -> str:
    """Return the pixels of an area of an image, for messages: rows 0 ... 63, columns 0 ... 9."""
    top, left, bottom, right = area.pixels(height, width)
    return f"rows {top} ... {bottom - 1}, columns {left} ... {right - 1}"


def coded_pixels(height: int, width: int) -> int:
    """Return the pixels of an image padded to whole blocks, which memory and time grow with."""
    rows, columns = blocks_of(height, width)
    return rows * columns * BLOCK**2


def check_length(size: int, expected: int) -> None:
    """Raise BitstreamError unless a file of `size` bytes ends where its contents do."""
    if size < expected:
        raise BitstreamError(f"truncated stream: {size} bytes of {expected}")
    if size > expected:
        raise BitstreamError(f"left-over bytes: the stream ends at {expected} of {size} bytes")


def ends_within_header(size: int) -> BitstreamError:
    """Return the error of a file of `size` bytes that has no whole header."""
    return BitstreamError(f"truncated stream: it ends within the header, after {size} bytes")


def check_dimensions(height: int, width: int, max_pixels: int) -> None:
    """Raise BitstreamError if a file claims an image of no pixels, or too large a one."""
    if height < 1 or width < 1:
        raise BitstreamError(f"damaged stream: an image of {height} x {width} pixels")
    if coded_pixels(height, width) > max_pixels:
        raise BitstreamError(
            f"an image of {height} x {width} pixels, padded to whole blocks of {BLOCK}, exceeds "
            f"the limit of {max_pixels} pixels: pass max_pixels=..., or out=np.memmap(...)"
        )


def check_qstep_code(coded: Container) -> None:
    """Raise BitstreamError if a file claims a quantisation step that does not exist."""
    if not QSTEP_CODE_MIN <= coded.qstep_code <= QSTEP_CODE_MAX:
        raise BitstreamError(f"damaged stream: there is no qstep code {coded.qstep_code}")


def lanes_of(lanes_log2: int) -> int:
    """Return the number of lanes that a file states; BitstreamError if there are not so many."""
    if lanes_log2 > MAX_LANES_LOG2:
        raise BitstreamError(
            f"damaged stream: 2**{lanes_log2} coder lanes, at most 2**{MAX_LANES_LOG2} exist"
        )
    return 1 << lanes_log2
