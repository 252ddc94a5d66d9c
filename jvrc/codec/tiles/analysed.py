"""An image and what the encoder computes of it before any quantisation."""

import numpy as np

from jvrc.codec.tiles import back_projection
from jvrc.codec.tiles.block_statistics import Statistics, statistics
from jvrc.codec.tiles.kept_arrays import HELD_BYTES, KeptArrays, computed_once
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.transforms.latents import analyse_latents
from jvrc.codec.transforms.regions import analyse_area, window_of
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area, TileGrid, tile_grid
from jvrc.frozen.model import FrozenModel


class AnalysedImage:
    """The tiles of an image and their latents, which do not depend on qstep.

    With `reused`, they and the statistics of blocks are computed once, however often they are asked
    for: latents of the first sixteen megapixels or so stay in memory, others in a temporary file.
    Without, tiles are to be asked for in ascending order: latents of the newest one are kept and,
    once a scene was asked for, those of two rows of tiles.
    """

    def __init__(
        self,
        model: FrozenModel,
        img: np.ndarray,
        tile_side: int,
        *,
        reused: bool = False,
        held_bytes: int = HELD_BYTES,
    ) -> None:
        """img: uint8 [h,w,3]; tile_side: the largest side of a tile, in blocks of 64x64 pixels."""
        self.model, self.img, self.tile_side = model, img, tile_side
        self.grid: TileGrid = tile_grid(*img.shape[:2], tile_side)
        self._reused, self._sees_neighbours = reused, False
        self._kept = KeptArrays(held_bytes)
        self._kept_corrections = KeptArrays(held_bytes) if reused else None
        self._statistics: dict[int, Statistics] = {}

    def pixels(self, number: int) -> np.ndarray:
        """Return the pixels of a tile as far as they lie within the image, uint8 [h,w,3]."""
        height, width = self.img.shape[:2]
        inside = self.grid.area(number).pixels(height, width)
        return self.img[inside.within(Area(0, 0, height, width))]

    def statistics(self, number: int) -> Statistics:
        """Return the statistics of the blocks of a tile."""
        found = self._statistics.get(number)
        if found is None:
            found = statistics(self.pixels(number))
            if self._reused:
                self._statistics[number] = found
        return found

    def latents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        """Return y, float32 [4h,4w,M], and z, float32 [h,w,N], of a tile."""
        if not self._reused:
            behind = self.grid.tiles[1] + 1 if self._sees_neighbours else 0
            self._kept.drop_below(number - behind)
        return self._latents(number)

    def _latents(self, number: int) -> tuple[np.ndarray, np.ndarray]:
        def compute() -> tuple[np.ndarray, np.ndarray]:
            y = analyse_area(self.model, self.img, self.grid.area(number))
            return y, analyse_latents(self.model, y)

        return computed_once(self._kept, number, compute)

    def scene(self, number: int) -> Scene:
        """Return a tile and what lies around it."""
        area = self.grid.area(number)
        if self.grid.count == 1:
            return Scene(self.img, self.latents(number)[0], area)
        image = Area(0, 0, *self.grid.blocks)
        window = window_of(self.model.config, area, image.size)
        inside = self.img[window.within(image, BLOCK)]
        return Scene(inside, self._window_y(number, window), area.relative_to(window))

    def _window_y(self, number: int, window: Area) -> np.ndarray:
        """Return y of a window around a tile, from the latents of all tiles that it touches."""
        self._sees_neighbours = True
        self.latents(number)  # those that are not needed any more are dropped
        rows, columns = window.scaled(Y_UNIT).size
        found = np.empty((rows, columns, self.model.config.M), np.float32)
        for near in self.grid.touching(window):
            area = self.grid.area(near)
            part = area.common(window)
            found[part.within(window, Y_UNIT)] = self._latents(near)[0][part.within(area, Y_UNIT)]
        return found

    def correction(self, number: int) -> np.ndarray:
        """Return d of a tile, float32 [4h,4w,M] (jvrc.codec.tiles.back_projection)."""

        def compute() -> tuple[np.ndarray]:
            return (back_projection.correction(self.model, self.scene(number)),)

        (d,) = computed_once(self._kept_corrections, number, compute)
        return d
