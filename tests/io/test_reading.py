"""Claims about files and PIL images as pictures: all that is lost is said, and little is."""

import struct
import zlib
from io import BytesIO

import numpy as np
import profiles
import pytest
import tifffile
from hypothesis import given
from hypothesis.extra import numpy as hnp
from PIL import Image, PngImagePlugin, features

from jvrc.io import depth
from jvrc.io.images import as_picture, as_rgb_uint8, read_image, read_picture

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (5, 7, 3), np.uint8)
GREY = RNG.integers(0, 256, (5, 7), np.uint8)
ALPHA = RNG.integers(0, 256, (5, 7), np.uint8)
DEEP = RNG.integers(0, 2**16, (5, 7, 4), np.uint16)
XMP = b'<x:xmpmeta><a tiff:Orientation="6" title="caf\xc3\xa9"/></x:xmpmeta>'
ORIENTATION = 0x0112
DEEPER = ("16 bits a sample become 8",)


def saved(img, kind="PNG", **options):
    """A file of an image, open for reading."""
    file = BytesIO()
    img.save(file, kind, **options)
    file.seek(0)
    return file


def picture(img, kind="PNG", **options):
    """What reading a file of an image gives."""
    return read_picture(saved(img, kind, **options))


def chunk(name, data):
    """A chunk of a PNG file."""
    body = name + data
    return struct.pack(">I", len(data)) + body + struct.pack(">I", zlib.crc32(body))


def png16(samples, colour_type, *more):
    """A PNG file of 16 bits a sample, with more chunks."""
    height, width, _ = samples.shape
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in samples)
    head = struct.pack(">IIBBBBB", width, height, 16, colour_type, 0, 0, 0)
    parts = (chunk(b"IHDR", head), *more, chunk(b"IDAT", zlib.compress(rows)), chunk(b"IEND", b""))
    return BytesIO(b"\x89PNG\r\n\x1a\n" + b"".join(parts))


def rounded(samples):
    return np.rint(samples / 257).astype(np.uint8)


def exif_of(orientation, **tags):
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    exif[0x010F] = "Maker"
    exif.get_ifd(0x8769)[0x9003] = "2026:11:28 12:00:00"
    return exif


# Grey, palettes and alpha


@pytest.mark.parametrize("mode", ["1", "L"])
def test_grey_is_grey(mode):
    img = Image.fromarray(GREY).convert(mode)
    for found in (picture(img), as_picture(img)):
        np.testing.assert_array_equal(found.pixels, np.asarray(img.convert("L")))
        assert (found.alpha, found.losses) == (None, ())


def test_colour_whose_channels_agree_is_grey_in_files_and_keeps_its_shape_in_memory():
    img = Image.fromarray(GREY).convert("RGB")
    np.testing.assert_array_equal(picture(img).pixels, GREY)
    np.testing.assert_array_equal(picture(img, icc_profile=profiles.srgb()).pixels, GREY)
    assert as_picture(img).pixels.shape == (5, 7, 3)
    almost = RGB.copy()
    almost[:] = GREY[..., None]
    almost[4, 6, 2] ^= 1
    np.testing.assert_array_equal(picture(Image.fromarray(almost)).pixels, almost)


def test_palettes_become_colour_or_grey():
    grey = Image.fromarray(GREY).convert("RGB").quantize(8)
    colour = Image.fromarray(RGB).quantize(8)
    for read in (picture, as_picture):
        assert read(grey).pixels.ndim == 2
        np.testing.assert_array_equal(read(colour).pixels, np.asarray(colour.convert("RGB")))
        assert read(colour).losses == ()


@pytest.mark.parametrize("kind", ["PNG", "WEBP", "TIFF"])
def test_alpha_is_kept_exactly(kind):
    rgba = Image.fromarray(np.dstack([RGB, ALPHA]))
    options = {"lossless": True, "exact": True} if kind == "WEBP" else {}
    for found in (picture(rgba, kind, **options), as_picture(rgba)):
        np.testing.assert_array_equal(found.pixels, RGB)
        np.testing.assert_array_equal(found.alpha, ALPHA)
        assert found.losses == ()


