"""Batches and crops that blow up don't move the model."""

import dataclasses
import os
import signal
import subprocess
import sys
import time
from collections.abc import Sequence

import jax
import jax.numpy as jnp
import numpy as np
import pytest

from jvrc.training import loop
from jvrc.training.data import datasets
from jvrc.training.loss import objectives, outliers
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.run import clock
from jvrc.training.run.log import read_metrics
from jvrc.training.run.parallel import make_mesh
from jvrc.training.single_rate import SingleRate
from jvrc.training.update.state import apply_gradients, init_state

RECIPE = SingleRateRecipe(
    **{"n": 4, "m": 6, "batch": 3, "crop": 64, "steps": 1000, "seed": 1, "optimizer": "adam"},
    **{"initialisation": "random", "learning_rate": 5e-3, "warmup": 20},
)


def recorded(values):
    """(taken or not, the record) after the norms given."""
    norms, taken = outliers.no_norms(), []
    for value in values:
        good, norms = jax.jit(outliers.record)(norms, jnp.float32(value))
        taken.append(bool(good))
    return taken, norms


def test_steps_of_norms_far_above_the_recent_median_are_skipped():
    taken, norms = recorded([1.0, 2.0, 3.0] * 10 + [9.9, 10.1, 1e30, 2.0])
    assert taken == [True] * 31 + [False, False, True]
    assert int(norms.skipped) == 2


@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_a_norm_that_is_not_finite_is_skipped_from_the_first_step_on_and_forgotten(value):
    taken, norms = recorded([value, 1.0])
    assert taken == [False, True]
    assert int(norms.seen) == 1


def test_a_lasting_rise_of_the_norms_is_accepted():
    taken, _ = recorded([1.0] * 64 + [8.0] * 64)
    assert not any(taken[64:90])
    assert all(taken[100:])


def test_a_crop_counts_as_four_times_the_median_at_most():
    losses = jnp.array([1.0, 2.0, 3.0, 1e9, jnp.nan, jnp.inf])
    weights = outliers.crop_weights(losses)
    median = np.nanmedian(losses)
    np.testing.assert_allclose(weights, [1, 1, 1, 4 * median / 1e9, 0, 0])
    assert float(outliers.weighted_mean(weights, losses)) == pytest.approx((6 + 4 * median) / 6)
    assert np.isnan(outliers.weighted_mean(jnp.zeros(2), jnp.array([jnp.nan, jnp.inf])))


def test_weights_of_crops_are_constants():
    def loss(x):
        return 3 * outliers.weighted_mean(outliers.crop_weights(x), x)

    gradient = jax.grad(loss)(jnp.array([1.0, 1.0, 100.0]))
    np.testing.assert_allclose(gradient, [1, 1, 0.04])


def quadratic(losses_at):
    """(losses, the last state) of a thousand steps of `apply_gradients` on a quadratic.

    losses_at: step -> what the loss is multiplied by.
    """
    recipe = dataclasses.replace(RECIPE, learning_rate=0.05)
    target = jnp.linspace(-3, 3, 12)

    def loss(params, times):
        return times * jnp.mean(jnp.square(params["g_a"]["first"]["bias"] - target))

    def step(state, times):
        value, grads = jax.value_and_grad(loss)(state.params, times)
        return apply_gradients(recipe, state, grads)[0], value / times

    params = {"g_a": {"first": {"bias": jnp.zeros(12)}}}
    return jax.jit(jax.lax.scan, static_argnums=0)(step, init_state(recipe, params), losses_at)


def test_a_thousand_steps_hold_although_some_are_no_numbers():
    times = np.ones(1000, np.float32)
    times[40::50], times[65::50] = np.nan, 1e12
    state, losses = quadratic(jnp.asarray(times))
    assert int(state.norms.skipped) >= 38
    assert losses[-2] < 1e-2 * losses[0]
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state.params))


