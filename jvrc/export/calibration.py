"""Calibration of a frozen model on photographs: its fixed-point format and its CDF tables of y.

The format becomes the finest in which the activations of photographs do not saturate. In jvrc2026
the hidden layers of h_s saturate just beyond their range, channel by channel: left alone, they give
text and dither absurd scales, up to 20 bits a pixel.

The residuals (y - mu) / Delta are not quite Gaussian, even given their scale: their distribution
has a higher peak and heavier tails. So each table of y becomes that of a mixture of Gaussians,
whose standard deviations are the table's scale times RATIOS, with weights fitted by expectation
maximisation (EM) to the symbols that photographs put under that table. Files get 2 to 4 % smaller.
"""

import json
from collections.abc import Iterable, Iterator
from dataclasses import replace
from functools import partial

import numpy as np
from scipy.special import ndtr
from tqdm import tqdm

from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.transforms.latents import analyse, dequantise_z, quantise_z
from jvrc.coding import tables
from jvrc.export.format_fitting import Sample, fit_format
from jvrc.frozen.file import seal
from jvrc.frozen.model import FrozenModel
from jvrc.integer import fixed_point
from jvrc.integer.hyper_synthesis import INDEX_COUNT, scale_table
from jvrc.model.config import Jvrc2026Config
from jvrc.qstep import qstep_code_of, qstep_of

RATIOS = 2.0 ** np.arange(-2.0, 3.1, 0.5)
_MAGNITUDE_MAX = 4096  # larger |q| count as this one
_PRIOR = 20.0  # counts in favour of the single Gaussian, for tables that photographs seldom use
_ITERATIONS = 200
_P_MIN = 1e-300


def calibrate(model: FrozenModel, images: Iterable[np.ndarray], *, qsteps: int = 5) -> FrozenModel:
    """Return the model with its fixed-point format and tables of y fitted to images.

    images: uint8 [H,W,3], none of those of any evaluation. Each is quantised with `qsteps` values
    of Delta, spread over the range that the model was trained for.
    """
    low, high = model.metadata["qstep_range"]
    qstep_codes = [qstep_code_of(q) for q in np.geomspace(low, high, qsteps)]
    images = list(images)
    model = _with_fitted_format(model, tqdm(images, desc="analysing", unit="img"), qstep_codes)
    counts = _count_symbols(model, tqdm(images, desc="calibrating", unit="img"), qstep_codes)
    note = f"fixed-point format and tables of y fitted to {len(images)} training photographs"
    header = json.dumps(model.metadata | {"calibration": note})
    return seal(replace(model, y_tables=calibrated_tables(counts), header=header))


def _with_fitted_format(
    model: FrozenModel, images: Iterable[np.ndarray], qstep_codes: list[int]
) -> FrozenModel:
    saturate = model.fixed_point_format.saturates or isinstance(model.config, Jvrc2026Config)
    # z at either end of the trained range has outliers that would make bounds useless
    fitted_to = qstep_codes[1:-1] or qstep_codes if saturate else qstep_codes
    found = fit_format(
        model.config,
        model.params,
        _samples(model, images, fitted_to),
        model.metadata["qstep_range"],
        saturate=saturate,
        z_exponent=model.fixed_point_format.z_exponent,
    )
    network = fixed_point.quantise(model.config, model.params, found)
    return replace(model, fixed_point_format=found, network=network)


def _samples(
    model: FrozenModel, images: Iterable[np.ndarray], qstep_codes: list[int]
) -> Iterator[Sample]:
    """Yield the latents of each image at each qstep."""
    for img in images:
        y, z = analyse(model, img)
        for code in qstep_codes:
            z_hat = dequantise_z(model, quantise_z(model, z, code), code)
            yield Sample(z_hat, y if model.config.has_context else None, qstep_of(code))


def _count_symbols(
    model: FrozenModel, images: Iterable[np.ndarray], qstep_codes: list[int]
) -> np.ndarray:
    """Return how often each magnitude of q occurs by scale index: float64 [90,K + 1]."""
    counts = np.zeros((INDEX_COUNT, _MAGNITUDE_MAX + 1))
    for img in images:
        y, z = analyse(model, img)
        for code in qstep_codes:
            symbols = coder_of(model, quantise_z(model, z, code), code).quantise(y)
            magnitude = np.minimum(np.abs(symbols.y), _MAGNITUDE_MAX)
            np.add.at(counts, (symbols.index.ravel(), magnitude.ravel()), 1)
    return counts


def calibrated_tables(counts: np.ndarray) -> tables.CdfTables:
    """Return tables fitted to counts [90,K + 1] of |q| = 0, 1, ... K under each scale index."""
    cdfs = [
        partial(mixture_cdf, scale, mixture_weights(row, scale))
        for row, scale in zip(counts, scale_table(), strict=True)
    ]
    return tables.build(cdfs, [0] * INDEX_COUNT)


def mixture_cdf(scale: float, weights: np.ndarray, x: np.ndarray) -> np.ndarray:
    """Return the mixture's CDF at x [n]: sum_j w_j Phi(x / (scale * RATIOS_j)), float64 [n]."""
    return weights @ ndtr(x / (scale * RATIOS[:, None]))


def mixture_weights(counts: np.ndarray, scale: float) -> np.ndarray:
    """Return the mixture's weights [len(RATIOS)], fitted by EM to the counts [K + 1] of |q|."""
    magnitude = np.arange(int(np.max(np.flatnonzero(counts), initial=0)) + 1)
    widths = scale * RATIOS[:, None]
    # of one sign of q: the other has the same probability
    p = ndtr((magnitude + 0.5) / widths) - ndtr((magnitude - 0.5) / widths)
    p = np.maximum(p, _P_MIN)
    prior = np.where(RATIOS == 1, _PRIOR, 0.0)
    weights = np.where(RATIOS == 1, 0.5, 0.5 / (len(RATIOS) - 1))
    for _ in range(_ITERATIONS):
        share = weights[:, None] * p
        mass = share / share.sum(0) @ counts[: len(magnitude)] + prior
        weights = mass / mass.sum()
    return weights
