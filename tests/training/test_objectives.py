from functools import partial

import jax
import jax.flatten_util
import jax.numpy as jnp
import numpy as np
import pytest
from small import random_params, small_config

from jvrc.model.residual import bfloat16_product, bfloat16_products, residual_block
from jvrc.qstep import rd_lambda
from jvrc.training.loss import objectives

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


@pytest.mark.slow
@pytest.mark.usefixtures("quick_compilation")
def test_gradients_keep_their_direction_with_bfloat16_products():
    """For every part of the model; the CPU rounds operands as accelerators do."""
    config = small_config("jvrc2026")
    params, key = random_params(config), jax.random.key(3)
    x, qstep = jax.random.uniform(key, (2, 64, 64, 3)), jnp.array([1.0, 8.0])

    def loss(rounds, params):
        with bfloat16_products(rounds):
            return objectives.training_loss(config, params, x, qstep, key)[0]

    exact, found = (jax.jit(jax.grad(partial(loss, rounds)))(params) for rounds in (False, True))
    for part in config.parts:
        a, b = (jax.flatten_util.ravel_pytree(g[part])[0] for g in (exact, found))
        assert float(a @ b / jnp.linalg.norm(a) / jnp.linalg.norm(b)) > 0.999, part
    assert np.any(exact["g_a"]["first"]["kernel"] != found["g_a"]["first"]["kernel"])


def test_residual_blocks_store_their_inner_products_in_bfloat16_if_they_round():
    """Forwards those of `in` and `wide`, backwards those of `out` and `back`."""
    block = random_params(small_config("jvrc2026"))["g_s"]["block0"]
    x, features = jnp.ones((1, 8, 8, 6)), jnp.ones((1, 3))

    def products(rounds):
        def total(block, x):
            with bfloat16_products(rounds):
                return jnp.sum(residual_block(block, x, features, None, 8))

        gradients = jax.jit(jax.grad(total, (0, 1)))
        lines = gradients.lower(block, x).as_text().splitlines()
        return [line for line in lines if "dot_general" in line]

    narrow = {on: sum(line.endswith("bf16>") for line in products(on)) for on in (False, True)}
    assert narrow == {False: 0, True: 4}


def test_a_bfloat16_product_sums_in_float32_and_so_do_its_gradients():
    x, kernel = jnp.ones((3, 512)), jnp.ones((512, 4))
    np.testing.assert_array_equal(bfloat16_product(x + 1e-4, kernel), jnp.full((3, 4), 512.0))
    gradient = jax.grad(lambda k: jnp.sum(bfloat16_product(jnp.ones((513, 2)), k)))(
        jnp.ones((2, 2))
    )
    np.testing.assert_array_equal(gradient, jnp.full((2, 2), 513.0))  # no bfloat16 number
