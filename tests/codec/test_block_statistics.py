"""Claims about the statistics of blocks: which are simple, of images of any size."""

import numpy as np
import pytest

from jvrc.codec.tiles.block_statistics import blocks_in, statistics


def repeats_or_has_few(block):
    """What `Statistics.simple` says, of one block at a time."""
    colours = block.reshape(-1, 3)
    left, above = np.ones((2, *block.shape[:2]), bool)
    left[:, 1:] = np.any(block[:, 1:] != block[:, :-1], axis=2)
    above[1:] = np.any(block[1:] != block[:-1], axis=2)
    return np.mean(left & above) < 0.5 or len(np.unique(colours, axis=0)) <= 64


def pictures():
    rng = np.random.default_rng(0)
    noise = rng.integers(0, 256, (150, 200, 3), dtype=np.uint8)
    palette = rng.integers(0, 256, (70, 3), dtype=np.uint8)
    for count in (2, 63, 64, 65, 70):
        yield f"{count} colours", palette[rng.integers(0, count, (150, 200))]
    for side in (1, 2, 3):
        yield f"squares of {side}", noise.repeat(side, axis=0).repeat(side, axis=1)[:150, :200]
    mixed = noise.copy()
    mixed[40:110, 30:140] = 7
    yield "a flat part", mixed
    lonely = np.zeros((150, 200, 3), np.uint8)  # colours that a look at every fourth pixel misses
    lonely[::2, ::2] = rng.integers(0, 256, (75, 100, 3))
    lonely[::4, ::4] = 0
    yield "colours between", lonely


@pytest.mark.parametrize("size", [(150, 200), (128, 192), (65, 64), (61, 59), (1, 1), (3, 130)])
@pytest.mark.parametrize(("name", "picture"), list(pictures()))
def test_simple_blocks_repeat_or_have_few_colours(name, picture, size):
    img = np.ascontiguousarray(picture[: size[0], : size[1]])
    found = statistics(img).simple
    expected = [repeats_or_has_few(block) for block in blocks_in(img)]
    assert found.ravel().tolist() == expected


def test_blocks_of_photographs_are_not_simple(photo):
    assert not statistics(photo).simple.any()
