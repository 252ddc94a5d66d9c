"""Claims about targets of bytes, bits per pixel and PSNR."""

import functools
import math
from types import SimpleNamespace

import numpy as np
import pytest
from PIL import Image

import jvrc
from jvrc.codec.image.encoder import encode_analysed, encode_image
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.rate_control import qstep_choice, shared_coders
from jvrc.codec.rate_control.qstep_choice import with_psnr, within_bytes
from jvrc.codec.rate_control.rate_curve import RateCurve
from jvrc.codec.rate_control.shared_coders import SharedCoders
from jvrc.codec.tiles import analysed as analysed_module
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.table_choice import choose_tables
from jvrc.codec.transforms.latents import analyse, quantise_z
from jvrc.coding.packing import pack, unpack
from jvrc.coding.tile_grid import tile_grid
from jvrc.evaluation.metrics import psnr
from jvrc.qstep import (
    QSTEP_CODE_MAX,
    QSTEP_CODE_MIN,
    QSTEP_MAX,
    QSTEP_MIN,
    qstep_code_of,
    qstep_of,
)

GRID = qstep_of(1)  # the ratio of neighbouring steps


@pytest.fixture(scope="module")
def img(photo):
    return np.ascontiguousarray(photo[100:228, 200:328])


def next_finer(data):
    """The next finer step, or None."""
    qstep = jvrc.inspect(data).qstep / GRID
    return qstep if qstep >= QSTEP_MIN * 0.999 else None


def check_bytes(model, img, target, data, **options):
    """Never above the target; within 1 %, or the next finer step takes more."""
    assert len(data) <= target
    finer = next_finer(data)
    if len(data) < 0.99 * target and finer is not None:
        assert len(jvrc.compress(model, img, max(finer, QSTEP_MIN), **options)) > target


def test_a_hundred_targets_of_bytes_are_met(monkeypatch, tiny_2026, photo):
    img = photo[100:164, 200:328]
    image = AnalysedImage(tiny_2026, img, 16, reused=True)
    encode = functools.cache(lambda code: encode_analysed(image, code))  # each step only once
    monkeypatch.setattr(qstep_choice, "encode_analysed", lambda _, code, options: encode(code))
    sizes = [len(pack(encode(code))) for code in (QSTEP_CODE_MAX, QSTEP_CODE_MIN)]
    for target in np.geomspace(sizes[0], 1.2 * sizes[1], 100).astype(int):
        data = within_bytes(image, int(target), pack)
        code = unpack(data).qstep_code
        assert len(data) <= target
        if len(data) < 0.99 * target and code > QSTEP_CODE_MIN:
            assert len(pack(encode(code - 1))) > target


def test_every_architecture_meets_targets(tiny, img):
    sizes = [len(jvrc.compress(tiny, img, qstep)) for qstep in (QSTEP_MAX, QSTEP_MIN)]
    for target in np.geomspace(*sizes, 4).astype(int)[1:-1]:
        check_bytes(tiny, img, target, jvrc.compress(tiny, img, target_bytes=int(target)))


def test_a_target_of_bits_per_pixel_is_one_of_bytes(tiny_2026, img):
    bpp = 8 * len(jvrc.compress(tiny_2026, img, 2.0)) / (128 * 128) + 0.02
    by_bpp = jvrc.compress(tiny_2026, img, target_bpp=bpp)
    assert by_bpp == jvrc.compress(tiny_2026, img, target_bytes=math.floor(bpp * 128 * 128 / 8))
    assert 8 * len(by_bpp) / 128**2 <= bpp


def check_psnr(img, target, data, model):
    """Reached, and not exceeded by more than 0.1 dB unless the next coarser step misses it."""
    restored = jvrc.decompress(model, data)
    found = psnr(np.atleast_3d(img), np.atleast_3d(restored))
    assert found >= target
    if found > target + 0.1:
        coarser = jvrc.compress(model, img, min(jvrc.inspect(data).qstep * GRID, QSTEP_MAX))
        assert psnr(np.atleast_3d(img), np.atleast_3d(jvrc.decompress(model, coarser))) < target


