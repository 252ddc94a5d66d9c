"""Tables of y calibrated on photographs, in the place of ideal Gaussians.

A network's residuals (y - mu) / Delta are not quite normal, even given their scale: they peak
higher and reach further. So each of the 64 tables becomes a mixture of Gaussians whose scales are
those of the table times RATIOS, with weights fitted by expectation maximisation to what real
photographs put under that table. Decoders read tables anyway; files get 2 to 4 % smaller.

May import: codec, freezing, and what they import.
"""

import json
from collections.abc import Iterable
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import ndtr
from tqdm import tqdm

from jvrc import codec, freezing, frozen, step_grid
from jvrc.coding import tables
from jvrc.frozen import SCALE_COUNT, FrozenModel

RATIOS = 2.0 ** np.arange(-2.0, 3.1, 0.5)
_REACH = 4096  # larger magnitudes count as this one
_PRIOR = 20.0  # counts in favour of the Gaussian itself, for tables that photographs seldom use
_ITERATIONS = 200


def calibrate(model: FrozenModel, pictures: Iterable[np.ndarray], *, steps: int = 5) -> FrozenModel:
    """The model with tables of y fitted to pictures, uint8 [H,W,3], not those of any evaluation.

    Each picture is quantised at `steps` steps over the range that the model was trained for.
    """
    low, high = model.metadata["qstep_range"]
    codes = [step_grid.snap(q) for q in np.geomspace(low, high, steps)]
    counts = np.zeros((SCALE_COUNT, _REACH + 1))
    used = 0
    for img in tqdm(list(pictures), desc="calibrating", unit="img"):
        for code in codes:
            latents = codec.quantise(model, img, code)
            size = np.minimum(np.abs(latents.y), _REACH)
            np.add.at(counts, (latents.index.ravel(), size.ravel()), 1)
        used += 1
    header = model.metadata | {"calibration": f"y tables fitted to {used} training photographs"}
    fitted = replace(model, y_tables=calibrated_tables(counts), header=json.dumps(header))
    return frozen.seal(fitted)


def calibrated_tables(counts: np.ndarray) -> tables.SymbolTables:
    """Tables from how often |q| = 0, 1, … K occurred under each scale: counts [64, K + 1]."""
    cdfs = [
        partial(mixture_cdf, scale, mixture_weights(row, scale))
        for row, scale in zip(counts, freezing.scale_table(), strict=True)
    ]
    return tables.build(cdfs, [0] * SCALE_COUNT)


def mixture_cdf(scale: float, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Cumulative of the mixture: sum_j w_j Phi(x / (scale * RATIOS_j)). x: float64 [n]."""
    return weights @ ndtr(x / (scale * RATIOS[:, None]))


def mixture_weights(counts: np.ndarray, scale: float) -> np.ndarray:
    """Weights [len(RATIOS)], by EM, of the mixture that makes the counts [K + 1] of |q| likely."""
    size = np.arange(int(np.max(np.flatnonzero(counts), initial=0)) + 1)
    widths = scale * RATIOS[:, None]
    p = ndtr((size + 0.5) / widths) - ndtr((size - 0.5) / widths)  # the sign takes a bit anyway
    p = np.maximum(p, 1e-300)
    prior = np.where(RATIOS == 1, _PRIOR, 0.0)
    weights = np.where(RATIOS == 1, 0.5, 0.5 / (len(RATIOS) - 1))
    for _ in range(_ITERATIONS):
        share = weights[:, None] * p
        mass = share / share.sum(0) @ counts[: len(size)] + prior
        weights = mass / mass.sum()
    return weights
