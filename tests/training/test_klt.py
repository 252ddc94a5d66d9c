"""Claims about the KLT initialisation of jvrc2026: a linear transform codec."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

from jvrc.model import architectures
from jvrc.model.config import config_of
from jvrc.training.initialisation import klt
from jvrc.training.initialisation.klt_scales import klt_config

KEY = jax.random.key(0)
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def crops():
    """Smooth images [8,64,64,3] in [0,1]."""
    coarse = jax.random.uniform(jax.random.key(1), (8, 5, 5, 3))
    return np.asarray(jnp.clip(jax.image.resize(coarse, (8, 64, 64, 3), "cubic"), 0, 1))


def config(**sizes):
    return klt_config(config_of(**small_config("jvrc2026").to_dict() | sizes))


@partial(jax.jit, static_argnums=0)
def decoded(config, params, crops):
    """Images behind both transforms, without quantisation."""
    y = architectures.g_a(config, params, crops)
    return architectures.g_s(config, params, y, jnp.full(len(crops), 3.0))


def dropped(samples, count):
    """The mean energy of samples [...,I] outside their leading eigenvectors, and their coefficients
    of these."""
    flat = samples.reshape(-1, samples.shape[-1]).astype(np.float64)
    values, vectors = np.linalg.eigh(flat.T @ flat / len(flat))
    kept = max(0, flat.shape[1] - count)
    return values[:kept].sum(), samples @ vectors[:, kept:]


def blocks(x, size):
    b, h, w, c = x.shape
    split = x.reshape(b, h // size, size, w // size, size, c).transpose(0, 1, 3, 2, 4, 5)
    return split.reshape(b, h // size, w // size, -1)


@pytest.mark.parametrize(("C", "M"), [(6, 8), (200, 32), (2, 16)])
def test_the_transforms_lose_what_the_eigenvectors_of_blocks_leave_out_and_no_more(crops, C, M):
    sizes = config(C=C, M=M)
    params = klt.klt_params(KEY, sizes, crops)
    lost8, coefficients = dropped(blocks(crops - 0.5, 8), C)
    lost2, _ = dropped(blocks(coefficients, 2), M)
    mse = float(np.mean(np.square(decoded(sizes, params, crops) - crops)))
    # 1e-5: the noise in `down`
    assert mse == pytest.approx(lost8 / 192 + lost2 / (4 * 192), rel=0.01, abs=1e-5)
    assert mse < 0.5 * np.var(crops)


def test_a_block_changes_nothing(crops):
    found = []
    for count in (0, 2):
        sizes = config(g_a_blocks=count, g_s_blocks=count)
        params = klt.klt_params(KEY, sizes, crops)
        found.append(np.asarray(decoded(sizes, params, crops)))
    np.testing.assert_array_equal(*found)


def test_scales_and_means_begin_at_those_of_each_channel(crops):
    sizes = config()
    params = klt.klt_params(KEY, sizes, crops)
    y = np.asarray(architectures.g_a(sizes, params, crops))
    bias = params["h_s"]["conv2"]["bias"]
    spread = np.maximum(y.std((0, 1, 2)), 0.2)
    np.testing.assert_allclose(bias[: sizes.M], np.log(spread), atol=1e-3)
    np.testing.assert_allclose(bias[sizes.M :], y.mean((0, 1, 2)) / 8, atol=1e-3)


def test_a_quantisation_step_of_one_is_that_of_an_orthonormal_coefficient(crops):
    """latent_scale is 1 / UNIT, since the transform is orthonormal."""
    sizes = config(C=200, M=32)
    y = architectures.g_a(sizes, klt.klt_params(KEY, sizes, crops), crops)
    energy = np.sum(np.square(y)) * 0.06**2 / np.sum(np.square(crops - 0.5))
    assert energy == pytest.approx(1, rel=0.01)
