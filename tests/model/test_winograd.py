"""Claims about convolutions by minimal filtering."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.model import convolution, winograd


def normal(*shape, seed=0):
    return np.random.default_rng(seed).normal(size=shape).astype(np.float32)


@pytest.mark.parametrize("shape", [(1, 4, 4), (2, 8, 12), (1, 16, 4)])
def test_it_is_the_convolution(shape):
    x, kernel = normal(*shape, 5), normal(3, 3, 5, 7, seed=1)
    with jax.enable_x64(True):
        expected = np.asarray(convolution.direct(jnp.float64(x), jnp.float64(kernel), 1))
    found = jax.jit(winograd.convolve)(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=0, atol=2e-5 * np.abs(expected).max())


def test_small_integers_come_out_whole_to_rounding():
    rng = np.random.default_rng(0)
    x, kernel = (rng.integers(-3, 4, s).astype(np.float32) for s in ((1, 8, 8, 3), (3, 3, 3, 2)))
    expected = np.asarray(convolution.direct(x, kernel, 1))
    np.testing.assert_allclose(winograd.convolve(x, kernel), expected, atol=1e-4)


def test_a_kernel_on_cells_makes_a_stride_two_convolution_one_of_stride_one():
    x, kernel = normal(2, 8, 12, 3), normal(5, 5, 3, 4, seed=1)
    cells = x.reshape(2, 4, 2, 6, 2, 3).swapaxes(2, 3).reshape(2, 4, 6, 12)
    found = convolution.direct(jnp.asarray(cells), convolution.block_kernel(kernel), 1)
    np.testing.assert_allclose(found, convolution.direct(x, kernel, 2), rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize("shape", [(1, 8, 8), (2, 16, 8)])
def test_strided_is_the_convolution_of_stride_two_and_its_gradient_the_kernels(shape):
    x, kernel = normal(*shape, 5), normal(5, 5, 5, 7, seed=1)
    g = normal(shape[0], shape[1] // 2, shape[2] // 2, 7, seed=2)

    @jax.jit
    def both(x, kernel, g):
        gradient = winograd.strided_kernel_gradient(x, g)
        on_pixels = jax.linear_transpose(convolution.block_kernel, kernel)(gradient)[0]
        return winograd.strided(x, convolution.block_kernel(kernel)), on_pixels

    expected, back = jax.vjp(lambda k: convolution.direct(x, k, 2), kernel)
    for found, wanted in zip(both(x, kernel, g), (expected, back(g)[0]), strict=True):
        np.testing.assert_allclose(found, wanted, rtol=0, atol=3e-5 * np.abs(wanted).max())


def plain_upsample(x, kernel):
    """The transposed convolution by its sub-pixel form, with XLA's convolution."""
    planes = convolution.direct(x, convolution.subpixel_kernel(kernel), 1)
    b, h, w, _ = x.shape
    return planes.reshape(b, h, w, 2, 2, -1).swapaxes(2, 3).reshape(b, 2 * h, 2 * w, -1)


@pytest.mark.parametrize(
    ("operator", "form", "plain", "shape"),
    [
        (convolution.downsample, "strided", partial(convolution.direct, stride=2), (1, 128, 128)),
        (convolution.upsample, "convolve", plain_upsample, (1, 64, 64)),
    ],
)
def test_wide_layers_use_it_and_give_the_same(operator, form, plain, shape, monkeypatch):
    """As much arithmetic as in a model of N = 128: `convolution` chooses by size."""
    x, kernel = normal(*shape, 128), normal(5, 5, 128, 128, seed=1) / 50
    calls, function = [], getattr(winograd, form)

    def counted(*arguments):
        calls.append(arguments)
        return function(*arguments)

    monkeypatch.setattr(winograd, form, counted)
    found = jax.jit(lambda x, k: operator(x, k))(x, kernel)
    assert calls
    expected = jax.jit(plain)(x, kernel)
    np.testing.assert_allclose(found, expected, rtol=0, atol=1e-5 * np.abs(expected).max())