def test_grey_with_alpha_is_kept_exactly():
    img = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    for found in (picture(img), as_picture(img)):
        np.testing.assert_array_equal(found.pixels, GREY)
        np.testing.assert_array_equal(found.alpha, ALPHA)


def test_opaque_alpha_is_dropped_from_files_and_pil_images():
    rgba = Image.fromarray(np.dstack([RGB, np.full_like(ALPHA, 255)]))
    for found in (picture(rgba), as_picture(rgba)):
        assert (found.alpha, found.losses) == (None, ())


@pytest.mark.parametrize("mode", ["La", "RGBa"])
def test_premultiplied_alpha_is_divided_out(mode):
    straight = Image.merge("LA", [Image.fromarray(GREY), Image.fromarray(ALPHA)])
    img = straight if mode == "La" else straight.convert("RGBA")
    found = as_picture(img.convert(mode))
    np.testing.assert_array_equal(found.alpha, ALPHA)
    solid = ALPHA == 255
    expected = as_picture(img).pixels
    np.testing.assert_array_equal(found.pixels[solid], expected[solid])


def test_a_transparent_colour_becomes_alpha():
    colour = RGB.copy()
    colour[0, 0] = (1, 2, 3)
    keyed = picture(Image.fromarray(colour), transparency=(1, 2, 3))
    np.testing.assert_array_equal(keyed.alpha == 0, (colour == (1, 2, 3)).all(axis=2))
    np.testing.assert_array_equal(keyed.pixels, colour)
    keyed = picture(Image.fromarray(GREY), transparency=int(GREY[2, 2]))
    np.testing.assert_array_equal(keyed.alpha, np.where(GREY[2, 2] == GREY, 0, 255))
    palette = Image.fromarray(RGB).quantize(4)
    keyed = picture(palette, transparency=bytes([0, 100, 255, 255]))
    levels = np.array([0, 100, 255, 255], np.uint8)
    np.testing.assert_array_equal(keyed.alpha, levels[np.asarray(palette)])


# More than 8 bits a sample


@given(hnp.arrays(np.uint16, hnp.array_shapes(max_dims=2)))
def test_sixteen_bits_are_rounded_to_the_nearest_of_eight(samples):
    high, low = (samples >> 8).astype(np.uint8), (samples & 255).astype(np.uint8)
    np.testing.assert_array_equal(depth.to_8_bits(high, low), rounded(samples))
    np.testing.assert_array_equal(depth.grey_to_8_bits(samples), rounded(samples))


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3), (4, 2), (6, 4)])
def test_png_files_of_sixteen_bits_are_rounded_and_announced(colour_type, channels):
    samples = DEEP[..., :channels]
    for read in (read_picture, lambda file: as_picture(Image.open(file))):
        found = read(png16(samples, colour_type))
        pixels = found.pixels if channels > 2 else found.pixels.reshape(5, 7, -1)[..., :1]
        np.testing.assert_array_equal(pixels, rounded(samples[..., : 3 if channels > 2 else 1]))
        if channels in (2, 4):
            np.testing.assert_array_equal(found.alpha, rounded(samples[..., -1]))
        assert found.losses == DEEPER


@pytest.mark.parametrize(("colour_type", "channels"), [(0, 1), (2, 3)])
def test_a_transparent_colour_of_sixteen_bits_is_compared_with_all_of_them(colour_type, channels):
    samples = np.full((1, 3, channels), 1000, np.uint16)
    samples[0, 1:, 0] = 1001, 999
    key = chunk(b"tRNS", samples[0, 0].astype(">u2").tobytes())
    found = read_picture(png16(samples, colour_type, key))
    np.testing.assert_array_equal(found.alpha, [[0, 255, 255]])


