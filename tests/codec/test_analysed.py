"""Claims about the latents of an image in tiles: what a tile sees around it, and what is kept."""

import io

import numpy as np
import pytest

from jvrc.codec.tiles import analysed, kept_arrays
from jvrc.codec.tiles.analysed import AnalysedImage
from jvrc.codec.tiles.kept_arrays import KeptArrays
from jvrc.codec.transforms.latents import analyse_image
from jvrc.coding.tile_grid import BLOCK, Y_UNIT, Area, blocks_of

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def img(photo):
    return np.tile(photo[:250, :190], (1, 2, 1))


@pytest.mark.parametrize("reused", [False, True])
@pytest.mark.parametrize("held_bytes", [0, 2**26])
@pytest.mark.parametrize("side", [1, 2, 6])
def test_a_scene_is_a_part_of_the_image_and_of_its_y(tiny_2026, img, side, held_bytes, reused):
    whole = analyse_image(tiny_2026, img)
    image = AnalysedImage(tiny_2026, img, side, reused=reused, held_bytes=held_bytes)
    for number in range(image.grid.count):
        scene, area = image.scene(number), image.grid.area(number)
        window = Area(area.top - scene.area.top, area.left - scene.area.left, 0, 0)
        window = Area(*window[:2], *np.add(window[:2], blocks_of(*scene.img.shape[:2])))
        assert np.array_equal(scene.img, img[window.within(Area(0, 0, 9, 9), BLOCK)])
        expected = whole[window.within(Area(0, 0, 9, 9), Y_UNIT)]
        np.testing.assert_allclose(scene.y, expected, atol=1e-4)
        assert np.array_equal(scene.tile_y, image.latents(number)[0])
        margin = (scene.blocks.size[i] - area.size[i] for i in (0, 1))
        assert max(margin) <= 2 * -(-tiny_2026.config.synthesis_reach // BLOCK)


@pytest.mark.parametrize("held_bytes", [0, 2**26])
@pytest.mark.parametrize("side", [1, 6])
def test_scenes_in_order_analyse_each_tile_once(tiny_2026, img, monkeypatch, side, held_bytes):
    calls, once = [], analysed.analyse_area
    monkeypatch.setattr(analysed, "analyse_area", lambda *a: calls.append(a[2]) or once(*a))
    image = AnalysedImage(tiny_2026, img, side, held_bytes=held_bytes)
    for number in range(image.grid.count):
        image.latents(number)
        image.scene(number)
    assert image.grid.count == {1: 24, 6: 1}[side]
    assert sorted(calls) == [image.grid.area(n) for n in range(image.grid.count)]


def test_without_scenes_the_newest_tile_alone_is_kept(tiny_2026, img, monkeypatch):
    calls, once = [], analysed.analyse_area
    monkeypatch.setattr(analysed, "analyse_area", lambda *a: calls.append(a[2]) or once(*a))
    image = AnalysedImage(tiny_2026, img, 1)
    for number in (0, 0, 1, 1, 0):
        image.latents(number)
    assert calls == [image.grid.area(n) for n in (0, 1, 0)]


def test_a_scene_leaves_no_more_than_two_rows_behind(tiny_2026, img, monkeypatch):
    held, put, drop = set(), KeptArrays.put, KeptArrays.drop
    monkeypatch.setattr(KeptArrays, "put", lambda self, n, a: put(self, n, a) or held.add(n))
    monkeypatch.setattr(KeptArrays, "drop", lambda self, n: drop(self, n) or held.discard(n))
    image = AnalysedImage(tiny_2026, img, 1)
    image.latents(0)
    image.scene(0)
    columns = image.grid.tiles[1]
    for number in range(1, image.grid.count):
        image.latents(number)
        assert number in held
        assert min(held) >= number - columns - 1
    image.scene(image.grid.count - 1)
    assert min(held) >= image.grid.count - 1 - columns - 1


def test_kept_latents_hold_no_margin(tiny_2026, img):
    y, _ = AnalysedImage(tiny_2026, img, 1).latents(0)
    assert y.base is None or y.base.nbytes == y.nbytes


def arrays(number):
    return np.full((3, 4), number, np.float32), np.full(number % 2 + 1, number, np.int32)


@pytest.mark.parametrize("held_bytes", [0, 150, 2**20])
def test_what_is_dropped_is_gone_and_the_rest_is_as_it_was(held_bytes):
    kept = KeptArrays(held_bytes)
    for number in range(40):
        kept.put(number, arrays(number))
        kept.drop_below(number - 4)
        for old in range(number + 1):
            found = kept.get(old)
            if old < number - 4:
                assert found is None
            else:
                pairs = zip(found, arrays(old), strict=True)
                assert all(np.array_equal(a, b) and a.dtype == b.dtype for a, b in pairs)


def test_dropped_arrays_leave_their_place_to_others(monkeypatch):
    file = io.BytesIO()
    monkeypatch.setattr(kept_arrays.tempfile, "TemporaryFile", lambda: file)
    kept = KeptArrays(0)
    for number in range(40):
        kept.put(number, arrays(number))
        kept.drop_below(number - 3)
    most = 5 * sum(array.nbytes for array in arrays(1))
    assert 0 < len(file.getbuffer()) <= most
