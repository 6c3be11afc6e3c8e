"""Targets count for two periods of the global loop, and for nothing before its first round."""

import pytest

from control_plane.link.freshness import LATE_SECONDS, PERIODS_MAX, are_current
from control_plane.reconcile.loop import REST_SECONDS_MAX


@pytest.mark.parametrize("period_seconds", [1.0, 30.0, 60.0])
def test_targets_are_current_for_two_periods_and_what_a_turn_may_be_late(
    period_seconds: float,
) -> None:
    last = 100.0 + PERIODS_MAX * period_seconds + LATE_SECONDS
    assert are_current(100.0, 100.0, period_seconds)
    assert are_current(100.0, last, period_seconds)
    assert not are_current(100.0, last + 0.001, period_seconds)


def test_before_the_first_round_of_a_term_no_target_is_current() -> None:
    assert not are_current(None, 0.0, 30.0)


def test_a_fleet_at_rest_lets_no_target_grow_old() -> None:
    assert REST_SECONDS_MAX <= LATE_SECONDS
