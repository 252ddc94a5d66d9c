"""Claims about image files that are mapped instead of loaded."""

import contextlib
import errno
import functools
import os
import struct
import tracemalloc
from pathlib import Path
from unittest import mock

import numpy as np
import pytest
from PIL import Image, ImageCms

from jvrc.io import files, large, tiff
from jvrc.io.large import create_large
from jvrc.io.picture import Picture

SHAPES = {"rgb": (5, 7, 3), "grey": (5, 7), "rgba": (5, 7, 4)}


def noise(shape):
    return np.random.default_rng(0).integers(0, 256, shape, np.uint8)


open_large = functools.partial(large.open_large, least_pixels=1)


def joined(picture):
    assert isinstance(picture.pixels, np.memmap)
    if picture.alpha is None:
        return picture.pixels
    return np.dstack([picture.pixels, picture.alpha])


@pytest.mark.parametrize("suffix", [".ppm", ".pgm", ".tif", ".npy"])
@pytest.mark.parametrize("kind", SHAPES)
def test_what_is_written_is_read_and_pillow_reads_it_too(tmp_path, suffix, kind):
    img, path = noise(SHAPES[kind]), tmp_path / f"x{suffix}"
    if (suffix, kind) in ((".ppm", "rgba"), (".pgm", "rgba"), (".pgm", "rgb")):
        with pytest.raises(ValueError, match="can't be written piece by piece"):
            create_large(path, img.shape).__enter__()
        assert not any(tmp_path.iterdir())
        return
    with create_large(path, img.shape) as out:
        assert not path.exists()
        for row in range(len(img)):
            out[row] = img[row]
    assert [p.name for p in tmp_path.iterdir()] == [path.name]
    np.testing.assert_array_equal(joined(open_large(path)), img)
    other = np.load(path) if suffix == ".npy" else np.asarray(Image.open(path))
    np.testing.assert_array_equal(other, img)


def test_nothing_is_left_of_a_file_that_was_not_completed(tmp_path):
    old = tmp_path / "x.ppm"
    old.write_bytes(b"old")
    with contextlib.suppress(KeyboardInterrupt), create_large(old, (5, 7, 3)) as out:
        out[0] = 1
        raise KeyboardInterrupt
    assert [p.name for p in tmp_path.iterdir()] == ["x.ppm"]
    assert old.read_bytes() == b"old"
    with pytest.raises(FileNotFoundError, match="no such folder"):
        create_large(tmp_path / "none" / "x.ppm", (5, 7, 3)).__enter__()


@pytest.mark.skipif(not hasattr(os, "posix_fallocate"), reason="the system can't take room")
def test_a_file_that_cannot_be_deleted_yet_hides_no_error_and_is_deleted_later(
    tmp_path, monkeypatch
):
    """As on Windows, while the caller still holds the array."""
    unlink = Path.unlink
    monkeypatch.setattr(Path, "unlink", mock.Mock(side_effect=PermissionError("in use")))
    with pytest.raises(ValueError, match="damaged"), create_large(tmp_path / "x.ppm", (5, 7, 3)):
        raise ValueError("damaged")
    assert len(list(tmp_path.iterdir())) == 1
    monkeypatch.setattr(Path, "unlink", unlink)
    files.remove_unfinished()
    assert list(tmp_path.iterdir()) == []


def test_a_full_disk_is_an_error_before_anything_is_written(tmp_path, monkeypatch):
    """A map of a file that the disk has no room for would end the process."""

    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr(os, "posix_fallocate", full)
    with pytest.raises(OSError, match="No space left on device") as caught:
        create_large(tmp_path / "x.ppm", (5, 7, 3)).__enter__()
    assert caught.value.filename == str(tmp_path / "x.ppm")
    assert not list(tmp_path.iterdir())


def test_room_is_taken_on_the_disk(tmp_path):
    with create_large(tmp_path / "x.ppm", (500, 700, 3)):
        (temporary,) = tmp_path.iterdir()
        stat = temporary.stat()
        if hasattr(os, "posix_fallocate"):
            assert 512 * stat.st_blocks >= stat.st_size > 500 * 700 * 3


