"""Claims about the integer hyper synthesis: exact, equal to the reference, near the float one."""

import dataclasses
import importlib.util
from fractions import Fraction
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc.codec import image as codec
from jvrc.export import freezing
from jvrc.frozen.header import read_header
from jvrc.integer import fixed_point, hyper_synthesis
from jvrc.model import transforms
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, qstep_code_of

GOLDEN = Path(__file__).parents[1] / "golden" / "v1"
# Those without a context model: of that, see test_exact_context.py and test_reference.py
WEIGHTS = [
    path
    for path in (*sorted(GOLDEN.glob("*.safetensors")), *jvrc.models().values())
    if read_header(path)["config"]["architecture"] != "mbt2018"
]

_spec = importlib.util.spec_from_file_location(
    "reference_decoder", GOLDEN.parents[1] / "reference_decoder.py"
)
reference = importlib.util.module_from_spec(_spec)
_spec.loader.exec_module(reference)

synthesise = jax.jit(hyper_synthesis.synthesise, static_argnums=0)


def by_reference(path, z_hat):
    """(log2 sigma, mu), int64, of plain NumPy integers: tests/reference_decoder.py."""
    return reference.hyper_synthesis(*reference.load(path), z_hat.astype(np.int64))


def ours(model, z_hat):
    return [np.asarray(a[0]) for a in synthesise(model.config, model.network, z_hat[None])]


@pytest.fixture(scope="module")
def shipped():
    return jvrc.load("mbt2018-mean")


# -- the same integers as the reference


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("largest", [3, 40, hyper_synthesis.Z_MAX])
def test_random_latents_give_the_references_integers(path, largest):
    model = jvrc.load(path)
    rng = np.random.default_rng(largest)
    z_hat = rng.integers(-largest, largest + 1, (2, 3, model.config.N)).astype(np.int32)
    for found, expected in zip(ours(model, z_hat), by_reference(path, z_hat), strict=True):
        np.testing.assert_array_equal(found, expected)


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
@pytest.mark.parametrize("qstep", [0.5, 3.0, 32.0])
def test_a_photograph_gives_the_references_scale_indices(path, qstep, photo):
    model, code = jvrc.load(path), qstep_code_of(qstep)
    latents = codec.quantise(model, *codec.analyse(model, photo[:190, 100:250]), code)
    t, mu = by_reference(path, codec.hyper_latents(model, latents.z, code))
    np.testing.assert_array_equal(latents.index, reference.scale_index(t, code))
    unit = 2.0**model.network.mu_exponent if model.network.mu_exponent.size else 1.0
    np.testing.assert_array_equal(latents.mu, mu * unit)


def test_a_batch_gives_what_each_alone_gives(shipped):
    z_hat = np.random.default_rng(0).integers(-50, 50, (4, 1, 2, shipped.config.N))
    together = synthesise(shipped.config, shipped.network, z_hat)
    for i in range(4):
        for found, alone in zip(together, ours(shipped, z_hat[i]), strict=True):
            np.testing.assert_array_equal(found[i], alone)


def test_a_tile_of_a_larger_size_gives_the_same_inside(shipped):
    z_hat = np.random.default_rng(1).integers(-50, 50, (2, 3, shipped.config.N))
    padded = np.pad(z_hat, ((1, 1), (2, 0), (0, 0)))
    valid = np.array([64, 192, 128, 320])
    found = jax.jit(hyper_synthesis.synthesise, static_argnums=0)(
        shipped.config, shipped.network, padded[None], tuple(valid)
    )
    for tile, alone in zip(found, ours(shipped, z_hat), strict=True):
        np.testing.assert_array_equal(tile[0, 4:12, 8:20], alone)


# -- why no machine can disagree


@pytest.mark.parametrize("path", WEIGHTS, ids=lambda p: p.stem)
def test_no_partial_sum_can_leave_the_integers_of_float32(path):
    """The largest sums that any input gives, output by output, from the weights alone."""
    network = jvrc.load(path).network
    for i, layer in enumerate(network.layers):
        kernel = np.abs(layer.kernel.astype(np.int64))
        phases = [kernel[r::2, s::2] for r in (0, 1) for s in (0, 1)] if i < 2 else [kernel]
        channels = np.stack([k.sum((0, 1)) for k in phases]) * (255 if i else 2047)  # [.,I,O]
        added = np.abs(layer.bias.astype(np.int64)) + (1 << layer.shift >> 1)
        if i == 0:  # products of eight channels each, added in int32
            assert np.all(channels.sum(1) + added < 2**31)
            runs = np.split(channels, range(8, channels.shape[1], 8), axis=1)
            largest = np.max([run.sum(1) for run in runs], axis=(0, 1))
        else:
            largest = channels.sum(1).max(0) + added
        assert np.all(largest <= 2**24)
        assert largest.max() > 2**22  # and the bits are used


