"""Claims about the search of rate control, on curves instead of images."""

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from jvrc.codec.rate_control.search import Closeness, corrected, first_that_fits

CLOSE = Closeness(margin=0.001, enough=0.006, late=0.01)


@st.composite
def curves(draw):
    """(measured excess, estimated excess): falling, but for noise."""
    n = draw(st.integers(1, 200))
    rng = np.random.default_rng(draw(st.integers(0, 2**16)))
    fall = np.cumsum(rng.exponential(0.005, n))[::-1]
    excess = fall - draw(st.floats(-0.1, 1.1)) * fall[0]
    noise = draw(st.sampled_from([0, 1e-3, 0.05])) * rng.normal(size=n)
    wrong = draw(st.floats(0.3, 3)) * excess + draw(st.floats(-1, 1))
    return excess + noise, wrong


def run(excess, estimated, closeness=CLOSE):
    measured = []

    def measure(place):
        assert place not in measured
        measured.append(place)
        return float(excess[place]), place.to_bytes(2)

    return first_that_fits(measure, estimated, closeness), measured


@settings(max_examples=200, deadline=None)
@given(curves())
def test_what_is_found_fits_and_is_close_or_beside_a_place_that_does_not(curve):
    excess, estimated = curve
    found, measured = run(excess, estimated)
    place = int.from_bytes(found.result)
    assert found.excess == excess[place]
    if found.excess > 0:  # nothing fits: the last place has been tried
        assert place == len(excess) - 1
    elif found.excess < -CLOSE.late and place:
        assert excess[place - 1] > 0
        assert place - 1 in measured


@settings(max_examples=200, deadline=None)
@given(curves())
def test_however_wrong_estimates_are_few_places_are_measured(curve):
    excess, estimated = curve
    assert len(run(excess, estimated)[1]) <= 5 + 2 * np.ceil(np.log2(len(excess) + 1))


def test_right_estimates_take_one_measurement():
    excess = np.linspace(2, -2, 769)
    assert len(run(excess, excess)[1]) == 1


def test_estimates_that_are_off_by_a_constant_take_two():
    excess = np.linspace(2, -2, 769)
    assert len(run(excess, excess + 0.2)[1]) == 2


def test_corrected_estimates_agree_with_what_was_measured():
    estimated = np.linspace(1, -1, 100)
    trials = {10: 0.9, 40: 0.1, 70: -0.7}
    found = corrected(estimated, trials)
    assert [found[place] for place in trials] == pytest.approx(list(trials.values()))
    np.testing.assert_array_equal(corrected(estimated, {}), estimated)
