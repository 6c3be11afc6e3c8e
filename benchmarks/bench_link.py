"""Thousands of planes on one control plane: `make bench-link`, `PLANES=500 make bench-link`.

The control plane is the real process over a real store; the planes are the agents' own link code
over mTLS, many in each of a few processes (`link_planes`). Measured: a steady minute, one change
for one plane, one change for all, and the return of all after `kill -9` and a restart, with an
operator asking meanwhile. Writes benchmarks/results/link.json and docs/benchmarks/link.md.
"""

import argparse
import asyncio
import contextlib
import json
import os
import resource
import shutil
import signal
import statistics
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import psutil
from sqlalchemy import insert

from benchmarks.bench_scheduler import machine
from benchmarks.bench_store import databases
from benchmarks.link_page import write_page
from benchmarks.link_planes import FILES_MAX, Plane, plane_name
from control_plane.store import schema, tables
from control_plane.store.engine import open_database
from skerry.api.operator.v1 import operator_service_pb2
from skerry.client.connections import Methods
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.names import pool_name
from skerry.fleet.node import digest_of_nodes, node_name
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.plumbing.certificates import Subject, ensure_authority, issue
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import insecure_channel
from skerry.wire.deployments import deployment_to_proto
from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "link.json"
CLOCK = SystemClock()
HOST = "127.0.0.1"
PROCESSES = 2
START_PLANES_PER_SECOND = 60.0
STEADY_SECONDS, QUIET_SECONDS = 60.0, 10.0
PROBE_SECONDS = 0.05
JOIN_SECONDS_MAX, RETURN_SECONDS_MAX = 600.0, 180.0
DOWN_SECONDS = 1.0  # between the kill and the next start, as a supervisor's pause
DEPLOYMENTS = ("chat", "search")
PRICE = 1.0  # dollars an accelerator-hour
TRIES = 5
REPLICAS = 50  # of each; to place thousands is another benchmark


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a run happens: its directory, database and addresses."""

    directory: Path
    database_url: str
    operator: str
    link: str
    http: str


def seed(place: Place, count: int) -> None:
    """Make the database of a fleet whose planes have all reported once, as if long ago."""
    schema.upgrade(place.database_url)
    database = open_database(place.database_url)
    reports = [Plane(number, place.directory / "planes").report() for number in range(count)]
    now = CLOCK.now()
    condition = PlaneCondition(state=PlaneState.CONNECTED, since=now, reason="heartbeats on time")
    with database.write() as session:
        session.execute(
            insert(tables.planes),
            [
                {
                    "name": report.identity.name,
                    "identity": report.identity,
                    "gateway": report.gateway,
                    "condition": condition,
                    "updated_at": now,
                    "nodes_digest": digest_of_nodes(report.nodes),
                }
                for report in reports
            ],
        )
        of_pools = [(r.identity.name, shape) for r in reports for shape in r.pools]
        session.execute(
            insert(tables.pools),
            [{"name": pool_name(p, s.name), "plane": p, "shape": s} for p, s in of_pools],
        )
        # Where no price is told nothing is placed.
        session.execute(
            insert(tables.prices),
            [
                {
                    "pool": pool_name(p, s.name),
                    "valid_from": now,
                    "price_per_accelerator_hour": PRICE,
                }
                for p, s in of_pools
            ],
        )
        of_nodes = [(r.identity.name, node) for r in reports for node in r.nodes]
        session.execute(
            insert(tables.nodes),
            [
                {"name": node_name(p, n.name), "plane": p, "node": n, "updated_at": now}
                for p, n in of_nodes
            ],
        )
    database.close()


class ControlPlane:
    """The process under test; `start` may be called again after `kill`."""

    def __init__(self, place: Place, core: int | None) -> None:
        self._place = place
        self._core = core
        tls = issue(
            place.directory / "authority",
            place.directory / "server",
            Subject(
                name="server", dns_names=(CONTROL_PLANE_SERVER_NAME, "localhost"), addresses=(HOST,)
            ),
            CLOCK.now(),
        )
        settings = {
            "name": "cp",
            "database_url": place.database_url,
            "tls": {"ca": str(tls.ca), "certificate": str(tls.cert), "key": str(tls.key)},
            "operator_address": place.operator,
            "link_address": place.link,
            "http_address": place.http,
        }
        self._settings = place.directory / "settings.json"
        self._settings.write_text(json.dumps(settings))
        self._process: asyncio.subprocess.Process | None = None
        self.started_at = 0.0

    async def start(self) -> None:
        """Start it and wait until the operator API answers."""
        with (self._place.directory / "control-plane.log").open("ab") as log:
            self.started_at = CLOCK.monotonic()
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-m", "control_plane.main", "--settings", str(self._settings)),
                env={**os.environ, "PYTHONPATH": str(ROOT)},
                stdout=log,
                stderr=log,
                start_new_session=True,
            )
        if self._core is not None:
            psutil.Process(self._process.pid).cpu_affinity([self._core])

    async def kill(self) -> None:
        """End it as a crash does, its solvers with it."""
        if self._process is None or self._process.returncode is not None:
            return
        solvers = psutil.Process(self._process.pid).children(recursive=True)
        self._process.kill()
        await self._process.wait()
        for solver in solvers:
            with contextlib.suppress(psutil.NoSuchProcess):
                solver.kill()

    def usage(self) -> dict[str, float]:
        """Return its CPU seconds so far, its solvers', and the memory it has resident."""
        assert self._process is not None
        process = psutil.Process(self._process.pid)
        times = process.cpu_times()
        solvers = 0.0
        for child in process.children(recursive=True):
            with contextlib.suppress(psutil.NoSuchProcess):
                solvers += sum(child.cpu_times()[:2])
        memory = process.memory_full_info()
        return {
            "cpu_seconds": times.user + times.system,
            "solver_seconds": solvers,
            "rss_mb": memory.rss / 2**20,
            "at": CLOCK.monotonic(),
        }


