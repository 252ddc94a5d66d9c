"""From trained networks of scale refinement to their integers."""

import jax
import numpy as np

from jvrc.export.refinement.bits import SCORE_UNIT
from jvrc.export.refinement.network import (
    CODE_CENTRE,
    CODE_UNIT,
    INDEX_UNIT,
    OUT_UNIT,
    Params,
    Sample,
    hidden_layer,
)
from jvrc.integer import scale_refinement as integer
from jvrc.integer.hyper_synthesis import INDEX_COUNT
from jvrc.integer.network import SUM_MAX
from jvrc.integer.scale_refinement import REACH, SCORE_MAX, ScaleRefinement

_WEIGHT_MAX = 2**15 - 1
_MEASURED = 200  # samples on which ranges are measured
_SMALLEST = 1e-3  # range of a silent channel
_TAPS = (2 * REACH + 1) ** 2


def to_integers(params: list[Params], score: np.ndarray, samples: list[Sample]) -> ScaleRefinement:
    """Return the integers of the four steps' networks.

    score: int8 [90,16], in SCORE_UNITs. samples: on which the hidden layers shall not saturate.
    """
    steps = [_of_step(i, p, score, samples) for i, p in enumerate(params)]
    return ScaleRefinement(score, *(np.stack(parts) for parts in zip(*steps, strict=True)))


def _of_step(
    step: int, params: Params, score: np.ndarray, samples: list[Sample]
) -> tuple[np.ndarray, ...]:
    """Return the fields of ScaleRefinement behind `score` for one step."""
    p = {name: np.asarray(value, np.float64) for name, value in params.items()}
    unit = _largest(step, params, score, samples) / integer.HIDDEN_MAX
    hidden = _hidden(p, unit)
    kernel, bias, shift = _out(p, unit)
    around = kernel[-_TAPS:].reshape(2 * REACH + 1, 2 * REACH + 1, -1)
    by_index = np.rint(p["by_index"] * _units()).clip(-_WEIGHT_MAX, _WEIGHT_MAX)
    return *hidden, kernel[:-_TAPS], around, bias, shift, by_index.astype(np.int16)


def _hidden(p: dict[str, np.ndarray], unit: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return (kernel, bias, shift) of the hidden layer; unit [H]: of its outputs."""
    m = len(p["from_score"])
    kernel = [
        p["from_score"] * SCORE_UNIT,
        p["from_index"] / INDEX_UNIT,
        p["from_code"] / CODE_UNIT,
    ]
    bias = p["hidden_bias"] - p["from_index"].sum(0) - CODE_CENTRE * p["from_code"][0]
    inputs = np.repeat([SCORE_MAX, INDEX_COUNT - 1, integer.COARSE_MAX], [m, m, 1])
    return _rounded(inputs, np.concatenate(kernel) / unit, bias / unit)


def _out(p: dict[str, np.ndarray], unit: np.ndarray) -> tuple[np.ndarray, ...]:
    """Return (kernel, bias, shift) of the second layer; the taps around stand last."""
    kernel = [
        p["out"] * unit[:, None],
        p["out_code"] / CODE_UNIT,
        p["around"].reshape(_TAPS, -1) * SCORE_UNIT,
    ]
    bias = p["out_bias"] - CODE_CENTRE * p["out_code"][0]
    inputs = [integer.HIDDEN_MAX, integer.COARSE_MAX, SCORE_MAX]
    inputs = np.repeat(inputs, [len(unit), 1, _TAPS])
    return _rounded(inputs, np.concatenate(kernel) * _units(), bias * _units())


def _units() -> int:
    """Return how many units of the integer results a unit of the float ones is."""
    return OUT_UNIT << integer.UNIT_SHIFT


def _largest(step: int, params: Params, score: np.ndarray, samples: list[Sample]) -> np.ndarray:
    """Return the largest value of each channel of the hidden layer: float64 [H]."""
    in_bits = score * np.float32(SCORE_UNIT)
    evaluate = jax.jit(hidden_layer, static_argnums=0)
    found = np.full(np.shape(params["hidden_bias"]), _SMALLEST)
    for sample in samples[:: -(-len(samples) // _MEASURED)]:
        batch = Sample(*(np.asarray(a)[None] for a in sample))
        _, hidden = evaluate(step, params, batch, in_bits)
        found = np.maximum(found, np.max(np.asarray(hidden), axis=(0, 1, 2)))
    return found


def _rounded(
    inputs: np.ndarray, kernel: np.ndarray, bias: np.ndarray
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return (kernel int16, bias int32, shift int8), the finest integers whose sums are exact.

    They are those given times 2**shift. inputs: largest magnitudes [I]. kernel: [I,O]. bias: [O].
    """
    found = np.zeros_like(kernel), np.zeros_like(bias), np.zeros(len(bias))
    for shift in range(integer.SHIFT_MAX + 1):
        k, b = np.rint(np.ldexp(kernel, shift)), np.rint(np.ldexp(bias, shift))
        sums = (np.abs(k) * inputs[:, None]).sum(0) + np.abs(b)
        fits = (sums <= SUM_MAX) & (np.abs(k).max(0) <= _WEIGHT_MAX)
        for array, value in zip(found, (k, b, np.full(len(b), shift)), strict=True):
            array[..., fits] = value[..., fits]
    kernel, bias, shift = found
    return kernel.astype(np.int16), bias.astype(np.int32), shift.astype(np.int8)
