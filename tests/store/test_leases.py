"""Leases are renewed in one batch, by plane, without a change in the log."""

from datetime import timedelta

from control_plane.store.changes import last_sequence
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.leases import flush_leases, list_leases
from control_plane.store.values import StoredLease
from control_plane.upkeep import LeaseFlush, renewed
from skerry.fleet.generation import NEVER, Version
from skerry.fleet.observation import Observation, ReplicaState
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
        assert list_leases(session) == {"a": later, "b": other}
        assert last_sequence(session) == before


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
