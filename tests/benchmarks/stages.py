"""Compressing and decompressing stage by stage, each measured, as jvrc.codec.image does it.

Of images of one tile, 1024x1024 pixels at most.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager

import numpy as np

import jvrc
from jvrc.codec.coders import coder_of
from jvrc.codec.latents import analyse_image, analyse_latents, quantise_z, synthesise
from jvrc.codec.streams import decode_z, encode_z
from jvrc.coding import packing, scale_adaptation
from jvrc.coding.container import Container, Tile
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
    qstep_code = qstep_code_of(qstep)
    with measure("g_a"):
        y = analyse_image(model, img)
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
    tile = Tile(bool(shift.any()), z, y)
    return packing.pack(Container(model.model_id, *img.shape[:2], qstep_code, (tile,)))


def decompress(model: jvrc.FrozenModel, data: bytes, measure: Measure) -> np.ndarray:
    """The image that `jvrc.decompress` gives."""
    coded = packing.unpack(data)
    (tile,) = coded.tiles
    with measure("range coder, z"):
        z_q, shift = decode_z(model, tile, coded.grid.blocks, coded.qstep_code)
    with measure("h_s"):
        coder = coder_of(model, z_q, coded.qstep_code)
    with measure("range coder, y"):  # in mbt2018 with the context model
        symbols = coder.decode(tile.y, shift)
    with measure("reconstruct"):
        y_hat = coder.reconstruct(symbols)
    with measure("g_s"):
        return synthesise(model, y_hat, coded.qstep_code)[: coded.height, : coded.width]
