"""`jvrc refine`, as a user calls it."""

import jax
import numpy as np
import pytest
from small import spread_2026

from jvrc.cli import main
from jvrc.frozen.file import read_model
from jvrc.io import images

pytestmark = [pytest.mark.usefixtures("quick_compilation", "in_tmp_path"), pytest.mark.slow]


@pytest.fixture
def folder(tmp_path):
    """A model, and photographs: two of them large enough."""
    spread_2026(tmp_path / "m.safetensors")
    (tmp_path / "photos").mkdir()
    rng = np.random.default_rng(0)
    for i, side in enumerate((520, 512, 100, 512)):
        soft = rng.integers(0, 256, (side // 4, 128, 3), np.uint8).repeat(4, 0).repeat(4, 1)
        images.write_image(tmp_path / "photos" / f"{i}.png", soft)
    (tmp_path / "photos" / "broken.png").write_bytes(b"nothing")
    return tmp_path


@pytest.mark.filterwarnings("always:skipped")
def test_a_model_is_refined_and_what_that_saves_is_printed(folder, capsys):
    command = ["refine", "m.safetensors", "--data", "photos", "--steps", "40", "--hidden", "4"]
    with jax.numpy_dtype_promotion("standard"):  # Adam of optax needs it
        assert main(command) == 0
    refined, before = read_model(folder / "m-refined.safetensors"), read_model("m.safetensors")
    out, err = capsys.readouterr()
    first, *others = out.splitlines()
    assert f"model {before.model_id}, refinement {refined.refinement_id}" in first
    assert [line.split(":")[0] for line in others] == [
        f"held out, qstep {qstep}" for qstep in (1, 2, 4, 8, 16)
    ]
    assert "broken.png" in err
    assert refined.model_id == before.model_id

    for name in ("m", "m-refined"):
        options = ["--model", f"{name}.safetensors"]
        assert main(["compress", "photos/0.png", "-o", f"{name}.jvrc", *options]) == 0
        assert main(["decompress", f"{name}.jvrc", "-o", f"{name}.png", *options]) == 0
    assert (folder / "m-refined.jvrc").stat().st_size <= (folder / "m.jvrc").stat().st_size
    assert (folder / "m-refined.png").read_bytes() == (folder / "m.png").read_bytes()


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (["m.safetensors"], 2, "--data"),
        (["m.safetensors", "--data", "photos", "--steps", "0"], 1, "--steps must be at least 1"),
        (["m.safetensors", "--data", "nowhere"], 1, "nowhere"),
        (["mbt2018", "--data", "photos"], 1, "scales are refined in models of jvrc2026"),
        (["m.safetensors", "--data", "photos", "-o", "m.safetensors"], 1, "overwrite it"),
    ],
)
def test_mistakes_are_one_line(folder, capsys, arguments, code, message):
    try:
        found = main(["refine", *arguments])
    except SystemExit as stop:
        found = stop.code
    assert found == code
    assert message in capsys.readouterr().err.strip().splitlines()[-1]
