"""K gradients in one pass against K plain ones, and one update on any mesh of devices."""

import os
import subprocess
import sys
from pathlib import Path

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from small import small_config

from jvrc.model import architectures
from jvrc.model.config import ARCHITECTURES
from jvrc.qstep import rd_lambda
from jvrc.training import moo, rate_gradients
from jvrc.training.initialisation import klt
from jvrc.training.initialisation.klt_scales import klt_config
from jvrc.training.loss import objectives
from jvrc.training.rate_gradients import Rates, Setup
from jvrc.training.run import parallel

pytestmark = pytest.mark.slow

QSTEPS = jnp.array([8.0, 3.0, 1.5])
RATES = Rates(QSTEPS, rd_lambda(QSTEPS))
WEIGHTS = jnp.array([0.5, 0.2, 0.3])
KEY = jax.random.key(3)


def constant(report):
    return WEIGHTS


QUICK = {"xla_backend_optimization_level": 0}  # these programs compile longer than they run


def jit(function, **options):
    return jax.jit(function, compiler_options=QUICK, **options)


def model(architecture="mbt2018-mean"):
    """A transform codec, so that the gradients of all parts count."""
    config = klt_config(small_config(architecture))
    params = klt.klt_params(jax.random.key(0), config, np.asarray(smooth_images(4)))
    # what starts at a constant depends on what it sees
    names = config.parts if architecture == "jvrc2026" else ("offset", "z_step")
    return config, params | {n: jax.tree.map(lambda a: a + 0.05, params[n]) for n in names}


def smooth_images(count=2):
    """[count,64,64,3] in [0,1]."""
    coarse = jax.random.uniform(jax.random.key(1), (count, 8, 8, 3))
    return jax.image.resize(coarse, (count, 64, 64, 3), "linear")


def updated(setup, params, x=None):
    update = rate_gradients.make_update(setup, parallel.make_mesh())
    return jit(update)(params, smooth_images() if x is None else x, RATES, KEY)


def plain_loss(config, params, x, k, qstep):
    """Objective k by the whole forward pass, with the noise that the update draws."""
    latents = architectures.analyse(config, params, x)
    key = jax.random.split(KEY, len(QSTEPS))[k]
    noise = rate_gradients.crop_noise(key, 0, latents)
    out = architectures.reconstruct_and_rate(
        config, params, latents, jnp.full(x.shape[0], qstep), noise
    )
    return jnp.mean(objectives.losses_of(out, x, RATES.rd_lambda[k]).rd)


def assert_close(a, b, tolerance=1e-5):
    """Relative to the norm of the whole gradient."""
    pairs = zip(jax.tree.leaves(a), jax.tree.leaves(b), strict=True)
    difference = sum(jnp.sum(jnp.square(u - v)) for u, v in pairs)
    whole = sum(jnp.sum(jnp.square(u)) for u in jax.tree.leaves(b))
    assert float(jnp.sqrt(difference / whole)) < tolerance


@pytest.mark.parametrize(
    "architecture",
    [
        a if a == "mbt2018-mean" else pytest.param(a, marks=pytest.mark.weekly)
        for a in ARCHITECTURES
    ],
)
def test_the_update_is_the_weighted_sum_of_each_rates_own_gradient(architecture):
    config, params = model(architecture)
    derivatives = jit(jax.value_and_grad(plain_loss, (1, 4)), static_argnums=0)
    values, grads = zip(
        *(derivatives(config, params, smooth_images(), k, q) for k, q in enumerate(QSTEPS)),
        strict=True,
    )
    expected = moo.combine(jax.tree.map(lambda *g: jnp.stack(g), *[g[0] for g in grads]), WEIGHTS)
    update, weights, report, d_qstep = updated(Setup(config, constant), params)
    assert_close(update, expected)
    np.testing.assert_allclose(report.losses.rd, values, rtol=1e-5)
    np.testing.assert_allclose(d_qstep, [g[1] for g in grads], rtol=1e-3)
    np.testing.assert_array_equal(weights, WEIGHTS)
    flat = [np.concatenate([np.ravel(a) for a in jax.tree.leaves(g[0])]) for g in grads]
    np.testing.assert_allclose(report.gram, np.array(flat) @ np.array(flat).T, rtol=1e-4, atol=1e-5)


