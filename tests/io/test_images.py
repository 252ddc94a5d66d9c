"""Claims about reading and writing images."""

import os
import warnings
from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from PIL import Image

from jvrc.io.files import write_bytes
from jvrc.io.images import as_rgb_uint8, read_image, write_image

RGB = np.random.default_rng(0).integers(0, 256, (5, 7, 3), np.uint8)
LOSSLESS = [".png", ".webp", ".ppm", ".bmp", ".tif", ".TIFF"]


@pytest.mark.parametrize("suffix", LOSSLESS)
def test_lossless_formats_round_trip(tmp_path, suffix):
    write_image(tmp_path / f"a{suffix}", RGB)
    np.testing.assert_array_equal(read_image(tmp_path / f"a{suffix}"), RGB)


def test_jpeg_is_written_at_high_quality(tmp_path):
    smooth = np.broadcast_to(np.arange(0, 240, 5, np.uint8)[:, None, None], (48, 40, 3))
    write_image(tmp_path / "a.jpg", smooth)
    assert np.abs(read_image(str(tmp_path / "a.jpg")).astype(int) - smooth).max() <= 3


def test_exif_orientation_is_applied(tmp_path):
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: show rotated by 90 degrees clockwise
    Image.fromarray(RGB).save(tmp_path / "a.png", exif=exif)
    np.testing.assert_array_equal(read_image(tmp_path / "a.png"), np.rot90(RGB, -1))


@pytest.mark.parametrize("mode", ["L", "1", "P", "CMYK", "YCbCr"])
def test_other_modes_become_rgb(tmp_path, mode):
    suffix = {"CMYK": "tif", "YCbCr": "tif"}.get(mode, "png")
    img = Image.fromarray(RGB).convert(mode)
    img.save(tmp_path / f"a.{suffix}")
    np.testing.assert_array_equal(read_image(tmp_path / f"a.{suffix}"), img.convert("RGB"))
    np.testing.assert_array_equal(as_rgb_uint8(img), img.convert("RGB"))


def test_sixteen_bit_grey_is_scaled(tmp_path):
    grey = np.array([[0, 128, 129, 257 * 77, 65535]], np.uint16)
    Image.fromarray(grey).save(tmp_path / "a.png")
    img = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(img[:, :, 0], [[0, 0, 1, 77, 255]])
    assert img.shape == (1, 5, 3)


def test_more_than_sixteen_bits_are_refused():
    with pytest.raises(ValueError, match="samples of 32 bits; convert"):
        as_rgb_uint8(Image.fromarray(np.array([[70000]], np.int32)))
    with pytest.raises(ValueError, match="floating-point samples; convert"):
        as_rgb_uint8(Image.fromarray(np.ones((2, 2), np.float32)))


def test_opaque_alpha_is_dropped_silently():
    rgba = np.concatenate([RGB, np.full_like(RGB[..., :1], 255)], axis=-1)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        np.testing.assert_array_equal(as_rgb_uint8(Image.fromarray(rgba)), RGB)


def test_reading_in_threads_leaves_the_warning_filters_as_they_are(tmp_path):
    write_image(tmp_path / "a.png", np.tile(RGB, (20, 20, 1)))
    before = list(warnings.filters)
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(read_image, [tmp_path / "a.png"] * 400))
    assert warnings.filters == before
    with pytest.raises(UserWarning, match="of later"):  # pytest's filters make errors of warnings
        warnings.warn("of later", stacklevel=1)


@pytest.mark.parametrize("mode", ["RGBA", "LA", "P"])
def test_transparency_is_composited_on_white_with_a_warning(tmp_path, mode):
    img = Image.new("RGBA", (2, 1), (0, 0, 0, 255))
    img.putpixel((1, 0), (0, 0, 0, 0))
    img.convert(mode).save(tmp_path / "a.png")
    with pytest.warns(UserWarning, match="a.png: transparent pixels are composited on white"):
        read = read_image(tmp_path / "a.png")
    np.testing.assert_array_equal(read, [[[0, 0, 0], [255, 255, 255]]])


