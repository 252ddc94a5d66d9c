"""Claims about the context model on integers: exact, and near the float one."""

import dataclasses

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.codec import image as codec
from jvrc.frozen.file import read_model
from jvrc.integer import context as integer_context
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.model import context, transforms
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of, qstep_of

SHIPPED = [p for n, p in jvrc.models().items() if n == "mbt2018"]


@pytest.fixture
def model(tiny_context):
    return read_model(SHIPPED[0]) if SHIPPED else tiny_context


def test_no_partial_sum_can_leave_the_integers_of_float32(model):
    """The largest sums that any input gives, part by part, from the weights alone."""
    layers, m = model.network.layers, model.config.M
    kernels = [np.abs(v.kernel.astype(np.int64)) for v in layers[3:]]
    parts = [kernels[0][r].reshape(-1, 2 * m) for r in (slice(5), slice(5, 10), slice(10, 12))]
    parts += [kernels[1][0, 0, : 2 * m], kernels[1][0, 0, 2 * m :]]
    parts += [kernels[2][0, 0], kernels[3][0, 0]]
    for part in parts:
        assert np.all(hyper_synthesis.FEATURE_MAX * part.sum(0) <= 2**24)
    for layer, count in zip(layers[3:], (3, 2, 1, 1), strict=True):  # and their sums stay in int32
        added = np.abs(layer.bias.astype(np.int64)) + (1 << layer.shift.astype(np.int64) >> 1)
        assert np.all(added + count * 2**24 < 2**31)


@given(st.integers(QSTEP_CODE_MIN, QSTEP_CODE_MAX))
@settings(deadline=None)
def test_the_integer_step_is_the_nearest(code):
    n = integer_context.step_integer(code)
    assert (2 * n - 1) ** 128 <= 2 ** (11 * 128 + code) < (2 * n + 1) ** 128


