"""The encoder of whole images: pixels to the contents of a file, with a frozen model.

    image -> g_a -> y of each tile -> jvrc.codec.tiles -> its section of the file

An image is coded in tiles of at most 1024x1024 pixels, one after another: memory stays bounded, and
a part of the image needs only the tiles around it. What lies between y and the y stream depends on
the architecture and is a latent coder's (jvrc.codec.tiles.latent_coder). Whatever chooses the
tables of symbols is computed on integers on both sides, since one scale index that differs ruins
the stream: a stream decodes to the same integers on every machine.
"""

from collections.abc import Iterator

import numpy as np
from tqdm import tqdm

from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.patches.patched_tiles import quantise_with_patches, settle
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.latent_coder import CoderOf
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.codec.tiles.tile_coder import (
    QuantisedTile,
    encode_tile,
    quantise_analysed,
    with_better_symbols,
)
from jvrc.coding.container import MAX_TILE_SIDE, Container, Tile
from jvrc.coding.tile_grid import blocks_of
from jvrc.frozen.model import FrozenModel

PLAIN = EncoderOptions(coder_of)


def encode_image(
    model: FrozenModel,
    img: np.ndarray,
    qstep_code: int,
    *,
    effort: int = 0,
    masking: bool = False,
    patches: bool = False,
    progress: bool = False,
    tile_side: int = MAX_TILE_SIDE,
    coder_of: CoderOf = coder_of,
) -> Container:
    """Return the coded image, uint8 [h,w,3], with any coder of y.

    effort, masking, patches, progress, coder_of: see EncoderOptions. tile_side: the largest side of
    a tile, in blocks of 64x64 pixels.
    """
    options = EncoderOptions(coder_of, effort, masking, patches, progress)
    return encode_analysed(AnalysedImage(model, img, tile_side), qstep_code, options)


def encode_analysed(
    analysed: AnalysedImage, qstep_code: int, options: EncoderOptions = PLAIN
) -> Container:
    """Return the coded image, of which g_a has been run already."""
    tiles = tuple(map(encode_tile, quantise_tiles(analysed, qstep_code, options)))
    return coded_image(analysed, qstep_code, tiles, options)


def quantise_tiles(
    analysed: AnalysedImage, qstep_code: int, options: EncoderOptions
) -> Iterator[QuantisedTile]:
    """Yield the integers of each tile; with patches, where one is needed or pays."""
    count = analysed.grid.count
    disable = None if options.progress and options.effort and count > 1 else True
    numbers = tqdm(range(count), desc="searching, tiles", leave=False, disable=disable)
    of_tile = options._replace(progress=options.progress and count == 1)
    quantise = quantise_with_patches if options.patches else _quantised
    return (quantise(analysed, number, qstep_code, of_tile) for number in numbers)


def coded_image(
    analysed: AnalysedImage, qstep_code: int, tiles: tuple[Tile, ...], options: EncoderOptions
) -> Container:
    """Return the image of coded tiles."""
    size, side = analysed.img.shape[:2], analysed.tile_side
    model = analysed.model
    refinement_id = model.refinement_id if any(tile.refined for tile in tiles) else ""
    coded = Container(model.model_id, *size, qstep_code, tiles, side, refinement_id=refinement_id)
    return settle(analysed, coded, options.coder_of) if options.patches else coded


def _quantised(
    analysed: AnalysedImage, number: int, qstep_code: int, options: EncoderOptions
) -> QuantisedTile:
    """Return the integers of a tile: the nearest ones or, with effort, better ones."""
    found = quantise_analysed(analysed, number, qstep_code, options)
    if not options.effort:
        return found
    spared = analysed.statistics(number).simple
    return with_better_symbols(found, analysed.scene(number), options, spared)


def quantise_image(
    model: FrozenModel, img: np.ndarray, qstep_code: int, *, coder_of: CoderOf = coder_of
) -> QuantisedTile:
    """Return (integers of z, symbols of y, the coder of y) of uint8 [h,w,3], coded as one tile."""
    side = max(blocks_of(*img.shape[:2]))
    return quantise_analysed(
        AnalysedImage(model, img, side), 0, qstep_code, PLAIN._replace(coder_of=coder_of)
    )
