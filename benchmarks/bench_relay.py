"""What continued streams cost: `make bench-relay`, or `--quick` for a look that is not kept.

First the relay alone: a simulated engine stands where the gateway's inner listener would, and every
event comes alone and leaves alone, the dearest case. Then a real Envoy with continuation off and
on, in turn. Writes benchmarks/results/relay.json and docs/benchmarks/relay.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable
from dataclasses import asdict, dataclass, replace
from pathlib import Path

import aiohttp
import psutil
import uvloop

from benchmarks.bench_scheduler import machine
from benchmarks.relay_page import EVENTS_PER_CPU_SECOND_TARGET, page_of
from skerry.fleet.routing import Routing
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port, is_listening
from skerry.plumbing.processes import ProcessRecord, spawn, terminate
from workload_plane.gateway.descriptors import descriptor_set
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.publish import PublishResult, ensure_initial, publish
from workload_plane.gateway.status import read_status, unconfirmed
from workload_plane.gateway.topology import (
    GatewayTopology,
    ListenAddresses,
    LocalReplica,
    RelayPorts,
    ServedModel,
)

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "relay.json"
PAGE = ROOT / "docs" / "benchmarks" / "relay.md"
CLOCK = SystemClock()
HOST = "127.0.0.1"
SERVED, ENGINE, PLANE = "m", "simulated", "bench"
FIRST_BYTES = 200
ROUNDS = 5
STREAMS, TOKENS = 100, 200
TPOT_SECONDS = 0.02
# How an engine's events are treated: as they came; with counts asked for and taken out again;
# unread, because the request cannot be continued.
KINDS = {"kept": ("simulated", {}), "counted": ("vllm", {}), "unkept": ("simulated", {"seed": 7})}


@dataclass(frozen=True, slots=True, kw_only=True)
class RelayFigures:
    """What one kind of stream costs; medians of all rounds."""

    kind: str
    events_per_cpu_second: float
    events_per_second: float
    memory_mib: float


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayFigures:
    """What streams cost through a gateway; medians of all rounds.

    The least time to a first byte of each round is what a busy machine spoils least.
    """

    continuation: bool
    gateway_microseconds_per_event: float
    relay_microseconds_per_event: float
    first_byte_ms_least: float
    first_byte_ms_p50: float


async def measure(rounds: int = ROUNDS, tokens: int = TOKENS) -> list[RelayFigures]:
    """Return the relay's figures for each kind of stream, kinds in turn in every round."""
    with tempfile.TemporaryDirectory() as folder:
        async with _relay(Path(folder)) as (relay, port):
            found: dict[str, list[tuple[float, float]]] = {kind: [] for kind in KINDS}
            for _ in range(rounds):
                for kind, (engine, extra) in KINDS.items():
                    figures = await _round(relay, port, engine, dict(extra), tokens)
                    found[kind].append(figures)
            memory = relay.memory_info().rss / 2**20
    return [
        RelayFigures(
            kind=kind,
            events_per_cpu_second=round(statistics.median(cpu for cpu, _ in rows)),
            events_per_second=round(statistics.median(wall for _, wall in rows)),
            memory_mib=round(memory, 1),
        )
        for kind, rows in found.items()
    ]


async def measure_gateway(rounds: int = ROUNDS, tokens: int = TOKENS) -> list[GatewayFigures]:
    """Return what streams through a real gateway cost with continuation off and on, in turn."""
    with tempfile.TemporaryDirectory() as folder:
        async with _relay(Path(folder), behind_gateway=True) as (relay, _):
            async with _gateway(Path(folder)) as (envoy, publish, port):
                found: dict[bool, list[tuple[float, float, list[float]]]] = {False: [], True: []}
                for _ in range(rounds):
                    for is_on in found:
                        await publish(is_on)
                        events, used = await _burst([envoy, relay], port, _a_body(tokens))
                        first = [await _first_byte(port) for _ in range(FIRST_BYTES)]
                        found[is_on].append((used[0] / events, used[1] / events, first))
    return [
        GatewayFigures(
            continuation=is_on,
            gateway_microseconds_per_event=_middle(row[0] * 1e6 for row in rows),
            relay_microseconds_per_event=_middle(row[1] * 1e6 for row in rows),
            first_byte_ms_least=_middle(min(row[2]) * 1e3 for row in rows),
            first_byte_ms_p50=_middle(statistics.median(row[2]) * 1e3 for row in rows),
        )
        for is_on, rows in found.items()
    ]


