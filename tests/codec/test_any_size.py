"""Claims about large images: arrays on disk, memory, thumbnails, and few compiled programs."""

import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.codec.assembly import Assembly
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.transforms.latents import HYPER_MARGIN
from jvrc.codec.transforms.tiling import shape_of
from jvrc.coding import thumbnail as thumbnails
from jvrc.coding.container import MAX_PIXELS, MAX_TILE_SIDE, Container, Section, Stream, Tile
from jvrc.coding.metadata import THUMBNAIL
from jvrc.coding.packing import pack, unpack
from jvrc.coding.tile_grid import tile_grid
from jvrc.evaluation.metrics import psnr


def noise(*shape, seed=0):
    return np.random.default_rng(seed).integers(0, 256, shape, np.uint8)


# -- arrays on disk


@pytest.mark.parametrize("shape", [(130, 70, 3), (130, 70), (130, 70, 4)])
def test_images_on_disk_are_compressed_and_restored_on_disk(tiny_2026, tmp_path, shape):
    img = noise(*shape)
    on_disk = np.memmap(tmp_path / "in", np.uint8, "w+", shape=shape)
    on_disk[:] = img
    data = jvrc.compress(tiny_2026, on_disk, 4.0)
    assert data == jvrc.compress(tiny_2026, img, 4.0)
    out = np.memmap(tmp_path / "out", np.uint8, "w+", shape=shape)
    assert jvrc.decompress(tiny_2026, data, out=out) is out
    np.testing.assert_array_equal(out, jvrc.decompress(tiny_2026, data))


def test_a_crop_goes_into_an_array_of_its_shape(tiny_2026):
    data = jvrc.compress(tiny_2026, noise(130, 70, 3), 4.0)
    out = np.zeros((10, 20, 3), np.uint8)
    jvrc.decompress(tiny_2026, data, crop=(5, 60, 20, 10), out=out)
    np.testing.assert_array_equal(out, jvrc.decompress(tiny_2026, data, crop=(5, 60, 20, 10)))


@pytest.mark.parametrize(
    ("out", "message"),
    [
        (np.zeros((70, 130, 3), np.uint8), r"uint8 \[130, 70, 3\] as the image, got uint8"),
        (np.zeros((130, 70), np.uint8), "as the image, got"),
        (np.zeros((130, 70, 3)), "got float64"),
        ([0], "got <class 'list'>"),
        (np.broadcast_to(np.uint8(0), (130, 70, 3)), "out must be writeable"),
    ],
)
def test_an_array_of_another_kind_is_refused(tiny_2026, out, message):
    data = jvrc.compress(tiny_2026, noise(130, 70, 3), 4.0)
    with pytest.raises(ValueError, match=message):
        jvrc.decompress(tiny_2026, data, out=out)


def test_into_an_array_any_size_is_decoded(tiny_2026, monkeypatch):
    data = jvrc.compress(tiny_2026, noise(65, 65, 3), 4.0)
    monkeypatch.setattr("jvrc.codec.files.MAX_PIXELS", 64 * 64)
    with pytest.raises(jvrc.BitstreamError, match="out=np.memmap"):
        jvrc.decompress(tiny_2026, data)
    out = np.empty((65, 65, 3), np.uint8)
    jvrc.decompress(tiny_2026, data, out=out)
    with pytest.raises(jvrc.BitstreamError, match="limit of 4096 pixels"):
        jvrc.decompress(tiny_2026, data, out=out, max_pixels=64 * 64)
    assert MAX_PIXELS == 2**27


def test_a_damaged_file_leaves_the_array_as_it_was(tiny_2026):
    data = bytearray(pack(encode_image(tiny_2026, noise(130, 70, 3), 300, tile_side=1)))
    data[-1] ^= 1
    out = np.zeros((130, 70, 3), np.uint8)
    with pytest.raises(jvrc.BitstreamError, match="tile 5"):
        jvrc.decompress(tiny_2026, bytes(data), out=out)
    assert not out.any()


# -- thumbnails


