"""Compressing and decompressing stage by stage, each measured, as jvrc.codec.image does it."""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

import jvrc
from jvrc.codec.coders import coder_of
from jvrc.codec.latents import analyse_latents, quantise_z
from jvrc.codec.regions import Y_UNIT, analyse_area, synthesise_area, window_of
from jvrc.codec.streams import decode_z, encode_z
from jvrc.coding import packing, scale_adaptation
from jvrc.coding.container import MAX_TILE_SIDE, Container, Tile
from jvrc.coding.tile_grid import BLOCK, Area, tile_grid
from jvrc.qstep import qstep_code_of

Measure = Callable[[str], AbstractContextManager]  # of a stage's name


class Seconds(collections.defaultdict):
    """Seconds by stage: [wall-clock, CPU]."""

    def __init__(self) -> None:
        super().__init__(lambda: [0.0, 0.0])

    @contextlib.contextmanager
    def measure(self, stage: str) -> Iterator[None]:
        wall, cpu = time.perf_counter(), time.process_time()
        yield
        self[stage][0] += time.perf_counter() - wall
        self[stage][1] += time.process_time() - cpu


def compress(model: jvrc.FrozenModel, img: np.ndarray, qstep: float, measure: Measure) -> bytes:
    """The bytes that `jvrc.compress` gives."""
    size, code = img.shape[:2], qstep_code_of(qstep)
    grid = tile_grid(*size, MAX_TILE_SIDE)
    areas = map(grid.area, range(grid.count))
    tiles = tuple(_compress_tile(model, img, area, code, measure) for area in areas)
    return packing.pack(Container(model.model_id, *size, code, tiles))


def _compress_tile(
    model: jvrc.FrozenModel, img: np.ndarray, area: Area, qstep_code: int, measure: Measure
) -> Tile:
    with measure("g_a"):
        y = analyse_area(model, img, area)
    with measure("h_a"):
        z_q = quantise_z(model, analyse_latents(model, y), qstep_code)
    with measure("h_s"):
        coder = coder_of(model, z_q, qstep_code)
    with measure("quantise"):
        symbols = coder.quantise(y)
    with measure("scale adaptation"):
        shift = scale_adaptation.choose(symbols.y, symbols.index, model.y_tables)
    with measure("range coder"):
        z, y = encode_z(model, z_q, shift, qstep_code), coder.encode(symbols, shift)
    return Tile(bool(shift.any()), z, y)


def decompress(model: jvrc.FrozenModel, data: bytes, measure: Measure) -> np.ndarray:
    """The image that `jvrc.decompress` gives, but with y^ of the whole image held at once."""
    coded = packing.unpack(data)
    grid, whole = coded.grid, Area(0, 0, *coded.grid.blocks)
    y_hat = np.empty((*whole.scaled(Y_UNIT).size, model.config.M), np.float32)
    img = np.empty((*whole.scaled(BLOCK).size, 3), np.uint8)
    for number, tile in enumerate(coded.tiles):
        area = grid.area(number)
        found = _decompress_tile(model, tile, area, coded.qstep_code, measure)
        y_hat[area.within(whole, Y_UNIT)] = found
    for area in map(grid.area, range(grid.count)):
        window = window_of(area, grid.blocks).within(whole, Y_UNIT)
        with measure("g_s"):
            img[area.within(whole, BLOCK)] = synthesise_area(
                model, y_hat[window], area, grid.blocks
            )
    return img[: coded.height, : coded.width]


def _decompress_tile(
    model: jvrc.FrozenModel, tile: Tile, area: Area, qstep_code: int, measure: Measure
) -> np.ndarray:
    """y^ of a tile."""
    with measure("range coder, z"):
        z_q, shift = decode_z(model, tile, area.size, qstep_code)
    with measure("h_s"):
        coder = coder_of(model, z_q, qstep_code)
    with measure("range coder, y"):  # in mbt2018 with the context model
        symbols = coder.decode(tile.y, shift)
    with measure("reconstruct"):
        return coder.reconstruct(symbols)
