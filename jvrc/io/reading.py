"""PIL images to pictures: upright, 8 bits a sample, RGB or grey, with alpha, profile and metadata.

An image is decoded (`_load`), then its mode is converted (`_converted`), then its colours
(`_coloured`).
"""

import struct
from typing import NamedTuple

import numpy as np
from PIL import Image

from jvrc.io import depth, profiles
from jvrc.io.metadata import Metadata, metadata_of, orientation_of
from jvrc.io.picture import Picture

# What Pillow's readers raise on damaged files (OSError includes "truncated" and "broken data").
DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)
_SEVERAL = {"MPO": "picture", "TIFF": "page", "PSD": "layer"}  # what a file has more than one of
_SAMPLES_PER_PIXEL = 277  # a tag of TIFF
_GREY_MODES = ("1", "L", "LA", "La")
TURNS = {  # orientation of EXIF -> what turns the image upright
    2: Image.Transpose.FLIP_LEFT_RIGHT,
    3: Image.Transpose.ROTATE_180,
    4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE,
    6: Image.Transpose.ROTATE_270,
    7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}


class _Loaded(NamedTuple):
    """An image whose file has been decoded."""

    img: Image.Image  # upright
    bits: int  # of a sample in the file
    inverted: bool  # 0 is white
    low: np.ndarray | None  # the samples' lower bytes, uint8 [H,W,C], where img has the upper ones
    beside: Metadata
    losses: tuple[str, ...]


class _Samples(NamedTuple):
    """Samples of 8 bits, in the colours of the file."""

    pixels: np.ndarray  # uint8 [H,W,3] or [H,W]
    alpha: np.ndarray | None = None
    icc: bytes = b""
    losses: tuple[str, ...] = ()


def picture_of(
    img: Image.Image, *, name: str, srgb: bool = False, merge_grey: bool = False
) -> Picture:
    """Return the current frame of a PIL image as a picture; `name` is for messages.

    srgb: convert to sRGB and carry no profile. merge_grey: RGB whose channels agree becomes grey.

    Raises:
      ValueError: the image is damaged, or of floating-point or more than 16-bit samples.
    """
    try:
        loaded = _load(img)
    except DAMAGE as error:
        raise ValueError(f"{name}: damaged or unsupported image: {one_line(error)}") from error
    try:
        samples = _converted(loaded)
    except ValueError as error:
        raise ValueError(f"{name}: {error}") from error
    if loaded.img.mode in ("P", "PA") or merge_grey:
        samples = samples._replace(pixels=_merged(samples.pixels))
    samples = _coloured(samples, srgb=srgb)
    losses = (*loaded.losses, *samples.losses, *loaded.beside.losses)
    return Picture(*samples[:3], loaded.beside.exif, loaded.beside.xmp, losses)


def one_line(error: Exception) -> str:
    """Return the message of an error of Pillow without line breaks, never empty."""
    return " ".join(str(error).split()) or type(error).__name__


def _load(img: Image.Image) -> _Loaded:
    """Decode an opened image, turn it upright and take its metadata; raises one of DAMAGE."""
    losses = lost_frames(img) + _lost_channels(img)
    bits = depth.bits_of(img)
    low = depth.low_bytes(img) if bits == 16 else None
    img.load()
    if bits > 8:
        losses += (f"{bits} bits a sample become 8",)
    beside, upright = metadata_of(img), img
    if (turn := TURNS.get(orientation_of(img))) is not None:
        upright = img.transpose(turn)
        low = None if low is None else np.asarray(Image.fromarray(low).transpose(turn))
    return _Loaded(upright, bits, depth.is_inverted(img), low, beside, losses)


def lost_frames(img: Image.Image) -> tuple[str, ...]:
    """Return a line if the file of an image has further frames or pages."""
    count = getattr(img, "n_frames", 1) - 1
    if count < 1:
        return ()
    kind = _SEVERAL.get(img.format, "frame")
    what = f"{kind} is" if count == 1 else f"{kind}s are"
    return (f"{count} further {what} left out",)


def _lost_channels(img: Image.Image) -> tuple[str, ...]:
    """Return a line if a TIFF file has samples of a pixel that Pillow leaves out."""
    tags = getattr(img, "tag_v2", {})
    count = tags.get(_SAMPLES_PER_PIXEL, 1) - len(img.getbands())
    if img.format != "TIFF" or count < 1:
        return ()
    what = "channel is" if count == 1 else "channels are"
    return (f"{count} further {what} left out",)


