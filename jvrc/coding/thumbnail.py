"""A small copy of an image that a file can show without the model (FORMAT.md, section 10)."""

from io import BytesIO

import numpy as np
from PIL import Image

from jvrc.errors import BitstreamError

MAX_SIDE = 256  # pixels
_SIDES = (256, 192, 128, 96, 64, 48, 32)
_QUALITIES = (75, 50, 25)  # of lossy WebP
_DAMAGE = (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError)  # Pillow's


class Thumbnails:
    """Thumbnails of one image in all sizes, each made when it is asked for."""

    def __init__(self, pixels: np.ndarray, alpha: np.ndarray | None = None) -> None:
        """pixels: uint8 [h,w,3] or [h,w], of which few rows are read at a time; alpha: [h,w]."""
        self._size = pixels.shape[:2]
        self._small = Image.fromarray(_reduced(pixels, alpha))
        self._made: dict[tuple[int, int], bytes] = {}

    def within(self, size: int) -> bytes:
        """Return the largest thumbnail of at most so many bytes; b"" if there is none."""
        for side in _SIDES:
            if 4 * size < side:  # not worth the attempt: below an eighth of a bit per pixel
                continue
            for quality in _QUALITIES:
                data = self._encoded(side, quality)
                if len(data) <= size:
                    return data
        return b""

    def _encoded(self, side: int, quality: int) -> bytes:
        if (side, quality) not in self._made:
            scale = min(1.0, side / max(self._size))
            height, width = (max(1, round(scale * n)) for n in self._size)
            buffer = BytesIO()
            small = self._small.resize((width, height), Image.Resampling.LANCZOS)
            small.save(buffer, "WEBP", quality=quality, method=4)
            self._made[side, quality] = buffer.getvalue()
        return self._made[side, quality]


def decode(data: bytes) -> np.ndarray:
    """Return the uint8 [h,w,3] of a thumbnail.

    Raises:
      BitstreamError: it is damaged, or has more than 256 pixels a side.
    """
    try:
        img = Image.open(BytesIO(data), formats=["WEBP"])
        if max(img.size) > MAX_SIDE:
            raise BitstreamError(f"damaged stream: a thumbnail of {img.height} x {img.width}")
        return np.array(img.convert("RGB"))
    except _DAMAGE as error:
        raise BitstreamError(f"damaged stream: thumbnail: {error}") from error


def _reduced(pixels: np.ndarray, alpha: np.ndarray | None) -> np.ndarray:
    """Return the means of boxes of pixels: uint8 of less than 1024 a side, RGB or grey.

    What is transparent becomes white.
    """
    factors = [max(1, n // (2 * MAX_SIDE)) for n in pixels.shape[:2]]
    height, width = (n // f for n, f in zip(pixels.shape[:2], factors, strict=True))
    out = np.empty((height, width, *pixels.shape[2:]), np.uint8)
    for row in range(height):
        rows = slice(row * factors[0], (row + 1) * factors[0])
        band = pixels[rows, : width * factors[1]]
        if alpha is not None:
            band = _on_white(band, alpha[rows, : width * factors[1]])
        boxes = band.reshape(factors[0], width, factors[1], *pixels.shape[2:])
        out[row] = np.rint(boxes.mean((0, 2), np.float32)).astype(np.uint8)
    return out


def _on_white(band: np.ndarray, alpha: np.ndarray) -> np.ndarray:
    share = alpha.astype(np.float32) / np.float32(255)
    share = share[..., None] if band.ndim == 3 else share
    return np.float32(255) * (1 - share) + share * band
