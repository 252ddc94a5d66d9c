"""Claims about scale adaptation: shifts that fit a model's tables to one image."""

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from jvrc.coding import scale_adaptation, tables
from jvrc.export import freezing
from jvrc.integer import hyper_synthesis

TABLES = freezing.gaussian_tables()
SCALES = hyper_synthesis.scale_table()


def bits(values, index, index_shift):
    """What a stream holds of y under the shifts, and of them; escapes as bit_costs has them."""
    table = scale_adaptation.apply(index, index_shift, len(TABLES.low)).ravel()
    symbols, escaped = tables.to_symbols(values.ravel(), table, TABLES)
    varints = np.sum(8 + 2 * np.log2(np.abs(escaped))) if len(escaped) else 0.0
    size = tables.ideal_bits(symbols, table, TABLES) + varints
    if not index_shift.any():
        return size
    zeros = np.zeros(len(index_shift), np.int32)
    return size + tables.ideal_bits(
        tables.to_symbols(index_shift, zeros, scale_adaptation.table())[0],
        zeros,
        scale_adaptation.table(),
    )


def bits_of_either_sign(values, index, index_shift):
    """The mean over both signs: tables differ a little in them, and a choice sees magnitudes."""
    return (bits(values, index, index_shift) + bits(-values, index, index_shift)) / 2


def drawn(factor, size=(40, 40), channels=6, seed=0):
    """(values, index): normal, of a scale `factor` times what the index says."""
    rng = np.random.default_rng(seed)
    index = rng.integers(16, 70, (*size, channels)).astype(np.uint8)
    return np.rint(rng.normal(0, factor * SCALES[index])).astype(np.int32), index


def test_the_table_is_one_that_the_coder_takes():
    freq = scale_adaptation.table().freq.astype(int)
    assert freq.sum() == 2**16
    np.testing.assert_array_equal(freq[:-1], freq[-2::-1])
    assert len(freq) == 2 * scale_adaptation.REACH + 2


@pytest.mark.parametrize(("factor", "expected"), [(0.5, -8), (1.0, 0), (2.0**0.25, 2), (2.0, 8)])
def test_scales_that_are_off_by_a_factor_are_set_right(factor, expected):
    np.testing.assert_array_equal(scale_adaptation.choose(*drawn(factor), TABLES), expected)


def test_each_channel_has_a_shift_of_its_own():
    factor = 2.0 ** (np.array([0, 0, 3, -4, 0, 8]) / 8)
    np.testing.assert_array_equal(
        scale_adaptation.choose(*drawn(factor), TABLES), [0, 0, 3, -4, 0, 8]
    )


def test_channels_that_hold_nothing_go_as_far_as_they_can():
    values, index = drawn(1.0)
    values[..., 2] = 0
    assert scale_adaptation.choose(values, index, TABLES)[2] == -scale_adaptation.REACH


def test_what_does_not_pay_is_left():
    """One position: less is to be had than 0.15 bits a channel."""
    values, index = drawn(1.0, (1, 1), 300)
    assert not scale_adaptation.choose(values, index, TABLES).any()


@settings(deadline=None, max_examples=50)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.integers(1, 8), st.integers(1, 20))
@example(138282, 1.546875, 4, 16)  # had another choice with escapes of 16 bits each
def test_no_choice_is_better_where_every_magnitude_is_counted_by_itself(
    seed, factor, side, channels
):
    values, index = drawn(factor, (side, side), channels, seed)
    assert_best(values.clip(-16, 16), index, seed, slack=1e-6)


@settings(deadline=None, max_examples=20)
@given(st.integers(0, 2**32 - 1), st.floats(0.3, 3), st.integers(1, 8))
def test_no_choice_is_much_better_where_large_magnitudes_share_a_class(seed, factor, channels):
    """A class may hold both values within a table and escapes: few of many."""
    assert_best(*drawn(factor, (40, 40), channels, seed), seed, slack=0.01)


def assert_best(values, index, seed, slack):
    found = scale_adaptation.choose(values, index, TABLES)
    took = bits_of_either_sign(values, index, found)
    none = bits_of_either_sign(values, index, np.zeros_like(found))
    assert took <= (1 + slack) * none + 1e-3
    rng = np.random.default_rng(seed)
    for _ in range(5):
        other = found.copy()
        other[rng.integers(len(found))] = rng.integers(
            -scale_adaptation.REACH, scale_adaptation.REACH + 1
        )
        assert took <= (1 + slack) * bits_of_either_sign(values, index, other) + 1e-3


def test_large_images_are_counted_in_parts():
    values, index = drawn(1.3, (60, 30))
    whole = scale_adaptation.choose(values, index, TABLES)
    parts = scale_adaptation.choose(values, index, TABLES, samples=700)
    assert whole.any()
    np.testing.assert_array_equal(parts, whole)


def test_tables_stay_within_those_there_are():
    index = np.array([[0, 89, 40]], np.uint8)
    for shift in (-(2**20), 2**20):
        expected = 0 if shift < 0 else 89
        np.testing.assert_array_equal(
            scale_adaptation.apply(index, np.full(3, shift), 90), [[expected] * 3]
        )
