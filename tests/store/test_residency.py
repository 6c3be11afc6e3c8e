"""Records of where requests went are kept once, in their chain, and checked when they are read."""

from dataclasses import replace
from datetime import timedelta

from sqlalchemy import delete, update

from control_plane.evidence import EvidenceFlush
from control_plane.link.registry import Registry
from control_plane.store import tables
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.planes import record_report
from control_plane.store.residency import (
    DAYS_KEPT,
    Taken,
    Told,
    evidence_of,
    forget_residency,
    keep_residency,
    read_evidence,
)
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.change_chain import Link
from skerry.fleet.residency import Record, Row, Way, link_of
from skerry.fleet.residency_proof import PlaneEvidence
from tests.builders import a_report
from tests.fakes.clock import START, FakeClock

PLANE = "onprem-fra"
AT = int(START.timestamp() * 1000)
ROW = Row(
    minute=AT // 60_000,
    deployment="demo",
    way=Way.HERE,
    plane="",
    zones=("eu",),
    allowed=("eu",),
    generation="1.1",
    count=3,
)


def records(count: int, chain: str = "c1") -> list[Record]:
    return [
        Record(
            sequence=i + 1,
            chain=chain,
            from_ms=AT + i * 60_000,
            to_ms=AT + (i + 1) * 60_000,
            rows=(replace(ROW, minute=ROW.minute + i),),
        )
        for i in range(count)
    ]


def chained(told: list[Record]) -> list[Link]:
    links: list[Link] = []
    for record in told:
        links.append(link_of(record, links[-1].digest if links else None))
    return links


def keep(database: Database, write: WriteContext, links: list[Link], chain: str = "c1") -> Taken:
    with database.write() as session:
        (taken,) = keep_residency(
            session, write, (Told(plane=PLANE, chain=chain, links=tuple(links)),)
        )
    return taken


def evidence(database: Database) -> PlaneEvidence:
    with database.read() as session:
        stored = read_evidence(session, AT - 60_000, AT + 86_400_000)
    assert stored is not None
    (found,) = evidence_of(stored)
    return found


def test_they_are_kept_once_and_go_on_where_they_ended(
    database: Database, write: WriteContext
) -> None:
    told = records(5)
    links = chained(told)
    assert keep(database, write, []).sequence == 0
    assert keep(database, write, links[:3]).sequence == 3
    assert keep(database, write, links[1:]) == Taken(plane=PLANE, chain="c1", sequence=5)
    assert keep(database, write, []).sequence == 5
    assert evidence(database) == PlaneEvidence(plane=PLANE, records=tuple(told))


def test_what_does_not_follow_is_not_kept_and_that_is(
    database: Database, write: WriteContext
) -> None:
    told = records(4)
    links = chained(told)
    keep(database, write, links[:2])
    forged = chained([replace(told[0], rows=()), *told[1:]])
    assert "told otherwise before" in keep(database, write, forged[:2]).fault
    taken = keep(database, write, links[2:])
    assert taken.sequence == 2, "nothing more of that chain"
    assert taken.fault
    anew = replace(told[0], chain="c2", why="told otherwise")
    assert not keep(database, write, chained([anew]), "c2").fault
    assert len(evidence(database).records) == 3


def test_an_altered_record_is_refused(database: Database, write: WriteContext) -> None:
    first, second = chained(records(2))
    altered = replace(second, content=second.content.replace("demo", "dem0"))
    taken = keep(database, write, [first, altered])
    assert (taken.sequence, "was altered" in taken.fault) == (0, True)
    assert "of another chain" in keep(database, write, [first], "c2").fault
    with database.read() as session:
        stored = read_evidence(session, 0, 2 * AT)
    assert stored is not None
    assert evidence_of(stored) == ()


def test_records_that_the_plane_forgot_leave_a_gap_and_no_fault(
    database: Database, write: WriteContext
) -> None:
    links = chained(records(5))
    keep(database, write, links[:2])
    assert keep(database, write, links[3:]) == Taken(plane=PLANE, chain="c1", sequence=5)
    found = evidence(database)
    assert (len(found.records), found.fault) == (4, "")


def test_who_writes_to_the_database_by_hand_is_found(
    database: Database, write: WriteContext
) -> None:
    keep(database, write, chained(records(4)))
    table = tables.residency_records
    with database.write() as session:
        row = session.execute(table.select().where(table.c.sequence == 2)).mappings().one()
        other = row["content"].replace('"demo"', '"dem0"')
        session.execute(update(table).where(table.c.sequence == 2).values(content=other))
    assert "record 2 was altered" in evidence(database).fault
    with database.write() as session:
        session.execute(delete(table).where(table.c.sequence == 2))
    found = evidence(database)
    assert [one.sequence for one in found.records] == [1, 3, 4], "its time is a gap"


def test_a_plane_that_told_nothing_is_there_since_it_joined(
    database: Database, write: WriteContext
) -> None:
    with database.write() as session:
        early = replace(write, now=START - timedelta(hours=1))
        record_report(session, early, a_report("earlier"))
        record_report(session, replace(write, now=START + timedelta(hours=1)), a_report(PLANE))

    def since(from_ms: int) -> dict[str, int]:
        with database.read() as session:
            stored = read_evidence(session, from_ms, AT + 86_400_000)
        assert stored is not None
        return {one.plane: one.since_ms for one in evidence_of(stored)}

    assert since(AT) == {"earlier": 0, PLANE: AT + 3_600_000}
    assert since(AT + 7_200_000) == {"earlier": 0, PLANE: 0}
    assert since(AT - 7_200_000) == {"earlier": 0, PLANE: 0}, "the database knows nothing of then"
    told = [replace(records(1)[0], from_ms=AT + 60_000, to_ms=AT + 120_000)]
    keep(database, write, chained(told))
    assert since(AT)[PLANE] == AT + 60_000


async def test_what_came_over_the_link_is_stored_and_its_plane_told_so(
    database: Database, write: WriteContext
) -> None:
    clock = FakeClock()
    registry = Registry(clock, lambda: None)
    outbox = registry.open(a_report(PLANE), "run", 3.0, stream_number=1)
    flush = EvidenceFlush(database=database, clock=clock, epoch=write.epoch, registry=registry)
    told = messages.ResidencyReport(
        chain="c1",
        records=[
            messages.ResidencyRecord(
                sequence=link.sequence,
                content=link.content,
                previous_digest=link.previous or b"",
                digest=link.digest or b"",
            )
            for link in chained(records(2))
        ],
    )
    registry.evidence.put(PLANE, told)
    assert (await flush.store(), await flush.store()) == (1, 0)
    assert outbox.take_taken() == Taken(plane=PLANE, chain="c1", sequence=2)
    assert outbox.take_taken() is None
    assert evidence(database).records == tuple(records(2))


def test_old_ones_are_forgotten(database: Database, write: WriteContext) -> None:
    keep(database, write, chained(records(3)))
    later = replace(write, now=START + timedelta(days=DAYS_KEPT, seconds=90))
    with database.write() as session:
        assert forget_residency(session, later) == 1
    assert [one.sequence for one in evidence(database).records] == [2, 3]
