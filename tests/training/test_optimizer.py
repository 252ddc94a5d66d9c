import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.model.config import config_of
from jvrc.model.modules import init_params
from jvrc.training import optimizer


def test_schedule_rises_to_its_peak_and_ends_at_zero():
    learning_rate = optimizer.schedule(1e-3, 5000, warmup=300, final_fraction=0.0)
    assert learning_rate(0) == 0
    np.testing.assert_allclose(learning_rate(300), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(5000), 0, atol=1e-12)
    middle = (5000 + 300) // 2
    np.testing.assert_allclose(learning_rate(middle), 5e-4, rtol=1e-3)


def test_short_runs_warm_up_in_a_tenth_of_their_steps():
    learning_rate = optimizer.schedule(1e-3, 100, warmup=300, final_fraction=0.0)
    np.testing.assert_allclose(learning_rate(10), 1e-3, rtol=1e-6)


def test_schedule_ends_at_the_given_fraction_of_its_peak():
    learning_rate = optimizer.schedule(1e-3, 100, warmup=10, final_fraction=0.1)
    np.testing.assert_allclose(learning_rate(100), 1e-4, rtol=1e-6)


def test_a_run_that_enters_the_schedule_later_warms_up_to_the_same_cosine():
    whole = optimizer.schedule(1e-3, 5000, warmup=300, final_fraction=0.1)
    part = optimizer.schedule(1e-3, 5000, warmup=300, final_fraction=0.1, first_step=2000)
    assert float(part(0)) == 0
    assert float(part(150)) == pytest.approx(0.5 * float(whole(2150)))
    for count in (300, 1000, 3000):
        assert float(part(count)) == pytest.approx(float(whole(2000 + count)))


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "adam"])
def test_an_outlier_does_not_move_parameters_further(name):
    params = init_params(jax.random.key(0), config_of("mbt2018-mean", N=4, M=6))
    rule = optimizer.make_optimizer(
        name, optimizer.schedule(1e-3, 10, warmup=1, final_fraction=0.0)
    )

    def moved(scale):
        grads = jax.tree.map(lambda p: scale * jnp.ones_like(p), params)
        state = rule.init(params)
        update = jax.jit(rule.update)
        for _ in range(3):
            updates, state = update(grads, state, params)
        return max(float(jnp.abs(u).max()) for u in jax.tree.leaves(updates))

    assert moved(1e6) == pytest.approx(moved(1.0), rel=1e-3)
    assert 0 < moved(1.0) < 3e-3
