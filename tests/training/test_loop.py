"""The loop on a model of a few hundred parameters: bit-exact resumption, refusals, its files."""

import dataclasses
import json
import re
import shutil
import time
from concurrent.futures import Future

import jax
import numpy as np
import pytest

import jvrc
from jvrc import demo
from jvrc.cli import main
from jvrc.export import freezing
from jvrc.frozen.file import save_model
from jvrc.io import images
from jvrc.io.files import alone_in
from jvrc.training import loop, stepping, warm_start
from jvrc.training.data import batches, datasets, tile_file
from jvrc.training.initialisation import klt_scales
from jvrc.training.multi_rate import MultiRate
from jvrc.training.recipe.files import save_recipe
from jvrc.training.recipe.schema import MultiRateRecipe, SingleRateRecipe
from jvrc.training.run import clock, parallel
from jvrc.training.run.checkpoint import Checkpoints
from jvrc.training.run.clock import StartUp
from jvrc.training.run.divergence import has_diverged
from jvrc.training.run.run_folder import is_finished, load_run, with_optimizer_of
from jvrc.training.single_rate import SingleRate, initial_params
from jvrc.training.validation.held_out import VALIDATION_QSTEPS, Validation, make_validation

RECIPE = SingleRateRecipe(n=4, m=6, steps=4, batch=2, crop=64, seed=5, optimizer="adam")
pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]


@pytest.fixture(scope="module")
def dataset(tmp_path_factory):
    """Four parts of a real photograph."""
    root = tmp_path_factory.mktemp("photos")
    photo = images.read_image(demo.bundled_photo())
    for i in range(4):
        images.write_image(root / f"{i}.png", photo[100 * i :][:100, 80 * i :][:, :200])
    return datasets.open_folder(root)


@pytest.fixture(scope="module")
def whole(dataset, tmp_path_factory):
    """A run without interruption, and its folder."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return train(RECIPE, dataset, path, validate_every=2), path


def train(recipe, dataset, folder, **options):
    return loop.train(SingleRate(recipe), dataset, folder, **options)


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_interrupted_and_resumed_run_ends_bit_identical(whole, dataset, tmp_path):
    part = train(RECIPE, dataset, tmp_path / "r", stop_after=2, validate_every=2)
    assert part.step == 2
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 3, "written": "after the checkpoint, before a crash"}\n{"step": 4, "lo'
        )
    again = train(RECIPE, dataset, tmp_path / "r", resume=True, validate_every=2)
    assert again.step == 4
    assert_identical(again.params, whole[0].params)
    steps = [row["step"] for row in metrics(tmp_path / "r")]
    assert steps == sorted(steps)
    assert "crash" not in (tmp_path / "r" / "metrics.jsonl").read_text()


NEW = SingleRateRecipe(
    **{"model": "jvrc2026", "n": 3, "m": 8, "batch": 2, "crop": 64, "steps": 12, "warmup": 1},
    **{"weight_decay": 0.03, "learning_rate": 3e-3, "qstep_low": 4, "qstep_high": 4, "seed": 1},
    sizes={"C": 6, "K": 7, "H": 6, "E": 3, "g_a_blocks": 1, "g_s_blocks": 1, "context_blocks": 1},
)


@pytest.mark.weekly
def test_jvrc2026_trains_with_muon_and_resumes_to_the_same_bits(dataset, tmp_path):
    whole = train(NEW, dataset, tmp_path / "whole")
    train(NEW, dataset, tmp_path / "r", stop_after=3)
    again = train(NEW, dataset, tmp_path / "r", resume=True)
    assert again.step == 12
    assert_identical(again.params, whole.params)
    assert np.any(whole.params["g_s"]["block0"]["back"]["kernel"])  # zero before training
    assert load_run(tmp_path / "r").config == NEW.config()


def test_losses_of_jvrc2026_fall_on_a_batch_seen_again(dataset):
    mesh, method = parallel.make_mesh(), SingleRate(NEW)
    step, state = loop.jit_step(method, mesh), loop.first_state(method, mesh, dataset.train)
    crops, losses = batches.batch(dataset.train, 0, 0, size=64, count=2), []
    for _ in range(12):
        state, report = step(state, crops)
        losses.append(float(report["loss"]))
    assert max(losses[-3:]) < 0.98 * min(losses[:3])


def test_a_run_goes_on_from_another_with_its_optimizer_or_without(whole, dataset, tmp_path):
    """The parameters before averaging, the optimiser's averages and the recent norms go along."""
    method, mesh = SingleRate(RECIPE), parallel.make_mesh()
    fresh = loop.first_state(method, mesh, init=whole[0].params)
    found = with_optimizer_of(whole[1], RECIPE, fresh, parallel.everywhere(mesh))
    assert int(found.step) == 0
    assert int(found.norms.seen) == 4
    assert_identical(found.ema, fresh.ema)
    moved = [bool(np.any(a)) for a in jax.tree.leaves(found.opt_state)]
    still = [bool(np.any(a)) for a in jax.tree.leaves(fresh.opt_state)]
    assert sum(moved) > sum(still)
    other = SingleRate(dataclasses.replace(RECIPE, optimizer="muon"))
    begun = loop.first_state(other, mesh, init=whole[0].params)
    with pytest.raises(ValueError, match="a run of the same optimiser and sizes"):
        with_optimizer_of(whole[1], other.recipe, begun, None)
    with pytest.raises(ValueError, match="--keep-optimizer needs --from RUN"):
        with_optimizer_of(tmp_path, RECIPE, fresh, None)


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"initialisation": "random"},
            "parameters of the same latent_scale: 66.6667 in .*, 1 in the",
        ),
        ({"train_offsets": False}, "trains the same parts: .* leaves none .*, the new run offset"),
    ],
)
def test_the_optimizer_of_a_run_in_other_units_or_of_other_parts_is_refused(whole, change, message):
    recipe = dataclasses.replace(RECIPE, **change)
    with pytest.raises(ValueError, match=message):
        with_optimizer_of(whole[1], recipe, None, None)


