"""A step that the search for a PSNR tries: the image is decoded there before it is coded."""

from collections.abc import Callable

import numpy as np

from jvrc.codec.image.encoder import coded_image, quantise_tiles
from jvrc.codec.image.fidelity import psnr_of
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.kept_arrays import KeptArrays
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.codec.tiles.tile_coder import QuantisedTile, encode_tile
from jvrc.coding.container import NO_STREAM, Container, Tile

Code = Callable[[], Container]  # codes the image


def psnr_at(
    analysed: AnalysedImage, qstep_code: int, pixels: np.ndarray, options: EncoderOptions
) -> tuple[float, Code]:
    """Return the PSNR in dB of an image at a step, and what codes it.

    y^ is what the encoder knows: a stream decodes to the same integers everywhere.
    pixels: what the PSNR is of, uint8 [h,w,3], or [h,w] of a grey image.
    """
    tiles = quantise_tiles(analysed, qstep_code, options)
    if analysed.grid.count == 1:
        return _of_one_tile(analysed, qstep_code, pixels, next(tiles), options)
    kept = KeptArrays()

    def encode(number: int, found: QuantisedTile) -> Tile:
        kept.put(number, (found.y_hat,))
        return encode_tile(found)

    coded_tiles = tuple(encode(number, found) for number, found in enumerate(tiles))
    coded = coded_image(analysed, qstep_code, coded_tiles, options)
    psnr = psnr_of(analysed.model, coded, pixels, lambda number, _: kept.get(number)[0])
    return psnr, lambda: coded


def _of_one_tile(
    analysed: AnalysedImage,
    qstep_code: int,
    pixels: np.ndarray,
    found: QuantisedTile,
    options: EncoderOptions,
) -> tuple[float, Code]:
    """As `psnr_at`; the tile is coded only when its code is asked for."""
    uncoded = Tile(scale_adapted=False, z=NO_STREAM, y=NO_STREAM, patch=found.patch)
    image = coded_image(analysed, qstep_code, (uncoded,), options._replace(patches=False))
    psnr = psnr_of(analysed.model, image, pixels, lambda *_: found.y_hat)
    return psnr, lambda: coded_image(analysed, qstep_code, (encode_tile(found),), options)
