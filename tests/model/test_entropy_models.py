"""Claims about the two entropy models."""

import math
from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import expit, ndtr, ndtri

from jvrc.model import entropy_models, parts

# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
CHANNELS = 3
WIDTHS = (1, 3, 3, 3, 3, 1)
FEW = settings(max_examples=8, deadline=None)
probability = quick_jit(entropy_models.bottleneck_probability)
gaussian = quick_jit(entropy_models.gaussian_probability)


def prior(seed, *, spread=0.3):
    """A bottleneck that has learned something: the initial shape, every parameter perturbed."""
    rng = np.random.default_rng(seed)
    params = {}
    for i, (f_in, f_out) in enumerate(zip(WIDTHS[:-1], WIDTHS[1:], strict=True)):
        start = math.log(math.expm1(1 / 10**0.2 / f_out))
        params[f"matrix{i}"] = start + spread * rng.normal(size=(CHANNELS, f_out, f_in))
        params[f"bias{i}"] = spread * rng.normal(size=(CHANNELS, f_out, 1))
        if i < 4:
            params[f"factor{i}"] = spread * rng.normal(size=(CHANNELS, f_out, 1))
    params["quantiles"] = np.tile([[-9.0, 0.5, 11.0]], (CHANNELS, 1, 1))
    return params


def narrow(params):
    return {k: jnp.asarray(v, jnp.float32) for k, v in params.items()}


def logit(params, x):
    """App. 6.1 of Ballé et al. 2018, channel by channel in float64. x: [n, C]."""
    channels = []
    for c in range(x.shape[1]):
        v = x[None, :, c]
        for i in range(5):
            v = np.logaddexp(0, params[f"matrix{i}"][c]) @ v + params[f"bias{i}"][c]
            v = v + np.tanh(params[f"factor{i}"][c]) * np.tanh(v) if i < 4 else v
        channels.append(v[0])
    return np.stack(channels, axis=1)


def cdf_difference(params, z, width):
    return expit(logit(params, z + width / 2)) - expit(logit(params, z - width / 2))


def affine_prior(slope, shift):
    """All factors zero and the matrices' product `slope`: logit(x) = slope * x + shift."""
    params = prior(0, spread=0.0)
    first, last = np.expm1(slope * 10**0.8), np.array(shift)
    params["matrix0"] = np.full_like(params["matrix0"], np.log(np.expm1(np.log1p(first) / 3)))
    params["bias4"] = np.full_like(params["bias4"], last)
    return params


@given(st.integers(0, 1000), st.floats(0.5, 8.0), st.floats(-5.0, 5.0))
@FEW
def test_bottleneck_bins_of_any_width_sum_to_one(seed, width, centre):
    z = centre + width * np.arange(-1200, 1201)[:, None] * np.ones(CHANNELS)
    total = np.sum(probability(narrow(prior(seed)), z.astype(np.float32), width), axis=0)
    np.testing.assert_allclose(total, 1, atol=2e-4)


@pytest.mark.parametrize("width", [0.5, 1.0, 3.7])
def test_bottleneck_probability_is_the_cdf_difference_over_the_bin(width):
    params, z = prior(3), np.random.default_rng(0).normal(0, 8, (50, CHANNELS))
    got = probability(narrow(params), z.astype(np.float32), width)
    np.testing.assert_allclose(got, cdf_difference(params, z, width), rtol=1e-3, atol=1e-7)


def test_bottleneck_probability_takes_a_width_for_each_picture():
    params, z = narrow(prior(3)), np.random.default_rng(0).normal(0, 8, (2, 2, 2, CHANNELS))
    z, width = z.astype(np.float32), np.array([0.5, 2.5], np.float32)
    together = probability(params, z, width[:, None, None, None])
    alone = [probability(params, z[i], width[i]) for i in range(2)]
    np.testing.assert_allclose(together, np.stack(alone), rtol=1e-6)


