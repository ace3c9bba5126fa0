"""A child that dies is started again, and is given up only when it dies too often."""

from __future__ import annotations

import pytest

from foregate.services.restarts import MOST_DEATHS, WINDOW_SECONDS, GiveUp, Restart, decide


def test_the_first_restart_is_at_once() -> None:
    assert decide((100.0,), 100.0) == Restart(0.0)


def test_pauses_double_up_to_a_bound() -> None:
    deaths = tuple(float(n) for n in range(1, 10))
    pauses = [decide(deaths[:count], 10.0) for count in range(1, 10)]
    assert pauses == [Restart(s) for s in (0.0, 0.1, 0.2, 0.4, 0.8, 1.6, 2.0, 2.0, 2.0)]


@pytest.mark.parametrize("count", range(1, MOST_DEATHS))
def test_it_never_gives_up_below_ten_deaths_within_a_minute(count: int) -> None:
    assert isinstance(decide((50.0,) * count, 50.0), Restart)


def test_it_gives_up_at_ten_deaths_within_a_minute() -> None:
    assert decide((50.0,) * 10, 50.0) == GiveUp(10)


def test_deaths_of_more_than_a_minute_ago_are_forgotten() -> None:
    assert decide((1.0,) * 30 + (1.0 + WINDOW_SECONDS,), 1.0 + WINDOW_SECONDS) == Restart(0.0)


def test_a_child_that_dies_at_once_each_time_is_given_up() -> None:
    now, deaths = 0.0, (0.0,)
    while isinstance(verdict := decide(deaths, now), Restart):
        now += verdict.after_seconds
        deaths += (now,)
        assert now < WINDOW_SECONDS
    assert verdict == GiveUp(MOST_DEATHS)
