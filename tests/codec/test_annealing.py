"""Claims about `effort` of jvrc2026: y is optimised through its rounding, its means and g_s."""

from functools import partial

import numpy as np
import pytest

import jvrc
from jvrc.codec.effort import annealing, objective
from jvrc.codec.image.decoder import decode_image, decode_symbols
from jvrc.codec.image.encoder import encode_image
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.tile_coder import quantise_tile
from jvrc.codec.transforms.latents import analyse_image
from jvrc.coding import packing
from jvrc.coding.tile_grid import BLOCK, Area, blocks_of
from jvrc.qstep import qstep_code_of, rd_lambda

compress = partial(jvrc.compress, patches=False)  # claims are about the model's streams

pytestmark = pytest.mark.usefixtures("quick_compilation")


@pytest.fixture(scope="module")
def img():
    rows, cols = np.mgrid[:70, :100]
    waves = [np.sin(cols / 9 + rows / 15), np.cos(cols / 4), np.sin(rows * cols / 200)]
    noise = (rows * 7919 + cols * 104729) % 21
    return np.rint(118 + 90 * np.stack(waves, -1) + noise[..., None]).astype(np.uint8)


@pytest.fixture(autouse=True)
def _quick(monkeypatch):
    monkeypatch.setattr(annealing, "ITERATIONS", (0, 4, 16, 40))


def quantised(model, img, qstep=4.0):
    """(scene, coder, symbols) of an image coded as one tile."""
    scene = Scene(img, analyse_image(model, img), Area(0, 0, *blocks_of(*img.shape[:2])))
    found = quantise_tile(model, scene.tile_y, qstep_code_of(qstep), coder_of)
    return scene, found.coder, found.symbols


def cost(scene, coder, symbols):
    return objective.cost(coder, symbols, scene.img, coder.reconstruct(symbols), scene.weight)


def loss_of_file(model, img, coded, qstep):
    error = np.square(decode_image(model, coded).astype(float) - img).mean(2).sum()
    return 8 * len(packing.pack(coded)) + rd_lambda(qstep) * error


@pytest.mark.parametrize("qstep", [1.0, 4.0, 16.0])
def test_the_loss_falls_at_every_qstep_and_further_with_more_iterations(tiny_2026, img, qstep):
    scene, coder, before = quantised(tiny_2026, img, qstep)
    found = [before, *(coder.optimise(scene, before, effort=effort) for effort in (1, 2))]
    costs = [cost(scene, coder, symbols) for symbols in found]
    assert costs[0] > costs[1] > costs[2]


def test_nothing_worse_is_ever_returned(tiny_2026, img, monkeypatch):
    scene, coder, before = quantised(tiny_2026, img)
    nearest = coder.quantise
    monkeypatch.setattr(coder, "quantise", lambda y: nearest(y + 40))
    assert coder.optimise(scene, before, effort=1) is before


def test_without_iterations_symbols_are_those_given(tiny_2026, img):
    scene, coder, before = quantised(tiny_2026, img)
    assert coder.optimise(scene, before, effort=0) is before


def test_scales_and_first_means_stay_as_z_gives_them(tiny_2026, img):
    scene, coder, before = quantised(tiny_2026, img)
    after = coder.optimise(scene, before, effort=1)
    assert after.y.dtype == before.y.dtype
    assert np.array_equal(before.index, after.index)
    assert np.array_equal(before.mu, after.mu)


def test_a_stream_decodes_to_the_symbols_chosen_which_are_the_same_each_time(tiny_2026, img):
    scene, coder, before = quantised(tiny_2026, img)
    chosen = coder.optimise(scene, before, effort=1)
    assert not np.array_equal(chosen.y, before.y)
    data = compress(tiny_2026, img, 4, effort=1)
    assert data == compress(tiny_2026, img, 4, effort=1)
    assert np.array_equal(decode_symbols(tiny_2026, data)[1].y, chosen.y)


def test_only_pixels_of_the_image_count(tiny_2026, img):
    """What pads it to whole blocks is no part of the distortion."""
    scene, coder, before = quantised(tiny_2026, img)
    padded = np.zeros((2 * BLOCK, 2 * BLOCK, 3), np.uint8)
    padded[: img.shape[0], : img.shape[1]] = img
    scenes = (scene, scene._replace(img=padded))
    symbols = [coder.optimise(s, before, effort=1) for s in scenes]
    costs = [cost(scene, coder, found) for found in symbols]
    assert costs[0] < costs[1]


def test_a_tile_is_optimised_for_the_image_that_its_neighbours_and_it_make(tiny_2026, img):
    code = qstep_code_of(4.0)
    found = [encode_image(tiny_2026, img, code, effort=e, tile_side=1) for e in (0, 2)]
    assert len(found[0].tiles) == 4
    losses = [loss_of_file(tiny_2026, img, coded, 4.0) for coded in found]
    assert losses[1] < losses[0]


def test_neighbours_are_seen_through_the_margin(tiny_2026, img):
    """With other latents around it, the same tile gets other symbols."""
    wide = np.tile(img, (1, 2, 1))[:, : 2 * BLOCK]
    whole = Scene(wide, analyse_image(tiny_2026, wide), Area(0, 0, 2, 1))
    assert whole.blocks.size == (2, 2)
    found = quantise_tile(tiny_2026, whole.tile_y, qstep_code_of(4.0), coder_of)
    alone = whole._replace(y=np.zeros_like(whole.y)).with_tile(whole.tile_y)
    scenes = (whole, whole._replace(y=alone))
    first, second = (found.coder.optimise(s, found.symbols, effort=1) for s in scenes)
    assert not np.array_equal(first.y, second.y)


@pytest.mark.slow
def test_the_shipped_model_gains_a_twentieth_of_the_rate_in_a_few_iterations(img):
    model = jvrc.load("jvrc2026")
    scene, coder, before = quantised(model, img)
    after = coder.optimise(scene, before, effort=2)
    bits = 8 * len(compress(model, img, 4))
    assert cost(scene, coder, before) - cost(scene, coder, after) > 0.05 * bits
