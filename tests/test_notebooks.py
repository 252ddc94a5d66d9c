"""The notebooks of colab/ hold no outputs, and run from top to bottom on a tiny model."""

import json
import re
from pathlib import Path

import jax
import matplotlib
import numpy as np
import pytest
from PIL import Image

from jvrc.frozen.file import read_model
from jvrc.training.run.log import read_metrics

NOTEBOOKS = sorted((Path(__file__).parents[1] / "colab").glob("*.ipynb"))

# What replaces the constants of a notebook's cell `parameters`; WORK is a temporary folder.
TINY = {
    "first_steps": {
        "MODEL": str(Path(__file__).parent / "golden" / "v2" / "tiny-2026.safetensors"),
        "SLIDER_QSTEPS": (1, 8),
        "CURVE_QSTEPS": (2, 8),
        "SIDE": 96,
        "TARGET_BYTES": 4000,
    },
    "method": {"SIDE": 128, "STEPS": (2, 16), "DESCENT": 5},
    "posttrain": {
        "N": 4,
        "M": 6,
        "CROP": 64,
        "BASE_STEPS": 2,
        "BASE_BATCH": 2,
        "STEPS": 2,
        "BATCH": 2,
        "OPTIMIZER": "adam",
        "RATES": (8.0, 2.0),
        "SHOWN_QSTEPS": (1, 8),
    },
}


def cells(path, kind="code"):
    """(tags, source) of the cells of one kind."""
    for cell in json.loads(path.read_text(encoding="utf-8"))["cells"]:
        if cell["cell_type"] == kind:
            yield cell["metadata"].get("tags", []), "".join(cell["source"])


def execute(path, overrides):
    """Runs the code cells in one namespace, which is returned."""
    names = {"__name__": "__main__"}
    for number, (tags, source) in enumerate(cells(path)):
        if "install" in tags:
            continue
        exec(compile(source, f"{path.name}, code cell {number}", "exec"), names)
        if "parameters" in tags:
            assert set(overrides) <= set(names), "an override names no constant of the notebook"
            names |= overrides
    return names


@pytest.fixture
def agg():
    """Figures without a window, and none left open."""
    from matplotlib import pyplot as plt

    before = matplotlib.get_backend()
    matplotlib.use("Agg")
    yield
    plt.close("all")
    matplotlib.use(before)


@pytest.fixture
def quick_compilation():
    """Nearly all the time is XLA's: it optimises little, and no other test sees the results."""
    jax.config.update("jax_disable_most_optimizations", True)
    yield
    jax.config.update("jax_disable_most_optimizations", False)
    jax.clear_caches()


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_modules_and_names_that_notebooks_import_exist(path):
    """Quickly: notebooks are run as a whole once a week."""
    for _, source in cells(path):
        lines = [line for line in source.splitlines() if re.match(r"(from|import) jvrc\b", line)]
        exec("\n".join(lines), {})


def test_every_notebook_is_run_by_a_test():
    assert {path.stem for path in NOTEBOOKS} == set(TINY)


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_hold_no_outputs_and_little_metadata(path):
    notebook = json.loads(path.read_text(encoding="utf-8"))
    assert set(notebook["metadata"]) <= {"kernelspec", "language_info"}
    for cell in notebook["cells"]:
        assert set(cell["metadata"]) <= {"tags"}
        if cell["cell_type"] == "code":
            assert cell["outputs"] == []
            assert cell["execution_count"] is None
    assert path.stat().st_size < 20_000


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_install_and_set_constants_in_tagged_cells(path):
    tags = [tag for cell_tags, _ in cells(path) for tag in cell_tags]
    assert tags == ["install", "parameters"]


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda p: p.stem)
def test_notebooks_open_from_a_badge_and_say_when_to_restart(path):
    _, title = next(cells(path, "markdown"))
    assert "colab-badge.svg" in title
    assert f"/jvrc/blob/main/colab/{path.name})" in title
    (install,) = (source for tags, source in cells(path) if "install" in tags)
    assert "%pip install" in install
    assert "Restart session" in install