def test_pulling_back_the_sum_gives_the_update_of_pulling_back_each_rate():
    config, params = model()
    exact = updated(Setup(config, constant, exact_gram=True), params)
    cheap = updated(Setup(config, constant, exact_gram=False), params)
    assert_close(cheap[0], exact[0])
    assert not np.allclose(cheap[2].gram, exact[2].gram)  # the cheap one is an approximation


@pytest.mark.parametrize("exact_gram", [True, False])
def test_the_loop_of_accelerators_makes_the_same_update(exact_gram, monkeypatch):
    config, params = model()
    setup = Setup(config, constant, exact_gram=exact_gram)
    unrolled = updated(setup, params)
    monkeypatch.setattr(rate_gradients, "each_rate", rate_gradients.in_a_loop)
    looped = updated(setup, params)
    assert_close(looped[0], unrolled[0])
    np.testing.assert_allclose(looped[2].gram, unrolled[2].gram, rtol=1e-4)


def test_fixed_parts_get_no_gradient_and_enter_no_inner_product():
    config, params = model()
    free = updated(Setup(config, constant), params)
    held = updated(Setup(config, constant, fixed=("offset", "z_step")), params)
    for name in ("offset", "z_step"):
        assert any(np.any(a) for a in jax.tree.leaves(free[0][name]))
        assert not any(np.any(a) for a in jax.tree.leaves(held[0][name]))
    assert_close(held[0]["g_s"], free[0]["g_s"])
    assert np.all(np.diag(held[2].gram) < np.diag(free[2].gram))


@pytest.mark.weekly
@pytest.mark.parametrize("architecture", ["mbt2018-mean", "jvrc2026"])
def test_bfloat16_changes_the_update_little_and_its_dtypes_not(architecture):
    config, params = model(architecture)
    full = updated(Setup(config, constant), params)
    low = updated(Setup(config, constant, dtype=jnp.dtype("bfloat16")), params)
    assert all(a.dtype == jnp.float32 for a in jax.tree.leaves(low[0]))
    np.testing.assert_allclose(low[2].losses.rd, full[2].losses.rd, rtol=0.02)
    assert not np.array_equal(low[2].losses.rd, full[2].losses.rd)


DEVICES = """
import sys, jax, numpy as np
sys.path[:0] = [{folder!r}, {folder!r} + "/.."]  # and tests/small.py
from test_rate_gradients import KEY, RATES, constant, jit, model, smooth_images
from jax.sharding import Mesh
from jvrc.training import moo, rate_gradients
config, params = model()
rates = jax.tree.map(lambda a: np.repeat(a, 3)[:8] * np.linspace(1, 2, 8, dtype="f"), RATES)
def mgda(report):
    return moo.min_norm_weights(report.gram / report.losses.bpp[None] / report.losses.bpp[:, None])
def run(data, rate, exact):
    mesh = Mesh(np.array(jax.devices()[:data * rate]).reshape(data, rate), ("data", "rate"))
    update = rate_gradients.make_update(rate_gradients.Setup(config, mgda, exact_gram=exact), mesh)
    result = jit(update)(params, smooth_images(8), rates, KEY)
    return np.concatenate([np.ravel(np.asarray(a, "d")) for a in jax.tree.leaves(result[:2])])
assert jax.device_count() == 8
for exact in (True, False):
    one = run(1, 1, exact)
    for shape in ((8, 1), (2, 4), (1, 8)):
        error = np.linalg.norm(run(*shape, exact) - one) / np.linalg.norm(one)
        print(exact, shape, error)
        assert error < 1e-5, (exact, shape, error)
"""


@pytest.mark.weekly
def test_eight_devices_make_the_update_of_one(tmp_path):
    code = DEVICES.format(folder=str(Path(__file__).parent))
    flags = {"XLA_FLAGS": "--xla_force_host_platform_device_count=8", "JAX_PLATFORMS": "cpu"}
    environment = os.environ | flags
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, env=environment, timeout=900
    )
    assert done.returncode == 0, done.stderr[-2000:]
    assert done.stdout.count("\n") == 6