@pytest.mark.parametrize("width", [0.5, 2.0])
def test_rate_of_z_follows_the_width_and_trains_the_prior(width):
    """Regression for the released reference, whose rate was that of width 1, without gradients."""
    params, z = prior(5), np.random.default_rng(1).integers(-80, 80, (20, CHANNELS)) / 8

    def rate(params, width):
        return float(-np.sum(np.log2(cdf_difference(params, z, width))))

    def ours(params, width):
        return entropy_models.bits(
            entropy_models.bottleneck_probability(params, z[None].astype(jnp.float32), width)
        )[0]

    value, (slopes, slope_of_width) = quick_jit(jax.value_and_grad(ours, argnums=(0, 1)))(
        narrow(params), width
    )
    assert value == pytest.approx(rate(params, width), rel=1e-4)
    assert abs(value - rate(params, 1.0)) > 10  # of some 100 bits
    tiny = 1e-5
    numeric = (rate(params, width + tiny) - rate(params, width - tiny)) / (2 * tiny)
    assert slope_of_width == pytest.approx(numeric, rel=1e-3)
    assert numeric < -10
    rng = np.random.default_rng(2)
    for name in params.keys() - {"quantiles"}:
        way = rng.normal(size=params[name].shape)
        ends = [params | {name: params[name] + t * way} for t in (tiny, -tiny)]
        numeric = (rate(ends[0], width) - rate(ends[1], width)) / (2 * tiny)
        assert np.vdot(slopes[name], way) == pytest.approx(numeric, rel=1e-3, abs=1e-3), name
        assert np.all(np.any(np.asarray(slopes[name]) != 0, axis=(1, 2))), name


def test_logistic_is_special_case():
    """No factors: the network is affine, the density logistic (scale 10 at the start)."""
    z = np.linspace(-30, 30, 41)[:, None] * np.ones(CHANNELS)
    for slope, shift in ((0.1, 0.0), (0.5, -2.0)):
        params = affine_prior(slope, shift)
        np.testing.assert_allclose(logit(params, z), slope * z + shift, atol=1e-9)
        expected = expit(slope * (z + 1) + shift) - expit(slope * (z - 1) + shift)
        got = probability(narrow(params), z.astype(np.float32), 2.0)
        np.testing.assert_allclose(got, expected, rtol=2e-4)


def test_the_initial_prior_is_a_logistic_of_scale_ten():
    module = parts.EntropyBottleneck(CHANNELS)
    params = quick_jit(partial(module.init, method="parameters"))(jax.random.key(0))["params"]
    assert {k: v.shape for k, v in params.items()} == {k: v.shape for k, v in prior(0).items()}
    bias = np.concatenate([np.ravel(params[f"bias{i}"]) for i in range(5)])
    assert np.all(np.abs(bias) <= 0.5)
    assert np.unique(bias).size == bias.size  # none of them clipped
    x = np.array([[[-10.0, 10.0]]] * CHANNELS, np.float32)
    logits = np.asarray(entropy_models.bottleneck_logits(params, x))
    np.testing.assert_allclose(np.diff(logits)[:, 0, 0] / 20, 0.1, rtol=1e-5)


def test_the_bin_at_the_median_of_a_symmetric_prior_is_the_most_likely():
    """Both edges have logits that cancel exactly: no tail to take the difference in."""
    p = probability(narrow(affine_prior(0.1, 0.0)), np.zeros((1, CHANNELS), np.float32), 1.0)
    np.testing.assert_allclose(p, 2 * expit(0.05) - 1, rtol=1e-5)


def test_probabilities_keep_their_precision_in_both_tails():
    z = np.array([-60.0, 60.0])[:, None] * np.ones(CHANNELS)
    params = affine_prior(0.5, 0.0)  # 1e-13 of the mass lies beyond
    upper = expit(-0.5 * 59.5) - expit(-0.5 * 60.5)
    np.testing.assert_allclose(probability(narrow(params), z, 1.0), upper, rtol=1e-3)


def test_quantile_loss_vanishes_at_the_quantiles_and_moves_only_them():
    params = affine_prior(0.5, -2.0)
    reach = math.log(2 / 1e-9 - 1)
    exact = [(target + 2.0) / 0.5 for target in (-reach, 0.0, reach)]
    at = narrow(params | {"quantiles": np.tile([[exact]], (CHANNELS, 1, 1))})
    loss_and_slopes = quick_jit(jax.value_and_grad(entropy_models.quantile_loss))
    assert loss_and_slopes(at)[0] == pytest.approx(0, abs=1e-3)
    np.testing.assert_allclose(entropy_models.medians(at), np.full(CHANNELS, 4.0))
    off = narrow(params | {"quantiles": np.tile([[np.add(exact, 1.0)]], (CHANNELS, 1, 1))})
    _, slopes = loss_and_slopes(off)
    np.testing.assert_allclose(slopes["quantiles"], 0.5, rtol=1e-5)  # the slope of the logit
    assert not any(np.any(v) for k, v in slopes.items() if k != "quantiles")


