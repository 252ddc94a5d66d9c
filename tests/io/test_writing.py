"""Claims about pictures in image files: what a format can hold comes back, the rest is said."""

from io import BytesIO

import numpy as np
import profiles
import pytest
from PIL import Image, features

from jvrc.io.images import (
    as_picture,
    check_image_suffix,
    losses_of_writing,
    read_picture,
    to_pil,
    write_picture,
)
from jvrc.io.picture import Picture

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
ALPHA = RNG.integers(0, 255, (5, 7), np.uint8)
XMP = b'<x:xmpmeta title="caf\xc3\xa9"/>'
PPM_LOSSES = [
    "PPM holds no transparency: it is composited on white",
    "PPM holds no colour profile: the image is converted to sRGB",
    "PPM can't hold EXIF: left out",
    "PPM can't hold XMP: left out",
]


def some_exif():
    exif = Image.Exif()
    exif[0x0100] = 4000  # a width, which is none of a TIFF file's business
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:28 12:00:00"
    return exif.tobytes().removeprefix(b"Exif\0\0")


FULL = Picture(RGB, ALPHA, profiles.wide_rgb(), some_exif(), XMP)


def written(path, picture):
    """What a file of a picture gives when it is read."""
    assert write_picture(path, picture) == losses_of_writing(path, picture) == ()
    return read_picture(path)


def assert_equal(found, expected):
    for name in ("pixels", "alpha"):
        np.testing.assert_array_equal(getattr(found, name), getattr(expected, name))
    assert found[2:] == expected[2:]


@pytest.mark.parametrize("suffix", [".png", ".webp", ".tif"])
def test_everything_comes_back_from(suffix, tmp_path):
    for picture in (FULL, FULL._replace(alpha=None), Picture(RGB), Picture(GREY, ALPHA)):
        found = written(tmp_path / f"a{suffix}", picture)
        if suffix == ".tif" and picture.exif:  # rewritten: what describes the image
            exif = Image.Exif()
            exif.load(found.exif)
            assert exif[0x010F] == "Maker"
            assert exif.get_ifd(0x8769)[0x9003] == "2026:11:28 12:00:00"
            found = found._replace(exif=picture.exif)
        assert_equal(found, picture)


def test_jpeg_and_avif_keep_all_but_exact_samples(tmp_path):
    flat = FULL._replace(pixels=np.full((16, 16, 3), (200, 90, 30), np.uint8), alpha=None)
    for suffix in (".jpg", ".avif") if features.check("avif") else (".jpg",):
        found = written(tmp_path / f"a{suffix}", flat)
        assert np.abs(found.pixels.astype(int) - flat.pixels).max() <= 3
        assert found[1:] == flat[1:]


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif", ".ppm", ".pgm", ".bmp"])
def test_grey_is_written_as_grey(suffix, tmp_path):
    path = tmp_path / f"a{suffix}"
    write_picture(path, Picture(GREY))
    with Image.open(path) as img:
        assert img.mode == "L"
        if suffix != ".jpg":
            np.testing.assert_array_equal(np.asarray(img), GREY)


def test_grey_with_a_profile_for_colour_is_written_as_colour_that_it_fits(tmp_path):
    path = tmp_path / "a.png"
    write_picture(path, Picture(GREY, icc=profiles.srgb()))
    with Image.open(path) as img:
        assert (img.mode, img.info["icc_profile"]) == ("RGB", profiles.srgb())
    assert_equal(read_picture(path), Picture(GREY, icc=profiles.srgb()))
    write_picture(path, Picture(GREY, icc=profiles.grey(1.0)))
    with Image.open(path) as img:
        assert img.mode == "L"


def test_xmp_that_is_no_utf8_is_left_out_of_png_with_a_word(tmp_path):
    xmp = "<x:xmpmeta>é</x:xmpmeta>".encode("latin-1")
    lost = write_picture(tmp_path / "a.png", Picture(RGB, xmp=xmp))
    assert lost == ("PNG holds XMP in UTF-8 alone: left out",)
    assert read_picture(tmp_path / "a.png").xmp == b""
    assert write_picture(tmp_path / "a.webp", Picture(RGB, xmp=xmp)) == ()
    assert read_picture(tmp_path / "a.webp").xmp == xmp