@pytest.mark.parametrize("compression", [None, "zlib"])
@pytest.mark.parametrize("channels", [1, 3, 4])
def test_tiff_files_of_sixteen_bits_are_rounded_and_announced(compression, channels):
    file, samples = BytesIO(), DEEP[..., :channels]
    photometric = "minisblack" if channels == 1 else "rgb"
    options = {"extrasamples": ["unassalpha"]} if channels == 4 else {}
    squeezed = samples[..., 0] if channels == 1 else samples
    tifffile.imwrite(file, squeezed, photometric=photometric, compression=compression, **options)
    found = read_picture(file)
    np.testing.assert_array_equal(found.pixels.reshape(5, 7, -1), rounded(samples[..., :3]))
    assert found.losses[:1] == DEEPER


def test_tiff_grey_of_which_zero_is_white_is_turned_over():
    for samples, expected in ((DEEP[..., 0], rounded(DEEP[..., 0])), (GREY, GREY)):
        file = BytesIO()
        tifffile.imwrite(file, samples, photometric="miniswhite")
        np.testing.assert_array_equal(read_picture(file).pixels, 255 - expected)


def test_planar_tiff_that_pillow_reads_wrong_is_refused():
    file, planes = BytesIO(), np.ascontiguousarray(DEEP[..., :3].transpose(2, 0, 1))
    tifffile.imwrite(file, planes, photometric="rgb", planarconfig="separate")
    with pytest.raises(ValueError, match="planar TIFF of 16 bits without compression; store it"):
        read_picture(file)


@pytest.mark.parametrize(
    ("kind", "before", "depth_byte", "bits"),
    [("AVIF", b"pixi\0\0\0\0\3", 10, 10), ("JPEG2000", b"\xff\x4f\xff\x51", 15, 16)],
)
def test_deep_files_that_pillow_reads_as_8_bits_are_noticed(kind, before, depth_byte, bits):
    if not features.check({"AVIF": "avif", "JPEG2000": "jpg_2000"}[kind]):
        pytest.skip(f"Pillow without {kind}")
    file = saved(Image.new("RGB", (64, 64)), kind)
    img = Image.open(file)
    assert depth.bits_of(img) == 8
    data = bytearray(file.getvalue())
    at = data.index(before) + len(before) + (38 if kind == "JPEG2000" else 0)
    data[at] = depth_byte
    img.fp = BytesIO(data)
    assert depth.bits_of(img) == bits


def test_a_turned_image_of_sixteen_bits_stays_together():
    exif = chunk(b"eXIf", exif_of(6).tobytes()[6:])
    found = read_picture(png16(DEEP[..., :3], 2, exif))
    np.testing.assert_array_equal(found.pixels, np.rot90(rounded(DEEP[..., :3]), -1))


def test_deep_colour_of_ppm_is_announced():
    file = BytesIO(b"P6 1 1 65535\n" + np.array([0, 257, 65535], ">u2").tobytes())
    found = read_picture(file)
    np.testing.assert_array_equal(found.pixels, [[[0, 1, 255]]])
    assert found.losses == DEEPER


@pytest.mark.parametrize("kind", [np.int32, np.uint32])
def test_a_file_of_thirty_two_bits_is_refused_whatever_its_values(kind):
    """Values up to 255, read as 16 bits, would be an image that is black."""
    bits = {258: 32, 339: {np.int32: 2, np.uint32: 1}[kind]}  # bits, and the kind of samples
    file = saved(Image.fromarray(GREY.astype(np.int32)), "TIFF", tiffinfo=bits)
    with pytest.raises(ValueError, match="samples of 32 bits; convert to 8 bits first"):
        read_picture(file)


def test_more_than_sixteen_bits_and_floats_are_refused():
    for img, message in (
        (Image.fromarray(np.array([[70000]], np.int32)), "img: samples of 32 bits; convert to 8"),
        (Image.fromarray(GREY.astype(np.int32)), "img: samples of 32 bits; convert to 8"),
        (Image.new("F", (2, 2)), "img: floating-point samples; convert"),
    ):
        with pytest.raises(ValueError, match=message):
            as_picture(img)