@pytest.fixture(scope="module")
def trained():
    """A model that restores images; the tiny ones restore noise."""
    return jvrc.load("mbt2018-mean")


@pytest.mark.parametrize("target", [26, 30.5, 36])
def test_targets_of_psnr_are_met(trained, img, target):
    check_psnr(img, target, jvrc.compress(trained, img, target_psnr=target), trained)


def test_the_psnr_of_a_grey_image_is_that_of_its_samples(trained, img):
    grey = img[..., 1]
    check_psnr(grey, 31, jvrc.compress(trained, grey, target_psnr=31), trained)


def test_a_file_is_that_of_a_plain_encode_at_its_step(tiny, img):
    data = jvrc.compress(tiny, img, target_bytes=1500)
    assert data == jvrc.compress(tiny, img, jvrc.inspect(data).qstep)


def test_alpha_and_metadata_count_in_the_target(tiny_2026, img):
    alpha = np.random.default_rng(0).integers(0, 256, (128, 128), np.uint8)
    picture = jvrc.Picture(img, alpha, exif=b"II*\0\x08\0\0\0\0\0\0\0\0\0" + bytes(range(200)))
    least = len(jvrc.compress(tiny_2026, picture, QSTEP_MAX))
    target = least + 400
    data = jvrc.compress(tiny_2026, picture, target_bytes=target)
    check_bytes(tiny_2026, picture, target, data)
    with pytest.raises(ValueError, match=f"smallest file found has {least} bytes"):
        jvrc.compress(tiny_2026, picture, target_bytes=least - 1)


def test_targets_out_of_reach_name_what_is_possible(trained, img):
    least = len(jvrc.compress(trained, img, QSTEP_MAX))
    best = psnr(img, jvrc.decompress(trained, jvrc.compress(trained, img, QSTEP_MIN)))
    best = math.floor(100 * best) / 100
    with pytest.raises(ValueError, match=rf"10 bytes .*found has {least} bytes .* at qstep 32"):
        jvrc.compress(trained, img, target_bytes=10)
    with pytest.raises(ValueError, match=rf"found has {least} bytes \(\d\.\d{{4}} bpp\)"):
        jvrc.compress(trained, img, target_bpp=0.001)
    with pytest.raises(ValueError, match=rf"70 dB .*at most {best:.2f} dB .* at qstep 0.5"):
        jvrc.compress(trained, img, target_psnr=70)
    jvrc.compress(trained, img, target_psnr=best)  # what is named can be reached


@pytest.mark.parametrize("options", [{"target_bytes": 1e300}, {"target_bpp": 1e308}])
def test_there_is_no_largest_target(tiny_2026, img, options):
    small = img[:20, :20]
    assert jvrc.compress(tiny_2026, small, **options) == jvrc.compress(tiny_2026, small, 0.5)


def test_more_bytes_than_the_finest_step_takes_are_not_used(tiny_2026, img):
    data = jvrc.compress(tiny_2026, img, target_bytes=10**9)
    assert data == jvrc.compress(tiny_2026, img, QSTEP_MIN)


def test_a_psnr_below_that_of_the_coarsest_step_is_exceeded(trained, img):
    assert jvrc.compress(trained, img, target_psnr=2) == jvrc.compress(trained, img, QSTEP_MAX)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"qstep": 2, "target_bytes": 1000},
        {"target_bytes": 1000, "target_psnr": 30},
        {"target_bpp": 1, "target_psnr": 30, "qstep": 2},
    ],
)
def test_exactly_one_target_must_be_given(tiny_2026, img, options):
    message = "exactly one of qstep, target_bytes, target_bpp, target_psnr must be given, got"
    with pytest.raises(ValueError, match=message):
        jvrc.compress(tiny_2026, img, **options)


