"""Claims about images on the command line that are too large for memory, with low limits."""

import numpy as np
import pytest

import jvrc
from jvrc.cli import main
from jvrc.codec import files  # noqa: F401
from jvrc.coding import container
from jvrc.io import images, large


@pytest.fixture(autouse=True)
def low_limits(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("JVRC_CACHE_DIR", "0")
    monkeypatch.setattr(large, "LEAST_PIXELS", 64 * 64)
    monkeypatch.setattr(container, "MAX_PIXELS", 64 * 64)


@pytest.fixture
def img():
    return np.random.default_rng(0).integers(0, 256, (70, 80, 3), np.uint8)


def refused(capsys, message, *argv):
    assert main(argv) == 1
    assert message in capsys.readouterr().err


@pytest.mark.parametrize("suffix", [".ppm", ".tif"])
def test_files_are_read_and_written_piece_by_piece(capsys, monkeypatch, tmp_path, img, suffix):
    with large.create_large(tmp_path / f"in{suffix}", img.shape) as out:
        out[:] = img

    def loaded(*_, **options):
        raise AssertionError("the image was loaded")

    monkeypatch.setattr(images, "read_picture", loaded)
    assert not main(["compress", f"in{suffix}", "-o", "x.jvrc", "--qstep", "8", "--verify"])
    assert " dB" in capsys.readouterr().out
    assert not main(["decompress", "x.jvrc", "-o", f"out{suffix}"])
    assert "70x80 from" in capsys.readouterr().out
    model = jvrc.load(jvrc.inspect((tmp_path / "x.jvrc").read_bytes()).model)
    expected = jvrc.decompress(model, (tmp_path / "x.jvrc").read_bytes())
    np.testing.assert_array_equal(images.read_image(tmp_path / f"out{suffix}"), expected)


def test_other_formats_are_refused_before_the_work(capsys, tmp_path, img):
    model = jvrc.load("mbt2018-mean")
    (tmp_path / "x.jvrc").write_bytes(jvrc.compress(model, img, 32))
    refused(
        capsys, "70x80 pixels need a file as they lie: write .tif or .ppm", "decompress", "x.jvrc"
    )
    assert not main(["decompress", "x.jvrc", "-o", "part.png", "--crop", "0,0,20,10"])
    assert images.read_image(tmp_path / "part.png").shape == (10, 20, 3)


def test_arrays_are_written_too(tmp_path, img):
    (tmp_path / "x.jvrc").write_bytes(jvrc.compress(jvrc.load("mbt2018-mean"), img, 32))
    assert not main(["decompress", "x.jvrc", "-o", "x.npy"])
    expected = jvrc.decompress(jvrc.load("mbt2018-mean"), (tmp_path / "x.jvrc").read_bytes())
    np.testing.assert_array_equal(np.load(tmp_path / "x.npy"), expected)


def test_a_small_image_is_no_array(capsys, monkeypatch, tmp_path, img):
    monkeypatch.setattr(large, "LEAST_PIXELS", 2**26)
    monkeypatch.setattr(container, "MAX_PIXELS", 2**26)
    (tmp_path / "x.jvrc").write_bytes(jvrc.compress(jvrc.load("mbt2018-mean"), img[:30], 32))
    refused(capsys, "unknown image format '.npy'", "decompress", "x.jvrc", "-o", "x.npy")