# Colour


def test_a_profile_is_carried_with_the_samples_as_they_are():
    found = picture(Image.fromarray(RGB), icc_profile=profiles.wide_rgb())
    np.testing.assert_array_equal(found.pixels, RGB)
    assert (found.icc, found.losses) == (profiles.wide_rgb(), ())


def test_iptc_captions_of_tiff_and_png_are_announced():
    img, tags, notes = Image.new("RGB", (8, 8)), Image.Exif(), PngImagePlugin.PngInfo()
    tags[33723] = b"\x1c\x02\x78\x00\x01a"
    notes.add_text("Raw profile type iptc", "a caption")
    for found in (picture(img, "TIFF", tiffinfo=tags), picture(img, "PNG", pnginfo=notes)):
        assert found.losses == ("IPTC captions are left out",)


def test_srgb_converts_colour():
    file = saved(Image.new("RGB", (2, 1), (200, 40, 40)), icc_profile=profiles.wide_rgb())
    found = read_picture(file, srgb=True)
    assert (found.icc, found.losses) == (b"", ())
    assert found.pixels.shape == (1, 2, 3)
    red, green, _ = found.pixels[0, 0]  # outside of sRGB: at its border
    assert (red, green) == (255, 0)


def test_srgb_converts_grey_and_leaves_alpha():
    img = Image.merge("LA", [Image.new("L", (2, 1), 55), Image.new("L", (2, 1), 9)])
    found = read_picture(saved(img, icc_profile=profiles.grey(1.0)), srgb=True)
    assert np.all(np.abs(found.pixels.astype(int) - 128) <= 1)  # 55 / 255 of the light
    assert (found.pixels.shape, found.alpha.max(), found.icc) == ((1, 2), 9, b"")
    assert picture(img, icc_profile=profiles.grey(1.0)).icc == profiles.grey(1.0)


def test_srgb_leaves_an_image_without_profile():
    np.testing.assert_array_equal(read_picture(saved(Image.fromarray(RGB)), srgb=True).pixels, RGB)


def test_cmyk_is_converted_with_its_profile_or_without_and_says_so():
    img = Image.new("CMYK", (2, 1), (255, 0, 0, 0))
    plain = picture(img, "TIFF")
    np.testing.assert_array_equal(plain.pixels, np.asarray(img.convert("RGB")))
    assert plain.losses == ("CMYK is converted to sRGB by a plain formula, without a profile",)
    managed = picture(img, "TIFF", icc_profile=profiles.cmyk())
    assert managed.pixels[0, 0, 1] < 220  # cyan that absorbs a little green
    assert managed.losses == ("CMYK is converted to sRGB with its profile",)
    assert plain.icc == managed.icc == b""


def test_lab_is_converted_and_says_so():
    lab = Image.merge("LAB", [Image.new("L", (2, 1), v) for v in (136, 208, 195)])
    found = picture(lab, "TIFF")
    red, green, blue = found.pixels[0, 0].astype(int)
    assert red > 200 > 60 > max(green, blue)
    assert found.losses == ("CIELAB is converted to sRGB",)


@pytest.mark.parametrize("srgb", [False, True])
@pytest.mark.parametrize(
    ("icc", "why"),
    [
        (b"no profile", "is damaged"),
        (profiles.wide_rgb()[:200], "is damaged"),
        (profiles.cmyk(), "is for CMYK images"),
        (profiles.grey(1.0), "is for L images"),
    ],
)
def test_a_profile_that_is_damaged_or_foreign_is_left_out_with_a_line(icc, why, srgb):
    found = read_picture(saved(Image.fromarray(RGB), icc_profile=icc), srgb=srgb)
    np.testing.assert_array_equal(found.pixels, RGB)
    assert (found.icc, found.losses) == (b"", (f"the ICC profile {why}: it is left out",))


# Orientation and metadata


