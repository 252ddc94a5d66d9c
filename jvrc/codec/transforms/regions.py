"""The transforms g_a and g_s of a part of an image, computed with the margin that they look around.

Tiles of the file are coded without reference to each other, but only these two transforms see
across their borders: so no border shows in the image.
"""

import numpy as np

from jvrc.codec.transforms.latents import (
    analyse_image,
    analysis_margin,
    synthesis_margin,
    synthesise,
)
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area, blocks_of
from jvrc.frozen.model import FrozenModel
from jvrc.model.config import Config


def window_of(config: Config, area: Area, blocks: tuple[int, int]) -> Area:
    """Return the blocks of an image of so many blocks that g_s of an area looks at."""
    return area.grown(synthesis_margin(config), blocks)


def analyse_area(model: FrozenModel, img: np.ndarray, area: Area) -> np.ndarray:
    """Return y = g_a(x) of an area's blocks, float32 [4h,4w,M], of an image uint8 [H,W,3]."""
    blocks = blocks_of(*img.shape[:2])
    window = area.grown(analysis_margin(model.config), blocks)
    pixels = img[window.within(Area(0, 0, *blocks), BLOCK)]
    y = analyse_image(model, pixels)[area.within(window, Y_UNIT)]
    return np.ascontiguousarray(y)  # without the margin, which a view would keep in memory


def synthesise_area(
    model: FrozenModel, y_hat: np.ndarray, area: Area, blocks: tuple[int, int], qstep_code: int
) -> np.ndarray:
    """Return g_s(y^) of an area's blocks, uint8 [64h,64w,3].

    y_hat: float32, of the blocks of the area's `window_of`.
    """
    window = window_of(model.config, area, blocks)
    return synthesise(model, y_hat, qstep_code)[area.within(window, BLOCK)]
