"""An image and what the encoder computes of it before any quantisation: y and z of each tile."""

import tempfile
import weakref
from collections.abc import Sequence

import numpy as np

from jvrc.codec.latents import analyse_latents
from jvrc.codec.patch_screen import Statistics, statistics
from jvrc.codec.regions import analyse_area
from jvrc.coding.tile_grid import BLOCK, Area, TileGrid, tile_grid
from jvrc.frozen.model import FrozenModel

_HELD_BYTES = 2**26  # of latents that are kept in memory; those of further tiles go to a file


class AnalysedImage:
    """The tiles of an image and their latents, which do not depend on qstep.

    With `reused`, they and the statistics of blocks are computed once, however often they are asked
    for: latents of the first sixteen megapixels or so stay in memory, others in a temporary file.
    """

    def __init__(
        self,
        model: FrozenModel,
        img: np.ndarray,
        tile_side: int,
        *,
        reused: bool = False,
        held_bytes: int = _HELD_BYTES,
    ) -> None:
        """img: uint8 [h,w,3]; tile_side: the largest side of a tile, in blocks of 64x64 pixels."""
        self.model, self.img, self.tile_side = model, img, tile_side
        self.grid: TileGrid = tile_grid(*img.shape[:2], tile_side)
        self._kept = _KeptArrays(held_bytes) if reused else None
        self._statistics: dict[int, Statistics] = {}

    def pixels(self, number: int) -> np.ndarray:
        """Return the pixels of a tile as far as they lie within the image, uint8 [h,w,3]."""
        whole = Area(0, 0, *self.img.shape[:2])
        return self.img[self.grid.area(number).scaled(BLOCK).common(whole).within(whole)]

    def statistics(self, number: int) -> Statistics:
        """Return the statistics of the blocks of a tile."""
        found = self._statistics.get(number)
        if found is None:
            found = statistics(self.pixels(number))
            if self._kept:
                self._statistics[number] = found
        return found

    def latents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return y, float32 [4h,4w,M], and z, float32 [h,w,N], of a tile."""
        found = self._kept.get(number) if self._kept else None
        if found is None:
            y = analyse_area(self.model, self.img, self.grid.area(number))
            found = y, analyse_latents(self.model, y)
            if self._kept:
                self._kept.put(number, found)
        return found


class _KeptArrays:
    """Tuples of arrays by number: in memory up to so many bytes, otherwise in a temporary file.

    The file is read and written, not mapped: mapped pages would count as the process's memory.
    """

    def __init__(self, held_bytes: int) -> None:
        self._room = held_bytes
        self._held: dict[int, tuple[np.ndarray, ...]] = {}
        self._stored: dict[int, list[tuple[int, tuple[int, ...], np.dtype]]] = {}
        self._file = None

    def put(self, number: int, arrays: tuple[np.ndarray, ...]) -> None:
        """Keep arrays under a number."""
        size = sum(array.nbytes for array in arrays)
        if size <= self._room:
            self._room -= size
            self._held[number] = arrays
            return
        if self._file is None:
            self._file = tempfile.TemporaryFile()  # noqa: SIM115
            weakref.finalize(self, self._file.close)
        self._stored[number] = [self._write(array) for array in arrays]

    def get(self, number: int) -> Sequence[np.ndarray] | None:
        """Return the arrays of a number, or None."""
        if number in self._stored:
            return tuple(self._read(*place) for place in self._stored[number])
        return self._held.get(number)

    def _write(self, array: np.ndarray) -> tuple[int, tuple[int, ...], np.dtype]:
        place = self._file.seek(0, 2)
        self._file.write(np.ascontiguousarray(array).data)
        return place, array.shape, array.dtype

    def _read(self, place: int, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        array = np.empty(shape, dtype)
        self._file.seek(place)
        self._file.readinto(array.data.cast("B"))
        return array
