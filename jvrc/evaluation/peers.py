"""Other codecs, by Pillow and its plugins, for comparison on the same pictures."""

from collections.abc import Callable
from importlib import metadata
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features


class Peer(NamedTuple):
    """A codec: pictures are uint8 [H,W,3], qualities integers of Pillow's scale for it."""

    name: str
    title: str
    version: str  # of the library that codes
    mime: str
    qualities: tuple[int, ...]  # what is swept
    highest: int
    encode: Callable[[np.ndarray, int], bytes]


NAMES = ("jpeg", "webp", "avif", "jpegxl")


def peer(name: str) -> Peer:
    """The codec of that name (one of NAMES).

    Raises:
      ValueError: unknown, or this installation can't write it; the message has the remedy.
    """
    makers = dict(zip(NAMES, (_jpeg, _webp, _avif, _jpegxl), strict=True))
    if name not in makers:
        raise ValueError(f"against must be some of {', '.join(NAMES)}; got {name!r}")
    return makers[name]()


def decode(data: bytes) -> np.ndarray:
    """The picture, uint8 [H,W,3], that any of the codecs wrote."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def largest_within(encode: Callable[[int], bytes], limit: int, highest: int) -> bytes | None:
    """What encode gives at the highest quality in 0 … highest of at most `limit` bytes, by halving.

    None if even the lowest gives more.
    """
    best, low, high = None, 0, highest
    while low <= high:
        quality = (low + high) // 2
        data = encode(quality)
        if len(data) <= limit:
            best, low = data, quality + 1
        else:
            high = quality - 1
    return best


def _save(kind: str, **options: Any) -> Callable[[np.ndarray, int], bytes]:
    def encode(img: np.ndarray, quality: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(img).save(buffer, kind, quality=quality, **options)
        return buffer.getvalue()

    return encode


def _jpeg() -> Peer:
    qualities = (5, 10, 15, 20, 25, 30, 40, 50, 60, 70, 80, 85, 90, 95)
    version = f"libjpeg {features.version('jpg')}"
    encode = _save("JPEG", optimize=True, progressive=True)
    return Peer("jpeg", "JPEG", f"{version}, 4:2:0", "image/jpeg", qualities, 100, encode)


def _webp() -> Peer:
    qualities = (0, 5, 10, 20, 30, 40, 50, 60, 70, 80, 85, 90, 95)
    version = f"libwebp {features.version('webp')}, method 6"
    encode = _save("WEBP", method=6)
    return Peer("webp", "WebP", version, "image/webp", qualities, 100, encode)


def _avif() -> Peer:
    if not features.check("avif"):
        raise ValueError("avif needs Pillow's own AVIF: pip install 'pillow>=11.3'")
    qualities = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90)
    version = f"libavif {features.version('avif')}, speed 6, 4:2:0"
    encode = _save("AVIF", speed=6)
    return Peer("avif", "AVIF", version, "image/avif", qualities, 100, encode)


def _jpegxl() -> Peer:
    try:
        import pillow_jxl  # noqa: F401
    except ImportError as error:
        raise ValueError("jpegxl needs a plugin: pip install pillow-jxl-plugin") from error
    qualities = (5, 10, 20, 30, 40, 50, 60, 70, 80, 90, 95)
    version = f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}, effort 7"
    encode = _save("JXL", effort=7)
    return Peer("jpegxl", "JPEG XL", version, "image/jxl", qualities, 99, encode)