def test_missing_file_folder_and_foreign_file_are_told_apart(tmp_path):
    (tmp_path / "a.png").write_bytes(b"not an image")
    with pytest.raises(FileNotFoundError, match="b.png: no such file"):
        read_image(tmp_path / "b.png")
    with pytest.raises(IsADirectoryError, match="is a folder, not an image"):
        read_image(tmp_path)
    with pytest.raises(ValueError, match="a.png: not an image that Pillow can read"):
        read_image(tmp_path / "a.png")


@pytest.mark.filterwarnings("ignore:Corrupt EXIF data")  # Pillow's, of the TIFF
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".webp", ".ppm", ".bmp", ".tif"])
def test_truncated_files_give_one_line(tmp_path, suffix):
    path = tmp_path / f"a{suffix}"
    large = np.random.default_rng(1).integers(0, 256, (64, 64, 3), np.uint8)
    write_image(path, large)
    path.write_bytes(path.read_bytes()[:-2000])
    with pytest.raises(ValueError, match=f"a{suffix}: ") as caught:
        read_image(path)
    assert "\n" not in str(caught.value)


def test_unknown_suffix_names_the_possible_ones(tmp_path):
    with pytest.raises(ValueError, match=r"unknown image format '.xyz'.*\.png, \.jpg"):
        write_image(tmp_path / "a.xyz", RGB)
    assert not list(tmp_path.iterdir())


def test_a_format_that_cannot_hold_the_image_says_so(tmp_path):
    with pytest.raises(ValueError, match="a.webp: can't be written as WEBP"):
        write_image(tmp_path / "a.webp", np.zeros((1, 20000, 3), np.uint8))


def test_writing_leaves_only_the_file_and_replaces_an_old_one(tmp_path):
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")
    write_bytes(target, b"new")
    assert target.read_bytes() == b"new"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_failed_writing_keeps_the_old_file(tmp_path, monkeypatch):
    target = tmp_path / "a.bin"
    write_bytes(target, b"old")

    def full(*_):
        raise OSError("disk full")

    monkeypatch.setattr(os, "replace", full)
    with pytest.raises(OSError, match="disk full"):
        write_bytes(target, b"new")
    assert target.read_bytes() == b"old"
    assert [path.name for path in tmp_path.iterdir()] == ["a.bin"]


def test_writing_into_a_missing_folder_names_it(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: no such folder"):
        write_bytes(tmp_path / "nowhere" / "a.bin", b"")


@pytest.mark.skipif(os.name == "nt", reason="needs POSIX links and devices")
def test_links_are_followed_and_devices_survive(tmp_path):
    (tmp_path / "link").symlink_to(tmp_path / "real")
    write_bytes(tmp_path / "link", b"x")
    assert (tmp_path / "link").is_symlink()
    assert (tmp_path / "real").read_bytes() == b"x"
    write_bytes(os.devnull, b"x")
    assert not os.path.isfile(os.devnull)


def test_numpy_and_jax_arrays_pass_unchanged():
    jnp = pytest.importorskip("jax.numpy")
    np.testing.assert_array_equal(as_rgb_uint8(RGB), RGB)
    np.testing.assert_array_equal(as_rgb_uint8(jnp.asarray(RGB)), RGB)


@pytest.mark.parametrize(
    ("img", "message"),
    [
        (RGB / 255, "img must be uint8, got dtype float64; .*np.round"),
        (RGB[..., 0], r"shape \[H,W,3\], got \[5, 7\]; grey: np.stack"),
        (np.zeros((5, 7, 4), np.uint8), r"got \[5, 7, 4\]; with alpha: "),
        (np.zeros((3, 5, 7), np.uint8), r"got \[3, 5, 7\]; channels first: "),
        (RGB[None], "a batch: pass one image at a time"),
        (RGB[:0], r"img must have at least one pixel, got shape \[0, 7, 3\]"),
        (None, "img must be uint8, got dtype object"),
    ],
)
def test_other_arrays_are_refused_with_rule_value_and_remedy(img, message):
    with pytest.raises(ValueError, match=message):
        as_rgb_uint8(img)
