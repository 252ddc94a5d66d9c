"""Claims about back-projection: y + share * (y - g_a(g_s(y))) codes better images at fine steps."""

from unittest import mock

import numpy as np
import pytest

import jvrc
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.rate_control.qstep_choice import within_bytes
from jvrc.codec.tiles import back_projection
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.transforms.latents import analyse_image, synthesise
from jvrc.coding import packing
from jvrc.coding.tile_grid import Area, blocks_of
from jvrc.qstep import qstep_code_of, rd_lambda

pytestmark = pytest.mark.usefixtures("quick_compilation")

FINE = qstep_code_of(2.0)


def without():
    return mock.patch.object(back_projection, "pays", return_value=False)


def loss(model, img, qstep):
    """Bits + lambda * 255^2 * sum of squared errors of a real file."""
    data = jvrc.compress(model, img, qstep, patches=False)
    error = np.square(jvrc.decompress(model, data).astype(float) - img).mean(2).sum()
    return 8 * len(data) + rd_lambda(qstep) * error


def scene(model, img):
    area = Area(0, 0, *blocks_of(*img.shape[:2]))
    return Scene(img, analyse_image(model, img), area)


def test_the_share_grows_with_the_scale_index():
    index = np.array([0, 8, 12, 16, 24, 89], np.uint8)
    y, d = np.full(6, 2, np.float32), np.full(6, -1, np.float32)
    found = back_projection.corrected(y, d, index, FINE)
    assert found.dtype == np.float32
    assert found.tolist() == [2, 2, 1.75, 1.5, 1, 1]


def test_no_sample_moves_by_more_than_a_step():
    index, zero = np.full(4, 24, np.uint8), np.zeros(4, np.float32)
    found = back_projection.corrected(zero, np.array([-9, -1, 2, 1e30], np.float32), index, FINE)
    assert found.tolist() == [-2, -1, 2, 2]


def test_it_fades_out_between_two_steps():
    """So a file does not jump in size where it begins."""
    index, zero, d = np.full(1, 24, np.uint8), np.zeros(1, np.float32), np.ones(1, np.float32)
    codes = range(qstep_code_of(1.9), qstep_code_of(3.2))
    moved = [float(back_projection.corrected(zero, d, index, code)[0]) for code in codes]
    assert moved[0] == 1
    assert moved[-1] == 0
    assert 0 < -np.diff(moved).min() < 0.02
    assert np.diff(moved).max() == 0


def test_the_correction_is_what_g_a_misses_in_the_decoded_image(tiny_2026, photo):
    img = photo[:100, :70]
    found = scene(tiny_2026, img)
    decoded = synthesise(tiny_2026, found.y, 0)[:100, :70]
    d = back_projection.correction(tiny_2026, found)
    assert np.array_equal(d, found.y - analyse_image(tiny_2026, decoded))


def test_an_image_that_g_s_made_needs_none():
    """Where g_a sees in the decoded image what it saw in the original."""
    model, img = jvrc.load("jvrc2026"), np.full((64, 64, 3), 128, np.uint8)
    for _ in range(8):
        img = synthesise(model, analyse_image(model, img), 0)
    found = scene(model, img)
    d = back_projection.correction(model, found)
    assert np.abs(d).max() < 0.1


def test_the_loss_of_a_photograph_falls_at_fine_steps(photo):
    model, img = jvrc.load("jvrc2026"), photo[100:228, 200:392]
    gains = []
    for qstep in (1.0, 2.0):
        after = loss(model, img, qstep)
        with without():
            bits = 8 * len(jvrc.compress(model, img, qstep, patches=False))
            gains.append((loss(model, img, qstep) - after) / bits)
    assert gains[0] > 0.04
    assert gains[1] > 0


@pytest.mark.parametrize("qstep", [3.0, 16.0])
def test_coarse_steps_do_without(tiny_2026, photo, qstep):
    data = jvrc.compress(tiny_2026, photo[:64, :128], qstep)
    with without():
        assert data == jvrc.compress(tiny_2026, photo[:64, :128], qstep)


def test_searches_begin_at_y_itself(tiny_2026, photo):
    data = jvrc.compress(tiny_2026, photo[:64, :128], 1.0, effort=1)
    with without():
        assert data == jvrc.compress(tiny_2026, photo[:64, :128], 1.0, effort=1)


def test_models_of_2018_do_without(tiny_2018):
    assert not back_projection.pays(tiny_2018.config, qstep_code_of(1.0))


def test_a_tile_has_nearly_the_correction_of_the_whole_image(photo):
    """Beyond the margin that g_s looks around, the scene of a tile ends."""
    model, img = jvrc.load("jvrc2026"), np.tile(photo[:192, :192], (1, 2, 1))
    whole = back_projection.correction(model, scene(model, img))
    part = AnalysedImage(model, img, 3).scene(0)
    assert part.blocks.size != (3, 6)
    found = back_projection.correction(model, part)
    inside = whole[:12, :12]
    assert np.sqrt(np.mean((found - inside) ** 2) / np.mean(inside**2)) < 0.05


@pytest.mark.parametrize("held_bytes", [0, 2**26])
def test_a_search_for_a_step_corrects_each_tile_once(tiny_2026, photo, monkeypatch, held_bytes):
    calls, once = [], back_projection.correction
    monkeypatch.setattr(back_projection, "correction", lambda *a: calls.append(a) or once(*a))
    img = photo[:64, :128]
    analysed = AnalysedImage(tiny_2026, img, 1, reused=True, held_bytes=held_bytes)
    target = len(packing.pack(encode_image(tiny_2026, img, qstep_code_of(1.0), tile_side=1)))
    calls.clear()
    assert len(within_bytes(analysed, target, packing.pack)) <= target
    assert len(calls) == analysed.grid.count == 2
