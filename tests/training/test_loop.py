"""The loop on a model of a few hundred parameters: exact resumption, refusals, what it writes."""

import dataclasses
import json
import shutil

import jax
import numpy as np
import pytest

import jvrc
from jvrc import demo
from jvrc.cli import main
from jvrc.export import freezing
from jvrc.frozen.file import save_model
from jvrc.io import images
from jvrc.training import data, klt_init, loop, warm_start
from jvrc.training.recipe import PostRecipe, Recipe

RECIPE = Recipe(n=4, m=6, steps=4, batch=2, crop=64, seed=5, optimizer="adam")
pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def photographs(tmp_path_factory):
    """Four parts of a real photograph."""
    root = tmp_path_factory.mktemp("photos")
    photo = images.read_image(demo.bundled_photo())
    for i in range(4):
        images.write_image(root / f"{i}.png", photo[100 * i :][:100, 80 * i :][:, :200])
    return data.open_folder(root)


@pytest.fixture(scope="module")
def whole(photographs, tmp_path_factory):
    """A run without interruption, and its folder."""
    path = tmp_path_factory.mktemp("runs") / "whole"
    return loop.train(RECIPE, photographs, path, validate_every=2), path


def metrics(run):
    return [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]


def assert_identical(a, b):
    jax.tree.map(np.testing.assert_array_equal, a, b)


def test_interrupted_and_resumed_run_ends_bit_identical(whole, photographs, tmp_path):
    part = loop.train(RECIPE, photographs, tmp_path / "r", stop_after=2, validate_every=2)
    assert part.step == 2
    with (tmp_path / "r" / "metrics.jsonl").open("a") as file:
        file.write(
            '{"step": 3, "written": "after the checkpoint, before a crash"}\n{"step": 4, "lo'
        )
    again = loop.train(RECIPE, photographs, tmp_path / "r", resume=True, validate_every=2)
    assert again.step == 4
    assert_identical(again.params, whole[0].params)
    steps = [row["step"] for row in metrics(tmp_path / "r")]
    assert steps == sorted(steps)
    assert "crash" not in (tmp_path / "r" / "metrics.jsonl").read_text()


def test_a_schedule_may_be_run_in_pieces_that_carry_nothing_but_parameters(photographs, tmp_path):
    """Each piece goes on with the steps, the batches and the learning rate of the schedule."""
    first = loop.train(RECIPE, photographs, tmp_path / "a", stop_after=2)
    rest = dataclasses.replace(RECIPE, begin=2, init="a")
    second = loop.train(rest, photographs, tmp_path / "b", init=first.params)
    assert (first.step, second.step) == (2, 4)
    assert loop.Checkpoints(tmp_path / "b").latest() == 4
    assert [row["step"] for row in metrics(tmp_path / "b")] == [4, 4]
    assert_identical(loop.load_run(tmp_path / "b").params, second.params)
    with pytest.raises(ValueError, match="begin must be 0 without init"):
        loop.train(rest, photographs, tmp_path / "c")
    with pytest.raises(ValueError, match="stop_after must be at least 3"):
        loop.train(rest, photographs, tmp_path / "c", init=first.params, stop_after=2)


def test_a_run_without_its_optimizer_can_be_begun_from_but_not_resumed(photographs, tmp_path):
    """What has to travel to go on from a run is its recipe and the smaller part of a checkpoint."""
    run = loop.train(RECIPE, photographs, tmp_path / "r", stop_after=2)
    parts = tmp_path / "r" / "checkpoints" / "2"
    sizes = {
        name: sum(f.stat().st_size for f in (parts / name).rglob("*") if f.is_file())
        for name in ("model", "optimizer")
    }
    assert sizes["optimizer"] > 2 * sizes["model"]  # of Adam: the parameters and two moments
    shutil.rmtree(parts / "optimizer")
    again = loop.load_run(tmp_path / "r")
    assert again.step == 2
    assert_identical(again.params, run.params)
    with pytest.raises(ValueError, match=r"holds no optimizer: .*--resume needs model and opt"):
        loop.train(RECIPE, photographs, tmp_path / "r", resume=True)


def test_held_back_losses_compare_unless_a_run_serves_fewer_rates():
    two = PostRecipe(qsteps=(1.0, 16.0))
    assert loop.validation_qsteps(two) == (1.0, 16.0)
    for recipe in (RECIPE, PostRecipe(), dataclasses.replace(two, between=True)):
        assert loop.validation_qsteps(recipe) == loop.VALIDATION_QSTEPS


def test_a_run_ends_in_time_with_a_checkpoint_and_goes_on(whole, photographs, tmp_path):
    part = loop.train(RECIPE, photographs, tmp_path / "r", minutes=1e-9, validate_every=2)
    assert part.step == 1
    assert loop.Checkpoints(tmp_path / "r").latest() == 1
    again = loop.train(RECIPE, photographs, tmp_path / "r", resume=True, validate_every=2)
    assert_identical(again.params, whole[0].params)
    with pytest.raises(ValueError, match="minutes must be above 0"):
        loop.train(RECIPE, photographs, tmp_path / "s", minutes=-1.0)


