"""Claims about what a file keeps beside the model's pixels: grey, alpha, profile and metadata."""

import functools
import warnings

import numpy as np
import profiles
import pytest
from PIL import Image

import jvrc
from jvrc.codec.alpha import alpha_of, with_alpha
from jvrc.coding.container import Section
from jvrc.coding.packing import pack, unpack
from jvrc.coding.tile_grid import Area

RNG = np.random.default_rng(0)
RGB = RNG.integers(0, 256, (70, 130, 3), np.uint8)
ALPHA = RNG.integers(0, 256, (70, 130), np.uint8)
EXIF = b"II*\0\x08\0\0\0\0\0\0\0\0\0"
FULL = jvrc.Picture(RGB, ALPHA, profiles.wide_rgb(), EXIF, b"<x:xmpmeta/>")


@pytest.fixture(scope="module")
def model(tiny_2026):
    return tiny_2026


@pytest.fixture(scope="module")
def full(model):
    """FULL as a file."""
    return jvrc.compress(model, FULL, 4.0)


def test_alpha_profile_and_metadata_come_back_exactly(model, full):
    found = jvrc.decompress_picture(model, full)
    np.testing.assert_array_equal(found.alpha, ALPHA)
    assert found[2:] == FULL[2:]
    np.testing.assert_array_equal(
        found.pixels, jvrc.decompress(model, jvrc.compress(model, RGB, 4))
    )


def test_the_array_has_the_shape_of_what_was_compressed(model):
    grey, alpha = RGB[..., 0], ALPHA
    for img in (RGB, grey, np.dstack([RGB, alpha]), np.dstack([RGB, np.full_like(alpha, 255)])):
        found = jvrc.decompress(model, jvrc.compress(model, img, 4.0))
        assert (found.shape, found.dtype) == (img.shape, np.uint8)
        if img.shape[-1] == 4:
            np.testing.assert_array_equal(found[..., 3], img[..., 3])


def test_grey_with_alpha_decodes_to_four_channels_of_which_three_agree(model):
    picture = jvrc.Picture(RGB[..., 0], ALPHA)
    data = jvrc.compress(model, picture, 4.0)
    found = jvrc.decompress(model, data)
    assert found.shape == (70, 130, 4)
    assert np.all(found[..., :2] == found[..., 1:3])
    assert jvrc.decompress_picture(model, data).pixels.shape == (70, 130)


def test_grey_is_the_rounded_mean_of_what_the_model_decodes(model):
    grey = RGB[..., 0]
    threefold = np.stack([grey] * 3, axis=-1)
    colour = jvrc.decompress(model, jvrc.compress(model, threefold, 2.0, patches=False))
    found = jvrc.decompress(model, jvrc.compress(model, grey, 2.0, patches=False))
    assert np.any(colour[..., 0] != colour[..., 1])  # this model tints it
    np.testing.assert_array_equal(found, np.rint(colour.mean(axis=2)))


def test_metadata_can_be_left_out_but_not_the_profile(model, full):
    data = jvrc.compress(model, FULL, 4.0, metadata=False)
    found = jvrc.decompress_picture(model, data)
    assert (found.icc, found.exif, found.xmp) == (FULL.icc, b"", b"")
    assert len(data) < len(full)


