"""The decoder of whole images and of parts of them: the contents of a file to pixels.

file -> jvrc.codec.tiles -> y^ of each tile -> g_s -> image
"""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import numpy as np

from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.tiles.latent_coder import CoderOf, Symbols
from jvrc.codec.tiles.tile_coder import ReconstructedTiles, YHatOf, decode_tile, y_hat_by
from jvrc.codec.transforms.regions import synthesise_area
from jvrc.coding import patch
from jvrc.coding.container import Container, check_qstep_code
from jvrc.coding.packing import unpack
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area, TileGrid
from jvrc.errors import BitstreamError
from jvrc.frozen import zoo
from jvrc.frozen.model import FrozenModel
from jvrc.runtime.guards import without_guards


def decode_image(
    model: FrozenModel,
    coded: Container,
    *,
    wanted: Area | None = None,
    coder_of: CoderOf = coder_of,
    y_hat_of: YHatOf | None = None,
    out: Any = None,
) -> Any:
    """Return the image, uint8 [h,w,3], that `jvrc.codec.image.encoder` coded, or a part of it.

    wanted: pixels within the image, by default all. y_hat_of: gives y^ of tiles in place of
    decoding them. out: takes the pixels instead of a new array, window by window:
    out[rows, columns] = uint8 [h,w,3]; it is returned.

    Raises:
      BitstreamError: a tile that is needed is damaged, or the file is another model's.
    """
    check_model(model, coded)
    wanted = Area(0, 0, coded.height, coded.width) if wanted is None else wanted
    blocks, places = coded.grid.blocks, dict(_areas(coded.grid, wanted))
    areas = list(places.values())
    y_hat_of = y_hat_of or y_hat_by(model, coded, coder_of)
    latents = ReconstructedTiles(model, coded, y_hat_of, areas)
    img = out
    for number, area in places.items():
        y_hat = latents.around(area)
        if img is None:  # not before a tile was found to be intact
            img = np.empty((*wanted.size, 3), np.uint8)
        pixels = area.scaled(BLOCK)
        both = pixels.common(wanted)
        synthesise = partial(synthesise_area, model, y_hat, area, blocks, coded.qstep_code)
        found = _with_patch(coded, number, latents.patch(number), pixels, synthesise)
        img[both.within(wanted)] = found[both.within(pixels)]
    return img


@without_guards
def decode_symbols(params: FrozenModel, data: bytes) -> tuple[np.ndarray, Symbols]:
    """Return (integers of z, symbols of y) of a file, those of its tiles put together.

    They are the same on every machine.

    Raises:
      BitstreamError: as in `decompress`.
    """
    coded = unpack(data)
    check_model(params, coded)
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


def check_model(model: FrozenModel, coded: Container) -> None:
    """Raise BitstreamError unless the model made the file, with a quantisation step that exists."""
    if coded.model_id != model.model_id:
        raise BitstreamError(
            f"the stream needs the model {coded.model_id}, this is {model.model_id}: load "
            f"{zoo.name_of(coded.model_id) or 'the weights file that compressed the image'}"
        )
    if coded.refinement_id and coded.refinement_id != model.refinement_id:
        raise BitstreamError(
            f"the stream needs the scale refinement {coded.refinement_id}, the model has "
            f"{model.refinement_id or 'none'}: load the weights file that compressed the image"
        )
    check_qstep_code(coded)


def _areas(grid: TileGrid, wanted: Area) -> Iterator[tuple[int, Area]]:
    """Yield the number of each tile that wanted pixels lie in, and those of its blocks that do."""
    area = wanted.in_blocks()
    return ((number, grid.area(number).common(area)) for number in grid.touching(area))


def _with_patch(
    coded: Container,
    number: int,
    data: bytes,
    pixels: Area,
    synthesise: Callable[[], np.ndarray],
) -> np.ndarray:
    """Return an area of a tile, uint8 [h,w,3], with its patch.

    data: of the patch. pixels: of whole blocks. synthesise: what the model makes of them; it is not
    called if all is patched.
    """
    if not data:
        return synthesise()
    blocks_of_tile = coded.grid.area(number)
    tile, inside = blocks_of_tile.scaled(BLOCK), blocks_of_tile.pixels(coded.height, coded.width)
    try:
        found, blocks = patch.decode(data, *inside.size)
    except BitstreamError as error:
        raise BitstreamError(f"{coded.name_of(number)}: {error}") from error
    patched = patch.samples_of(blocks)[pixels.within(tile)]
    both = pixels.common(inside)
    img = np.zeros((*pixels.size, 3), np.uint8) if patched.all() else synthesise()
    part = both.within(pixels)
    img[part] = np.where(patched[part][..., None], found[both.within(inside)], img[part])
    return img
