"""Claims about the integer h_s: equal to the reference decoder's, and near the float network."""

from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.codec.transforms.latents import analyse, dequantise_z, quantise_z
from jvrc.export.format_fitting import drawn_z
from jvrc.frozen.file import read_model
from jvrc.frozen.header import read_header
from jvrc.integer import hyper_synthesis
from jvrc.model import transforms
from jvrc.model.config import config_of
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
TRAINED = GOLDEN.parent / "trained" / "mbt2018-mean.safetensors"
# Those without a context model: of that, see test_context.py
WEIGHTS = [
    path
    for path in (*sorted(GOLDEN.glob("*.safetensors")), *jvrc.models().values())
    if read_header(path)["config"]["architecture"] != "mbt2018"
]
SCALES = hyper_synthesis.scale_table()

synthesise = jax.jit(hyper_synthesis.synthesise, static_argnums=0)


def ours(model, z_hat):
    return [np.asarray(a[0]) for a in synthesise(model.config, model.network, z_hat[None])]


# -- the same integers as the reference


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("largest", [3, 40, hyper_synthesis.Z_MAX])
def test_random_latents_give_the_references_integers(path, largest, reference):
    model = jvrc.load(path)
    rng = np.random.default_rng(largest)
    z_hat = rng.integers(-largest, largest + 1, (2, 3, model.config.N)).astype(np.int32)
    expected = reference.hyper_synthesis(*reference.load(path), z_hat.astype(np.int64))
    for found, theirs in zip(ours(model, z_hat), expected, strict=True):
        np.testing.assert_array_equal(found, theirs)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
def test_latents_like_those_of_images_give_the_references_indices_and_means(path, reference):
    model, weights = jvrc.load(path), reference.load(path)
    z_hat = typical_z(model)[:3, :3]
    log_sigma, mu = ours(model, z_hat)
    t, theirs = reference.hyper_synthesis(*weights, z_hat.astype(np.int64))
    for qstep in (0.5, 3.0, 32.0):
        code = qstep_code_of(qstep)
        found = hyper_synthesis.scale_index(log_sigma, code)
        np.testing.assert_array_equal(found, reference.scale_index(t, code))
    means = reference.means(*weights, theirs)
    np.testing.assert_array_equal(hyper_synthesis.mu_of(model.network, mu), means)


def typical_z(model):
    """z^ int32 [64,64,N] as often as the model's tables of z say."""
    n, j = model.config.N, len(model.z_steps) // 2
    return drawn_z(model.z_tables.select(j * n, n), model.medians, model.z_steps[j])


def test_a_batch_gives_what_each_alone_gives(golden):
    model = golden("tiny-mean")
    z_hat = np.random.default_rng(0).integers(-50, 50, (4, 1, 2, model.config.N))
    together = synthesise(model.config, model.network, z_hat)
    for i in range(4):
        for found, alone in zip(together, ours(model, z_hat[i]), strict=True):
            np.testing.assert_array_equal(found[i], alone)


def test_a_tile_of_a_larger_size_gives_the_same_inside(golden):
    model = golden("tiny-mean")
    z_hat = np.random.default_rng(1).integers(-50, 50, (2, 3, model.config.N))
    padded = np.pad(z_hat, ((1, 1), (2, 0), (0, 0)))
    valid = np.array([64, 192, 128, 320])
    found = synthesise(model.config, model.network, padded[None], tuple(valid))
    for tile, alone in zip(found, ours(model, z_hat), strict=True):
        np.testing.assert_array_equal(tile[0, 4:12, 8:20], alone)


# -- near the float network


