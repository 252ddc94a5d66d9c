"""What freezing learns from photographs: the range of activations, and the tables of y.

The integer networks get units in which the activations for real pictures just fit.

A network's residuals (y - mu) / Delta are not quite normal, even given their scale: they peak
higher and reach further. So each table of y becomes a mixture of Gaussians whose scales are
those of the table times RATIOS, with weights fitted by expectation maximisation to what real
photographs put under that table. Decoders read tables anyway; files get 2 to 4 % smaller.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import ndtr
from tqdm import tqdm

from jvrc.codec.coders import coder_of
from jvrc.codec.latents import analyse, dequantise_z, quantise_z
from jvrc.coding import tables
from jvrc.export import freezing
from jvrc.frozen.file import seal
from jvrc.frozen.model import FrozenModel
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.qstep import qstep_code_of, qstep_of

RATIOS = 2.0 ** np.arange(-2.0, 3.1, 0.5)
_REACH = 4096  # larger magnitudes count as this one
_PRIOR = 20.0  # counts in favour of the Gaussian itself, for tables that photographs seldom use
_ITERATIONS = 200


def calibrate(model: FrozenModel, pictures: Iterable[np.ndarray], *, steps: int = 5) -> FrozenModel:
    """The model with units and tables of y fitted to pictures.

    pictures: uint8 [H,W,3], none of those of any evaluation.
    Each picture is quantised at `steps` steps over the range that the model was trained for.
    """
    low, high = model.metadata["qstep_range"]
    codes = [qstep_code_of(q) for q in np.geomspace(low, high, steps)]
    pictures = list(pictures)
    model = _with_units(model, tqdm(pictures, desc="analysing", unit="img"), codes)
    counts = np.zeros((hyper_synthesis.INDEX_COUNT, _REACH + 1))
    for img in tqdm(pictures, desc="calibrating", unit="img"):
        y, z = analyse(model, img)
        for code in codes:
            symbols = coder_of(model, quantise_z(model, z, code), code).quantise(y)
            size = np.minimum(np.abs(symbols.y), _REACH)
            np.add.at(counts, (symbols.index.ravel(), size.ravel()), 1)
    said = f"units of h_s and tables of y fitted to {len(pictures)} training photographs"
    header = json.dumps(model.metadata | {"calibration": said})
    return seal(replace(model, y_tables=calibrated_tables(counts), header=header))


def _with_units(
    model: FrozenModel, pictures: Iterable[np.ndarray], codes: list[int]
) -> FrozenModel:
    """The model with its networks rounded in units that fit the pictures at the steps of codes."""
    config, params = model.config, model.params

    def samples() -> Iterator[freezing.Sample]:
        for img in pictures:
            y, z = analyse(model, img)
            for code in codes:
                z_hat = dequantise_z(model, quantise_z(model, z, code), code)
                seen = y if config.has_context else None
                yield freezing.Sample(z_hat, seen, qstep_of(code))

    units = freezing.fitted_units(config, params, samples(), model.metadata["qstep_range"])
    return replace(model, units=units, network=fixed_point.quantise(config, params, units))


def calibrated_tables(counts: np.ndarray) -> tables.SymbolTables:
    """Tables from how often |q| = 0, 1, … K occurred under each scale: counts [90, K + 1]."""
    cdfs = [
        partial(mixture_cdf, scale, mixture_weights(row, scale))
        for row, scale in zip(counts, hyper_synthesis.scale_table(), strict=True)
    ]
    return tables.build(cdfs, [0] * hyper_synthesis.INDEX_COUNT)


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