@pytest.mark.parametrize("name", ["target_bytes", "target_bpp", "target_psnr"])
@pytest.mark.parametrize("value", [0, -1, math.nan, math.inf, "10", True, [1000], b"1"])
def test_a_target_must_be_a_positive_number(tiny_2026, img, name, value):
    with pytest.raises(ValueError, match=f"{name} must be a positive number of .*, got"):
        jvrc.compress(tiny_2026, img, **{name: value})


def test_images_with_patches_meet_targets_too(trained, img):
    board = np.indices((64, 64)).sum(axis=0) % 2 * np.uint8(255)
    mixed = img.copy()
    mixed[:64, 64:] = board[..., None]
    data = jvrc.compress(trained, mixed, target_bytes=1400)
    check_bytes(trained, mixed, 1400, data)
    assert data == jvrc.compress(trained, mixed, jvrc.inspect(data).qstep)
    check_psnr(mixed, 33, jvrc.compress(trained, mixed, target_psnr=33), trained)


# -- what is computed once


def count_calls(monkeypatch):
    calls = []
    plain = analysed_module.analyse_area

    def counted(model, img, area):
        calls.append(area)
        return plain(model, img, area)

    monkeypatch.setattr(analysed_module, "analyse_area", counted)
    return calls


def tiled(model, img, **options):
    return AnalysedImage(model, img, 1, **options)


@pytest.mark.parametrize("held_bytes", [0, 2**26])
def test_g_a_runs_once_for_each_tile(monkeypatch, tiny_2026, photo, held_bytes):
    calls = count_calls(monkeypatch)
    image = tiled(tiny_2026, photo[:128, :256], reused=True, held_bytes=held_bytes)
    target = int(0.7 * RateCurve(image, 0, coder_of).file_bytes()[qstep_code_of(1.0) + 128])
    data = within_bytes(image, target, pack)
    assert 0.98 * target <= len(data) <= target
    assert len(calls) == tile_grid(128, 256, 1).count


@pytest.mark.parametrize("held_bytes", [0, 40_000, 2**26])
def test_latents_are_the_same_wherever_they_are_kept(tiny, photo, held_bytes):
    img = photo[:128, :256]
    image = tiled(tiny, img, reused=True, held_bytes=held_bytes)
    for _ in range(2):
        coded = encode_analysed(image, 100)
    assert pack(coded) == pack(encode_image(tiny, img, 100, tile_side=1))


def test_images_of_many_tiles_meet_a_psnr(trained, photo):
    """Of more than are remembered for decoding."""
    img = photo[:128, :320]
    image = tiled(trained, img, reused=True)
    data = with_psnr(image, 30.0, img, pack)
    assert 30 <= psnr(img, jvrc.decompress(trained, data)) <= 30.1


# -- estimates


def test_estimates_of_a_trained_model_are_close(trained, photo):
    curve = RateCurve(AnalysedImage(trained, photo, 16), qstep_code_of(8.0), coder_of)
    sizes, quality = curve.file_bytes(), curve.psnr()
    for qstep in (3, 8, 20):  # at finer steps what g_a loses by itself rules the PSNR
        place = qstep_code_of(qstep) + 128
        data = jvrc.compress(trained, photo, qstep, patches=False)
        assert abs(sizes[place] / len(data) - 1) < 0.3
        assert abs(quality[place] - psnr(photo, jvrc.decompress(trained, data))) < 3
    assert np.all(np.diff(sizes) < 0)
    assert np.all(np.diff(quality) < 0)


# -- effort


@pytest.mark.slow
def test_with_effort_targets_are_met_too(trained, img):
    data = jvrc.compress(trained, img, target_bytes=1200, effort=1)
    assert 1180 <= len(data) <= 1200
    assert data == jvrc.compress(trained, img, jvrc.inspect(data).qstep, effort=1)


