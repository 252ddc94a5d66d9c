"""Claims about rates, thumbnails and large images on the command line, with a tiny model."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.cli import main
from jvrc.coding import container, metadata
from jvrc.coding.packing import pack, unpack
from jvrc.io import large

pytestmark = pytest.mark.usefixtures("in_tmp_path")


@pytest.fixture
def img(tmp_path):
    y, x = np.mgrid[:40, :56]
    img = np.stack([3 * x, 2 * y + x, 4 * y], axis=-1).astype(np.uint8)
    Image.fromarray(img).save(tmp_path / "a.png")
    return img


@pytest.mark.parametrize(
    ("words", "expected"),
    [
        ([], {"qstep": 2.0}),
        (["--qstep", "8"], {"qstep": 8.0}),
        (["--bytes", "12k"], {"target_bytes": 12000}),
        (["--bpp", ".5"], {"target_bpp": 0.5}),
        (["--psnr", "36"], {"target_psnr": 36.0}),
    ],
)
def test_the_rate_is_passed_on_and_the_step_that_was_found_is_printed(
    capsys, monkeypatch, model, img, words, expected
):
    compress, seen = jvrc.compress, {}

    def recorded(params, picture, **options):
        seen.update(options)
        return compress(params, picture, 4)

    monkeypatch.setattr(jvrc, "compress", recorded)
    assert main(["compress", "a.png", *words, *model]) == 0
    names = ("qstep", "target_bytes", "target_bpp", "target_psnr")
    assert {name: value for name, value in seen.items() if name in names} == expected
    assert capsys.readouterr().out.endswith(", qstep 4\n") == ("qstep" not in expected)


def test_a_target_is_met(capsys, model, img, tmp_path):
    assert main(["compress", "a.png", "-o", "b.jvrc", "--qstep", "4", *model]) == 0
    size = (tmp_path / "b.jvrc").stat().st_size
    assert main(["compress", "a.png", "--bytes", str(size), *model]) == 0
    assert (tmp_path / "a.jvrc").stat().st_size <= size
    assert main(["compress", "a.png", "--force", "--bytes", "20", *model]) == 1
    assert "jvrc: error: " in capsys.readouterr().err


def test_thumbnails_are_written_under_a_name_of_their_own(capsys, tiny_2026, model, img, tmp_path):
    coded = unpack(jvrc.compress(tiny_2026, img, 8))
    small = BytesIO()
    Image.new("RGB", (14, 10), "red").save(small, "WEBP", lossless=True)
    section = container.Section(metadata.THUMBNAIL, small.getvalue())
    (tmp_path / "a.jvrc").write_bytes(pack(coded._replace(sections=(section,))))
    assert main(["decompress", "a.jvrc", "--thumbnail"]) == 0  # without its model
    assert capsys.readouterr().out.startswith("a.jvrc.thumbnail.png: 10x14 of 40x56, ")
    with Image.open(tmp_path / "a.jvrc.thumbnail.png") as shown:
        np.testing.assert_array_equal(shown, np.full((10, 14, 3), (255, 0, 0), np.uint8))
    (tmp_path / "b.jvrc").write_bytes(pack(coded))
    assert main(["decompress", "b.jvrc", "--thumbnail"]) == 1
    assert "b.jvrc: holds no thumbnail" in capsys.readouterr().err
    assert main(["decompress", ".", "--thumbnail", "-o", "out"]) == 1
    assert [p.name for p in (tmp_path / "out").iterdir()] == ["a.jvrc.thumbnail.png"]


def test_large_images_stay_on_disk(capsys, monkeypatch, tiny_2026, model, img, tmp_path):
    monkeypatch.setattr(large, "LEAST_PIXELS", 1000)
    Image.fromarray(img).save(tmp_path / "b.ppm")
    np.save(tmp_path / "c.npy", img)
    for name in ("b.ppm", "c.npy"):
        assert main(["compress", name, "-o", f"{name}.jvrc", *model]) == 0
        data = (tmp_path / f"{name}.jvrc").read_bytes()
        assert data == jvrc.compress(tiny_2026, img, 2)
    for suffix in ("tif", "ppm"):
        assert main(["decompress", "b.ppm.jvrc", "-o", f"d.{suffix}", *model]) == 0
        with Image.open(tmp_path / f"d.{suffix}") as restored:
            np.testing.assert_array_equal(restored, jvrc.decompress(tiny_2026, data))


def test_what_is_too_large_for_memory_asks_for_a_file_that_is_not(
    capsys, monkeypatch, tiny_2026, model, img, tmp_path
):
    (tmp_path / "a.jvrc").write_bytes(jvrc.compress(tiny_2026, img, 2))
    monkeypatch.setattr(container, "MAX_PIXELS", 1000)
    assert main(["decompress", "a.jvrc", *model]) == 1
    expected = "a.jvrc: 40x56 pixels need a file as they lie: write .tif or .ppm with -o, or a part"
    assert expected in capsys.readouterr().err
    assert main(["decompress", "a.jvrc", "--crop", "0,0,8,8", *model]) == 0
    assert main(["compress", "a.png", "-o", "b.jvrc", *model]) == 1
    assert "a.png: an image of 40 x 56 pixels, more than the 1000" in capsys.readouterr().err
