"""What the model sees in place of patched pixels: a smooth surface that costs few bits."""

import numpy as np

from jvrc.codec.tiles.scene import Scene
from jvrc.codec.transforms.latents import analyse_image
from jvrc.coding.patch import samples_of
from jvrc.frozen.model import FrozenModel

_GREY = 128.0


def without(model: FrozenModel, scene: Scene, blocks: np.ndarray) -> Scene:
    """Return a scene with a smooth surface in place of blocks, bool [rows,columns], of its tile."""
    missing = np.zeros(scene.blocks.size, bool)
    missing[scene.area.within(scene.blocks)] = blocks
    height, width = scene.img.shape[:2]
    img = fill(scene.img, samples_of(missing)[:height, :width])
    return Scene(img, analyse_image(model, img), scene.area)


def fill(img: np.ndarray, missing: np.ndarray) -> np.ndarray:
    """Return uint8 [h,w,3] in which missing pixels, bool [h,w], continue the others smoothly.

    By a pyramid of means of 2x2: each level takes what it lacks from the next. Grey if all is
    missing.
    """
    known = ~missing
    if not known.any():
        return np.full_like(img, int(_GREY))
    found = _filled(img.astype(np.float32), known.astype(np.float32))
    return np.where(known[..., None], img, np.rint(np.clip(found, 0, 255)).astype(np.uint8))


def _filled(x: np.ndarray, weight: np.ndarray) -> np.ndarray:
    """Return x, float32 [h,w,3], with what has no weight, float32 [h,w], taken from its mean."""
    if weight.all() or x.shape[0] * x.shape[1] == 1:
        return x
    pads = [(0, size % 2) for size in weight.shape]
    x_even, weight_even = np.pad(x, [*pads, (0, 0)]), np.pad(weight, pads)
    total = _sums(weight_even)
    means = _sums(x_even * weight_even[..., None]) / np.maximum(total, 1e-9)[..., None]
    coarse = _filled(means, np.minimum(total, np.float32(1)))
    fine = _doubled(_doubled(coarse, 0), 1)[: x.shape[0], : x.shape[1]]
    share = weight[..., None]
    return share * x + (1 - share) * fine


def _sums(x: np.ndarray) -> np.ndarray:
    """Return the sums of 2x2 samples."""
    return x[::2, ::2] + x[1::2, ::2] + x[::2, 1::2] + x[1::2, 1::2]


def _doubled(x: np.ndarray, axis: int) -> np.ndarray:
    """Return x with twice as many samples along an axis, linearly interpolated."""
    size = x.shape[axis]
    before, after = (np.clip(np.arange(size) + shift, 0, size - 1) for shift in (-1, 1))
    pairs = [0.75 * x + 0.25 * np.take(x, at, axis) for at in (before, after)]
    return np.stack(pairs, axis + 1).reshape(*x.shape[:axis], 2 * size, *x.shape[axis + 1 :])
