"""Claims about the demonstration: its files, its table and JPEG at the same size."""

from io import BytesIO
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc import demo
from jvrc.cli import main
from jvrc.evaluation.metrics import psnr
from jvrc.io.images import read_image, write_image

MODEL = "mbt2018-mean"


@pytest.fixture(autouse=True)
def in_tmp_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")


@pytest.fixture(scope="module")
def crop():
    return read_image(demo.bundled_photo())[100:196, 200:328]


def test_bundled_photograph_is_in_colour():
    img = read_image(demo.bundled_photo())
    assert img.shape == (400, 600, 3)
    assert np.any(img[..., 0] != img[..., 2])


def test_rows_describe_the_written_files(tmp_path, crop):
    write_image("crop.png", crop)
    rows = demo.run("out", "crop.png", model_name=MODEL)
    assert [row.qstep for row in rows] == list(demo.QSTEPS)
    assert [row.size for row in rows] == sorted((row.size for row in rows), reverse=True)
    model = jvrc.load(MODEL)
    for row in rows:
        data = (tmp_path / "out" / f"crop-{row.qstep:g}.jvrc").read_bytes()
        assert row.size == len(data)
        assert row.bpp == pytest.approx(8 * len(data) / (96 * 128))
        assert row.psnr == pytest.approx(psnr(crop, jvrc.decompress(model, data)))
    sheet = read_image(tmp_path / "out" / demo.SHEET)
    np.testing.assert_array_equal(sheet[32 : 32 + 96, 4 : 4 + 128], crop)
    assert set(demo.outputs("out", "crop.png")) == set(Path("out").iterdir())


def test_command_prints_the_table_and_takes_a_new_folder(capsys, tmp_path, crop):
    (tmp_path / "jvrc-demo").mkdir()
    write_image("crop.png", crop)
    assert main(["demo", "--image", "crop.png"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].split()[:3] == ["qstep", "bytes", "bpp"]
    assert [line.split()[0] for line in lines[1:-1]] == ["1", "2", "4", "8", "16"]
    assert (tmp_path / "jvrc-demo-2" / demo.SHEET).exists()


def test_command_overwrites_nothing_unless_forced(capsys, tmp_path, crop):
    write_image("crop.png", crop)
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "crop-4.jvrc").write_text("mine")
    assert main(["demo", "--image", "crop.png", "-o", "out"]) == 1
    refused = "out/crop-4.jvrc: exists; choose another output with -o, or overwrite it with --force"
    assert refused in capsys.readouterr().err.replace("\\", "/")
    assert (tmp_path / "out" / "crop-4.jvrc").read_text() == "mine"
    assert len(list((tmp_path / "out").iterdir())) == 1


@pytest.mark.parametrize("quality", [1, 30, 75, 100])
@pytest.mark.parametrize("subsampling", ["4:2:0", "4:4:4"])
def test_jpeg_within_is_as_good_as_any_that_fits(crop, quality, subsampling):
    options = {"quality": quality, "subsampling": subsampling}
    buffer = BytesIO()
    Image.fromarray(crop).save(buffer, "JPEG", optimize=True, progressive=True, **options)
    restored = demo.jpeg_within(crop, buffer.tell())
    assert psnr(crop, restored) >= psnr(crop, np.asarray(Image.open(buffer)))


def test_jpeg_within_an_impossible_size_is_none(crop):
    assert demo.jpeg_within(crop, 100) is None
    row = demo.Row(qstep=16, size=100, bpp=0.065, psnr=20.0, jpeg_psnr=None)
    assert demo.format_table([row]).splitlines()[1].split() == ["16", "100", "0.065", "20.00", "-"]


@pytest.mark.parametrize("shape", [(1, 1, 3), (17, 2000, 3), (1200, 1000, 3)])
def test_contact_sheet_holds_any_shape(shape):
    sheet = demo.contact_sheet([np.zeros(shape, np.uint8)] * 6, ["caption"] * 6)
    assert sheet.dtype == np.uint8
    assert sheet.shape[0] <= 2 * 1000
    assert sheet.shape[1] <= 3 * 968
