"""Claims about compress and decompress: whole images, damaged streams, wrong arguments.

Those about tiles are in test_tiles.py.
"""

import concurrent.futures
import dataclasses
import subprocess
import sys
import tracemalloc
import zlib
from functools import partial
from pathlib import Path
from typing import NamedTuple

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc import BitstreamError, decompress
from jvrc.codec.image.decoder import decode_image, decode_symbols
from jvrc.codec.image.encoder import quantise_image
from jvrc.codec.latent_coders.independent import IndependentCoder
from jvrc.codec.latent_coders.wavefront import WavefrontCoder
from jvrc.codec.tiles.streams import decode_z, encode_stream
from jvrc.coding import scale_adaptation
from jvrc.coding.container import Stream
from jvrc.coding.packing import pack, unpack
from jvrc.coding.tables import CdfTables, concatenate
from jvrc.coding.varint import write_varint, zigzag
from jvrc.evaluation.metrics import psnr
from jvrc.frozen.file import read_model, save_model
from jvrc.integer import hyper_synthesis
from jvrc.model import transforms
from jvrc.qstep import QSTEP_CODE_MAX, QSTEP_CODE_MIN, QSTEP_MAX, QSTEP_MIN, qstep_code_of, qstep_of

compress = partial(jvrc.compress, patches=False)  # claims are about the model's streams

MODEL = "mbt2018-mean"
GOLDEN = Path(__file__).parents[1] / "golden" / "v1"


@pytest.fixture(scope="module")
def shipped():
    return jvrc.load(MODEL)


@pytest.fixture(scope="module")
def one_pixel(tiny):
    """(model, image of one pixel, its stream)."""
    img = np.full((1, 1, 3), 77, np.uint8)
    return tiny, img, compress(tiny, img, 2.0)


def noise(height, width, seed=0):
    return np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)


def with_valid_crc(body):
    return body + zlib.crc32(body).to_bytes(4, "little")


def with_fields(data, **fields):
    return pack(unpack(data)._replace(**fields))


def with_streams(data, **streams):
    """A file of one tile with other streams."""
    (tile,) = unpack(data).tiles
    return with_fields(data, tiles=(tile._replace(**streams),))


def header_of(coded, height, width):
    """The header of a file of version 2 that claims a size."""
    size = write_varint(height) + write_varint(width)
    code = write_varint(zigzag(coded.qstep_code))
    return b"JVRC\x02" + bytes.fromhex(coded.model_id) + size + code + bytes([3, coded.tile_side])


def claiming(data, height, width):
    """A file of one tile that claims to be of another size."""
    coded = unpack(data)
    begin = len(header_of(coded, coded.height, coded.width))
    return with_valid_crc(header_of(coded, height, width) + data[begin:-4])


def claiming_in_version_1(height, width):
    """(model, a file of version 1 with the streams of one pixel that claims to be of this size)."""
    data = (GOLDEN / "tiny-mean-a.jvrc").read_bytes()
    assert data[9:11] == b"\1\1"
    size = write_varint(height) + write_varint(width)
    model = read_model(GOLDEN / "tiny-mean.safetensors")
    return model, with_valid_crc(data[:9] + size + data[11:-4])


def fails(model, data, message="stream", **options):
    """decompress refuses the bytes, in one line."""
    with pytest.raises(BitstreamError, match=message) as caught:
        decompress(model, data, **options)
    assert "\n" not in str(caught.value)


def image_or_error(model, data):
    """The image, or the error's message; any other exception passes through."""
    try:
        return decompress(model, data)
    except BitstreamError as error:
        return str(error)


class Coded(NamedTuple):
    """One stream of a file: its integers, the table of each, the tables."""

    values: np.ndarray
    index: np.ndarray
    tables: CdfTables

    def ideal_bits(self):
        last = np.diff(self.tables.start)[self.index] - 1
        symbols = np.where(self.is_escape(), last, self.values - self.tables.low[self.index])
        return -np.log2(self.tables.freq[self.tables.start[self.index] + symbols] / 2**16).sum()

    def is_escape(self):
        symbols = self.values - self.tables.low[self.index]
        return (symbols < 0) | (symbols >= np.diff(self.tables.start)[self.index] - 1)


