"""The change log: append-only, one gapless number a committed change; feeds Watch and the audit.

Each record is chained to the one before (`skerry.fleet.change_chain`; `audit` verifies it). Old
ones may be forgotten; then Watch says from which number on there still are some.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any

from sqlalchemy import RowMapping, delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import Change
from skerry.fleet.change_chain import CONTENT_FIELDS, content_of, digest_of
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.project import ANY_PROJECT
from skerry.plumbing.errors import NotFound, OutOfRange

# A summary is for one line on a screen; what changed in full is in `before` and `after`.
SUMMARY_CHARACTERS_MAX = 1_000
REASON_CHARACTERS_MAX = 1_000
# Of one transaction that forgets: 10,000 rows take SQLite 40 ms, and others wait for that long.
FORGOTTEN_AT_ONCE_MAX = 10_000

FORGOTTEN = "changes.forgotten"

_WHOLE = ("before", "after")
_FIELDS = tuple(field.name for field in fields(Change))
_BRIEF = tuple(name for name in _FIELDS if name not in _WHOLE)


@dataclass(frozen=True, slots=True, kw_only=True)
class Effect:
    """What a change did to its subject, as JSON; None where there was nothing."""

    before: Any = None
    after: Any = None


NO_EFFECT = Effect()


@dataclass(frozen=True, slots=True, kw_only=True)
class Entry:
    """One of several changes that are recorded together."""

    kind: str
    subject: str
    summary: str
    effect: Effect = NO_EFFECT


def append_change(
    session: Session,
    write: WriteContext,
    kind: str,
    subject: str,
    summary: str,
    effect: Effect = NO_EFFECT,
) -> int:
    """Record a change and return its number; call it last, for it locks the counter."""
    told = Entry(kind=kind, subject=subject, summary=summary, effect=effect)
    return append_changes(session, write, (told,))


def append_changes(session: Session, write: WriteContext, entries: Sequence[Entry]) -> int:
    """Record changes in their order and return the last one's number; call it last, as above.

    In as many statements as one change takes: thousands of planes may be judged at once.
    """
    check_epoch(session, write.epoch)
    assert entries, "there is no number of no change"
    counter = tables.change_counter
    counted = update(counter).values(sequence=counter.c.sequence + len(entries))
    row = session.execute(counted.returning(counter.c.sequence, counter.c.digest)).one()
    digest, rows = row.digest, []
    for sequence, told in enumerate(entries, row.sequence - len(entries) + 1):
        change = Change(
            sequence=sequence,
            time=write.now,
            actor=write.actor,
            kind=told.kind,
            subject=told.subject,
            summary=told.summary[:SUMMARY_CHARACTERS_MAX],
            epoch=write.epoch,
            project=write.project,
            reason=write.reason[:REASON_CHARACTERS_MAX],
            before=told.effect.before,
            after=told.effect.after,
        )
        values = {name: getattr(change, name) for name in _FIELDS}
        previous, digest = digest, digest_of(content_of_change(change), digest)
        rows.append({**values, "previous_digest": previous, "digest": digest})
    session.execute(insert(tables.changes), rows)
    session.execute(update(counter).values(digest=digest))
    return int(row.sequence)


def get_change(session: Session, sequence: int, project: str = ANY_PROJECT) -> Change:
    """Return a change with what it did; NotFound when there is none of that number any more.

    Of a `project` only its own are there.
    """
    query = select(tables.changes).where(tables.changes.c.sequence == sequence)
    row = session.execute(query).mappings().one_or_none()
    change = None if row is None else change_of_row(row)
    if change is not None and project not in (ANY_PROJECT, change.project):
        raise NotFound(f"change {sequence} does not exist in project {project!r}")
    if change is None:
        oldest = oldest_sequence(session)
        raise NotFound(
            f"change {sequence} does not exist; the oldest that is kept is {oldest}, the newest"
            f" {last_sequence(session)}"
        )
    return change


def list_changes(
    session: Session,
    from_sequence: int,
    limit: int,
    newest_first: bool = False,
    before_sequence: int | None = None,
    project: str = ANY_PROJECT,
) -> tuple[Change, ...]:
    """Return at most `limit` changes between `from_sequence` and `before_sequence`, exclusive.

    Of a `project` those that are its own, of any all.
    They come without `before` and `after`: a page of a thousand would be too large with them.
    """
    table = tables.changes
    order = table.c.sequence.desc() if newest_first else table.c.sequence.asc()
    brief = [table.c[name] for name in _BRIEF]
    query = select(*brief).where(table.c.sequence > from_sequence).order_by(order).limit(limit)
    if before_sequence is not None:
        query = query.where(table.c.sequence < before_sequence)
    if project == DEFAULT_PROJECT:
        # Missing from records of the first release.
        query = query.where((table.c.project == project) | table.c.project.is_(None))
    elif project != ANY_PROJECT:
        query = query.where(table.c.project == project)
    # Rows are read as tuples: by name a thousand take twice as long.
    rows = session.execute(query).all()
    return tuple(change_of_row(dict(zip(_BRIEF, row, strict=True))) for row in rows)


def last_sequence(session: Session) -> int:
    """Return the number of the newest change, 0 before the first."""
    return int(session.execute(select(tables.change_counter.c.sequence)).scalar_one())


def oldest_sequence(session: Session) -> int:
    """Return the number of the oldest change that was not forgotten, 1 before the first."""
    return int(session.execute(select(tables.change_counter.c.compacted_to)).scalar_one()) + 1


def check_kept(session: Session, from_sequence: int) -> None:
    """Raise OutOfRange unless every change above `from_sequence` is kept or still to come."""
    newest, oldest = last_sequence(session), oldest_sequence(session)
    if from_sequence > newest:
        raise OutOfRange(
            f"from_sequence {from_sequence} is above the newest change, {newest};"
            " start again from what you list",
            field="from_sequence",
        )
    if from_sequence < oldest - 1:
        raise OutOfRange(
            f"changes up to {oldest - 1} were forgotten; the oldest that is kept is {oldest}: list"
            f" what there is and watch from {oldest - 1} or later",
            field="from_sequence",
            hints={"oldest_sequence": str(oldest)},
        )


def forget_changes(session: Session, write: WriteContext, up_to: int) -> int:
    """Forget changes up to a number, 10,000 at most at once; return how many were forgotten.

    The newest change always stays. What is forgotten is itself a change.
    """
    check_epoch(session, write.epoch)
    first = oldest_sequence(session)
    last = min(up_to, last_sequence(session) - 1, first + FORGOTTEN_AT_ONCE_MAX - 1)
    if last < first:
        return 0
    table = tables.changes
    old = select(table.c.digest).where(table.c.sequence <= last, table.c.digest.is_not(None))
    digest = session.execute(old.order_by(table.c.sequence.desc()).limit(1)).scalar()
    session.execute(delete(table).where(table.c.sequence <= last))
    session.execute(update(tables.change_counter).values(compacted_to=last))
    # In the chain itself: whoever removes old records and calls them forgotten has no such record.
    effect = Effect(after={"up_to": last, "digest": digest.hex() if digest else ""})
    append_change(session, write, FORGOTTEN, "changes", f"{first} to {last}", effect)
    return last - first + 1


def content_of_change(change: Change) -> str:
    """Return the text that a change's digest is of."""
    values = [getattr(change, name) for name in CONTENT_FIELDS]
    values[CONTENT_FIELDS.index("time")] = change.time.isoformat(timespec="microseconds")
    return content_of(values)


def change_of_row(row: Mapping[str, Any] | RowMapping) -> Change:
    """Return the change of a row, or of as much of it as was read."""
    values = {name: row[name] for name in _FIELDS if name in row}
    # Missing from records of the first release.
    values["project"] = values["project"] or DEFAULT_PROJECT
    values["reason"] = values["reason"] or ""
    return Change(**values)
