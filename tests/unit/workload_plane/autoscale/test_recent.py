"""Answers of the last minutes: late by the picker's or the engines' count, and none older."""

import math
from dataclasses import replace

import pytest

from skerry.fleet.answers import FIRST_TOKEN_SECONDS, INTERVAL_SECONDS, WINDOW_SECONDS
from workload_plane.autoscale.growth import EngineGrowth
from workload_plane.autoscale.recent import RecentWindow

IDLE = EngineGrowth(
    seconds=5.0,
    prompt_tokens=0.0,
    generated_tokens=0.0,
    first_tokens=0.0,
    first_token_seconds=0.0,
    token_intervals=0.0,
    token_interval_seconds=0.0,
)
HALF, ONE = FIRST_TOKEN_SECONDS.index(0.5), FIRST_TOKEN_SECONDS.index(1.0)


def first_bytes(place: int, count: float) -> list[float]:
    counts = [0.0] * (len(FIRST_TOKEN_SECONDS) + 1)
    counts[place] = count
    return counts


def test_an_answer_that_either_end_saw_late_was_late() -> None:
    window = RecentWindow()
    window.view(0.0, 0.0, 0.0)
    # All first bytes within half a second; of the first tokens half within it, all within one.
    engine = replace(IDLE, first_token_buckets=((0.5, 5.0), (1.0, 10.0), (math.inf, 10.0)))
    window.take(first_bytes(HALF, 20.0), [engine])
    told = window.view(5.0, 20.0, 10.0)
    assert told is not None
    assert sum(told.first_tokens[: HALF + 1]) == pytest.approx(10.0)
    assert sum(told.first_tokens) == pytest.approx(20.0)
    assert (told.judged, told.good) == (20.0, 10.0)


def test_where_one_end_alone_tells_it_is_believed() -> None:
    for bytes_told, engines in (
        (first_bytes(ONE, 4.0), []),
        ([], [replace(IDLE, first_token_buckets=((0.5, 0.0), (1.0, 4.0), (math.inf, 4.0)))]),
    ):
        window = RecentWindow()
        window.view(0.0, 0.0, 0.0)
        window.take(bytes_told, engines)
        told = window.view(5.0, 0.0, 0.0)
        assert told is not None
        assert told.first_tokens[ONE] == pytest.approx(4.0)


def test_intervals_are_counted_by_histogram_else_by_the_mean_of_a_look() -> None:
    window = RecentWindow()
    window.view(0.0, 0.0, 0.0)
    told = replace(IDLE, interval_buckets=((0.05, 6.0), (math.inf, 8.0)))
    mean = replace(IDLE, token_intervals=10.0, token_interval_seconds=0.4)
    window.take((), [told, mean])
    found = window.view(5.0, 0.0, 0.0)
    assert found is not None
    assert sum(found.intervals) == pytest.approx(18.0)
    assert found.intervals[INTERVAL_SECONDS.index(0.04)] >= 10.0
    assert found.intervals[-1] == pytest.approx(2.0)
    assert found.first_tokens == ()


def test_what_is_older_than_the_window_is_forgotten() -> None:
    window = RecentWindow()
    window.view(0.0, 0.0, 0.0)
    window.take(first_bytes(HALF, 7.0), [])
    at, judged = 0.0, 7.0
    while at < WINDOW_SECONDS - 5.0:
        at += 5.0
        told = window.view(at, judged, judged)
        assert told is not None, "it is of the window still"
        assert told.seconds == at
    for _ in range(6):
        at += 5.0
        told = window.view(at, judged, judged)
    assert told is None
