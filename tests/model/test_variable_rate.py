"""Claims about what changes with the step."""

from functools import partial

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays

from jvrc.model import modules, variable_rate
from jvrc.model.config import config_of

# These run once: better compiled quickly than well.
quick_jit = partial(jax.jit, compiler_options={"xla_backend_optimization_level": 0})
QSTEPS = np.geomspace(0.5, 32, 13).astype(np.float32)
offset, z_step = jax.jit(variable_rate.offset), jax.jit(variable_rate.z_step)
moderate = st.floats(-50, 50, width=32, allow_subnormal=False)


def random_mlp(seed, sizes):
    rng = np.random.default_rng(seed)
    pairs = list(zip(sizes[:-1], sizes[1:], strict=True))
    return {
        f"{name}{i}": rng.normal(0, 0.7, shape).astype(np.float32)
        for i, (n_in, n_out) in enumerate(pairs)
        for name, shape in (("kernel", (n_in, n_out)), ("bias", (n_out,)))
    }


def new_params():
    return modules.init_params(jax.random.key(0), config_of("mbt2018-mean", N=4, M=6))


def test_offsets_start_at_zero_and_hidden_layers_do_not():
    params = new_params()["offset"]
    shapes = {k: v.shape for k, v in params.items()}
    assert shapes == {k: v.shape for k, v in random_mlp(0, (2, 12, 12, 1)).items()}
    assert np.any(params["kernel0"])
    assert np.any(params["kernel1"])
    scale = np.geomspace(0.11, 256, 9).astype(np.float32)
    np.testing.assert_array_equal(offset(params, scale[None], QSTEPS[:, None]), np.zeros((13, 9)))


def test_the_step_of_z_starts_at_one_whatever_the_step():
    params = new_params()["z_step"]
    shapes = {k: v.shape for k, v in params.items()}
    assert shapes == {k: v.shape for k, v in random_mlp(0, (1, 10, 10, 1)).items()}
    np.testing.assert_allclose(z_step(params, QSTEPS), np.ones(13), rtol=1e-4)


@given(st.integers(0, 10_000))
@settings(max_examples=20, deadline=None)
def test_the_step_of_z_is_never_below_half(seed):
    steps = z_step(random_mlp(seed, (1, 10, 10, 1)), QSTEPS)
    assert steps.shape == QSTEPS.shape
    assert np.all(np.asarray(steps) >= 0.5)
    assert np.all(np.isfinite(steps))


def test_a_step_of_z_at_its_bound_can_still_rise():
    params = {k: v.copy() for k, v in random_mlp(0, (1, 10, 10, 1)).items()}
    params["kernel2"], params["bias2"] = np.zeros_like(params["kernel2"]), np.float32([-5])
    assert np.all(z_step(params, QSTEPS) == 0.5)
    slope = quick_jit(jax.grad(lambda p, sign: sign * jnp.sum(z_step(p, QSTEPS))))
    fall, rise = (slope(params, sign)["bias2"] for sign in (1.0, -1.0))
    assert fall == 0
    assert rise < 0


def test_the_networks_are_their_formulas():
    p = random_mlp(1, (2, 12, 12, 1))
    scale = np.random.default_rng(0).uniform(0.11, 9, (2, 3, 3, 4)).astype(np.float32)
    step = np.array([1.0, 8.0], np.float32)[:, None, None, None]
    x = np.stack(np.broadcast_arrays(scale, 1 / step), axis=-1).astype(np.float64)
    for i in range(2):
        x = np.maximum(x @ p[f"kernel{i}"] + p[f"bias{i}"], 0)
    expected = (x @ p["kernel2"] + p["bias2"])[..., 0]
    np.testing.assert_allclose(offset(p, scale, step), expected, rtol=1e-4, atol=1e-4)

    p = random_mlp(2, (1, 10, 10, 1))
    x = QSTEPS[:, None].astype(np.float64)
    for i in range(2):
        x = np.maximum(x @ p[f"kernel{i}"] + p[f"bias{i}"], 0)
    raw = np.logaddexp(0, (x @ p["kernel2"] + p["bias2"])[:, 0])
    np.testing.assert_allclose(z_step(p, QSTEPS), np.maximum(raw, 0.5), rtol=1e-4)


@given(
    arrays(np.int32, 6, elements=st.integers(-1000, 1000)),
    arrays(np.float32, 6, elements=moderate),
    st.floats(0.5, 32, width=32),
    st.floats(0, 0.5, width=32, allow_subnormal=False),
)
@settings(max_examples=25, deadline=None)
def test_reconstruction_moves_each_magnitude_by_the_offset(q, mu, step, delta):
    got = variable_rate.reconstruct(q.astype(np.float32), mu, step, delta)
    expected = mu + step * np.sign(q) * (np.abs(q) - np.float64(delta))
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-4)
    np.testing.assert_array_equal(np.asarray(got)[q == 0], mu[q == 0])


def test_reconstruction_without_offset_is_the_middle_of_the_bin():
    q, mu = np.float32([-2, 0, 3]), np.float32([0.25, -1, 4])
    np.testing.assert_array_equal(variable_rate.reconstruct(q, mu, 2.0, 0.0), mu + 2 * q)


@pytest.mark.parametrize("q", [-1.0, 0.0, 5.0])
def test_the_offset_has_a_gradient_where_the_symbol_is_not_zero(q):
    slope = jax.grad(variable_rate.reconstruct, argnums=3)(jnp.float32(q), 0.3, 4.0, 0.1)
    assert slope == -4.0 * np.sign(q)
