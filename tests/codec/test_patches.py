"""Claims about blocks that are coded without the model: when, how well, and at what price."""

from io import BytesIO

import numpy as np
import pytest
from PIL import Image
from unnatural import drawings

import jvrc
from jvrc.codec.image.decoder import decode_image, decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.patches.fill import fill
from jvrc.codec.patches.pixels import floor_psnr
from jvrc.codec.tiles.block_statistics import statistics
from jvrc.coding import patch
from jvrc.coding.container import NO_STREAM
from jvrc.coding.packing import pack, unpack
from jvrc.coding.patch import patched_blocks
from jvrc.coding.tile_grid import Area
from jvrc.model.config import config_of
from jvrc.qstep import qstep_code_of, qstep_of


def psnr_of_blocks(found, img):
    """PSNR of each block of 64x64 pixels within the image, row by row."""
    error = np.square(found.astype(int) - img)
    rows, columns = (range(0, size, 64) for size in img.shape[:2])
    mse = [error[i : i + 64, j : j + 64].mean() for i in rows for j in columns]
    return 10 * np.log10(255**2 / np.maximum(mse, 1e-9))


def above_floor(found, img, qstep, architecture="jvrc2026"):
    """That no block is below its floor."""
    step = qstep_of(qstep_code_of(qstep))
    floors = [floor_psnr(step, config_of(architecture), simple=simple) for simple in (False, True)]
    limits = np.where(statistics(img).simple.ravel(), floors[1], floors[0])
    return np.all(psnr_of_blocks(found, img) >= limits)


def webp_bytes(img):
    buffer = BytesIO()
    Image.fromarray(img).save(buffer, "WEBP", lossless=True)
    return len(buffer.getvalue())


@pytest.fixture(scope="module")
def model():
    return jvrc.load("jvrc2026")


@pytest.fixture(scope="module")
def images(photo):
    return drawings(photo)


@pytest.fixture
def mixed(photo):
    """A photograph with noise, a checkerboard and flat colour in it: 3 x 3 blocks, some cut."""
    img = photo[200:330, 300:440].copy()
    rng = np.random.default_rng(0)
    img[:64, :64] = rng.integers(0, 256, (64, 64, 3))
    img[64:, 64:130] = 255 * (np.indices((66, 66)).sum(axis=0) % 2)[..., None]
    img[:40, 128:] = (255, 0, 255)
    return img


@pytest.mark.parametrize("qstep", [0.5, 3.0, 32.0])
def test_no_block_falls_below_the_floor(model, images, qstep):
    for name in ("small text", "coloured text", "noise", "sparse noise", "squares"):
        img = images[name][:128, :192]
        found = jvrc.decompress(model, jvrc.compress(model, img, qstep))
        assert above_floor(found, img, qstep), name


@pytest.mark.parametrize("qstep", [1.0, 4.0])
def test_no_block_falls_below_the_floor_for_patterns_over_a_photograph(model, photo, qstep):
    """Luma beyond what models have learnt: a checkerboard, and the mosaic of a sensor."""
    img = photo[200:328, 300:428]
    sign = (np.indices(img.shape[:2]).sum(0) % 2 * 2 - 1)[..., None]
    mosaic = img[..., 1].copy()
    mosaic[::2, ::2], mosaic[1::2, 1::2] = img[::2, ::2, 0], img[1::2, 1::2, 2]
    patterns = [np.clip(img.astype(int) + size * sign, 0, 255) for size in (11, 14, 20)]
    for pattern in (*patterns, np.repeat(mosaic[..., None], 3, axis=2)):
        pattern = pattern.astype(np.uint8)
        found = jvrc.decompress(model, jvrc.compress(model, pattern, qstep))
        assert above_floor(found, pattern, qstep)


@pytest.mark.parametrize("size", [1, 2, 4, 12])
def test_no_block_falls_below_the_floor_of_which_little_is_in_the_image(model, photo, size):
    img = photo[200 : 264 + size, 300 : 364 + size].copy()
    img[64:, 64:] = np.random.default_rng(0).integers(0, 256, (size, size, 3))
    assert above_floor(jvrc.decompress(model, jvrc.compress(model, img, 16.0)), img, 16.0)


@pytest.mark.parametrize("side", [1, 16])
def test_no_block_falls_below_the_floor_with_any_model(tiny, mixed, side):
    """Random weights restore next to nothing. In tiles, g_s sees others than the encoder did."""
    code = qstep_code_of(2.0)
    coded = encode_image(tiny, mixed, code, patches=True, tile_side=side)
    assert above_floor(decode_image(tiny, coded), mixed, 2.0, tiny.config.architecture)
    assert patched_blocks(coded)[0] > 4


