"""Claims about images coded in several tiles: independence, crops, damage, memory."""

import weakref
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import jvrc
from jvrc import BitstreamError
from jvrc.codec.image.decoder import decode_image, decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.tiles.tile_coder import decode_tile
from jvrc.codec.transforms.latents import analyse_image
from jvrc.codec.transforms.regions import analyse_area
from jvrc.coding.container import Container
from jvrc.coding.packing import pack, unpack
from jvrc.coding.tile_grid import Y_UNIT, Area, tile_grid
from jvrc.evaluation.metrics import psnr
from jvrc.frozen.file import read_model

HEIGHT, WIDTH = 300, 200


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


@pytest.fixture(scope="module")
def tiled(tiny):
    """(model, image, its file of 3 x 2 tiles, the restored image)."""
    img = noise(HEIGHT, WIDTH)
    data = pack(encode_image(tiny, img, 0, tile_side=2))
    assert unpack(data).grid.tiles == (3, 2)
    return tiny, img, data, jvrc.decompress(tiny, data)


def fails(model, data, message, **options):
    with pytest.raises(BitstreamError, match=message) as caught:
        jvrc.decompress(model, data, **options)
    assert "\n" not in str(caught.value)


def test_large_images_are_coded_in_tiles_of_1024_pixels(tiny):
    img = noise(1100, 130)
    coded = unpack(jvrc.compress(tiny, img, 32.0, patches=False))
    assert [coded.grid.area(n) for n in range(2)] == [Area(0, 0, 9, 3), Area(9, 0, 18, 3)]
    assert len(coded.tiles) == 2
    assert jvrc.decompress(tiny, pack(coded)).shape == img.shape