@pytest.fixture(scope="module")
def large(photo):
    """A megapixel of photograph, of which a megapixel is enough for a thumbnail."""
    return np.tile(photo, (2, 3, 1))[:, :1320]


def coded(size=40_000):
    """The contents of a file of so many bytes, into which pictures are put."""
    tile = Tile(False, Stream(b"", b"", 1), Stream(bytes(size), b"", 1))
    return Container("00000000", 800, 800, 0, (tile,))


@pytest.mark.parametrize("grey", [False, True])
def test_large_images_have_a_thumbnail_of_a_hundredth_of_the_bytes(large, grey):
    img = large[..., 1] if grey else large
    data = Assembly(jvrc.Picture(img), metadata=True)(coded())
    small = jvrc.thumbnail(data)
    assert small.dtype == np.uint8
    assert small.flags.writeable
    assert 32 <= max(small.shape) <= 256
    assert small.shape[1] / small.shape[0] == pytest.approx(1320 / 800, rel=0.03)
    whole, bare = len(data), len(pack(unpack(data)._replace(sections=())))
    assert 0 < whole - bare <= whole / 100
    expected = Image.fromarray(img).convert("RGB").resize(small.shape[1::-1])
    assert psnr(np.asarray(expected), small) > 18


def test_small_images_and_stripped_files_have_none(large):
    for picture, metadata in ((large[:400], True), (large, False)):
        assert jvrc.thumbnail(Assembly(jvrc.Picture(picture), metadata=metadata)(coded())) is None


def test_a_file_of_few_bytes_has_none(large):
    assert jvrc.thumbnail(Assembly(jvrc.Picture(large), metadata=True)(coded(1000))) is None


def test_compress_puts_the_thumbnail_into_the_file(tiny_2026, large):
    assert jvrc.thumbnail(jvrc.compress(tiny_2026, large, 0.5)) is not None


def test_what_is_transparent_is_white_in_the_thumbnail(large):
    alpha = np.zeros(large.shape[:2], np.uint8)
    small = thumbnails.decode(thumbnails.Thumbnails(large, alpha).within(4000))
    assert small.min() >= 254


@pytest.mark.parametrize("size", [(1, 3000), (3000, 1), (517, 2000)])
def test_thumbnails_of_odd_shapes_have_at_least_a_pixel(size):
    small = thumbnails.decode(thumbnails.Thumbnails(noise(*size)).within(9000))
    assert max(small.shape) <= 256
    assert min(small.shape) >= 1


def test_a_damaged_thumbnail_is_refused(tiny_2026):
    whole = encode_image(tiny_2026, noise(64, 64, 3), 300)
    good = thumbnails.Thumbnails(noise(64, 64, 3)).within(9000)
    for payload in (b"", b"x", good[:40], good[:-100]):
        data = pack(whole._replace(sections=(Section(THUMBNAIL, payload),)))
        with pytest.raises(jvrc.BitstreamError, match="thumbnail"):
            jvrc.thumbnail(data)
        assert jvrc.decompress(tiny_2026, data).shape == (64, 64, 3)


# -- few programs


def test_images_of_like_sizes_share_their_programs(tiny_2026, compiled):
    counts = []
    for size in [(500, 700), (512, 768), (460, 690)]:  # 8 x 11, 8 x 12 and 8 x 11 blocks
        jvrc.decompress(tiny_2026, jvrc.compress(tiny_2026, noise(*size, 3), 32.0))
        counts.append(len(compiled))
    assert counts[0] == counts[1] == counts[2]


def test_a_hundred_sizes_need_a_dozen_shapes():
    """Of each of the five functions (g_a, h_a, h_s, the four steps, g_s) as many are compiled."""
    shapes = set()
    for height, width in np.random.default_rng(0).integers(500, 6000, (100, 2)):
        grid = tile_grid(height, width, MAX_TILE_SIDE)
        for number in range(grid.count):
            area = grid.area(number)
            shapes.add(shape_of(area.grown(1, grid.blocks).size, 1))  # g_a and g_s
            shapes.add(shape_of(area.size, HYPER_MARGIN))
    assert len(shapes) <= 12
