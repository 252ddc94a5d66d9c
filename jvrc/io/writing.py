"""Pictures into image files: what a format can't hold is converted or left out, with a line.

PNG, TIFF and WebP hold all that a picture has; JPEG and AVIF are lossy; PPM, PGM and BMP hold
samples alone.
"""

import os
import struct
from io import BytesIO
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image, PngImagePlugin, features

from jvrc.io import profiles
from jvrc.io.files import write_bytes
from jvrc.io.metadata import PREFIX, descriptive_exif
from jvrc.io.picture import MAX_METADATA, Picture

_XMP_TAG = 700  # of TIFF
_JPEG_SEGMENT = 65000  # bytes of EXIF or XMP that fit into one


# What Pillow's writers raise; the last two, of EXIF data that are damaged.
_FAILURES = (OSError, ValueError, SyntaxError, struct.error, TypeError)


class _Format(NamedTuple):
    """A file format: its name in Pillow, options, and what it holds beside RGB and grey."""

    name: str
    options: dict[str, Any]  # lossless if the format can be
    alpha: bool = False
    profile: bool = False
    metadata: int = 0  # bytes of EXIF, and of XMP, that it can hold


_EVERYTHING = (True, True, MAX_METADATA)
_JPEG = _Format("JPEG", {"quality": 95, "subsampling": "4:4:4"}, False, True, _JPEG_SEGMENT)
_TIFF = _Format("TIFF", {"compression": "tiff_deflate"}, *_EVERYTHING)
_PPM = _Format("PPM", {})
_WRITABLE = {
    ".png": _Format("PNG", {}, *_EVERYTHING),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": _Format("WEBP", {"lossless": True, "exact": True}, *_EVERYTHING),
    ".avif": _Format("AVIF", {"quality": 95, "subsampling": "4:4:4"}, *_EVERYTHING),
    ".ppm": _PPM,
    ".pgm": _PPM,
    ".bmp": _Format("BMP", {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}

SUFFIXES = tuple(_WRITABLE)  # of files that can be written


def write_picture(path: str | os.PathLike, picture: Picture) -> tuple[str, ...]:
    """Write a picture in the format of the suffix; the file appears complete or not at all.

    PNG, WebP, TIFF, PPM, PGM and BMP keep the samples exactly; JPEG is written at quality 95,
    4:4:4, AVIF likewise.

    Returns:
      What `losses_of_writing` says: a line for each thing that the format could not hold.

    Raises:
      ValueError: unknown suffix, or a picture that the format can't hold.
      OSError: the file can't be written.
    """
    data, losses = encode_picture(path, picture)
    write_bytes(path, data)
    return losses


def encode_picture(path: str | os.PathLike, picture: Picture) -> tuple[bytes, tuple[str, ...]]:
    """Return (the file, the lines) of `write_picture`, without writing."""
    fitted, form = _fitted(path, picture), _format_of(path)
    try:
        return _encoded(fitted, form), fitted.losses
    except _FAILURES as error:
        if not fitted.exif:
            raise ValueError(f"{path}: can't be written as {form.name}: {error}") from error
    # TIFF and AVIF take EXIF data apart, which may be damaged.
    lost = f"{form.name} can't hold the EXIF data, which are damaged: left out"
    rest, others = encode_picture(path, picture._replace(exif=b""))
    return rest, (*others, lost)


def _encoded(picture: Picture, form: _Format) -> bytes:
    """Return a file; raises one of _FAILURES."""
    buffer = BytesIO()
    to_pil(picture).save(buffer, form.name, **(form.options | _beside(picture, form.name)))
    return buffer.getvalue()


def write_image(path: str | os.PathLike, img: np.ndarray) -> None:
    """Write uint8 [H,W,3], RGB, or [H,W], grey, alone; otherwise as `write_picture`."""
    write_picture(path, Picture(img))


def losses_of_writing(path: str | os.PathLike, picture: Picture) -> tuple[str, ...]:
    """Return what `write_picture` would convert or leave out, a line each, without writing.

    Raises:
      ValueError: as `write_picture`.
    """
    return _fitted(path, picture).losses


def check_image_suffix(path: str | os.PathLike) -> None:
    """Raise ValueError unless files of the suffix can be written; for checks before long work."""
    _format_of(path)


def to_pil(picture: Picture) -> Image.Image:
    """Return a PIL image of mode L, LA, RGB or RGBA, with profile, EXIF and XMP in its `info`.

    Grey with a profile for RGB becomes RGB of three equal channels: the profile would not fit.
    """
    img = Image.fromarray(picture.pixels)
    if img.mode == "L" and picture.icc and profiles.mode_of(picture.icc) != "L":
        img = img.convert("RGB")
    if picture.alpha is not None:
        img.putalpha(Image.fromarray(picture.alpha))
    found = {"icc_profile": picture.icc, "exif": picture.exif and PREFIX + picture.exif}
    img.info = {key: value for key, value in (found | {"xmp": picture.xmp}).items() if value}
    return img


def on_white(picture: Picture) -> Picture:
    """Return a picture without alpha: what lies behind the transparent pixels is white."""
    if picture.alpha is None:
        return picture
    img = to_pil(Picture(picture.pixels, picture.alpha)).convert("RGBA")
    opaque = Image.alpha_composite(Image.new("RGBA", img.size, "white"), img)
    mode = "L" if picture.pixels.ndim == 2 else "RGB"
    return picture._replace(pixels=np.asarray(opaque.convert("RGB").convert(mode)), alpha=None)


def _fitted(path: str | os.PathLike, picture: Picture) -> Picture:
    """Return what the format of a path can hold of a picture; losses: what has changed for that."""
    form, losses = _format_of(path), []
    if Path(path).suffix.lower() == ".pgm" and picture.pixels.ndim == 3:
        raise ValueError(f"{path}: PGM holds grey only; write a colour image as .ppm or .png")
    if picture.alpha is not None and not form.alpha:
        losses.append(f"{form.name} holds no transparency: it is composited on white")
        picture = on_white(picture)
    if picture.icc and not form.profile:
        losses.append(f"{form.name} holds no colour profile: the image is converted to sRGB")
        picture = _in_srgb(picture)
    for field in ("exif", "xmp"):
        if (length := len(getattr(picture, field))) > form.metadata:
            size = f"{length} bytes of " if form.metadata else ""
            losses.append(f"{form.name} can't hold {size}{field.upper()}: left out")
            picture = picture._replace(**{field: b""})
    if form.name == "PNG" and not _is_text(picture.xmp):
        losses.append("PNG holds XMP in UTF-8 alone: left out")
        picture = picture._replace(xmp=b"")
    return picture._replace(losses=tuple(losses))


def _is_text(data: bytes) -> bool:
    """Return whether bytes are UTF-8."""
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _in_srgb(picture: Picture) -> Picture:
    converted = profiles.pixels_to_srgb(picture.pixels, picture.icc)
    pixels = picture.pixels if converted is None else converted
    return picture._replace(pixels=pixels, icc=b"")


def _beside(picture: Picture, name: str) -> dict[str, Any]:
    """Return the arguments of `PIL.Image.save` for the profile and the metadata."""
    found: dict[str, Any] = {}
    if picture.icc:
        found["icc_profile"] = picture.icc
    if name == "TIFF":  # Pillow writes the tables of EXIF to files without compression alone
        raw = {"compression": "raw"} if picture.exif else {}
        return found | {"tiffinfo": _tags(picture)} | raw
    if picture.exif:
        found["exif"] = PREFIX + picture.exif
    if picture.xmp and name == "PNG":
        found["pnginfo"] = PngImagePlugin.PngInfo()
        found["pnginfo"].add_itxt("XML:com.adobe.xmp", picture.xmp.decode())
    elif picture.xmp:
        found["xmp"] = picture.xmp
    return found


def _tags(picture: Picture) -> Image.Exif:
    """Return EXIF and XMP as tags of a TIFF file."""
    exif, tags = Image.Exif(), Image.Exif()
    exif.load(PREFIX + picture.exif)
    tags.load(descriptive_exif(exif))
    if picture.xmp:
        tags[_XMP_TAG] = picture.xmp
    return tags


def _format_of(path: str | os.PathLike) -> _Format:
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        known = ", ".join(_WRITABLE)
        raise ValueError(f"{path}: unknown image format {suffix!r}; possible suffixes: {known}")
    if suffix == ".avif" and not features.check("avif"):
        raise ValueError(f"{path}: this Pillow can't write AVIF; upgrade it, or write .webp")
    return _WRITABLE[suffix]
