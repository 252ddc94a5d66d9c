"""Claims about tiles: they cover an image once, and a transform in tiles is that of the whole."""

import math

import jax
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.codec.transforms import tiling
from jvrc.codec.transforms.latents import HYPER_MARGIN, analysis_margin, synthesis_margin
from jvrc.codec.transforms.tiling import (
    BLOCK,
    SHAPES,
    covering,
    map_tiles,
    shape_of,
    spans,
    tile_count,
)
from jvrc.coding.container import MAX_TILE_SIDE
from jvrc.coding.tile_grid import tile_grid
from jvrc.model import architectures, transforms

MARGINS = (1, 2)
SIDES = sorted({side for shape in SHAPES for side in shape if side > 2 * max(MARGINS)})


@given(st.integers(1, 200), st.sampled_from(SIDES), st.sampled_from(MARGINS))
def test_spans_keep_every_block_once_with_its_margins(blocks, size, margin):
    found = spans(blocks, size, margin)
    kept = [block for span in found for block in range(span.low, span.high)]
    assert kept == list(range(blocks))
    for span in found:
        assert span.size == size
        assert span.low < span.high
        assert max(0, span.low - margin) >= span.start
        assert min(blocks, span.high + margin) <= span.start + span.size


@given(st.integers(1, 200), st.integers(1, 200), st.sampled_from((0, *MARGINS)))
def test_no_other_shape_computes_fewer_blocks(height, width, margin):
    shape = shape_of((height, width), margin)
    assert shape in SHAPES
    computed = math.prod(shape) * tile_count((height, width), margin)
    for rows, columns in SHAPES:
        if min(rows, columns) <= 2 * margin:
            continue
        tiles = len(spans(height, rows, margin)) * len(spans(width, columns, margin))
        assert computed <= tiles * rows * columns


@given(st.integers(1, 18), st.integers(1, 18))
def test_covering_finds_the_smallest_shape(height, width):
    rows, columns = covering((height, width))
    assert rows >= height
    assert columns >= width
    assert (rows, columns) in SHAPES
    assert not any(r >= height and c >= width and r * c < rows * columns for r, c in SHAPES)


def test_usual_sizes_compute_few_blocks_in_vain():
    """Of tiles with a margin of one block, as g_a and g_s have."""
    exact = dict.fromkeys([(256, 256), (512, 512), (512, 768), (768, 1024), (1024, 1024)], 1)
    sizes = {(480, 640): 1.2, (720, 1280): 1.1, (1080, 1920): 1.06, (3000, 4000): 1.06}
    for (height, width), most in (exact | sizes | {(2160, 3840): 1.2}).items():
        grid = tile_grid(height, width, MAX_TILE_SIDE)
        windows = [grid.area(n).grown(1, grid.blocks).size for n in range(grid.count)]
        computed = sum(math.prod(shape_of(w, 1)) * tile_count(w, 1) for w in windows)
        assert computed <= most * sum(math.prod(w) for w in windows), (height, width)


@given(st.integers(1, 23), st.integers(1, 23), st.sampled_from(MARGINS))
def test_a_blur_in_tiles_is_the_blur_of_the_whole(height, width, margin):
    reach = 4 * margin  # with four samples a block: just as far as the margin
    x = np.random.default_rng(height).integers(0, 9, (4 * height, 4 * width, 2))

    def blur(tile, valid):
        top, bottom, left, right = valid * 4 // BLOCK
        inside = np.zeros_like(tile)
        inside[top:bottom, left:right] = tile[top:bottom, left:right]
        sums = np.cumsum(np.pad(inside, [(reach + 1, reach), (0, 0), (0, 0)]), axis=0)
        sums = sums[2 * reach + 1 :] - sums[: -2 * reach - 1]
        sums = np.cumsum(np.pad(sums, [(0, 0), (reach + 1, reach), (0, 0)]), axis=1)
        return sums[:, 2 * reach + 1 :] - sums[:, : -2 * reach - 1], tile

    valid = np.array([0, 4 * height, 0, 4 * width]) * BLOCK // 4
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tiling, "SHAPES", ((7, 5),))
        blurred, same = map_tiles(blur, (x,), (height, width), margin)
    np.testing.assert_array_equal(blurred, blur(x, valid)[0])
    np.testing.assert_array_equal(same, x)


