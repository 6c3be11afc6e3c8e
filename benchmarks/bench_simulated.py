"""What the simulated engine answers on one core: `python benchmarks/bench_simulated.py [--quick]`.

The engine runs on the first core, the load generator on the last; an asyncio server that answers
the same bytes and does nothing else is measured in the same run, as the bound. Writes
benchmarks/results/simulated.json and docs/benchmarks/simulated.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any, cast

import psutil
import uvloop
from aiohttp import web

from benchmarks.bench_scheduler import machine
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port, is_listening

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "simulated.json"
PAGE = ROOT / "docs" / "benchmarks" / "simulated.md"
CLOCK = SystemClock()
SERVED = "llama-70b"
HOST = "127.0.0.1"
PROMPT = "Say in a few words what the sea does at night."
WARM_SECONDS = 0.5
TIMES = 3  # the figures are those of the run in the middle
# From the issue.
REQUESTS_TARGET, TOKENS_TARGET = 5_000, 50_000
PAGE_TEXT = """# The simulated engine: what one core answers

Made by `make bench-simulated` on {machine}; the load average was {load:.2f} before it and
{after:.2f} after it (the benchmark itself makes about 2).

* At least {requests_target} short requests/s on one core: {requests} (streamed or not, the lower).
* At least {tokens_target} tokens/s streamed on one core: {tokens} (one event each, and one
  write each unless the engine is late; the lower of two APIs).

| load | what | requests/s | tokens/s | reads/s | core | per whole core | p50 ms | p99 ms |
|---|---|---|---|---|---|---|---|---|
{rows}

The server is pinned to the first core, the generator to the last. *core* is the server's processor
time per second; *per whole core* is what it did in a second of processor time: where others use the
machine too, that is nearer to what it can do. The generator, `asyncio.Protocol` and uvloop as well,
keeps every connection busy: it asks again as soon as it has the answer. *reads* are the pieces it
was handed, about as many as the engine wrote; where they are fewer than the tokens, the kernel
joined some that waited for the generator, or the engine was late and sent several at once. Each
figure is of the run in the middle of {times} of 5 s, in one go with the bound.

The paced streams are offered 64,000 tokens/s (256 streams, an iteration each 4 ms), so that is
the most they can show; the engine's share of its core says how much it had left.

## Where the time goes

A request costs about as much in the kernel (a read, a write, waking the client) as in Python. The
server is an `asyncio.Protocol` with its own reader for HTTP/1.1 requests: aiohttp's server alone,
which the engine had before, is in the table without any engine behind it. Streams have no task
each: one timer wakes the model when its iteration ends, each stream gets the tokens of an iteration
in one write, and an event is three pieces joined, two of which are encoded once per stream.
"""
# Nothing waits but for the computing itself.
FASTEST = {
    "ttft_seconds": 0.0,
    "tpot_seconds": 0.0,
    "tpot_seconds_per_request": 0.0,
    "prefill_tokens_per_second": 1e12,
    "jitter": 0.0,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """What one measurement asks for: over how many connections, what, of which engine."""

    name: str
    path: str = "/v1/completions"
    tokens: int = 4
    streamed: bool = False
    connections: int = 64
    keep_alive: bool = True
    engine: Mapping[str, Any] | None = None  # None: `server` is one that has no engine
    server: str = "empty"
    told: str = ""

    def request(self) -> bytes:
        """Return one request's bytes."""
        body = json.dumps(
            {
                "model": SERVED,
                "prompt": PROMPT,
                ("n_predict" if self.path == "/completion" else "max_tokens"): self.tokens,
                "stream": self.streamed,
                "ignore_eos": True,
            }
        )
        close = "" if self.keep_alive else "Connection: close\r\n"
        head = (
            f"POST {self.path} HTTP/1.1\r\nHost: {HOST}\r\nAccept: */*\r\nUser-Agent: bench\r\n"
            f"Content-Type: application/json\r\nContent-Length: {len(body)}\r\n{close}\r\n"
        )
        return (head + body).encode()


@dataclass(frozen=True, slots=True, kw_only=True)
class Figures:
    """What came of it, per second of the measurement."""

    requests: float
    tokens: float
    writes: float  # pieces that the generator was handed: about how many writes there were
    engine_core: float  # share of one core
    generator_core: float
    p50_ms: float
    p99_ms: float


LOADS = (
    Load(name="empty", told="the bound: an asyncio server that answers fixed bytes"),
    Load(name="aiohttp", server="aiohttp", told="for comparison: aiohttp's, with the same bytes"),
    Load(name="short", engine=FASTEST, told="4 tokens, not streamed"),
    Load(
        name="short, streamed", tokens=8, streamed=True, engine=FASTEST, told="8 tokens as events"
    ),
    Load(
        name="short, connection each",
        keep_alive=False,
        engine=FASTEST,
        told="4 tokens, a new connection each time, as the replica host asks",
    ),
    Load(
        name="streams, paced",
        tokens=128,
        streamed=True,
        connections=256,
        engine=FASTEST | {"tpot_seconds": 0.004},
        told="256 at once, an iteration each 4 ms: one event for each token",
    ),
    Load(
        name="streams, paced, native",
        path="/completion",
        tokens=128,
        streamed=True,
        connections=256,
        engine=FASTEST | {"tpot_seconds": 0.004},
        told="the same through llama.cpp's API, as the replica host asks",
    ),
    Load(
        name="streams, fastest",
        tokens=128,
        streamed=True,
        engine=FASTEST,
        told="64 at once, an iteration takes no time: many events in one write",
    ),
)


