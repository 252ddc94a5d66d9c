"""Patches: blocks of a tile that the encoder codes without the model (jvrc.coding.patch).

Text, screens, dither and noise are not what a model has learnt: it restores them badly at any rate.
The encoder patches a block of 64x64 pixels

    where it must: the model's PSNR of the block is below a floor that photographs never reach;
    where it pays: J = bits + lambda * squared error is less with plain lossless coding.

The floor is 33 - 10 log10(max(Delta, 1)) dB for what repeats its colours or has few, and lower for
textures and noise. Only blocks whose statistics raise a suspicion
(jvrc.codec.tiles.block_statistics) are decoded to see. In place of what is patched, the model gets
a smooth surface.
"""

from dataclasses import replace

import numpy as np

from jvrc.codec.patches.block_errors import squared_errors
from jvrc.codec.patches.fill import without
from jvrc.codec.patches.search import Search, around
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.latent_coder import CoderOf
from jvrc.codec.tiles.options import EncoderOptions
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.tile_coder import (
    QuantisedTile,
    ReconstructedTiles,
    quantise_analysed,
    quantise_scene,
    with_better_symbols,
    y_hat_by,
)
from jvrc.codec.transforms.regions import window_of
from jvrc.coding import patch
from jvrc.coding.container import NO_STREAM, Container
from jvrc.coding.tile_grid import BLOCK, Area, TileGrid


def quantise_with_patches(
    analysed: AnalysedImage,
    number: int,
    qstep_code: int,
    options: EncoderOptions,
) -> QuantisedTile:
    """Return the integers of a tile, with a patch where one is needed or pays."""
    model, search = analysed.model, Search(analysed, number, qstep_code)
    found = quantise_analysed(analysed, number, qstep_code, options)
    asked = search.suspects(found)
    blocks = search.choose(found, asked)
    if blocks.any():
        search.scene = without(model, search.scene, blocks)
        found = quantise_scene(model, search.scene, qstep_code, options)
    if options.effort:
        found = _searched(search, found, asked & ~blocks, options)
    if options.effort or blocks.any():
        blocks |= search.failing(found, (asked | search.disturbed(blocks)) & ~blocks)
    if not blocks.any():
        return found
    found = replace(found, patch=search.pixels.patch(blocks))
    return search.cheaper(found, blocks, options.coder_of)


def _searched(
    search: Search, found: QuantisedTile, asked: np.ndarray, options: EncoderOptions
) -> QuantisedTile:
    """Return a tile with better symbols; masking must not bring a block below the floor.

    asked: the blocks that may come there.
    """
    spared = search.pixels.seen.simple
    better = with_better_symbols(found, search.scene, options, spared)
    failing = search.failing(better, asked) if options.masking else np.False_
    if not failing.any():
        return better
    return with_better_symbols(found, search.scene, options, spared | failing)


def settle(analysed: AnalysedImage, coded: Container, coder_of: CoderOf) -> Container:
    """Return an image whose tiles were coded one by one, made to keep the floor as a whole.

    Blocks beside patches, at borders of tiles, are patched too if other tiles' y^ brings them below
    it. If all of all tiles is patched, no streams are needed.
    """
    masks = [_patched(coded, number) for number in range(coded.grid.count)]
    if coded.grid.count > 1 and any(mask.any() for mask in masks):
        coded = _with_borders(analysed, coded, masks, coder_of)
    if not all(mask.all() for mask in masks):
        return coded
    no_streams = {"scale_adapted": False, "refined": False, "z": NO_STREAM, "y": NO_STREAM}
    tiles = tuple(tile._replace(**no_streams) for tile in coded.tiles)
    return coded._replace(tiles=tiles, refinement_id="")


def _with_borders(
    analysed: AnalysedImage, coded: Container, masks: list[np.ndarray], coder_of: CoderOf
) -> Container:
    """Return an image with the patches at the borders of tiles; adds them to masks."""
    model, grid, tiles = analysed.model, coded.grid, list(coded.tiles)
    whole, image = np.zeros(grid.blocks, bool), Area(0, 0, *grid.blocks)
    for number, mask in enumerate(masks):
        whole[grid.area(number).within(image)] = mask
    beside = around(whole) & ~whole
    asked = {n: beside[grid.area(n).within(image)] for n in range(grid.count)}
    asked = {n: found for n, found in asked.items() if _others(whole, grid, n) and found.any()}
    areas = [grid.area(n) for n in asked]
    latents = ReconstructedTiles(model, coded, y_hat_by(model, coded, coder_of), areas)
    for number, blocks in asked.items():
        area, search = grid.area(number), Search(analysed, number, coded.qstep_code)
        window = window_of(model.config, area, grid.blocks)
        y_hat = latents.around(area)
        img = analysed.img[window.within(image, BLOCK)]
        search.scene = Scene(img, y_hat, area.relative_to(window))
        errors = squared_errors(model, search.scene, search.scene.tile_y, blocks, coded.qstep_code)
        failing = errors > search.pixels.floor
        if failing.any():
            masks[number] |= failing
            tiles[number] = tiles[number]._replace(patch=search.pixels.patch(masks[number]))
    return coded._replace(tiles=tuple(tiles))


def _others(patched: np.ndarray, grid: TileGrid, number: int) -> bool:
    """Return whether blocks beside a tile, of others, are patched."""
    area, image = grid.area(number), Area(0, 0, *grid.blocks)
    beside = patched[area.grown(1, grid.blocks).within(image)]
    return beside.sum() > patched[area.within(image)].sum()


def _patched(coded: Container, number: int) -> np.ndarray:
    size, data = coded.grid.area(number).size, coded.tiles[number].patch
    return patch.blocks_in(data, size) if data else np.zeros(size, bool)