BLOCKS = (6, 7)
# Input samples a block, margin: as jvrc.codec uses them.
TRANSFORMS = {
    "g_a": (64, 1),
    "h_a": (4, HYPER_MARGIN),
    "h_s": (1, HYPER_MARGIN),
    "g_s": (4, 1),
}
QSTEP = np.ones(1, np.float32)


def transform_and_input(name, model):
    channels = {"g_a": 3, "h_a": model.config.M, "h_s": model.config.N, "g_s": model.config.M}
    unit, _ = TRANSFORMS[name]
    shape = (BLOCKS[0] * unit, BLOCKS[1] * unit, channels[name])
    x = np.random.default_rng(0).normal(0.5, 1, shape).astype(np.float32)

    @jax.jit
    def run(tile, valid):
        config, params = model.config, model.params
        if name == "g_a":
            out = architectures.g_a(config, params, tile[None], tuple(valid))
        elif name == "g_s":
            out = architectures.g_s(config, params, tile[None], QSTEP, tuple(valid))
        else:
            out = getattr(transforms, name)(config, params[name], tile[None], tuple(valid))
        return jax.tree.map(lambda a: a[0], out if isinstance(out, tuple) else (out,))

    return run, x


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_in_small_tiles_equal_the_whole(monkeypatch, tiny, name):
    run, x = transform_and_input(name, tiny)
    _, margin = TRANSFORMS[name]
    whole = run(x, np.array([0, BLOCKS[0] * BLOCK, 0, BLOCKS[1] * BLOCK], np.int32))
    monkeypatch.setattr(tiling, "SHAPES", ((5, 5),))
    assert tile_count(BLOCKS, margin) > 1
    for tiled, expected in zip(map_tiles(run, (x,), BLOCKS, margin), whole, strict=True):
        expected = np.asarray(expected)
        np.testing.assert_allclose(tiled, expected, atol=1e-5 * np.abs(expected).max())


@pytest.mark.parametrize("name", TRANSFORMS)
def test_transforms_look_exactly_as_far_as_the_margins_assume(tiny, name):
    run, x = transform_and_input(name, tiny)
    unit, margin = TRANSFORMS[name]
    small = tiny.config.architecture == "jvrc2026"  # one block in g_a, two in g_s
    # in samples of the input: the farthest that an output looks
    reach = {"g_a": 24 if small else 30, "h_a": 7, "h_s": 2, "g_s": 1 if small else 2}[name]
    assert reach <= margin * unit
    if name == "g_a":
        assert margin == analysis_margin(tiny.config)
        assert reach == tiny.config.analysis_reach
    if name == "g_s":
        assert margin == synthesis_margin(tiny.config)
        assert reach * 16 <= tiny.config.synthesis_reach + 1
    valid = np.array([0, BLOCKS[0] * BLOCK, 0, BLOCKS[1] * BLOCK], np.int32)

    def one_block(around):
        """The block [3, 3] of the output when all but so much around it in the input changes."""
        near = np.s_[max(0, 3 * unit - around) : 4 * unit + around]
        changed = 1 - x
        changed[near, near] = x[near, near]
        out = run(changed, valid)
        at = [np.s_[3 * a.shape[0] // BLOCKS[0] : 4 * a.shape[0] // BLOCKS[0]] for a in out]
        return np.concatenate([np.ravel(a[s, s]) for a, s in zip(out, at, strict=True)])

    whole = one_block(BLOCKS[1] * unit)
    np.testing.assert_allclose(one_block(reach), whole, atol=1e-5 * np.abs(whole).max())
    assert not np.allclose(one_block(reach - 1), whole, atol=1e-5 * np.abs(whole).max())
