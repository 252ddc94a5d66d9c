"""Tiles that are no photographs are drawn alike everywhere, and are what they are called."""

import numpy as np
import pytest

from jvrc.training.data import unnatural

SIZE = 96


def rng():
    return np.random.default_rng(3)


@pytest.fixture(scope="module")
def photos():
    """Two smooth images, uint8 [120,130,3]."""
    coarse = np.random.default_rng(0).uniform(0, 255, (2, 12, 13, 3))
    return [np.uint8(c.repeat(10, 0).repeat(10, 1)) for c in coarse]


def test_every_kind_in_turn_is_a_function_of_the_seed(photos):
    count = 2 * len(unnatural.KINDS)
    made = unnatural.tiles(photos, count, 7, size=SIZE)
    assert made.shape == (count, SIZE, SIZE, 3)
    assert made.dtype == np.uint8
    np.testing.assert_array_equal(made[:3], unnatural.tiles(photos, 3, 7, size=SIZE))
    assert np.any(made[:3] != unnatural.tiles(photos, 3, 8, size=SIZE))
    assert all(len(np.unique(a)) > 1 for a in made)


@pytest.mark.parametrize("kind", dict.fromkeys(unnatural.KINDS), ids=lambda kind: kind.__name__)
def test_a_tile_has_the_size_of_its_photograph(photos, kind):
    made = kind(rng(), photos[0][:64, :80])
    assert made.shape == (64, 80, 3)
    assert made.dtype == np.uint8


def test_patterns_have_two_colours_and_dithers_few(photos):
    def colours(img):
        return len(np.unique(img.reshape(-1, 3), axis=0))

    assert colours(unnatural.pattern(rng(), photos[0])) == 2
    assert colours(unnatural.dither(rng(), photos[0])) <= 64 < colours(photos[0])


def test_enlarged_pixels_are_squares(photos):
    made = unnatural.enlarged(rng(), photos[0]).astype(int)
    assert np.mean(np.any(np.diff(made, axis=0), axis=(1, 2))) <= 0.5
