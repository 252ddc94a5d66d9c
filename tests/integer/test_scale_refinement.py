"""Claims about the refinement of scales: exact integers, which depend on earlier steps alone."""

import jax
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from small import random_refinement

from jvrc.integer import scale_refinement
from jvrc.model import jvrc2026

M = 12
REFINEMENT = random_refinement(M)
refine = jax.jit(scale_refinement.refine)


def drawn(seed, height=8, width=12):
    """Sizes and scale indices, uint8 [h,w,M]."""
    rng = np.random.default_rng(seed)
    shape = height, width, M
    size = np.minimum(rng.geometric(0.4, shape) - 1, 15).astype(np.uint8)
    return size, rng.integers(0, 90, shape, np.uint8)


def in_numpy(step, size, index, code):
    """The same in int64, at all positions, by sums written out."""
    net = {k: v[step].astype(int) for k, v in REFINEMENT._asdict().items() if k != "score"}
    earlier = jvrc2026.step_numbers(M, *size.shape[:2]) < step
    score = np.where(earlier, REFINEMENT.score[index, size].astype(int), 0)
    rho = np.full((*size.shape[:2], 1), code)
    x = np.concatenate([score, index.astype(int), rho], -1)
    v = np.einsum("hwi,io->hwo", x, net["hidden_kernel"]) + net["hidden_bias"]
    v = np.clip(v + (1 << net["hidden_shift"] >> 1) >> net["hidden_shift"], 0, 255)
    total = np.einsum("hwi,io->hwo", np.concatenate([v, rho], -1), net["out_kernel"])
    padded = np.pad(score, ((2, 2), (2, 2), (0, 0)))
    windows = np.lib.stride_tricks.sliding_window_view(padded, (5, 5), (0, 1))
    total += np.einsum("hwoij,ijo->hwo", windows, net["around"]) + net["out_bias"]
    found = (total + (1 << net["out_shift"] >> 1) >> net["out_shift"]) + net["by_index"][index]
    return np.clip(index + (found + 8 >> 4), 0, 89)


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3), st.integers(-128, 640))
def test_it_is_what_integers_of_any_length_give(seed, step, code):
    size, index = drawn(seed)
    coarse = scale_refinement.coarse_code(code)
    found = refine(REFINEMENT, np.int32(step), size, index, np.int32(coarse))
    assert found.dtype == np.uint8
    np.testing.assert_array_equal(found, in_numpy(step, size, index, coarse))


def test_the_random_refinement_of_the_tests_moves_indices_up_and_down():
    size, index = drawn(0)
    for step in range(4):
        moved = in_numpy(step, size, index, 40) - index.astype(int)
        assert moved.min() < -2
        assert moved.max() > 2


@settings(max_examples=25, deadline=None)
@given(st.integers(0, 2**32 - 1), st.integers(0, 3))
def test_symbols_of_a_step_and_later_ones_do_not_matter(seed, step):
    size, index = drawn(seed)
    later = jvrc2026.step_numbers(M, *size.shape[:2]) >= step
    other = np.where(later, drawn(seed + 1)[0], size)
    a, b = (refine(REFINEMENT, np.int32(step), s, index, np.int32(9)) for s in (size, other))
    np.testing.assert_array_equal(a, b)


@pytest.mark.parametrize("step", [1, 2, 3])
def test_symbols_of_earlier_steps_do(step):
    size, index = drawn(0)
    earlier = jvrc2026.step_numbers(M, *size.shape[:2]) < step
    other = np.where(earlier, drawn(1)[0], size)
    a, b = (refine(REFINEMENT, np.int32(step), s, index, np.int32(9)) for s in (size, other))
    assert np.any(a != b)


def test_what_lies_outside_of_the_image_does_not_matter():
    size, index = drawn(3, 12, 16)
    inside = (64, 128, 64, 192)  # in pixels: rows 4 … 7, columns 4 … 11
    within = np.s_[4:8, 4:12]
    for step in range(4):
        padded = refine(REFINEMENT, np.int32(step), size, index, np.int32(30), inside)
        alone = refine(REFINEMENT, np.int32(step), size[within], index[within], np.int32(30))
        np.testing.assert_array_equal(padded[within], alone)


def test_each_latent_is_in_the_step_in_which_it_is_reconstructed():
    config = type("Config", (), {"M": M})
    numbers = jvrc2026.step_numbers(M, 4, 6)
    for step in range(4):
        np.testing.assert_array_equal(numbers == step, jvrc2026.step_mask(config, step, 4, 6))
    assert np.all(np.bincount(numbers.ravel()) == 4 * 6 * M // 4)
    # channel 0 in the order of FORMAT.md, section 7.2: (0,0), (1,1), (0,1), (1,0)
    np.testing.assert_array_equal(numbers[:2, :2, 0], [[0, 2], [3, 1]])


def changed(**fields):
    return REFINEMENT._replace(**fields)


@pytest.mark.parametrize(
    ("refinement", "message"),
    [
        (changed(score=REFINEMENT.score[:, :8]), "refinement/score must be int8"),
        (changed(around=REFINEMENT.around.astype(np.int32)), "refinement/around must be int16"),
        (changed(out_shift=np.full_like(REFINEMENT.out_shift, 25)), "shifts .* in 0 ... 24"),
        (changed(hidden_shift=np.full_like(REFINEMENT.hidden_shift, -1)), "shifts"),
        (changed(score=np.full_like(REFINEMENT.score, -128)), "scores .* within 127"),
        (changed(hidden_bias=REFINEMENT.hidden_bias + 2**24), "sums .* within 16777216"),
        (changed(out_kernel=np.full_like(REFINEMENT.out_kernel, 2**14)), "sums"),
        (changed(around=np.full_like(REFINEMENT.around, -(2**13))), "sums"),
    ],
)
def test_integers_whose_sums_float32_could_round_are_refused(refinement, message):
    scale_refinement.check(REFINEMENT, M)
    with pytest.raises(ValueError, match=message):
        scale_refinement.check(refinement, M)