def with_outliers(monkeypatch):
    """Let one batch in 40 have losses without bounds, and one in 20 losses that are no numbers."""
    whole = objectives.losses

    def losses(config, params, x, qstep, key):
        parts = whole(config, params, x, qstep, key)
        if key is None:  # validation
            return parts
        draw = jax.random.uniform(jax.random.fold_in(key, 1))
        # a way out to absurd parameters, as a normalisation that divides by almost nothing has it
        steep = 1e6 * jnp.square(9 - sum(jnp.sum(a) for a in jax.tree.leaves(params["g_s"])))
        times = jnp.where(draw < 1 / 40, steep, jnp.where(draw > 19 / 20, jnp.nan, 1.0))
        return parts._replace(rd=parts.rd * times)

    monkeypatch.setattr(objectives, "losses", losses)


def run(steps):
    """(loss of each training step, the last state)."""
    mesh, method = make_mesh(), SingleRate(RECIPE)
    step, state = loop.jit_step(method, mesh), loop.first_state(method, mesh)
    coarse = np.random.default_rng(0).integers(0, 256, (12, 8, 8, 3), dtype=np.uint8)
    crops = coarse.repeat(8, 1).repeat(8, 2)
    losses = []
    for i in range(steps):
        state, report = step(state, crops[i % 4 * 3 :][:3])
        losses.append(report["loss"])
    return np.array(losses), state


@pytest.mark.weekly
@pytest.mark.usefixtures("quick_compilation")
def test_a_thousand_steps_at_a_high_rate_hold_although_outliers_are_injected(monkeypatch):
    with_outliers(monkeypatch)
    losses, state = run(1000)
    assert 50 < int(state.norms.skipped) < 120
    assert all(np.all(np.isfinite(a)) for a in jax.tree.leaves(state.params))
    assert np.nanmedian(losses[-100:]) < 0.7 * np.nanmedian(losses[:10])
    monkeypatch.setattr(outliers, "record", lambda norms, norm: (jnp.bool(True), norms))
    losses, _ = run(60)
    assert not np.isfinite(losses[-1])  # the same run without protection


class Coarse(Sequence):
    """Images that need no file."""

    def __len__(self):
        return 4

    def __getitem__(self, i):
        rng = np.random.default_rng(range(4)[i])
        return rng.integers(0, 256, (9, 11, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


def thousand(folder, **options):
    """A run of a thousand steps with outliers, as `jvrc train` does it; checkpoints come often."""
    with pytest.MonkeyPatch.context() as patch:
        with_outliers(patch)
        patch.setattr(clock, "OVERHEAD", 0.1)
        method, images = SingleRate(RECIPE), datasets.Dataset(Coarse(), Coarse())
        return loop.train(method, images, folder, save_minutes=0.0, **options)


KILLED = """
import sys, jax
jax.config.update("jax_disable_most_optimizations", True)
sys.path[:0] = [{folder!r}, {folder!r} + "/.."]  # and tests/small.py
from test_outliers import thousand
thousand({run!r})
"""


@pytest.mark.weekly
@pytest.mark.usefixtures("quick_compilation")
@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_thousand_steps_with_outliers_resume_to_the_same_bits_after_a_kill(tmp_path):
    code = KILLED.format(folder=os.path.dirname(__file__), run=str(tmp_path / "r"))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    checkpoints, deadline = tmp_path / "r" / "checkpoints", time.monotonic() + 900
    while process.poll() is None and time.monotonic() < deadline:
        if any(p.name.isdecimal() and int(p.name) > 200 for p in checkpoints.glob("*")):
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() == -signal.SIGKILL
    resumed, whole = thousand(tmp_path / "r", resume=True), thousand(tmp_path / "whole")
    assert resumed.step == whole.step == 1000
    jax.tree.map(np.testing.assert_array_equal, resumed.params, whole.params)
    # of the whole run: where one is killed, steps since its last line are in no line
    assert sum(row.get("skipped", 0) for row in read_metrics(tmp_path / "whole/metrics.jsonl")) > 50
