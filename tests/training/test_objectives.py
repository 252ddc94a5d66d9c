import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.qstep import rd_lambda
from jvrc.training import objectives

# Kamisli et al. 2024: the published grid
LAMBDAS = [0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18]
INVERSE_STEPS = [0.1, 0.13944, 0.19293, 0.26874, 0.37268, 0.51801, 0.71957, 1.0]


def test_lambda_passes_through_the_published_grid():
    got = rd_lambda(1 / jnp.array(INVERSE_STEPS))
    np.testing.assert_allclose(got, LAMBDAS, rtol=0.02)


@pytest.mark.parametrize("batch", [1, 4, 8])
def test_one_qstep_is_drawn_in_each_part_of_the_range(batch):
    steps = objectives.draw_qsteps(jax.random.key(3), batch, 1.5, 16.0)
    part = np.log(np.asarray(steps) / 1.5) / np.log(16 / 1.5) * batch
    assert sorted(np.floor(part).astype(int)) == list(range(batch))


def test_drawn_qsteps_differ_from_key_to_key():
    draws = [objectives.draw_qsteps(jax.random.key(k), 8, 1.0, 8.0) for k in range(2)]
    assert not np.allclose(draws[0], draws[1])


def test_balanced_mean_weights_equal_relative_gains_equally():
    # along an ideal curve the loss falls like 1 / Delta: every rate then weighs the same
    qstep = jnp.array([1.0, 2.0, 4.0, 8.0])
    gradient = jax.grad(lambda rd: objectives.balanced_mean(rd, qstep))(8 / qstep)
    np.testing.assert_allclose(gradient * 8 / qstep, 0.5)


@pytest.mark.parametrize("power", [0.0, 1.5])
def test_balance_is_a_power_of_the_qstep(power):
    qstep, rd = jnp.array([1.0, 16.0]), jnp.array([3.0, 5.0])
    expected = (3 / 4**power + 5 * 4**power) / 2
    np.testing.assert_allclose(objectives.balanced_mean(rd, qstep, power), expected, rtol=1e-6)
