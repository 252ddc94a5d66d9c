"""Other codecs, through Pillow, its plugins and libvips, for comparison on the same images."""

from collections.abc import Callable
from functools import partial
from importlib import metadata
from io import BytesIO
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, features

_JPEG_QUALITIES = (5, 10, 20, 30, 50, 70, 85, 95)


class Peer(NamedTuple):
    """A codec. Images are uint8 [H,W,3], qualities integers of Pillow's scale for the codec."""

    name: str
    title: str
    version: str  # of the library that codes
    mime: str
    qualities: tuple[int, ...]  # those to measure
    highest: int
    encode: Callable[[np.ndarray, int], bytes]

    def encode_within(self, img: np.ndarray, limit: int) -> bytes | None:
        """Return the file of highest quality in 0 ... highest that has at most `limit` bytes.

        Found by bisection, for which bytes must rise with quality. None if even quality 0 needs
        more.
        """
        best, low, high = None, 0, self.highest
        while low <= high:
            quality = (low + high) // 2
            data = self.encode(img, quality)
            if len(data) <= limit:
                best, low = data, quality + 1
            else:
                high = quality - 1
        return best


def jpeg(subsampling: str = "4:2:0", *, name: str = "jpeg", title: str = "JPEG") -> Peer:
    """Return progressive JPEG with a chroma subsampling, "4:2:0" or "4:4:4".

    By libjpeg-turbo, the library in Pillow's wheels.
    """
    version = f"libjpeg {features.version('jpg')}, {subsampling}"
    encode = _encoder("JPEG", subsampling=subsampling, optimize=True, progressive=True)
    return Peer(name, title, version, "image/jpeg", _JPEG_QUALITIES, 100, encode)


def peer(name: str) -> Peer:
    """Return the codec of a name among NAMES.

    Raises:
      ValueError: unknown, or this installation can't write it; the message has the remedy.
    """
    if name not in _PEERS:
        raise ValueError(f"against must be some of {', '.join(NAMES)}; got {name!r}")
    return _PEERS[name]()


def decode(data: bytes) -> np.ndarray:
    """Return the image, uint8 [H,W,3], of a file of any of these codecs."""
    return np.asarray(Image.open(BytesIO(data)).convert("RGB"))


def _encoder(kind: str, **options: Any) -> Callable[[np.ndarray, int], bytes]:
    def encode(img: np.ndarray, quality: int) -> bytes:
        buffer = BytesIO()
        Image.fromarray(img).save(buffer, kind, quality=quality, **options)
        return buffer.getvalue()

    return encode


def _mozjpeg() -> Peer:
    """Return progressive JPEG by mozjpeg, with the options of its own tool.

    4:2:0 below quality 90, else 4:4:4. By libvips, whose wheels have mozjpeg.
    """
    try:
        import pyvips

        found = _has_mozjpeg()
    except (ImportError, OSError):  # no package, no library
        found = False
    if not found:
        raise ValueError('mozjpeg needs a libvips that has it: pip install "pyvips[binary]"')
    version = f"mozjpeg of libvips {pyvips.version(0)}.{pyvips.version(1)}"
    tools = {"trellis_quant": True, "overshoot_deringing": True, "optimize_scans": True}
    encode = partial(_by_libvips, interlace=True, quant_table=3, **tools)
    return Peer("mozjpeg", "mozjpeg", version, "image/jpeg", _JPEG_QUALITIES, 100, encode)


def _has_mozjpeg() -> bool:
    """Return whether libvips quantises by a trellis, an option that other libraries ignore."""
    img = np.random.default_rng(0).integers(0, 256, (64, 64, 3), dtype=np.uint8)
    return _by_libvips(img, 50) != _by_libvips(img, 50, trellis_quant=True)


def _by_libvips(img: np.ndarray, quality: int, **options: Any) -> bytes:
    import pyvips

    coded = pyvips.Image.new_from_array(img)
    return coded.jpegsave_buffer(Q=quality, keep="none", optimize_coding=True, **options)


def _webp() -> Peer:
    qualities = (0, 10, 30, 50, 70, 80, 90, 95)
    version = f"libwebp {features.version('webp')}, method 6"
    encode = _encoder("WEBP", method=6)
    return Peer("webp", "WebP", version, "image/webp", qualities, 100, encode)


def _avif(*, name: str = "avif", title: str = "AVIF", speed: int = 6, tune: str = "psnr") -> Peer:
    """Return AVIF by libaom, 4:4:4, at one of its speeds, 0 (slowest) … 10.

    tune: what libaom optimises, "psnr" or "iq", for the eye, libavif's default. One thread, since
    the bytes depend on the number of threads.
    """
    if not features.check("avif"):
        raise ValueError(f'{name} needs the AVIF of Pillow itself: pip install "pillow>=11.3"')
    qualities = (5, 10, 20, 40, 60, 80, 90) if speed else (5, 20, 40, 60, 80)
    version = f"libavif {features.version('avif')}, speed {speed}, 4:4:4, tune {tune}"
    options = {"codec": "aom", "advanced": {"tune": tune}, "max_threads": 1}
    encode = _encoder("AVIF", speed=speed, subsampling="4:4:4", **options)
    return Peer(name, title, version, "image/avif", qualities, 100, encode)


def _jpegxl() -> Peer:
    try:
        import pillow_jxl  # noqa: F401
    except ImportError as error:
        raise ValueError("jpegxl needs a plugin: pip install pillow-jxl-plugin") from error
    qualities = (5, 20, 40, 60, 80, 90, 95)
    version = f"pillow-jxl-plugin {metadata.version('pillow-jxl-plugin')}, effort 7"
    encode = _encoder("JXL", effort=7)
    return Peer("jpegxl", "JPEG XL", version, "image/jxl", qualities, 99, encode)


_PEERS = {
    "jpeg": jpeg,
    "jpeg444": partial(jpeg, "4:4:4", name="jpeg444", title="JPEG 4:4:4"),
    "mozjpeg": _mozjpeg,
    "webp": _webp,
    "avif": _avif,
    "avif-slow": partial(_avif, name="avif-slow", title="AVIF, speed 0", speed=0),
    "avif-iq": partial(_avif, name="avif-iq", title="AVIF, tune iq", tune="iq"),
    "jpegxl": _jpegxl,
}
NAMES = tuple(_PEERS)
