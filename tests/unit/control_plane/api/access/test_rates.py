"""Calls are counted by caller: whoever loops is refused, and nobody else."""

import pytest

from control_plane.api.access import rates
from control_plane.api.access.rates import CALLS_AT_ONCE, CALLS_PER_SECOND, CallRates


def test_many_calls_at_once_are_let_in_and_then_a_steady_rate() -> None:
    told = CallRates()
    waits = [told.wait_seconds("a", 0.0) for _ in range(CALLS_AT_ONCE + 3)]
    assert not any(waits[:CALLS_AT_ONCE])
    assert waits[CALLS_AT_ONCE:] == [1.0 / CALLS_PER_SECOND] * 3
    assert told.wait_seconds("b", 0.0) == 0.0
    second = [told.wait_seconds("a", 1.0) == 0.0 for _ in range(int(CALLS_PER_SECOND) + 50)]
    assert sum(second) == CALLS_PER_SECOND
    assert told.wait_seconds("a", 1_000.0) == 0.0


def test_who_comes_again_when_told_is_let_in() -> None:
    told, now = CallRates(), 0.0
    for _ in range(CALLS_AT_ONCE):
        told.wait_seconds("a", now)
    for _ in range(100):
        now += told.wait_seconds("a", now) + 1e-9
        assert told.wait_seconds("a", now) == 0.0


def test_a_clock_set_back_takes_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    told = CallRates()
    assert told.wait_seconds("a", 1_000.0) == 0.0
    assert told.wait_seconds("a", 0.0) == 0.0
    monkeypatch.setattr(rates, "CALLERS_MAX", 2)
    for caller in ("b", "c", "d"):
        assert told.wait_seconds(caller, 0.0) == 0.0
