"""What planes' gateways recorded of where requests went: kept as told, in chains, and read back.

`control_plane.evidence` writes what comes in over the link, no change of the log; the API reads it.
A record that does not follow what was told before is not kept, and that is.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import delete, insert, select, tuple_, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from skerry.fleet.change_chain import Link, Verified
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.residency import (
    CHAIN_CHARACTERS_MAX,
    CONTENT_CHARACTERS_MAX,
    Record,
    follow,
    record_of,
)
from skerry.fleet.residency_proof import PlaneEvidence

# How far back there is a proof; a quiet plane tells 144 records a day, a busy one ten times that.
DAYS_KEPT = 35
_MINUTE_MS = 60_000
FORGOTTEN_AT_ONCE_MAX = 5_000
# Read at once, in a tenth of a second: 100 busy planes for eight hours.
READ_MAX = 50_000
CHAIN_MAX = min(CHAIN_CHARACTERS_MAX, 63)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a plane told: its chain, and the next records of it; none asks what there is."""

    plane: str
    chain: str
    links: tuple[Link, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Taken:
    """Up to which record of its chain a plane's are kept; why no more can be, if so."""

    plane: str
    chain: str
    sequence: int
    fault: str = ""


def keep_residency(
    session: Session, write: WriteContext, told: Sequence[Told]
) -> tuple[Taken, ...]:
    """Keep what planes told, each once, and return how far each one's is kept now."""
    check_epoch(session, write.epoch)
    return tuple(_keep(session, one) for one in told)


def forget_residency(session: Session, write: WriteContext) -> int:
    """Forget records older than DAYS_KEPT, a piece of them; return how many."""
    check_epoch(session, write.epoch)
    table = tables.residency_records
    before = _ms(write.now - timedelta(days=DAYS_KEPT))
    key = (table.c.plane, table.c.chain, table.c.sequence)
    old = select(*key).where(table.c.to_ms < before).limit(FORGOTTEN_AT_ONCE_MAX)
    keys = [tuple(row) for row in session.execute(old)]
    for i in range(0, len(keys), 300):  # SQLite bounds a statement's parameters
        session.execute(delete(table).where(tuple_(*key).in_(keys[i : i + 300])))
    return len(keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEvidence:
    """What is stored of a time, as it is: to be made evidence of where it holds nobody up.

    Records and heads by plane, and when planes joined, in ms, of those that did since.
    """

    planes: frozenset[str]
    rows: Mapping[str, Sequence[Mapping[Any, Any]]]
    heads: Mapping[str, Mapping[Any, Any]]
    joined: Mapping[str, int]


def read_evidence(session: Session, since_ms: int, until_ms: int) -> StoredEvidence | None:
    """Return what planes told of a time; None where that is more than is read at once."""
    table = tables.residency_records
    query = (
        select(table)
        .where(table.c.to_ms >= since_ms, table.c.from_ms < until_ms)
        .order_by(table.c.plane, table.c.chain, table.c.sequence)
        .limit(READ_MAX + 1)
    )
    rows = session.execute(query).mappings().all()
    if len(rows) > READ_MAX:
        return None
    found: dict[str, list[Mapping[Any, Any]]] = {}
    for row in rows:
        found.setdefault(row["plane"], []).append(row)
    heads = session.execute(select(tables.residency_heads)).mappings()
    return StoredEvidence(
        planes=frozenset(session.execute(select(tables.planes.c.name)).scalars()),
        rows=found,
        heads={row["plane"]: row for row in heads},
        joined=_joined(session, since_ms),
    )


def evidence_of(stored: StoredEvidence) -> tuple[PlaneEvidence, ...]:
    """Return what every plane of the fleet told, by name; also those that told nothing."""
    return tuple(
        _evidence(
            plane, stored.rows.get(plane, ()), stored.joined.get(plane, 0), stored.heads.get(plane)
        )
        for plane in sorted(stored.planes | stored.rows.keys())
    )


def _keep(session: Session, told: Told) -> Taken:
    table = tables.residency_heads
    row = (
        session.execute(select(table).where(table.c.plane == told.plane).with_for_update())
        .mappings()
        .one_or_none()
    )
    is_known = row is not None and row["chain"] == told.chain
    head = Verified(sequence=0, digest=None)
    if row is not None and is_known:
        head = Verified(sequence=row["sequence"], digest=row["digest"])
        if row["fault"]:
            return _taken(told, head.sequence, row["fault"])
    new = [link for link in told.links if link.sequence > head.sequence]
    if not new and not told.links:
        return _taken(told, head.sequence)
    fault = _unlike(session, told, head)
    if not fault:
        fault = _add(session, told, new, head)
    if not fault and new:
        head = Verified(sequence=new[-1].sequence, digest=new[-1].digest)
    values = {
        "chain": told.chain,
        "sequence": head.sequence,
        "digest": head.digest,
        "fault": fault,
    }
    if row is None:
        session.execute(insert(table).values(plane=told.plane, **values))
    else:
        session.execute(update(table).where(table.c.plane == told.plane).values(**values))
    return _taken(told, head.sequence, fault)


def _add(session: Session, told: Told, new: Sequence[Link], head: Verified) -> str:
    """Add records that follow the head and one another; return what is wrong, with none added."""
    before, values = head, []
    for link in new:
        if len(link.content) > CONTENT_CHARACTERS_MAX or not link.digest:
            return f"record {link.sequence} is too long, or has no digest"
        # Records that the plane forgot before they were told are a gap in time, no fault.
        if link.sequence > before.sequence + 1:
            before = Verified(sequence=link.sequence - 1, digest=None)
        fault = follow((link,), before).fault
        if fault:
            return fault
        try:
            record = record_of(link)
        except ValueError as error:
            return str(error)
        if record.chain != told.chain:
            return f"record {link.sequence} is of another chain"
        before = Verified(sequence=link.sequence, digest=link.digest)
        values.append(_values(told, link, record))
    if values:
        session.execute(insert(tables.residency_records), values)
    return ""


def _unlike(session: Session, told: Told, head: Verified) -> str:
    """Return what of it was told otherwise before."""
    again = {link.sequence: link.digest for link in told.links if link.sequence <= head.sequence}
    if not again:
        return ""
    table = tables.residency_records
    query = select(table.c.sequence, table.c.digest).where(
        table.c.plane == told.plane,
        table.c.chain == told.chain,
        table.c.sequence.in_(sorted(again)),
    )
    for row in session.execute(query):
        if again[row.sequence] != row.digest:
            return f"record {row.sequence} was told otherwise before"
    return ""


def _values(told: Told, link: Link, record: Record) -> dict[str, Any]:
    """Return a record's row; it is found by its own time, and by that of all that it counts.

    A turn with many rows has records of a moment, whose rows are of hours after it.
    """
    minutes = [row.minute for row in record.rows]
    return {
        "plane": told.plane,
        "chain": told.chain,
        "sequence": link.sequence,
        "from_ms": min([record.from_ms, *(minute * _MINUTE_MS for minute in minutes)]),
        "to_ms": max([record.to_ms, *((minute + 1) * _MINUTE_MS for minute in minutes)]),
        "content": link.content,
        "previous": link.previous,
        "digest": link.digest,
    }


def _taken(told: Told, sequence: int, fault: str = "") -> Taken:
    return Taken(plane=told.plane, chain=told.chain, sequence=sequence, fault=fault)


def _evidence(
    plane: str, rows: Sequence[Mapping[Any, Any]], joined_ms: int, head: Mapping[Any, Any] | None
) -> PlaneEvidence:
    """Return the records with their digests checked anew: the database may have been written to."""
    records: list[Record] = []
    before: tuple[str, Verified] | None = None
    fault = ""
    for row in rows:
        link = Link(
            sequence=row["sequence"],
            content=row["content"],
            previous=row["previous"],
            digest=row["digest"],
        )
        follows = before is not None and before[0] == row["chain"] and bool(records)
        start = Verified(sequence=link.sequence - 1, digest=None)
        is_jump = before is not None and before[1].sequence != start.sequence
        if before is not None and follows and not is_jump:
            start = before[1]
        fault = fault or follow((link,), start).fault or _newest_fault(link, row["chain"], head)
        before = (row["chain"], Verified(sequence=link.sequence, digest=link.digest))
        try:
            record = record_of(link)
        except ValueError as error:
            fault = fault or str(error)
            continue
        # A record that its plane forgot leaves a gap in time; one of a moment leaves none.
        if follows and is_jump and record.from_ms <= records[-1].to_ms:
            fault = fault or f"records before {link.sequence} are missing"
        records.append(record)
    if fault:
        fault = f"its records in the database are broken: {fault}"
    # One that joined again, after a backup was restored, may tell of the time before.
    since_ms = min([joined_ms, *(record.from_ms for record in records)])
    return PlaneEvidence(plane=plane, since_ms=since_ms, records=tuple(records), fault=fault)


def _newest_fault(link: Link, chain: str, head: Mapping[Any, Any] | None) -> str:
    if head is None or head["chain"] != chain or head["sequence"] != link.sequence:
        return ""
    return "" if head["digest"] == link.digest else f"record {link.sequence} was replaced"


def _joined(session: Session, since_ms: int) -> dict[str, int]:
    """Return when planes joined, in ms, of those that did since a moment.

    None where the log does not reach back to it: a database that was lost knows of no plane before.
    """
    table = tables.changes
    began = session.execute(select(table.c.time).order_by(table.c.sequence).limit(1)).scalar()
    if began is None or _ms(began) > since_ms:
        return {}
    query = select(table.c.subject, table.c.time).where(
        table.c.kind == "plane.reported",
        table.c.time >= datetime.fromtimestamp(since_ms / 1000, UTC),
        table.c.summary.like("joined%"),
    )
    prefix = full_name(DEFAULT_PROJECT, "planes", "")
    return {row.subject.removeprefix(prefix): _ms(row.time) for row in session.execute(query)}


def _ms(moment: datetime) -> int:
    return int(moment.timestamp() * 1000)