@pytest.mark.usefixtures("agg")
def test_first_steps_compresses_and_draws_the_curves(tmp_path):
    (path,) = (p for p in NOTEBOOKS if p.stem == "first_steps")
    names = execute(path, TINY["first_steps"] | {"WORK": tmp_path})
    assert max(names["img"].shape[:2]) == 96
    assert names["restored"].shape == names["img"].shape
    assert len(names["small"]) <= 4000
    page = (tmp_path / "slider.html").read_text()
    assert page.count("<figure") == 3  # the original, and one for each qstep
    assert page.count("display:block") == 1
    drawn = {line.get_label(): line.get_xydata() for line in names["axes"].lines}
    assert set(drawn) == {"JPEG", "WebP", names["MODEL"]}
    for points in drawn.values():
        assert np.isfinite(points).all()
    bpp = drawn[names["MODEL"]][:, 0]
    assert bpp[0] > bpp[1]


@pytest.mark.usefixtures("agg")
def test_method_shows_what_each_of_its_parts_gives(capsys):
    (path,) = (p for p in NOTEBOOKS if p.stem == "method")
    names = execute(path, TINY["method"])
    plain, offsets, hyper = (np.array(names[name]) for name in ("plain", "offsets", "hyper"))
    np.testing.assert_array_equal(offsets[:, 0], plain[:, 0])
    assert (offsets[:, 1] > plain[:, 1]).all()  # the same bits, a better image
    assert (hyper[:, 0] < plain[:, 0]).all()  # fewer bits, the same image
    before = names["losses"](names["start"])
    after = names["losses"](names["paths"]["MGDA"][-1])
    assert (after < before).all()
    assert capsys.readouterr().out.startswith("Δ    2 ")


@pytest.mark.slow
@pytest.mark.usefixtures("agg", "quick_compilation")
def test_posttrain_trains_a_base_and_all_rates_and_compares_real_files(tmp_path, capsys):
    (path,) = (p for p in NOTEBOOKS if p.stem == "posttrain")
    names = execute(path, TINY["posttrain"] | {"WORK": tmp_path})
    assert_base_and_all_rates(tmp_path)
    assert_only_posttraining_moved(names, "offset", "z_step")
    assert_weights_of_each_rate(read_metrics(tmp_path / "all-rates" / "metrics.jsonl"))
    for curve in (names["before"], names["after"]):
        assert curve.shape == (2, 2)
        assert np.isfinite(curve).all()
        assert curve[0, 0] > curve[1, 0]  # fewer bits at the larger qstep
    assert not np.array_equal(names["before"], names["after"])
    with Image.open(tmp_path / "all-rates.png") as plot:
        assert min(plot.size) > 200
    drawn = [line.get_xydata() for line in names["axes"].lines]
    np.testing.assert_array_equal(drawn, [names["before"], names["after"]])
    assert capsys.readouterr().out.startswith("5 images to train on, 1 held out\n")


def assert_base_and_all_rates(folder):
    base = read_model(folder / "base.safetensors")
    after = read_model(folder / "all-rates.safetensors")
    assert base.metadata["qstep_range"] == [1.0, 1.0]
    assert after.metadata["qstep_range"] == [2.0, 8.0]
    assert after.metadata["recipe"]["warm_start"] == "run base, step 2"
    assert (base.offsets == 0).all()


def assert_only_posttraining_moved(names, *parts):
    for part in parts:
        base, after = (names[run].params[part]["kernel2"] for run in ("base", "run"))
        assert not np.any(base)  # as training started it
        assert np.any(after)


def assert_weights_of_each_rate(rows):
    (row,) = (row for row in rows if "weight" in row)
    assert row["step"] == 2
    assert sum(row["weight"]) == pytest.approx(1, abs=1e-4)
    assert min(row["weight"]) > 0.01  # by WEIGHT_FLOOR
    assert np.isfinite(row["cosine"]).all()
