"""The schedule by the clock reaches its end in time; validation is done while it is cheap."""

import pytest

from jvrc.training.clock import Clock, Cost, StartUp


def test_the_fraction_done_grows_with_time_and_ends_before_the_reserve():
    clock = Clock(end=110.0, fraction=0.0, last=10.0)
    done = [clock.advance(10.0, now) for now in (10, 19, 55, 91, 99.9, 100, 105)]
    assert done == pytest.approx([0, 0.1, 0.5, 0.9, 0.99889, 1, 1], abs=1e-4)


def test_after_a_break_the_schedule_goes_on_where_it_stood_and_still_ends_in_time():
    first = Clock(end=100.0, fraction=0.0, last=0.0)
    assert first.advance(0.0, 40.0) == pytest.approx(0.4)
    second = Clock(end=100.0, fraction=0.4, last=70.0)  # 30 seconds to start again
    assert second.advance(0.0, 70.0) == pytest.approx(0.4)
    assert second.advance(0.0, 85.0) == pytest.approx(0.7)
    assert second.advance(0.0, 100.0) == 1


def test_a_growing_reserve_ends_the_schedule_sooner_without_a_jump_back():
    clock = Clock(end=100.0, fraction=0.0, last=0.0)
    done = [clock.advance(reserve, now) for reserve, now in ((5, 50), (40, 55), (40, 60))]
    assert done == sorted(done)
    assert done[-1] == 1


def test_an_activity_is_affordable_once_and_then_at_a_hundredth_of_the_time():
    cost = Cost(begun=0.0)
    assert cost.affordable(1.0)
    with cost.counted():
        pass
    cost.total = cost.newest = 3.0
    assert not cost.affordable(599.0)
    assert cost.affordable(600.0)


def test_the_start_is_told_by_part():
    start = StartUp()
    start.lap("importing")
    start.lap("images")
    start.parts = {"importing": 1.0, "images": 2.5}
    assert str(start) == "first training step after 3.5 s: importing 1.0, images 2.5"
