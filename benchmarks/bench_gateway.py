"""Ours beside other gateways, in one run: `make bench-gateway`, or this file with `--help`.

Every round starts every contender anew and measures it: first bytes at a fixed rate, as many
requests as come back, streams. The gateway has one core, engine and client share the other. Writes
benchmarks/results/gateway.json and docs/benchmarks/gateway.md.
"""

import argparse
import asyncio
import json
import os
import statistics
import sys
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import uvloop

from benchmarks.bench_scheduler import machine
from benchmarks.gateway.client import Counts, Load
from benchmarks.gateway.contenders import (
    AiohttpProxy,
    Contender,
    Direct,
    Ours,
    PlainEnvoy,
    Running,
    Started,
    spawn,
)
from benchmarks.gateway.engine import HOST
from benchmarks.gateway.foreign import LiteLlm, RayServe, SkyServe, Smg
from benchmarks.gateway.page import write_page
from benchmarks.venvs import CannotInstall
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port, is_listening

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "gateway.json"
PAGE = ROOT / "docs" / "benchmarks" / "gateway.md"
CLOCK = SystemClock()
START_SECONDS_MAX = 120.0
WARM_SECONDS = 0.5
CONNECTIONS = 64
# What every contender can carry, and what only the fast ones can.
SLOW_RATE, FAST_RATE = 25.0, 500.0
STREAMS, EVENTS = 64, 250
TICK_SECONDS = 0.01  # of the kernel's processor-time counters


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """One contender in one round; None where it cannot carry that rate."""

    ttfb_p50_ms: float
    ttfb_p99_ms: float
    fast_p50_ms: float | None
    fast_p99_ms: float | None
    requests_per_second: float
    requests_per_cpu_second: float
    events_per_second: float
    events_per_cpu_second: float
    events_per_cpu_second_beyond_rest: float
    rest_core: float
    memory_mib: float
    failed: int