class Client(asyncio.Protocol):
    """One connection of the load generator: asks again as soon as it has its answer."""

    def __init__(self, generator: "Generator") -> None:
        """Ask nothing yet."""
        self._generator = generator
        self._transport: asyncio.Transport | None = None
        self._asked = 0.0
        self._tail = b""
        self._left = -1

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Ask."""
        self._transport = cast(asyncio.Transport, transport)
        self._ask()

    def connection_lost(self, exc: Exception | None) -> None:
        """Open another where each request has its own."""
        self._transport = None
        self._generator.lost(self)

    def data_received(self, data: bytes) -> None:
        """Count what came; ask again at the end of an answer."""
        generator = self._generator
        generator.writes += 1
        if generator.load.streamed:
            generator.tokens += data.count(generator.mark)
            self._tail = (self._tail + data)[-5:]
            if self._tail != b"0\r\n\r\n":
                return
            # The last event has a text too, an empty one, or it is llama.cpp's summary.
            generator.tokens -= 1
        else:
            if self._left < 0:
                head, _, data = data.partition(b"\r\n\r\n")
                if b" 200 " not in head[:20]:
                    sys.exit(f"the server answered {head!r} {data!r}")
                self._left = int(head.partition(b"Content-Length: ")[2].partition(b"\r\n")[0])
            self._left -= len(data)
            if self._left > 0:
                return
            assert self._left == 0
            generator.tokens += generator.load.tokens
        self._left = -1
        self._tail = b""
        generator.latencies.append(CLOCK.monotonic() - self._asked)
        if generator.load.keep_alive:
            self._ask()

    def _ask(self) -> None:
        if self._transport is not None and not self._generator.stopped:
            self._asked = CLOCK.monotonic()
            self._transport.write(self._generator.request)


class Generator:
    """All connections of one measurement, and what they counted."""

    def __init__(self, load: Load, port: int) -> None:
        """Count from nothing."""
        self.load = load
        self.request = load.request()
        self.mark = b'"content":' if load.path == "/completion" else b'"text":'
        self.stopped = False
        self.latencies: list[float] = []
        self.tokens = 0
        self.writes = 0
        self._port = port
        self._group: asyncio.TaskGroup | None = None

    async def run(self, seconds: float, server: psutil.Process) -> Figures:
        """Keep all connections busy for so long and return what was counted."""
        async with asyncio.TaskGroup() as group:
            self._group = group
            for _ in range(self.load.connections):
                group.create_task(self._connect())
            await CLOCK.sleep(WARM_SECONDS)
            self.latencies.clear()
            self.tokens = self.writes = 0
            own = psutil.Process()
            began, busy, own_busy = CLOCK.monotonic(), _busy(server), _busy(own)
            await CLOCK.sleep(seconds)
            self.stopped = True
            took = CLOCK.monotonic() - began
            engine_core = (_busy(server) - busy) / took
            generator_core = (_busy(own) - own_busy) / took
        return Figures(
            requests=len(self.latencies) / took,
            tokens=self.tokens / took,
            writes=self.writes / took,
            engine_core=engine_core,
            generator_core=generator_core,
            p50_ms=1000 * statistics.median(self.latencies),
            p99_ms=1000 * sorted(self.latencies)[int(len(self.latencies) * 0.99)],
        )

    def lost(self, _: Client) -> None:
        """Open another connection in the place of one that was closed."""
        if not self.stopped and self._group is not None:
            self._group.create_task(self._connect())

    async def _connect(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.create_connection(lambda: Client(self), HOST, self._port)


class EmptyServer(asyncio.Protocol):
    """Answers fixed bytes to everything that ends like a request of ours."""

    BODY = json.dumps({"id": "empty", "choices": [{"text": " sea" * 4}], "filler": "." * 200})
    ANSWER = (
        "HTTP/1.1 200 OK\r\nContent-Type: application/json\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
    ).encode()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        """Answer."""
        if data.endswith(b"}"):
            self._transport.write(self.ANSWER)


async def serve(server: str, port: int) -> None:
    """Serve the fixed bytes until the process is ended."""
    if server == "aiohttp":
        await serve_by_aiohttp(port)
        return
    loop = asyncio.get_running_loop()
    listening = await loop.create_server(EmptyServer, HOST, port, backlog=4096)
    async with listening:
        await listening.serve_forever()


async def serve_by_aiohttp(port: int) -> None:
    """Serve the fixed bytes with aiohttp, which the engine was written with before."""

    async def answer(request: web.Request) -> web.Response:
        json.loads(await request.read())
        return web.Response(text=EmptyServer.BODY, content_type="application/json")

    application = web.Application()
    application.router.add_post("/v1/completions", answer)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    await web.TCPSite(runner, HOST, port, backlog=4096).start()
    await asyncio.Event().wait()


@contextlib.contextmanager
def started(load: Load, port: int, directory: Path) -> Iterator[psutil.Process]:
    """Run the server of a measurement on the first core for the block."""
    if load.engine is None:
        own = str(Path(__file__).resolve())
        command = [sys.executable, own, "--serve", load.server, "--port", str(port)]
    else:
        config = {
            "served_name": SERVED,
            "host": HOST,
            "port": port,
            "concurrent_requests": load.connections,
            "queue_requests_max": 10_000,
            **load.engine,
        }
        file = directory / "simulated.json"
        file.write_text(json.dumps(config))
        command = [sys.executable, "-m", "workload_plane.simulated", "--config", str(file)]
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    with subprocess.Popen(command, env=environment, stderr=subprocess.DEVNULL) as child:
        process = psutil.Process(child.pid)
        process.cpu_affinity([0])
        try:
            yield process
        finally:
            child.kill()


async def measure(load: Load, seconds: float) -> Figures:
    """Return one measurement's figures."""
    port = free_port(HOST)
    with tempfile.TemporaryDirectory() as directory, started(load, port, Path(directory)) as server:
        while not await is_listening(HOST, port):
            await CLOCK.sleep(0.05)
        return await Generator(load, port).run(seconds, server)


