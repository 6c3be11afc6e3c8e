"""The published rule of the five factors, held to what is published of it."""

import pytest

from skerry.fleet.autoscaling.concurrency import ConcurrencyRule
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy

RULE = ScalingFactors(
    max_replicas=100,
    concurrency_target=10.0,
    target_utilization=0.7,
    strategy=Strategy.CONCURRENCY,
)


def test_twenty_five_requests_of_ten_at_seventy_percent_need_four_replicas() -> None:
    rule = ConcurrencyRule()
    assert rule.wanted(25.0, 0.0, RULE) == 4
    assert rule.next(1, 4, 0.0, RULE) == 4


def test_it_decides_once_a_window() -> None:
    rule = ConcurrencyRule()
    assert rule.wanted(7.0, 0.0, RULE) == 1
    assert rule.wanted(70.0, 59.0, RULE) == 1
    assert rule.wanted(70.0, 60.0, RULE) == 10


def test_half_the_surplus_goes_after_each_delay_until_none_is_left() -> None:
    rule, running, seen = ConcurrencyRule(), 16, []
    for minute in range(15 * 6):
        running = rule.next(running, 2, minute * 60.0, RULE)
        seen.append(running)
    assert [seen[0], seen[14]] == [16, 16]
    assert list(dict.fromkeys(seen)) == [16, 9, 5, 3, 2]
    assert [seen.index(count) for count in (9, 5, 3, 2)] == [15, 30, 45, 60]


def test_load_that_comes_back_begins_the_delay_anew() -> None:
    rule = ConcurrencyRule()
    assert rule.next(8, 2, 0.0, RULE) == 8
    assert rule.next(8, 8, 600.0, RULE) == 8
    assert rule.next(8, 2, 900.0, RULE) == 8
    assert rule.next(8, 2, 1_800.0, RULE) == 5


@pytest.mark.parametrize(("rate", "left"), [(0.01, 15), (0.2, 13), (0.5, 9)])
def test_the_scale_down_rate_is_the_largest_part_of_the_surplus(rate: float, left: int) -> None:
    factors = ScalingFactors(
        max_replicas=100, strategy=Strategy.CONCURRENCY, max_scale_down_rate=rate
    )
    rule = ConcurrencyRule()
    rule.next(16, 2, 0.0, factors)
    assert rule.next(16, 2, 900.0, factors) == left


def test_the_defaults_are_those_published() -> None:
    assert (RULE.window_seconds, RULE.delay_seconds, RULE.down_rate) == (60.0, 900.0, 0.5)