def wasted_bits(scale, coded_scale, shift):
    """Bits that Gaussians of another scale and mean waste, as a share of the latents' entropy."""
    s, t = (np.maximum(x, 0.3) for x in (scale, coded_scale))  # smaller ones: nearly always zeros
    wasted = np.log(t / s) + (s**2 + shift**2) / (2 * t**2) - 0.5
    entropy = np.maximum(0.5 * np.log(2 * np.pi * np.e * s**2), 0)
    return wasted.sum() / entropy.sum()


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale", "tiny-linear"])
@pytest.mark.parametrize(("qstep", "waste"), [(0.5, 0.03), (2.0, 0.005), (16.0, 0.002)])
def test_scale_indices_and_means_are_those_of_the_float_network_nearly(golden, name, qstep, waste):
    """On weights whose scales spread over all tables, and means over a range of 80."""
    model, code = golden(name), qstep_code_of(qstep)
    z_hat = typical_z(model)[:16, :16]
    log_sigma, mu = ours(model, z_hat)
    index = np.asarray(hyper_synthesis.scale_index(log_sigma, code)).astype(int)
    float_h_s = jax.jit(transforms.h_s, static_argnums=0)
    z = z_hat[None] / np.float32(16)
    sigma, expected = (np.asarray(a[0]) for a in float_h_s(model.config, model.params["h_s"], z))
    scale = np.clip(sigma / qstep, SCALES[0], SCALES[-1])
    nearest = np.abs(np.log(scale[..., None] / SCALES)).argmin(-1)
    assert np.mean(np.abs(index - nearest) <= 1) > 0.9  # an index is 9 % of the scale
    error = np.asarray(hyper_synthesis.mu_of(model.network, mu)) - expected
    assert np.abs(error).max() < 0.5
    assert wasted_bits(scale, SCALES[index], error / qstep) < waste


@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_a_trained_models_indices_and_means_are_nearly_those_of_its_float_network(photo, qstep):
    """On a photograph, with a small model that was trained for this test and never changes."""
    model, code = read_model(TRAINED), qstep_code_of(qstep)
    z = analyse(model, photo[:256, :320])[1]
    z_hat = dequantise_z(model, quantise_z(model, z, code), code)
    log_sigma, mu = ours(model, z_hat)
    index = np.asarray(hyper_synthesis.scale_index(log_sigma, code)).astype(int)
    float_h_s = jax.jit(transforms.h_s, static_argnums=0)
    sigma, expected = (
        np.asarray(a[0])
        for a in float_h_s(model.config, model.params["h_s"], z_hat[None] / np.float32(16))
    )
    nearest = np.abs(np.log(sigma[..., None] / qstep / SCALES)).argmin(-1)
    assert np.mean(np.abs(index - nearest) <= 1) > 0.9999  # an index is 9 % of the scale
    error = np.asarray(hyper_synthesis.mu_of(model.network, mu)) - expected
    assert np.quantile(np.abs(error) / sigma, 0.99) < 0.2
    assert wasted_bits(sigma / qstep, SCALES[index], error / qstep) < 0.001


# -- the logarithmic grid


def log2_of(sigma):
    """log2 of integers [n] in units of 2**-9, as a network that predicts sigma itself gives it."""
    config = config_of("bmshj2018-hyperprior", M=len(sigma), log_scale=False)
    return np.asarray(hyper_synthesis.split_parameters(config, jnp.array(sigma, jnp.int32))[0])


@given(st.integers(1, 2**24))
@settings(max_examples=300, deadline=None)
def test_log2_is_rounded_exactly(n):
    """The grid's step k is nearest: 2**(2k - 1) <= n**256 < 2**(2k + 1)."""
    k = int(log2_of([n])[0]) + 9 * 128
    assert Fraction(2) ** (2 * k - 1) <= n**256 < 2 ** (2 * k + 1)


def test_a_sigma_that_is_not_positive_has_the_smallest_scale():
    log_sigma = log2_of([-(2**24), -1, 0, 1])
    assert np.all(log_sigma == -9 * 128)
    assert np.all(np.asarray(hyper_synthesis.scale_index(log_sigma, np.int32(-128))) == 0)


@given(st.integers(-20_000, 20_000), st.integers(QSTEP_CODE_MIN, QSTEP_CODE_MAX))
@settings(deadline=None)
def test_the_scale_index_is_the_nearest_scale(t, code):
    log2_ratio = (t - code) / 128
    index = int(hyper_synthesis.scale_index(jnp.int32(t), code))
    distance = np.abs(np.log2(SCALES) - log2_ratio)
    assert distance[index] <= distance.min() + 1e-9


def test_packing_log_sigma_changes_no_index_at_any_step():
    log_sigma = np.array([-(2**24), -(2**15), -9000, -408, 0, 1031, 9000, 2**15, 2**24], np.int32)
    packed = np.asarray(hyper_synthesis.packed_log_sigma(jnp.asarray(log_sigma)))
    assert packed.dtype == np.int16
    for code in range(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1):
        expected = hyper_synthesis.scale_index(log_sigma, code)
        np.testing.assert_array_equal(hyper_synthesis.scale_index(packed, code), expected)
