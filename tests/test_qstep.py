"""Claims about the grid of quantisation steps."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from jvrc.qstep import (
    CODES_PER_OCTAVE,
    QSTEP_CODE_MAX,
    QSTEP_CODE_MIN,
    QSTEP_MAX,
    QSTEP_MIN,
    qstep_code_of,
    qstep_of,
)


def test_ends_of_the_range_are_codes():
    assert (qstep_code_of(QSTEP_MIN), qstep_code_of(QSTEP_MAX)) == (QSTEP_CODE_MIN, QSTEP_CODE_MAX)
    assert (qstep_of(QSTEP_CODE_MIN), qstep_of(QSTEP_CODE_MAX)) == (QSTEP_MIN, QSTEP_MAX)
    assert qstep_code_of(1) == 0


def test_every_code_survives_its_step():
    assert all(
        qstep_code_of(qstep_of(code)) == code for code in range(QSTEP_CODE_MIN, QSTEP_CODE_MAX + 1)
    )


@given(st.floats(QSTEP_MIN, QSTEP_MAX))
def test_snapping_moves_a_step_by_half_a_code_at_most(qstep):
    octaves = abs(math.log2(qstep_of(qstep_code_of(qstep))) - math.log2(qstep))
    assert octaves <= 0.5 / CODES_PER_OCTAVE + 1e-12


def test_numpy_scalars_are_steps():
    assert qstep_code_of(np.float32(2)) == qstep_code_of(np.int64(2)) == qstep_code_of(2.0) == 128


@pytest.mark.parametrize(
    "qstep", [math.nan, 0, -1, math.inf, 0.49, 32.1, None, "2", [1.0, 2.0], True, 10**400]
)
def test_no_step_says_rule_value_and_remedy(qstep):
    with pytest.raises(ValueError, match="qstep must be a number in 0.5 ... 32, got .*; a smaller"):
        qstep_code_of(qstep)


@pytest.mark.parametrize("code", [QSTEP_CODE_MIN - 1, QSTEP_CODE_MAX + 1])
def test_code_outside_the_grid_is_refused(code):
    with pytest.raises(ValueError, match="step code must be in -128 ... 640"):
        qstep_of(code)
