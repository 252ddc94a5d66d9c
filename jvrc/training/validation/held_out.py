"""The loss of a model on held-out images, by estimated bits, and its behaviour on other tiles."""

from collections.abc import Callable, Sequence
from concurrent.futures import Future, wait
from typing import Any

import jax
import numpy as np

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


def make_validation(
    config: Config,
    crops: np.ndarray,
    qsteps: tuple[float, ...] = VALIDATION_QSTEPS,
    *,
    unnatural: np.ndarray | None = None,
    compiled_for: dict | None = None,
    after: Future | None = None,
) -> Callable[[dict], dict]:
    """Return a function of the parameters that codes crops, uint8 [n,H,W,3], with rounded latents.

    It reports the loss (`objectives.balanced_mean`), and for each qstep the mean bpp and PSNR (dB);
    apart from these, in the same form, the `ends` of the range, unless the run is for few rates,
    and tiles that are no photographs (`unnatural`), of which it gives the highest bpp too.

    compiled_for: shapes of parameters; its programs then compile in a thread from now on, or once
    `after` is done.
    """
    jitted = jax.jit(
        lambda p, x, q: objectives.losses(config, p, x.astype(np.float32) / 255, q, None)
    )
    evaluate = jitted
    if compiled_for is not None:
        kinds = [crops] if unnatural is None else [crops, unnatural]
        shapes = {group.shape for images in kinds for group in _groups(images)}
        evaluate = _compiled_in_background(jitted, compiled_for, shapes, after)

    def at(params: dict, images: np.ndarray, qstep: float) -> objectives.Losses:
        groups = _groups(images)
        parts = [evaluate(params, g, np.full(len(g), qstep, np.float32)) for g in groups]
        return objectives.Losses(*(np.concatenate(p) for p in zip(*parts, strict=True)))

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

    return validate


def _groups(images: np.ndarray) -> list[np.ndarray]:
    """Return images in groups of about eight."""
    return np.array_split(images, max(1, len(images) // 8))


def _compiled_in_background(
    jitted: Any, params: dict, shapes: set[tuple[int, ...]], after: Future | None
) -> Callable[..., objectives.Losses]:
    """Return the jitted function for images of these shapes; a thread compiles it."""

    def compile() -> dict[tuple[int, ...], Callable]:
        if after is not None:
            wait([after])
        found = {}
        for shape in sorted(shapes):
            images = jax.ShapeDtypeStruct(shape, np.uint8)
            qsteps = jax.ShapeDtypeStruct(shape[:1], np.float32)
            found[shape] = jitted.lower(params, images, qsteps).compile()
        return found

    programs = in_background(compile)
    return lambda params, images, qsteps: programs.result()[images.shape](params, images, qsteps)


def _curve(qsteps: tuple[float, ...], found: list[objectives.Losses]) -> dict[str, list[float]]:
    """Return {"qstep", "bpp", "psnr"} of the mean over images, a value for each qstep."""
    psnr = [round(float(np.mean(-10 * np.log10(f.mse))), 3) for f in found]
    bpp = [round(float(np.mean(f.bpp)), 4) for f in found]
    return {"qstep": list(qsteps), "bpp": bpp, "psnr": psnr}
