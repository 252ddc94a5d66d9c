"""The schedule by the clock reaches its end in time; validation is done while it is cheap."""

import math

import pytest

from jvrc.training.run.clock import LEAST, Clock, Cost, Schedule, StartUp


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


def trained(schedule, start, *, until=math.inf):
    """The fractions done at each second of a call, whose start takes so many seconds.

    until: seconds after the call's beginning at which it is killed.
    """
    now, done = schedule.begun + start, [schedule.fraction]
    clock = schedule.clock(now)
    end = min(schedule.pause, schedule.begun + until)
    while done[-1] < 1 and now < end:
        now += 1
        done.append(clock.advance(0.0, now))
    return done, now - schedule.begun


def steps_of(done):
    return [b - a for a, b in zip(done[:-1], done[1:], strict=True)]


def test_a_schedule_that_is_cut_leaves_time_for_the_start_of_the_next_call():
    """600 seconds, paused after 480; starts take 50: the rest is trained in 70, at one pace."""
    first, spent = trained(Schedule(600.0, 0.0, 0.0, 0.0, pause=480.0), 50)
    second, more = trained(Schedule(600.0, spent, first[-1], 1000.0, math.inf), 50)
    assert spent + more <= 600
    assert second[-1] == 1
    assert max(steps_of(second)) == pytest.approx(max(steps_of(first)), rel=1e-3)


def test_a_pause_after_which_a_call_could_hardly_train_is_the_end_of_the_schedule():
    done, spent = trained(Schedule(600.0, 0.0, 0.0, 0.0, pause=520.0), 50)
    assert (done[-1], spent) == (1, 520)
    assert max(steps_of(done)) == pytest.approx(1 / 470, rel=1e-3)


@pytest.mark.parametrize("killed", [200, 500, 590])
def test_a_call_that_resumes_a_killed_one_anneals_even_if_it_has_no_time_left(killed):
    first, spent = trained(Schedule(600.0, 0.0, 0.0, 0.0, math.inf), 50, until=killed)
    second, more = trained(Schedule(600.0, spent, first[-1], 1000.0, math.inf), 100)
    rest = 1 - first[-1]
    assert second[-1] == 1
    assert more <= max(600 - spent, 100 + LEAST * rest * 600 + 1)
    assert max(steps_of(second)) < max(0.01, 0.5 * rest)


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