def streams_of(model, data):
    """What the streams of z and y of a file of one tile hold."""
    coded, blocks = unpack(data), unpack(data).grid.blocks
    (tile,) = coded.tiles
    z_q, index_shift = decode_z(model, tile, blocks, coded.qstep_code)
    n, row = model.config.N, model.z_step_index[coded.qstep_code - QSTEP_CODE_MIN]
    z_tables = model.z_tables.select(int(row) * n, n)
    values, index = z_q.ravel(), np.tile(np.arange(n), blocks[0] * blocks[1])
    if tile.scale_adapted:
        z_tables = concatenate([z_tables, scale_adaptation.table()])
        values = np.concatenate([values, index_shift])
        index = np.concatenate([index, np.full(len(index_shift), n)])
    symbols = decode_symbols(model, data)[1]
    y_index = np.clip(symbols.index.astype(int) + index_shift, 0, len(model.y_tables.low) - 1)
    y = Coded(symbols.y.ravel(), y_index.ravel(), model.y_tables)
    return Coded(values, index, z_tables), y


def ideal_bytes(model, data):
    return sum(stream.ideal_bits() for stream in streams_of(model, data)) / 8


def escape_count(model, data):
    return sum(np.count_nonzero(stream.is_escape()) for stream in streams_of(model, data))


def no_scale_adaptation(y, *_):
    return np.zeros(y.shape[2], np.int32)


# -- round trips


@pytest.mark.parametrize(
    "shape", [(1, 1), (1, 50), (50, 1), (37, 61), (65, 64), (17, 400), (130, 67)]
)
def test_any_size_survives_and_comes_out_the_same_each_time(tiny, shape):
    img = noise(*shape)
    data = compress(tiny, img, 1.0)
    assert isinstance(data, bytes)
    assert compress(tiny, img, 1.0) == data
    restored = decompress(tiny, data)
    assert (restored.shape, restored.dtype) == ((*shape, 3), np.uint8)
    np.testing.assert_array_equal(decompress(tiny, data), restored)