def test_what_a_format_cannot_hold_is_said_before_and_after(tmp_path):
    path = tmp_path / "a.ppm"
    assert list(losses_of_writing(path, FULL)) == PPM_LOSSES
    assert not path.exists()
    assert list(write_picture(path, FULL)) == PPM_LOSSES
    white = Picture(RGB, ALPHA * np.uint8(0), profiles.wide_rgb())
    write_picture(path, white)
    assert np.all(read_picture(path).pixels == 255)


def test_transparency_is_composited_on_white_for_jpeg(tmp_path):
    picture = Picture(np.zeros((8, 8), np.uint8), np.full((8, 8), 51, np.uint8))
    (line,) = write_picture(tmp_path / "a.jpg", picture)
    assert line == "JPEG holds no transparency: it is composited on white"
    assert np.all(read_picture(tmp_path / "a.jpg").pixels == 204)


def test_colours_are_converted_where_the_profile_gets_lost(tmp_path):
    flat = Picture(np.full((2, 2, 3), (200, 40, 40), np.uint8), icc=profiles.wide_rgb())
    write_picture(tmp_path / "a.bmp", flat)
    assert tuple(read_picture(tmp_path / "a.bmp").pixels[0, 0, :2]) == (255, 0)


def test_metadata_too_long_for_jpeg_are_said(tmp_path):
    picture = Picture(RGB, exif=some_exif() + bytes(66000), xmp=bytes(66000))
    lines = write_picture(tmp_path / "a.jpg", picture)
    expected = (len(picture.exif), "EXIF"), (66000, "XMP")
    assert list(lines) == [f"JPEG can't hold {n} bytes of {name}: left out" for n, name in expected]


def test_colour_as_pgm_is_refused(tmp_path):
    with pytest.raises(ValueError, match=r"a.pgm: PGM holds grey only; write .* as .ppm or .png"):
        losses_of_writing(tmp_path / "a.pgm", Picture(RGB))


@pytest.mark.parametrize("suffix", [".tif", ".avif"])
@pytest.mark.parametrize("exif", [b"no byte order mark", b"II*\0"])
def test_damaged_exif_does_not_cost_the_image(tmp_path, suffix, exif):
    """Pillow takes them apart in order to write TIFF and AVIF."""
    if suffix == ".avif" and not features.check("avif"):
        pytest.skip("this Pillow has no AVIF")
    path = tmp_path / f"a{suffix}"
    name = {".tif": "TIFF", ".avif": "AVIF"}[suffix]
    losses = write_picture(path, Picture(RGB, xmp=XMP, exif=exif))
    assert losses == (f"{name} can't hold the EXIF data, which are damaged: left out",)
    found = read_picture(path)
    assert (found.exif, found.xmp, found.pixels.shape) == (b"", XMP, RGB.shape)


def test_a_suffix_is_checked_without_a_picture(tmp_path):
    check_image_suffix(tmp_path / "a.TIF")
    with pytest.raises(ValueError, match=r"unknown image format '.xyz'; possible suffixes: .png"):
        check_image_suffix(tmp_path / "a.xyz")


@pytest.mark.parametrize(
    ("picture", "mode"),
    [
        (Picture(RGB), "RGB"),
        (Picture(GREY), "L"),
        (Picture(RGB, ALPHA), "RGBA"),
        (Picture(GREY, ALPHA), "LA"),
    ],
)
def test_pil_images_come_back_as_pictures(picture, mode):
    img = to_pil(picture._replace(exif=some_exif(), xmp=XMP))
    assert img.mode == mode
    assert img.getexif()[0x010F] == "Maker"
    assert_equal(as_picture(img), picture._replace(exif=some_exif(), xmp=XMP))


def test_pillow_saves_what_a_pil_image_of_a_picture_carries():
    file = BytesIO()
    to_pil(FULL).save(file, "PNG")
    found = read_picture(file)
    assert found.icc == FULL.icc
    np.testing.assert_array_equal(found.alpha, ALPHA)
