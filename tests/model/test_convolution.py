"""Claims about the convolutions of stride 2 and their gradients."""

from functools import partial
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax

from jvrc.model import convolution

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
    np.testing.assert_array_equal(convolution.upsample(x, kernel), expected)


def test_downsample_is_pytorchs_convolution():
    stored = np.load(PYTORCH)
    x = stored["x_conv"].transpose(0, 2, 3, 1).astype(np.float32)
    kernel = stored["weight"].transpose(2, 3, 1, 0).astype(np.float32)
    expected = stored["conv"].transpose(0, 2, 3, 1)
    np.testing.assert_array_equal(convolution.downsample(x, kernel), expected)


@pytest.mark.parametrize("shape", SHAPES)
def test_upsample_scatters_the_kernel(shape):
    *x_shape, out = shape
    x, kernel = normal(0, *x_shape), normal(1, 5, 5, x_shape[-1], out)
    np.testing.assert_allclose(convolution.upsample(x, kernel), scattered(x, kernel), atol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
def test_the_two_are_adjoint(shape):
    b, h, w, in_, out = shape
    large, small = normal(0, b, 2 * h, 2 * w, in_), normal(1, b, h, w, out)
    kernel = normal(2, 5, 5, in_, out)
    through_down = np.vdot(small, convolution.downsample(large, kernel))
    through_up = np.vdot(convolution.upsample(small, kernel.swapaxes(2, 3)), large)
    np.testing.assert_allclose(through_down, through_up, rtol=1e-4, atol=1e-4)


@pytest.mark.parametrize(
    ("ours", "plain", "x_shape"),
    [
        (convolution.downsample, plain_downsample, (2, 6, 4, 3)),
        (convolution.upsample, plain_upsample, (2, 3, 2, 3)),
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
