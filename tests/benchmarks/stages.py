"""Compressing and decompressing as jvrc.codec does it, each stage measured.

What a stage calls is replaced by the same call under a measurement. Stages of several tiles add up.
"""

import collections
import contextlib
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from typing import Any
from unittest import mock

import numpy as np

import jvrc
from jvrc.codec.image import decoder, encoder
from jvrc.codec.latent_coders import by_architecture
from jvrc.codec.tiles import analysed, tile_coder
from jvrc.codec.tiles.latent_coder import LatentCoder
from jvrc.coding import packing, scale_adaptation
from jvrc.qstep import qstep_code_of

Measure = Callable[[str], AbstractContextManager]  # of a stage's name
FUNCTIONS = {
    "g_a": (analysed, "analyse_area"),
    "h_a": (tile_coder, "analyse_latents"),
    "scale adaptation": (scale_adaptation, "choose"),
    "range coder": (tile_coder, "encode_z"),
    "range coder, z": (tile_coder, "decode_z"),
    "g_s": (decoder, "synthesise_area"),
}
METHODS = {
    "quantise": "quantise",
    "range coder": "encode",
    "range coder, y": "decode",  # in mbt2018 with the context model
    "reconstruct": "reconstruct",
}


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
    with _measured(measure):
        coded = encoder.encode_image(model, img, qstep_code_of(qstep), coder_of=_coder_of(measure))
    return packing.pack(coded)


def decompress(model: jvrc.FrozenModel, data: bytes, measure: Measure) -> np.ndarray:
    """The image that `jvrc.decompress` gives."""
    with _measured(measure):
        return decoder.decode_image(model, packing.unpack(data), coder_of=_coder_of(measure))


@contextlib.contextmanager
def _measured(measure: Measure) -> Iterator[None]:
    """Measure the functions of stages."""
    with contextlib.ExitStack() as stack:
        for stage, (owner, name) in FUNCTIONS.items():
            function = _under(measure, stage, getattr(owner, name))
            stack.enter_context(mock.patch.object(owner, name, function))
        yield


def _coder_of(measure: Measure) -> Callable[..., LatentCoder]:
    """Return `coder_of` of coders whose methods are measured."""

    def coder_of(*args: Any) -> LatentCoder:
        with measure("h_s"):
            coder = by_architecture.coder_of(*args)
        for stage, name in METHODS.items():
            setattr(coder, name, _under(measure, stage, getattr(coder, name)))
        return coder

    return coder_of


def _under(measure: Measure, stage: str, function: Callable[..., Any]) -> Callable[..., Any]:
    def measured(*args: Any, **options: Any) -> Any:
        with measure(stage):
            return function(*args, **options)

    return measured
