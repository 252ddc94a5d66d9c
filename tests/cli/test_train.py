"""`jvrc train`, `posttrain` and `freeze`, as a user calls them, on a tiny model."""

import argparse
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import jax
import numpy as np
import pytest

from jvrc.cli import main
from jvrc.cli.recipe_options import add_recipe_options, chosen_recipe
from jvrc.export import freezing
from jvrc.frozen.file import read_model
from jvrc.frozen.header import read_header
from jvrc.interop import prototype
from jvrc.io import images
from jvrc.model.modules import init_params
from jvrc.training import loop
from jvrc.training.data import batches
from jvrc.training.recipe.schema import SingleRateRecipe
from jvrc.training.run import run_folder
from jvrc.training.run.run_folder import load_run

pytestmark = [pytest.mark.usefixtures("quick_compilation"), pytest.mark.slow]

TINY = ["--n", "4", "--m", "6", "--batch", "2", "--crop", "64", "--optimizer", "adam"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory):
    """(folder of images, finished run)."""
    root = tmp_path_factory.mktemp("train")
    (root / "photos").mkdir()
    rng = np.random.default_rng(2)
    for i in range(3):
        soft = rng.integers(0, 256, (6, 8, 3), dtype=np.uint8).repeat(16, 0).repeat(16, 1)
        images.write_image(root / "photos" / f"{i}.png", soft)
    command = ["train", "--data", str(root / "photos"), "-o", str(root / "run"), *TINY]
    assert main([*command, "--steps", "2", "--init", "random"]) == 0
    return root / "photos", root / "run"


def test_a_finished_run_leaves_a_model_that_compresses(trained, tmp_path, capsys):
    model = read_model(trained[1] / "model.safetensors")
    assert model.metadata["recipe"]["n"] == 4
    assert "license" not in model.metadata  # the trainer's to state
    assert "training photographs" in model.metadata["calibration"]
    photo, packed = trained[0] / "0.png", tmp_path / "x.jvrc"
    weights = str(trained[1] / "model.safetensors")
    assert main(["compress", str(photo), "-o", str(packed), "--model", weights]) == 0
    assert main(["decompress", str(packed), "-o", str(tmp_path / "x.png"), "--model", weights]) == 0
    assert images.read_image(tmp_path / "x.png").shape == images.read_image(photo).shape


def test_a_finished_run_resumes_to_itself(trained, capsys):
    before = read_model(trained[1] / "model.safetensors").model_id
    command = ["train", "--data", str(trained[0]), "-o", str(trained[1]), "--resume"]
    assert main(command) == 0
    assert before in capsys.readouterr().out


def test_freeze_writes_notes_into_the_header(trained, tmp_path):
    out = tmp_path / "m.safetensors"
    assert main(["freeze", str(trained[1]), "-o", str(out), "--note", "data=three squares"]) == 0
    header = read_header(out)
    assert header["data"] == "three squares"
    assert "calibration" not in header  # no images given: Gaussian tables


def test_a_base_model_is_post_trained_interrupted_and_resumed(trained, tmp_path, capsys):
    base, run = trained[1] / "model.safetensors", tmp_path / "all"
    command = ["posttrain", "--data", str(trained[0]), "-o", str(run)]
    fields = ["--batch", "2", "--crop", "64", "--optimizer", "adam", "--qsteps", "6,2"]
    fields += ["--steps", "2", "--weighting", "upgrad", "--train-offsets", "no"]
    assert main([*command, "--from", str(base), *fields, "--pause-after", "1e-9"]) == 0
    assert main([*command, "--resume"]) == 0
    header = read_model(run / "model.safetensors").metadata
    assert header["recipe"]["warm_start"] == f"model {read_model(base).model_id}"
    assert header["recipe"]["steps_done"] == 2
    assert header["recipe"]["weighting"] == "upgrad"
    assert header["qstep_range"] == [2, 6]
    # the recipe that a run leaves is one that starts another
    recipe = ["--recipe", str(run / "recipe.json"), "--from", str(run), "-o", str(tmp_path / "two")]
    assert main(["posttrain", "--data", str(trained[0]), *recipe, "--pause-after", "1e-9"]) == 0


