"""What tracing costs: `make bench-tracing`, or this file with `--help`.

The gateway with its picker, and `skerry-replica` over gRPC, each untraced and with a share of the
requests traced. Every round starts all anew and measures them in turn, there and back again, so
that what else the machine does meets all alike; gateways whose turn it isn't are stopped. Writes
benchmarks/results/tracing.json and docs/benchmarks/tracing.md.
"""

import argparse
import asyncio
import contextlib
import itertools
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Protocol

import aiohttp
import grpc
import psutil
import uvloop

from benchmarks.bench_scheduler import machine
from benchmarks.gateway.client import Load
from benchmarks.gateway.contenders import Ours, Running, spawn
from benchmarks.gateway.engine import HOST
from benchmarks.tracing_page import OFF, list_page, page_of
from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.trace_target import TraceTarget
from skerry.plumbing.tracing import TRACEPARENT
from tests.integration.replica_process import SERVED, RunningReplica, a_spec, running_replica

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "tracing.json"
PAGE = ROOT / "docs" / "benchmarks" / "tracing.md"
LISTED_IN = ROOT / "docs" / "operating" / "tracing.md"
CLOCK = SystemClock()
SHARES: Mapping[str, float | None] = {OFF: None, "1 %": 0.01, "100 %": 1.0}
START_SECONDS_MAX = 120.0
WARM_SECONDS = 0.5
CONNECTIONS, RATE = 64, 200.0
CALLS, TOKENS = 16, 16
# More than the second in which a replica sends what waits.
_EXPORT_SECONDS = 1.5
_SENT_BY_ENVOY = "tracing.opentelemetry.spans_sent"
_SENT_BY_REPLICA = "skerry_trace_sent_spans_total"
# Tokens as fast as they are asked for: the host is what is measured.
_OPTIONS = {"ttft-seconds": "0", "tpot-seconds": "0.0005", "tpot-seconds-per-request": "0"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One share in one round; spans are those that were sent for a request."""

    requests_per_second: float
    cpu_microseconds: float
    p50_ms: float
    spans: float
    failed: int


@dataclass(slots=True)
class Tally:
    """What was counted of one share in one round so far."""

    answered: int = 0
    others: int = 0  # that were answered while something else was measured
    failed: int = 0
    seconds: float = 0.0
    cpu_seconds: float = 0.0
    first: list[float] = field(default_factory=list)


class Subject(Protocol):
    """A gateway or a replica that traces so much."""

    @property
    def name(self) -> str:
        """Return the share that it traces."""
        ...

    async def measure(self, tally: Tally, seconds: float) -> None:
        """Ask as much as it answers for so long, then at a calm rate, and count."""
        ...

    async def spans(self) -> float:
        """Return how many spans it has sent so far."""
        ...


@dataclass(frozen=True, slots=True)
class Gateway:
    """Envoy and the picker."""

    name: str
    running: Running
    http: aiohttp.ClientSession

    async def measure(self, tally: Tally, seconds: float) -> None:
        """Ask on busy connections, then at a fixed rate."""
        load = Load(self.running.port)
        with _awake(self.running):
            again = await load.closed(CONNECTIONS, WARM_SECONDS)  # it knows nothing of the pause
            before = self.running.cpu_seconds()
            most = await load.closed(CONNECTIONS, seconds)
            tally.cpu_seconds += self.running.cpu_seconds() - before
            calm = await load.paced(RATE, seconds)
        tally.answered += most.answered
        tally.seconds += most.seconds
        tally.others += again.answered + calm.answered
        tally.failed += again.failed + most.failed + calm.failed
        tally.first += calm.ttfb

    async def spans(self) -> float:
        """Return what Envoy's admin tells."""
        url = f"http://{HOST}:{self.running.admin_port}/stats?format=json&filter={_SENT_BY_ENVOY}"
        with _awake(self.running):
            async with self.http.get(url) as answer:
                told = json.loads(await answer.read())["stats"]
        return float(sum(one["value"] for one in told if one.get("name") == _SENT_BY_ENVOY))


@dataclass(frozen=True, slots=True)
class Replica:
    """A `skerry-replica` over gRPC, asked as a gateway asks it that traces so much."""

    name: str
    running: RunningReplica
    channel: grpc.aio.Channel
    http: aiohttp.ClientSession
    numbers: Iterator[int] = field(default_factory=lambda: itertools.count(1))

    async def measure(self, tally: Tally, seconds: float) -> None:
        """Ask by some callers at once, then by one."""
        process = psutil.Process(self.running.process.pid)
        before, started = process.cpu_times(), CLOCK.monotonic()
        most: list[float] = []
        async with asyncio.TaskGroup() as group:
            for _ in range(CALLS):
                group.create_task(self._ask(tally, most, seconds))
        after = process.cpu_times()
        tally.cpu_seconds += after.user + after.system - before.user - before.system
        tally.seconds += CLOCK.monotonic() - started
        tally.answered += len(most)
        calm: list[float] = []
        await self._ask(tally, calm, seconds)
        tally.others += len(calm)
        tally.first += calm

    async def spans(self) -> float:
        """Return what its metrics tell."""
        async with self.http.get(f"{self.running.health}/metrics") as answer:
            lines = (await answer.text()).splitlines()
        return sum(float(x.rsplit(" ", 1)[1]) for x in lines if x.startswith(_SENT_BY_REPLICA))

    async def _ask(self, tally: Tally, first: list[float], seconds: float) -> None:
        """Ask one call after the other; the seconds to each first response go to `first`."""
        stub = openengine_pb2_grpc.InferenceStub(self.channel)
        stopping = generation_pb2.StoppingOptions(max_tokens=TOKENS, ignore_eos=True)
        asked = generation_pb2.GenerateRequest(
            model=SERVED, prompt="What does the sea do at night?", stopping=stopping
        )
        ends = CLOCK.monotonic() + seconds
        while (began := CLOCK.monotonic()) < ends:
            try:
                call = stub.Generate(asked, metadata=self._metadata(), timeout=30)
                last = await call.read()
                took = CLOCK.monotonic() - began
                while (said := await call.read()) is not grpc.aio.EOF:
                    last = said
                is_whole = last is not grpc.aio.EOF and last.usage.completion_tokens == TOKENS
            except grpc.aio.AioRpcError:
                is_whole = False
            if is_whole:
                first.append(took)
            else:
                tally.failed += 1

    def _metadata(self) -> tuple[tuple[str, str], ...]:
        if (share := SHARES[self.name]) is None:
            return ()
        number = next(self.numbers)
        is_traced = number % round(1 / share) == 0
        return ((TRACEPARENT, f"00-{number:032x}-{number:016x}-{int(is_traced):02x}"),)


async def measure(rounds: int, seconds: float) -> dict[str, Any]:
    """Return the figures of every round, of the gateway and of the replica."""
    load_before = os.getloadavg()[0]
    allowed = sorted(os.sched_getaffinity(0))
    cores, ours = allowed[:1], allowed[1:] or allowed
    found: dict[str, list[dict[str, Figures]]] = {"gateway": [], "replica": []}
    with tempfile.TemporaryDirectory(prefix="bt-") as root:
        # One answers as an engine; the other takes spans, of which it reads nothing.
        both = [_answering(Path(root), ours) for _ in range(2)]
        os.sched_setaffinity(0, ours)
        try:
            engine, collector = (one.port for one in both)
            for port in (engine, collector):
                async with asyncio.timeout(START_SECONDS_MAX):
                    while not await is_listening(HOST, port):
                        await CLOCK.sleep(0.1)
            for number in range(rounds):
                folder = Path(root) / str(number)
                async with gateways(folder / "g", engine, collector, cores) as subjects:
                    found["gateway"].append(await _round(subjects, number, seconds))
                async with replicas(folder / "r", collector, cores) as told:
                    found["replica"].append(await _round(told, number, seconds))
                for kind, rows in found.items():
                    print(f"{number + 1}/{rounds} {kind}: {rows[-1]}", flush=True)
        finally:
            os.sched_setaffinity(0, allowed)
            for one in both:
                one.stop()
    return {
        "machine": machine(),
        "load_before": round(load_before, 2),
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "rate": RATE,
        "calls": [CALLS, TOKENS],
        **{kind: summed_up(rows) for kind, rows in found.items()},
        "every_round": {
            kind: [{name: asdict(one) for name, one in row.items()} for row in rows]
            for kind, rows in found.items()
        },
    }


def summed_up(rows: Sequence[Mapping[str, Figures]]) -> dict[str, dict[str, float]]:
    """Return for each share the medians of the rounds, and of each round's ratio to untraced."""
    return {
        name: {
            **{key: _middle([getattr(row[name], key) for row in rows]) for key in _KEYS},
            **{
                f"{key}_ratio": _middle(
                    [getattr(row[name], key) / getattr(row[OFF], key) for row in rows]
                )
                for key in _COMPARED
            },
        }
        for name in rows[0]
    }


_COMPARED = ("requests_per_second", "cpu_microseconds", "p50_ms")
_KEYS = (*_COMPARED, "spans", "failed")


def _middle(values: Sequence[float]) -> float:
    return round(statistics.median(values), 4)


async def _round(subjects: Sequence[Subject], number: int, seconds: float) -> dict[str, Figures]:
    """Measure all there and back again; another one is first in every round."""
    for subject in subjects:
        await subject.measure(Tally(), WARM_SECONDS)
    await CLOCK.sleep(_EXPORT_SECONDS)
    before = {subject.name: await subject.spans() for subject in subjects}
    tallies = {subject.name: Tally() for subject in subjects}
    place = number % len(subjects)
    order = [*subjects[place:], *subjects[:place]]
    for subject in (*order, *reversed(order)):
        await subject.measure(tallies[subject.name], seconds)
    await CLOCK.sleep(_EXPORT_SECONDS)
    return {
        subject.name: _figures(tallies[subject.name], await subject.spans() - before[subject.name])
        for subject in subjects
    }


def _figures(tally: Tally, spans: float) -> Figures:
    if not (tally.answered and tally.first):
        raise RuntimeError(f"of {tally.failed} requests none was answered; give it more --seconds")
    return Figures(
        requests_per_second=tally.answered / tally.seconds,
        cpu_microseconds=1e6 * tally.cpu_seconds / tally.answered,
        p50_ms=1e3 * statistics.median(tally.first),
        spans=spans / (tally.answered + tally.others),
        failed=tally.failed,
    )


def _answering(root: Path, cores: Sequence[int]) -> Running:
    port = free_port(HOST)
    argv = [sys.executable, "-m", "benchmarks.gateway.engine", str(port)]
    return Running(port=port, roots=(spawn(argv, root, cores),))


@contextlib.contextmanager
def _awake(running: Running) -> Iterator[None]:
    """Have a stopped gateway go on for the block."""
    _go_on(running)
    try:
        yield
    finally:
        _stop(running)


def _stop(running: Running) -> None:
    for process in running.processes():
        process.suspend()


def _go_on(running: Running) -> None:
    for process in running.processes():
        process.resume()


@contextlib.asynccontextmanager
async def gateways(
    root: Path, engine: int, collector: int, cores: Sequence[int]
) -> AsyncIterator[list[Subject]]:
    """Run a gateway with its picker for each share, all on the cores and stopped until asked."""
    running: dict[str, Running] = {}
    try:
        for number, (name, share) in enumerate(SHARES.items()):
            folder = root / str(number)
            folder.mkdir(parents=True)
            contender = Ours(picks=True, tracing=_target(collector, share))
            running[name] = contender.start(folder, engine, cores)
        async with asyncio.timeout(START_SECONDS_MAX):
            for one in running.values():
                while not (await Load(one.port).answers() and await one.is_whole()):
                    await CLOCK.sleep(0.1)
        for one in running.values():
            _stop(one)
        async with aiohttp.ClientSession() as http:
            yield [Gateway(name, one, http) for name, one in running.items()]
    finally:
        for one in running.values():
            _go_on(one)
            one.stop()


@contextlib.asynccontextmanager
async def replicas(
    root: Path, collector: int, cores: Sequence[int]
) -> AsyncIterator[list[Subject]]:
    """Run a replica host with a simulated engine for each share, all on the cores."""
    engine = EngineSpec(
        name=EngineName.SIMULATED,
        concurrent_requests=4 * CALLS,
        options=tuple(_OPTIONS.items()),
    )
    found: list[Subject] = []
    async with contextlib.AsyncExitStack() as stack:
        http = await stack.enter_async_context(aiohttp.ClientSession())
        for number, (name, share) in enumerate(SHARES.items()):
            folder = root / str(number)
            folder.mkdir(parents=True)
            target = _target(collector, share)
            spec = a_spec(folder, engine, trace_endpoint=target.endpoint if target else "")
            with _on(cores):
                running = await stack.enter_async_context(running_replica(spec))
            channel = await stack.enter_async_context(grpc.aio.insecure_channel(running.grpc))
            found.append(Replica(name, running, channel, http))
        yield found


def _target(collector: int, share: float | None) -> TraceTarget | None:
    endpoint = f"http://{HOST}:{collector}"
    return None if share is None else TraceTarget(endpoint=endpoint, sample=share)


@contextlib.contextmanager
def _on(cores: Sequence[int]) -> Iterator[None]:
    """Have what is started here run on the cores."""
    ours = os.sched_getaffinity(0)
    os.sched_setaffinity(0, cores)
    try:
        yield
    finally:
        os.sched_setaffinity(0, ours)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results and the page; return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1.0, help="of each measurement")
    parser.add_argument("--report-only", action="store_true", help="from the rows there are")
    parser.add_argument("--out", type=Path, help="write the figures here, and no page")
    told = parser.parse_args(arguments)
    if told.report_only:
        values = json.loads(RESULTS.read_text())
    else:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            values = runner.run(measure(told.rounds, told.seconds))
        (told.out or RESULTS).write_text(json.dumps(values, indent=1) + "\n")
    page = page_of(values)
    print(page)
    if told.out is None:
        PAGE.write_text(page)
        list_page(LISTED_IN)
    return 0


if __name__ == "__main__":
    sys.exit(main())