def test_what_a_pil_image_loses_is_a_warning(model):
    with pytest.warns(UserWarning, match="img: CMYK is converted to sRGB by a plain formula"):
        jvrc.compress(model, Image.new("CMYK", (3, 2)), 4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        jvrc.compress(model, jvrc.Picture(RGB[:1, :1], losses=("known already",)), 4.0)


def test_a_pil_image_is_turned_upright_once(model):
    exif = Image.Exif()
    exif[0x0112] = 6
    img = Image.fromarray(RGB[:9, :5])
    img.info["exif"] = exif.tobytes()
    found = jvrc.decompress_picture(model, jvrc.compress(model, img, 0.5))
    assert found.pixels.shape == (5, 9, 3)
    again = Image.Exif()
    again.load(found.exif)
    assert again[0x0112] == 1


@pytest.mark.parametrize("area", [(0, 0, 150, 70), (63, 1, 65, 70), (130, 65, 131, 66)])
def test_alpha_of_a_part_is_that_part_of_all(model, area):
    alpha = RNG.integers(0, 256, (150, 70), np.uint8)
    coded = unpack(jvrc.compress(model, RNG.integers(0, 9, (150, 70, 3), np.uint8), 32.0))
    tiled = coded._replace(tile_side=1, tiles=coded.tiles * 6)
    found = alpha_of(with_alpha(tiled, alpha), Area(*area))
    np.testing.assert_array_equal(found, alpha[area[0] : area[2], area[1] : area[3]])
    assert alpha_of(tiled, Area(*area)) is None


def test_alpha_in_some_tiles_only_is_damage(model):
    coded = unpack(jvrc.compress(model, RGB, 32.0))
    tiles = (coded.tiles[0]._replace(alpha=b"\0\0"), *coded.tiles * 5)
    some = coded._replace(tile_side=1, tiles=tiles)
    with pytest.raises(jvrc.BitstreamError, match=r"tile 1 \(rows 0 .*: .* no alpha, unlike other"):
        alpha_of(some, Area(0, 0, 70, 130))


def test_damage_of_alpha_is_found_behind_a_right_checksum(model, full):
    coded = unpack(full)
    damaged = coded.tiles[0]._replace(alpha=b"\1" + coded.tiles[0].alpha[1:30])
    with pytest.raises(jvrc.BitstreamError, match="tile 0 .*: damaged stream: lossless WebP"):
        jvrc.decompress(model, pack(coded._replace(tiles=(damaged,))))


def test_metadata_that_cannot_be_read_costs_no_image(model, full):
    others = [section for section in unpack(full).sections if section.kind != 130]
    sections = (Section(130, b"no zlib"), *others)
    foreign = pack(unpack(full)._replace(sections=sections))
    picture = jvrc.decompress_picture(model, foreign)
    whole = jvrc.decompress_picture(model, full)
    np.testing.assert_array_equal(picture.pixels, whole.pixels)
    assert (picture.icc, picture.exif, picture.xmp) == (whole.icc, b"", whole.xmp)
    (line,) = picture.losses
    assert line.startswith("EXIF is left out: damaged stream: EXIF")
    assert jvrc.inspect(foreign).exif == 0


def test_every_changed_or_missing_byte_of_a_file_is_noticed(model):
    small = FULL._replace(pixels=RGB[:2, :3], alpha=ALPHA[:2, :3], icc=b"")
    data = jvrc.compress(model, small, 32.0)
    jvrc.inspect(data)
    for at in range(len(data)):
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 16]) + data[at + 1 :]):
            with pytest.raises(jvrc.BitstreamError):
                jvrc.inspect(damaged)


def test_inspect_describes_without_a_model(model, full):
    info = jvrc.inspect(full)
    assert (info.width, info.height, info.channels, info.alpha) == (130, 70, 3, True)
    assert (info.qstep, info.model_id, info.model) == (4.0, model.model_id, None)
    assert (info.version, info.tiles, info.bytes) == (2, 1, len(full))
    assert info.bpp == 8 * len(full) / (130 * 70)
    assert info.profile == "a profile of tests"
    assert (info.icc, info.exif, info.xmp) == tuple(len(data) for data in FULL[2:5])
    assert info.thumbnail == 0
    assert info.patched == 1.0  # noise
    assert jvrc.inspect(jvrc.compress(model, RGB, 4.0, patches=False)).patched == 0.0


def test_a_step_that_does_not_exist_is_damage(model, full):
    damaged = pack(unpack(full)._replace(qstep_code=641))
    for read in (jvrc.inspect, functools.partial(jvrc.decompress, model)):
        with pytest.raises(jvrc.BitstreamError, match="there is no qstep code 641"):
            read(damaged)


def test_inspect_names_shipped_models_and_grey():
    shipped = jvrc.load("mbt2018-mean")
    info = jvrc.inspect(jvrc.compress(shipped, RGB[:1, :1, 0], 32.0))
    assert (info.model, info.channels, info.alpha) == ("mbt2018-mean", 1, False)
    assert (info.profile, info.icc) == ("", 0)


def test_a_file_of_any_size_is_described(full):
    coded = unpack(full)
    coded = coded._replace(tiles=(coded.tiles[0]._replace(patch=b""),))
    huge = coded._replace(width=2**16, height=2**12)  # 268 megapixels
    huge = huge._replace(tiles=coded.tiles * huge.grid.count)
    assert jvrc.inspect(pack(huge))[:2] == (2**16, 2**12)