def measure_often(load: Load, seconds: float, times: int) -> Figures:
    """Return the figures of the run in the middle, by requests."""
    runs: list[Figures] = []
    for _ in range(times):
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runs.append(runner.run(measure(load, seconds)))
    return sorted(runs, key=lambda figures: figures.requests)[times // 2]


def main() -> None:
    """Measure everything, print it, and write it down."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--quick", action="store_true", help="one second each, nothing written")
    parser.add_argument("--only", help="measure the one of that name, write nothing")
    parser.add_argument("--serve", choices=("empty", "aiohttp"), help=argparse.SUPPRESS)
    parser.add_argument("--port", type=int, help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.serve:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(serve(arguments.serve, arguments.port))
    psutil.Process().cpu_affinity([(os.cpu_count() or 1) - 1])
    load_before = os.getloadavg()[0]
    found: dict[str, Figures] = {}
    for load in LOADS:
        if arguments.only not in (None, load.name):
            continue
        seconds, times = (1.0, 1) if arguments.quick else (5.0, TIMES)
        found[load.name] = figures = measure_often(load, seconds, times)
        print(
            f"{load.name:24} {figures.requests:8,.0f} requests/s {figures.tokens:9,.0f} tokens/s"
            f" {figures.writes:8,.0f} writes/s, engine {figures.engine_core:.0%}, generator"
            f" {figures.generator_core:.0%}, p50 {figures.p50_ms:.1f} p99 {figures.p99_ms:.1f} ms",
            flush=True,
        )
    if not (arguments.quick or arguments.only):
        write(found, load_before)


def write(found: Mapping[str, Figures], load_before: float) -> None:
    """Write the results and the page."""
    values = {name: asdict(figures) for name, figures in found.items()}
    told = {"machine": machine(), "load_before": load_before, "figures": values}
    RESULTS.write_text(json.dumps(told, indent=1) + "\n")
    PAGE.write_text(page(found, load_before))


def page(found: Mapping[str, Figures], load_before: float) -> str:
    """Return the page."""
    rows = "\n".join(
        f"| {load.name} | {load.told} | {figures.requests:,.0f} | {figures.tokens:,.0f}"
        f" | {figures.writes:,.0f} | {figures.engine_core:.0%} | {_per_core(load, figures)}"
        f" | {figures.p50_ms:.1f} | {figures.p99_ms:.1f} |"
        for load in LOADS
        if (figures := found[load.name])
    )
    requests = min(found[name].requests for name in ("short", "short, streamed"))
    tokens = min(found[name].tokens for name in ("streams, paced", "streams, paced, native"))
    return PAGE_TEXT.format(
        rows=rows,
        machine=machine(),
        load=load_before,
        after=os.getloadavg()[0],
        requests=f"{requests:,.0f}, {_verdict(requests, REQUESTS_TARGET)}",
        tokens=f"{tokens:,.0f}, {_verdict(tokens, TOKENS_TARGET)}",
        times=TIMES,
        requests_target=f"{REQUESTS_TARGET:,}",
        tokens_target=f"{TOKENS_TARGET:,}",
    )


def _per_core(load: Load, figures: Figures) -> str:
    if load.name.startswith("streams"):
        return f"{figures.tokens / figures.engine_core:,.0f} tokens"
    return f"{figures.requests / figures.engine_core:,.0f} requests"


def _verdict(figure: float, target: float) -> str:
    return "reached" if figure >= target else "missed"


def _busy(process: psutil.Process) -> float:
    times = process.cpu_times()
    return float(times.user + times.system)


if __name__ == "__main__":
    main()