def _middle(values: Iterable[float]) -> float:
    return round(statistics.median(values), 2)


def _a_body(tokens: int, **extra: object) -> dict[str, object]:
    return {
        "model": SERVED,
        "stream": True,
        "messages": [{"role": "user", "content": "What does the sea do at night?"}],
        "max_tokens": tokens,
        "ignore_eos": True,
        **extra,
    }


async def _burst(
    processes: list[psutil.Process], port: int, body: dict[str, object], engine: str = ENGINE
) -> tuple[int, list[float]]:
    """Return the events of many streams at once, and the CPU-seconds of each process."""
    before = [process.cpu_times() for process in processes]
    events = await asyncio.gather(*(_stream(port, engine, body) for _ in range(STREAMS)))
    after = [process.cpu_times() for process in processes]
    used = [a.user + a.system - b.user - b.system for a, b in zip(after, before, strict=True)]
    return sum(events), used


async def _round(
    relay: psutil.Process, port: int, engine: str, extra: dict[str, object], tokens: int
) -> tuple[float, float]:
    """Return events per CPU-second of the relay, and per second, of one burst of streams."""
    started = CLOCK.monotonic()
    events, (used,) = await _burst([relay], port, _a_body(tokens, **extra), engine)
    return events / used, events / (CLOCK.monotonic() - started)


async def _first_byte(port: int) -> float:
    """Return the seconds to the first event of a stream of one token."""
    started = CLOCK.monotonic()
    first: list[float] = []
    await _stream(port, ENGINE, _a_body(1), lambda: first.append(CLOCK.monotonic() - started))
    return first[0]


async def _stream(
    port: int, engine: str, body: dict[str, object], on_event: Callable[[], None] | None = None
) -> int:
    reader, writer = await asyncio.open_connection(HOST, port)
    data = json.dumps(body).encode()
    head = (
        "POST /v1/chat/completions HTTP/1.1\r\nhost: bench\r\nconnection: close\r\n"
        f"x-skerry-deployment: {engine}\r\ncontent-type: application/json\r\n"
        f"content-length: {len(data)}\r\n\r\n"
    )
    writer.write(head.encode() + data)
    count = 0
    while piece := await reader.read(65_536):
        count += piece.count(b"data: ")
        if count and on_event is not None:
            on_event()
        if piece.endswith(b"0\r\n\r\n"):
            break
    writer.close()
    return count


@contextlib.asynccontextmanager
async def _gateway(
    folder: Path,
) -> AsyncIterator[tuple[psutil.Process, Callable[[bool], Awaitable[None]], int]]:
    """Run Envoy before the engine and the relay of the folder; yield it and its public port.

    What is yielded between them publishes the deployment with continuation off or on.
    """
    settings = json.loads((folder / "settings.json").read_text())
    ports, engine = settings["relay"], json.loads((folder / "engine.json").read_text())["port"]
    public, peer, admin, unused = (free_port(HOST) for _ in range(4))
    replica = LocalReplica(
        name="r1", host=HOST, http_port=engine, grpc_port=unused, health_port=engine
    )
    topology = GatewayTopology(
        plane=PLANE,
        project="default",
        listen=ListenAddresses(
            public_host=HOST, public_port=public, peer_host=HOST, peer_port=peer, admin_port=admin
        ),
        relay=RelayPorts(**ports),
    )
    home = folder / "gateway"
    home.mkdir()
    ensure_initial(topology, home, descriptor_set())
    envoy = spawn(envoy_argv(home), env=None, cwd=None, stdout_path=folder / "envoy.log")

    async def change(continuation: bool) -> None:
        model = ServedModel(
            served_name=SERVED,
            deployment=ENGINE,
            ttft_bound_seconds=5,
            total_deadline_seconds=60,
            replicas=(replica,),
            routing=Routing(continuation=continuation),
        )
        models = replace(topology, models=(model,))
        published = await asyncio.to_thread(publish, models, home, descriptor_set())
        async with aiohttp.ClientSession() as session, asyncio.timeout(30):
            while not await _has_taken(session, admin, published):
                await CLOCK.sleep(0.1)

    try:
        yield psutil.Process(envoy.pid), change, public
    finally:
        await terminate(envoy, CLOCK, 5.0)


