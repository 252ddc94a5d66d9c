"""Claims about the integer context model: equal to the reference decoder's, and near the float one.

The loop over positions is tested in tests/codec/test_wavefront.py and test_reference.py.
"""

from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.export.format_fitting import drawn_sample
from jvrc.integer import context as integer_context
from jvrc.integer import hyper_synthesis
from jvrc.integer.network import ContextNetwork, Network
from jvrc.model import context, transforms
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
WEIGHTS = [GOLDEN / "tiny-context.safetensors", jvrc.models()["mbt2018"]]
FEATURE_MAX = integer_context.FEATURE_MAX


@given(st.integers(QSTEP_CODE_MIN, QSTEP_CODE_MAX))
@settings(deadline=None)
def test_the_integer_qstep_is_the_nearest(code):
    n = integer_context.qstep_integer(code)
    assert (2 * n - 1) ** 128 <= 2 ** (11 * 128 + code) < (2 * n + 1) ** 128


def test_every_qstep_code_has_the_bias_of_the_nearest_eighth_code():
    for code in range(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1):
        row = integer_context.bias_row(code)
        assert 0 <= row < integer_context.BIAS_COUNT
        assert abs(QSTEP_CODE_MIN + 8 * row - code) <= 4


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
    qstep = integer_context.qstep_integer(code)
    behind = ContextNetwork(None, None, latent_shift=np.array([shift], np.int32))
    network = Network(None, behind, mu_exponent=np.array([up - 6], np.int32))
    found = integer_context.seen_latents(
        network, *(jnp.full((1, 1), v, jnp.int32) for v in (q, mu, delta)), qstep
    )
    size = min(512 * abs(q) - delta, 2**30 // qstep) * qstep if q else 0
    limit = 2**20 >> up
    y_hat = (max(-limit, min(limit, mu)) << up) + np.sign(q) * ((size + 4096) >> 13)
    expected = (int(y_hat) + (2**shift >> 1)) >> shift
    assert int(found[0, 0]) == max(-FEATURE_MAX, min(FEATURE_MAX, expected))


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("code", [QSTEP_CODE_MIN, 0, 131, QSTEP_CODE_MAX])
def test_random_inputs_give_the_references_integers(path, code, reference):
    """Many positions at once give what the reference gives of one after another."""
    model, theirs = jvrc.load(path), reference.Context(*reference.load(path), code)
    rng, m = np.random.default_rng(code + 128), model.config.M
    seen = np.rint(rng.laplace(0, 100, (6, 12, m))).clip(-FEATURE_MAX, FEATURE_MAX)
    psi = np.rint(rng.laplace(0, 100, (6, 2 * m))).clip(-FEATURE_MAX, FEATURE_MAX).astype(int)
    rows = tuple(seen[:, r].reshape(6, -1) for r in context.ROWS)
    found = integer_context.parameters(
        model.config,
        model.network,
        integer_context.matrices(model.network),
        rows,
        psi_sums(model.network, psi),
        np.tile(model.network.context.conv.bias[integer_context.bias_row(code)], (6, 1)),
    )
    for i in range(6):
        features = theirs.features(seen[i].ravel().astype(int))
        for ours, expected in zip(found, theirs.parameters(psi[i], features), strict=True):
            np.testing.assert_array_equal(ours[i], expected)


def psi_sums(network, psi):
    """What psi [...,2M] adds to the sums of the first layer: int32."""
    kernel = network.context.entropy_parameters.conv0.kernel[0, 0, : psi.shape[-1]]
    return jnp.asarray(psi @ kernel.astype(int), jnp.int32)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
def test_psis_part_of_the_sums_is_the_references(path, reference):
    model = jvrc.load(path)
    z_hat = np.random.default_rng(0).integers(-40, 41, (1, 2, 3, model.config.N))
    psi = reference.hyper_layers(*reference.load(path), z_hat[0])
    expected = psi_sums(model.network, psi.clip(-FEATURE_MAX, FEATURE_MAX))
    found = integer_context.psi_part(model.config, model.network, z_hat, None)[0]
    np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_scale_indices_and_means_are_those_of_the_float_network_nearly(golden, qstep):
    """On weights whose scales spread over all tables, and means over a range of 140."""
    model, code = golden("tiny-context"), qstep_code_of(qstep)
    config, network, p = model.config, model.network, model.params
    n, j = config.N, len(model.z_steps) // 2
    z_tables = model.z_tables.select(j * n, n)
    z_hat, y, _ = drawn_sample(config, p, z_tables, model.medians, model.z_steps[j])
    psi = integer_context.psi_part(config, network, z_hat[None], None)[0]
    bias = network.context.conv.bias[integer_context.bias_row(code)]
    weights = integer_context.matrices(network)
    log_sigma, mu = integer_context.parameters(
        config, network, weights, seen_of(network, y), psi, bias
    )
    index = np.asarray(hyper_synthesis.scale_index(log_sigma, code)).astype(int)

    @jax.jit
    def predict(z, y, qstep):
        psi = transforms.hyper_layers(config, p["h_s"], z)[-1]
        features = context.features(config, p["context"], y, qstep)
        return context.entropy_parameters(config, p["entropy_parameters"], psi, features)

    trained = np.float32(np.clip(qstep, *model.metadata["qstep_range"]))
    found = predict(z_hat[None] / np.float32(16), y[None], trained)
    sigma, expected = (np.asarray(a[0]) for a in found)
    scales = hyper_synthesis.scale_table()
    nearest = np.abs(np.log(sigma[..., None] / qstep / scales)).argmin(-1)
    assert np.mean(np.abs(index - nearest) <= 1) > 0.95
    assert np.abs(np.asarray(hyper_synthesis.mu_of(network, mu)) - expected).max() < 0.5


def seen_of(network, y):
    """What the context sees at all positions of y^ = y [h,w,M], rounded to the units of mu."""
    mu = np.rint(y / 2.0**network.mu_exponent).astype(np.int32)
    none = np.zeros_like(mu)
    seen = np.asarray(integer_context.seen_latents(network, none, mu, none, 1))
    h, w, _ = seen.shape
    padded = np.pad(seen, ((2, 0), (2, 2), (0, 0)))

    def taps(row, columns):
        return np.concatenate([padded[row : row + h, c : c + w] for c in columns], -1)

    return taps(0, range(5)), taps(1, range(5)), taps(2, range(2))
