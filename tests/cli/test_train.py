"""`jvrc train`, `posttrain` and `freeze`, as a user calls them, on a tiny model."""

import shlex
import subprocess
import sys

import numpy as np
import pytest

from jvrc.cli import main
from jvrc.frozen.file import read_model
from jvrc.frozen.header import read_header
from jvrc.io import images

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
    assert main([*command, "--from", str(base), *fields, "--stop-after", "1"]) == 0
    assert main([*command, "--resume"]) == 0
    header = read_model(run / "model.safetensors").metadata
    assert header["recipe"]["warm_start"] == f"model {read_model(base).model_id}"
    assert header["recipe"]["steps_done"] == 2
    assert header["recipe"]["weighting"] == "upgrad"
    assert header["qstep_range"] == [2, 6]
    # the recipe that a run leaves is one that starts another
    recipe = ["--recipe", str(run / "recipe.json"), "--from", str(run), "-o", str(tmp_path / "two")]
    assert main(["posttrain", "--data", str(trained[0]), *recipe, "--stop-after", "1"]) == 0


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["posttrain", "--data", "PHOTOS", "-o", "NEW"], "--from must name the run or weights"),
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
        (["train", "--data", "PHOTOS", "-o", "NEW", "--from", "RUN"], "N is 4"),
        (
            ["train", "--data", "PHOTOS", "-o", "NEW", "--recipe", "NOWHERE"],
            "recipe must be a shipped",
        ),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--stage", "2"], "--stage chooses"),
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
        (["freeze", "RUN"], "--force overwrites"),
        (["freeze", "RUN", "--note", "text"], "KEY=TEXT"),
        (["freeze", "RUN", "--note", "recipe=mine"], "KEY none of recipe"),
        (["freeze", "RUN", "-o", "missing/m.safetensors"], "missing: no such folder"),
        (["train", "--data", "PHOTOS", "-o", "NEW", "--resume"], "to resume"),
        (["train", "--data", "PHOTOS", "-o", "RUN", "--resume", "--from", "RUN"], "one of them"),
    ],
)
def test_mistakes_are_one_line_and_exit_1(trained, tmp_path, capsys, arguments, message):
    places = {"PHOTOS": trained[0], "RUN": trained[1], "NEW": tmp_path / "new"}
    assert main([str(places.get(a, a)) for a in arguments]) == 1
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
    assert "pip install 'jvrc[train]'" in capsys.readouterr().err


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
    assert main([*command, "--stop-after", "1"]) == 0
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
    assert "--precision {float32,bfloat16}" in text
    assert f"(default: {0.001 if command == 'train' else 0.0005})" in text