@given(
    st.integers(-(2**20), 2**20),
    st.integers(-(2**24), 2**24),
    st.integers(0, 255),
    st.integers(QSTEP_CODE_MIN, QSTEP_CODE_MAX),
    st.integers(0, 12),
    st.integers(0, 20),
)
@settings(max_examples=300, deadline=None)
def test_reconstructions_are_those_of_unbounded_integers(q, mu, delta, code, up, shift):
    """No int32 overflows, whatever a stream and a weights file hold."""
    step = integer_context.step_integer(code)
    network = hyper_synthesis.Network((), np.array([up - 6], np.int32), np.array([shift], np.int32))
    found = integer_context.seen_latents(
        network, *(jnp.full((1, 1), v, jnp.int32) for v in (q, mu, delta)), step
    )
    size = min(512 * abs(q) - delta, 2**30 // step) * step if q else 0
    limit = 2**20 >> up
    y_hat = (max(-limit, min(limit, mu)) << up) + np.sign(q) * ((size + 4096) >> 13)
    expected = (int(y_hat) + (2**shift >> 1)) >> shift
    assert int(found[0, 0]) == max(-1023, min(1023, expected))


@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_all_positions_at_once_give_what_one_after_another_gave(model, photo, qstep):
    """Teacher forcing on integers: one pass over y^ of the whole picture gives the loop's bits."""
    code = qstep_code_of(qstep)
    latents = codec.quantise(model, *codec.analyse(model, photo[:130, :200]), code)
    index, mu = parallel(model, latents, code)
    np.testing.assert_array_equal(index, latents.index)
    np.testing.assert_array_equal(mu, latents.mu)


def parallel(model, latents, code):
    """(index, mu) of all positions from y^ of all positions."""
    network, config = model.network, model.config
    psi = codec._psi(model, latents.z, code)
    unit = 2.0**network.mu_exponent
    delta = np.asarray(model.offsets)[code - QSTEP_CODE_MIN][latents.index].astype(np.int32)
    mu = np.rint(latents.mu / unit).astype(np.int32)
    step = integer_context.step_integer(code)
    y_hat = integer_context.seen_latents(network, jnp.asarray(latents.y), mu, delta, step)
    h, w, _ = y_hat.shape
    padded = np.pad(y_hat, ((2, 0), (2, 2), (0, 0)))

    def taps(row, columns):
        return np.concatenate([padded[row : row + h, c : c + w] for c in columns], -1)

    seen = taps(0, range(5)), taps(1, range(5)), taps(2, range(2))
    bias = network.layers[3].bias[integer_context.step_row(code)]
    weights = integer_context.matrices(network)
    log_sigma, mu = integer_context.parameters(config, network, weights, seen, psi, bias)
    return hyper_synthesis.scale_index(log_sigma, code), hyper_synthesis.mu_of(network, mu)


@pytest.mark.skipif(not SHIPPED, reason="no shipped mbt2018")
@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_scale_indices_and_means_are_those_of_the_float_network_nearly(model, photo, qstep):
    code = qstep_code_of(qstep)
    latents = codec.quantise(model, *codec.analyse(model, photo[:256, :320]), code)
    config, p = model.config, model.params
    delta = np.asarray(model.offsets)[code - QSTEP_CODE_MIN][latents.index] / 512
    step = qstep_of(code)
    y_hat = latents.mu + step * (latents.y - np.sign(latents.y) * delta)

    trained = np.clip(step, *model.metadata["qstep_range"])  # as freezing clips what depends on it

    @jax.jit
    def predict(z_hat, y_hat):
        psi = transforms.hyper_layers(config, p["h_s"], z_hat[None])[-1]
        seen = context.features(config, p["context"], y_hat[None], jnp.float32(trained))
        return context.entropy_parameters(config, p["entropy_parameters"], psi, seen)

    z_hat = codec.hyper_latents(model, latents.z, code) / np.float32(16)
    sigma, mu = (np.asarray(a[0]) for a in predict(z_hat, y_hat.astype(np.float32)))
    scales = hyper_synthesis.scale_table()
    nearest = np.abs(np.log(sigma[..., None] / qstep / scales)).argmin(-1)
    assert np.mean(np.abs(latents.index.astype(int) - nearest) <= 1) > 0.9999
    assert np.quantile(np.abs(latents.mu - mu) / np.maximum(sigma, 0.1 * step), 0.99) < 0.3


def test_units_that_do_not_fit_are_refused(model):
    units, shifts = model.units, list(model.units.shifts)
    shifts[5] = shifts[5] + np.int8(1)
    coarse = units.exponents[6] + np.int8(30)
    lowest = np.full_like(units.bias[0], -(2**31))
    cases = [
        (units._replace(latent=(units.latent[0] + np.int8(30),)), "units/latent/0 must be"),
        (units._replace(latent=(units.latent[0].astype(float),)), "units/latent/0 must be"),
        (units._replace(exponents=(*units.exponents, units.exponents[6])), "those of 7 layers"),
        (units._replace(exponents=(*units.exponents[:6], coarse)), "exponents of mu must be in"),
        (units._replace(exponents=(*units.exponents[:6], coarse - 40)), "exponents of mu must be"),
        (units._replace(bias=(lowest,)), "context/conv must keep every sum"),
        (units._replace(bias=()), "units/bias/0 must be int32"),
        (units._replace(bias=(units.bias[0].astype(np.int16),)), "units/bias/0 must be int32"),
        (units._replace(bias=(units.bias[0] * 0 + 2**30,)), "context/conv must keep every sum"),
        (
            units._replace(
                shifts=(*units.shifts[:5], units.shifts[5] + np.int8(1), units.shifts[6])
            ),
            "entropy_parameters/conv1 must keep every sum",
        ),
    ]
    for damaged, message in cases:
        with pytest.raises(ValueError, match=message):
            fixed_point.quantise(model.config, model.params, damaged)


def test_the_codec_never_computes_with_the_float_weights(model, photo):
    changed = dict(model.params)
    for part in ("h_s", "context", "entropy_parameters"):
        changed[part] = jax.tree.map(lambda a: 2 * a, changed[part])
    other = dataclasses.replace(model, params=changed)
    assert jvrc.compress(other, photo[:64, :64], 2.0) == jvrc.compress(model, photo[:64, :64], 2.0)
