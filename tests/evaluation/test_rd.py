"""Claims about the Bjøntegaard delta rate."""

import numpy as np
import pytest

from jvrc.evaluation.rd import bd_rate, between_rates, covered, rates_beside

CURVE = np.array([[0.1, 28.0], [0.25, 30.5], [0.5, 33.0], [1.0, 36.0], [2.0, 40.0]])


@pytest.mark.parametrize("factor", [0.5, 0.79, 1.0, 1.3])
def test_a_constant_factor_of_rate_is_the_bd_rate(factor):
    scaled = CURVE * [factor, 1]
    assert bd_rate(CURVE, scaled) == pytest.approx(100 * (factor - 1), abs=1e-9)


def test_two_points_have_a_closed_form():
    a = np.array([[1.0, 30.0], [4.0, 40.0]])  # log rate linear in PSNR
    b = np.array([[1.0, 30.0], [1.0 * np.e**2, 40.0]])
    mean = (np.log(1.0) + 2.0) / 2 - np.log(4.0) / 2
    assert bd_rate(a, b) == pytest.approx(100 * np.expm1(mean))


def test_only_the_common_range_counts():
    beyond = np.array([[0.05, 25.0], *CURVE, [9.0, 47.0]])
    assert bd_rate(CURVE, beyond) == pytest.approx(0.0, abs=1.5)  # PCHIP's slopes at the ends


def test_the_order_of_rows_does_not_matter():
    other = CURVE * [0.9, 1] + [0, 0.1]
    assert bd_rate(CURVE[::-1], other) == bd_rate(CURVE, other)


def test_curves_without_a_common_range_are_refused():
    with pytest.raises(ValueError, match="share a range"):
        bd_rate(CURVE, np.array([[1.0, 41.0], [2.0, 44.0]]))


@pytest.mark.parametrize("bad", [[[1.0, 30.0]], [[1.0, 30.0], [2.0, 29.0]], [1.0, 2.0, 3.0]])
def test_curves_that_are_none_are_refused(bad):
    with pytest.raises(ValueError, match="must"):
        bd_rate(CURVE, np.array(bad))


def test_between_rates_ends_at_the_rates_asked_for():
    part = between_rates(CURVE, 0.2, 1.5)
    assert part[0, 0] == pytest.approx(0.2)
    assert part[-1, 0] == pytest.approx(1.5)
    assert np.all(np.diff(part[:, 1]) > 0)


def test_what_a_bd_rate_covers_is_a_share_of_the_rates_asked_for():
    line = np.array([[0.1, 20.0], [0.8, 50.0]])  # ln of the rate linear in PSNR
    upper = np.array([[0.1, 30.0], [9.0, 70.0]])  # from 0.2 bpp of the line on
    assert covered(line, line, 0.1, 0.8) == pytest.approx(1)
    assert covered(upper, line, 0.1, 0.8) == pytest.approx(2 / 3)
    assert covered(upper, line, 0.1, 1.6) == pytest.approx(2 / 4)
    assert covered(upper, line, 0.1, 0.2) == pytest.approx(0)
    assert covered(upper, line, 0.4, 0.8) == pytest.approx(1)


def test_a_constant_factor_of_rate_shows_at_each_rate():
    beside = rates_beside(CURVE, CURVE * [1.25, 1])
    assert beside[[0, -1], 0] == pytest.approx(CURVE[[0, -1], 0])
    assert beside[:, 1] == pytest.approx(25.0)


def test_rates_beside_another_curve_are_those_at_equal_psnr():
    other = np.array([[0.2, 29.0], [0.3, 30.5], [1.5, 36.0]])
    beside = rates_beside(CURVE, other, count=8)  # 29, 30, … 36 dB
    assert beside[0, 1] == pytest.approx(100 * (0.2 / beside[0, 0] - 1))
    assert beside[-1] == pytest.approx([1.0, 50.0])
