"""Claims about whole models of every architecture: the forward pass, its gradients, its scales."""

from functools import partial

import jax
import numpy as np
import pytest
from small import by_name, small_config, trained_params

from jvrc.model import architectures
from jvrc.model.config import ARCHITECTURES
from jvrc.training.loss import objectives

QSTEP = np.array([0.7, 3.0], np.float32)
KEY = jax.random.key(5)
# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
forward = quick_jit(architectures.forward, static_argnums=0)


@pytest.fixture(scope="module", params=ARCHITECTURES)
def config(request):
    return small_config(request.param, latent_scale=20.0, hyper_scale=3.0)


@pytest.fixture(scope="module")
def params(config):
    return trained_params(config)


@pytest.fixture(scope="module")
def x():
    return np.random.default_rng(0).uniform(size=(2, 64, 64, 3)).astype(np.float32)


@pytest.fixture(scope="module")
def rounded(config, params, x):
    """The forward pass of validation."""
    return jax.device_get(forward(config, params, x, QSTEP, None))


@pytest.fixture(scope="module")
def trained(config, params, x):
    """(gradients, losses) of a training step."""
    gradient = jax.grad(objectives.training_loss, argnums=1, has_aux=True)
    step = quick_jit(gradient, static_argnums=0)
    gradients, (losses, _) = jax.device_get(step(config, params, x, QSTEP, KEY))
    return gradients, losses


def test_noise_changes_the_rate_and_not_the_picture(x, rounded, trained):
    mse = np.mean((x - rounded.x_hat) ** 2, axis=(1, 2, 3))
    np.testing.assert_allclose(trained[1].mse, mse, rtol=1e-4)
    bpp = (rounded.bits_y + rounded.bits_z) / 64**2
    assert np.all(trained[1].bpp != bpp)
    np.testing.assert_allclose(trained[1].bpp, bpp, rtol=0.2)


def test_every_picture_has_its_own_step(config, params, x, rounded):
    """An image's result does not depend on its neighbours in the batch."""
    turned = forward(config, params, x[::-1], QSTEP[::-1], None)
    for a, b in zip(rounded, turned, strict=True):
        np.testing.assert_allclose(a, b[::-1], rtol=1e-4, atol=1e-4)


def test_every_parameter_learns(params, trained):
    slopes = by_name(trained[0])
    assert slopes.keys() == by_name(params).keys()
    for name, slope in slopes.items():
        assert np.all(np.isfinite(slope)), name
        assert np.any(slope), name


def test_other_scales_are_the_same_function(config, params, x, rounded):
    changed, folded = architectures.with_scales(config, params)
    assert (changed.latent_scale, changed.hyper_scale) == (1, 1)
    out = forward(changed, folded, x, QSTEP, None)
    np.testing.assert_allclose(out.bits_y, rounded.bits_y, rtol=1e-4)
    np.testing.assert_allclose(out.bits_z, rounded.bits_z, rtol=1e-4)
    peak = np.abs(rounded.x_hat).max()
    np.testing.assert_allclose(out.x_hat, rounded.x_hat, rtol=1e-4, atol=1e-4 * peak)


def test_scales_there_and_back_are_the_identity(config, params):
    there = architectures.with_scales(config, params, latent_scale=0.3, hyper_scale=7.0)
    back, again = architectures.with_scales(*there, latent_scale=20.0, hyper_scale=3.0)
    assert back == config
    for name, value in by_name(params).items():
        np.testing.assert_allclose(by_name(again)[name], value, rtol=1e-6, err_msg=name)
