"""A replica that answers with errors at once is always free, and must not draw the requests."""

from collections import Counter

import pytest

from tests.unit.workload_plane.picker.test_picker import NOW, a_picker, ends, pick
from workload_plane.gateway.outliers import (
    EJECTION_SECONDS,
    ERRORS_IN_A_ROW,
    GATEWAY_ERRORS_IN_A_ROW,
)
from workload_plane.picker.deployments import Seen
from workload_plane.picker.facts import Choice, Facts
from workload_plane.picker.picker import Picker

WELL = Seen(True, 0)


def fails(picker: Picker, choice: Choice, now: float = NOW, status: int = 500) -> None:
    ends(picker, choice, now, status=status, first_byte_ms=1, duration_ms=1)


def broken_runs(picker: Picker, status: int, rounds: int, now: float = NOW) -> int:
    """Let `a` answer at once with the status, others never; return what `a` got."""
    got = 0
    for _ in range(rounds):
        choice = pick(picker, now=now)
        if choice.host == "a":
            got += 1
            fails(picker, choice, now, status)
    return got


@pytest.mark.parametrize(
    ("status", "bound"), [(500, ERRORS_IN_A_ROW), (502, GATEWAY_ERRORS_IN_A_ROW), (504, 10)]
)
def test_a_replica_whose_every_answer_is_an_error_gets_a_handful(status: int, bound: int) -> None:
    assert broken_runs(a_picker("a", "b", "c"), status, 300) == bound


@pytest.mark.parametrize("status", [429, 503])
def test_a_refusal_is_no_error(status: int) -> None:
    assert broken_runs(a_picker("a", "b", "c"), status, 60) > ERRORS_IN_A_ROW


def test_an_answer_clears_the_run() -> None:
    picker = a_picker("a", "b", "c")
    for _ in range(5):
        assert broken_runs(picker, 500, ERRORS_IN_A_ROW - 1) > ERRORS_IN_A_ROW - 4
        choice = pick(picker)
        while choice.host != "a":
            choice = pick(picker)
        ends(picker, choice)


def test_each_time_it_is_out_for_longer() -> None:
    picker, now = a_picker("a", "b", "c"), NOW
    for seconds in (EJECTION_SECONDS, 2 * EJECTION_SECONDS):
        assert broken_runs(picker, 500, 60, now) == ERRORS_IN_A_ROW
        assert broken_runs(picker, 500, 20, now + seconds - 0.1) == 0
        now += seconds + 0.1


def test_no_more_than_the_share_is_out_and_never_the_last() -> None:
    picker = a_picker("a", "b", "c")
    counts: Counter[str] = Counter()
    for _ in range(300):
        choice = pick(picker)
        counts[choice.host] += 1
        fails(picker, choice)
    assert min(counts.values()) == ERRORS_IN_A_ROW, "one of three is out"
    assert sum(count > ERRORS_IN_A_ROW for count in counts.values()) == 2
    assert broken_runs(a_picker("a"), 500, 60) == 60
    assert broken_runs(a_picker("a", "b"), 500, 60) > 50, "one of two is more than a third"


def test_the_waiting_room_is_a_host_too_as_envoy_counts() -> None:
    picker = a_picker("a", "b", queue_requests_max=9, hold_seconds=9.0)
    assert broken_runs(picker, 500, 60) == ERRORS_IN_A_ROW


def test_the_only_other_one_being_ill_it_stays() -> None:
    picker = a_picker("a", "b", "c")
    picker.look({"d": {"a": WELL, "b": Seen(False, 0), "c": Seen(False, 0)}}, NOW)
    assert broken_runs(picker, 500, 60) == 60


def test_once_the_others_are_gone_it_is_asked_again() -> None:
    picker = a_picker("a", "b", "c")
    assert broken_runs(picker, 500, 60) == ERRORS_IN_A_ROW
    picker.look({"d": {"a": WELL, "b": Seen(False, 0), "c": Seen(False, 0)}}, NOW)
    assert pick(picker).host == "a"


def test_what_the_gateway_put_out_itself_gets_nothing() -> None:
    picker = a_picker("a", "b")
    picker.look({"d": {"a": Seen(True, 0, ejected=True), "b": WELL}}, NOW)
    assert {pick(picker).host for _ in range(5)} == {"b"}
    picker.look({"d": {"a": Seen(True, 0, ejected=True), "b": Seen(False, 0)}}, NOW)
    assert pick(picker).host == "a", "better than nobody"


def test_a_call_that_fails_inside_an_engine_is_an_error_and_one_that_is_full_is_none() -> None:
    for status, got in ((13, ERRORS_IN_A_ROW), (8, 60)):
        picker = a_picker("a", "b", "c")
        count = 0
        for _ in range(60):
            choice = pick(picker, Facts("d", is_grpc=True))
            if choice.host == "a":
                count += 1
                ends(picker, choice, grpc_status=status, first_byte_ms=1, duration_ms=1)
        assert count == got or (status == 8 and count > ERRORS_IN_A_ROW)
