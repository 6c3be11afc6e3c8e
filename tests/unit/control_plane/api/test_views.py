"""What a view of the fleet promises: own commits at once, the rest within a second."""

import asyncio
import shutil
from collections.abc import AsyncIterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from control_plane.api.views import STORE_SECONDS, STORE_SECONDS_MAX, FleetViews, ReadyCounts
from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.reads import StoreReads
from skerry.fleet.observation import Observation, ReplicaState
from skerry.plumbing.errors import Unavailable
from tests.builders import a_deployment, a_replica, a_report
from tests.fakes.clock import START, FakeClock


@dataclass
class _Live:
    reports: dict[str, Observation] = field(default_factory=dict)

    def observations(self) -> dict[str, Observation]:
        return self.reports


@dataclass
class _Fleet:
    views: FleetViews
    live: Any
    database: Database
    elsewhere: Database
    write: WriteContext
    clock: FakeClock

    async def names(self) -> list[str]:
        return list((await self.views.now()).stored)

    async def apply(self, name: str) -> None:
        await self.database.run(apply_deployment, self.write, a_deployment(name), "", "")

    def apply_elsewhere(self, name: str) -> None:
        with self.elsewhere.write() as session:
            apply_deployment(session, self.write, a_deployment(name), "", "")


@pytest.fixture
async def seen(tmp_path: Path, empty_store: Path) -> AsyncIterator[_Fleet]:
    """An empty store, which another control plane writes too."""
    url = f"sqlite:///{tmp_path / 'skerry.db'}"
    shutil.copyfile(empty_store, tmp_path / "skerry.db")
    database, elsewhere, clock = open_database(url), open_database(url), FakeClock()
    with database.write() as session:
        epoch = take_leadership(session, "cp-1", START)
    write = WriteContext(epoch=epoch, actor="user:ana", now=START)
    live: Any = _Live()
    yield _Fleet(FleetViews(database, live, clock), live, database, elsewhere, write, clock)
    database.close()
    elsewhere.close()


async def test_own_commits_are_seen_at_once(seen: _Fleet) -> None:
    assert await seen.names() == []
    await seen.apply("a")
    assert await seen.names() == ["a"]


async def test_commits_of_others_are_seen_within_a_second(seen: _Fleet) -> None:
    assert await seen.names() == []
    seen.apply_elsewhere("a")
    assert await seen.names() == []
    seen.clock.advance(STORE_SECONDS_MAX)
    assert await seen.names() == ["a"]


async def test_no_caller_waits_for_the_commits_of_others(seen: _Fleet) -> None:
    before = await seen.views.now()
    async with asyncio.TaskGroup() as group:
        fresh = group.create_task(seen.views.keep_fresh())
        await seen.clock.wait_for_sleepers(1)
        seen.apply_elsewhere("a")
        assert (await seen.views.now()).store is before.store
        seen.clock.advance((STORE_SECONDS + STORE_SECONDS_MAX) / 2)
        await seen.clock.wait_for_sleepers(1)  # it has looked, and sleeps again
        assert list((await seen.views.now()).stored) == ["a"]
        fresh.cancel()


async def test_a_store_that_is_away_does_not_end_the_looking(seen: _Fleet) -> None:
    await seen.views.now()
    async with asyncio.TaskGroup() as group:
        fresh = group.create_task(seen.views.keep_fresh())
        await seen.clock.wait_for_sleepers(1)
        seen.database.close()
        seen.clock.advance(STORE_SECONDS)
        await seen.clock.wait_for_sleepers(1)
        assert not fresh.done()
        fresh.cancel()


async def test_what_the_reconcile_loop_has_read_is_not_read_again(seen: _Fleet) -> None:
    reads = StoreReads(seen.database, seen.clock)
    views = FleetViews(seen.database, seen.live, seen.clock)
    views.share(reads)
    await views.now()
    await seen.apply("a")
    looked = await reads.newest()  # as a turn does
    view = await views.now()
    assert (view.store, reads.held) == (looked.store, looked)
    assert list(view.stored) == ["a"]
    seen.clock.advance(STORE_SECONDS_MAX)
    await views.now()
    assert reads.held is not looked


async def test_a_store_that_cannot_be_read_at_the_start_ends_nothing(seen: _Fleet) -> None:
    seen.database.close()
    await seen.views.warm()
    with pytest.raises(Unavailable):
        await seen.views.now()


async def test_a_crowd_after_a_commit_reads_once(seen: _Fleet) -> None:
    await seen.names()
    await seen.apply("a")
    async with asyncio.TaskGroup() as group:
        found = [group.create_task(seen.views.now()) for _ in range(20)]
    assert len({id(one.result()) for one in found}) == 1
    assert list(found[0].result().stored) == ["a"]


async def test_what_did_not_move_is_not_indexed_again(seen: _Fleet) -> None:
    before = await seen.views.now()
    await seen.apply("a")
    after = await seen.views.now()
    assert after.index is not before.index
    assert after.placements is before.placements
    assert after.pools is before.pools


def test_ready_replicas_are_those_of_the_last_report_of_planes_that_are_not_lost() -> None:
    counts, ready = ReadyCounts(), a_replica(state=ReplicaState.READY)
    one = Observation(report=a_report("one", replicas=(ready,)), received_at=START)
    two = Observation(report=a_report("two", replicas=(ready,)), received_at=START)
    key = (ready.deployment, ready.pool)
    both = {"one": one, "two": two}
    assert counts.follow(both, frozenset()) == ({key: 2}, {ready.deployment: 2})
    assert counts.follow(both, frozenset({"one"})) == ({key: 1}, {ready.deployment: 1})
    assert counts.follow(both, frozenset()) == ({key: 2}, {ready.deployment: 2})
    again = both | {"one": replace(one, report=a_report("one", replicas=(ready,)))}
    assert counts.follow(again, frozenset()) == ({key: 2}, {ready.deployment: 2})
    gone = replace(two, report=a_report("two", replicas=()))
    assert counts.follow({"two": gone}, frozenset()) == ({}, {})