def _converted(loaded: _Loaded) -> _Samples:
    """Return the samples of an image of any mode; ValueError if that can't be."""
    img, icc = loaded.img, loaded.beside.icc
    if img.mode == "F":
        raise ValueError("floating-point samples; convert to 8 bits first")
    if img.mode.startswith("I"):
        return _deep_grey(loaded)
    if img.mode == "CMYK":
        return _from_cmyk(img, icc)
    if img.mode == "LAB":
        return _Samples(np.asarray(img.convert("RGB")), losses=("CIELAB is converted to sRGB",))
    if loaded.low is not None:
        return _deep_colour(loaded)
    return _split(img)._replace(icc=icc)


def _from_cmyk(img: Image.Image, icc: bytes) -> _Samples:
    """Return CMYK as sRGB."""
    converted = profiles.to_srgb(img, icc) if profiles.mode_of(icc) == "CMYK" else None
    if converted is None:
        lines = ("CMYK is converted to sRGB by a plain formula, without a profile",)
        return _Samples(np.asarray(img.convert("RGB")), losses=lines)
    return _Samples(np.asarray(converted), losses=("CMYK is converted to sRGB with its profile",))


def _split(img: Image.Image) -> _Samples:
    """Return the samples and the alpha of an image of 8 bits."""
    mode = "L" if img.mode in _GREY_MODES else "RGB"
    if not img.has_transparency_data:
        return _Samples(np.asarray(img.convert(mode)))
    if img.mode == "La":  # which Pillow converts to nothing else
        img = img.convert("LA")
    both = np.asarray(img.convert(mode + "A"))
    pixels = both[..., 0] if mode == "L" else both[..., :3]
    return _Samples(np.ascontiguousarray(pixels), _unless_opaque(both[..., -1]))


def _deep_grey(loaded: _Loaded) -> _Samples:
    """Return the samples of grey of more than 8 bits."""
    if loaded.bits > 16:
        raise ValueError(f"samples of {loaded.bits} bits; convert to 8 bits first")
    values, key = np.asarray(loaded.img), loaded.img.info.get("transparency")
    white = 2**loaded.bits - 1 if 8 < loaded.bits < 16 else 2**16 - 1
    alpha = None if key is None else _keyed(values == key)
    found = depth.grey_to_8_bits(values, white)
    found = np.uint8(255) - found if loaded.inverted else found
    return _Samples(found, alpha, loaded.beside.icc)


def _deep_colour(loaded: _Loaded) -> _Samples:
    """Return the samples of RGB or RGBA of 16 bits."""
    high, low = np.asarray(loaded.img), loaded.low
    key, alpha = loaded.img.info.get("transparency"), None
    found = depth.to_8_bits(high, low)
    if high.shape[2] == 4:
        alpha = _unless_opaque(found[..., 3])
    elif key is not None:
        upper, lower = np.divmod(np.array(key), 256)
        same = (high == upper[None, None]) & (low == lower[None, None])
        alpha = _keyed(same.all(axis=2))
    return _Samples(np.ascontiguousarray(found[..., :3]), alpha, loaded.beside.icc)


def _coloured(samples: _Samples, *, srgb: bool) -> _Samples:
    """Return the samples with a profile that fits them, or in sRGB without one."""
    if not samples.icc:
        return samples
    if why := profiles.misfit(samples.icc, grey=samples.pixels.ndim == 2):
        return _without_profile(samples, why)
    if not srgb:
        return samples
    pixels = profiles.pixels_to_srgb(samples.pixels, samples.icc)
    if pixels is None:
        return _without_profile(samples, "is damaged")
    return samples._replace(pixels=pixels, icc=b"")


def _without_profile(samples: _Samples, why: str) -> _Samples:
    losses = (*samples.losses, f"the ICC profile {why}: it is left out")
    return samples._replace(icc=b"", losses=losses)


def _merged(pixels: np.ndarray) -> np.ndarray:
    """Return RGB whose three channels agree as grey, other pixels as they are."""
    if pixels.ndim == 2:
        return pixels
    for rows in (pixels[:1], pixels):  # the first row of most tells
        if np.any(rows[..., :2] != rows[..., 1:]):
            return pixels
    return np.ascontiguousarray(pixels[..., 0])


def _keyed(transparent: np.ndarray) -> np.ndarray | None:
    return _unless_opaque(np.where(transparent, np.uint8(0), np.uint8(255)))


def _unless_opaque(alpha: np.ndarray) -> np.ndarray | None:
    return None if np.all(alpha == 255) else np.ascontiguousarray(alpha)