def test_one_tile_costs_at_most_8_bytes_over_version_1(tiny):
    """A file of version 1 had 18 bytes and varints around the streams."""
    for size in ((1, 1), (64, 64), (200, 300)):
        data = jvrc.compress(tiny, noise(*size), 0.5, patches=False)
        (tile,) = unpack(data).tiles
        streams = [len(part) for s in (tile.z, tile.y) for part in (s.words, s.escapes)]
        numbers = (*size, 2 * 255 + 1, *streams)
        varints = sum(-(-max(1, number.bit_length()) // 7) for number in numbers)
        assert len(data) - sum(streams) <= 15 + varints + 8


def test_no_tile_depends_on_another(tiled):
    """The rest of the file may be anything."""
    model, _, data, _ = tiled
    coded = unpack(data)
    for number in range(len(coded.tiles)):
        nothing = [coded.tiles[number]] * len(coded.tiles)
        alone = decode_tile(model, coded._replace(tiles=nothing), number, coder_of)
        top, left, bottom, right = coded.grid.area(number)
        z_q, symbols = decode_symbols(model, data)
        np.testing.assert_array_equal(alone.z_q, z_q[top:bottom, left:right])
        for part, whole in zip(alone.symbols, symbols, strict=True):
            np.testing.assert_array_equal(
                part, whole[Y_UNIT * top : Y_UNIT * bottom, Y_UNIT * left : Y_UNIT * right]
            )


def test_a_tile_is_coded_as_an_image_of_its_own(tiled):
    """Its streams are also those of a file of version 1 of the tile's size."""
    model, _, data, _ = tiled
    coded = unpack(data)
    for number, tile in enumerate(coded.tiles):
        height, width = coded.grid.area(number).scaled(64).size
        own = Container(model.model_id, height, width, coded.qstep_code, (tile,), tile_side=0)
        here, there = (decode_tile(model, c, n, coder_of) for c, n in ((coded, number), (own, 0)))
        np.testing.assert_array_equal(here.symbols.y, there.symbols.y)


@pytest.mark.parametrize("side", [1, 2])
def test_the_latents_of_tiles_are_those_of_the_whole_image(tiny, side):
    img = noise(HEIGHT, WIDTH)
    whole = analyse_image(tiny, img)
    grid = tile_grid(HEIGHT, WIDTH, side)
    for number in range(grid.count):
        area = grid.area(number)
        expected = whole[area.within(Area(0, 0, *grid.blocks), Y_UNIT)]
        found = analyse_area(tiny, img, area)
        np.testing.assert_allclose(found, expected, atol=1e-5 * np.abs(whole).max())


def test_no_border_between_tiles_shows(photo):
    """Of a photograph in small tiles: no loss next to borders."""
    model, img = jvrc.load("mbt2018-mean"), photo[:256, :256]
    restored = [
        decode_image(model, encode_image(model, img, 128, tile_side=side)) for side in (16, 2)
    ]
    assert psnr(restored[0], restored[1]) > 40
    at_border = np.s_[120:136]
    losses = [psnr(img[at_border], found[at_border]) for found in restored]
    assert abs(losses[0] - losses[1]) < 0.2


def test_a_file_is_the_same_each_time(tiled):
    model, img, data, restored = tiled
    assert pack(encode_image(model, img, 0, tile_side=2)) == data
    np.testing.assert_array_equal(jvrc.decompress(model, data), restored)


# -- crops


@st.composite
def crops(draw):
    top, left = draw(st.integers(0, HEIGHT - 1)), draw(st.integers(0, WIDTH - 1))
    height, width = draw(st.integers(1, HEIGHT - top)), draw(st.integers(1, WIDTH - left))
    return left, top, width, height


def cropped(img, crop):
    left, top, width, height = crop
    return img[top : top + height, left : left + width].astype(int)


@settings(max_examples=15, deadline=None)
@given(crop=crops())
def test_a_crop_is_that_of_the_whole(tiled, crop):
    model, _, data, restored = tiled
    found = jvrc.decompress(model, data, crop=crop)
    assert found.dtype == np.uint8
    assert found.shape == (crop[3], crop[2], 3)
    assert np.abs(found - cropped(restored, crop)).max() <= 1


def test_a_crop_that_is_the_whole_image_is_the_same(tiled):
    model, _, data, restored = tiled
    found = jvrc.decompress(model, data, crop=(0, 0, WIDTH, HEIGHT))
    np.testing.assert_array_equal(found, restored)


def test_a_crop_of_one_tile_is_a_crop_too(tiny):
    """Of a file without an index."""
    img = noise(130, 70)
    data = jvrc.compress(tiny, img, 2.0)
    crop = (3, 64, 67, 40)
    found = jvrc.decompress(tiny, data, crop=crop)
    assert np.abs(found - cropped(jvrc.decompress(tiny, data), crop)).max() <= 1


@pytest.mark.parametrize(
    ("crop", "needed"),  # tiles of blocks 0, 1 ... 2, 3 ... 4 along the rows, 0 ... 1, 2 ... 3
    [
        ((0, 0, 64, 64), [0, 2]),
        ((0, 64, 64, 64), [0, 2]),
        ((0, 150, 1, 1), [2, 4]),
        ((64, 0, 1, 1), [0, 1, 2, 3]),
        ((199, 299, 1, 1), [5]),
        ((63, 127, 2, 130), [0, 1, 2, 3, 4, 5]),
    ],
)
def test_a_crop_needs_the_tiles_within_its_margin_of_a_block(tiled, crop, needed):
    model, _, data, restored = tiled
    coded, decoded = unpack(data), []
    x, y, width, height = crop
    wanted = Area(y, x, y + height, x + width)

    class Recorded(tuple):
        def __getitem__(self, number):
            decoded.append(number)
            return super().__getitem__(number)

    found = decode_image(model, coded._replace(tiles=Recorded(coded.tiles)), wanted=wanted)
    assert np.abs(found - cropped(restored, crop)).max() <= 1
    assert decoded == needed


@pytest.mark.parametrize(
    "crop",
    [
        *((-1, 0, 2, 2), (0, -1, 2, 2), (0, 0, 0, 2), (0, 0, 2, 0), (0, 299, 2, 2), (199, 0, 2, 2)),
        *((0, 0, 2), (0, 0, 2.0, 2), "0123", 5),
    ],
)
def test_a_crop_outside_of_the_image_is_refused(tiled, crop):
    model, _, data, _ = tiled
    with pytest.raises(ValueError, match="crop must be .* within the image's 200 x 300 pixels"):
        jvrc.decompress(model, data, crop=crop)


# -- damage


def test_damage_names_the_tile_and_spares_crops_that_do_not_need_it(tiled):
    model, _, data, restored = tiled
    changed = bytearray(data)
    changed[-1] ^= 1
    fails(model, bytes(changed), r"tile 5 \(rows 192 ... 299, columns 128 ... 199\): damaged")
    fails(model, bytes(changed), "tile 5", crop=(150, 200, 20, 20))
    found = jvrc.decompress(model, bytes(changed), crop=(0, 0, 100, 100))
    assert np.abs(found - restored[:100, :100].astype(int)).max() <= 1


def test_streams_that_fail_to_decode_name_their_tile(tiled):
    model, _, data, _ = tiled
    coded = unpack(data)
    tile = coded.tiles[3]
    bad = tile._replace(y=tile.y._replace(words=tile.y.words[:-2]))
    changed = pack(coded._replace(tiles=(*coded.tiles[:3], bad, *coded.tiles[4:])))
    fails(model, changed, r"tile 3 \(rows 64 ... 191, columns 128 ... 199\): ")


@pytest.mark.parametrize("seed", range(4))
def test_every_damaged_file_of_several_tiles_is_refused(tiled, seed):
    model, _, data, _ = tiled
    rng = np.random.default_rng(seed)
    for place in rng.integers(0, len(data), 50):
        changed = bytearray(data)
        changed[place] ^= int(rng.integers(1, 256))
        fails(model, bytes(changed), "stream")
        fails(model, data[:place], "stream")
    fails(model, data + bytes([seed]), "left-over")


# -- memory and time


@pytest.mark.parametrize(("height", "width", "most"), [(640, 64, 3), (64, 640, 3), (320, 320, 13)])
def test_few_tiles_are_held_at_a_time_and_each_is_decoded_once(height, width, most):
    """Two rows of tiles and three more at most, however large the image."""
    model = read_model(Path(__file__).parents[1] / "golden" / "v1" / "tiny-mean.safetensors")
    coded = encode_image(model, noise(height, width), 300, tile_side=1)
    alive, made, highest = weakref.WeakValueDictionary(), [], []

    def counting(model, z_q, qstep_code):
        coder = coder_of(model, z_q, qstep_code)
        plain = coder.reconstruct

        def reconstruct(symbols):
            found = plain(symbols)
            made.append(1)
            alive[len(made)] = found
            highest.append(len(alive))
            return found

        coder.reconstruct = reconstruct
        return coder

    decode_image(model, coded, coder_of=counting)
    assert len(made) == len(coded.tiles)
    assert max(highest) <= most
