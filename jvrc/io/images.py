"""Reading and writing images: files and objects to uint8 [H,W,3] RGB, and back into files.

Samples are taken as they are, without colour management: no ICC profile is applied or kept.
"""

import os
import struct
import warnings
from io import BytesIO
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from jvrc.io.files import write_bytes
from jvrc.io.picture import Picture

_JPEG = ("JPEG", {"quality": 95, "subsampling": "4:4:4"})
_TIFF = ("TIFF", {"compression": "tiff_deflate"})
# Suffix -> Pillow's name of the format, and options: lossless if the format can be.
_WRITABLE: dict[str, tuple[str, dict[str, Any]]] = {
    ".png": ("PNG", {}),
    ".jpg": _JPEG,
    ".jpeg": _JPEG,
    ".webp": ("WEBP", {"lossless": True}),
    ".ppm": ("PPM", {}),
    ".bmp": ("BMP", {}),
    ".tif": _TIFF,
    ".tiff": _TIFF,
}

_LISTED = {*_WRITABLE, ".avif"}  # suffixes that list_images finds
_MAX_16_BIT = 2**16 - 1

# What Pillow's readers raise on damaged files (OSError includes "truncated" and "broken data").
_DAMAGE = (OSError, SyntaxError, ValueError, EOFError, struct.error, Image.DecompressionBombError)


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
        if p.suffix.lower() in _LISTED and not p.name.startswith(".") and p.is_file()
    )
    if not found:
        raise ValueError(f"data must hold images ({', '.join(sorted(_LISTED))}); none in {root}")
    return found


def read_image(path: str | os.PathLike) -> np.ndarray:
    """Read an image file that Pillow can decode; return uint8 [H,W,3], upright.

    The EXIF orientation is applied; grey, palette and CMYK images become RGB; 16-bit grey is
    scaled to 8 bits. An alpha channel that is not fully opaque is composited on white, with a
    warning. Of an animation, the first frame.

    May be called from any thread. Pillow's warnings, of odd metadata or many pixels, are left as
    they are: `warnings.catch_warnings` would change the filters of the whole process.

    Raises:
      FileNotFoundError, IsADirectoryError, PermissionError: as their names say.
      ValueError: the file is not an image, or damaged.
    """
    path = Path(path)
    if not path.exists():
        raise FileNotFoundError(f"{path}: no such file")
    if path.is_dir():
        raise IsADirectoryError(f"{path}: is a folder, not an image")
    with path.open("rb") as file:
        img = _load(path, file)
    return _pil_to_rgb(img, name=str(path))


def as_rgb_uint8(img: Any) -> np.ndarray:
    """Return a NumPy, JAX or PIL image as a NumPy array, uint8 [H,W,3].

    PIL images of other modes are converted as by `read_image`; arrays are never converted.

    Raises:
      ValueError: not uint8, not [H,W,3], or empty.
    """
    if isinstance(img, Image.Image):
        return _pil_to_rgb(img, name="img")
    array = np.asarray(img)
    if array.dtype != np.uint8:
        raise ValueError(
            f"img must be uint8, got dtype {array.dtype}; values in [0, 1]: "
            "np.round(255 * img).astype(np.uint8)"
        )
    if array.ndim != 3 or array.shape[-1] != 3:
        raise ValueError(f"img must have shape [H,W,3], got {list(array.shape)}; {_remedy(array)}")
    if array.size == 0:
        raise ValueError(f"img must have at least one pixel, got shape {list(array.shape)}")
    return array


def as_picture(img: Any) -> Picture:
    """Return a PIL image, an array or a `Picture` as a `Picture`."""
    if isinstance(img, Picture):
        return img
    if not isinstance(img, Image.Image) and np.ndim(img) == 2:
        return Picture(as_rgb_uint8(np.repeat(np.asarray(img)[..., None], 3, axis=2))[..., 0])
    return Picture(as_rgb_uint8(img))


def write_image(path: str | os.PathLike, img: np.ndarray) -> None:
    """Write uint8 [H,W,3] in the format of the suffix; the file appears complete or not at all.

    PNG, WebP, PPM, BMP and TIFF are lossless; JPEG is written at quality 95, 4:4:4.

    Raises:
      ValueError: unknown suffix, not an image, or one that the format can't hold.
      OSError: the file can't be written.
    """
    kind, options = _format_of(path)
    buffer = BytesIO()
    try:
        Image.fromarray(as_rgb_uint8(img)).save(buffer, kind, **options)
    except (OSError, ValueError) as error:
        raise ValueError(f"{path}: can't be written as {kind}: {error}") from error
    write_bytes(path, buffer.getvalue())


def check_image_suffix(path: str | os.PathLike) -> None:
    """Raise ValueError unless `write_image` knows the suffix; for checks before long work."""
    _format_of(path)


def _load(path: Path, file: Any) -> Image.Image:
    try:
        img = Image.open(file)
        img.load()
        return ImageOps.exif_transpose(img)
    except UnidentifiedImageError as error:
        raise ValueError(f"{path}: not an image that Pillow can read") from error
    except _DAMAGE as error:
        raise ValueError(f"{path}: damaged or unsupported image: {_one_line(error)}") from error


def _pil_to_rgb(img: Image.Image, *, name: str) -> np.ndarray:
    if img.mode == "F":
        raise ValueError(f"{name}: floating-point samples; convert to 8 bits first")
    if img.mode.startswith("I"):
        grey = _grey16_to_8(np.asarray(img), name)
        rgb = np.repeat(grey[:, :, None], 3, axis=2)
    elif img.has_transparency_data:
        rgb = np.asarray(_on_white(img.convert("RGBA"), name))
    else:
        rgb = np.asarray(img.convert("RGB"))
    return as_rgb_uint8(rgb)


def _grey16_to_8(samples: np.ndarray, name: str) -> np.ndarray:
    if samples.size and (samples.min() < 0 or samples.max() > _MAX_16_BIT):
        raise ValueError(f"{name}: samples exceed 16 bits; convert to 8 bits first")
    ratio = _MAX_16_BIT // 255  # 257
    return ((samples.astype(np.uint32) + np.uint32(ratio // 2)) // ratio).astype(np.uint8)


def _on_white(rgba: Image.Image, name: str) -> Image.Image:
    if rgba.getextrema()[3][0] < 255:
        warnings.warn(f"{name}: transparent pixels are composited on white", stacklevel=4)
        rgba = Image.alpha_composite(Image.new("RGBA", rgba.size, "white"), rgba)
    return rgba.convert("RGB")


def _format_of(path: str | os.PathLike) -> tuple[str, dict[str, Any]]:
    suffix = Path(path).suffix.lower()
    if suffix not in _WRITABLE:
        known = ", ".join(_WRITABLE)
        raise ValueError(f"{path}: unknown image format {suffix!r}; possible suffixes: {known}")
    return _WRITABLE[suffix]


def _remedy(array: np.ndarray) -> str:
    if array.ndim == 2:
        return "grey: np.stack([img] * 3, axis=-1)"
    if array.ndim == 3 and array.shape[-1] == 4:
        return "with alpha: img[..., :3]"
    if array.ndim == 3 and array.shape[0] == 3:
        return "channels first: img.transpose(1, 2, 0)"
    if array.ndim == 4:
        return "a batch: pass one image at a time"
    return "pass one RGB image"


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
