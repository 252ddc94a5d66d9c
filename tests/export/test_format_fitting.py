"""Claims about fixed-point formats fitted to samples of latents."""

from pathlib import Path

import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.export.format_fitting import Sample, context_bias, drawn_sample, fit_format
from jvrc.frozen.file import read_model
from jvrc.integer.bounds import HIDDEN_LAYERS
from jvrc.model import context, transforms
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


def model_of(name):
    return read_model(GOLDEN / f"{name}.safetensors")


def sample_of(model):
    n, j = model.config.N, len(model.z_steps) // 2
    z_tables = model.z_tables.select(j * n, n)
    return drawn_sample(model.config, model.params, z_tables, model.medians, model.z_steps[j])


def largest_of(outputs):
    return np.abs(np.asarray(outputs)).max((0, 1, 2))


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale", "tiny-context"])
def test_units_are_the_finest_that_hold_the_activations_of_all_samples(name):
    """Coarser ones only where the weights are so large that sums leave no shift."""
    model = model_of(name)
    z_hat, y, qstep = sample_of(model)
    samples = [
        Sample(z_hat[:3, :4], y if y is None else y[:12, :16], qstep),
        Sample(4 * z_hat[5:7, :2], y if y is None else y[20:28, :8], qstep),
    ]
    found = fit_format(model.config, model.params, samples, (1.0, 16.0))
    layers = [
        transforms.hyper_layers(model.config, model.params["h_s"], s.z_hat[None] / np.float32(16))
        for s in samples
    ]
    for i, layer in enumerate(("h_s/deconv0", "h_s/deconv1")):
        largest = np.maximum(*(largest_of(outputs[i]) for outputs in layers))
        unit = 2.0 ** found.layers[layer].exponent.astype(float)
        assert np.all(largest <= 255 * unit * 1.001)
        unshifted = found.layers[layer].shift == 0
        assert np.all((largest > 255 * unit / 2.002) | unshifted)
        assert not unshifted.all()


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale", "tiny-context"])
def test_bounds_are_the_range_of_all_samples_times_1_2_about_its_middle(name):
    """Rounded outwards to the unit, which is the finest that holds them."""
    model = model_of(name)
    z_hat, y, qstep = sample_of(model)
    samples = [
        Sample(z_hat[:3, :4], y if y is None else y[:12, :16], qstep),
        Sample(4 * z_hat[5:7, :2], y if y is None else y[20:28, :8], qstep),
    ]
    found = fit_format(model.config, model.params, samples, (1.0, 16.0), saturate=True)
    layers = [
        transforms.hyper_layers(model.config, model.params["h_s"], s.z_hat[None] / np.float32(16))
        for s in samples
    ]
    for i, name in enumerate(HIDDEN_LAYERS):
        outputs = [np.asarray(layer[i]) for layer in layers]
        lowest = np.minimum(*(o.min((0, 1, 2)) for o in outputs))
        highest = np.maximum(*(o.max((0, 1, 2)) for o in outputs))
        more = 0.1 * (highest - lowest)
        chosen = found.layers[name]
        unit = 2.0 ** chosen.exponent.astype(float)
        assert np.all(np.abs((lowest - more) / unit - 0.5 - chosen.low) < 0.501)
        assert np.all(np.abs((highest + more) / unit + 0.5 - chosen.high) < 0.501)
        largest = np.maximum(np.abs(chosen.low), np.abs(chosen.high))
        assert np.all(largest <= 255)
        assert np.all((largest > 127) | (chosen.shift == 0))


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-context"])
def test_without_saturation_the_format_has_no_bounds(name):
    model = model_of(name)
    found = fit_format(model.config, model.params, [sample_of(model)], (1.0, 16.0))
    assert not found.saturates
    assert all(layer.low is None and layer.high is None for layer in found.layers.values())


def test_the_context_sees_the_range_of_y():
    model = model_of("tiny-context")
    sample = sample_of(model)
    found = fit_format(model.config, model.params, [sample], (1.0, 16.0))
    unit = 2.0 ** (found.latent_shift.astype(float) - 6)
    largest = np.abs(sample.y).max((0, 1))
    assert np.all(largest <= 1023 * unit)
    assert np.all((largest > 1023 * unit / 2) | (found.latent_shift == 0))


def test_the_contexts_bias_stays_at_the_ends_of_the_trained_range():
    params = model_of("tiny-context").params
    bias = context_bias(params, 1.0, 16.0)
    qsteps = 2.0 ** (np.arange(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1, 8) / 128)
    for row, qstep in zip(bias, np.clip(qsteps, 1, 16), strict=True):
        expected = context.step_bias(params["context"], jnp.full((1,), qstep, jnp.float32))
        np.testing.assert_allclose(row, np.asarray(expected).ravel(), rtol=1e-5, atol=1e-6)
    assert np.ptp(bias, axis=0).max() > 0.1


def test_the_drawn_sample_is_the_same_each_time():
    model = model_of("tiny-context")
    for a, b in zip(sample_of(model), sample_of(model), strict=True):
        np.testing.assert_array_equal(a, b)
