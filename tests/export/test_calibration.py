"""Claims about calibration on photographs: CDF tables of y and the fixed-point format."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from scipy.special import ndtr

import jvrc
from jvrc.coding import tables
from jvrc.evaluation.metrics import psnr
from jvrc.export import calibration, freezing
from jvrc.frozen.file import read_model
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.integer.bounds import HIDDEN_LAYERS

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
SCALES = hyper_synthesis.scale_table()


def gaussian_counts(scale, total):
    size = np.arange(400)
    p = ndtr((size + 0.5) / scale) - ndtr((size - 0.5) / scale)
    return total * np.where(size == 0, p, 2 * p)


@pytest.mark.parametrize("index", [12, 25, 40])
def test_gaussian_counts_give_back_the_gaussian(index):
    weights = calibration.mixture_weights(gaussian_counts(SCALES[index], 1e6), SCALES[index])
    assert weights.sum() == pytest.approx(1)
    edges = np.arange(-400, 401) - 0.5
    true = np.diff(ndtr(edges / SCALES[index]))
    mixed = np.diff(calibration.mixture_cdf(SCALES[index], weights, edges))
    seen = true > 1e-12
    excess_bits = np.sum(true[seen] * np.log2(true[seen] / mixed[seen]))
    assert 0 <= excess_bits < 1e-3


def test_a_table_without_counts_is_the_gaussian():
    plain, fitted = freezing.gaussian_tables(), calibration.calibrated_tables(np.zeros((90, 9)))
    for a, b in zip(plain, fitted, strict=True):
        np.testing.assert_array_equal(a, b)


def test_heavy_tails_cost_fewer_bits_than_under_the_gaussian():
    rng = np.random.default_rng(0)
    scale_index = 32
    values = np.rint(SCALES[scale_index] * rng.laplace(scale=0.6, size=40_000)).astype(int)
    seen, held = values[:20_000], values[20_000:]
    counts = np.zeros((90, 400))
    np.add.at(counts[scale_index], np.abs(seen), 1)

    def cost(symbol_tables):
        index = np.full(len(held), scale_index)
        symbols, escaped = tables.to_symbols(held, index, symbol_tables)
        return tables.ideal_bits(symbols, index, symbol_tables) + 16 * len(escaped)

    assert cost(calibration.calibrated_tables(counts)) < 0.97 * cost(freezing.gaussian_tables())


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-context"])
def test_a_calibrated_model_is_another_model_that_round_trips_in_fewer_bytes(name, photo):
    plain = read_model(GOLDEN / f"{name}.safetensors")  # with the tables of Gaussians
    crops = [photo[i : i + 120, j : j + 128] for i in (0, 200) for j in (0, 450)]
    fitted = calibration.calibrate(plain, crops, qsteps=2)
    assert fitted.model_id != plain.model_id
    assert "4 training photographs" in fitted.metadata["calibration"]
    img = photo[100:228, 250:442]
    few, many = (jvrc.compress(m, img, 4) for m in (fitted, plain))
    assert len(few) < len(many)
    again, before = jvrc.decompress(fitted, few), jvrc.decompress(plain, many)
    assert psnr(img, again) == pytest.approx(psnr(img, before), abs=0.02)


def with_bounds(model, value):
    """The model with hidden layers of h_s that saturate at 0 and a value in all channels."""
    found = model.fixed_point_format
    layers = dict(found.layers)
    for name in HIDDEN_LAYERS:
        low = np.zeros(layers[name].shift.shape, np.int16)
        layers[name] = layers[name]._replace(low=low, high=low + np.int16(value))
    found = found._replace(layers=layers)
    network = fixed_point.quantise(model.config, model.params, found)
    return replace(model, fixed_point_format=found, network=network)


def test_bounds_are_fitted_to_the_images_whatever_they_were(photo):
    plain = read_model(GOLDEN / "tiny-mean.safetensors")
    crops = [photo[:64, :64], photo[200:264, 300:428]]
    narrow, wide = (calibration.calibrate(with_bounds(plain, v), crops, qsteps=2) for v in (0, 255))
    assert narrow.fixed_point_format.saturates
    assert narrow.model_id == wide.model_id


def test_a_model_without_bounds_gets_none(photo):
    plain = read_model(GOLDEN / "tiny-mean.safetensors")
    fitted = calibration.calibrate(plain, [photo[:64, :64]], qsteps=2)
    assert not fitted.fixed_point_format.saturates
