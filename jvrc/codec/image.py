"""compress and decompress: whole images to bytes and back, with a frozen model.

    image -> g_a -> y of each tile -> jvrc.codec.tiles -> its section of the file
    file -> jvrc.codec.tiles -> y^ of each tile -> g_s -> image

An image is coded in tiles of at most 1024x1024 pixels, one after another: memory stays bounded, and
a region needs only the tiles around it. What lies between z^, y and the y stream depends on the
architecture and is a latent coder's (jvrc.codec.latent_coder). Whatever chooses the tables of
symbols is computed on integers on both sides, since one scale index that differs ruins the stream:
a stream decodes to the same integers on every machine.
"""

import operator
from collections.abc import Iterator
from typing import Any

import numpy as np
from tqdm import tqdm

from jvrc.codec.coders import coder_of
from jvrc.codec.latent_coder import CoderOf, Symbols
from jvrc.codec.latents import analyse_image
from jvrc.codec.objective import check_effort
from jvrc.codec.regions import Y_UNIT, analyse_area, synthesise_area
from jvrc.codec.scene import scene_of
from jvrc.codec.tiles import (
    QuantisedTile,
    ReconstructedTiles,
    decode_tile,
    encode_tile,
    quantise_tile,
)
from jvrc.coding import container, packing
from jvrc.coding.container import MAX_PIXELS, MAX_TILE_SIDE, Container
from jvrc.coding.tile_grid import BLOCK, Area, TileGrid, tile_grid
from jvrc.errors import BitstreamError
from jvrc.frozen.model import FrozenModel
from jvrc.io.images import as_rgb_uint8
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of

Region = tuple[int, int, int, int]  # top, left, height, width in pixels


