"""Starts are kept once each, the newest of every kind, without a change in the log."""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from sqlalchemy import func, insert, select

from control_plane.store import cold_starts, tables
from control_plane.store.changes import last_sequence
from control_plane.store.cold_starts import (
    STARTS_OF_BATCH_MAX,
    STARTS_OF_KIND_MAX,
    SightedStart,
    list_cold_starts,
    record_starts,
)
from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.upkeep import StartFlush, started
from skerry.fleet.cold_start import UNKNOWN_CONFIGURATION, StartKind
from skerry.fleet.engine import EngineName
from skerry.fleet.observation import Observation, ObservedReplica, ReplicaState
from skerry.fleet.profile import configuration_digest
from skerry.plumbing.errors import Unavailable
from tests.builders import a_deployment, a_replica, a_report
from tests.fakes.clock import START, FakeClock

TINY = StartKind(
    base_model="builtin://skerry-tiny",
    engine=EngineName.SIMULATED,
    configuration=configuration_digest(a_deployment().revision.engine),
    accelerator="cpu",
)


@pytest.fixture
def demo(database: Database, write: WriteContext) -> Database:
    """A store that knows the deployment of the replicas."""
    with database.write() as session:
        apply_deployment(session, write, a_deployment(), "", "")
    return database


def a_start(replica: str = "demo-r1-a", *, minute: int = 0, **fields: Any) -> SightedStart:
    start = SightedStart(
        plane="onprem-fra",
        replica=replica,
        restarts=0,
        deployment="demo",
        revision=1,
        accelerator="cpu",
        seconds=float(minute),
        seen_at=START + timedelta(minutes=minute),
    )
    return replace(start, **fields)


def kept(database: Database) -> dict[StartKind, tuple[float, ...]]:
    with database.read() as session:
        return dict(list_cold_starts(session))


def record(database: Database, write: WriteContext, *starts: SightedStart) -> int:
    with database.write() as session:
        return record_starts(session, write, starts)


def test_a_start_is_kept_once_and_the_newest_comes_first(
    demo: Database, write: WriteContext
) -> None:
    with demo.read() as session:
        before = last_sequence(session)
    first, later = a_start(seconds=40.0), a_start("demo-r1-b", minute=1, seconds=50.0)
    assert record(demo, write, first) == 1
    assert record(demo, write, replace(first, seconds=1.0), later) == 1
    assert record(demo, write, replace(first, restarts=1, seconds=45.0, seen_at=START)) == 1
    assert record(demo, write) == 0
    assert kept(demo) == {TINY: (50.0, 40.0, 45.0)}
    with demo.read() as session:
        assert last_sequence(session) == before


def test_another_configuration_is_another_kind_and_one_of_an_old_release_is_unknown(
    demo: Database, write: WriteContext
) -> None:
    record(demo, write, a_start(seconds=40.0))
    again = a_deployment()
    engine = replace(again.revision.engine, context_tokens=512)
    with demo.write() as session:
        changed = replace(again, revision=replace(again.revision, engine=engine))
        apply_deployment(session, write, changed, "", "")
    record(demo, write, a_start("demo-r2-a", revision=2, seconds=50.0, minute=1))
    other = replace(TINY, configuration=configuration_digest(engine))
    assert kept(demo) == {other: (50.0,), TINY: (40.0,)}
    with demo.write() as session:  # as the release before writes it
        row = {"plane": "x", "replica": "r", "restarts": 0, "base_model": TINY.base_model}
        row |= {"engine": "simulated", "accelerator": "cpu", "seconds": 9.0, "measured_at": START}
        session.execute(insert(tables.cold_starts), row)
    assert kept(demo)[replace(TINY, configuration=UNKNOWN_CONFIGURATION)] == (9.0,)


def test_what_is_not_of_a_stored_revision_or_cannot_run_there_is_passed_over(
    demo: Database, write: WriteContext
) -> None:
    strange = (a_start(deployment="gone"), a_start(revision=7), a_start(accelerator="h100"))
    assert record(demo, write, *strange) == 0
    assert kept(demo) == {}


def test_the_oldest_of_a_kind_are_forgotten(demo: Database, write: WriteContext) -> None:
    extra = 3
    starts = [a_start(f"demo-r1-{n}", minute=n) for n in range(STARTS_OF_KIND_MAX + extra)]
    record(demo, write, *starts[:40])
    record(demo, write, *starts[40:])
    newest = [float(n) for n in range(extra, STARTS_OF_KIND_MAX + extra)]
    assert kept(demo) == {TINY: tuple(reversed(newest))}