def test_reading_a_run_leaves_what_it_is_writing(whole, tmp_path):
    shutil.copytree(whole[1], tmp_path / "r")
    unfinished = tmp_path / "r" / "checkpoints" / "9.orbax-checkpoint-tmp"
    unfinished.mkdir()
    load_run(tmp_path / "r")
    assert unfinished.is_dir()


def test_two_processes_do_not_train_in_one_folder(dataset, tmp_path):
    (tmp_path / "r").mkdir()
    with alone_in(tmp_path / "r"), pytest.raises(ValueError, match="another process writes there"):
        train(RECIPE, dataset, tmp_path / "r")


def test_a_recipe_that_differs_is_named_by_its_fields(whole, dataset):
    other = dataclasses.replace(RECIPE, n=8)
    with pytest.raises(ValueError, match="differs from the recipe given: n 4, not 8; resume with"):
        train(other, dataset, whole[1], resume=True)


def test_a_run_that_goes_on_from_another_sees_other_crops():
    seeds = [dataclasses.replace(RECIPE, warm_start=w).run_seed() for w in ("", "run a", "run b")]
    assert len(set(seeds)) == 3
    assert seeds[0] == RECIPE.seed


def test_a_run_without_its_optimizer_gives_a_warm_start_but_cannot_be_resumed(dataset, tmp_path):
    """For that its recipe and the smaller part of a checkpoint suffice."""
    run = train(RECIPE, dataset, tmp_path / "r", stop_after=2)
    parts = tmp_path / "r" / "checkpoints" / "2"
    sizes = {
        name: sum(f.stat().st_size for f in (parts / name).rglob("*") if f.is_file())
        for name in ("model", "optimizer")
    }
    assert sizes["optimizer"] > 2 * sizes["model"]  # of Adam: the parameters and two moments
    shutil.rmtree(parts / "optimizer")
    again = load_run(tmp_path / "r")
    assert again.step == 2
    assert_identical(again.params, run.params)
    with pytest.raises(ValueError, match=r"holds no optimizer: .*--resume needs model and opt"):
        train(RECIPE, dataset, tmp_path / "r", resume=True)


