"""Claims about layers: convolutions with bias, GDN, rounding and bounds."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jvrc.model import layers, parts


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def test_conv_keeps_the_size_and_adds_the_bias():
    params = {"kernel": np.zeros((3, 3, 2, 4), np.float32), "bias": np.arange(4, dtype=np.float32)}
    params["kernel"][1, 1] = 1  # the centre tap sums the inputs
    x = normal(0, 1, 5, 3, 2)
    expected = x.sum(-1, keepdims=True) + np.arange(4)
    np.testing.assert_allclose(layers.conv(params, x), expected, rtol=1e-6, atol=1e-6)


def stored(value):
    """The stored form of GDN parameters of the given values."""
    return np.sqrt(np.asarray(value, np.float32) + np.float32(layers.PEDESTAL))


@pytest.mark.parametrize("inverse", [False, True])
def test_gdn_is_its_formula(inverse):
    x, beta, gamma = normal(0, 2, 2, 3, 4), np.array([0.5, 1, 2, 3]), np.abs(normal(1, 4, 4))
    root = np.sqrt(beta + np.einsum("bhwj,ji->bhwi", x**2, gamma))
    got = layers.gdn({"beta": stored(beta), "gamma": stored(gamma)}, x, inverse=inverse)
    np.testing.assert_allclose(got, x * root if inverse else x / root, rtol=1e-5)


def test_gdn_without_gamma_divides_by_the_root_of_beta():
    x, beta = normal(0, 1, 2, 2, 3), np.array([0.25, 1, 4])
    params = {"beta": stored(beta), "gamma": stored(np.zeros((3, 3)))}
    np.testing.assert_allclose(layers.gdn(params, x), x / np.sqrt(beta), rtol=1e-6)
    back = layers.gdn(params, layers.gdn(params, x), inverse=True)
    np.testing.assert_allclose(back, x, rtol=1e-6)


def test_gdn_starts_at_one_and_a_tenth_of_the_identity():
    params = parts.GDN(3).init(jax.random.key(0), np.zeros((1, 1, 1, 3), np.float32))["params"]
    np.testing.assert_allclose(layers.non_negative(params["beta"]), np.ones(3), rtol=1e-6)
    np.testing.assert_allclose(layers.non_negative(params["gamma"]), 0.1 * np.eye(3), atol=1e-8)


@given(arrays(np.float32, 5, elements=st.floats(-4, 4, width=32)))
@settings(max_examples=20, deadline=None)
def test_non_negative_is_never_below_its_minimum(x):
    assert np.all(layers.non_negative(x) >= 0)
    assert np.all(np.asarray(layers.non_negative(x, minimum=0.5)) >= 0.5 * (1 - 2**-22))  # two ulps
    np.testing.assert_allclose(layers.non_negative(x), np.maximum(x, 0) ** 2, rtol=1e-6, atol=2e-11)


@pytest.mark.parametrize("cotangent", [1.0, -1.0])
def test_gradients_pass_a_bound_only_upwards(cotangent):
    x = jnp.array([-1.0, 0.2, 0.3, 2.0])
    (gradient,) = jax.vjp(lambda x: layers.lower_bound(x, 0.3), x)[1](jnp.full(4, cotangent))
    blocked = 0.0 if cotangent > 0 else cotangent
    np.testing.assert_array_equal(gradient, [blocked, blocked, cotangent, cotangent])


@pytest.mark.parametrize("cotangent", [1.0, -1.0])
def test_a_parameter_below_its_minimum_can_only_rise(cotangent):
    x = jnp.array([-1.0, 0.0, 2.0])
    (gradient,) = jax.vjp(layers.non_negative, x)[1](jnp.full(3, cotangent))
    below = 0.0 if cotangent > 0 else 2 * layers.PEDESTAL**0.5 * cotangent
    np.testing.assert_allclose(gradient, [below, below, 4.0 * cotangent], rtol=1e-6)


rounded = jax.jit(layers.ste_round)


@given(arrays(np.float32, 8, elements=st.floats(-(2**20), 2**20, width=32)))
@settings(max_examples=50, deadline=None)
def test_ste_round_rounds_exactly(x):
    np.testing.assert_array_equal(rounded(x), np.rint(x))


def test_ste_round_has_the_gradient_of_the_identity():
    x, cotangent = jnp.array([-1.5, 0.2, 0.5, 7.7]), jnp.array([1.0, -2.0, 3.0, 0.5])
    np.testing.assert_array_equal(jax.vjp(layers.ste_round, x)[1](cotangent)[0], cotangent)
