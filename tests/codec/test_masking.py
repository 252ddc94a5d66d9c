"""Claims about `masking`: errors weigh less in texture, and a search then moves bits out of it."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image, ImageDraw

import jvrc
from jvrc import cli
from jvrc.codec.effort import annealing, objective, rdoq
from jvrc.codec.image.encoder import quantise_image
from jvrc.codec.latent_coders.by_architecture import coder_of
from jvrc.codec.tiles import masking
from jvrc.codec.tiles.scene import Scene
from jvrc.codec.tiles.tile_coder import quantise_tile
from jvrc.codec.transforms.latents import analyse_image
from jvrc.coding.tile_grid import Area
from jvrc.io.images import write_image
from jvrc.qstep import qstep_code_of

SIDE = 128
COLOURS = (0.75, 1.75, 0.5)


@pytest.fixture(scope="module")
def halves():
    """Left a slope, right strong texture."""
    rows, cols = np.mgrid[:SIDE, :SIDE]
    slope = 60 + rows / 4 + cols / 4
    texture = 90 * np.sin(rows * cols / 40)
    img = np.where(cols < SIDE // 2, slope + 3 * np.sin(cols / 5), 128 + texture)
    return np.rint(np.stack([img, img + 8, img - 8], -1)).clip(0, 255).astype(np.uint8)


def errors(img, restored):
    """Mean squared errors of the left and of the right half."""
    square = np.square(restored.astype(float) - img)
    return square[:, : SIDE // 2].mean(), square[:, SIDE // 2 :].mean()


def test_weights_follow_the_closed_form():
    """Of rows of two values, 128 +- d, whose window holds 13 of one and 14 of the other."""
    for d in (0, 3, 40):
        img = np.full((60, 60, 3), 128 - d, np.uint8)
        img[::2] = 128 + d
        variance = (2 * d) ** 2 * (13 * 14) / 27**2
        inner = masking.weights(img)[13:-13, 13:-13]
        expected = np.broadcast_to((310 / (variance + 60)) ** 0.6 * np.array(COLOURS), inner.shape)
        np.testing.assert_allclose(inner, expected, rtol=1e-5)


@given(st.integers(0, 2**32 - 1), st.integers(1, 40), st.integers(1, 40))
def test_weights_are_positive_and_largest_where_the_image_is_flat(seed, height, width):
    img = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    flat = masking.weights(np.full_like(img, img[0, 0]))
    found = masking.weights(img)
    assert found.shape == (height, width, 3)
    assert found.dtype == np.float32
    assert np.all(found > 0)
    assert np.all(found <= flat * (1 + 1e-6))
    np.testing.assert_allclose(flat[0, 0], (310 / 60) ** 0.6 * np.array(COLOURS), rtol=1e-6)


def test_weights_know_nothing_of_brightness():
    img = np.random.default_rng(1).integers(0, 100, (50, 70, 3), np.uint8)
    np.testing.assert_allclose(masking.weights(img), masking.weights(img + 90), rtol=1e-3)


def test_a_search_without_masking_weighs_all_colours_alike():
    scene = Scene(np.zeros((64, 64, 3), np.uint8), np.zeros(()), Area(0, 0, 1, 1))
    assert np.all(scene.tile_weight == 1)
    assert np.mean(COLOURS) == 1  # so masking weighs an error that is alike in all of them as much


def test_the_weighted_loss_counts_each_sample_by_its_weight(tiny_2026, halves):
    found = quantise_image(tiny_2026, halves, qstep_code_of(4.0))
    coder, symbols = found.coder, found.symbols
    y_hat = coder.reconstruct(symbols)
    left = np.zeros((SIDE, SIDE, 3), np.float32)
    left[:, : SIDE // 2, :2] = 3  # and none of its blue
    costs = [
        objective.cost(coder, symbols, halves, y_hat, w) for w in (0 * left, left, 3 - left, left)
    ]
    whole = objective.cost(coder, symbols, halves, y_hat, np.full((1, 1, 1), 3, np.float32))
    assert costs[1] == costs[3]
    assert costs[1] + costs[2] - costs[0] == pytest.approx(whole)


@pytest.mark.parametrize("name", ["jvrc2026", pytest.param("mbt2018-mean", marks=pytest.mark.slow)])
def test_texture_pays_for_what_is_smooth(name, halves, monkeypatch):
    """At no larger J with its weights, errors fall on the left against those on the right."""
    monkeypatch.setattr(annealing, "ITERATIONS", (0, 12, 0, 0))
    monkeypatch.setattr(rdoq, "PASSES", (0, 12, 0, 0))
    model = jvrc.load(name)
    plain, masked = (
        jvrc.compress(model, halves, 4, effort=1, masking=m, patches=False) for m in (False, True)
    )
    smooth, texture = (
        np.divide(*pair)
        for pair in zip(
            errors(halves, jvrc.decompress(model, masked)),
            errors(halves, jvrc.decompress(model, plain)),
            strict=True,
        )
    )
    assert smooth < 0.95 * texture


def test_a_search_lowers_the_loss_that_it_is_given(tiny_2026, halves, monkeypatch):
    """With masking the weighted one falls further than by a search that knows no weights."""
    monkeypatch.setattr(annealing, "ITERATIONS", (0, 24, 0, 0))
    scene = Scene(halves, analyse_image(tiny_2026, halves), Area(0, 0, 2, 2))
    weighted = scene._replace(weight=masking.weights(halves))
    found = quantise_tile(tiny_2026, scene.tile_y, qstep_code_of(4.0), coder_of)
    symbols = [found.coder.optimise(s, found.symbols, effort=1) for s in (scene, weighted)]
    costs = [
        objective.cost(found.coder, s, halves, found.coder.reconstruct(s), weighted.weight)
        for s in (*symbols, found.symbols)
    ]
    assert costs[1] < costs[0]
    assert costs[1] < costs[2]


def test_masking_without_effort_is_refused(tiny_2026, halves):
    with pytest.raises(ValueError, match="masking needs an effort of 1 or more.*got effort=0"):
        jvrc.compress(tiny_2026, halves, 4, masking=True)


@pytest.mark.parametrize("masking", [1, 0, None, "yes"])
def test_masking_is_true_or_false(tiny_2026, halves, masking):
    with pytest.raises(ValueError, match="masking must be True or False; got"):
        jvrc.compress(tiny_2026, halves, 4, effort=1, masking=masking)


def test_the_command_masks(halves, tmp_path, monkeypatch, capsys):
    monkeypatch.setattr(annealing, "ITERATIONS", (0, 2, 0, 0))
    source, target = str(tmp_path / "a.png"), tmp_path / "a.jvrc"
    write_image(source, halves)
    command = ["compress", source, "--qstep", "4", "-o", str(target), "--masking"]
    assert cli.main(command) == 2
    assert capsys.readouterr().err.endswith("weighs what --effort minimises; add --effort 1\n")
    assert not target.exists()
    assert cli.main([*command, "--effort", "1"]) == 0
    model = jvrc.load("jvrc2026")
    expected = jvrc.compress(model, halves, 4, effort=1, masking=True)
    assert target.read_bytes() == expected


def test_masking_spares_blocks():
    img = np.random.default_rng(2).integers(0, 256, (100, 150, 3), np.uint8)
    scene = Scene(img, np.zeros((8, 12, 1), np.float32), Area(0, 1, 2, 3))
    spared = np.array([[True, False], [False, False]])
    weight = masking.masked(scene, spared).weight
    plain = masking.weights(img)
    assert np.all(plain < COLOURS)
    assert np.all(weight[:64, 64:128] == np.array(COLOURS, np.float32))
    weight[:64, 64:128] = plain[:64, 64:128]
    np.testing.assert_array_equal(weight, plain)


@pytest.mark.slow
@pytest.mark.parametrize("qstep", [8, 32])
def test_text_beside_a_photograph_is_not_blurred_until_it_has_to_be_patched(photo, qstep):
    """Blurred below the floor, it would cost several times the bytes of all else."""
    img = photo[:192, :256].copy()
    page = Image.new("RGB", (256, 24), "white")
    ImageDraw.Draw(page).text((4, 4), "A caption in black on white", "black")
    img[:24] = np.asarray(page)
    model = jvrc.load("jvrc2026")
    plain, masked = (jvrc.compress(model, img, qstep, effort=1, masking=m) for m in (False, True))
    assert len(masked) < 1.1 * len(plain)