def test_held_out_losses_compare_unless_a_run_serves_fewer_rates():
    two = MultiRateRecipe(qsteps=(1.0, 16.0))
    assert MultiRate(two).validation_qsteps() == (1.0, 16.0)
    for recipe in (MultiRateRecipe(), dataclasses.replace(two, draw_qsteps=True)):
        assert MultiRate(recipe).validation_qsteps() == VALIDATION_QSTEPS
    assert SingleRate(RECIPE).validation_qsteps() == VALIDATION_QSTEPS


def test_a_run_pauses_in_time_with_a_checkpoint_and_goes_on(whole, dataset, tmp_path):
    part = train(RECIPE, dataset, tmp_path / "r", pause_after=1e-9, validate_every=2)
    assert part.step == 1
    assert Checkpoints(tmp_path / "r").latest() == 1
    assert not is_finished(tmp_path / "r")
    again = train(RECIPE, dataset, tmp_path / "r", resume=True, validate_every=2)
    assert is_finished(tmp_path / "r")
    assert_identical(again.params, whole[0].params)
    with pytest.raises(ValueError, match="pause_after must be above 0"):
        train(RECIPE, dataset, tmp_path / "s", pause_after=-1.0)


def test_a_schedule_by_the_clock_ends_in_time_also_if_it_is_cut(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(clock, "LEAST", 0.0)
    recipe = dataclasses.replace(RECIPE, minutes=60.0)
    part = train(recipe, dataset, tmp_path / "r", pause_after=1e-9)
    assert part.step == 1
    assert metrics(tmp_path / "r")[0]["progress"] < 0.01
    late = StartUp(time.monotonic() - 3600)  # the hour has passed
    rest = train(recipe, dataset, tmp_path / "r", resume=True, start_up=late)
    assert rest.step == 2
    assert [row["progress"] for row in metrics(tmp_path / "r") if "loss" in row][-1] == 1
    assert is_finished(tmp_path / "r")
    assert train(recipe, dataset, tmp_path / "r", resume=True).step == 2


def test_crops_drawn_on_the_device_train_as_those_of_the_host(dataset, tmp_path):
    """Several steps to a dispatch; resumed in the middle of one."""
    tile_file.pack(dataset, tmp_path / "x", tile_file.Tiling(64, 48, unnatural=9), progress=False)
    tiles = tile_file.open_tiles(tmp_path / "x")
    recipe = dataclasses.replace(RECIPE, unnatural_share=0.2)
    options = {"validate_every": 10}
    host = train(recipe, tiles, tmp_path / "host", on_device=False, **options)
    train(recipe, tiles, tmp_path / "device", on_device=True, stop_after=3, **options)
    device = train(recipe, tiles, tmp_path / "device", on_device=True, resume=True, **options)
    assert device.step == host.step == 4
    jax.tree.map(
        lambda a, b: np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5),
        device.params,
        host.params,
    )
    rows = [row for row in metrics(tmp_path / "device") if "loss" in row]
    assert [row["step"] for row in rows] == [3, 4]


def test_transforms_may_compute_in_bfloat16(whole, dataset, tmp_path):
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    run = train(recipe, dataset, tmp_path / "r", validate_every=2)
    losses = [metrics(path)[-1]["validation"]["loss"] for path in (whole[1], tmp_path / "r")]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]
    assert all(a.dtype == np.float32 for a in jax.tree.leaves(run.params))


def test_a_call_begins_with_its_device_and_ends_with_what_took_its_time(dataset, tmp_path, capsys):
    train(RECIPE, dataset, tmp_path / "r", stop_after=1)
    shown = capsys.readouterr().out
    assert re.search(r"first training step after .*; \d+ x .*, crops made by the host", shown)
    assert re.search(r"s: start .*%\), validation .*%\), checkpoints .*%\), training .*%\)", shown)


def test_a_run_is_read_back_from_its_folder(whole):
    run, path = whole
    again = load_run(path)
    assert again._replace(params=None) == run._replace(params=None)
    assert_identical(again.params, run.params)