class Planes:
    """The processes that hold the planes."""

    def __init__(self) -> None:
        self._processes: list[asyncio.subprocess.Process] = []

    async def start(self, place: Place, planes: int, core: int | None) -> None:
        """Start them; their first connections are spread over some seconds."""
        share = -(-planes // PROCESSES)
        for first in range(0, planes, share):
            count = min(share, planes - first)
            told = {
                "directory": str(place.directory),
                "authority": str(place.directory / "authority"),
                "address": place.link,
                "first": first,
                "count": count,
                "planes": planes,
                "start_seconds": planes / START_PLANES_PER_SECOND,
            }
            with (place.directory / "planes.log").open("ab") as log:
                process = await asyncio.create_subprocess_exec(
                    *(sys.executable, "-m", "benchmarks.link_planes", json.dumps(told)),
                    env={**os.environ, "PYTHONPATH": str(ROOT)},
                    stdin=asyncio.subprocess.PIPE,
                    stdout=asyncio.subprocess.PIPE,
                    stderr=log,
                    start_new_session=True,
                    limit=2**26,
                )
            if core is not None:
                psutil.Process(process.pid).cpu_affinity([core])
            self._processes.append(process)
        for process in self._processes:
            await _line(process)

    async def ask(self, what: str) -> dict[str, Any]:
        """Return what all of them say, together."""
        for process in self._processes:
            assert process.stdin is not None
            process.stdin.write(f"{what}\n".encode())
        told = [await _line(process) for process in self._processes]
        return {
            "linked_at": [at for one in told for at in one["linked_at"]],
            "late": sum(one["late"] for one in told),
            "offers": sum(one["offers"] for one in told),
            "held": {name: held for one in told for name, held in one["held"].items()},
            "deployments_min": min(one["deployments_min"] for one in told),
            "cpu_seconds": sum(one["cpu_seconds"] for one in told),
            "errors": sorted({error for one in told for error in one["errors"]}),
        }

    async def stop(self) -> None:
        """End them."""
        for process in self._processes:
            if process.returncode is None:
                process.kill()
            await process.wait()


async def _line(process: asyncio.subprocess.Process) -> dict[str, Any]:
    assert process.stdout is not None
    line = await process.stdout.readline()
    if not line:
        raise SystemExit("a process of planes ended; planes.log says why")
    told: dict[str, Any] = json.loads(line)
    return told


class Operator:
    """Asks for one plane again and again, and makes the changes that are timed."""

    def __init__(self, address: str) -> None:
        self._channel = insecure_channel(address)
        self.methods = Methods(self._channel)
        self.seconds: list[float] = []
        self.refused = 0
        self.first_at: float | None = None
        self._number = 0

    def forget(self) -> None:
        """Begin to count anew."""
        self.seconds, self.refused, self.first_at = [], 0, None

    async def probe(self, plane: str) -> None:
        """Ask for ever, a call each so many milliseconds whether the last was answered or not."""
        request = operator_service_pb2.GetPlaneRequest(name=f"projects/default/planes/{plane}")
        async with asyncio.TaskGroup() as group:
            while True:
                group.create_task(self._ask(request))
                await CLOCK.sleep(PROBE_SECONDS)

    async def _ask(self, request: Any) -> None:
        began = CLOCK.monotonic()
        try:
            await self.methods["GetPlane"](request, timeout=10.0)
        except grpc.aio.AioRpcError:
            self.refused += 1
            return
        if self.first_at is None:
            self.first_at = CLOCK.monotonic()
        self.seconds.append(CLOCK.monotonic() - began)

    async def apply(self, deployment: Deployment) -> None:
        """Apply a deployment: a change that every plane is told."""
        self._number += 1
        request = operator_service_pb2.ApplyDeploymentRequest(
            parent="projects/default",
            spec=deployment_to_proto(deployment),
            request_id=f"a{self._number}",
        )
        for _ in range(TRIES):  # one request, however often it is asked for
            try:
                await self.methods["ApplyDeployment"](request, timeout=60.0)
            except grpc.aio.AioRpcError as error:
                print(f"asked again: {error.code().name} {error.details()}", flush=True)
                await CLOCK.sleep(1.0)
            else:
                return
        raise SystemExit("the operator API takes no change")

    async def close(self) -> None:
        """Close the connection."""
        await self._channel.close()


def percentile(values: Sequence[float], share: float) -> float:
    """Return the value below which that share of them lies; 0 of none."""
    ordered = sorted(values)
    return ordered[min(len(ordered) - 1, int(share * len(ordered)))] if ordered else 0.0


def unary(operator: Operator) -> dict[str, float]:
    """Return how long an operator's calls took, in milliseconds."""
    return {
        "calls": len(operator.seconds),
        "refused": operator.refused,
        "p50_ms": round(1000 * percentile(operator.seconds, 0.5), 2),
        "p99_ms": round(1000 * percentile(operator.seconds, 0.99), 2),
        "max_ms": round(1000 * max(operator.seconds, default=0.0), 2),
    }


def between(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, float]:
    """Return the core's share that the control plane took, and its memory at the end."""
    seconds = after["at"] - before["at"]
    return {
        "seconds": round(seconds, 1),
        "core": round((after["cpu_seconds"] - before["cpu_seconds"]) / seconds, 4),
        "solver_core": round((after["solver_seconds"] - before["solver_seconds"]) / seconds, 4),
        "rss_mb": round(after["rss_mb"], 1),
    }


async def until(planes: Planes, holds: Any, seconds_max: float, what: str) -> dict[str, Any]:
    """Ask until what they say holds, and return it."""
    deadline = CLOCK.monotonic() + seconds_max
    while True:
        told = await planes.ask("report")
        if holds(told):
            return told
        if CLOCK.monotonic() > deadline:
            linked = len(told["linked_at"])
            raise SystemExit(f"{what}: {linked} are linked after {seconds_max} s; {told['errors']}")
        await CLOCK.sleep(0.5)


async def quiet(planes: Planes) -> dict[str, Any]:
    """Wait until nobody was told anything for some seconds."""
    deadline = CLOCK.monotonic() + JOIN_SECONDS_MAX
    while CLOCK.monotonic() < deadline:
        await planes.ask("mark")
        await CLOCK.sleep(QUIET_SECONDS)
        told = await planes.ask("report")
        if not told["offers"]:
            return told
    raise SystemExit("planes are told something all the time")


def a_deployment(name: str, replicas: int) -> Deployment:
    """Return a deployment."""
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu", host_memory_bytes=2**28),),
        ),
        scaling=Scaling(min_replicas=replicas, max_replicas=replicas),
    )


