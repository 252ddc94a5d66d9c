"""A tile and what lies around it: all that a search for better symbols of the tile looks at."""

from typing import NamedTuple

import numpy as np

from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area, blocks_of

_EQUAL = np.ones((1, 1, 1), np.float32)


class Scene(NamedTuple):
    """A tile with the margin that g_s looks around, which is coded with other tiles."""

    img: np.ndarray  # uint8 [h,w,3], with the margin
    y: np.ndarray  # float32 [4H,4W,M] = g_a(img), of whole blocks
    area: Area  # the blocks of the tile, counted from the first of the scene
    weight: np.ndarray = _EQUAL  # float32 [h,w,3], or one for all: of squared errors, relative

    @property
    def blocks(self) -> Area:
        """All blocks of the scene."""
        return Area(0, 0, *blocks_of(*self.img.shape[:2]))

    @property
    def inner(self) -> tuple[slice, slice]:
        """Where the tile lies in arrays of latents."""
        return self.area.within(self.blocks, Y_UNIT)

    @property
    def tile_img(self) -> np.ndarray:
        """The pixels of the tile."""
        return self.img[self.area.within(self.blocks, BLOCK)]

    @property
    def tile_weight(self) -> np.ndarray:
        """The weights of the samples of the tile, float32 [h,w,3]."""
        whole = np.broadcast_to(self.weight, self.img.shape)
        return whole[self.area.within(self.blocks, BLOCK)]

    @property
    def tile_y(self) -> np.ndarray:
        """y of the tile."""
        return self.y[self.inner]

    def with_tile(self, y_hat: np.ndarray) -> np.ndarray:
        """Return y of the scene, with y^ of the tile in its place."""
        found = self.y.copy()
        found[self.inner] = y_hat
        return found
