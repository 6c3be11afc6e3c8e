"""Answers of several planes are added up, and how long they took is read from the sum."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.fleet.answers import (
    FIRST_TOKEN_SECONDS,
    INTERVAL_SECONDS,
    RecentAnswers,
    added,
    first_token_quantiles,
    interval_quantiles,
)

NONE = RecentAnswers(seconds=60.0)
COUNTS = st.lists(st.floats(0.0, 1e6), min_size=11, max_size=11).map(tuple)


def firsts(**counts: float) -> tuple[float, ...]:
    """Counts by the place of their bound, `at3` for the fourth."""
    return tuple(counts.get(f"at{place}", 0.0) for place in range(len(FIRST_TOKEN_SECONDS) + 1))


def test_planes_add_up_over_the_longest_of_their_times() -> None:
    one = RecentAnswers(seconds=300.0, judged=10.0, good=9.0, first_tokens=firsts(at2=10.0))
    other = RecentAnswers(seconds=40.0, judged=30.0, good=21.0, first_tokens=firsts(at2=2.0))
    both = added([one, NONE, other])
    assert both == RecentAnswers(
        seconds=300.0, judged=40.0, good=30.0, first_tokens=firsts(at2=12.0)
    )
    assert both.attainment == 0.75


def test_where_nothing_was_counted_nothing_is_said() -> None:
    assert (NONE.attainment, first_token_quantiles(NONE), interval_quantiles(NONE)) == (
        None,
        None,
        None,
    )


def test_between_two_bounds_answers_are_taken_for_evenly_spread() -> None:
    told = first_token_quantiles(replace(NONE, first_tokens=firsts(at3=100.0)))
    assert told is not None
    found = (told.p50_seconds, told.p95_seconds, told.p99_seconds)
    assert found == pytest.approx((0.175, 0.2425, 0.2485))


def test_past_the_last_bound_it_is_that_long_or_longer() -> None:
    told = first_token_quantiles(replace(NONE, first_tokens=firsts(at0=90.0, at10=10.0)))
    assert told is not None
    assert (told.p95_seconds, told.p99_seconds) == (30.0, 30.0)


@given(COUNTS)
def test_quantiles_rise_and_stay_between_the_bounds(counts: tuple[float, ...]) -> None:
    told = first_token_quantiles(replace(NONE, first_tokens=counts))
    if told is not None:
        assert 0.0 <= told.p50_seconds <= told.p95_seconds <= told.p99_seconds
        assert told.p99_seconds <= FIRST_TOKEN_SECONDS[-1]


@pytest.mark.parametrize(
    "wrong",
    [{"judged": -1.0}, {"seconds": float("nan")}, {"first_tokens": (1.0,)}, {"intervals": (1.0,)}],
)
def test_what_nobody_can_have_counted_is_refused(wrong: dict[str, object]) -> None:
    with pytest.raises(ValueError, match=r"count"):
        RecentAnswers(**{"seconds": 1.0, **wrong})  # type: ignore[arg-type]


def test_the_bounds_are_those_of_the_wire() -> None:
    assert (len(FIRST_TOKEN_SECONDS), len(INTERVAL_SECONDS)) == (10, 16)