def test_a_long_strip_survives_in_tiles(shipped):
    strip = np.tile(np.arange(4000, dtype=np.uint8)[None, :, None] // 16, (17, 1, 3))
    restored = decompress(shipped, compress(shipped, strip, 1.0))
    assert restored.shape == strip.shape
    assert psnr(strip, restored) > 15


def test_a_photograph_is_smaller_and_worse_the_larger_the_step(shipped, photo):
    data = [compress(shipped, photo, qstep) for qstep in (0.5, 1, 2, 4, 8, 16, 32)]
    sizes = [len(stream) for stream in data]
    assert all(a > b for a, b in zip(sizes[:-1], sizes[1:], strict=True))
    best, worst = decompress(shipped, data[0]), decompress(shipped, data[-1])
    assert psnr(photo, best) > max(28, psnr(photo, worst))


def test_images_of_any_kind_give_the_same_bytes(tiny):
    img = noise(40, 30)
    data = compress(tiny, img, 2.0)
    backwards = np.ascontiguousarray(img[::-1, ::-1])[::-1, ::-1]
    every_other = np.repeat(np.repeat(img, 2, axis=0), 3, axis=1)[::2, ::3]
    for same in (jnp.asarray(img), Image.fromarray(img), backwards, every_other):
        assert compress(tiny, same, 2.0) == data
    fortran = np.asfortranarray(img)
    fortran.flags.writeable = False
    assert compress(tiny, fortran, 2.0) == data


def test_the_stream_may_be_any_kind_of_bytes(one_pixel):
    model, _, data = one_pixel
    for same in (bytearray(data), memoryview(data)):
        np.testing.assert_array_equal(decompress(model, same), decompress(model, data))
    with pytest.raises(ValueError, match="data must be bytes, the content of a file; got 'photo"):
        decompress(model, "photo.jvrc")


def test_numbers_of_any_kind_are_steps(one_pixel):
    model, img, data = one_pixel
    for qstep in (2, np.float32(2), jnp.float32(2), 2.0 * 2**0.003):  # the last one is snapped
        assert compress(model, img, qstep) == data


@pytest.mark.parametrize("qstep", [QSTEP_MIN, QSTEP_MAX])
def test_the_ends_of_the_range_of_steps_work(tiny, qstep):
    img = noise(64, 64)
    data = compress(tiny, img, qstep)
    assert qstep_of(unpack(data).qstep_code) == qstep
    assert decompress(tiny, data).shape == img.shape


def test_parameters_may_be_arrays_of_jax(one_pixel):
    model, img, data = one_pixel
    on_device = jax.device_put(model)
    assert compress(on_device, img, 2.0) == data
    np.testing.assert_array_equal(decompress(on_device, data), decompress(model, data))


def test_a_fresh_process_needs_only_the_bytes_and_the_weights(tiny, photo, tmp_path):
    img = photo[100:203, 200:301]
    (tmp_path / "a.jvrc").write_bytes(compress(tiny, img, 3.0))
    save_model(tiny, tmp_path / "weights.safetensors")
    code = (
        "import jvrc, numpy as np, pathlib\n"
        "model = jvrc.load('weights.safetensors')\n"
        "np.save('a.npy', jvrc.decompress(model, pathlib.Path('a.jvrc').read_bytes()))"
    )
    command = [sys.executable, "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    here = decompress(tiny, (tmp_path / "a.jvrc").read_bytes())
    np.testing.assert_array_equal(np.load(tmp_path / "a.npy"), here)


def test_two_threads_at_once_do_not_disturb_each_other(tiny):
    images = [noise(64, 64, seed) for seed in range(8)]
    alone = [compress(tiny, img, 2.0) for img in images]
    with concurrent.futures.ThreadPoolExecutor(2) as pool:
        assert list(pool.map(lambda img: compress(tiny, img, 2.0), images)) == alone
        together = list(pool.map(lambda data: decompress(tiny, data), alone))
    for data, restored in zip(alone, together, strict=True):
        np.testing.assert_array_equal(restored, decompress(tiny, data))


def test_another_size_step_and_content_compile_nothing_anew(tiny, compiled):
    decompress(tiny, compress(tiny, noise(65, 129), 2.0))
    compiled.clear()
    for size, qstep in (((128, 150), 2.0), ((100, 192), 2.0), ((128, 192), 1.7)):
        img = np.full((*size, 3), 9, np.uint8)
        decompress(tiny, compress(tiny, img, qstep))
    assert not compiled
    other = jax.tree.map(lambda a: a * np.float32(0.9), tiny.params)  # weights are arguments
    decompress(dataclasses.replace(tiny, params=other), compress(tiny, noise(65, 129), 2.0))
    assert not compiled


# -- what the bytes hold


def test_the_decoder_restores_what_the_encoder_meant(tiny_2018):
    """The image follows from the coded integers by the equations of the method.

    For jvrc2026: tests/codec/test_stepwise.py.
    """
    tiny = tiny_2018
    rng = np.random.default_rng(3)
    offsets = rng.integers(0, 256, tiny.offsets.shape).astype(np.uint8)
    model = dataclasses.replace(tiny, offsets=offsets)
    config, params, qstep = model.config, model.params, 2.5
    code = qstep_code_of(qstep)
    qstep = qstep_of(code)
    img = noise(64, 128)

    data = compress(model, img, qstep)
    restored = decompress(model, data)
    z_q, symbols = decode_symbols(model, data)

    def run(name, x):
        run = jax.jit(getattr(transforms, name), static_argnums=0)
        return jax.tree.map(np.asarray, run(config, params[name], x))

    y = run("g_a", img[None] / np.float32(255))
    z = run("h_a", y)
    z_step = model.z_steps[model.z_step_index[code - QSTEP_CODE_MIN]] / 16
    assert np.abs((z - model.medians / 16) / z_step - z_q).max() < 0.501
    sigma, mu = run("h_s", np.float32(model.medians / 16 + z_step * z_q[None]))
    # The networks are rounded to integers: tests/integer is tighter.
    # The tiny model's context adds little to what h_s gives.
    assert np.abs(symbols.mu - mu).max() < (0.2 if config.has_context else 0.05)
    mu, q = symbols.mu, symbols.y.reshape(y.shape)
    assert np.abs((y - mu) / qstep - q).max() < 0.501
    scales = 2.0 ** (np.arange(-408, 1017, 16) / 128)
    sigma = np.clip(np.asarray(sigma) / qstep, scales[0], scales[-1])
    nearest = np.abs(np.log(sigma[..., None] / scales)).argmin(-1)
    assert np.abs(symbols.index - nearest).max() <= 1
    assert np.mean(symbols.index == nearest) > 0.9
    delta = offsets[code - QSTEP_CODE_MIN][symbols.index] / 512
    y_hat = mu + qstep * np.sign(q) * (np.abs(q) - delta)
    x_hat = run("g_s", np.float32(y_hat))[0]
    expected = 255 * np.clip(np.asarray(x_hat), 0, 1)
    assert np.abs(expected - restored).max() < 0.501


@pytest.mark.parametrize("qstep", [1.0, 4.0])
def test_the_size_is_near_the_ideal_for_a_photograph(shipped, photo, qstep):
    data = compress(shipped, photo, qstep)
    (tile,), ideal = unpack(data).tiles, ideal_bytes(shipped, data)
    words = len(tile.z.words) + len(tile.y.words)
    assert ideal - 1 <= words <= 1.005 * ideal + 16
    assert len(tile.z.escapes) + len(tile.y.escapes) <= 0.05 * words


EXTREMES = {
    "noise": noise(64, 128),
    "black": np.zeros((64, 128, 3), np.uint8),
    "white": np.full((64, 128, 3), 255, np.uint8),
    "checkerboard": np.tile(np.uint8([[0, 255], [255, 0]])[:, :, None], (32, 64, 3)),
    "extreme colours": (255 * (noise(64, 128) > 127)).astype(np.uint8),
}


@pytest.mark.parametrize("content", EXTREMES)
def test_extreme_content_survives_near_the_ideal_size(tiny, content):
    data = compress(tiny, EXTREMES[content], 0.5)
    (tile,), escapes = unpack(data).tiles, escape_count(tiny, data)
    words = len(tile.z.words) + len(tile.y.words)
    assert words <= 1.005 * ideal_bytes(tiny, data) + 16
    assert escapes <= len(tile.z.escapes) + len(tile.y.escapes) <= 5 * escapes
    assert len(data) <= words + 5 * escapes + 40
    assert decompress(tiny, data).shape == EXTREMES[content].shape


def same_integers(found, expected):
    """Of z, and the symbols of y with their index and mu."""
    for a, b in zip((found[0], *found[1]), (expected[0], *expected[1]), strict=True):
        np.testing.assert_array_equal(a, b)


def test_values_far_outside_the_tables_are_coded_exactly(tiny):
    """Latents a thousand times as large: nearly all integers are escapes, up to the limit."""
    last = "down" if "down" in tiny.params["g_a"] else "conv3"
    loud = jax.tree.map(lambda a: 1000 * a, tiny.params["g_a"][last])
    loud = tiny.params["g_a"] | {last: loud}
    model = dataclasses.replace(tiny, params=tiny.params | {"g_a": loud})
    img = noise(64, 64)
    data = compress(model, img, 0.5)
    meant = quantise_image(model, img, qstep_code_of(0.5))
    assert escape_count(model, data) > 0.5 * meant.symbols.y.size
    same_integers(decode_symbols(model, data), (meant.z_q, meant.symbols))


def test_scale_adaptation_changes_the_size_and_nothing_else(tiny, shipped, photo, monkeypatch):
    """A grey image has nothing in the channels of colour, whatever their scales say."""
    grey = np.repeat(photo[:128, :192, :1], 3, axis=2)
    for model, img in ((shipped, grey), (tiny, noise(64, 128))):
        data = compress(model, img, 1.0)
        with monkeypatch.context() as patch:
            patch.setattr(scale_adaptation, "choose", no_scale_adaptation)
            plain = compress(model, img, 1.0)
        adapted = [unpack(d).tiles[0].scale_adapted for d in (data, plain)]
        assert adapted == [True, False]
        assert len(data) < 0.99 * len(plain)
        same_integers(decode_symbols(model, data), decode_symbols(model, plain))
        np.testing.assert_array_equal(decompress(model, data), decompress(model, plain))


@pytest.mark.parametrize("index_shift", [-(2**20), -13, 12, 2**20])
def test_any_index_shift_that_a_stream_can_hold_decodes(tiny, index_shift, monkeypatch):
    img = noise(64, 128)

    def chosen(y, *_):
        return np.full(y.shape[2], index_shift, np.int32)

    monkeypatch.setattr(scale_adaptation, "choose", chosen)
    meant = quantise_image(tiny, img, qstep_code_of(1.0))
    found = decode_symbols(tiny, compress(tiny, img, 1.0))
    same_integers(found, (meant.z_q, meant.symbols))


# -- damaged streams


def test_every_flipped_bit_is_noticed(one_pixel):
    model, _, data = one_pixel
    for bit in range(8 * len(data)):
        flipped = bytearray(data)
        flipped[bit // 8] ^= 1 << bit % 8
        fails(model, bytes(flipped))


def flips_under_a_valid_checksum(data):
    for bit in range(8 * (len(data) - 4)):
        body = bytearray(data[:-4])
        body[bit // 8] ^= 1 << bit % 8
        yield with_valid_crc(bytes(body))


def test_a_flipped_bit_under_a_valid_checksum_is_an_error_or_a_image(one_pixel):
    model, _, data = one_pixel
    images = 0
    for flipped in flips_under_a_valid_checksum(data):
        found = image_or_error(model, flipped)
        if isinstance(found, str):
            assert "\n" not in found
        else:
            coded = unpack(flipped)
            colours = () if coded.channels == 1 else (3,)
            assert found.shape == (coded.height, coded.width, *colours)
            images += 1
    assert images > 0  # sizes within the same block


def test_so_is_a_flipped_bit_under_a_valid_checksum_of_version_1():
    model, data = claiming_in_version_1(1, 1)
    assert decompress(model, data).shape == (1, 1, 3)
    found = [image_or_error(model, flipped) for flipped in flips_under_a_valid_checksum(data)]
    assert sum(not isinstance(one, str) for one in found) > 0
    assert not any("\n" in one for one in found if isinstance(one, str))


@pytest.mark.parametrize("seed", range(3))
def test_random_words_under_a_valid_checksum_are_an_error_or_a_image(one_pixel, seed):
    model, _, data = one_pixel
    rng = np.random.default_rng(seed)
    for _ in range(20):
        stream = Stream(
            words=rng.bytes(2 * int(rng.integers(0, 20))),
            escapes=rng.bytes(int(rng.integers(0, 4))),
            lanes=1 << int(rng.integers(0, 13)),
        )
        found = image_or_error(model, with_streams(data, **{rng.choice(["y", "z"]): stream}))
        if isinstance(found, str):
            assert "\n" not in found
        else:
            assert found.shape == (1, 1, 3)


@pytest.mark.parametrize("value", [2**31 - 1, -(2**31), 2**20 + 1])
@pytest.mark.parametrize("part", ["z", "y"])
def test_values_that_no_encoder_writes_are_refused(one_pixel, part, value):
    model, _, data = one_pixel
    values, index, tables = streams_of(model, data)["zy".index(part)]
    values = values.copy()
    values[0] = value
    changed = with_streams(data, **{part: encode_stream(values, index, tables)})
    fails(model, changed, "damaged stream: a value beyond 1048576")


def test_every_truncation_and_extension_is_noticed(one_pixel):
    model, _, data = one_pixel
    for length in range(len(data)):
        fails(model, data[:length], "truncated" if length else "empty stream")
    fails(model, data + b"\0", "left-over bytes")
    fails(model, data + data, "left-over bytes")


def test_foreign_bytes_are_named_as_such(one_pixel):
    model, _, _ = one_pixel
    for foreign in (b"\x89PNG\r\n\x1a\n" + bytes(100), b"jvrc" + bytes(100), bytes(1000)):
        fails(model, foreign, "not a jvrc stream")


def test_another_models_stream_names_both(one_pixel):
    model, _, data = one_pixel
    other = with_fields(data, model_id="01234567")
    fails(model, other, f"needs the model 01234567, this is {model.model_id}")


@pytest.mark.parametrize("code", [QSTEP_CODE_MIN - 1, QSTEP_CODE_MAX + 1, 2**30 - 1])
def test_a_step_code_outside_the_grid_is_refused(one_pixel, code):
    model, _, data = one_pixel
    fails(model, with_fields(data, qstep_code=code), f"no qstep code {code}")


@pytest.mark.parametrize("side", [2**16, 2**32 - 1])
def test_absurd_dimensions_are_refused_before_anything_is_allocated(one_pixel, side):
    model, _, data = one_pixel
    assert claiming(data, 1, 1) == data
    claimed = claiming(data, side, side)
    tracemalloc.start()
    fails(model, claimed, "exceeds the limit")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20e6


@pytest.mark.parametrize("kind", ["one tile", "many tiles", "version 1"])
@pytest.mark.parametrize("size", [(2**21, 1), (2**13, 2**14)])
def test_the_largest_size_over_a_tiny_payload_costs_little(one_pixel, size, kind):
    model, _, data = one_pixel
    if kind == "version 1":
        model, claimed = claiming_in_version_1(*size)
    elif kind == "one tile":
        claimed = claiming(data, *size)
    else:
        coded = unpack(data)._replace(height=size[0], width=size[1])
        claimed = pack(coded._replace(tiles=coded.tiles * coded.grid.count))
    tracemalloc.start()
    fails(model, claimed)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 300e6


def test_the_limit_of_pixels_is_the_callers(one_pixel):
    model, _, _ = one_pixel
    data = compress(model, noise(9, 9), 2.0)
    fails(model, data, "9 x 9 pixels, padded to whole blocks", max_pixels=4095)
    assert decompress(model, data, max_pixels=4096).shape == (9, 9, 3)


# -- wrong arguments

GOOD = np.zeros((4, 5, 3), np.uint8)


@pytest.mark.parametrize(
    ("img", "message"),
    [
        (GOOD / 255, "img must be uint8, got dtype float64; .* np.round"),
        (GOOD.astype(np.int32), "img must be uint8, got dtype int32"),
        (jnp.zeros((4, 5, 3)), "img must be uint8, got dtype float32"),
        (None, "img must be uint8, got dtype object"),
        ("photo.png", "img must be uint8, got dtype <U9"),
        (GOOD[..., :1], r"img must have shape \[H,W,3\], \[H,W\] .*, got \[4, 5, 1\]; grey: img"),
        (GOOD[..., :2], r"got \[4, 5, 2\]; grey with alpha: jvrc.Picture"),
        (GOOD.transpose(2, 0, 1), "channels first: img.transpose"),
        (GOOD[None], "a batch: pass one image at a time"),
        (GOOD[:0], r"img must have at least one pixel, got shape \[0, 5, 3\]"),
        (GOOD[:, :0], r"img must have at least one pixel, got shape \[4, 0, 3\]"),
        (Image.new("F", (4, 4)), "img: floating-point samples; convert to 8 bits"),
    ],
)
def test_a_wrong_image_is_a_value_error_with_the_remedy(one_pixel, img, message):
    with pytest.raises(ValueError, match=message):
        compress(one_pixel[0], img, 2.0)


@pytest.mark.parametrize(
    "qstep", [float("nan"), 0, -1, float("inf"), 0.49, 32.1, "2", 1j, np.ones(2)]
)
def test_a_wrong_step_is_a_value_error_with_the_range(one_pixel, qstep):
    message = "qstep must be a number in 0.5 ... 32, got .*; a smaller step gives"
    with pytest.raises(ValueError, match=message):
        compress(one_pixel[0], GOOD, qstep)


class MistakenIndependent(IndependentCoder):
    def entropy_parameters(self, z_q):
        log_sigma, mu = super().entropy_parameters(z_q)
        right = np.arange(log_sigma.size).reshape(log_sigma.shape) % 7
        return np.where(right, log_sigma, log_sigma ^ (1 << hyper_synthesis.INDEX_SHIFT)), mu


class MistakenWavefront(WavefrontCoder):
    def psi(self, z_q):
        return super().psi(z_q) + 2**14


def test_other_tables_than_the_encoders_are_refused(tiny):
    """What another decoder's mistake does: some scale indices differ by one."""
    coded = unpack(compress(tiny, noise(64, 64), 1.0))
    mistaken = MistakenWavefront if tiny.config.has_context else MistakenIndependent
    with pytest.raises(BitstreamError):
        decode_image(tiny, coded, coder_of=mistaken)