def test_what_nobody_saw_start_only_fills_up_its_kind(demo: Database, write: WriteContext) -> None:
    old = [a_start(f"demo-r1-x{n}", minute=999, is_fresh=False) for n in range(10)]
    assert record(demo, write, *old) == 10
    starts = [a_start(f"demo-r1-{n}", minute=n) for n in range(STARTS_OF_KIND_MAX)]
    record(demo, write, *starts)
    before = kept(demo)
    assert record(demo, write, a_start("demo-r1-z", minute=999, is_fresh=False)) == 0
    assert kept(demo) == before
    record(demo, write, a_start("demo-r1-z", minute=1_000))
    assert kept(demo)[TINY][0] == 1_000.0


def test_all_kinds_together_are_bounded(
    demo: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(cold_starts, "STARTS_MAX", 5)
    record(demo, write, *(a_start(f"demo-r1-{n}", minute=n) for n in range(9)))
    assert kept(demo) == {TINY: (8.0, 7.0, 6.0, 5.0, 4.0)}


def seen(plane: str, replicas: Iterable[ObservedReplica]) -> dict[str, Observation]:
    report = a_report(plane, replicas=tuple(replicas))
    return {plane: Observation(report=report, received_at=START)}


def test_only_measured_starts_are_new_and_those_of_a_new_plane_are_not_fresh() -> None:
    measured = a_replica(name="demo-r1-a", start_seconds=41.0)
    starting = a_replica(name="demo-r1-b", state=ReplicaState.STARTING)
    first = started(seen("onprem-fra", (measured, starting)), {})
    (start,) = first.starts
    assert (start.replica, start.accelerator, start.seconds) == ("demo-r1-a", "cpu", 41.0)
    assert not start.is_fresh
    ready = replace(starting, state=ReplicaState.READY, start_seconds=50.0)
    again = replace(measured, restarts=1, start_seconds=39.0)
    second = started(seen("onprem-fra", (again, ready)), first.looked)
    assert [(s.replica, s.restarts, s.is_fresh) for s in second.starts] == [
        ("demo-r1-a", 1, True),
        ("demo-r1-b", 0, True),
    ]
    assert started(seen("onprem-fra", (again, ready)), second.looked).starts == ()


def test_what_no_database_would_take_holds_up_nothing() -> None:
    bad = (
        a_replica(name="nul\x00", start_seconds=1.0),
        a_replica(name="demo-r1-a", start_seconds=1e9),
        a_replica(name="demo-r1-b", pool="elsewhere--cpu", start_seconds=1.0),
        a_replica(name="demo-r1-c", deployment="NOT A NAME", start_seconds=1.0),
    )
    assert started(seen("onprem-fra", bad), {}).starts == ()


def test_more_than_a_batch_takes_waits_for_the_next() -> None:
    def several(plane: str, count: int) -> dict[str, Observation]:
        names = (f"demo-r1-{n}" for n in range(count))
        pool = f"{plane}--cpu"
        return seen(plane, (a_replica(name=n, pool=pool, start_seconds=1.0) for n in names))

    looked = started(several("a-x", 0), {}).looked
    everywhere = several("a-x", STARTS_OF_BATCH_MAX + 2) | several("c-x", 1)
    first = started(everywhere, looked)
    assert len(first.starts) == STARTS_OF_BATCH_MAX
    second = started(everywhere, first.looked)
    assert [(s.plane, s.is_fresh) for s in second.starts] == [
        ("a-x", True),
        ("a-x", True),
        ("c-x", False),
    ]
    assert started(everywhere, second.looked).starts == ()


class _Reports:
    def __init__(self) -> None:
        self.told: dict[str, Observation] = {}

    def observations(self) -> dict[str, Observation]:
        return self.told


async def test_a_start_that_could_not_be_written_goes_with_the_next_batch(
    demo: Database, write: WriteContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    reports = _Reports()
    flush = StartFlush(database=demo, clock=FakeClock(), epoch=write.epoch, reports=reports)
    assert await flush.flush() == 0
    reports.told = seen("onprem-fra", (a_replica(start_seconds=41.0),))
    with monkeypatch.context() as patched:
        patched.setattr(demo, "run_unannounced", refuse)
        with pytest.raises(Unavailable):
            await flush.flush()
    assert await flush.flush() == 1
    assert await flush.flush() == 0
    with demo.read() as session:
        count = session.execute(select(func.count()).select_from(tables.cold_starts)).scalar_one()
    assert count == 1


async def refuse(*_: Any) -> int:
    raise Unavailable("the disk is full")
