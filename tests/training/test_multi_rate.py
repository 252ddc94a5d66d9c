"""Post-training on a model of a few hundred parameters: resumption, reports, refusals."""

import os
import signal
import subprocess
import sys
import time
from dataclasses import replace

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax.sharding import AbstractMesh
from small import small_config

from jvrc.export import freezing
from jvrc.model.modules import init_params
from jvrc.qstep import rd_lambda
from jvrc.training import loop, multi_rate, warm_start
from jvrc.training.data import batches, datasets
from jvrc.training.loss import objectives
from jvrc.training.multi_rate import MultiRate
from jvrc.training.rate_gradients import RateReport, Rates
from jvrc.training.recipe.schema import (
    LOG_QSTEP,
    OBJECTIVE_SCALES,
    PUBLISHED_QSTEPS,
    WEIGHTINGS,
    MultiRateRecipe,
    SingleRateRecipe,
)
from jvrc.training.run import parallel
from jvrc.training.run.log import read_metrics
from jvrc.training.run.run_folder import model_params, run_of
from jvrc.training.single_rate import SingleRate

BASE = SingleRateRecipe(n=4, m=6, initialisation="random")
RECIPE = MultiRateRecipe(steps=4, batch=2, crop=64, optimizer="adam", qsteps=(8.0, 2.0), seed=5)
RECIPE = RECIPE.of_model(BASE.config(), "a test")


class Noise:
    """Images that need no file."""

    def __len__(self):
        return 3

    def __getitem__(self, i):
        if not 0 <= i < 3:
            raise IndexError(i)
        rng = np.random.default_rng(i)
        return rng.integers(0, 256, (10, 12, 3), dtype=np.uint8).repeat(8, 0).repeat(8, 1)


DATASET = datasets.Dataset(Noise(), Noise())
pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


@pytest.fixture(scope="module")
def params():
    return init_params(jax.random.key(0), BASE.config())