def contenders(engine: Started, names: Sequence[str]) -> list[Contender]:
    """Return those that are asked for, by the beginning of their names; all without any."""
    found: list[Contender] = [
        Direct(engine),
        PlainEnvoy(),
        Ours(),
        Ours(
            name="Skerry, picker",
            told="the same with the endpoint picker asked for each request",
            picks=True,
        ),
        Ours(
            name="Skerry, picker and relay",
            told="the same with streams through the relay (`continuation: true`)",
            picks=True,
            relays=True,
        ),
        AiohttpProxy(),
        Smg(),
        LiteLlm(),
        RayServe(),
        SkyServe(),
    ]
    wanted = [name.lower() for name in names]
    return [c for c in found if not wanted or c.name.lower() in wanted]


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, write the results and the page; return the exit code."""
    told = parser().parse_args(arguments)
    if told.report_only:
        write_page(json.loads(RESULTS.read_text()), PAGE)
        return 0
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        values = runner.run(measure(told.rounds, told.seconds, told.only))
    if told.out is not None:
        told.out.write_text(json.dumps(values, indent=1) + "\n")
        return 0
    RESULTS.write_text(json.dumps(values, indent=1) + "\n")
    write_page(values, PAGE)
    return 0


def parser() -> argparse.ArgumentParser:
    """Return the options."""
    found = argparse.ArgumentParser(description=__doc__)
    found.add_argument("--rounds", type=int, default=5)
    found.add_argument("--seconds", type=float, default=3.0, help="of each measurement")
    found.add_argument("--only", nargs="+", default=[], metavar="NAME", help="of the table")
    found.add_argument("--report-only", action="store_true", help="from the rows there are")
    found.add_argument("--out", type=Path, help="write the figures here, and no page")
    return found


async def measure(rounds: int, seconds: float, names: Sequence[str]) -> dict[str, Any]:
    """Return the medians of every contender, and what was skipped and why."""
    load_before = os.getloadavg()[0]
    allowed = sorted(os.sched_getaffinity(0))
    gateway_cores, our_cores = allowed[:1], allowed[1:] or allowed
    found: dict[str, list[Figures]] = {}
    skipped: dict[str, str] = {}
    told: dict[str, str] = {}
    with tempfile.TemporaryDirectory(prefix="bg-") as root:
        engine_port = free_port(HOST)
        argv = [sys.executable, "-m", "benchmarks.gateway.engine", str(engine_port)]
        engine = Running(port=engine_port, roots=(spawn(argv, Path(root), our_cores),))
        os.sched_setaffinity(0, our_cores)
        try:
            await _until(lambda: is_listening(HOST, engine_port), "the engine")
            listed = contenders(engine.roots[0], names)
            for number in range(rounds):
                for place, contender in enumerate(listed):
                    if contender.name in skipped:
                        continue
                    folder = Path(root) / f"{number}-{place}"
                    folder.mkdir()
                    told[contender.name] = contender.told
                    try:
                        figures = await _round(
                            contender, folder, engine_port, gateway_cores, seconds
                        )
                    except CannotInstall as error:
                        skipped[contender.name] = str(error)
                        print(f"SKIPPED {contender.name}: {error}", file=sys.stderr, flush=True)
                        continue
                    found.setdefault(contender.name, []).append(figures)
                    print(f"{number + 1}/{rounds} {contender.name}: {asdict(figures)}", flush=True)
        finally:
            os.sched_setaffinity(0, allowed)
            engine.stop()
    return {
        "machine": machine(),
        "load_before": load_before,
        "rounds": rounds,
        "seconds": seconds,
        "connections": CONNECTIONS,
        "rates": [SLOW_RATE, FAST_RATE],
        "streams": [STREAMS, EVENTS],
        "skipped": skipped,
        "told": told,
        "rows": {name: _medians(rows) for name, rows in found.items()},
        "every_round": {name: [asdict(row) for row in rows] for name, rows in found.items()},
    }


async def _round(
    contender: Contender, folder: Path, engine_port: int, cores: Sequence[int], seconds: float
) -> Figures:
    running = contender.start(folder, engine_port, cores)
    try:
        load = Load(running.port, running.headers)
        await _until(load.answers, contender.name, folder)
        await _until(running.is_whole, contender.name, folder)
        await load.closed(8, WARM_SECONDS)
        before = running.cpu_seconds()
        await CLOCK.sleep(seconds)
        rest = (running.cpu_seconds() - before) / seconds
        slow = await load.paced(SLOW_RATE, seconds)
        before = running.cpu_seconds()
        most = await load.closed(CONNECTIONS, seconds)
        most_cpu = running.cpu_seconds() - before
        carries_fast = most.answered / most.seconds > 2 * FAST_RATE
        fast = await load.paced(FAST_RATE, seconds) if carries_fast else None
        before = running.cpu_seconds()
        streams = await load.closed(STREAMS, seconds, EVENTS)
        stream_cpu = running.cpu_seconds() - before
        memory = running.memory_mib()
    finally:
        if not isinstance(contender, Direct):
            running.stop()
    return Figures(
        ttfb_p50_ms=_at(slow, 0.5),
        ttfb_p99_ms=_at(slow, 0.99),
        fast_p50_ms=_at(fast, 0.5) if fast else None,
        fast_p99_ms=_at(fast, 0.99) if fast else None,
        requests_per_second=most.answered / most.seconds,
        requests_per_cpu_second=most.answered / most_cpu if most_cpu else 0.0,
        events_per_second=streams.events / streams.seconds,
        events_per_cpu_second=streams.events / stream_cpu if stream_cpu else 0.0,
        events_per_cpu_second_beyond_rest=streams.events
        / max(stream_cpu - rest * streams.seconds, TICK_SECONDS),
        rest_core=rest,
        memory_mib=memory,
        failed=slow.failed + most.failed + streams.failed + (fast.failed if fast else 0),
    )


async def _until(condition: Callable[[], Any], what: str, folder: Path | None = None) -> None:
    ends = CLOCK.monotonic() + START_SECONDS_MAX
    while not await condition():
        if CLOCK.monotonic() > ends:
            tail = "" if folder is None else await asyncio.to_thread(_last_words, folder)
            raise CannotInstall(f"{what} does not answer after {START_SECONDS_MAX:.0f} s: {tail}")
        await CLOCK.sleep(0.1)


def _last_words(folder: Path) -> str:
    logs = sorted(folder.glob("*.log"))
    return " | ".join(log.read_text(errors="replace")[-300:] for log in logs)


def _at(counts: Counts, fraction: float) -> float:
    ordered = sorted(counts.ttfb)
    return 1000 * ordered[int(fraction * (len(ordered) - 1))] if ordered else float("nan")


def _medians(rows: Sequence[Figures]) -> dict[str, float | None]:
    names = list(asdict(rows[0]))
    found: dict[str, float | None] = {}
    for name in names:
        values = [getattr(row, name) for row in rows if getattr(row, name) is not None]
        found[name] = round(statistics.median(values), 4) if values else None
    return found


if __name__ == "__main__":
    sys.exit(main())