@pytest.mark.parametrize("orientation", range(1, 9))
def test_every_orientation_is_applied_once(orientation):
    exif = exif_of(orientation)
    img = Image.fromarray(RGB)
    turned = {2: RGB[:, ::-1], 3: RGB[::-1, ::-1], 4: RGB[::-1], 5: RGB.transpose(1, 0, 2)}
    turned |= {6: np.rot90(RGB, -1), 7: np.rot90(RGB, 2).transpose(1, 0, 2), 8: np.rot90(RGB)}
    for found in (picture(img, exif=exif), as_picture(Image.open(saved(img, exif=exif)))):
        np.testing.assert_array_equal(found.pixels, turned.get(orientation, RGB))
        again = Image.Exif()
        again.load(found.exif)
        assert again.get(ORIENTATION) == 1
        assert again[0x010F] == "Maker"
        assert again.get_ifd(0x8769)[0x9003] == "2026:11:28 12:00:00"


@pytest.mark.parametrize("mark", ["II", "MM"])
def test_exif_stays_as_it_is_but_for_the_orientation(mark):
    order = "<" if mark == "II" else ">"
    entries = ((0x010F, 2, 4, b"abc\0"), (ORIENTATION, 3, 1, struct.pack(order + "HH", 6, 0)))
    ifd = struct.pack(order + "H", 2)
    ifd += b"".join(struct.pack(order + "HHI", *e[:3]) + e[3] for e in entries)
    stored = mark.encode() + struct.pack(order + "HI", 42, 8) + ifd + bytes(4) + b"\xff maker note"
    found = picture(Image.fromarray(RGB), exif=b"Exif\0\0" + stored)
    upright = struct.pack(order + "HH", 1, 0)
    assert found.exif == stored.replace(entries[1][3], upright)
    assert found.pixels.shape == (7, 5, 3)


@pytest.mark.parametrize("kind", ["JPEG", "WEBP", "PNG", "TIFF"])
def test_exif_and_xmp_are_found_in(kind):
    options = {"xmp": XMP}
    if kind == "PNG":
        options = {"pnginfo": PngImagePlugin.PngInfo()}
        options["pnginfo"].add_itxt("XML:com.adobe.xmp", XMP.decode())
    elif kind == "TIFF":
        exif = Image.Exif()
        exif.load(exif_of(6).tobytes())
        exif[700] = XMP
        options = {"tiffinfo": exif}
    found = picture(Image.fromarray(RGB), kind, exif=exif_of(6).tobytes(), **options)
    exif = Image.Exif()
    exif.load(found.exif)
    assert (exif[0x010F], exif.get_ifd(0x8769)[0x9003]) == ("Maker", "2026:11:28 12:00:00")
    assert 0x0111 not in exif  # where a TIFF file has its samples
    upright = b"" if kind == "TIFF" else b'tiff:Orientation="1"'  # Pillow itself turns TIFF
    assert found.xmp == XMP.replace(b'tiff:Orientation="6"', upright)
    assert found.pixels.shape[:2] == (7, 5)
    assert found.losses == ()


def test_damaged_exif_is_left_out_with_a_line():
    found = picture(Image.fromarray(RGB), exif=b"Exif\0\0no byte order mark")
    np.testing.assert_array_equal(found.pixels, RGB)
    assert (found.exif, found.losses) == (b"", ("the EXIF data are damaged: they are left out",))


def test_too_much_metadata_is_left_out_with_a_line(monkeypatch):
    monkeypatch.setattr("jvrc.io.metadata.MAX_METADATA", 40)
    found = picture(Image.fromarray(RGB), "WEBP", xmp=bytes(41), lossless=True)
    assert (found.xmp, found.losses) == (b"", ("XMP of 41 bytes is left out: the limit is 40",))


# What is left out