@dataclass(slots=True, kw_only=True)
class Run:
    """One run: all that its phases share, and the figures so far."""

    count: int
    steady_seconds: float
    control_plane: ControlPlane
    planes: Planes
    operator: Operator
    figures: dict[str, Any]

    async def join(self, place: Place, core: int | None) -> None:
        """Have every plane connect, and give them something to run."""
        began = CLOCK.monotonic()
        await self.planes.start(place, self.count, core)
        every = lambda told: len(told["linked_at"]) == self.count  # noqa: E731
        told = await until(self.planes, every, JOIN_SECONDS_MAX, "join")
        joined = max(told["linked_at"]) - began
        for name in DEPLOYMENTS:
            await self.operator.apply(a_deployment(name, REPLICAS))
        # Before that the solver may still be at it, and nothing would be steady.
        every = lambda told: told["deployments_min"] == len(DEPLOYMENTS)  # noqa: E731
        await until(self.planes, every, JOIN_SECONDS_MAX, "first states")
        told = await quiet(self.planes)
        self.figures["join"] = {
            "linked_s": round(joined, 2),
            "quiet_s": round(CLOCK.monotonic() - began, 1),
        }

    async def steady(self) -> None:
        """Let nothing happen but heartbeats, and an operator who asks."""
        self.operator.forget()
        await self.planes.ask("mark")
        before, clients = self.control_plane.usage(), await self.planes.ask("report")
        await CLOCK.sleep(self.steady_seconds)
        after, told = self.control_plane.usage(), await self.planes.ask("report")
        spent = told["cpu_seconds"] - clients["cpu_seconds"]
        self.figures["steady"] = {
            **between(before, after),
            "late": told["late"],
            "clients_core": round(spent / self.steady_seconds, 3),
            "unary": unary(self.operator),
        }

    async def push_all(self) -> None:
        """Change what every plane is told; how long until every disk has it."""
        self.operator.forget()
        before = (await self.planes.ask("mark"))["held"]
        usage, began = self.control_plane.usage(), CLOCK.monotonic()
        await self.operator.apply(a_deployment(DEPLOYMENTS[0], REPLICAS + 1))
        told = await until(
            self.planes,
            lambda told: all(held[0] > before[name][0] for name, held in told["held"].items()),
            RETURN_SECONDS_MAX,
            "push to all",
        )
        times = sorted(at - began for _, at in told["held"].values())
        self.figures["push_all"] = {
            "first_s": round(times[0], 2),
            "last_s": round(times[-1], 2),
            **between(usage, self.control_plane.usage()),
            "unary": unary(self.operator),
        }
        await quiet(self.planes)

    async def come_back(self) -> None:
        """Kill the control plane and start it again; how long until every plane is linked."""
        await self.planes.ask("mark")
        self.operator.forget()
        killed = CLOCK.monotonic()
        await self.control_plane.kill()
        await CLOCK.sleep(DOWN_SECONDS)
        self.operator.forget()
        await self.control_plane.start()
        started = self.control_plane.started_at
        peak, told = 0.0, await self.planes.ask("report")
        deadline = killed + RETURN_SECONDS_MAX
        while min(told["linked_at"], default=0.0) < started or len(told["linked_at"]) < self.count:
            if CLOCK.monotonic() > deadline:
                raise SystemExit(f"{len(told['linked_at'])} are back; {told['errors']}")
            await CLOCK.sleep(0.5)
            peak = max(peak, self.control_plane.usage()["rss_mb"])
            told = await self.planes.ask("report")
        sent = told["offers"]
        back = sorted(at - started for at in told["linked_at"])
        during = unary(self.operator)
        spent = self.control_plane.usage()["cpu_seconds"]
        await quiet(self.planes)
        told = await self.planes.ask("report")
        usage = self.control_plane.usage()
        answered = self.operator.first_at or CLOCK.monotonic()
        self.figures["return"] = {
            "answers_s": round(answered - started, 2),
            "first_s": round(back[0], 2),
            "median_s": round(statistics.median(back), 2),
            "last_s": round(back[-1], 2),
            "sent_whole": sent,
            "cpu_seconds": round(spent, 1),
            "solver_seconds": round(usage["solver_seconds"], 1),
            "rss_mb": round(max(peak, usage["rss_mb"]), 1),
            "unary": during,
        }


