"""compress and decompress: images to whole files and back.

A file holds the pixels (jvrc.codec.image.encoder, jvrc.codec.image.decoder), alpha and metadata.
"""

import operator
import warnings
from typing import Any

import numpy as np

from jvrc.codec.alpha import alpha_of, has_alpha
from jvrc.codec.arguments import (
    check_bools,
    check_data,
    check_effort,
    check_masking,
    check_max_pixels,
    check_params,
)
from jvrc.codec.assembly import Assembly
from jvrc.codec.image.canvas import Canvas, checked_out, to_rgb
from jvrc.codec.image.decoder import decode_image
from jvrc.codec.image.encoder import PLAIN, encode_analysed
from jvrc.codec.rate_control.qstep_choice import with_psnr, within_bytes
from jvrc.codec.targets import Target, target_of
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.coding import packing
from jvrc.coding import thumbnail as thumbnails
from jvrc.coding.container import GREY, MAX_PIXELS, MAX_TILE_SIDE, UNLIMITED, Container
from jvrc.coding.metadata import THUMBNAIL, readable_metadata
from jvrc.coding.tile_grid import Area
from jvrc.frozen.model import FrozenModel
from jvrc.io.images import as_picture
from jvrc.io.picture import Picture
from jvrc.runtime.guards import without_guards

Crop = tuple[int, int, int, int]  # x, y, width, height in pixels


@without_guards
def compress(
    params: FrozenModel,
    img: Any,
    qstep: float | None = None,
    *,
    target_bytes: float | None = None,
    target_bpp: float | None = None,
    target_psnr: float | None = None,
    metadata: bool = True,
    patches: bool = True,
    effort: int = 0,
    masking: bool = False,
    progress: bool = False,
) -> bytes:
    """Compress an image.

    Args:
      params: a frozen model, from `jvrc.load`.
      img: a PIL image, a `Picture`, or uint8 [H,W,3], [H,W] (grey) or [H,W,4] (with alpha), of
        NumPy or JAX; any H, W >= 1. Of a PIL image, its current frame, turned upright. What can't
        be kept of it is said in warnings.
      qstep: the quantisation step Delta, 0.5 (best image) … 32 (fewest bytes); it is snapped to a
        grid of 0.54 %. Exactly one of qstep and the three targets must be given.
      target_bytes: find the finest qstep of which the file, with all that it holds, has at most so
        many bytes, or one whose file has 1 % less at most. If the image takes less at qstep 0.5,
        that is it.
      target_bpp: the same, in bits per pixel.
      target_psnr: find a qstep whose image has at least this PSNR in dB over the samples of R, G
        and B, or of grey, and exceeds it by at most 0.1 dB, as far as the grid allows.
      metadata: store EXIF, XMP and, of images of a megapixel and more, a thumbnail of at most 1 %
        of the bytes. The ICC profile is always stored: colours depend on it.
      patches: code blocks of 64x64 pixels without the model where it would restore them badly, or
        where that takes fewer bits: text, screens, noise (jvrc.codec.patches).
      effort: 0 … 3. Above 0, a search for symbols of y by which the loss that the model was trained
        for, rate and distortion of this image, comes out no worse than by those nearest to y: in
        jvrc2026 annealing of 8, 32 or 128 iterations (jvrc.codec.effort.annealing), otherwise
        rate-distortion-optimised quantisation of 12, 40 or 120 passes (jvrc.codec.effort.rdoq).
        Each goes through g_s and back. A target is approached without it and then met with it,
        which takes two to four such searches.
      masking: let that search weigh errors by what the eye sees of them, more where the image is
        smooth and less in texture (jvrc.codec.tiles.masking): a better image to the eye for the
        same bytes, a worse one by PSNR. Needs an effort of 1 or more.
      progress: show a bar on stderr during that search.

    Returns:
      A whole file: `decompress` needs nothing else but the same model.

    Raises:
      ValueError: an argument breaks one of these rules, or a target can't be reached: the message
        has the nearest value that can.
    """
    check_params(params)
    check_effort(effort)
    check_masking(masking, effort)
    check_bools(metadata=metadata, patches=patches, progress=progress)
    picture = _picture_of(img)
    target = target_of(
        picture.pixels.shape[:2],
        qstep=qstep,
        target_bytes=target_bytes,
        target_bpp=target_bpp,
        target_psnr=target_psnr,
    )
    options = PLAIN._replace(effort=effort, masking=masking, patches=patches, progress=progress)
    return _meet(target, params, picture, Assembly(picture, metadata=metadata), options)


