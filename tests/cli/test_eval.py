"""`jvrc eval` on real files, with a tiny model."""

import json
import sys
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from jvrc import cli
from jvrc.evaluation import report, summary

MODEL = Path(__file__).parent.parent / "golden" / "v1" / "tiny-mean.safetensors"


@pytest.fixture
def folder(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    root = tmp_path / "photos"
    (root / "deeper").mkdir(parents=True)
    rows, cols = np.mgrid[:176, :170]
    for i, name in enumerate(("a.png", "deeper/b.png")):
        waves = [np.sin(cols / 19 + rows / 25 + i), np.cos(cols / 14), np.sin(rows / 11)]
        img = np.rint(128 + 100 * np.stack(waves, -1)).astype(np.uint8)
        Image.fromarray(img).save(root / name)
    return root


def run(*args):
    return cli.main(["eval", "photos", "--model", str(MODEL), *args])


def test_a_comparison_of_models_codecs_and_curves(folder, tmp_path, capsys):
    curves = {"curves": {"JPEG": {"bpp": [0.01, 9.0], "psnr_rgb_db": [1.0, 90.0]}}}
    (tmp_path / "published.json").write_text(json.dumps(curves))
    options = ["--qsteps", "1,4", "--against", "jpeg,webp", "--curves", "published.json"]
    assert run(*options, "--json", "copy.json", "-o", "out") == 0
    text, notes = capsys.readouterr()
    assert "jvrc: SSIMULACRA 2: no mean of 18 settings: a.png (tiny-mean, 1) has a side" in notes
    assert "PSNR: no mean" not in notes
    out = tmp_path / "out"
    found = json.loads((out / "results.json").read_text())
    assert found == json.loads((tmp_path / "copy.json").read_text())
    ours = [p for p in found["points"] if p["coder"] == "tiny-mean"]
    assert [(p["image"], p["setting"]) for p in ours] == [
        ("a.png", 1), ("a.png", 4), ("deeper/b.png", 1), ("deeper/b.png", 4),
    ]  # fmt: skip
    assert {r["coder"] for r in found["means"]} == {"tiny-mean", "JPEG", "WebP"}
    assert any(p["anchor"] == "JPEG (published)" for p in found["bd_rates"])
    assert [line.split()[0] for line in text.splitlines()[1:3]] == ["tiny-mean"] * 2
    assert "SSIMULACRA 2" in text.splitlines()[0]
    assert len((out / "results.csv").read_text().splitlines()) == 1 + len(found["points"])
    with Image.open(out / "curves.png") as plot:
        assert plot.format == "PNG"
    assert "deeper/b.png" in (out / "report.html").read_text()
    assert not (out / ".scratch").exists()
    written = summary.read_curves(out / "curves.json")
    for metric in ("psnr", "psnr_luma"):  # the images are too small for the others
        assert set(written[metric]) == {"tiny-mean", "JPEG", "WebP"}
        for name, curve in written[metric].items():
            means = [r for r in found["means"] if r["coder"] == name]
            expected = [(r["bpp"], r[metric]) for r in means]
            np.testing.assert_allclose(curve, expected, rtol=1e-4, err_msg=metric)


def test_bd_rates_between_two_rates_and_at_both_ends(folder, tmp_path, capsys):
    curves = {"x": {"bpp": [0.001, 0.1, 9.0], "psnr_rgb_db": [1.0, 20.0, 90.0]}}
    (tmp_path / "published.json").write_text(json.dumps({"curves": curves | {"y": curves["x"]}}))
    options = ["--qsteps", "1,4", "--curves", "published.json", "--between", "0.1,2"]
    assert run(*options, "--images", "0", "-o", "out") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())["bd_rates"]
    between = {tuple(p["rates"]) for p in found if p["test"] == "x (published)"}
    assert between == {(0.1, 2), (0.1, 0.3), (1, 2)}


def test_images_that_the_report_cannot_show_are_measured_all_the_same(
    folder, tmp_path, monkeypatch, capsys
):
    monkeypatch.setattr(report, "MAX_SIDE", 170)
    assert run("--qsteps", "1,4", "-o", "out") == 0
    assert "a.png: left out of the report: a side is longer than 170" in capsys.readouterr().err
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert {p["image"] for p in found["points"]} == {"a.png", "deeper/b.png"}


def test_a_second_run_gives_the_same_points(folder, tmp_path):
    assert run("--qsteps", "2,8", "-o", "out", "--images", "0") == 0
    first = json.loads((tmp_path / "out" / "results.json").read_text())["points"]
    assert run("--qsteps", "2,8", "-o", "out", "--images", "0") == 0
    assert json.loads((tmp_path / "out" / "results.json").read_text())["points"] == first


def test_efforts_are_compared(folder, tmp_path, monkeypatch):
    monkeypatch.setattr("jvrc.codec.effort.rdoq.PASSES", (0, 1, 2, 3))
    assert run("--qsteps", "2", "--effort", "0,2", "-o", "out", "--images", "1") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    assert [r["coder"] for r in found["means"]] == ["tiny-mean", "tiny-mean, effort 2"]
    assert found["means"][1]["bytes"] < found["means"][0]["bytes"]


def test_masking_is_measured_beside_each_effort_above_0(folder, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr("jvrc.codec.effort.rdoq.PASSES", (0, 1, 2, 3))
    command = ("--qsteps", "2", "--masking", "-o", "out", "--images", "0")
    assert run(*command) == 2
    assert capsys.readouterr().err.endswith("weighs what --effort minimises; add --effort 0,1\n")
    assert run(*command, "--effort", "0,1") == 0
    found = json.loads((tmp_path / "out" / "results.json").read_text())
    expected = ["tiny-mean", "tiny-mean, effort 1", "tiny-mean, effort 1, masking"]
    assert [r["coder"] for r in found["means"]] == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (["--against", "heic"], "avif-slow, avif-iq, jpegxl; got 'heic'"),
        (["--curves", "none.json"], "none.json: No such file"),
        (["--json", "missing/x.json"], "missing: no such folder"),
        (["--model", str(MODEL)], "'tiny-mean' comes twice"),
    ],
)
def test_mistakes_cost_one_line_before_anything_is_measured(folder, capsys, options, message):
    assert run(*options) == 1
    assert message in capsys.readouterr().err
    assert not Path("jvrc-eval").exists()


def test_a_folder_without_images_is_refused(tmp_path, capsys):
    assert cli.main(["eval", str(tmp_path)]) == 1
    assert "data must hold images" in capsys.readouterr().err


@pytest.mark.parametrize(
    "option",
    [
        "--qsteps=0",
        "--qsteps=x",
        "--between=1",
        "--between=2,1",
        "--show=99",
        "--show=1,2",
        "--effort=4",
    ],
)
def test_wrong_usage_exits_with_2(option):
    with pytest.raises(SystemExit) as error:
        cli.main(["eval", "photos", option])
    assert error.value.code == 2


def test_evaluation_without_its_extra_names_the_remedy(folder, monkeypatch, capsys):
    monkeypatch.setitem(sys.modules, "scipy", None)  # importing it fails
    assert run("--qsteps", "2") == 1
    expected = 'jvrc: error: scipy is missing, of the extra `eval`: pip install "jvrc[eval]"\n'
    assert capsys.readouterr().err == expected