async def _has_taken(session: aiohttp.ClientSession, admin: int, published: PublishResult) -> bool:
    """Say whether Envoy has taken all up and has seen the replica healthy."""
    status = await read_status(session, admin)
    if status is None or unconfirmed(status, published.versions):
        return False
    return any(host.healthy for host in status.hosts.get(f"http/{ENGINE}", ()))


@contextlib.asynccontextmanager
async def _relay(
    folder: Path, *, behind_gateway: bool = False
) -> AsyncIterator[tuple[psutil.Process, int]]:
    """Run an engine and a relay before it; yield the relay's process and its port."""
    inner, http, grpc = (free_port(HOST) for _ in range(3))
    engine_port = free_port(HOST) if behind_gateway else inner
    config = folder / "engine.json"
    config.write_text(
        json.dumps(
            {
                "served_name": SERVED,
                "host": HOST,
                "port": engine_port,
                "concurrent_requests": STREAMS,
                "tpot_seconds": TPOT_SECONDS,
                "tpot_seconds_per_request": 0.0,
                "ttft_seconds": 0.0,
                "jitter": 0.0,
            }
        )
    )
    engines = sorted({engine for engine, _ in KINDS.values()})
    known = [{"deployment": engine, "engine": engine} for engine in engines]
    (folder / "relay.json").write_text(json.dumps({"format": 1, "deployments": known}))
    settings = folder / "settings.json"
    settings.write_text(json.dumps(_settings(folder, inner, http, grpc)))
    processes = [
        _start(folder, "workload_plane.simulated", "--config", config),
        _start(folder, "workload_plane.relay.main", "--settings", settings),
    ]
    try:
        async with asyncio.timeout(30):
            while not (await is_listening(HOST, engine_port) and await is_listening(HOST, http)):
                await CLOCK.sleep(0.05)
        yield psutil.Process(processes[1].pid), http
    finally:
        for process in processes:
            await terminate(process, CLOCK, 5.0)


def _start(folder: Path, module: str, option: str, path: Path) -> ProcessRecord:
    argv = [sys.executable, "-m", module, option, str(path)]
    return spawn(argv, env=None, cwd=None, stdout_path=folder / f"{module}.log")


def _settings(folder: Path, inner: int, http: int, grpc: int) -> dict[str, object]:
    return {
        "plane": PLANE,
        "cloud": "bench",
        "region": "bench",
        "pools": [],
        "data_dir": str(folder),
        "gateway": {"public_port": 1, "peer_port": 2, "admin_port": 3},
        "front_port": 4,
        "relay": {"http_port": http, "grpc_port": grpc, "inner_port": inner},
    }


def main() -> int:
    """Measure and write; return 1 when the kept streams miss their target."""
    parser = argparse.ArgumentParser(description="what an event costs in the relay")
    parser.add_argument("--quick", action="store_true", help="one round of shorter streams")
    options = parser.parse_args()
    rounds, tokens = (1, 100) if options.quick else (ROUNDS, TOKENS)
    load_before = os.getloadavg()[0]
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        figures = runner.run(measure(rounds, tokens))
        behind = runner.run(measure_gateway(rounds, tokens))
    values = {
        "machine": machine(),
        "load_before": round(load_before, 2),
        "rounds": rounds,
        "streams": [STREAMS, tokens],
        "relay": [asdict(row) for row in figures],
        "gateway": [asdict(row) for row in behind],
    }
    print(json.dumps(values, indent=1))
    if not options.quick:
        RESULTS.write_text(json.dumps(values, indent=1) + "\n")
        PAGE.write_text(page_of(values))
    return int(figures[0].events_per_cpu_second < EVENTS_PER_CPU_SECOND_TARGET)


if __name__ == "__main__":
    raise SystemExit(main())