def test_no_block_falls_below_the_floor_after_a_search(tiny, mixed):
    data = jvrc.compress(tiny, mixed, 2.0, effort=1)
    assert above_floor(jvrc.decompress(tiny, data), mixed, 2.0, tiny.config.architecture)


@pytest.mark.parametrize("qstep", [1.0, 12.0])
def test_what_is_drawn_takes_no_more_than_lossless_webp(model, images, qstep):
    """Or than the model takes for it, if that is less; and a few bytes for the header."""
    for name in ("small text", "light text on dark", "dither", "screen", "stripes"):
        img = images[name]
        size = len(jvrc.compress(model, img, qstep))
        without = len(jvrc.compress(model, img, qstep, patches=False))
        assert size <= max(webp_bytes(img), without) + 30, name
        if qstep == 1.0:
            assert size <= webp_bytes(img) + 30 < without / 2, name


def test_two_colours_come_back_exactly(model, images):
    for name in ("dither", "checkerboard", "small text"):
        img = images[name][:128, :128]
        found = jvrc.decompress(model, jvrc.compress(model, img, 1.0))
        np.testing.assert_array_equal(found, img, name)


@pytest.mark.parametrize("qstep", [1.0, 8.0])
def test_a_photograph_is_coded_as_without_patches(model, photo, qstep):
    img = photo[100:292, 200:456]
    assert jvrc.compress(model, img, qstep) == jvrc.compress(model, img, qstep, patches=False)


def test_patches_can_be_turned_off(tiny, mixed):
    assert patched_blocks(unpack(jvrc.compress(tiny, mixed, 2.0, patches=False))) == (0, 9)
    assert patched_blocks(unpack(jvrc.compress(tiny, mixed, 2.0)))[0] > 0


def test_crops_hold_their_part_of_a_patch(tiny, mixed):
    coded = encode_image(tiny, mixed, 128, patches=True, tile_side=2)
    whole = decode_image(tiny, coded)
    assert patched_blocks(coded)[0] > 0
    for area in (Area(0, 0, 1, 1), Area(60, 50, 130, 140), Area(10, 20, 64, 64)):
        part = decode_image(tiny, coded, wanted=area)
        expected = whole[area.top : area.bottom, area.left : area.right]
        assert np.abs(part.astype(int) - expected).max() <= 1


def test_grey_is_patched_and_stays_grey(tiny, images):
    img = images["grey noise"][:70, :130, 0]
    data = jvrc.compress(tiny, img, 0.5)
    assert patched_blocks(unpack(data)) == (6, 6)
    found = jvrc.decompress(tiny, data)
    assert found.shape == img.shape
    assert np.mean(np.square(found.astype(int) - img)) < 32


def test_a_file_that_is_patched_all_over_has_no_streams(tiny, images):
    img = images["dither"][:130, :100]
    data = jvrc.compress(tiny, img, 1.0)
    coded = unpack(data)
    assert patched_blocks(coded) == (6, 6)
    assert not any(tile.has_streams for tile in coded.tiles)
    assert len(data) < webp_bytes(img) + 30
    np.testing.assert_array_equal(jvrc.decompress(tiny, data), img)
    z_q, symbols = decode_symbols(tiny, data)
    assert z_q.shape[:2] == (3, 2)
    assert symbols.y.shape == (12, 8, tiny.config.M)
    assert not z_q.any()


def test_damaged_patches_are_errors_that_name_the_tile(tiny_2026, mixed):
    (tile,) = (coded := encode_image(tiny_2026, mixed, 128)).tiles
    data = patch.encode(mixed, np.arange(9).reshape(3, 3) % 2 == 0)

    def decoded(**change):
        changed = coded._replace(tiles=(tile._replace(**change),))
        return jvrc.decompress(tiny_2026, pack(changed))

    np.testing.assert_array_equal(decoded(patch=data)[:64, :64], mixed[:64, :64])
    for change in (
        {"patch": data[:-20]},
        {"patch": data[:12]},
        {"patch": b"\xff\xff" + data[2:]},
        {"patch": bytes(2) + data[2:]},
        {"patch": data, "z": NO_STREAM, "y": NO_STREAM, "scale_adapted": False},
    ):
        with pytest.raises(jvrc.BitstreamError, match="tile 0"):
            decoded(**change)


def test_fill_keeps_what_is_known_and_continues_it():
    img = np.tile(np.arange(100, 220, dtype=np.uint8)[:, None, None], (1, 90, 3))
    missing = np.zeros(img.shape[:2], bool)
    missing[30:90, 20:70] = True
    holed = np.where(missing[..., None], 255, img).astype(np.uint8)
    found = fill(holed, missing)
    np.testing.assert_array_equal(found[~missing], img[~missing])
    assert np.abs(found.astype(int) - img).max() <= 16
    assert np.all(fill(img, np.ones_like(missing)) == 128)
