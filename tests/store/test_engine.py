"""The database's own promises: whole transactions, a gapless log, errors of known kinds."""

import asyncio
import gc
import threading
from dataclasses import replace
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.orm import Session

from control_plane.store.changes import append_change, last_sequence, list_changes
from control_plane.store.deployments import apply_deployment, list_deployments
from control_plane.store.engine import WAITING_JOBS_MAX, Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from control_plane.store.schema import upgrade
from control_plane.store.values import AppliedDeployment, ApplyOutcome
from skerry.plumbing.errors import Exhausted, SkerryError, StaleGeneration, Unavailable
from tests.builders import T0, a_deployment

WRITERS = 4
WRITES = 25


def test_numbers_of_changes_have_no_gap_under_parallel_writers(
    database: Database, write: WriteContext
) -> None:
    failures: list[Exception] = []

    def work(writer: int) -> None:
        for number in range(WRITES):
            try:
                with database.write() as session:
                    append_change(session, write, "test", f"{writer}", f"{number}")
                    if number % 5 == 0:
                        raise RuntimeError("rolled back: its number must be given again")
            except RuntimeError:
                continue
            except Exception as error:
                failures.append(error)

    threads = [threading.Thread(target=work, args=(n,)) for n in range(WRITERS)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    with database.read() as session:
        found = [change.sequence for change in list_changes(session, 0, 1_000)]
        assert last_sequence(session) == len(found)
    assert failures == []
    assert found == list(range(1, 2 + WRITERS * WRITES * 4 // 5))


async def test_parallel_first_applies_of_one_name_give_one_creation(
    migrated: str, database: Database, write: WriteContext
) -> None:
    other = open_database(migrated)
    results = await asyncio.gather(
        *(
            side.run(apply_deployment, write, a_deployment(), "", "")
            for side in (database, other) * 3
        )
    )
    other.close()
    outcomes = sorted(result.outcome for result in results)
    assert outcomes == [ApplyOutcome.CREATED, *[ApplyOutcome.UNCHANGED] * 5]


async def test_a_leader_is_deposed_only_between_transactions(
    migrated: str, database: Database, write: WriteContext
) -> None:
    """The old leader's open transaction ends before the new epoch begins; its next is refused."""
    rival = open_database(migrated)
    inside, leave = threading.Event(), threading.Event()

    def hold(session: Session) -> AppliedDeployment:
        applied = apply_deployment(session, write, a_deployment(), "", "")
        inside.set()
        assert leave.wait(10)
        return applied

    async with asyncio.TaskGroup() as group:
        holding = group.create_task(database.run(hold))
        await asyncio.to_thread(inside.wait, 10)
        taking = group.create_task(rival.run(take_leadership, "cp-2", T0))
        done, _ = await asyncio.wait({taking}, timeout=0.1)
        assert not done
        leave.set()
    assert holding.result().outcome is ApplyOutcome.CREATED
    assert taking.result() == write.epoch + 1
    with pytest.raises(StaleGeneration):
        await database.run(apply_deployment, write, a_deployment("late"), "", "")
    rival.close()


async def test_a_cancelled_call_leaves_a_whole_transaction(
    database: Database, write: WriteContext
) -> None:
    inside, leave = threading.Event(), threading.Event()

    def slow(session: Session) -> None:
        apply_deployment(session, write, a_deployment("one"), "", "")
        inside.set()
        assert leave.wait(10)
        apply_deployment(session, write, a_deployment("two"), "", "")

    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await database.run(slow)
    await asyncio.to_thread(inside.wait, 10)
    leave.set()
    stored = await database.run_read(list_deployments)
    assert [s.deployment.name for s in stored] == ["one", "two"]


async def test_a_failure_that_nobody_waits_for_any_more_is_no_fault(database: Database) -> None:
    """Whoever leads no more cancels what it waits for: a traceback in its log looked like harm."""
    inside, leave, faults = threading.Event(), threading.Event(), []

    def deposed(_: Session) -> None:
        inside.set()
        assert leave.wait(10)
        raise StaleGeneration("another leads")

    asyncio.get_running_loop().set_exception_handler(lambda _, told: faults.append(told))
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.05):
            await database.run(deposed)
    await asyncio.to_thread(inside.wait, 10)
    leave.set()
    await database.run_read(list_deployments)  # behind it
    gc.collect()
    assert faults == []


async def test_a_failed_function_leaves_nothing(database: Database, write: WriteContext) -> None:
    def half(session: Session) -> None:
        apply_deployment(session, write, a_deployment(), "", "")
        raise ValueError("half way")

    with pytest.raises(ValueError, match="half way"):
        await database.run(half)
    assert await database.run_read(list_deployments) == ()


async def test_a_commit_wakes_who_waits_and_a_read_does_not(
    database: Database, write: WriteContext
) -> None:
    committed = database.next_commit()
    await database.run_read(list_deployments)
    assert not committed.is_set()
    await database.run(apply_deployment, write, a_deployment(), "", "")
    async with asyncio.timeout(5):
        await committed.wait()
    assert not database.next_commit().is_set()


def test_a_read_cannot_write(database: Database, write: WriteContext) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no read-only transaction; a read is rolled back at its end")
    with pytest.raises(SkerryError), database.read() as session:
        append_change(session, write, "kind", "subject", "summary")


async def test_too_many_waiting_calls_are_refused(database: Database) -> None:
    inside, leave = threading.Event(), threading.Event()

    def hold(session: Session) -> None:
        inside.set()
        assert leave.wait(10)

    async with asyncio.TaskGroup() as group:
        group.create_task(database.run_read(hold))
        await asyncio.to_thread(inside.wait, 10)
        for _ in range(WAITING_JOBS_MAX - 1):
            group.create_task(database.run_read(last_sequence))
        # Our own call is the last to be handed over: all those above wait by then.
        refused = group.create_task(_kind_of_failure(database))
        await asyncio.wait({refused})
        leave.set()
    assert refused.result() is Exhausted
    assert await database.run_read(last_sequence) == 0


async def test_a_closed_database_is_unavailable(database: Database) -> None:
    database.close()
    with pytest.raises(Unavailable, match="stopping"):
        await database.run_read(list_deployments)


def test_a_database_without_room_says_so_and_recovers(tmp_path: Path) -> None:
    url = f"sqlite:///{tmp_path / 'skerry.db'}"
    upgrade(url)
    database = open_database(url)
    with database.write() as session:
        epoch = take_leadership(session, "cp-1", T0)
        pages = session.execute(text("pragma page_count")).scalar_one()
        session.execute(text(f"pragma max_page_count = {pages}"))
    write = WriteContext(epoch=epoch, actor="user:root", now=T0)
    big = replace(a_deployment(), labels=tuple((f"key-{n}", "x" * 200) for n in range(60)))
    with pytest.raises(Exhausted, match="free space"), database.write() as session:
        apply_deployment(session, write, big, "", "")
    with database.write() as session:
        session.execute(text("pragma max_page_count = 100000"))
    with database.write() as session:
        apply_deployment(session, write, big, "", "")
    database.close()


def test_a_missing_folder_is_named_unavailable(tmp_path: Path) -> None:
    with pytest.raises(Unavailable, match="unable to open"):
        upgrade(f"sqlite:///{tmp_path / 'nowhere' / 'skerry.db'}")


async def test_a_database_that_was_restarted_is_reached_again(
    database: Database, write: WriteContext
) -> None:
    if database.dialect != "postgresql":
        pytest.skip("SQLite has no connection to lose")
    other = "select pg_terminate_backend(pid) from pg_stat_activity where pid <> pg_backend_pid()"
    await database.run_read(last_sequence)
    with database.write() as session:
        session.execute(text(f"{other} and datname = current_database()"))
    assert await database.run_read(last_sequence) == 1


async def _kind_of_failure(database: Database) -> type[Exception] | None:
    try:
        await database.run_read(last_sequence)
    except SkerryError as error:
        return type(error)
    return None