@given(st.floats(0.11, 60.0), st.floats(-0.5, 0.5))
@FEW
def test_gaussian_bins_sum_to_one(scale, shift):
    values = np.arange(-400, 401, dtype=np.float32) + np.float32(shift)
    assert np.sum(gaussian(values, scale)) == pytest.approx(1, abs=2e-5)


@given(st.floats(0.11, 256.0))
@FEW
def test_gaussian_at_zero_has_a_closed_form(scale):
    expected = math.erf(1 / (2 * math.sqrt(2) * scale))
    assert gaussian(0.0, scale) == pytest.approx(expected, rel=1e-5, abs=6e-8)  # an ulp


def test_gaussian_is_symmetric_and_matches_float64_far_out():
    v = np.linspace(-9, 9, 37).astype(np.float32)
    p = np.asarray(gaussian(v, 1.5))
    np.testing.assert_array_equal(p, p[::-1])
    x = np.abs(v.astype(np.float64))
    np.testing.assert_allclose(p, ndtr((0.5 - x) / 1.5) - ndtr((-0.5 - x) / 1.5), rtol=1e-4)


def test_gaussian_depends_on_ratios_to_the_width_only():
    v = np.linspace(-3, 3, 13).astype(np.float32)
    np.testing.assert_allclose(gaussian(4 * v, 8.0, 4.0), gaussian(v, 2.0), rtol=1e-5)


def test_scales_below_the_minimum_count_as_the_minimum():
    scales = np.array([-1.0, 0.0, 0.1, 0.11], np.float32)
    assert np.unique(gaussian(np.float32(1), scales)).size == 1

    def rate(scale, value):
        return -jnp.log2(entropy_models.gaussian_probability(value, scale))

    slope = jax.jit(jax.grad(rate))
    wants_more, wants_less = slope(0.05, 0.7), slope(0.05, 0.3)
    assert wants_more < 0
    assert wants_less == 0


def test_bits_of_known_probabilities():
    p = jnp.array([[[0.5, 0.25]], [[1.0, 0.125]]])
    np.testing.assert_allclose(entropy_models.bits(p), [3.0, 3.0])


def test_impossible_values_cost_thirty_bits_and_keep_a_gradient():
    cost, slope = jax.value_and_grad(lambda p: entropy_models.bits(p[None, None])[0])(
        jnp.float32(0)
    )
    assert cost == pytest.approx(-math.log2(1e-9), rel=1e-5)
    assert np.isfinite(slope)
    assert slope < 0


# Training's rate (noise) bounds the rate of rounded values from above, as in
# tensorflow/compression's test_information_bounds. The values stand at equal quantiles and only the
# noise is random: 0.5 % allows for three standard errors.
SAMPLES, SHORTFALL = 20_000, 0.995
LEVELS = (np.arange(SAMPLES) + 0.5) / SAMPLES
NOISE = np.random.default_rng(0).uniform(-0.5, 0.5, SAMPLES)


@pytest.mark.parametrize("scale", np.geomspace(0.25, 128, 8))
def test_noisy_gaussian_bits_bound_the_rounded_ones(scale):
    x = scale * ndtri(LEVELS)
    noisy, rounded = (
        -np.mean(np.log2(np.maximum(gaussian(v.astype(np.float32), scale), 1e-9)))
        for v in (x + NOISE, np.rint(x))
    )
    assert noisy >= SHORTFALL * rounded
    assert noisy <= rounded + 0.5  # a bound worth training on


@pytest.mark.parametrize("width", [0.5, 1.0, 4.0, 16.0])
def test_noisy_bottleneck_bits_bound_the_rounded_ones(width):
    x = np.log(LEVELS / (1 - LEVELS)) / 0.2
    params = narrow(affine_prior(0.2, 0.0))
    noisy, rounded = (
        -np.mean(np.log2(probability(params, np.float32(v[:, None] * np.ones(CHANNELS)), width)))
        for v in (x + width * NOISE, width * np.rint(x / width))
    )
    assert noisy >= SHORTFALL * rounded
    assert noisy <= rounded + 0.5