def test_a_damaged_array_is_named(tmp_path):
    np.save(tmp_path / "x.npy", noise((50, 70)))
    (tmp_path / "y.npy").write_bytes((tmp_path / "x.npy").read_bytes()[:-9])
    np.save(tmp_path / "z.npy", np.array([{}]), allow_pickle=True)
    for name in ("y.npy", "z.npy"):
        with pytest.raises(ValueError, match=f"{name}: damaged, or no array of numbers"):
            open_large(tmp_path / name)


def test_a_tiff_of_more_than_four_gigabytes_is_a_bigtiff(tmp_path, monkeypatch):
    """Only its header is written."""
    shape = (40000, 40000, 3)
    path = tmp_path / "x.tif"
    header = tiff.header(shape)
    with path.open("wb") as file:
        file.write(header)
        file.truncate(len(header) + int(np.prod(shape)))
    assert header[:4] == b"II\x2b\0"
    picture = open_large(path)
    assert picture.pixels.shape == shape
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", None)
    with Image.open(path) as img:
        assert img.size == (40000, 40000)


@pytest.mark.parametrize("kind", SHAPES)
def test_tiff_files_of_pillow_are_mapped_with_profile(tmp_path, kind):
    img, path = noise(SHAPES[kind]), tmp_path / "x.tif"
    profile = ImageCms.ImageCmsProfile(ImageCms.createProfile("sRGB")).tobytes()
    Image.fromarray(img).save(path, compression=None, icc_profile=profile)
    found = open_large(path)
    np.testing.assert_array_equal(joined(found), img)
    assert found.icc == profile


def test_what_a_mapped_tiff_loses_is_said(tmp_path):
    path, img, tags = tmp_path / "x.tif", Image.fromarray(noise((5, 7, 3))), Image.Exif()
    tags[315] = "an artist"
    img.save(path, tiffinfo=tags, icc_profile=b"junk", save_all=True, append_images=[img])
    found = open_large(path)
    assert found.icc == b""
    assert found.losses == (
        "the ICC profile is damaged: it is left out",
        "EXIF, IPTC and descriptive tags are not read from a TIFF that is mapped",
        "further pages are left out",
    )


def test_a_tiff_that_xmp_says_lies_on_its_side_is_not_mapped(tmp_path):
    path, tags = tmp_path / "x.tif", Image.Exif()
    tags[700] = b'<x tiff:Orientation="6"/>'
    Image.fromarray(noise((5, 7, 3))).save(path, tiffinfo=tags)
    assert open_large(path) is None


def test_comments_of_ppm_are_skipped(tmp_path):
    img, path = noise((5, 7, 3)), tmp_path / "x.ppm"
    path.write_bytes(b"P6 # one\n# two\n7\n# three\n5 255\n" + img.tobytes())
    np.testing.assert_array_equal(joined(open_large(path)), img)


def test_small_images_are_left_to_be_loaded(tmp_path):
    path = tmp_path / "x.ppm"
    with create_large(path, (5, 7, 3)):
        pass
    assert large.open_large(path) is None
    assert large.open_large(path, least_pixels=36) is None
    assert large.open_large(path, least_pixels=35) is not None


def test_other_files_are_not_mapped(tmp_path):
    img, path = Image.fromarray(noise((5, 7, 3))), tmp_path / "x"
    img.save(path, "TIFF", compression="tiff_deflate")
    assert open_large(path) is None
    img.save(path, "PNG")
    assert open_large(path) is None
    path.write_bytes(b"P6\n7 5\n65535\n" + bytes(210))
    assert open_large(path) is None
    np.save(tmp_path / "x.npy", np.zeros((5, 7, 3), np.uint16))
    assert open_large(tmp_path / "x.npy") is None
    exif = Image.Exif()
    exif[274] = 6
    img.save(path, "TIFF", exif=exif)
    assert open_large(path) is None  # not upright