@without_guards
def decompress(
    params: FrozenModel,
    data: bytes,
    *,
    crop: Crop | None = None,
    out: np.ndarray | None = None,
    max_pixels: int | None = None,
) -> np.ndarray:
    """Restore an image, or a part of it.

    Args:
      params: the model that compressed it, from `jvrc.load`.
      data: what `compress` returned.
      crop: (x, y, width, height) in pixels, by default all. Of the file's tiles, of at most
        1024x1024 pixels, only those that the crop or a margin of 128 pixels around it touches are
        decoded.
      out: takes the pixels and is returned: an array of the shape below, such as a np.memmap. So
        memory stays bounded however large the image is.
      max_pixels: refuse images of more pixels, padded to whole blocks of 64x64, before anything
        big is allocated; by default 2**27 (134 megapixels), with `out` there is no limit.

    Returns:
      uint8 [H,W,3], of a grey image [H,W], with alpha [H,W,4] (of grey too: R = G = B). A pixel of
      a crop differs by at most one from that of the whole image, by rounding.

    Raises:
      BitstreamError: data is damaged, truncated, foreign, too large or of another model. With a
        crop, damage within tiles that it does not need is not noticed.
      ValueError: the crop does not lie within the image, or `out` has another shape or type.
    """
    check_params(params)
    coded = _unpack(data, crop, max_pixels, bounded=out is not None)
    wanted, grey = _pixels_of(crop, coded), coded.channels == GREY
    alpha = has_alpha(coded, wanted)
    shape = (*wanted.size, *((4,) if alpha else () if grey else (3,)))
    canvas = Canvas(shape, grey, None if out is None else checked_out(out, shape))
    decode_image(params, coded, wanted=wanted, out=canvas)
    if alpha:
        alpha_of(coded, wanted, out=canvas.array[..., 3])
    return canvas.array


@without_guards
def decompress_picture(
    params: FrozenModel,
    data: bytes,
    *,
    crop: Crop | None = None,
    max_pixels: int | None = None,
) -> Picture:
    """Restore an image with its alpha, colour profile and metadata; otherwise as `decompress`."""
    check_params(params)
    coded = _unpack(data, crop, max_pixels)
    beside, losses = readable_metadata(coded.sections)
    wanted, grey = _pixels_of(crop, coded), coded.channels == GREY
    canvas = Canvas(wanted.size if grey else (*wanted.size, 3), grey)
    decode_image(params, coded, wanted=wanted, out=canvas)
    return Picture(canvas.array, alpha_of(coded, wanted), *beside, tuple(losses))


def thumbnail(data: bytes) -> np.ndarray | None:
    """Return the thumbnail of a compressed image, which needs no model.

    Args:
      data: what `compress` returned.

    Returns:
      uint8 [h,w,3] of at most 256 pixels a side, in the colours of the file's ICC profile; None if
      the file has none, as those of small images.

    Raises:
      BitstreamError: data is damaged, truncated or foreign. Damage within tiles is not noticed.
    """
    check_data(data)
    sections = packing.unpack_lazily(bytes(data), max_pixels=UNLIMITED).sections
    found = [payload for kind, payload in sections if kind == THUMBNAIL]
    return thumbnails.decode(found[0]) if found else None


def _meet(
    target: Target,
    params: FrozenModel,
    picture: Picture,
    assembly: Assembly,
    options: EncoderOptions,
) -> bytes:
    """Return the file that meets a target."""
    reused = target.qstep_code is None
    analysed = AnalysedImage(params, to_rgb(picture.pixels), MAX_TILE_SIDE, reused=reused)
    if target.bytes is not None:
        return within_bytes(analysed, target.bytes, assembly, options)
    if target.psnr is not None:
        return with_psnr(analysed, target.psnr, picture.pixels, assembly, options)
    return assembly(encode_analysed(analysed, target.qstep_code, options))


def _picture_of(img: Any) -> Picture:
    """Return an image as a picture; warns of what a PIL image has lost by that."""
    picture = as_picture(img)
    if not isinstance(img, Picture):
        for line in picture.losses:
            warnings.warn(f"img: {line}", stacklevel=4)  # the caller's, outside of without_guards
    return picture


def _unpack(
    data: bytes, crop: Crop | None, max_pixels: int | None, *, bounded: bool = False
) -> Container:
    """Return the contents of a file; of the whole image, all tiles have been checked.

    bounded: memory is, so there is no limit by default, and tiles are not held.
    """
    check_data(data)
    data = bytes(data)
    check_max_pixels(max_pixels)
    if max_pixels is None:
        max_pixels = UNLIMITED if bounded else MAX_PIXELS
    if crop is None and not bounded:
        return packing.unpack(data, max_pixels=max_pixels)
    coded = packing.unpack_lazily(data, max_pixels=max_pixels)
    if crop is None:
        for _ in coded.tiles:  # each is checked
            pass
    return coded


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