@pytest.fixture(scope="module")
def whole(params, tmp_path_factory):
    """A run without interruption, and its folder."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return train(RECIPE, path, init=params, validate_every=2), path


def train(recipe, folder, **options):
    return loop.train(MultiRate(recipe), DATASET, folder, **options)


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


KILLED = """
import sys, jax
jax.config.update("jax_disable_most_optimizations", True)
sys.path[:0] = [{folder!r}, {folder!r} + "/.."]  # and tests/small.py
from test_multi_rate import BASE, RECIPE, init_params, train
params = init_params(jax.random.key(0), BASE.config())
train(RECIPE, {run!r}, init=params, validate_every=2, save_minutes=0.0)
"""


@pytest.mark.skipif(sys.platform == "win32", reason="SIGKILL is POSIX")
def test_a_run_killed_at_any_moment_resumes_to_the_same_bits(whole, tmp_path):
    run = tmp_path / "r"
    code = KILLED.format(folder=os.path.dirname(__file__), run=str(run))
    process = subprocess.Popen([sys.executable, "-c", code], stderr=subprocess.DEVNULL)
    deadline = time.monotonic() + 600
    while process.poll() is None and time.monotonic() < deadline:
        if (run / "checkpoints" / "1").is_dir():  # complete: it appears by renaming
            break
        time.sleep(0.01)
    process.send_signal(signal.SIGKILL)
    assert process.wait() in (-signal.SIGKILL, 0)
    again = train(RECIPE, run, resume=True, validate_every=2)
    assert again.step == 4
    assert_identical(again.params, whole[0].params)
    assert [r["step"] for r in read_metrics(run / "metrics.jsonl")][-1] == 4


def test_metrics_tell_of_each_rate(whole):
    rows = read_metrics(whole[1] / "metrics.jsonl")
    row = next(r for r in rows if "loss" in r)
    for name in ("qstep", "bpp", "psnr", "weight", "gradient_norm", "cosine"):
        assert len(row[name]) == 2
    assert sum(row["weight"]) == pytest.approx(1, abs=1e-4)
    assert row["qstep"] == [8.0, 2.0]
    validation = next(r["validation"] for r in rows if "validation" in r)
    assert validation["qstep"] == [8.0, 2.0]


def test_a_post_trained_run_freezes_with_the_range_of_its_steps(whole, tmp_path):
    from jvrc.frozen.file import save_model

    model = save_model(freezing.freeze_run(whole[0], {}), tmp_path / "m.safetensors")
    assert model.metadata["qstep_range"] == [2.0, 8.0]
    config, params, described = warm_start.read_source(tmp_path / "m.safetensors")
    assert described == f"model {model.model_id}"
    assert config == whole[0].config
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3), params, whole[0].params
    )


def one_step(recipe, params, steps=1):
    """(state, last report) after some steps on the same batch, and the jitted step."""
    mesh, method = parallel.make_mesh(), MultiRate(recipe)
    step = loop.jit_step(method, mesh)
    state = loop.first_state(method, mesh, init=params)
    for _ in range(steps):
        state, report = step(state, batches.batch(Noise(), 0, 0, size=64, count=2))
    return state, report, step


def test_a_second_training_step_compiles_nothing(params):
    assert one_step(RECIPE, params, steps=2)[2]._cache_size() == 1


@pytest.mark.weekly
def test_jvrc2026_is_post_trained():
    config = small_config("jvrc2026", latent_scale=1 / 0.06, hyper_scale=8.0)
    recipe = replace(RECIPE, optimizer="muon", warmup=0, steps=100).of_model(config, "a test")
    before = jax.tree.map(np.asarray, init_params(jax.random.key(0), config))
    state, report, _ = one_step(recipe, before, steps=3)
    assert np.all(np.isfinite(report["bpp"]))
    assert np.all(np.asarray(report["weight"]) > 0)
    for part in config.parts:
        moved = jax.tree.map(lambda a, b: np.any(a != b), state.params[part], before[part])
        assert any(jax.tree.leaves(moved)), part


def test_parts_that_are_not_trained_stay_as_they_are(params):
    """Medians of z, too, which follow the latents and not a gradient."""
    recipe = replace(RECIPE, train_decoder=False, learning_rate=1e-2, warmup=0, steps=100)
    before = jax.tree.map(np.asarray, params)
    state, _, _ = one_step(recipe, before, steps=3)
    assert "bottleneck" in recipe.fixed_parts()
    for part in recipe.fixed_parts():
        assert_identical(state.params[part], before[part])
    assert np.any(state.params["h_a"]["conv0"]["kernel"] != before["h_a"]["conv0"]["kernel"])


def test_weighting_random_takes_one_rate_and_reports_the_others_as_nan(params):
    recipe = replace(RECIPE, weighting="random", qsteps=(8.0, 4.0, 2.0))
    report = one_step(recipe, params)[1]
    assert np.sum(np.isfinite(report["bpp"])) == 1
    assert np.nansum(report["weight"]) == 1


def test_qsteps_are_drawn_anew_in_the_range_of_those_given(params):
    recipe = replace(RECIPE, draw_qsteps=True, qsteps=(8.0, 2.0))
    mesh, method = parallel.make_mesh(), MultiRate(recipe)
    step = loop.jit_step(method, mesh)
    state, seen = loop.first_state(method, mesh, init=params), []
    for _ in range(3):
        state, report = step(state, batches.batch(Noise(), 0, 0, size=64, count=2))
        seen.append(np.asarray(report["qstep"]))
    assert np.all((np.array(seen) >= 2) & (np.array(seen) <= 8))
    assert len({tuple(s) for s in seen}) == 3


def test_learned_qsteps_descend_their_own_objective_and_are_no_part_of_the_model(params):
    recipe = replace(RECIPE, learn_qsteps=True, learning_rate=1e-2, warmup=0, steps=100)
    state, report, _ = one_step(recipe, params, steps=2)
    assert LOG_QSTEP in state.params
    moved = np.asarray(state.params[LOG_QSTEP]) - np.log(recipe.qsteps)
    assert np.all(np.abs(moved) > 0)
    assert LOG_QSTEP not in model_params(recipe, state.params)
    np.testing.assert_allclose(report["qstep"], recipe.qsteps, rtol=0.05)


def test_no_gradient_leads_out_of_the_range_of_qsteps():
    ends = jnp.log(jnp.array([0.5, 0.5, 4.0, 4.0, 32.0, 32.0]))
    gradient = jnp.array([1.0, -1.0, 1.0, -1.0, 1.0, -1.0])  # a descent goes against it
    assert multi_rate.held_in_range(ends, gradient).tolist() == [0, -1, 1, -1, 1, 0]


def test_learned_qsteps_stay_in_the_range_that_files_can_state(params):
    recipe = replace(RECIPE, learn_qsteps=True, qsteps=(32.0, 8.0), lambdas=(1e-9, 1e-9))
    recipe = replace(recipe, learning_rate=1e-2, warmup=0, steps=100)
    state, _, _ = one_step(recipe, params, steps=2)  # both rates fall where Delta grows
    assert state.params[LOG_QSTEP][0] == np.log(np.float32(32))
    assert state.params[LOG_QSTEP][1] > np.log(8)


def test_a_run_with_learned_qsteps_freezes_with_the_range_that_it_learned(params):
    recipe = replace(RECIPE, learn_qsteps=True)
    learned = params | {LOG_QSTEP: np.log([9.0, 1.75])}
    run = run_of(recipe, learned, 3)
    assert LOG_QSTEP not in run.params
    assert run.qstep_range == pytest.approx((1.75, 9.0))
    beyond = params | {LOG_QSTEP: np.log([40.0, 0.3])}
    assert run_of(recipe, beyond, 3).qstep_range == (0.5, 32.0)
    above = params | {LOG_QSTEP: np.log([40.0, 33.0])}
    assert run_of(recipe, above, 3).qstep_range == (32.0, 32.0)
    frozen = freezing.freeze_run(run, {})
    assert frozen.metadata["qstep_range"] == pytest.approx([1.75, 9.0])


REPORT = RateReport(
    objectives.Losses(jnp.array([0.5, 1.0, 5.0]), jnp.array([0.1, 0.4, 1.5]), jnp.ones(3) * 1e-3),
    jnp.ones(3) * 30,
    Rates(jnp.array([8.0, 3.0, 1.0]), 0.18 / jnp.array([64.0, 9.0, 1.0])),
    jnp.diag(jnp.array([1.0, 4.0, 900.0])) + 0.5,
    jnp.zeros(3),
)


def test_each_choice_of_a_recipe_has_its_function():
    assert set(multi_rate.WEIGHTINGS) == set(WEIGHTINGS)
    assert set(multi_rate.OBJECTIVE_SCALES) == set(OBJECTIVE_SCALES)


@pytest.mark.parametrize("scale", OBJECTIVE_SCALES)
@pytest.mark.parametrize("weighting", WEIGHTINGS)
def test_every_weighting_of_every_scale_is_a_convex_combination(weighting, scale):
    recipe = replace(RECIPE, weighting=weighting, objective_scale=scale, weight_floor=0.0)
    weights = multi_rate.weighting_of(recipe)(REPORT)
    assert np.all(np.asarray(weights) >= 0)
    assert float(jnp.sum(weights)) == pytest.approx(1, abs=1e-5)


def test_min_norm_of_orthogonal_gradients_depends_on_the_scale_as_derived():
    # orthogonal g_k, scaled by s_k: the min-norm weights are 1 / |s_k g_k|^2, times s_k
    report = REPORT._replace(gram=jnp.diag(jnp.array([1.0, 4.0, 900.0])))
    for scale, s in (("none", np.ones(3)), ("rate", 1 / np.array([0.1, 0.4, 1.5]))):
        weights = multi_rate.weighting_of(replace(RECIPE, objective_scale=scale, weight_floor=0.0))(
            report
        )
        expected = s / (s**2 * np.array([1.0, 4.0, 900.0]))
        np.testing.assert_allclose(weights, expected / expected.sum(), rtol=1e-4)


def test_a_floor_is_kept_by_the_weights_of_scaled_objectives():
    weights = multi_rate.weighting_of(replace(RECIPE, weight_floor=0.3, objective_scale="none"))(
        REPORT
    )
    assert float(jnp.min(weights)) >= 0.3 / 3 - 1e-6
    weights = multi_rate.weighting_of(
        replace(RECIPE, weight_floor=0.3, objective_scale="gradient")
    )(REPORT)
    pull = np.asarray(weights) * np.sqrt(np.diag(REPORT.gram))
    assert np.min(pull / pull.sum()) >= 0.3 / 3 - 1e-6


def test_the_published_grid_is_on_the_line_of_lambda():
    published = (0.0018, 0.0035, 0.0067, 0.013, 0.025, 0.0483, 0.0932, 0.18)
    np.testing.assert_allclose(rd_lambda(jnp.array(PUBLISHED_QSTEPS)), published, rtol=0.004)


@pytest.mark.parametrize(
    ("wrong", "message"),
    [
        ({"qsteps": ()}, "one or more quantisation steps"),
        ({"qsteps": (0.1, 1.0)}, "one or more quantisation steps"),
        ({"qsteps": 3.0}, "a list of numbers"),
        ({"qsteps": ("1",)}, "a list of numbers"),
        ({"lambdas": (0.1,)}, "one for each"),
        ({"lambdas": (0.1, -1.0)}, "positive"),
        ({"draw_qsteps": True, "learn_qsteps": True}, "draw_qsteps must be false"),
        ({"weighting": "sum"}, "weighting must be one of mgda"),
        ({"objective_scale": "log"}, "objective_scale must be one of none"),
        ({"gram": "fast"}, "gram must be one of exact"),
        ({"precision": "float16"}, "precision must be one of"),
        ({"weight_floor": 2.0}, "weight_floor must be in"),
        ({"final_lr_fraction": 2.0}, "final_lr_fraction must be in"),
    ],
)
def test_a_wrong_field_is_named_with_its_rule(wrong, message):
    with pytest.raises(ValueError, match=message):
        replace(RECIPE, **wrong)


def test_post_training_needs_a_trained_model(tmp_path):
    with pytest.raises(ValueError, match="init must hold"):
        train(RECIPE, tmp_path / "r")
    assert not (tmp_path / "r").exists()


def test_a_mesh_that_does_not_divide_the_work_is_refused():
    with pytest.raises(ValueError, match="batch must divide evenly over 3"):
        MultiRate(RECIPE).make_step(AbstractMesh((3, 1), ("data", "rate")))
    with pytest.raises(ValueError, match="batch must divide evenly over 3"):
        SingleRate(SingleRateRecipe(batch=4)).make_step(AbstractMesh((3, 1), ("data", "rate")))
    with pytest.raises(ValueError, match="qsteps must divide evenly over 4"):
        MultiRate(RECIPE).make_step(AbstractMesh((1, 4), ("data", "rate")))
    with pytest.raises(ValueError, match="rate_devices must divide"):
        parallel.make_mesh(jax.device_count() + 1)