@pytest.mark.parametrize("cut", [1, 50])
def test_truncated_files_are_refused(tmp_path, cut):
    for suffix in ("ppm", "tif"):
        path = tmp_path / f"x.{suffix}"
        with create_large(path, (5, 7, 3)) as out:
            out[:] = 0
        data = path.read_bytes()
        path.write_bytes(data[:-cut])
        with pytest.raises(ValueError, match=r"truncated: \d+ of 105 bytes"):
            open_large(path)


@pytest.mark.parametrize("seed", range(20))
def test_damaged_headers_end_in_an_error_or_in_nothing(tmp_path, seed):
    rng = np.random.default_rng(seed)
    path = tmp_path / "x.tif"
    with create_large(path, (5, 7, 3)) as out:
        out[:] = 0
    data = bytearray(path.read_bytes())
    for place in rng.integers(0, len(data) - 105, 3):
        data[place] = rng.integers(0, 256)
    path.write_bytes(data)
    with contextlib.suppress(ValueError):  # of a truncated file
        found = open_large(path)
        assert found is None or isinstance(found, Picture)


def bigtiff(*entries):
    """A BigTIFF of tags (tag, type, count, 8 bytes)."""
    head = struct.pack("<2sHHHQQ", b"II", 43, 8, 0, 16, len(entries))
    return head + b"".join(struct.pack("<HHQ8s", *entry) for entry in entries) + bytes(8)


def number(value):
    return struct.pack("<Q", value)


@pytest.mark.parametrize(
    "entries",
    [
        [(256, 16, 1, number(4)), (257, 16, 1, number(4)), (273, 16, 1, number(2**63))],
        [(256, 16, 0, number(0)), (257, 16, 1, number(4))],
        [(256, 3, 1, number(4)), (257, 3, 1, number(4)), (700, 3, 2, number(300))],
        [(34675, 7, 100, number(2**62))],
        [(34675, 7, 100, number(2**64 - 1))],
    ],
)
def test_a_damaged_tiff_is_not_mapped(tmp_path, entries):
    usual = {258: 8, 259: 1, 262: 1, 277: 1, 273: 200, 279: 16}
    missing = usual.keys() - {entry[0] for entry in entries}
    entries = [*entries, *((tag, 3, 1, number(usual[tag])) for tag in sorted(missing))]
    (tmp_path / "x.tif").write_bytes(bigtiff(*entries) + bytes(300))
    assert open_large(tmp_path / "x.tif") is None


def test_a_small_tiff_takes_little_memory_whatever_it_says(tmp_path):
    """A thousand tags of the same bytes."""
    place = 16 + 8 + 1000 * 20 + 8
    entries = [(34675, 7, 10_000, number(place))] * 500
    entries += [(40_000 + i, 1, 10_000, number(place)) for i in range(500)]
    (tmp_path / "x.tif").write_bytes(bigtiff(*entries) + bytes(10_000))
    tracemalloc.start()
    assert open_large(tmp_path / "x.tif") is None
    assert tracemalloc.get_traced_memory()[1] < 2e6
    tracemalloc.stop()


@pytest.mark.parametrize("size", [b"1" + b"0" * 30, b"9223372036854775807"])
def test_a_ppm_of_an_absurd_size_is_truncated(tmp_path, size):
    (tmp_path / "x.ppm").write_bytes(b"P6\n%s %s\n255\n" % (size, size) + bytes(100))
    with pytest.raises(ValueError, match="x.ppm: truncated: 100 of"):
        open_large(tmp_path / "x.ppm")


def test_an_array_of_an_absurd_size_is_damaged(tmp_path):
    header = b"{'descr': '|u1', 'fortran_order': False, 'shape': (%d, %d), }\n" % (10**30, 10**30)
    data = b"\x93NUMPY\x01\x00" + struct.pack("<H", len(header)) + header
    (tmp_path / "x.npy").write_bytes(data + bytes(100))
    with pytest.raises(ValueError, match="x.npy: damaged"):
        open_large(tmp_path / "x.npy")
