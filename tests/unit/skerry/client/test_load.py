"""The open loop and what its ledger says."""

import asyncio
import itertools
import json
from dataclasses import asdict
from pathlib import Path

import pytest

from skerry.client.gateways import (
    Emitted,
    End,
    Gateway,
    Head,
    Items,
    Piece,
    Request,
    RequestKind,
    Result,
)
from skerry.client.inference import InferenceClient
from skerry.client.load import run_load
from skerry.client.load_ledger import Ledger, RequestRecord, ledger_file, write_ledger
from skerry.client.load_plan import (
    DEFAULT_MIX,
    Arrivals,
    LoadPlan,
    Spread,
    plan_arrivals,
    prompt_of,
)
from skerry.client.load_summary import (
    first_success_after,
    interrupted_between,
    longest_gap_seconds,
    percentile,
    started_between,
    summarise,
)
from skerry.client.load_trace import TracedRequest
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import InvalidInput
from skerry.plumbing.ids import SystemIds
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
        itl_seconds=(0.02, 0.03),
    )


def test_the_same_seed_sends_the_same_requests() -> None:
    plan = LoadPlan(model="m", rate_per_second=20.0, seconds=10.0, seed=7)
    arrivals = list(plan_arrivals(plan, 3))
    assert arrivals == list(plan_arrivals(plan, 3))
    assert 150 < len(arrivals) < 250
    assert {a.preferred for a in arrivals} == {0, 1, 2}
    assert {a.request.kind for a in arrivals} == {kind for kind, _ in DEFAULT_MIX}
    assert all(x.at_seconds <= y.at_seconds <= 10.0 for x, y in itertools.pairwise(arrivals))


@pytest.mark.parametrize(
    ("rate", "seconds"), [(0, 1), (-1, 1), (float("nan"), 1), (1e9, 1), (1, 0), (1, float("inf"))]
)
def test_a_plan_that_cannot_be_sent_is_refused(rate: float, seconds: float) -> None:
    with pytest.raises(InvalidInput, match="must be"):
        LoadPlan(model="m", rate_per_second=rate, seconds=seconds)


class EchoTransport:
    """Answers every request with two tokens, the first after a while."""

    def __init__(self, clock: Clock, seconds: float = 0.0) -> None:
        self.clock = clock
        self.seconds = seconds

    async def attempt(
        self, gateway: Gateway, request: Request, request_id: str, emitted: Emitted | None = None
    ) -> Items:
        await self.clock.sleep(self.seconds)
        yield Head(plane="eu", replica="r1")
        yield Piece("x")
        yield Piece("y")
        yield End(finish_reason="length")

    async def probe(self, gateway: Gateway) -> float:
        return 0.001


async def ledger_of(plan: LoadPlan, clock: FakeClock, seconds: float = 0.0) -> Ledger:
    """Run a plan to its end against one gateway; return its ledger."""
    gateway = Gateway(name="a", http="a:1", grpc="a:1")
    transport = EchoTransport(clock, seconds)
    client = InferenceClient((gateway,), transport, clock, SystemIds(clock))
    stop = asyncio.Event()
    ledger = Ledger(clock)
    async with asyncio.TaskGroup() as group:
        load = group.create_task(run_load(plan, client, ledger, clock, stop))
        await clock.run_for(plan.seconds + 20.0)
        await load
    return ledger


async def test_every_request_that_was_sent_is_in_the_ledger() -> None:
    plan = LoadPlan(model="m", rate_per_second=5.0, seconds=20.0)
    ledger = await ledger_of(plan, FakeClock())
    sent = [arrival.at_seconds for arrival in plan_arrivals(plan, 1)]
    assert [record.started_at for record in ledger.records] == pytest.approx(sent)
    assert {record.result for record in ledger.records} == {Result.OK}
    first = ledger.records[0]
    assert (first.plane, first.replica, first.finish_reason) == ("eu", "r1", "length")
    assert len({record.id for record in ledger.records}) == len(sent)


async def test_slow_answers_do_not_slow_the_sending_down() -> None:
    plan = LoadPlan(model="m", rate_per_second=10.0, seconds=5.0, arrivals=Arrivals.CONSTANT)
    ledger = await ledger_of(plan, FakeClock(), seconds=10.0)
    assert [r.started_at for r in ledger.records] == pytest.approx([n / 10 for n in range(51)])


async def test_what_is_more_than_may_be_in_flight_is_shed_and_told() -> None:
    plan = LoadPlan(
        model="m",
        rate_per_second=10.0,
        seconds=2.0,
        arrivals=Arrivals.CONSTANT,
        in_flight_max=4,
    )
    ledger = await ledger_of(plan, FakeClock(), seconds=10.0)
    summary = summarise(ledger.records)
    assert (summary.requests, summary.ok, summary.shed) == (21, 4, 17)
    assert not summary.is_clean
    assert summary.causes == {"shed": 17}
    assert [r.planned_at for r in sorted(ledger.records, key=lambda r: r.planned_at or 0.0)] == (
        pytest.approx([n / 10 for n in range(21)])
    )


async def test_each_gateway_has_its_turn_or_the_nearest_has_all() -> None:
    plan = LoadPlan(model="m", rate_per_second=5.0, seconds=2.0, spread=Spread.NEAREST)
    assert {arrival.preferred for arrival in plan_arrivals(plan, 3)} == {None}


def test_a_trace_sends_its_lengths_at_its_times_as_fast_as_asked() -> None:
    rows = (
        TracedRequest(at_seconds=100.0, input_tokens=700, output_tokens=5, blocks=(1, 2)),
        TracedRequest(at_seconds=104.0, input_tokens=1030, output_tokens=9, blocks=(1, 3, 4)),
        TracedRequest(at_seconds=120.0, input_tokens=3, output_tokens=0),
    )
    plan = LoadPlan(model="m", seconds=60.0, trace=rows, speed=2.0)
    first, second, third = plan_arrivals(plan, 1)
    assert (first.at_seconds, second.at_seconds, third.at_seconds) == (0.0, 2.0, 10.0)
    words = [arrival.request.prompt.split() for arrival in (first, second, third)]
    assert [len(prompt) for prompt in words] == [700, 1030, 3]
    assert words[0][:512] == words[1][:512]
    assert words[0][512:] != words[1][512:700]
    assert [a.request.max_tokens for a in (first, second, third)] == [5, 9, 1]
    assert first.request.ignore_eos


def test_requests_of_a_trace_without_blocks_have_nothing_in_common() -> None:
    traced = TracedRequest(at_seconds=0.0, input_tokens=50, output_tokens=1)
    assert prompt_of(traced, 1) != prompt_of(traced, 2)


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
    assert (summary.itl_p50, summary.itl_p99) == (0.02, 0.03)
    assert json.loads(json.dumps(asdict(summary)))["planes"] == {"a": 4}


def test_nothing_sent_is_unknown_not_zero() -> None:
    summary = summarise([])
    assert summary.requests == 0
    assert (summary.ttft_p50, summary.longest_gap_seconds) == (None, None)
    assert (summary.itl_p50, summary.e2e_p99, summary.late_p99) == (None, None, None)


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
    assert lines[0]["itl_seconds"] == [0.02, 0.03]


def test_a_line_is_in_the_file_as_soon_as_its_request_has_ended(tmp_path: Path) -> None:
    with ledger_file(tmp_path / "l.jsonl") as write:
        write(a_record(0.0))
        assert json.loads((tmp_path / "l.jsonl").read_text())["kind"] == "chat-stream"
