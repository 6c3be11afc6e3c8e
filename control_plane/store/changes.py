"""The change log: append-only, one gapless number a committed change; feeds Watch and the audit."""

from sqlalchemy import insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import Change

# A summary is for one line on a screen; what changed in full is in the tables.
SUMMARY_CHARACTERS_MAX = 1_000


def append_change(
    session: Session, write: WriteContext, kind: str, subject: str, summary: str
) -> int:
    """Record a change and return its number; call it last, for it locks the counter."""
    check_epoch(session, write.epoch)
    counter = tables.change_counter
    counted = update(counter).values(sequence=counter.c.sequence + 1)
    sequence = int(session.execute(counted.returning(counter.c.sequence)).scalar_one())
    session.execute(
        insert(tables.changes).values(
            sequence=sequence,
            time=write.now,
            actor=write.actor,
            kind=kind,
            subject=subject,
            summary=summary[:SUMMARY_CHARACTERS_MAX],
            epoch=write.epoch,
        )
    )
    return sequence


def list_changes(
    session: Session,
    from_sequence: int,
    limit: int,
    newest_first: bool = False,
    before_sequence: int | None = None,
) -> tuple[Change, ...]:
    """Return at most `limit` changes between `from_sequence` and `before_sequence`, exclusive."""
    table = tables.changes
    order = table.c.sequence.desc() if newest_first else table.c.sequence.asc()
    query = select(table).where(table.c.sequence > from_sequence).order_by(order).limit(limit)
    if before_sequence is not None:
        query = query.where(table.c.sequence < before_sequence)
    return tuple(Change(**row) for row in session.execute(query).mappings())


def last_sequence(session: Session) -> int:
    """Return the number of the newest change, 0 before the first."""
    return int(session.execute(select(tables.change_counter.c.sequence)).scalar_one())
