"""The store as it is read for all who look at it: never older than who asks, and once for all."""

import asyncio

from control_plane.store.deployments import apply_deployment
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.reads import StoreReads
from tests.builders import a_deployment
from tests.fakes.clock import FakeClock


async def test_a_read_has_what_was_committed_before_it_was_asked_for(
    database: Database, write: WriteContext
) -> None:
    reads = StoreReads(database, FakeClock())
    assert reads.held is None
    before = await reads.newest()
    await database.run(apply_deployment, write, a_deployment("a"), "", "")
    after = await reads.newest()
    assert [one.deployment.name for one in after.store.deployments] == ["a"]
    assert (before.commits, after.commits) == (database.commits - 1, database.commits)
    assert reads.held is after


async def test_what_did_not_move_is_the_value_of_before(
    database: Database, write: WriteContext
) -> None:
    reads = StoreReads(database, FakeClock())
    first = await reads.snapshot()
    assert await reads.snapshot() is first
    await database.run(apply_deployment, write, a_deployment("a"), "", "")
    assert (await reads.snapshot()).planes is first.planes


async def test_a_crowd_shares_the_reads_that_begin_after_it_asked(
    database: Database, write: WriteContext
) -> None:
    reads = StoreReads(database, FakeClock())
    await reads.newest()
    async with asyncio.TaskGroup() as group:
        under_way = group.create_task(reads.newest())  # begins before the others ask
        late = [group.create_task(reads.newest()) for _ in range(20)]
    # Who asked while a read was under way waits for the next one, all of them for the same.
    assert {one.result().number for one in late} == {under_way.result().number + 1}
