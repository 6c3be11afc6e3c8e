"""Leadership in the database: one holder at a time, by the database's clock, on both dialects."""

import asyncio
import contextlib
import threading
from collections.abc import Awaitable, Callable, Iterator
from datetime import timedelta

import pytest
from sqlalchemy import text, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import append_change, list_changes
from control_plane.store.control_planes import (
    ControlPlaneRole,
    Told,
    forget_control_planes,
    list_control_planes,
    tell_control_plane,
)
from control_plane.store.database_clock import IDLE_SECONDS_MAX, clock
from control_plane.store.engine import ATTEMPTS_MAX, Database, open_database
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.leadership import (
    Addresses,
    acquire,
    current_leadership,
    give_up,
    leading_epoch,
    renew,
    take_leadership,
)
from control_plane.store.recovery import end_recovery
from control_plane.store.values import Adoption
from skerry.plumbing.errors import SkerryError, StaleGeneration
from tests.fakes.clock import START

AT = Addresses(operator="h:1", link="h:2", http="h:3")
OTHER = Addresses(operator="o:1", link="o:2", http="o:3")
LONG = 60.0


@pytest.fixture
def rival(migrated: str, database: Database) -> Iterator[Database]:
    """The same database, as another process has it open."""
    rival = open_database(migrated)
    yield rival
    rival.close()


def test_the_first_one_acquires_and_the_second_waits_for_its_term(database: Database) -> None:
    with database.write() as session:
        assert acquire(session, "cp-1", AT, START, seconds=LONG) == 1
    with database.write() as session:
        assert acquire(session, "cp-2", OTHER, START, seconds=LONG) is None
        found = current_leadership(session)
    assert (found.epoch, found.holder, found.addresses) == (1, "cp-1", AT)
    assert found.seconds_left is not None
    assert LONG - 5 < found.seconds_left <= LONG


def test_a_term_that_is_over_is_anybodys_and_the_epoch_rises(database: Database) -> None:
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=-0.5)
        found = current_leadership(session)
        assert found.seconds_left is not None
        assert found.seconds_left < 0
    with database.write() as session:
        assert acquire(session, "cp-2", OTHER, START, seconds=LONG) == 2
        assert current_leadership(session).addresses == OTHER


def test_the_hosts_clock_has_no_say(database: Database) -> None:
    """A control plane whose clock is an hour ahead sees no term as over."""
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=LONG)
        ahead = START + timedelta(hours=1)
        assert acquire(session, "cp-2", OTHER, ahead, seconds=LONG) is None


def test_only_the_leader_renews(database: Database) -> None:
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=1.0)
        assert renew(session, 1, seconds=LONG) == 1
        left = current_leadership(session).seconds_left
        assert left is not None
        assert left > LONG - 5
        assert renew(session, 7, seconds=LONG) == 1
        take_leadership(session, "cp-2", START)
    with database.write() as session:
        assert renew(session, 1, seconds=LONG) == 2
        assert current_leadership(session).seconds_left is None


def test_what_was_given_up_is_free_at_once_and_stands_in_the_log(database: Database) -> None:
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=LONG)
        assert give_up(session, 1, "cp-1", START)
        assert not give_up(session, 1, "cp-1", START)
        assert current_leadership(session).seconds_left is None
        assert acquire(session, "cp-2", OTHER, START, seconds=LONG) == 2
        assert not give_up(session, 1, "cp-1", START)
        kinds = [change.kind for change in list_changes(session, 0, 10)]
    assert kinds == ["leadership.taken", "leadership.given-up", "leadership.taken"]


def test_a_leader_of_the_release_before_has_no_term(database: Database) -> None:
    """That release raises the epoch alone: its leader is found, without an address."""
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=LONG)
        row = tables.leadership
        session.execute(update(row).values(epoch=row.c.epoch + 1, holder="old"))
        found = current_leadership(session)
        assert renew(session, 1, seconds=LONG) == 2
    assert (found.epoch, found.holder, found.seconds_left) == (2, "old", None)
    assert found.addresses == Addresses()


async def test_of_many_that_acquire_at_once_one_leads(database: Database, rival: Database) -> None:
    takers = [(database, "a"), (rival, "b"), (database, "c"), (rival, "d")]
    found = await asyncio.gather(
        *(side.run(acquire, name, AT, START, seconds=LONG) for side, name in takers)
    )
    assert sorted(found, key=str) == [1, None, None, None]


async def led(database: Database, *, seconds: float) -> int:
    """Have cp-1 lead for so many seconds, and return its epoch."""
    epoch = await database.run(acquire, "cp-1", AT, START, seconds=seconds)
    assert epoch == 1
    return epoch


def write_of(epoch: int) -> WriteContext:
    return WriteContext(epoch=epoch, actor="user:test", now=START)


def write_one(session: Session, epoch: int) -> int:
    return append_change(session, write_of(epoch), "test.written", "test", f"under {epoch}")


