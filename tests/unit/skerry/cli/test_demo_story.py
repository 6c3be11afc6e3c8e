"""The demo's report: its figures, and which promises they break."""

import dataclasses

import pytest

from skerry.cli.demo_story import DemoReport, Kill, Moments, broken_promises, make_report
from skerry.client.gateways import RequestKind, Result
from skerry.client.load_ledger import RequestRecord

CONTRACT = (
    "requests_total", "requests_failed", "streams_interrupted", "control_plane_down_seconds",
    "requests_while_down", "failed_while_down", "interrupted_while_down", "plane_killed",
    "first_success_after_plane_kill_ms", "replacement_decided_seconds",
    "replacement_ready_seconds", "replicas_restarted_by_control_plane_return",
    "placements_before", "placements_after",
)  # fmt: skip


def a_record(
    started_at: float, result: Result = Result.OK, *, preferred: str = "a", seconds: float = 0.5
) -> RequestRecord:
    """Return a record whose first token came halfway to its end."""
    return RequestRecord(
        number=1,
        kind=RequestKind.GENERATE,
        started_at=started_at,
        first_token_at=None if result is Result.FAILED else started_at + seconds / 2,
        ended_at=started_at + seconds,
        gateway="a",
        preferred=preferred,
        attempts=1,
        result=result,
        tokens=1,
    )


def the_moments() -> Moments:
    """Return a story in which all goes well: control plane away 10..41, plane `b` dies at 60."""
    return Moments(
        control_plane_killed=10.0,
        control_plane_back=41.0,
        kills={
            "replica": Kill(at=20.5, plane="a", carries_streams=True),
            "agent": Kill(at=34.0, plane="a", carries_streams=False),
            "gateway": Kill(at=46.0, plane="c", carries_streams=True),
        },
        plane="b",
        plane_killed=60.0,
        replacement_decided=70.0,
        replacement_ready=75.0,
        plane_back=85.0,
        loss_reason="lease over and the witnesses see nothing serving there",
        loss_witnesses={"a": "unreachable", "c": "unreachable"},
        placements_before={"a--cpu": 2, "b--cpu": 1},
        placements_after={"b--cpu": 1, "a--cpu": 2},
    )


def report_of(*records: RequestRecord, moments: Moments | None = None) -> DemoReport:
    """Return the report of the records, with one success after the plane's death."""
    return make_report(
        [*records, a_record(60.1, preferred="b")],
        moments or the_moments(),
        memory_peak_mib=900.0,
        duration_seconds=100.0,
    )


def test_the_report_begins_with_the_fields_of_the_contract() -> None:
    assert tuple(report_of().to_json())[: len(CONTRACT)] == CONTRACT


def test_a_story_that_went_well_breaks_no_promise() -> None:
    report = report_of(a_record(5.0), a_record(15.0))
    assert broken_promises(report) == ()
    assert report.control_plane_down_seconds == 31.0
    assert report.requests_while_down == 1
    assert report.first_success_after_plane_kill_ms == pytest.approx(350.0)
    assert (report.replacement_decided_seconds, report.replacement_ready_seconds) == (10.0, 15.0)


def test_a_failed_request_is_a_broken_promise_and_counted_where_it_happened() -> None:
    report = report_of(a_record(15.0, Result.FAILED), a_record(30.0, Result.FAILED))
    assert (report.requests_failed, report.failed_while_down) == (2, 2)
    assert report.failed_while_quiet == 1
    assert len(broken_promises(report)) == 2


def test_a_stream_that_broke_with_the_killed_replica_is_counted_and_allowed() -> None:
    report = report_of(a_record(20.4, Result.INTERRUPTED))
    assert (report.streams_interrupted, report.interrupted_while_down) == (1, 1)
    assert report.interrupted_unexplained == 0
    assert broken_promises(report) == ()


@pytest.mark.parametrize("moment", [34.0, 46.0, 54.0])
def test_a_stream_that_broke_by_itself_is_a_broken_promise(moment: float) -> None:
    """At an agent's death, at another plane's gateway's, and when nothing was killed."""
    (sentence,) = broken_promises(report_of(a_record(moment, Result.INTERRUPTED)))
    assert "1 streams broke that no kill explains" in sentence


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"replacement_decided": 85.0}, "decided after 25.0 s"),
        ({"replacement_decided": None}, "decided after for ever s"),
        ({"loss_reason": ""}, "never judged lost"),
        ({"loss_witnesses": {"a": "unreachable", "c": "serving"}}, "c: serving"),
        ({"loss_witnesses": {}}, "did not see the plane gone (nobody)"),
        ({"replacement_ready": None}, "never served"),
        ({"plane_back": None}, "did not come back"),
        ({"replicas_restarted_by_return": 2}, "restarted 2 replicas"),
        ({"placements_after": {"a--cpu": 3}}, "moved placements"),
        ({"control_plane_back": 30.0}, "away for 20.0 s only"),
    ],
)
def test_a_promise_that_does_not_hold_is_named(change: dict[str, object], said: str) -> None:
    moments = dataclasses.replace(the_moments(), **change)  # type: ignore[arg-type]
    assert said in " ".join(broken_promises(report_of(moments=moments)))


def test_a_slow_first_success_is_a_broken_promise() -> None:
    report = make_report(
        [a_record(60.1, preferred="b", seconds=8.0)],
        the_moments(),
        memory_peak_mib=0.0,
        duration_seconds=0.0,
    )
    assert "first success after the plane's death" in " ".join(broken_promises(report))
