"""An image and what the encoder computes of it before any quantisation: y of each tile."""

import numpy as np

from jvrc.codec.regions import analyse_area
from jvrc.coding.tile_grid import TileGrid, tile_grid
from jvrc.frozen.model import FrozenModel


class AnalysedImage:
    """The tiles of an image and their y, which do not depend on qstep."""

    def __init__(self, model: FrozenModel, img: np.ndarray, tile_side: int) -> None:
        """img: uint8 [h,w,3]; tile_side: the largest side of a tile, in blocks of 64x64 pixels."""
        self.model, self.img, self.tile_side = model, img, tile_side
        self.grid: TileGrid = tile_grid(*img.shape[:2], tile_side)

    def y(self, number: int) -> np.ndarray:
        """Return y of a tile, float32 [4h,4w,M]."""
        return analyse_area(self.model, self.img, self.grid.area(number))