class Held:
    """A write of an epoch that stops inside its transaction until it is told to go on."""

    def __init__(self, before_fence: bool) -> None:
        self.inside, self.leave = threading.Event(), threading.Event()
        self.before_fence = before_fence

    def __call__(self, session: Session, epoch: int) -> int:
        if self.before_fence:
            # Its snapshot, if it had one, would be older than what happens meanwhile.
            assert leading_epoch(session) == epoch
        else:
            check_epoch(session, epoch)
        self.inside.set()
        assert self.leave.wait(10)
        return write_one(session, epoch)


@pytest.mark.parametrize("takes", [take_leadership, None])
async def test_no_interleaving_lets_an_older_epoch_write_after_a_newer_one(
    database: Database, rival: Database, takes: Callable[..., int] | None
) -> None:
    """Fenced before the takeover: it waits for us. Fenced after it: we are refused."""
    epoch = await led(database, seconds=-0.5)

    async def take() -> int | None:
        if takes is not None:
            return await rival.run(takes, "cp-2", START)
        return await rival.run(acquire, "cp-2", OTHER, START, seconds=-0.5)

    held = Held(before_fence=False)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(database.run(held, epoch))
        await asyncio.to_thread(held.inside.wait, 10)
        taking = group.create_task(take())
        done, _ = await asyncio.wait({taking}, timeout=0.1)
        assert not done
        held.leave.set()
    assert taking.result() == 2
    assert writing.result() == 2  # the change's number: before the takeover's
    if database.dialect == "sqlite":  # its writers come one after another from their begin on
        return
    held = Held(before_fence=True)
    async with asyncio.TaskGroup() as group:
        late = group.create_task(outcome(database.run(held, 2)))
        await asyncio.to_thread(held.inside.wait, 10)
        assert await take() == 3
        held.leave.set()
    assert isinstance(late.result(), StaleGeneration)
    changes = await database.run_read(list_changes, 0, 100)
    assert [change.epoch for change in changes] == [1, 1, 2, 3]


async def outcome(awaited: Awaitable[object]) -> object:
    """Return what it returns or raises."""
    try:
        return await awaited
    except (SkerryError, ValueError) as error:
        return error


async def test_a_takeover_in_flight_is_waited_for_by_the_fence(
    database: Database, rival: Database
) -> None:
    """A write that meets a takeover which is not committed yet is decided by how that ends."""
    epoch = await led(database, seconds=-0.5)
    inside, leave = threading.Event(), threading.Event()

    def take_slowly(session: Session, fails: bool) -> None:
        take_leadership(session, "cp-2", START)
        inside.set()
        assert leave.wait(10)
        if fails:
            raise ValueError("rolled back")

    for fails in (True, False):
        inside.clear()
        leave.clear()
        async with asyncio.TaskGroup() as group:
            taking = group.create_task(outcome(rival.run(take_slowly, fails)))
            await asyncio.to_thread(inside.wait, 10)
            writing = group.create_task(outcome(database.run(write_one, epoch)))
            done, _ = await asyncio.wait({writing}, timeout=0.1)
            assert not done
            leave.set()
        assert isinstance(taking.result(), ValueError) is fails
        assert isinstance(writing.result(), StaleGeneration) is not fails