def test_pil_images_take_targets(tiny_2026, img):
    data = jvrc.compress(tiny_2026, Image.fromarray(img), target_bytes=1500)
    assert data == jvrc.compress(tiny_2026, img, target_bytes=1500)


# -- one z^ at several steps


def test_h_s_runs_once_for_each_z(monkeypatch, tiny_2026, img):
    made = []

    def counted(model, z_q, qstep_code):
        made.append(qstep_code)
        return coder_of(model, z_q, qstep_code)

    monkeypatch.setattr(shared_coders, "coder_of", counted)
    shared, (_, z) = SharedCoders(), analyse(tiny_2026, img)
    for code in (10, 11, 10, 12):  # of one Delta_z
        shared(tiny_2026, quantise_z(tiny_2026, z, code), code)
    assert made == [10]


def test_of_more_tiles_than_coders_are_held_most_are_found_again(monkeypatch, tiny):
    made = []
    monkeypatch.setattr(shared_coders, "coder_of", lambda *args: made.append(args) or tiny_coder)
    tiny_coder = SimpleNamespace(at=lambda code: code)
    shared = SharedCoders()
    tiles = [np.full((1, 1, tiny.config.N), i, np.int32) for i in range(shared_coders.MOST + 1)]
    for _ in range(3):
        for z_q in tiles:
            shared(tiny, z_q, 10)
    assert len(made) <= len(tiles) + 2 * 2  # two are made anew each time


def test_a_coder_at_another_step_is_that_of_the_step(tiny, img):
    y, z = analyse(tiny, img)
    z_q = quantise_z(tiny, z, 10)
    own, moved = coder_of(tiny, z_q, 12), coder_of(tiny, z_q, 10)
    moved.quantise(y)  # what it remembers of its own step must not count
    moved = moved.at(12)
    for expected, found in zip(own.quantise(y), moved.quantise(y), strict=True):
        np.testing.assert_array_equal(found, expected)
    symbols = own.quantise(y)
    choice = choose_tables(own, symbols)
    assert moved.encode(symbols, choice) == own.encode(symbols, choice)
    np.testing.assert_array_equal(moved.reconstruct(symbols), own.reconstruct(symbols))


def test_a_psnr_target_that_even_an_exact_image_misses_is_out_of_reach(tiny_2026):
    stripes = np.zeros((64, 64, 3), np.uint8)
    stripes[::2] = 255
    with pytest.raises(ValueError, match=r"at most 200\.00 dB are possible"):
        jvrc.compress(tiny_2026, stripes, target_psnr=300)


def test_a_coder_of_another_z_step_makes_room_first(monkeypatch):
    made, model = [], jvrc.load("jvrc2026")
    monkeypatch.setattr(shared_coders, "coder_of", lambda *args: made.append(args) or held)
    held = SimpleNamespace(at=lambda code: code)
    shared, coarse = SharedCoders(), QSTEP_CODE_MAX
    tiles = [np.full((1, 1, model.config.N), i, np.int32) for i in range(5)]
    assert model.z_step_index[0] != model.z_step_index[-1]
    for code in (QSTEP_CODE_MIN, coarse, coarse, coarse):
        for z_q in tiles:
            shared(model, z_q, code)
    assert len(made) == 10


def test_a_target_below_one_byte_is_out_of_reach(tiny_2026, img):
    with pytest.raises(ValueError, match=r"0 bytes \(0 bpp\) can't be reached: the smallest"):
        jvrc.compress(tiny_2026, img, target_bpp=1e-9)


@pytest.mark.parametrize("level", [0, 128, 255])
def test_flat_images_meet_targets(tiny_2026, level):
    flat = np.full((70, 130, 3), level, np.uint8)
    finest = jvrc.compress(tiny_2026, flat, QSTEP_MIN)
    assert jvrc.compress(tiny_2026, flat, target_bytes=10**6) == finest
    data = jvrc.compress(tiny_2026, flat, target_psnr=10)
    assert psnr(flat, jvrc.decompress(tiny_2026, data)) >= 10
