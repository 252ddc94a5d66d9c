"""Claims about the integer arithmetic that all networks share."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvrc.integer import network


def integers(seed, shape, limit):
    return np.random.default_rng(seed).integers(-limit, limit + 1, shape)


def convolution(kernel, x):
    """Cross-correlation with zero padding, in int64: [B,h,w,I] -> [B,h,w,O]."""
    reach = kernel.shape[0] // 2
    padded = np.pad(x, ((0, 0), (reach, reach), (reach, reach), (0, 0)))
    h, w = x.shape[1:3]
    out = np.zeros((*x.shape[:3], kernel.shape[3]), np.int64)
    for a, b in np.ndindex(kernel.shape[:2]):
        out += padded[:, a : a + h, b : b + w] @ kernel[a, b]
    return out


def transposed_convolution(kernel, x):
    """Output (2u + a - 2, 2v + b - 2) takes input (u, v) by tap (a, b): int64 [B,2h,2w,O]."""
    b, h, w, _ = x.shape
    out = np.zeros((b, 2 * h + 4, 2 * w + 4, kernel.shape[3]), np.int64)
    for i, j in np.ndindex(kernel.shape[:2]):
        out[:, i : i + 2 * h : 2, j : j + 2 * w : 2] += x @ kernel[i, j]
    return out[:, 2 : 2 * h + 2, 2 : 2 * w + 2]


@pytest.mark.parametrize("size", [1, 3, 5])
@pytest.mark.parametrize(("height", "width"), [(1, 1), (4, 7)])
def test_a_convolution_of_any_odd_size_is_the_sum_in_int64(size, height, width):
    x = integers(0, (2, height, width, 6), 255)
    kernel = integers(1, (size, size, 6, 5), 300)
    found = jax.jit(network.convolve)(kernel, x)
    np.testing.assert_array_equal(found, convolution(kernel, x))


@pytest.mark.parametrize("multiply", [network.product, network.product_in_runs])
def test_a_transposed_convolution_is_the_sum_in_int64(multiply):
    x, kernel = integers(0, (2, 3, 4, 11), 255), integers(1, (5, 5, 11, 5), 300)
    found = network.upsample(kernel, x, multiply)
    np.testing.assert_array_equal(found, transposed_convolution(kernel, x))


def test_sums_at_the_very_bound_are_exact_in_any_order():
    """Inputs of the weights' signs reach 2**24 less a little; halves and permutations agree."""
    rng = np.random.default_rng(0)
    kernel = rng.integers(-50, 51, (2592, 8))
    while (excess := 255 * np.abs(kernel).sum(0) > network.SUM_MAX).any():
        kernel[rng.integers(2592), excess] = 0
    order = rng.permutation(2592)
    for column in range(8):
        flips = np.where(rng.random((64, 2592)) < 0.05, -1, 1)
        flips[0] = 1
        x = 255 * flips * np.sign(kernel[:, column])
        exactly = x @ kernel
        assert 0.97 * network.SUM_MAX < np.abs(exactly).max() <= network.SUM_MAX
        for p in (np.arange(2592), order):
            found = network.product(jnp.asarray(x[:, p], jnp.float32), kernel[p])
            np.testing.assert_array_equal(found, exactly)


@pytest.mark.parametrize("inputs", [3, 8, 21, 64])
def test_sums_in_runs_of_channels_are_exact_beyond_24_bits(inputs):
    """Every run of eight reaches 2**24 less a little; their sum is odd and does not fit float32."""
    rng = np.random.default_rng(inputs)
    signs = rng.choice([-1, 1], (2, 2, inputs, 1))
    kernel = rng.integers(250, 255, (2, 2, inputs, 5)) * signs
    x = np.where(rng.random((3, 4, inputs)) < 0.9, 2047, 2046) * signs.reshape(4, inputs)
    exactly = x.reshape(3, -1) @ kernel.reshape(-1, 5)
    assert inputs < 64 or np.any(exactly != exactly.astype(np.float32))
    found = jax.jit(network.product_in_runs)(x.reshape(3, -1), kernel)
    assert found.dtype == jnp.int32
    np.testing.assert_array_equal(found, exactly)


@given(st.integers(-(2**30), 2**30), st.integers(-(2**28), 2**28), st.integers(0, 20))
@settings(max_examples=100, deadline=None)
def test_rescaling_divides_by_a_power_of_two_and_rounds_half_up(total, bias, shift):
    layer = network.Layer(None, np.array([bias, 0], np.int32), np.array([shift, 0], np.int32))
    found = network.rescale(layer, jnp.full((1, 1, 2), total, jnp.int32))
    assert found[0, 0].tolist() == [(2 * (total + bias) + 2**shift) // 2 ** (shift + 1), total]


@given(st.integers(-(2**28), 2**28))
@settings(max_examples=100, deadline=None)
def test_leaky_relu_has_a_slope_of_a_hundredth(x):
    found = int(network.leaky_relu(jnp.int32(x)))
    assert abs(found - (x if x >= 0 else max(x, -(2**15)) * 41 / 4096)) <= 0.5