def test_sums_at_the_very_bound_are_exact_in_any_order():
    """Inputs of the weights' signs reach 2**24 less a little; halves and permutations agree."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-50, 51, (2592, 8))
    while (excess := 255 * np.abs(kernel).sum(0) > 2**24).any():
        kernel[rng.integers(2592), excess] = 0
    order = rng.permutation(2592)
    for column in range(8):
        flips = np.where(rng.random((64, 2592)) < 0.05, -1, 1)
        flips[0] = 1
        x = 255 * flips * np.sign(kernel[:, column])
        exactly = x @ kernel
        assert 0.97 * 2**24 < np.abs(exactly).max() <= 2**24
        for p in (np.arange(2592), order):
            product = hyper_synthesis.product(
                jnp.asarray(x[None, None, :, p], jnp.float32), kernel[p]
            )
            np.testing.assert_array_equal(np.asarray(product)[0, 0], exactly)


@pytest.mark.parametrize("inputs", [3, 8, 21, 64])
def test_sums_in_runs_of_channels_are_exact_beyond_24_bits(inputs):
    """Every run of eight reaches 2**24 less a little; their sum is odd and does not fit float32."""
    rng = np.random.default_rng(inputs)
    signs = rng.choice([-1, 1], (2, 2, inputs, 1))
    kernel = rng.integers(250, 255, (2, 2, inputs, 5)) * signs
    x = np.where(rng.random((3, 4, inputs)) < 0.9, 2047, 2046) * signs.reshape(4, inputs)
    exactly = x.reshape(3, -1) @ kernel.reshape(-1, 5)
    assert inputs < 64 or np.any(exactly != exactly.astype(np.float32))
    found = jax.jit(hyper_synthesis._product_in_runs)(x.reshape(3, -1), kernel)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, exactly)


def test_larger_shifts_than_the_sums_allow_are_refused(shipped):
    shifts = list(shipped.units.shifts)
    shifts[1] = shifts[1] + np.int8(1)
    with pytest.raises(ValueError, match="deconv1 must keep every sum within 16777216"):
        fixed_point.quantise(
            shipped.config, shipped.params, shipped.units._replace(shifts=tuple(shifts))
        )


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-linear", "tiny-scale"])
def test_a_sigma_in_another_unit_is_refused(name):
    model = jvrc.load(GOLDEN / f"{name}.safetensors")
    *before, last = model.units.exponents
    last = last.copy()
    last[3] += 1
    units = model.units._replace(exponents=(*before, last))
    with pytest.raises(ValueError, match="exponents of sigma must be (0|-9)"):
        fixed_point.quantise(model.config, model.params, units)


def test_the_codec_never_computes_with_the_float_weights(shipped, photo):
    params = shipped.params | {"h_s": jax.tree.map(lambda a: 2 * a, shipped.params["h_s"])}
    changed = dataclasses.replace(shipped, params=params)
    img = photo[:64, :64]
    assert jvrc.compress(changed, img, 2.0) == jvrc.compress(shipped, img, 2.0)


@pytest.mark.parametrize("name", ["tiny-mean", "tiny-scale"])
@pytest.mark.parametrize("layer", ["deconv0", "deconv1"])
def test_a_silent_channel_stays_silent(name, layer):
    """Its range of zero would ask for an infinitely fine unit."""
    model = jvrc.load(GOLDEN / f"{name}.safetensors")
    bias = model.params["h_s"][layer]["bias"].copy()
    bias[2] = -1000
    h_s = model.params["h_s"] | {layer: model.params["h_s"][layer] | {"bias": bias}}
    z_hat = np.random.default_rng(0).integers(-9, 10, (2, 2, 6))
    sample = freezing.Sample(z_hat, None, 1.0)
    units = freezing.fitted_units(model.config, {"h_s": h_s}, [sample], (1.0, 16.0))
    network = fixed_point.quantise(model.config, {"h_s": h_s}, units)
    log_sigma, _ = synthesise(model.config, network, z_hat[None])
    sigma, _ = transforms.h_s(model.config, h_s, z_hat[None] / np.float32(16))
    assert np.abs(log_sigma / 128 - np.log2(sigma)).max() < 0.1


@pytest.mark.parametrize(
    "damage",
    [
        lambda h_s, units: h_s["conv2"].update(kernel=np.ones((5, 3, 288, 384), np.float32)),
        lambda h_s, units: h_s["conv2"].update(bias=np.zeros(1, np.float32)),
        lambda h_s, units: units["exponents"].__setitem__(2, np.full(384, -128, np.int8)),
        lambda h_s, units: units["shifts"].__setitem__(0, np.ones(1, np.int8)),
        lambda h_s, units: units["shifts"].__setitem__(1, np.ones(288, np.float32)),
    ],
)
def test_arrays_of_another_shape_or_type_are_refused(shipped, damage):
    h_s = {k: dict(v) for k, v in shipped.params["h_s"].items()}
    units = {k: list(v) for k, v in shipped.units._asdict().items()}
    damage(h_s, units)
    with pytest.raises(ValueError, match="wrong shape or type|must be within 100"):
        fixed_point.quantise(shipped.config, {"h_s": h_s}, fixed_point.Units(**units))


# -- near the float network


def wasted_bits(scale, coded_scale, shift):
    """Bits that Gaussians of another scale and mean waste, as a share of the latents' entropy."""
    s, t = (np.maximum(x, 0.3) for x in (scale, coded_scale))  # smaller ones: nearly always zeros
    wasted = np.log(t / s) + (s**2 + shift**2) / (2 * t**2) - 0.5
    entropy = np.maximum(0.5 * np.log(2 * np.pi * np.e * s**2), 0)
    return wasted.sum() / entropy.sum()