def test_metrics_tell_loss_rate_distortion_speed_and_waiting(whole):
    rows = metrics(whole[1])
    trained = next(r for r in rows if "loss" in r)
    assert {"bpp", "psnr", "gradient_norm", "steps_per_s", "data_wait"} <= set(trained)
    assert trained["skipped"] == trained["reduced_crops"] == 0
    held_out = [r["validation"] for r in rows if "validation" in r]
    assert [r["step"] for r in rows if "validation" in r] == [2, 4]
    assert len(held_out[0]["bpp"]) == len(held_out[0]["psnr"]) == len(VALIDATION_QSTEPS)
    assert held_out[0]["ends"]["qstep"] == [0.7, 18.0]
    assert held_out[0]["ends"]["bpp"][0] > held_out[0]["bpp"][0]
    assert held_out[0]["unnatural"]["highest_bpp"][0] > held_out[0]["unnatural"]["bpp"][0] > 0


def test_a_frozen_run_compresses_and_can_be_trained_on(whole, tmp_path):
    model = save_model(freezing.freeze_run(whole[0], {"note": "test"}), tmp_path / "m.safetensors")
    assert model.metadata["recipe"]["steps_done"] == 4
    img = np.full((20, 30, 3), 90, np.uint8)
    assert jvrc.decompress(model, jvrc.compress(model, img, 4)).shape == img.shape
    source = warm_start.read_source(tmp_path / "m.safetensors")
    params, described = warm_start.params_from(source, whole[0].config)
    assert described == f"model {model.model_id}"
    jax.tree.map(  # float16 kernels in the file
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3),
        params,
        whole[0].params,
    )
    with pytest.raises(ValueError, match="N is 4, the recipe says 8"):
        warm_start.params_from(source, SingleRateRecipe(n=8, m=6).config())


def test_a_run_is_not_overwritten_nor_resumed_with_another_recipe(whole, dataset):
    with pytest.raises(ValueError, match="--resume"):
        train(RECIPE, dataset, whole[1])
    with pytest.raises(ValueError, match="differs"):
        train(SingleRateRecipe(n=4, m=6, seed=6), dataset, whole[1], resume=True)


@pytest.mark.parametrize("content", ["nothing", "recipe"])
def test_a_folder_without_a_run_or_a_checkpoint_is_refused(tmp_path, content):
    if content == "recipe":
        save_recipe(tmp_path / "recipe.json", RECIPE)
    with pytest.raises(ValueError, match=r"wrote|no checkpoint"):
        load_run(tmp_path)


@pytest.mark.parametrize(
    ("losses", "diverged"),
    [
        ([3.0], False),
        ([2.0, 1.0, 4.9], False),
        ([2.0, 1.0, 5.1], True),
        ([1.0, 4.0, 5.1], True),  # the lowest counts, not the one before
        ([6.0, 30.0], False),
        ([6.0, 31.0], True),
        ([1.0, float("nan")], True),
        ([float("inf")], True),
    ],
)
def test_a_loss_beyond_five_times_the_lowest_or_not_finite_is_divergence(losses, diverged):
    assert has_diverged(losses) is diverged


def test_a_nan_stops_the_run_with_the_remedy_and_leaves_a_sound_checkpoint(dataset, tmp_path):
    recipe = dataclasses.replace(RECIPE, initialisation="random")
    poisoned = initial_params(recipe, ())
    poisoned["g_s"]["deconv3"]["bias"] += np.nan
    with pytest.raises(FloatingPointError, match=r"--from RUN.*lower --learning-rate"):
        train(recipe, dataset, tmp_path / "r", init=poisoned, save_minutes=0.0)
    assert Checkpoints(tmp_path / "r").latest() == 0  # of the parameters it began with


@pytest.mark.parametrize("minutes", [0.0, 1.0])
def test_only_a_run_by_the_clock_trains_on_while_its_validation_compiles(minutes):
    recipe, compiled = dataclasses.replace(RECIPE, minutes=minutes), Future()
    called = loop_that_validates(recipe, Validation(lambda _: {}, compiled), every=10)
    assert [called(step) for step in (5, 10, 15)] == [False, not minutes, False]
    compiled.set_result({})
    assert called(16) == bool(minutes)


