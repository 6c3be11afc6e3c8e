"""Leases are renewed in one batch, by plane, without a change in the log."""

from dataclasses import replace
from datetime import timedelta

from control_plane.store.changes import last_sequence
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.leases import flush_leases, list_leases
from control_plane.store.values import StoredLease
from control_plane.upkeep import LeaseFlush, renewed
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import Observation, ReplicaState
from skerry.plumbing.clock import SystemClock
from tests.builders import a_replica, a_report
from tests.fakes.clock import START, FakeClock


def test_a_batch_inserts_and_renews(database: Database, write: WriteContext) -> None:
    first = StoredLease(plane="a", heard_at=START, held=NEVER, replicas_ready=0)
    later = StoredLease(
        plane="a",
        heard_at=START + timedelta(seconds=1),
        held=Version(epoch=1, generation=4),
        replicas_ready=3,
    )
    other = StoredLease(plane="b", heard_at=START, held=NEVER, replicas_ready=1)
    with database.write() as session:
        before = last_sequence(session)
        assert flush_leases(session, write, [first]) == 1
        assert flush_leases(session, write, [later, other]) == 2
        assert flush_leases(session, write, []) == 0
        assert list_leases(session, write.now) == {"a": later, "b": other}
        assert last_sequence(session) == before


def test_a_batch_of_many_keeps_each_time_to_the_microsecond(
    database: Database, write: WriteContext
) -> None:
    leases = [
        StoredLease(
            plane=f"p{number:04d}",
            heard_at=START + timedelta(microseconds=number),
            held=Version(epoch=1, generation=2**40 + number),
            replicas_ready=number,
        )
        for number in range(1_200)
    ]
    with database.write() as session:
        assert flush_leases(session, write, leases) == len(leases)
        assert list(list_leases(session, write.now).values()) == leases


def test_leaders_whose_clocks_disagree_agree_on_how_long_a_plane_is_silent(
    database: Database, write: WriteContext
) -> None:
    """On one host, which all of SQLite is, there is one clock."""
    hours = 0 if database.dialect == "sqlite" else 2
    now = SystemClock().now()
    ahead = replace(write, now=now + timedelta(hours=hours))
    heard_at = ahead.now - timedelta(seconds=300)
    lease = StoredLease(plane="a", heard_at=heard_at, held=NEVER, replicas_ready=1)
    with database.write() as session:
        flush_leases(session, ahead, [lease])
    behind = now - timedelta(hours=hours)
    with database.read() as session:
        found = list_leases(session, behind)["a"]
    assert abs((behind - found.heard_at).total_seconds() - 300.0) < 30.0


def test_only_who_said_something_since_is_flushed() -> None:
    report = a_report(
        "a", replicas=(a_replica(name="x"), a_replica(name="y", state=ReplicaState.STARTING))
    )
    observations = {"a": Observation(report=report, received_at=START)}
    (lease,) = renewed(observations, {})
    assert (lease.plane, lease.replicas_ready) == ("a", 1)
    assert renewed(observations, {"a": START}) == ()
    assert len(renewed(observations, {"a": START - timedelta(seconds=1)})) == 1


class _Reports:
    def __init__(self) -> None:
        self.told = {"a": Observation(report=a_report("a"), received_at=START)}

    def observations(self) -> dict[str, Observation]:
        return self.told


async def test_what_could_not_be_written_goes_with_the_next_batch(
    database: Database, write: WriteContext
) -> None:
    reports = _Reports()
    flush = LeaseFlush(database=database, clock=FakeClock(), epoch=write.epoch, reports=reports)
    assert await flush.flush() == 1
    assert await flush.flush() == 0
    reports.told["b"] = Observation(report=a_report("b"), received_at=START)
    assert await flush.flush() == 1
