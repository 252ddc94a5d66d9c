"""compress and decompress: images to whole files and back.

A file holds the pixels (jvrc.codec.encoder, jvrc.codec.decoder), alpha and metadata.
"""

import operator
import warnings
from typing import Any

import numpy as np

from jvrc.codec.alpha import alpha_of, with_alpha
from jvrc.codec.decoder import decode_image
from jvrc.codec.encoder import encode_image
from jvrc.codec.objective import check_effort
from jvrc.coding import packing
from jvrc.coding.container import GREY, MAX_PIXELS, RGB, Container
from jvrc.coding.metadata import read_metadata, write_metadata
from jvrc.coding.tile_grid import Area
from jvrc.frozen.model import FrozenModel
from jvrc.io.images import as_picture
from jvrc.io.picture import Picture
from jvrc.qstep import qstep_code_of

Crop = tuple[int, int, int, int]  # x, y, width, height in pixels


def compress(
    params: FrozenModel,
    img: Any,
    qstep: float | None = None,
    *,
    metadata: bool = True,
    patches: bool = True,
    effort: int = 0,
    progress: bool = False,
) -> bytes:
    """Compress an image.

    Args:
      params: a frozen model, from `jvrc.load`.
      img: a PIL image, a `Picture`, or uint8 [H,W,3], [H,W] (grey) or [H,W,4] (with alpha), of
        NumPy or JAX; any H, W >= 1. Of a PIL image, its current frame, turned upright. What can't
        be kept of it is said in warnings.
      qstep: the quantisation step Delta, 0.5 (best image) … 32 (fewest bytes); it is snapped to a
        grid of 0.54 %.
      metadata: store EXIF and XMP. The ICC profile is always stored: colours depend on it.
      patches: code blocks of 64x64 pixels without the model where it would restore them badly, or
        where that takes fewer bits: text, screens, noise (jvrc.codec.patches).
      effort: 0 … 3. Above 0, a search for symbols of y by which the loss that the model was trained
        for, rate and distortion of this image, comes out no worse: in jvrc2026 annealing of 8, 32
        or 128 iterations (jvrc.codec.annealing), otherwise rate-distortion-optimised quantisation
        of 12, 40 or 120 passes (jvrc.codec.rdoq). Each goes through g_s and back.
      progress: show a bar on stderr during that search.

    Returns:
      A whole file: `decompress` needs nothing else but the same model.

    Raises:
      ValueError: img, qstep or effort breaks one of these rules.
    """
    check_effort(effort)
    picture, qstep_code = _picture_of(img), qstep_code_of(qstep)
    options = {"effort": effort, "patches": patches, "progress": progress}
    coded = encode_image(params, _to_rgb(picture.pixels), qstep_code, **options)
    return packing.pack(_with_rest(coded, picture, metadata))


def decompress(
    params: FrozenModel,
    data: bytes,
    *,
    crop: Crop | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Restore an image, or a part of it.

    Args:
      params: the model that compressed it, from `jvrc.load`.
      data: what `compress` returned.
      crop: (x, y, width, height) in pixels, by default all. Of the file's tiles, of at most
        1024x1024 pixels, only those that the crop or a margin of 128 pixels around it touches are
        decoded.
      max_pixels: refuse larger images, before anything big is allocated.

    Returns:
      uint8 [H,W,3], of a grey image [H,W], with alpha [H,W,4] (of grey too: R = G = B). A pixel of
      a crop differs by at most one from that of the whole image, by rounding.

    Raises:
      BitstreamError: data is damaged, truncated, foreign, too large or of another model. With a
        crop, damage within tiles that it does not need is not noticed.
      ValueError: the crop does not lie within the image.
    """
    pixels, alpha = _decode(params, _unpack(data, crop, max_pixels), crop)
    if alpha is None:
        return pixels
    return np.concatenate([_to_rgb(pixels), alpha[..., None]], axis=2)


def decompress_picture(
    params: FrozenModel, data: bytes, *, crop: Crop | None = None, max_pixels: int = MAX_PIXELS
) -> Picture:
    """Restore an image with its alpha, colour profile and metadata; otherwise as `decompress`."""
    coded = _unpack(data, crop, max_pixels)
    beside = read_metadata(coded.sections)
    return Picture(*_decode(params, coded, crop), *beside)


def _picture_of(img: Any) -> Picture:
    """Return an image as a picture; warns of what a PIL image has lost by that."""
    picture = as_picture(img)
    if not isinstance(img, Picture):
        for line in picture.losses:
            warnings.warn(f"img: {line}", stacklevel=3)
    return picture


def _with_rest(coded: Container, picture: Picture, metadata: bool) -> Container:
    """Return the contents of a file with all of a picture that is not in its streams."""
    exif, xmp = (picture.exif, picture.xmp) if metadata else (b"", b"")
    channels = GREY if picture.pixels.ndim == 2 else RGB
    sections = write_metadata(picture.icc, exif, xmp)
    return with_alpha(coded._replace(channels=channels, sections=sections), picture.alpha)


def _unpack(data: bytes, crop: Crop | None, max_pixels: int) -> Container:
    unpack = packing.unpack if crop is None else packing.unpack_lazily
    return unpack(data, max_pixels=max_pixels)


def _decode(
    params: FrozenModel, coded: Container, crop: Crop | None
) -> tuple[np.ndarray, np.ndarray | None]:
    """Return the pixels of a file, RGB or grey, and their alpha if it has any."""
    wanted = _pixels_of(crop, coded)
    pixels = decode_image(params, coded, wanted=wanted)
    return _to_grey(pixels) if coded.channels == GREY else pixels, alpha_of(coded, wanted)


def _to_rgb(pixels: np.ndarray) -> np.ndarray:
    """Return uint8 [H,W,3] of grey or RGB."""
    return np.repeat(pixels[..., None], 3, axis=2) if pixels.ndim == 2 else pixels


def _to_grey(rgb: np.ndarray) -> np.ndarray:
    """Return the rounded mean of the three channels (FORMAT.md, section 7)."""
    return ((rgb.sum(axis=2, dtype=np.uint16) + np.uint16(1)) // np.uint16(3)).astype(np.uint8)


def _pixels_of(crop: Crop | None, coded: Container) -> Area:
    """Return the pixels of a crop, by default the image; ValueError unless it has them."""
    height, width = coded.height, coded.width
    if crop is None:
        return Area(0, 0, height, width)
    try:
        x, y, columns, rows = map(operator.index, crop)
    except (TypeError, ValueError):
        x, y, columns, rows = -1, -1, -1, -1
    found = Area(y, x, y + rows, x + columns)
    if not (0 <= y < found.bottom <= height and 0 <= x < found.right <= width):
        raise ValueError(
            f"crop must be (x, y, width, height) within the image's {width} x {height} "
            f"pixels; got {crop}"
        )
    return found
