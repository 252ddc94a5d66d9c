import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

from jvrc.model.config import ARCHITECTURES, config_of
from jvrc.model.modules import init_params
from jvrc.training.update import optimizer


def schedule(steps, *, warmup, final_fraction=0.0):
    """Training step -> learning rate, of a peak of 1e-3."""
    part = optimizer.warmup_fraction(warmup, steps)
    options = {"warmup": part, "final_fraction": final_fraction}
    return lambda step: optimizer.learning_rate(jnp.float32(step / steps), 1e-3, **options)


def test_schedule_rises_to_its_peak_and_ends_at_zero():
    learning_rate = schedule(5000, warmup=300)
    assert learning_rate(0) == 0
    np.testing.assert_allclose(learning_rate(300), 1e-3, rtol=1e-6)
    np.testing.assert_allclose(learning_rate(5000), 0, atol=1e-12)
    middle = (5000 + 300) // 2
    np.testing.assert_allclose(learning_rate(middle), 5e-4, rtol=1e-3)


def test_short_runs_warm_up_in_a_tenth_of_their_steps():
    learning_rate = schedule(100, warmup=300)
    np.testing.assert_allclose(learning_rate(10), 1e-3, rtol=1e-6)


def test_schedule_ends_at_the_given_fraction_of_its_peak():
    learning_rate = schedule(100, warmup=10, final_fraction=0.1)
    np.testing.assert_allclose(learning_rate(100), 1e-4, rtol=1e-6)


def test_a_schedule_by_the_clock_warms_up_in_its_first_thirtieth_whatever_the_steps():
    assert optimizer.warmup_fraction(300, None) == optimizer.warmup_fraction(5, None) == 0.03


@pytest.mark.slow
@pytest.mark.parametrize("name", ["muon", "adam"])
def test_an_outlier_does_not_move_parameters_further(name):
    params = init_params(jax.random.key(0), config_of("mbt2018-mean", N=4, M=6))
    rule = optimizer.make_optimizer(name)

    def moved(scale):
        grads = jax.tree.map(lambda p: scale * jnp.ones_like(p), params)
        state = rule.init(params)
        update = jax.jit(rule.update)
        for _ in range(3):
            updates, state = update(grads, state, params)
        return max(float(jnp.abs(u).max()) for u in jax.tree.leaves(updates))

    assert moved(1e6) == pytest.approx(moved(1.0), rel=1e-3)
    assert 0 < moved(1.0) < 3


def names(params, chosen):
    """The paths of the leaves that are chosen, "part/layer/name"."""
    leaves = jax.tree_util.tree_leaves_with_path(params)
    paths = {"/".join(key.key for key in path): (path, leaf) for path, leaf in leaves}
    return {name for name, (path, leaf) in paths.items() if chosen(path, leaf)}


def trained_by_muon(config):
    params = jax.eval_shape(lambda: init_params(jax.random.key(0), config))
    left = optimizer.adam_parts(config)
    is_kernel = optimizer.is_kernel
    return names(params, lambda path, leaf: is_kernel(path, leaf) and path[0].key not in left)


@pytest.mark.parametrize("architecture", [a for a in ARCHITECTURES if a != "jvrc2026"])
def test_muon_trains_the_transforms_of_a_model_of_2018(architecture):
    convolutions = {f"g_a/conv{i}" for i in range(4)} | {f"g_s/deconv{i}" for i in range(4)}
    convolutions |= {f"h_a/conv{i}" for i in range(3)}
    assert trained_by_muon(small_config(architecture)) == {f"{c}/kernel" for c in convolutions}


@pytest.mark.parametrize("name", ["muon-all", "soap"])
def test_no_kernel_of_a_model_of_2018_need_be_left_to_adam(name):
    assert optimizer.adam_parts(small_config("mbt2018"), name) == ()


def test_muon_trains_every_matrix_of_jvrc2026():
    block = [f"{name}/kernel" for name in ("in", "out", "wide", "back")]
    layers = {f"h_a/conv{i}" for i in range(3)} | {"h_s/deconv0", "h_s/deconv1", "h_s/conv2"}
    layers |= {"g_a/first", "g_a/down", "g_s/up", "g_s/last"}
    layers |= {f"context/{side}{i}" for side in ("in", "out") for i in (1, 2, 3)}
    expected = {f"{layer}/kernel" for layer in layers}
    for place in ("g_a/block0", "g_s/block0", "g_s/block1", "context/block0"):
        expected |= {f"{place}/{name}" for name in block}
    assert trained_by_muon(small_config("jvrc2026")) == expected


@pytest.mark.parametrize("name", ["muon", "soap", "adam"])
def test_kernels_decay_with_the_learning_rate_unless_their_part_is_fixed(name):
    leaf = jnp.full((3, 4), 2.0)
    params = {part: {"in": {"kernel": leaf, "bias": leaf[0]}} for part in ("g_a", "context")}
    rule = optimizer.make_optimizer(name, weight_decay=0.3, adam_parts=("context",), fixed=("g_a",))
    still = jax.tree.map(jnp.zeros_like, params)
    updates, _ = jax.jit(rule.update)(still, rule.init(params), params)
    np.testing.assert_allclose(updates["context"]["in"]["kernel"], -0.3 * leaf, rtol=1e-6)
    updates["context"]["in"]["kernel"] = still["context"]["in"]["kernel"]
    jax.tree.map(np.testing.assert_array_equal, updates, still)