async def measure(place: Place, count: int, seconds: float, *, pin: bool) -> dict[str, Any]:
    """Return all figures of one run."""
    cores = sorted(os.sched_getaffinity(0))
    first, last = (cores[0], cores[-1]) if pin and len(cores) > 1 else (None, None)
    if last is not None:
        psutil.Process().cpu_affinity([last])
    ensure_authority(place.directory / "authority", "benchmark", CLOCK.now())
    run = Run(
        count=count,
        steady_seconds=seconds,
        control_plane=ControlPlane(place, first),
        planes=Planes(),
        operator=Operator(place.operator),
        figures={"planes": count},
    )
    load = os.getloadavg()[0]
    seed(place, count)
    try:
        await run.control_plane.start()
        async with asyncio.TaskGroup() as group:
            probing = group.create_task(run.operator.probe(plane_name(0)))
            await run.join(place, last)
            print(run.figures, flush=True)
            for phase in (run.steady, run.come_back, run.push_all):
                print(json.dumps(run.figures), flush=True)
                await phase()
            probing.cancel()
    finally:
        await run.control_plane.kill()
        await run.planes.stop()
        await run.operator.close()
    return {**run.figures, "pinned": pin, "load_before": round(load, 2)}


def places(folder: Path, dialect: str) -> Iterator[Place]:
    """Yield where one run happens, with a database of that dialect."""
    ports = {what: f"{HOST}:{free_port(HOST)}" for what in ("operator", "link", "http")}
    if dialect == "sqlite":
        yield Place(directory=folder, database_url=f"sqlite:///{folder}/skerry.db", **ports)
        return
    with databases(folder) as urls:
        yield Place(directory=folder, database_url=urls["postgresql"], **ports)