def test_further_frames_and_pages_are_announced():
    others = [Image.fromarray(255 - RGB), Image.fromarray(RGB // 2)]
    for kind, what in (("TIFF", "pages"), ("PNG", "frames")):
        found = picture(Image.fromarray(RGB), kind, save_all=True, append_images=others)
        np.testing.assert_array_equal(found.pixels, RGB)
        assert found.losses == (f"2 further {what} are left out",)
    img = Image.open(saved(Image.fromarray(RGB), "TIFF", save_all=True, append_images=others))
    img.seek(1)
    np.testing.assert_array_equal(as_picture(img).pixels, 255 - RGB)
    found = picture(Image.fromarray(RGB), "MPO", save_all=True, append_images=others[:1])
    assert found.losses == ("1 further picture is left out",)


@pytest.mark.parametrize(
    ("extra", "said"),
    [((0,), ("1 further channel is left out",)), ((0, 0), ("2 further channels are left out",))],
)
def test_further_channels_of_a_tiff_file_are_announced(extra, said):
    file = BytesIO()
    samples = np.dstack([RGB, *[ALPHA] * len(extra)])
    tifffile.imwrite(file, samples, photometric="rgb", extrasamples=extra)
    found = read_picture(file)
    np.testing.assert_array_equal(found.pixels, RGB)
    assert (found.alpha, found.losses) == (None, said)


def test_notes_of_people_are_announced_and_notes_of_programs_are_not():
    notes = PngImagePlugin.PngInfo()
    for name in ("Title", "Software", "source", "date:create", "Thumb::MTime"):
        notes.add_text(name, "x")
    noted = picture(Image.fromarray(RGB), pnginfo=notes)
    assert noted.losses == ("text notes are left out: Title",)
    commented = picture(Image.fromarray(RGB), "JPEG", comment="hello")
    assert commented.losses == ("text notes are left out: comment",)
    commented = picture(Image.fromarray(RGB), "JPEG", comment="CREATOR: gd-jpeg v1.0")
    assert commented.losses == picture(Image.fromarray(RGB), "JPEG2000").losses == ()


def test_a_gamma_that_is_not_that_of_srgb_is_announced():
    img = Image.fromarray(RGB)
    for gamma, count in ((1.0, 1), (0.45455, 0)):
        data = saved(img).getvalue()
        stated = chunk(b"gAMA", struct.pack(">I", round(100000 * gamma)))
        found = read_picture(BytesIO(data[:33] + stated + data[33:]))
        assert len(found.losses) == count
    np.testing.assert_array_equal(found.pixels, RGB)


# Files, and RGB alone


def test_a_pipe_can_be_read():
    class Pipe(BytesIO):
        def seekable(self):
            return False

    np.testing.assert_array_equal(
        read_picture(Pipe(saved(Image.fromarray(RGB)).getvalue())).pixels, RGB
    )


def test_too_large_an_image_is_refused_by_its_header():
    file = saved(Image.new("1", (3000, 1000)))
    del_from = len(file.getvalue()) - 30  # no decoder gets that far
    with pytest.raises(ValueError, match="image of 1000 x 3000 pixels, more than the 2999999"):
        read_picture(BytesIO(file.getvalue()[:del_from]), max_pixels=2999999)


def test_a_damaged_pil_image_is_one_line():
    file = saved(Image.fromarray(np.tile(RGB, (9, 9, 1))), "JPEG")
    with pytest.raises(ValueError, match="img: damaged or unsupported image: ") as caught:
        as_picture(Image.open(BytesIO(file.getvalue()[:-200])))
    assert "\n" not in str(caught.value)


def test_rgb_alone_is_in_the_colours_of_the_file(tmp_path):
    path = tmp_path / "a.png"
    Image.fromarray(RGB).save(path, icc_profile=profiles.wide_rgb())
    np.testing.assert_array_equal(read_image(path), RGB)
    path.write_bytes(png16(DEEP[..., :3], 2).getvalue())
    np.testing.assert_array_equal(read_image(path), rounded(DEEP[..., :3]))
    np.testing.assert_array_equal(as_rgb_uint8(Image.fromarray(GREY))[..., 1], GREY)
