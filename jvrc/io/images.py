"""Images from files, PIL images and arrays.

A `Picture` keeps alpha, colour profile and metadata (`read_picture`, `as_picture`); training and
measuring need RGB alone (`read_image`, `as_rgb_uint8`). Writing is in jvrc.io.writing.
"""

import os
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from io import BytesIO
from pathlib import Path
from typing import IO, Any

import numpy as np
from PIL import Image, UnidentifiedImageError

from jvrc.io.arrays import check_picture, picture_of_array, rgb_array
from jvrc.io.picture import Picture
from jvrc.io.reading import DAMAGE, one_line, picture_of
from jvrc.io.writing import (
    SUFFIXES,
    check_image_suffix,
    losses_of_writing,
    on_white,
    to_pil,
    write_image,
    write_picture,
)

__all__ = [
    "as_picture",
    "as_rgb_uint8",
    "check_image_suffix",
    "list_images",
    "losses_of_writing",
    "read_image",
    "read_picture",
    "to_pil",
    "write_image",
    "write_picture",
]


def list_images(folder: str | os.PathLike) -> list[Path]:
    """Return the image files at any depth below a folder, sorted; hidden files are left out.

    Raises:
      ValueError: not a folder, or no file in it has the suffix of an image.
    """
    root = Path(folder)
    if not root.is_dir():
        raise ValueError(f"data must be a folder of images; {str(root)!r} is not a folder")
    found = sorted(
        p
        for p in root.rglob("*")
        if p.suffix.lower() in SUFFIXES and not p.name.startswith(".") and p.is_file()
    )
    if not found:
        raise ValueError(f"data must hold images ({', '.join(sorted(SUFFIXES))}); none in {root}")
    return found


def read_picture(
    source: str | os.PathLike | IO[bytes], *, srgb: bool = False, max_pixels: int | None = None
) -> Picture:
    """Read an image file that Pillow can decode, with its alpha, profile and metadata.

    The EXIF orientation is applied. 16 bits a sample become 8, CMYK and CIELAB become sRGB,
    palettes RGB or grey; RGB whose channels agree everywhere becomes grey. Of an animation or of
    several pages the first is taken. `losses` of the picture says what was lost by that.

    May be called from any thread. Pillow's warnings, of odd metadata or many pixels, are left as
    they are: `warnings.catch_warnings` would change the filters of the whole process.

    Args:
      source: a path, or a binary file that is open for reading.
      srgb: convert to sRGB instead of carrying the profile.
      max_pixels: refuse larger images from their header, before they are decoded.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as their names say.
      ValueError: the file is not an image, damaged, or too large.
    """
    with _opened(source) as (name, file):
        img = _image_in(file, name, max_pixels)
        return picture_of(img, name=name, srgb=srgb, merge_grey=True)


def as_picture(img: Any) -> Picture:
    """Return a PIL image, an array or a `Picture` as a `Picture`.

    PIL images are converted as files are by `read_picture`, but RGB stays RGB. Arrays, of NumPy or
    JAX, are taken as they are: uint8 [H,W,3], [H,W] (grey) or [H,W,4] (with alpha).

    Raises:
      ValueError: img is none of these, or empty.
    """
    if isinstance(img, Image.Image):
        return picture_of(img, name="img")
    return check_picture(img) if isinstance(img, Picture) else picture_of_array(img)


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file that Pillow can decode; return uint8 [H,W,3], upright.

    Converted as by `read_picture`, in the colours of the file, grey to RGB. An alpha channel that
    is not fully opaque is composited on white, with a warning.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError, ValueError: as `read_picture`.
    """
    with _opened(path) as (name, file):
        return _rgb_of(picture_of(_image_in(file, name, None), name=name), name=name)


def as_rgb_uint8(img: Any) -> np.ndarray:
    """Return a NumPy, JAX or PIL image as a NumPy array, uint8 [H,W,3].

    PIL images of other modes are converted as by `read_image`; arrays are never converted.

    Raises:
      ValueError: not uint8, not [H,W,3], or empty.
    """
    if isinstance(img, Image.Image):
        return _rgb_of(picture_of(img, name="img"), name="img")
    return rgb_array(img)


@contextmanager
def _opened(source: str | os.PathLike | IO[bytes]) -> Iterator[tuple[str, IO[bytes]]]:
    """Yield a name for messages, and a file that can be rewound."""
    if hasattr(source, "read"):
        name = str(getattr(source, "name", "image"))
        yield name, source if source.seekable() else BytesIO(source.read())
        return
    path = Path(source)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not an image")
    with path.open("rb") as file:
        yield str(path), file


def _image_in(file: IO[bytes], name: str, max_pixels: int | None) -> Image.Image:
    """Return the image of a file, of which no more than the header was read."""
    try:
        img = Image.open(file)
    except UnidentifiedImageError as error:
        raise ValueError(f"{name}: not an image that Pillow can read") from error
    except DAMAGE as error:
        raise ValueError(f"{name}: damaged or unsupported image: {one_line(error)}") from error
    if max_pixels is not None and img.width * img.height > max_pixels:
        raise ValueError(
            f"{name}: an image of {img.height} x {img.width} pixels, more than the {max_pixels} "
            "that are allowed; as an uncompressed TIFF or PPM it may be of any size"
        )
    return img


def _rgb_of(picture: Picture, *, name: str) -> np.ndarray:
    """Return the pixels on white, uint8 [H,W,3]; warns where there was alpha."""
    if picture.alpha is not None:
        warnings.warn(f"{name}: transparent pixels are composited on white", stacklevel=3)
    pixels = on_white(picture).pixels
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels
