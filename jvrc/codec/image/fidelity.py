"""The PSNR of a coded image, measured by decoding it beside the original, in bounded memory."""

import math

import numpy as np

from jvrc.codec.image.canvas import to_grey
from jvrc.codec.image.decoder import decode_image
from jvrc.codec.tiles.tile_coder import YHatOf
from jvrc.coding.container import Container
from jvrc.frozen.model import FrozenModel


class SquaredError:
    """Takes windows of RGB as an array does, and adds up their squared error."""

    def __init__(self, pixels: np.ndarray) -> None:
        """pixels: the original, uint8 [h,w,3] or [h,w]."""
        self._pixels, self._sum = pixels, 0

    def __setitem__(self, window: tuple[slice, slice], found: np.ndarray) -> None:
        found = to_grey(found) if self._pixels.ndim == 2 else found
        error = found.astype(np.int32) - self._pixels[window]
        self._sum += int(np.sum(np.square(error), dtype=np.int64))

    def psnr(self) -> float:
        """Return the PSNR in dB."""
        if not self._sum:
            return math.inf
        return 10 * math.log10(255**2 * self._pixels.size / self._sum)


def psnr_of(
    model: FrozenModel, coded: Container, pixels: np.ndarray, y_hat_of: YHatOf | None = None
) -> float:
    """Return the PSNR in dB of a coded image, over all samples of its original.

    pixels: uint8 [h,w,3], or [h,w] of a grey image. y_hat_of: as `decode_image` takes it.
    """
    error = SquaredError(pixels)
    decode_image(model, coded, out=error, y_hat_of=y_hat_of)
    return error.psnr()