def loop_that_validates(recipe, validation, *, every):
    limits = stepping.Limits(99, np.inf, every, 60.0)
    rest = dict.fromkeys(("feed", "checkpoints", "log", "start_up", "whole"))
    whole = stepping.Loop(recipe, validate=validation, limits=limits, saving=clock.Cost(), **rest)
    return whole.is_validation_due


def test_a_checkpoint_compiles_nothing(dataset, tmp_path, monkeypatch):
    """On an accelerator each of hundreds of small programs would take a tenth of a second."""
    compiled, counts = [], []
    jax.monitoring.register_event_duration_secs_listener(
        lambda event, _, **__: compiled.append(event) if event.endswith("compile_duration") else ()
    )

    def save(loop, *args):
        before = len(compiled)
        original(loop, *args)
        counts.append(len(compiled) - before)

    original = stepping.Loop._save
    monkeypatch.setattr(stepping.Loop, "_save", save)
    jax.clear_caches()
    train(RECIPE, dataset, tmp_path / "r", stop_after=1)
    assert counts == [0]
    assert compiled


def test_a_run_whose_loss_grows_fivefold_stops(dataset, tmp_path, monkeypatch):
    monkeypatch.setattr(stepping, "LOG_EVERY", 1)
    recipe = dataclasses.replace(RECIPE, learning_rate=0.9, warmup=0, steps=20)
    with pytest.raises(FloatingPointError, match="diverged near step"):
        train(recipe, dataset, tmp_path / "r")
    losses = [row["loss"] for row in metrics(tmp_path / "r")]
    assert losses  # some steps were logged before
    assert np.all(np.isfinite(losses))
    assert Checkpoints(tmp_path / "r").latest() == 0


def test_a_few_steps_at_the_end_of_a_call_are_no_divergence(dataset, tmp_path, monkeypatch):
    """Their mean loss is too uncertain: the call ends with its checkpoint."""
    recipe = dataclasses.replace(RECIPE, learning_rate=0.9, warmup=0, steps=20)
    with monkeypatch.context() as patched:
        patched.setattr(stepping, "LOG_EVERY", 1)
        with pytest.raises(FloatingPointError) as raised:
            train(recipe, dataset, tmp_path / "watched")
    step = int(re.search(r"near step (\d+)", str(raised.value))[1])
    assert train(recipe, dataset, tmp_path / "r", stop_after=step).step == step
    assert Checkpoints(tmp_path / "r").latest() == step


def test_a_run_killed_before_its_first_checkpoint_is_not_resumed(dataset, tmp_path):
    (tmp_path / "r").mkdir()
    save_recipe(tmp_path / "r" / "recipe.json", RECIPE)
    with pytest.raises(ValueError, match="begin again"):
        train(RECIPE, dataset, tmp_path / "r", resume=True)


def test_a_mistyped_folder_of_images_leaves_no_run_behind(tmp_path, capsys):
    command = ["train", "--data", str(tmp_path / "photso"), "-o", str(tmp_path / "r")]
    assert main(command) == 1
    assert "data must be a folder" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_only_a_run_can_be_resumed_and_only_forwards(dataset, tmp_path):
    with pytest.raises(ValueError, match="to resume"):
        train(RECIPE, dataset, tmp_path / "r", resume=True)
    with pytest.raises(ValueError, match="stop_after must be at least 1"):
        train(RECIPE, dataset, tmp_path / "r", stop_after=0)


def test_klt_initialisation_gives_a_codec_where_random_weights_give_noise(dataset):
    cached = datasets.ImageCache([*dataset.train, *dataset.held_out], progress=False)
    crops = batches.centres(cached, size=64)
    psnr = {}
    for name in ("klt", "random"):
        recipe = SingleRateRecipe(n=16, m=64, initialisation=name)
        validate = make_validation(recipe.config(), crops)
        psnr[name] = validate(initial_params(recipe, cached))["psnr"][0]
    assert psnr["klt"] > 22 > 15 > psnr["random"]


def test_klt_scales_make_a_quantisation_step_of_one_the_high_rate_optimum():
    # y is in units of UNIT, of orthonormal coefficients: four averaging levels gain 2 each
    config = SingleRateRecipe().config()
    assert config.latent_scale * klt_scales.GAIN * klt_scales.UNIT == pytest.approx(16)