def main() -> None:
    """Measure, write the results and the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--planes", type=int, default=int(os.environ.get("PLANES", "5000")))
    parser.add_argument("--seconds", type=float, default=STEADY_SECONDS)
    parser.add_argument("--database", choices=("sqlite", "postgresql"), default="sqlite")
    parser.add_argument("--no-pin", action="store_true", help="let the scheduler choose cores")
    parser.add_argument("--keep", type=Path, help="leave the logs in this directory")
    parser.add_argument("--dry", action="store_true", help="print, but write nothing")
    told = parser.parse_args()
    signal.signal(signal.SIGTERM, lambda *_: sys.exit("told to stop"))
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (min(FILES_MAX, hard), hard))
    # Keys and states of thousands of planes: in memory, or their fsyncs would be what is measured.
    memory = "/dev/shm" if Path("/dev/shm").is_dir() else None
    with tempfile.TemporaryDirectory(dir=memory) as folder:
        for place in places(Path(folder), told.database):
            try:
                figures = asyncio.run(
                    measure(place, told.planes, told.seconds, pin=not told.no_pin)
                )
            finally:
                for log in Path(folder).glob("*.log") if told.keep else ():
                    shutil.copy(log, told.keep)
    results = {
        "machine": machine(),
        "database": told.database,
        "load_after": round(os.getloadavg()[0], 2),
        **figures,
    }
    print(json.dumps(results, indent=1))
    if not told.dry:
        RESULTS.parent.mkdir(parents=True, exist_ok=True)
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        write_page(results)


if __name__ == "__main__":
    main()