SIZES = "C=6,K=7,H=6,E=3,g_a_blocks=1,g_s_blocks=1,context_blocks=1"
NEW = ["--recipe", "jvrc2026", "--n", "3", "--m", "8", "--sizes", SIZES]


def options(kind, *arguments):
    """The recipe that the arguments of a command ask for."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--output", type=Path, default=Path("none"))
    parser.add_argument("--resume", action="store_true")
    add_recipe_options(parser, kind)
    return chosen_recipe(parser.parse_args(arguments), kind)


def test_sizes_on_the_command_line_replace_those_of_the_recipe_one_by_one():
    config = options(SingleRateRecipe, *NEW).config()
    assert (config.N, config.M, config.C, config.K, config.fold) == (3, 8, 6, 7, 1)
    assert options(SingleRateRecipe, "--recipe", "jvrc2026", "--sizes", "C=8").config().K == 256


@pytest.mark.parametrize("wrong", ["C", "C=", "C=1.5", "C=1=2", "C=1,,K=2"])
def test_sizes_are_numbers_by_name(wrong, capsys):
    with pytest.raises(SystemExit):
        options(SingleRateRecipe, "--sizes", wrong)
    assert "--sizes: must be NAME=NUMBER with commas between; got" in capsys.readouterr().err


def test_parameters_of_the_prototype_begin_a_run(trained, tmp_path, monkeypatch):
    """The run itself is replaced: it would only take time."""
    recipe = options(SingleRateRecipe, *NEW)
    params = init_params(jax.random.key(0), recipe.config())
    source = tmp_path / "params.npz"
    source.write_bytes(b"")
    monkeypatch.setattr(prototype, "read_prototype", lambda path: (recipe.config(), params))
    seen = {}

    def train(method, images, folder, *, init, **options):
        seen.update(recipe=method.recipe, init=init)
        raise ValueError("stopped here")

    monkeypatch.setattr(loop, "train", train)
    command = ["--data", str(trained[0]), "--from", str(source), "-o", str(tmp_path / "run")]
    deeper = SIZES.replace("g_a_blocks=1", "g_a_blocks=2")
    assert main(["train", *NEW, "--sizes", deeper, *command]) == 1
    assert seen["recipe"].warm_start == "parameters params.npz"
    jax.tree.map(np.testing.assert_array_equal, seen["init"]["h_s"], params["h_s"])
    assert "block1" in seen["init"]["g_a"]
    assert main(["posttrain", *command]) == 1
    assert seen["recipe"].config() == recipe.config()


def test_parameters_of_the_prototype_are_frozen_by_the_range_of_a_recipe(tmp_path, monkeypatch):
    config = options(SingleRateRecipe, *NEW).config()
    source = tmp_path / "params.npz"
    source.write_bytes(b"")
    monkeypatch.setattr(prototype, "read_prototype", lambda path: (config, {}))
    seen = {}

    def freeze_run(run, notes):
        seen.update(run=run)
        raise ValueError("stopped here")

    monkeypatch.setattr(freezing, "freeze_run", freeze_run)
    assert main(["freeze", str(source), "--recipe", "jvrc2026"]) == 1
    assert seen["run"].config == seen["run"].recipe.config() == config
    assert seen["run"].recipe.qstep_range() == (0.8, 18)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["train", "--data", "PHOTOS", "-o", "NEW", "--recipe", "jvrc2026", "--sizes", "D=3"],
            "sizes of jvrc2026 must be of ",
        ),
        (["posttrain", "--data", "PHOTOS", "-o", "NEW", "--from", "PHOTOS"], "`jvrc train` wrote"),
        (
            ["posttrain", "--data", "PHOTOS", "-o", "NEW", "--qsteps", "0.1"],
            "one or more quantisation steps",
        ),
        (["posttrain", "--data", "NOWHERE", "-o", "NEW", "--from", "RUN"], "data must be a folder"),
        (
            ["posttrain", "--data", "PHOTOS", "-o", "RUN", "--resume"],
            "a recipe of `jvrc train`, not of `jvrc posttrain`",
        ),
        (["train", "--data", "PHOTOS", "-o", "RUN"], "--resume"),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--crop", "100"], "crop must be"),
        (["train", "--data", "NOWHERE", "-o", "NEW", "--steps", "1"], "data must be a folder"),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--from", "RUN", "--n", "8"], "N is 4"),
        (
            ["train", "--data", "PHOTOS", "-o", "NEW", "--recipe", "NOWHERE"],
            "recipe must be a shipped",
        ),
        (
            [*["train", "--recipe", "mbt2018", "--stage", "99", "-o", "NEW", "--data"], "PHOTOS"],
            "stage must be one of entropy-1, posttrain-1, ",
        ),
        (
            [
                *["train", "--recipe", "mbt2018", "--stage", "posttrain-1", "-o", "NEW", "--data"],
                "PHOTOS",
            ],
            "run `jvrc posttrain --recipe mbt2018 --stage posttrain-1`",
        ),
        (
            [*["posttrain", "--recipe", "mbt2018", "-o", "NEW", "--data"], "PHOTOS"],
            "run `jvrc train --recipe mbt2018 --stage entropy-1`",
        ),
        (["freeze", "PHOTOS"], "a folder that `jvrc train` wrote"),
        (["freeze", "RUN"], "choose another output with -o, or overwrite it"),
        (["freeze", "RUN", "-o", "missing/m.safetensors"], "missing: no such folder"),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--resume"], "to resume"),
    ],
)
def test_mistakes_are_one_line_and_exit_1(trained, tmp_path, capsys, arguments, message):
    fails(trained, tmp_path, capsys, arguments, message, code=1)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["freeze", "RUN", "--recipe", "jvrc2026", "--force"], "how PARAMS.npz was trained"),
        (["posttrain", "--data", "PHOTOS", "-o", "NEW"], "--from must name the run or weights"),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--stage", "2"], "--stage chooses"),
        (["freeze", "RUN", "--note", "text"], "KEY=TEXT"),
        (["freeze", "RUN", "--note", "recipe=mine"], "KEY none of recipe"),
        (["train", "--data", "PHOTOS", "-o", "RUN", "--resume", "--from", "RUN"], "one of them"),
    ],
)
def test_options_that_do_not_go_together_are_wrong_usage(
    trained, tmp_path, capsys, arguments, message
):
    fails(trained, tmp_path, capsys, arguments, message, code=2)


def fails(trained, tmp_path, capsys, arguments, message, *, code):
    places = {"PHOTOS": trained[0], "RUN": trained[1], "NEW": tmp_path / "new"}
    assert main([str(places.get(a, a)) for a in arguments]) == code
    error = capsys.readouterr().err.strip().splitlines()[-1]
    assert error.startswith("jvrc: error: ")
    assert message in error


@pytest.mark.parametrize(
    "wrong",
    [
        ["--train-offsets", "maybe"],
        ["--qsteps", "1;2"],
        ["--tfds", "x"],
        ["--weighting", "sum"],
    ],
)
def test_wrong_usage_exits_2(trained, capsys, wrong):
    command = ["posttrain", "--data", str(trained[0]), "-o", "new", *wrong]
    with pytest.raises(SystemExit) as leaving:
        main(command)
    assert leaving.value.code == 2
    assert wrong[0] in capsys.readouterr().err


def test_training_without_its_extra_names_the_remedy(trained, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "optax", None)
    assert main(["freeze", str(trained[1]), "-o", str(trained[1] / "other.safetensors")]) == 1
    assert 'pip install "jvrc[train]"' in capsys.readouterr().err


TWO_STAGES = """
n = 4
m = 6
batch = 2
crop = 64
optimizer = "adam"
steps = 2
[[stage]]
name = "base"
command = "train"
initialisation = "random"
[[stage]]
name = "two rates"
command = "posttrain"
qsteps = [6.0, 2.0]
"""


def test_a_finished_stage_names_the_command_of_the_next_one(trained, tmp_path, capsys):
    recipe, run = tmp_path / "small.toml", tmp_path / "first"
    recipe.write_text(TWO_STAGES, encoding="utf-8")
    command = ["train", "--recipe", str(recipe), "--data", str(trained[0]), "-o", str(run)]
    assert main([*command, "--pause-after", "1e-9"]) == 0
    assert "next stage" not in capsys.readouterr().out
    assert main([*command, "--resume"]) == 0
    *_, last = capsys.readouterr().out.splitlines()
    words = shlex.split(last)
    assert words[:4] == ["next", "stage:", "jvrc", "posttrain"]
    following = [str(tmp_path / "second") if word == "NEW" else word for word in words[3:]]
    assert main(following) == 0
    assert "next stage" not in capsys.readouterr().out
    header = read_header(tmp_path / "second" / "model.safetensors")
    assert header["recipe"]["warm_start"] == "run first, step 2"
    assert header["qstep_range"] == [2, 6]


def signalling(number, step):
    """`batches.batch`, in which a signal comes when the batch of a training step is made."""
    plain = batches.batch

    def batch(images, seed, at, **shape):
        if at == step:
            signal.raise_signal(number)
        return plain(images, seed, at, **shape)

    return batch


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_ends_a_run_with_a_checkpoint_and_says_how_to_resume(
    trained, tmp_path, monkeypatch, capsys, number, code
):
    run = tmp_path / "run"
    command = ["train", "--data", str(trained[0]), "-o", str(run), *TINY, "--init", "random"]
    with monkeypatch.context() as patch:
        patch.setattr(batches, "batch", signalling(number, 0))
        with pytest.raises(SystemExit) as leaving:
            main([*command, "--steps", "20"])
    assert leaving.value.code == code
    assert not (run / "model.safetensors").exists()
    shown = capsys.readouterr().err
    assert "compiling:" in shown
    assert "training:" in shown
    message, _, resuming = shown.splitlines()[-1].partition("; resume with: ")
    assert message.startswith(f"jvrc: stopped by {number.name} after training step 1, checkpoint")
    assert load_run(run).step == 1
    assert main([*shlex.split(resuming)[1:], "--pause-after", "1e-9"]) == 0
    assert load_run(run).step == 2


@pytest.mark.filterwarnings("default")  # which the command prints
def test_damaged_images_are_listed_and_small_ones_announced(trained, tmp_path, capsys):
    photos = tmp_path / "photos"
    shutil.copytree(trained[0], photos)
    damaged = images.list_images(photos)[1]
    damaged.write_bytes(damaged.read_bytes()[:60])
    images.write_image(photos / "small.png", np.zeros((20, 90, 3), np.uint8))
    command = ["train", "--data", str(photos), "-o", str(tmp_path / "run"), *TINY]
    assert main([*command, "--init", "random", "--steps", "1"]) == 0
    shown = capsys.readouterr().err
    assert shown.splitlines()[-1].startswith("skipped: ")
    assert str(damaged) in shown.splitlines()[-1]
    assert "images are smaller than the crops of 64x64" in shown


def test_a_run_without_a_training_step_is_not_frozen(trained, monkeypatch, capsys):
    run = load_run(trained[1])
    monkeypatch.setattr(run_folder, "load_run", lambda path: run._replace(step=0))
    assert main(["freeze", str(trained[1]), "-o", str(trained[1] / "zero.safetensors")]) == 1
    assert "run must hold a training step to freeze" in capsys.readouterr().err


@pytest.mark.parametrize("command", ["train", "posttrain"])
def test_help_shows_defaults_and_choices_and_imports_no_jax(command):
    code = (
        "import sys\nfrom jvrc.cli import main\n"
        f"try: main(['{command}', '--help'])\n"
        "except SystemExit: pass\n"
        "print('loaded', *sorted({'jax', 'optax', 'numpy'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.splitlines()[-1] == "loaded"
    text = " ".join(done.stdout.split())
    assert "--precision {float32,bfloat16,bfloat16-products}" in text
    assert f"(default: {0.001 if command == 'train' else 0.0005})" in text
