import dataclasses

import numpy as np
import pytest
from scipy.special import ndtr

import jvrc
from jvrc.codec import image as codec
from jvrc.coding import tables
from jvrc.evaluation.metrics import psnr
from jvrc.export import calibration, freezing
from jvrc.frozen.file import save_model
from jvrc.integer import hyper_synthesis
from jvrc.model import transforms
from jvrc.qstep import qstep_code_of

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


def test_a_calibrated_model_is_another_model_that_round_trips_in_fewer_bytes(tmp_path, photo):
    shipped = jvrc.load("mbt2018-mean")  # random weights have nothing to calibrate
    # beside the picture below; of much fewer samples, h_s saturates on it
    crops = [photo[i : i + 200, j : j + 250] for i in (0, 200) for j in (0, 500)]
    plain = dataclasses.replace(shipped, y_tables=freezing.gaussian_tables())
    gaussian = save_model(plain, tmp_path / "gaussian.safetensors")
    fitted = save_model(
        calibration.calibrate(gaussian, crops, steps=2), tmp_path / "fitted.safetensors"
    )
    assert fitted.model_id != gaussian.model_id
    assert "4 training photographs" in fitted.metadata["calibration"]
    img = photo[40:300, 250:500]
    few, many = (jvrc.compress(m, img, 4) for m in (fitted, gaussian))
    assert len(few) < len(many)
    again, before = jvrc.decompress(fitted, few), jvrc.decompress(gaussian, many)
    assert psnr(img, again) == pytest.approx(psnr(img, before), abs=0.02)


def test_units_are_the_finest_that_hold_the_activations_of_the_photographs(photo):
    model = jvrc.load("mbt2018-mean")
    img = photo[:128, :192]
    fitted = calibration.calibrate(model, [img], steps=3)
    codes = [qstep_code_of(q) for q in (1.5, 4.9, 16)]
    _, z = codec.analyse(model, img)
    largest = [np.zeros(1), np.zeros(1)]
    for code in codes:
        z_hat = codec.hyper_latents(model, codec.round_z(model, z, code), code)
        layers = transforms.hyper_layers(model.config, model.params["h_s"], z_hat[None] / 16.0)
        for i in (0, 1):
            found = np.abs(np.asarray(layers[i])).max((0, 1, 2))
            largest[i] = np.maximum(largest[i], found)
    for i in (0, 1):
        unit = 2.0 ** fitted.units.exponents[i].astype(float)
        assert np.all(largest[i] <= 255 * unit * 1.001)
        assert np.all(largest[i] > 255 * unit / 2.002)


def test_quantise_gives_what_the_file_holds(tiny, photo):
    img = photo[:70, :90]
    code = qstep_code_of(2.0)
    latents = codec.quantise(tiny, *codec.analyse(tiny, img), code)
    assert latents.y.shape == latents.index.shape == latents.mu.shape == (8, 8, tiny.config.M)
    assert latents.z.shape == (2, 2, tiny.config.N)
    assert latents.y.dtype == latents.z.dtype == np.int32
    assert latents.index.dtype == np.uint8
    decoded = codec.decode_latents(tiny, jvrc.compress(tiny, img, 2.0))
    for ours, theirs in zip(latents, decoded, strict=True):
        np.testing.assert_array_equal(ours, theirs)