def compress(
    params: FrozenModel, img: Any, qstep: float, *, effort: int = 0, progress: bool = False
) -> bytes:
    """Compress an image.

    Args:
      params: a frozen model, from `jvrc.load`.
      img: uint8 [H,W,3] (NumPy or JAX) or a PIL image, any H, W >= 1.
      qstep: the quantisation step Delta, 0.5 (best image) … 32 (fewest bytes); it is snapped to a
        grid of 0.54 %.
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
    img, qstep_code = as_rgb_uint8(img), qstep_code_of(qstep)
    check_effort(effort)
    _check_size(*img.shape[:2])
    packed = encode_image(params, img, qstep_code, effort=effort, progress=progress)
    return packing.pack(packed)


def decompress(
    params: FrozenModel,
    data: bytes,
    *,
    region: Region | None = None,
    max_pixels: int = MAX_PIXELS,
) -> np.ndarray:
    """Restore an image, or a part of it.

    Args:
      params: the model that compressed it, from `jvrc.load`.
      data: what `compress` returned.
      region: (top, left, height, width) in pixels, by default all. Of the file's tiles, of at most
        1024x1024 pixels, only those that the region or a margin of 128 pixels around it touches are
        decoded.
      max_pixels: refuse larger images, before anything big is allocated.

    Returns:
      uint8 [H,W,3], of a region its height and width. A pixel differs by at most one from that of
      the whole image, by rounding.

    Raises:
      BitstreamError: data is damaged, truncated, foreign, too large or of another model. With a
        region, damage within tiles that it does not need is not noticed.
      ValueError: the region does not lie within the image.
    """
    if region is None:
        return decode_image(params, packing.unpack(data, max_pixels=max_pixels))
    coded = packing.unpack_lazily(data, max_pixels=max_pixels)
    return decode_image(params, coded, region=region)


def encode_image(
    model: FrozenModel,
    img: np.ndarray,
    qstep_code: int,
    *,
    effort: int = 0,
    progress: bool = False,
    tile_side: int = MAX_TILE_SIDE,
    coder_of: CoderOf = coder_of,
) -> Container:
    """Return the coded image, uint8 [h,w,3]: `compress` without its checks, with any coder of y.

    tile_side: the largest side of a tile, in blocks of 64x64 pixels.
    """
    size = img.shape[:2]
    grid = tile_grid(*size, tile_side)
    disable = None if progress and effort and grid.count > 1 else True
    tiles = []
    for number in tqdm(range(grid.count), desc="searching, tiles", leave=False, disable=disable):
        area = grid.area(number)
        found = quantise_tile(model, analyse_area(model, img, area), qstep_code, coder_of)
        if effort:
            scene, bar = scene_of(model, img, area), progress and grid.count == 1
            chosen = found.coder.optimise(scene, found.symbols, effort=effort, progress=bar)
            found = found._replace(symbols=chosen)
        tiles.append(encode_tile(found))
    return Container(model.model_id, *size, qstep_code, tuple(tiles), tile_side)


def decode_image(
    model: FrozenModel,
    coded: Container,
    *,
    region: Region | None = None,
    coder_of: CoderOf = coder_of,
) -> np.ndarray:
    """Return the image, uint8 [h,w,3], that `encode_image` coded, or a region of it.

    Raises:
      BitstreamError: a tile that is needed is damaged.
      ValueError: the region does not lie within the image.
    """
    _check_header(model, coded)
    wanted, blocks = _pixels_of(region, coded), coded.grid.blocks
    areas = list(_areas(coded.grid, wanted))
    latents = ReconstructedTiles(model, coded, coder_of, areas)
    img = None
    for area in areas:
        y_hat = latents.around(area)
        if img is None:  # not before a tile was found to be intact
            img = np.empty((*wanted.size, 3), np.uint8)
        pixels = area.scaled(BLOCK)
        both = pixels.common(wanted)
        found = synthesise_area(model, y_hat, area, blocks, coded.qstep_code)
        img[both.within(wanted)] = found[both.within(pixels)]
    return img


def quantise_image(
    model: FrozenModel, img: np.ndarray, qstep_code: int, *, coder_of: CoderOf = coder_of
) -> QuantisedTile:
    """Return (integers of z, symbols of y, the coder of y) of uint8 [h,w,3], coded as one tile."""
    return quantise_tile(model, analyse_image(model, img), qstep_code, coder_of)


def decode_symbols(params: FrozenModel, data: bytes) -> tuple[np.ndarray, Symbols]:
    """Return (integers of z, symbols of y) of a file, those of its tiles put together.

    They are the same on every machine.

    Raises:
      BitstreamError: as in `decompress`.
    """
    coded = packing.unpack(data)
    _check_header(params, coded)
    grid = coded.grid
    whole = Area(0, 0, *grid.blocks)
    out: list[np.ndarray] = []
    for number in range(grid.count):
        found = decode_tile(params, coded, number, coder_of)
        parts = ((found.z_q, 1), *((part, Y_UNIT) for part in found.symbols))
        if not out:
            sizes = [whole.scaled(unit).size for _, unit in parts]
            pairs = zip(parts, sizes, strict=True)
            out = [np.empty((*size, part.shape[2]), part.dtype) for (part, _), size in pairs]
        for array, (part, unit) in zip(out, parts, strict=True):
            array[grid.area(number).within(whole, unit)] = part
    return out[0], Symbols(*out[1:])


def _areas(grid: TileGrid, wanted: Area) -> Iterator[Area]:
    """Yield the blocks of each tile that the wanted pixels lie in."""
    top, left, bottom, right = wanted
    area = Area(top // BLOCK, left // BLOCK, -(-bottom // BLOCK), -(-right // BLOCK))
    return (grid.area(number).common(area) for number in grid.touching(area))


def _pixels_of(region: Region | None, coded: Container) -> Area:
    """Return the pixels of a region, by default the image; ValueError unless it has them."""
    height, width = coded.height, coded.width
    if region is None:
        return Area(0, 0, height, width)
    try:
        top, left, rows, columns = map(operator.index, region)
    except (TypeError, ValueError):
        top, left, rows, columns = -1, -1, -1, -1
    found = Area(top, left, top + rows, left + columns)
    if not (0 <= top < found.bottom <= height and 0 <= left < found.right <= width):
        raise ValueError(
            f"region must be (top, left, height, width) within the image's {height} x {width} "
            f"pixels; got {region}"
        )
    return found


def _check_size(height: int, width: int) -> None:
    if container.coded_pixels(height, width) > MAX_PIXELS:
        raise ValueError(
            f"img must have at most {MAX_PIXELS} pixels, padded to multiples of "
            f"{BLOCK}, got {height} x {width}; compress it in parts"
        )


def _check_header(model: FrozenModel, coded: Container) -> None:
    if coded.model_id != model.model_id:
        raise BitstreamError(
            f"the stream was made with model {coded.model_id}, this is {model.model_id}: "
            "load the model that made it"
        )
    if not QSTEP_CODE_MIN <= coded.qstep_code <= QSTEP_CODE_MAX:
        raise BitstreamError(f"damaged stream: there is no qstep code {coded.qstep_code}")
