"""Plots of runs: from the rows that train and posttrain report, and by `jvrc plot`."""

import json
import sys

import pytest
from PIL import Image

from jvrc.cli import main
from jvrc.training.run.log_plot import plot_run

QSTEPS = [8.0, 4.0, 2.0]
VALIDATION = {"loss": 1.5, "qstep": [3.0, 12.0], "bpp": [0.9, 0.3], "psnr": [33.0, 27.0]}
UNNATURAL = {"qstep": [1.5, 6.0], "bpp": [2.0, 0.8], "psnr": [33, 30], "highest_bpp": [4.0, 2.3]}


def trained(step):
    return {"step": step, "loss": 2.0, "bpp": 1.0, "psnr": 30.0, "gradient_norm": 9.0} | {
        **{"skipped": 1, "reduced_crops": 0.01}
    }


def posttrained(step, drawn=(True, True, True), qstep=QSTEPS):
    """A row of K rates, null for those that were not drawn."""

    def of_rates(*values):
        return [v if seen else None for v, seen in zip(values, drawn, strict=True)]

    return {
        "step": step,
        "loss": 2.0,
        "steps_per_s": 3.0,
        "qstep": of_rates(*qstep),
        "bpp": of_rates(0.3, 0.6, 1.2),
        "psnr": of_rates(28.0, 30.0, 33.0),
        "weight": of_rates(0.7, 0.3, 0.0),
        "gradient_norm": of_rates(2.0, 0.0, 40.0),
        "cosine": of_rates(0.9, -0.2, 0.8),
    }


def held_out(step):
    return {"step": step, "validation": VALIDATION}


RUNS = {
    "train": [trained(50), trained(100), held_out(100)],
    "posttrain": [posttrained(50), held_out(50), posttrained(100), held_out(100)],
    "posttrain, one row": [posttrained(2)],
    "posttrain, one of K rates a step": [
        posttrained(50, (True, False, False)),
        posttrained(100, (False, True, False)),
    ],
    "posttrain, qsteps learned": [posttrained(50), posttrained(100, qstep=[7.0, 4.0, 2.5])],
    "with tiles that are no photographs": [
        {"step": 5, "validation": VALIDATION | {"unnatural": UNNATURAL}}
    ],
    "validated before anything was logged": [held_out(5)],
}


@pytest.fixture
def run(tmp_path):
    """A run folder as posttrain writes it, but without checkpoints."""
    folder = tmp_path / "run"
    folder.mkdir()
    lines = [json.dumps(row) + "\n" for row in RUNS["posttrain"]]
    (folder / "metrics.jsonl").write_text("".join(lines) + '{"step": 150, "lo')  # cut off
    return folder


def size(path):
    with Image.open(path) as img:
        img.load()
        assert img.format == "PNG"
        return img.size


@pytest.mark.parametrize("kind", RUNS)
def test_rows_of_either_command_become_an_image(kind, tmp_path):
    plot_run(RUNS[kind], tmp_path / "x.png", title=kind)
    assert min(size(tmp_path / "x.png")) > 200
    assert [p.name for p in tmp_path.iterdir()] == ["x.png"]  # nothing temporary stays


def test_only_panels_that_have_values_are_drawn(tmp_path):
    plot_run(RUNS["train"], tmp_path / "train.png")
    plot_run(RUNS["posttrain"], tmp_path / "post.png")
    areas = [w * h for w, h in (size(tmp_path / "train.png"), size(tmp_path / "post.png"))]
    assert areas[0] < areas[1]


@pytest.mark.parametrize("rows", [[], [{"step": 3, "note": "no values"}]])
def test_rows_without_values_are_refused(rows, tmp_path):
    with pytest.raises(ValueError, match="rows must hold"):
        plot_run(rows, tmp_path / "x.png")


def test_plot_writes_one_image_and_says_where(run, tmp_path, capsys):
    assert main(["plot", str(run), "-o", str(tmp_path / "x.png")]) == 0
    assert min(size(tmp_path / "x.png")) > 200
    assert capsys.readouterr().out.startswith(f"{tmp_path / 'x.png'}: step 100, ")
    assert main(["plot", str(run)]) == 0
    assert (run / "metrics.png").exists()


def test_what_is_there_is_overwritten_by_force_only(run, tmp_path, capsys):
    output = tmp_path / "x.png"
    output.write_bytes(b"precious")
    command = ["plot", str(run), "-o", str(output)]
    assert main(command) == 1
    assert output.read_bytes() == b"precious"
    assert "overwrite it with --force" in capsys.readouterr().err
    assert main([*command, "--force"]) == 0
    assert min(size(output)) > 200


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["NOWHERE", "-o", "x.png"], "nowhere: no such run"),
        (["EMPTY", "-o", "x.png"], "holds no metrics.jsonl"),
        (["RUN", "-o", "missing/x.png"], "missing: no such folder"),
        (["RUN", "-o", "NEW.xyz"], "xyz"),
    ],
)
def test_mistakes_are_one_line_and_exit_1(run, tmp_path, capsys, arguments, message):
    (tmp_path / "empty").mkdir()
    places = {"RUN": run, "NOWHERE": tmp_path / "nowhere", "EMPTY": tmp_path / "empty"}
    places["NEW.xyz"] = tmp_path / "new.xyz"
    assert main(["plot", *(str(places.get(a, a)) for a in arguments)]) == 1
    (error,) = capsys.readouterr().err.splitlines()
    assert error.startswith("jvrc: error: ")
    assert message in error
    assert not (tmp_path / "new.xyz").exists()


def test_a_run_that_reported_nothing_yet_says_so(run, capsys):
    (run / "metrics.jsonl").write_text("")
    assert main(["plot", str(run)]) == 1
    assert "nothing is reported yet" in capsys.readouterr().err
    assert not (run / "metrics.png").exists()


def test_plots_without_their_extra_name_the_remedy(run, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    assert main(["plot", str(run)]) == 1
    assert 'pip install "jvrc[eval]"' in capsys.readouterr().err