def test_transforms_may_compute_in_bfloat16(whole, photographs, tmp_path):
    recipe = dataclasses.replace(RECIPE, precision="bfloat16")
    run = loop.train(recipe, photographs, tmp_path / "r", validate_every=2)
    losses = [metrics(path)[-1]["validation"]["loss"] for path in (whole[1], tmp_path / "r")]
    assert losses[0] == pytest.approx(losses[1], rel=0.1)
    assert losses[0] != losses[1]
    assert all(a.dtype == np.float32 for a in jax.tree.leaves(run.params))


def test_a_run_is_read_back_from_its_folder(whole):
    run, path = whole
    again = loop.load_run(path)
    assert again._replace(params=None) == run._replace(params=None)
    assert_identical(again.params, run.params)


def test_metrics_tell_loss_rate_distortion_speed_and_waiting(whole):
    rows = metrics(whole[1])
    trained = next(r for r in rows if "loss" in r)
    assert {"bpp", "psnr", "gradient_norm", "steps_per_s", "data_wait"} <= set(trained)
    held = [r["validation"] for r in rows if "validation" in r]
    assert [r["step"] for r in rows if "validation" in r] == [2, 4]
    assert len(held[0]["bpp"]) == len(held[0]["psnr"]) == len(loop.VALIDATION_QSTEPS)


def test_a_frozen_run_compresses_and_can_be_trained_on(whole, tmp_path):
    model = save_model(freezing.freeze_run(whole[0], {"note": "test"}), tmp_path / "m.safetensors")
    assert model.metadata["recipe"]["steps_done"] == 4
    img = np.full((20, 30, 3), 90, np.uint8)
    assert jvrc.decompress(model, jvrc.compress(model, img, 4)).shape == img.shape
    params, described = warm_start.params_from(tmp_path / "m.safetensors", whole[0].config)
    assert described == f"model {model.model_id}"
    jax.tree.map(  # float16 kernels in the file
        lambda a, b: np.testing.assert_allclose(a, b, rtol=2e-3, atol=1e-3),
        params,
        whole[0].params,
    )
    with pytest.raises(ValueError, match="N is 4, the recipe says 8"):
        warm_start.params_from(tmp_path / "m.safetensors", Recipe(n=8, m=6).config())


def test_a_run_is_not_overwritten_nor_resumed_with_another_recipe(whole, photographs):
    with pytest.raises(ValueError, match="--resume"):
        loop.train(RECIPE, photographs, whole[1])
    with pytest.raises(ValueError, match="differs"):
        loop.train(Recipe(n=4, m=6, seed=6), photographs, whole[1], resume=True)


@pytest.mark.parametrize("content", ["nothing", "recipe"])
def test_a_folder_without_a_run_or_a_checkpoint_is_refused(tmp_path, content):
    if content == "recipe":
        RECIPE.save(tmp_path / "recipe.json")
    with pytest.raises(ValueError, match=r"wrote|no checkpoint"):
        loop.load_run(tmp_path)


def test_divergence_stops_with_the_remedy_and_leaves_a_sound_checkpoint(photographs, tmp_path):
    poisoned = loop.start_params(Recipe(n=4, m=6, start="random"), None)
    poisoned["g_s"]["deconv3"]["bias"] += np.nan
    recipe = Recipe(n=4, m=6, steps=4, batch=2, crop=64, optimizer="adam", start="random")
    with pytest.raises(FloatingPointError, match=r"--from RUN.*lower --learning-rate"):
        loop.train(recipe, photographs, tmp_path / "r", init=poisoned, save_minutes=0.0)
    assert loop.Checkpoints(tmp_path / "r").latest() == 0  # the start itself


def test_a_run_killed_while_it_started_is_not_resumed_from_nothing(photographs, tmp_path):
    (tmp_path / "r").mkdir()
    RECIPE.save(tmp_path / "r" / "recipe.json")
    with pytest.raises(ValueError, match="start it anew"):
        loop.train(RECIPE, photographs, tmp_path / "r", resume=True)


def test_a_mistyped_folder_of_pictures_leaves_no_run_behind(tmp_path, capsys):
    command = ["train", "--data", str(tmp_path / "photso"), "-o", str(tmp_path / "r")]
    assert main(command) == 1
    assert "data must be a folder" in capsys.readouterr().err
    assert not (tmp_path / "r").exists()


def test_only_a_run_can_be_resumed_and_only_forwards(photographs, tmp_path):
    with pytest.raises(ValueError, match="to resume"):
        loop.train(RECIPE, photographs, tmp_path / "r", resume=True)
    with pytest.raises(ValueError, match="stop_after must be at least 1"):
        loop.train(RECIPE, photographs, tmp_path / "r", stop_after=0)


def test_the_pyramid_starts_as_a_codec_where_random_weights_give_noise(photographs):
    pictures = data.Pictures([*photographs.train, *photographs.held], progress=False)
    crops = data.centres(pictures, size=64)
    errors = {}
    for name in ("pyramid", "random"):
        recipe = Recipe(n=16, m=64, start=name)
        validate = loop.make_validation(recipe.config(), crops)
        errors[name] = validate(loop.start_params(recipe, pictures))["psnr"][0]
    assert errors["pyramid"] > 22 > 15 > errors["random"]


def test_pyramid_scales_make_a_step_of_one_the_high_rate_optimum():
    # y is in units of UNIT, of orthonormal coefficients: four averaging levels gain 2 each
    config = Recipe().config()
    assert config.latent_scale * klt_init.GAIN * klt_init.UNIT == pytest.approx(16)
