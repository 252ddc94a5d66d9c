"""The alpha of an image in the tiles of a file: a section of each tile, or of none."""

from collections.abc import Iterator

import numpy as np

from jvrc.coding import alpha as coding
from jvrc.coding.container import Container
from jvrc.coding.tile_grid import Area
from jvrc.errors import BitstreamError


def with_alpha(coded: Container, alpha: np.ndarray | None) -> Container:
    """Return the contents of a file with the alpha of its image, uint8 [h,w]."""
    if alpha is None:
        return coded
    tiles = tuple(
        tile._replace(alpha=coding.encode(alpha[_slices(_pixels_of(coded, number))]))
        for number, tile in enumerate(coded.tiles)
    )
    return coded._replace(tiles=tiles)


def has_alpha(coded: Container, wanted: Area) -> bool:
    """Return whether some pixels of a file's image have alpha."""
    return any(coded.tiles[number].alpha for number in _touching(coded, wanted))


def alpha_of(coded: Container, wanted: Area, *, out: np.ndarray | None = None) -> np.ndarray | None:
    """Return the alpha of some pixels of a file's image, uint8 [h,w]; None if it has none.

    out: takes the alpha instead of a new array.

    Raises:
      BitstreamError: that of a tile is damaged, or some tiles have it and others don't.
    """
    if not has_alpha(coded, wanted):
        return None
    alpha = np.empty(wanted.size, np.uint8) if out is None else out
    for number in _touching(coded, wanted):
        data, pixels = coded.tiles[number].alpha, _pixels_of(coded, number)
        both = pixels.common(wanted)
        alpha[both.within(wanted)] = _decode(coded, number, data, pixels)[both.within(pixels)]
    return alpha


def _touching(coded: Container, wanted: Area) -> Iterator[int]:
    """Return the numbers of the tiles that have some of the wanted pixels."""
    return coded.grid.touching(wanted.in_blocks())


def _decode(coded: Container, number: int, data: bytes, pixels: Area) -> np.ndarray:
    try:
        if not data:
            raise BitstreamError("damaged stream: no alpha, unlike other tiles")
        return coding.decode(data, *pixels.size)
    except BitstreamError as error:
        raise BitstreamError(f"{coded.name_of(number)}: {error}") from error


def _pixels_of(coded: Container, number: int) -> Area:
    """Return the pixels of the image that a tile covers."""
    return coded.grid.area(number).pixels(coded.height, coded.width)


def _slices(area: Area) -> tuple[slice, slice]:
    return slice(area.top, area.bottom), slice(area.left, area.right)
