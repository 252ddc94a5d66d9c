"""Claims about convolutions, GDN, rounding and bounds."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from jax import lax

from jvrc.model import layers

# Small integers through Conv2d(2, 2, 5, stride=2, padding=2) and ConvTranspose2d(2, 2, 5, stride=2,
# padding=2, output_padding=1) of torch 2.13.0, both with the same weights: NCHW, exact.
PYTORCH = Path(__file__).parent.parent / "golden" / "pytorch_conv.npz"
# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
LAYOUT = ("NHWC", "HWIO", "NHWC")
SHAPES = [(1, 1, 1, 1, 1), (2, 2, 3, 3, 2), (1, 5, 4, 2, 5)]  # batch, height, width, in, out


def normal(seed, *shape):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


def scattered(x, kernel):
    """Transposed convolution by its definition: a sample adds kernel * sample around (2i, 2j)."""
    b, h, w, _ = x.shape
    out = np.zeros((b, 2 * h + 3, 2 * w + 3, kernel.shape[3]))
    for i in range(h):
        for j in range(w):
            out[:, 2 * i : 2 * i + 5, 2 * j : 2 * j + 5] += np.einsum(
                "bc,uvco->buvo", x[:, i, j], kernel
            )
    return out[:, 2 : 2 + 2 * h, 2 : 2 + 2 * w]


def plain_downsample(x, kernel):
    return lax.conv_general_dilated(x, kernel, (2, 2), [(2, 2)] * 2, dimension_numbers=LAYOUT)


def plain_upsample(x, kernel):
    return lax.conv_general_dilated(
        x, kernel[::-1, ::-1], (1, 1), [(2, 3)] * 2, lhs_dilation=(2, 2), dimension_numbers=LAYOUT
    )


def test_upsample_is_pytorchs_transposed_convolution():
    stored = np.load(PYTORCH)
    x = stored["x"].transpose(0, 2, 3, 1).astype(np.float32)
    kernel = stored["weight"].transpose(2, 3, 0, 1).astype(np.float32)
    expected = stored["deconv"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(layers.upsample(x, kernel), expected)


def test_downsample_is_pytorchs_convolution():
    stored = np.load(PYTORCH)
    x = stored["x_conv"].transpose(0, 2, 3, 1).astype(np.float32)
    kernel = stored["weight"].transpose(2, 3, 1, 0).astype(np.float32)
    expected = stored["conv"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(layers.downsample(x, kernel), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_upsample_scatters_the_kernel(shape):
    *x_shape, out = shape
    x, kernel = normal(0, *x_shape), normal(1, 5, 5, x_shape[-1], out)
    np.testing.assert_allclose(layers.upsample(x, kernel), scattered(x, kernel), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_are_adjoint(shape):
    b, h, w, in_, out = shape
    large, small = normal(0, b, 2 * h, 2 * w, in_), normal(1, b, h, w, out)
    kernel = normal(2, 5, 5, in_, out)
    through_down = np.vdot(small, layers.downsample(large, kernel))
    through_up = np.vdot(layers.upsample(small, kernel.swapaxes(2, 3)), large)
    np.testing.assert_allclose(through_down, through_up, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "plain", "x_shape"),
    [
        (layers.downsample, plain_downsample, (2, 6, 4, 3)),
        (layers.upsample, plain_upsample, (2, 3, 2, 3)),
    ],
)
def test_custom_gradients_are_those_of_the_plain_form(ours, plain, x_shape):
    x, kernel = normal(0, *x_shape), normal(1, 5, 5, 3, 2)

    def value_and_gradients(function):
        value, back = jax.vjp(function, x, kernel)
        return value, *back(jnp.asarray(normal(2, *value.shape)))

    got, expected = quick_jit(lambda: (value_and_gradients(ours), value_and_gradients(plain)))()
    for a, b in zip(got, expected, strict=True):
        np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-4)


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
    params = layers.gdn_init(3)
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
