"""The error of single blocks of a tile after decoding; where few are asked for, only these."""

import numpy as np

from jvrc.codec.tiles.scene import Scene
from jvrc.codec.transforms.latents import synthesis_margin, synthesise
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area
from jvrc.frozen.model import FrozenModel


def squared_errors(
    model: FrozenModel, scene: Scene, y_hat: np.ndarray, asked: np.ndarray, qstep_code: int
) -> np.ndarray:
    """Return the mean squared error of blocks of a scene's tile, float [rows,columns].

    y_hat: float32 [4*rows,4*columns,M]. asked: bool [rows,columns]; of other blocks, 0.
    """
    y, errors = scene.with_tile(y_hat), np.zeros(asked.shape)
    top, left = scene.area[:2]
    places = [(row, column) for row, column in np.argwhere(asked).tolist()]
    windows = [_window(model, scene, row + top, column + left) for row, column in places]
    if sum(w.size[0] * w.size[1] for w in windows) > np.prod(scene.blocks.size):
        windows = [scene.blocks] * len(places)
    restored: dict[Area, np.ndarray] = {}
    for (row, column), window in zip(places, windows, strict=True):
        if window not in restored:
            latents = y[window.within(scene.blocks, Y_UNIT)]
            restored = {window: synthesise(model, latents, qstep_code)}
        block = Area(row + top, column + left, row + top + 1, column + left + 1)
        original = scene.img[block.within(scene.blocks, BLOCK)]
        found = restored[window][block.within(window, BLOCK)]
        found = found[: original.shape[0], : original.shape[1]].astype(np.int32)
        errors[row, column] = np.mean(np.square(found - original), dtype=np.float64)
    return errors


def _window(model: FrozenModel, scene: Scene, row: int, column: int) -> Area:
    """Return the blocks of a scene that one of them depends on; all windows have one size."""
    margin = synthesis_margin(model.config)
    begin, end = [], []
    for at, blocks in zip((row, column), scene.blocks.size, strict=True):
        size = min(2 * margin + 1, blocks)
        begin.append(min(max(at - margin, 0), blocks - size))
        end.append(begin[-1] + size)
    return Area(*begin, *end)
