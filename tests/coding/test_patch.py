"""Claims about patches: what is coded comes back, and damage is an error."""

import struct

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvrc.coding import patch, webp
from jvrc.coding.container import NO_STREAM, Container, Tile
from jvrc.errors import BitstreamError


def drawn(height, width, seed):
    """(pixels, blocks): a few colours, at least one block patched."""
    rng = np.random.default_rng(seed)
    rows, columns = -(-height // 64), -(-width // 64)
    blocks = rng.random((rows, columns)) < 0.5
    blocks[rng.integers(rows), rng.integers(columns)] = True
    colours = rng.integers(0, 256, (rng.integers(1, 9), 3), dtype=np.uint8)
    return colours[rng.integers(len(colours), size=(height, width))], blocks


@settings(deadline=None, max_examples=20)
@given(st.integers(1, 150), st.integers(1, 150), st.integers(0, 2**32))
def test_patched_pixels_come_back_as_they_are(height, width, seed):
    pixels, blocks = drawn(height, width, seed)
    found, found_blocks = patch.decode(patch.encode(pixels, blocks), height, width)
    np.testing.assert_array_equal(found_blocks, blocks)
    inside = patch.samples_of(blocks)[:height, :width]
    np.testing.assert_array_equal(found[inside], pixels[inside])


def test_black_and_white_take_few_bytes():
    board = np.indices((128, 128)).sum(axis=0) % 2 * 255
    pixels = np.repeat(board[..., None], 3, axis=2).astype(np.uint8)
    assert len(patch.encode(pixels, np.ones((2, 2), bool))) < 60


def test_what_is_not_patched_takes_few_bytes():
    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (256, 256, 3), dtype=np.uint8)
    blocks = np.zeros((4, 4), bool)
    blocks[1, 2] = True
    assert len(patch.encode(pixels, blocks)) < 1.05 * 64 * 64 * 3


def test_damage_is_an_error():
    """Under every cut and changed byte, or pixels come out: a section has a checksum besides."""
    pixels, blocks = drawn(70, 130, 1)
    data = patch.encode(pixels, blocks)
    for i in range(len(data)):
        for damaged in (data[:i], data[:i] + bytes([data[i] ^ 255]) + data[i + 1 :]):
            try:
                found, _ = patch.decode(damaged, 70, 130)
            except BitstreamError:
                continue
            assert found.shape == (70, 130, 3)


@pytest.mark.parametrize(
    "bitmap", [b"", b"\0", b"\x40"], ids=["none", "no block", "a block that is not there"]
)
def test_a_bitmap_must_have_the_blocks_of_the_tile(bitmap):
    pixels, _ = drawn(70, 130, 1)  # 2 x 3 blocks
    with pytest.raises(BitstreamError, match="2 x 3 blocks"):
        patch.decode(bitmap + webp.encode(pixels) * bool(bitmap), 70, 130)


def test_another_size_is_refused_before_it_is_decoded():
    """An image of 16384 x 16384 pixels in a few bytes, for one of 64 x 64."""
    header = struct.pack("<BI", 0x2F, 16383 | 16383 << 14)
    for data in (header + bytes(40), webp.encode(np.zeros((65, 64, 3), np.uint8))):
        with pytest.raises(BitstreamError, match="64 x 64"):
            patch.decode(b"\1" + data, 64, 64)


def test_patched_blocks_are_counted_without_decoding():
    whole, part = np.ones((1, 1), bool), np.array([[True, False]])
    pixels = np.zeros((64, 128, 3), np.uint8)
    patches = patch.encode(pixels, part), b"", patch.encode(pixels[:, :64], whole)
    tiles = tuple(Tile(False, NO_STREAM, NO_STREAM, data) for data in patches)
    coded = Container("01234567", 64, 300, 0, tiles, tile_side=2)
    assert [coded.grid.area(i).size for i in range(3)] == [(1, 1), (1, 2), (1, 2)]
    coded = coded._replace(tiles=(tiles[2], tiles[0], tiles[1]))
    assert patch.patched_blocks(coded) == (2, 5)
