"""Masking: how much the squared error of each sample counts, by what the eye sees of it.

Errors hide in texture and show where an image is smooth, most of all in green. With masking, a
search weighs the squared error of a sample by

    w = c (V / (v + C))^A,

c the weight of its colour, v the variance of luma around its pixel, in grey levels squared. SSIM
weighs small errors so, with A = 1 and C = C2 / 2 = 29.3: with y = x + e, e independent of x, 1 -
SSIM is about e² / (2 v + C2) (Wang, Bovik, Sheikh, Simoncelli 2004, Eq. 13). Video encoders call it
activity masking or adaptive quantisation. Green is most of luminance; the eye resolves changes of
colour less than those of luminance, and those along blue least.

The constants were chosen on crops of training photographs by MS-SSIM and SSIMULACRA 2, neither of
which a search computes; A lies between two that were tried (jvrc/weights/README.md has what they
gave).
"""

import numpy as np

from jvrc.codec.tiles.scene import Scene
from jvrc.coding.patch import samples_of

_V = 310.0
_C = 60.0
_A = 0.6
_COLOURS = np.array([0.75, 1.75, 0.5], np.float32)  # c of R, G and B, 1 in the mean
_LUMA = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_REACH = 13  # pixels: v is taken over 27x27 of them


def masked(scene: Scene, spared: np.ndarray) -> Scene:
    """Return a scene with the weights of masking; in blocks that are spared, nothing hides.

    spared: bool [rows,columns] of the tile's blocks. Text has a high variance too, but hides
    nothing: there each weight is that of its colour or more.
    """
    found = of_variance(scene.img)
    blocks = np.zeros(scene.blocks.size, bool)
    blocks[scene.area.within(scene.blocks)] = spared
    height, width = found.shape[:2]
    inside = samples_of(blocks)[:height, :width, None]
    return scene._replace(weight=np.where(inside, np.maximum(found, 1), found) * _COLOURS)


def weights(img: np.ndarray) -> np.ndarray:
    """Return w of each sample of uint8 [h,w,3]: float32 [h,w,3]."""
    return of_variance(img) * _COLOURS


def of_variance(img: np.ndarray) -> np.ndarray:
    """Return w / c of each pixel of uint8 [h,w,3]: float32 [h,w,1], in (0, (V / C)^A]."""
    level = img @ _LUMA
    mean = _means(level)
    variance = np.maximum(_means(np.square(level)) - np.square(mean), 0)
    return ((_V / (variance + _C)) ** _A)[..., None].astype(np.float32)


def _means(plane: np.ndarray) -> np.ndarray:
    """Return the mean of the pixels of an image within reach of each, [h,w]."""
    for axis in (0, 1):
        size = plane.shape[axis]
        first = np.maximum(np.arange(size) - _REACH, 0)
        end = np.minimum(np.arange(size) + _REACH + 1, size)
        sums = np.insert(np.cumsum(plane, axis), 0, 0, axis)
        counts = np.expand_dims(end - first, 1 - axis)
        plane = (sums.take(end, axis) - sums.take(first, axis)) / counts
    return plane
