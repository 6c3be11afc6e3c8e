"""The open loop and what its ledger says."""

import asyncio
import itertools
import json
from pathlib import Path

import pytest

from skerry.client.gateways import Gateway, Request, RequestKind, Result
from skerry.client.inference import InferenceClient
from skerry.client.load import (
    Ledger,
    LoadPlan,
    RequestRecord,
    plan_arrivals,
    run_load,
    write_ledger,
)
from skerry.client.load_summary import (
    first_success_after,
    interrupted_between,
    longest_gap_seconds,
    percentile,
    started_between,
    summarise,
)
from skerry.client.transport import Pieces
from skerry.plumbing.errors import InvalidInput
from tests.fakes.clock import FakeClock

_numbers = itertools.count(1)


def a_record(
    started_at: float,
    *,
    first_token_at: float | None = None,
    ended_at: float | None = None,
    result: Result = Result.OK,
    preferred: str = "a",
    attempts: int = 1,
) -> RequestRecord:
    """Return a record; by default the first token came after 0.1 s and the end after 1 s."""
    first = started_at + 0.1 if first_token_at is None else first_token_at
    return RequestRecord(
        number=next(_numbers),
        kind=RequestKind.CHAT_STREAM,
        started_at=started_at,
        first_token_at=None if result is Result.FAILED else first,
        ended_at=started_at + 1.0 if ended_at is None else ended_at,
        gateway="a",
        preferred=preferred,
        attempts=attempts,
        result=result,
        tokens=3,
    )


def test_the_same_seed_sends_the_same_requests() -> None:
    plan = LoadPlan(model="m", rate_per_second=20.0, seconds=10.0, seed=7)
    arrivals = list(plan_arrivals(plan, 3))
    assert arrivals == list(plan_arrivals(plan, 3))
    assert 150 < len(arrivals) < 250
    assert {a.preferred for a in arrivals} == {0, 1, 2}
    assert {a.request.kind for a in arrivals} == set(RequestKind)
    assert all(x.at_seconds <= y.at_seconds <= 10.0 for x, y in itertools.pairwise(arrivals))


@pytest.mark.parametrize(
    ("rate", "seconds"), [(0, 1), (-1, 1), (float("nan"), 1), (1e9, 1), (1, 0), (1, float("inf"))]
)
def test_a_plan_that_cannot_be_sent_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        LoadPlan(model="m", rate_per_second=rate, seconds=seconds)


class EchoTransport:
    """Answers every request with one token at once."""

    async def attempt(self, gateway: Gateway, request: Request) -> Pieces:
        yield "x", 1


async def test_every_request_that_was_sent_is_in_the_ledger() -> None:
    clock = FakeClock()
    client = InferenceClient((Gateway(name="a", http="a:1", grpc="a:1"),), EchoTransport(), clock)
    plan = LoadPlan(model="m", rate_per_second=5.0, seconds=20.0)
    ledger, stop = Ledger(clock), asyncio.Event()
    async with asyncio.TaskGroup() as group:
        load = group.create_task(run_load(plan, client, ledger, clock, stop))
        await clock.run_for(30.0)
        await load
    sent = [arrival.at_seconds for arrival in plan_arrivals(plan, 1)]
    assert [record.started_at for record in ledger.records] == pytest.approx(sent)
    assert {record.result for record in ledger.records} == {Result.OK}


def test_counts_are_by_outcome_and_a_broken_stream_is_not_hidden() -> None:
    summary = summarise(
        [
            a_record(0.0),
            a_record(1.0, result=Result.FAILED),
            a_record(2.0, result=Result.INTERRUPTED),
            a_record(3.0, attempts=2),
        ]
    )
    assert (summary.requests, summary.ok, summary.failed, summary.interrupted) == (4, 2, 1, 1)
    assert summary.failed_over == 1
    assert summary.ttft_p50 == pytest.approx(0.1)


def test_nothing_sent_is_unknown_not_zero() -> None:
    summary = summarise([])
    assert summary.requests == 0
    assert (summary.ttft_p50, summary.longest_gap_seconds) == (None, None)


def test_requests_belong_to_the_time_they_were_sent_in_and_breaks_to_when_they_broke() -> None:
    early = a_record(5.0, ended_at=12.0, result=Result.INTERRUPTED)
    late = a_record(10.0, ended_at=11.0)
    assert started_between([early, late], 10.0, 20.0) == (late,)
    assert interrupted_between([early, late], 10.0, 20.0) == (early,)


def test_percentile_is_a_value_that_was_measured() -> None:
    assert percentile([5.0, 1.0, 3.0], 0.5) == 3.0
    assert percentile([5.0, 1.0, 3.0], 0.99) == 5.0
    assert percentile([], 0.5) is None


def test_the_longest_gap_is_between_first_tokens() -> None:
    records = [a_record(t) for t in (0.0, 1.0, 4.5, 5.0)]
    assert longest_gap_seconds(records) == pytest.approx(3.5)


def test_first_success_counts_only_what_was_sent_after_the_moment() -> None:
    before = a_record(9.9, first_token_at=10.5)
    failed = a_record(10.1, result=Result.FAILED)
    slow = a_record(10.2, first_token_at=14.0)
    fast = a_record(10.3, first_token_at=11.0, preferred="b")
    records = [before, failed, slow, fast]
    assert first_success_after(records, 10.0) is fast
    assert first_success_after(records, 10.0, "a") is slow
    assert first_success_after(records, 20.0) is None


def test_the_ledger_is_written_as_one_json_object_a_line(tmp_path: Path) -> None:
    write_ledger(tmp_path / "l.jsonl", [a_record(0.0), a_record(1.0, result=Result.FAILED)])
    lines = [json.loads(line) for line in (tmp_path / "l.jsonl").read_text().splitlines()]
    assert [line["result"] for line in lines] == ["ok", "failed"]
