"""A drill's report: its figures, and which promises they break."""

import json
from dataclasses import replace

import pytest

from skerry.cli.drills.catalogue import Target, drill_named
from skerry.cli.drills.report import DrillReport, Measured, make_report
from skerry.cli.drills.samples import Sample, away_seconds
from skerry.client.gateways import RequestKind, Result
from skerry.client.load_ledger import RequestRecord
from skerry.fleet.observation import PlaneState

CONNECTED, SUSPECT, LOST = PlaneState.CONNECTED, PlaneState.SUSPECT, PlaneState.LOST
BEFORE = {("demo", "a--cpu"): 1, ("demo", "b--cpu"): 2}
MOVED = {("demo", "a--cpu"): 3}
ENGINES = {"a/a-0": 10, "b/b-0": 11, "b/b-1": 12}


def a_sample(at: float, **fields: object) -> Sample:
    base = Sample(
        at=at,
        answered=True,
        states={"a": CONNECTED, "b": CONNECTED},
        placed=BEFORE,
        ready=BEFORE,
        cost_per_hour=1.0,
        linked=frozenset(("a", "b")),
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def a_record(at: float, result: Result = Result.OK, *, plane: str = "b") -> RequestRecord:
    return RequestRecord(
        number=1,
        kind=RequestKind.CHAT_STREAM,
        started_at=at,
        first_token_at=None if result is Result.FAILED else at + 0.25,
        ended_at=at + 0.5,
        gateway=plane,
        preferred=plane,
        attempts=1,
        result=result,
        tokens=1,
        plane=plane,
    )


def measured(drill: str, **fields: object) -> Measured:
    """Return a drill on plane `b` from 10.0 to 30.0 that nobody noticed."""
    base = Measured(
        drill=drill_named(drill),
        target=Target(planes=("b",)),
        began="2026-01-01T00:00:00+00:00",
        fault_at=10.0,
        put_back_at=30.0,
        restored_at=32.0,
        before=a_sample(0.0),
        samples=tuple(a_sample(float(at)) for at in range(33)),
        records=(a_record(5.0), a_record(10.5), a_record(20.0)),
        engines_before=ENGINES,
        engines_after=ENGINES,
    )
    return replace(base, **fields)  # type: ignore[arg-type]


def broken(report: DrillReport) -> tuple[str, ...]:
    return tuple(check.promise for check in report.promises if not check.held)


def test_a_partition_that_is_noticed_and_moves_nothing_holds_every_promise() -> None:
    silent = {"a": CONNECTED, "b": SUSPECT}
    samples = [
        a_sample(float(at), states=silent if 13 <= at < 31 else {"a": CONNECTED, "b": CONNECTED})
        for at in range(33)
    ]
    report = make_report(measured("plane-partitioned", samples=samples))
    assert broken(report) == ()
    assert report.held
    assert (report.detected_seconds, report.moves, report.restored_seconds) == (3.0, 0, 2.0)
    assert report.shifted_seconds == 0.75


def test_a_partition_that_is_noticed_late_or_moves_replicas_breaks_a_promise() -> None:
    late = [
        a_sample(float(at), states={"a": CONNECTED, "b": SUSPECT if at >= 19 else CONNECTED})
        for at in range(33)
    ]
    assert broken(make_report(measured("plane-partitioned", samples=late))) == (
        "seconds to notice",
    )
    moved = [replace(one, placed=MOVED) if one.at == 21 else one for one in late]
    report = make_report(measured("plane-partitioned", samples=moved))
    assert "replicas moved" in broken(report)
    assert report.moves == 2


def test_a_killed_plane_is_noticed_decided_and_replaced() -> None:
    samples = [a_sample(float(at)) for at in range(13)]
    samples += [a_sample(float(at), states={"a": CONNECTED, "b": LOST}) for at in range(13, 20)]
    samples += [a_sample(20.0, placed=MOVED, cost_per_hour=1.5)]
    samples += [a_sample(24.0, placed=MOVED, ready=MOVED, cost_per_hour=1.5)]
    after = {"a/a-0": 10, "a/a-1": 20, "b/b-2": 21}
    found = measured("plane-killed", samples=samples, engines_after=after)
    report = make_report(found)
    assert broken(report) == ()
    assert (report.detected_seconds, report.decided_seconds) == (3.0, 10.0)
    assert report.replaced_seconds == 14.0
    assert (report.cost_per_hour_before, report.cost_per_hour_meanwhile) == (1.0, 1.5)


def test_a_plane_that_nobody_replaces_breaks_the_promise() -> None:
    report = make_report(measured("plane-killed"))
    assert broken(report) == ("seconds to notice", "seconds to the decision")


@pytest.mark.parametrize(
    ("plane", "promise"), [("b", ()), ("a", ("streams that break elsewhere",))]
)
def test_only_streams_that_ran_where_the_fault_is_may_break(
    plane: str, promise: tuple[str, ...]
) -> None:
    records = (a_record(9.9, Result.INTERRUPTED, plane=plane), a_record(10.5))
    back = (*measured("gateway-killed").samples, a_sample(14.0, is_target_back=True))
    report = make_report(measured("gateway-killed", records=records, samples=back))
    assert broken(report) == promise


def test_a_failed_request_breaks_every_drill() -> None:
    records = (a_record(10.5, Result.FAILED), a_record(11.0))
    report = make_report(measured("control-plane-off", records=records))
    assert broken(report) == ("requests that fail before an answer begins",)
    assert not report.held


def test_an_engine_that_was_started_again_for_nothing_breaks_the_promise() -> None:
    after = {**ENGINES, "a/a-0": 99}
    report = make_report(measured("control-plane-off", engines_after=after))
    assert broken(report) == ("engines started again",)


def test_the_engine_that_was_killed_may_be_another_one() -> None:
    target = Target(planes=("b",), replica="b-0")
    after = {**ENGINES, "b/b-0": 99}
    samples = [a_sample(float(at), is_target_back=at >= 14) for at in range(33)]
    found = measured("engine-killed", target=target, engines_after=after, samples=samples)
    report = make_report(found)
    assert broken(report) == ()
    assert report.back_seconds == 4.0


def test_a_standby_must_lead_in_time_where_there_is_one() -> None:
    target = Target(control_planes=("cp-1",))
    samples = [a_sample(float(at), leader="cp-2" if at >= 21 else "") for at in range(33)]
    found = measured("leader-paused", target=target, samples=samples, standbys=1)
    assert broken(make_report(found)) == ("seconds to a leader",)
    assert broken(make_report(replace(found, standbys=0))) == ()


def test_a_drill_without_requests_judges_only_the_fleet() -> None:
    report = make_report(measured("control-plane-off", records=()))
    assert [check.promise for check in report.promises] == [
        "replicas moved",
        "engines started again",
        "fleet whole again afterwards",
    ]


def test_a_fleet_that_does_not_become_whole_breaks_the_promise() -> None:
    report = make_report(measured("control-plane-off", restored_at=None))
    assert broken(report) == ("fleet whole again afterwards",)


def test_a_drill_that_was_ended_early_is_not_held_to_what_it_did_not_wait_for() -> None:
    assert broken(make_report(measured("plane-killed", stopped=True))) == ()


def test_the_longest_time_without_an_answer_is_told() -> None:
    samples = [a_sample(float(at), answered=not 3 <= at < 7) for at in range(10)]
    assert away_seconds(samples) == 3.0


def test_the_report_is_plain_json() -> None:
    values = json.loads(json.dumps(make_report(measured("plane-killed")).to_json()))
    assert values["held"] is False
    assert values["promises"][0] == {
        "promise": "requests that fail before an answer begins",
        "measured": 0,
        "limit": 0,
        "held": True,
    }
