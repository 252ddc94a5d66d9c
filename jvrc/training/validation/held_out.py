"""The loss of a model on held-out images, by estimated bits, and its behaviour on other tiles."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from functools import partial
from typing import Any

import jax
import numpy as np
from jax import Array

from jvrc.model.config import Config
from jvrc.runtime.background import in_background
from jvrc.training.data import batches, unnatural
from jvrc.training.loss import objectives

VALIDATION_QSTEPS = (1.5, 3.0, 6.0, 12.0)  # the same for all runs, so that their losses compare
END_QSTEPS = (0.7, 18.0)  # reported, but no part of the loss
UNNATURAL_QSTEPS = (1.5, 6.0)
_SEED = 9  # of the tiles that are no photographs: the same in every run


def unnatural_tiles(photos: Sequence[np.ndarray], *, size: int = 256) -> np.ndarray:
    """Return a tile of each of jvrc.training.data.unnatural.KINDS, uint8 [n,size,size,3].

    photos: those that are dithered, enlarged or drawn upon.
    """
    centres = batches.centres(photos, size=size)
    return unnatural.tiles(centres, len(unnatural.KINDS), _SEED, size=size)


class Validation:
    """A function of the parameters that codes images with rounded latents, and when it is ready."""

    def __init__(self, report: Callable[[dict], dict], compiled: Future | None) -> None:
        """report: the function. compiled: its programs; None: they compile at the first call."""
        self._report, self._compiled = report, compiled

    def __call__(self, params: dict) -> dict:
        return self._report(params)

    def is_compiled(self) -> bool:
        """Return False while a thread compiles."""
        return self._compiled is None or self._compiled.done()

    def wait(self) -> None:
        """Wait for the thread that compiles."""
        if self._compiled is not None:
            wait([self._compiled])


def make_validation(
    config: Config,
    crops: np.ndarray,
    qsteps: tuple[float, ...] = VALIDATION_QSTEPS,
    *,
    unnatural: np.ndarray | None = None,
    compiled_for: dict | None = None,
    after: Future | None = None,
) -> Validation:
    """Return a function of the parameters that codes crops, uint8 [n,H,W,3], with rounded latents.

    It reports the loss (`objectives.balanced_mean`), and for each qstep the mean bpp and PSNR (dB);
    apart from these, in the same form, the `ends` of the range, unless the run is for few rates,
    and tiles that are no photographs (`unnatural`), of which it gives the highest bpp too.

    compiled_for: shapes of parameters; its programs then compile in a thread from now on, or once
    `after` is done.
    """
    size = -(-len(crops) // max(1, len(crops) // 8))  # of a group: about eight images
    evaluate, compiled = jax.jit(partial(rounded_losses, config)), None
    if compiled_for is not None:
        kinds = [crops] if unnatural is None else [crops, unnatural]
        shapes = {(size, *images.shape[1:]) for images in kinds}
        compiled = in_background(partial(compile_groups, evaluate, compiled_for, shapes, after))
        evaluate = partial(_call, compiled)

    def at(params: dict, images: np.ndarray, qstep: float) -> objectives.Losses:
        same = np.full(size, qstep, np.float32)
        parts = [evaluate(params, group, same) for group in groups(images, size)]
        found = (np.concatenate(part)[: len(images)] for part in zip(*parts, strict=True))
        return objectives.Losses(*found)

    def validate(params: dict) -> dict:
        found = [at(params, crops, qstep) for qstep in qsteps]
        losses = [
            objectives.balanced_mean(f.rd, qstep) for f, qstep in zip(found, qsteps, strict=True)
        ]
        report = {"loss": round(float(np.mean(losses)), 5)} | _curve(qsteps, found)
        if qsteps == VALIDATION_QSTEPS:
            report["ends"] = _curve(END_QSTEPS, [at(params, crops, q) for q in END_QSTEPS])
        if unnatural is not None:
            found = [at(params, unnatural, qstep) for qstep in UNNATURAL_QSTEPS]
            highest = [round(float(f.bpp.max()), 3) for f in found]
            report["unnatural"] = _curve(UNNATURAL_QSTEPS, found) | {"highest_bpp": highest}
        return report

    return Validation(validate, compiled)


def rounded_losses(config: Config, params: dict, images: Array, qsteps: Array) -> objectives.Losses:
    """Return the losses of images, uint8 [n,H,W,3], in full float32, as the codec computes."""
    with jax.default_matmul_precision("highest"):  # no TF32 products
        return objectives.losses(config, params, images.astype(np.float32) / 255, qsteps, None)


def groups(images: np.ndarray, size: int) -> list[np.ndarray]:
    """Return images in groups of one size, so that one program serves all; the last is repeated."""
    spare = -len(images) % size
    images = np.concatenate([images, np.repeat(images[-1:], spare, axis=0)])
    return np.split(images, len(images) // size)


def compile_groups(
    jitted: Any, params: dict, shapes: set[tuple[int, ...]], after: Future | None
) -> dict[tuple[int, ...], Callable]:
    """Return the programs of groups of these shapes, compiled once `after` is done."""
    if after is not None:
        wait([after])
    found = {}
    for shape in sorted(shapes):
        images = jax.ShapeDtypeStruct(shape, np.uint8)
        qsteps = jax.ShapeDtypeStruct(shape[:1], np.float32)
        found[shape] = jitted.lower(params, images, qsteps).compile()
    return found


def _call(compiled: Future, params: dict, images: Array, qsteps: Array) -> objectives.Losses:
    return compiled.result()[images.shape](params, images, qsteps)


def _curve(qsteps: tuple[float, ...], found: list[objectives.Losses]) -> dict[str, list[float]]:
    """Return {"qstep", "bpp", "psnr"} of the mean over images, a value for each qstep."""
    psnr = [round(float(np.mean(-10 * np.log10(f.mse))), 3) for f in found]
    bpp = [round(float(np.mean(f.bpp)), 4) for f in found]
    return {"qstep": list(qsteps), "bpp": bpp, "psnr": psnr}