@pytest.mark.parametrize("qstep", [0.5, 2.0, 16.0])
def test_scale_indices_and_means_are_those_of_the_float_network_nearly(shipped, photo, qstep):
    code = qstep_code_of(qstep)
    img = photo[:256, :320]
    latents = codec.quantise(shipped, *codec.analyse(shipped, img), code)
    z_hat = codec.hyper_latents(shipped, latents.z, code)[None] / np.float32(16)
    sigma, mu = jax.jit(transforms.h_s, static_argnums=0)(
        shipped.config, shipped.params["h_s"], z_hat
    )
    sigma, mu = np.asarray(sigma[0]), np.asarray(mu[0])
    scales = hyper_synthesis.scale_table()
    nearest = np.abs(np.log(sigma[..., None] / qstep / scales)).argmin(-1)
    away = np.abs(latents.index.astype(int) - nearest)
    assert np.mean(away <= 1) > 0.9999  # an index is 9 % of the scale
    error = np.abs(latents.mu - mu) / sigma
    assert np.quantile(error, 0.99) < 0.2
    assert wasted_bits(sigma / qstep, scales[latents.index], (latents.mu - mu) / qstep) < 0.001


def test_a_mean_too_large_for_its_unit_gets_a_larger_one(shipped, photo):
    """A mean 2**17 times as large has the same integers before the shift, which it then lacks."""
    config, h_s = shipped.config, dict(shipped.params["h_s"])
    gain = np.ones(2 * config.M, np.float32)
    gain[config.M] = 2.0**17
    h_s["conv2"] = {k: v * gain for k, v in h_s["conv2"].items()}
    ranges = [2.0 ** e.astype(float) * 255 for e in shipped.units.exponents[:2]]
    params = {"h_s": h_s}
    network = fixed_point.quantise(config, params, fixed_point.choose_units(config, params, ranges))
    assert network.mu_exponent[0] > hyper_synthesis.MU_EXPONENT
    assert np.all(network.mu_exponent[1:] == hyper_synthesis.MU_EXPONENT)
    latents = codec.quantise(shipped, *codec.analyse(shipped, photo[:128, :192]), 128)
    z_hat = codec.hyper_latents(shipped, latents.z, 128)[None]
    mu = np.array(hyper_synthesis.mu_of(network, synthesise(config, network, z_hat)[1])[0])
    mu[..., 0] /= 2.0**17
    np.testing.assert_array_equal(mu[..., 1:], latents.mu[..., 1:])
    assert np.abs(mu - latents.mu).max() <= 2.0 ** (hyper_synthesis.MU_EXPONENT - 1)


@pytest.mark.parametrize("value", [np.nan, np.inf, 1e30])
def test_weights_that_fit_no_integers_are_refused(shipped, value):
    h_s = dict(shipped.params["h_s"])
    kernel = h_s["conv2"]["kernel"].copy()
    kernel[0, 0, 0, 0] = value
    h_s["conv2"] = h_s["conv2"] | {"kernel": kernel}
    ranges = [2.0 ** e.astype(float) * 255 for e in shipped.units.exponents[:2]]
    with pytest.raises(ValueError, match="h_s/conv2 must have weights whose sums fit 24 bits"):
        fixed_point.choose_units(shipped.config, {"h_s": h_s}, ranges)


# -- the logarithmic grid


@given(st.integers(1, 2**24))
@settings(max_examples=300, deadline=None)
def test_log2_is_rounded_exactly(n):
    """The grid's step k is nearest: 2**(2k - 1) <= n**256 < 2**(2k + 1)."""
    k = int(hyper_synthesis._log2(jnp.int32(n))) + 9 * 128
    assert Fraction(2) ** (2 * k - 1) <= n**256 < 2 ** (2 * k + 1)


def test_a_sigma_that_is_not_positive_has_the_smallest_scale():
    log_sigma = hyper_synthesis._log2(jnp.array([-(2**24), -1, 0, 1]))
    assert np.all(np.asarray(log_sigma) == -9 * 128)
    assert np.all(np.asarray(hyper_synthesis.scale_index(log_sigma, np.int32(-128))) == 0)


@given(st.integers(-20_000, 20_000), st.integers(QSTEP_CODE_MIN, QSTEP_CODE_MAX))
@settings(deadline=None)
def test_the_scale_index_is_the_nearest_scale(t, code):
    log2_ratio = (t - code) / 128
    scales = np.log2(hyper_synthesis.scale_table())
    index = int(hyper_synthesis.scale_index(jnp.int32(t), code))
    distance = np.abs(scales - log2_ratio)
    assert distance[index] <= distance.min() + 1e-9