async def test_a_renewal_waits_for_no_long_write_of_the_leader(
    database: Database, rival: Database
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("an SQLite file has one writer, and one control plane that renews nothing")
    epoch = await led(database, seconds=LONG)
    held = Held(before_fence=False)
    async with asyncio.TaskGroup() as group:
        group.create_task(database.run(held, epoch))
        await asyncio.to_thread(held.inside.wait, 10)
        try:  # a lock that it waited for would be refused to it, for we hold on
            assert await rival.run(renew, epoch, seconds=LONG) == epoch
        finally:
            held.leave.set()


async def test_a_leader_that_stops_inside_a_write_does_not_hold_up_the_next(
    database: Database, rival: Database
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("an SQLite file has one control plane")
    epoch = await led(database, seconds=-0.5)
    held = Held(before_fence=False)
    async with asyncio.TaskGroup() as group:
        writing = group.create_task(outcome(database.run(held, epoch)))
        await asyncio.to_thread(held.inside.wait, 10)
        taken = None
        async with asyncio.timeout(IDLE_SECONDS_MAX + 2.5):
            while taken is None:
                with contextlib.suppress(SkerryError):  # a lock is waited for only so long
                    taken = await rival.run(acquire, "cp-2", OTHER, START, seconds=LONG)
        held.leave.set()
    assert isinstance(writing.result(), SkerryError)
    changes = await rival.run_read(list_changes, 0, 100)
    assert [change.epoch for change in changes] == [1, 2]


async def test_the_end_of_a_recovery_and_a_takeover_never_wait_for_each_other(
    database: Database, rival: Database
) -> None:
    """A standby that acquires has the term's row and waits for the epoch's; the end needs both."""
    if database.dialect == "sqlite":
        pytest.skip("an SQLite file has one writer")
    epoch = await led(database, seconds=-0.5)
    ended = threading.Event()

    def acquire_slowly(session: Session) -> int:
        session.execute(update(tables.leadership_terms).values(expires_at=None))
        inside.set()
        assert ended.wait(10)
        return take_leadership(session, "cp-2", START)

    inside = threading.Event()
    async with asyncio.TaskGroup() as group:
        taking = group.create_task(rival.run(acquire_slowly))
        await asyncio.to_thread(inside.wait, 10)
        try:
            await database.run(end_recovery, write_of(epoch), Adoption(epoch_floor=7))
        finally:
            ended.set()
    assert taking.result() > 7
    written = await rival.run_read(list_changes, 0, 100)
    assert [change.kind for change in written][-2:] == ["recovery.ended", "leadership.taken"]


async def test_the_end_of_a_recovery_and_a_stop_never_wait_for_each_other(
    database: Database, rival: Database
) -> None:
    """Who gives up has the term's row, and then needs the epoch and the counter of changes."""
    if database.dialect == "sqlite":
        pytest.skip("an SQLite file has one writer")
    epoch = await led(database, seconds=LONG)
    inside, leave = threading.Event(), threading.Event()

    def give_up_slowly(session: Session) -> None:
        session.execute(update(tables.leadership_terms).values(expires_at=None))
        check_epoch(session, epoch)
        inside.set()
        assert leave.wait(10)
        append_change(session, write_of(epoch), "test.given-up", "test", "")

    async with asyncio.TaskGroup() as group:
        stopping = group.create_task(rival.run(give_up_slowly))
        await asyncio.to_thread(inside.wait, 10)
        end = database.run(end_recovery, write_of(epoch), Adoption(epoch_floor=7))
        ending = group.create_task(end)
        done, _ = await asyncio.wait({ending}, timeout=0.2)
        assert not done
        leave.set()
    assert stopping.done()
    kinds = [change.kind for change in await rival.run_read(list_changes, 0, 100)]
    assert kinds[-2:] == ["test.given-up", "recovery.ended"]


async def test_a_serialisation_failure_is_tried_again_and_has_one_effect(
    database: Database,
) -> None:
    if database.dialect == "sqlite":
        pytest.skip("SQLite has no SQLSTATE")
    epoch = await led(database, seconds=LONG)
    tries = []

    def loses(session: Session, times: int) -> int:
        tries.append(1)
        number = write_one(session, epoch)
        if len(tries) <= times:
            session.execute(
                text("do $$ begin raise exception 'lost' using errcode = '40001'; end $$")
            )
        return number

    assert await database.run(loses, ATTEMPTS_MAX - 1) == 2
    assert len(tries) == ATTEMPTS_MAX
    tries.clear()
    with pytest.raises(SkerryError):
        await database.run(loses, ATTEMPTS_MAX)
    assert len(tries) == ATTEMPTS_MAX
    written = [c for c in await database.run_read(list_changes, 0, 100) if c.kind == "test.written"]
    assert len(written) == 1


def test_control_planes_are_listed_with_what_they_are(database: Database) -> None:
    table = tables.control_planes
    with database.write() as session:
        acquire(session, "cp-1", AT, START, seconds=LONG)
        for name, epoch in (("cp-1", 1), ("cp-2", 0), ("cp-3", 0), ("cp-4", 0)):
            told = Told(name=name, epoch=epoch, addresses=AT, software="skerry 1")
            tell_control_plane(session, told)
        for name, seconds in (("cp-3", -9.0), ("cp-4", -90_000.0)):
            late = update(table).where(table.c.name == name)
            session.execute(late.values(heard_at=clock(session, seconds)))
        roles = {one.told.name: one.role for one in list_control_planes(session)}
        assert roles == {
            "cp-1": ControlPlaneRole.LEADING,
            "cp-2": ControlPlaneRole.STANDING_BY,
            "cp-3": ControlPlaneRole.SILENT,
            "cp-4": ControlPlaneRole.SILENT,
        }
        assert forget_control_planes(session) == 1


def test_since_moves_with_the_role_and_not_with_the_heartbeat(database: Database) -> None:
    def tell(epoch: int) -> None:
        with database.write() as session:
            tell_control_plane(
                session, Told(name="cp-1", epoch=epoch, addresses=AT, software="skerry 1")
            )

    def since() -> object:
        with database.read() as session:
            return list_control_planes(session)[0].since

    tell(0)
    first = since()
    tell(0)
    assert since() == first
    deadline = 1_000
    while since() == first and deadline:  # SQLite's clock counts milliseconds
        tell(deadline % 2)
        deadline -= 1
    assert since() != first
