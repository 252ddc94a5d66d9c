"""Claims about the float context model of mbt2018."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.model import context, layers, modules
from jvrc.model.config import config_of

CONFIG = config_of("mbt2018", N=4, M=6, hyper_scale=3.0)


def random_context(seed=0):
    rng = np.random.default_rng(seed)
    shapes = jax.eval_shape(partial(modules.init_params, config=CONFIG), jax.random.key(0))
    draw = lambda a: rng.normal(0, 0.3, a.shape).astype(np.float32)  # noqa: E731
    return jax.tree.map(draw, shapes["context"])


def features(y_hat, params, qstep=2.0):
    return np.asarray(context.features(CONFIG, params, jnp.asarray(y_hat), jnp.float32(qstep)))


def test_it_is_the_masked_convolution_of_the_literature():
    """CompressAI's MaskedConv2d, type A: weight [2M,M,5,5], of which taps 12 … 24 are masked."""
    params = random_context()
    weight = np.zeros((12, 6, 5, 5), np.float32)
    taps = params["conv"]["kernel"].transpose(2, 1, 0)
    weight.reshape(12, 6, 25)[:, :, :12] = taps
    y_hat = np.random.default_rng(1).normal(size=(2, 7, 9, 6)).astype(np.float32)
    plain = layers.conv(
        {"kernel": weight.transpose(2, 3, 1, 0), "bias": np.zeros(12, np.float32)}, y_hat / 3.0
    )
    added = params["step"]["kernel"][0] / 2 + params["step"]["bias"] + params["conv"]["bias"]
    np.testing.assert_allclose(
        features(y_hat, params), plain + added[None, None, None], rtol=1e-4, atol=1e-4
    )


@pytest.mark.parametrize("position", [(0, 0), (3, 4), (6, 0), (2, 8)])
def test_a_position_sees_only_what_is_coded_before_it(position):
    """A change of y^ reaches later wavefronts (column + 3 row) alone, and of these not itself."""
    params, rng = random_context(), np.random.default_rng(2)
    y_hat = rng.normal(size=(1, 7, 9, 6)).astype(np.float32)
    changed = y_hat.copy()
    changed[0, *position] += 1.0
    touched = np.any(features(changed, params) != features(y_hat, params), axis=(0, 3))
    rows, columns = np.nonzero(touched)
    assert np.all(columns + 3 * rows > position[1] + 3 * position[0])
    assert len(rows) >= (0 if position == (6, 8) else 1)


def test_the_linear_range_ends_at_its_reach():
    """Above -reach the network passes psi on; below, LeakyReLU bends it."""
    config, m = config_of("mbt2018", N=4, M=6), 12
    fresh = modules.init_params(jax.random.key(0), config)["entropy_parameters"]
    reach = np.linspace(1, 12, m).astype(np.float32)
    params = context.with_linear_range(fresh, reach)
    for factor, linear in ((-0.9, True), (-1.1, False)):
        psi = (factor * reach)[None, None, None]
        last = context.hidden_layers(params, psi, np.zeros_like(psi))[-1]
        assert np.all(np.isclose(last, psi, rtol=1e-4, atol=1e-4) == linear)


@pytest.mark.slow
def test_at_its_start_the_model_is_mbt2018_mean():
    """The entropy parameters network passes psi on; the context adds a little that is random."""
    config = config_of("mbt2018", N=4, M=6)
    params = modules.init_params(jax.random.key(0), config)
    rng = np.random.default_rng(3)
    psi = rng.uniform(-7, 7, (1, 4, 4, 12)).astype(np.float32)
    sigma, mu = context.entropy_parameters(
        config, params["entropy_parameters"], psi, jnp.zeros_like(psi)
    )
    np.testing.assert_allclose(np.log(sigma), psi[..., :6], atol=1e-4)
    np.testing.assert_allclose(mu, psi[..., 6:], atol=1e-4)
    y = rng.normal(size=(1, 4, 4, 6)).astype(np.float32)
    seen = context.features(config, params["context"], y, jnp.float32(1.0))
    assert 0 < np.abs(seen).max() < 0.5
