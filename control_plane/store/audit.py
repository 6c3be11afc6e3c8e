"""The change log as an audit: read with what chains it, and verified in pieces.

A piece is a read of its own, so that a log of a million changes holds nobody up.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace
from datetime import datetime

from sqlalchemy import func, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import (
    FORGOTTEN,
    change_of_row,
    check_kept,
    content_of_change,
    oldest_sequence,
)
from skerry.fleet.change_chain import Link, Noted, Verified, beyond, verify_links
from skerry.plumbing.errors import OutOfRange

READ_AT_ONCE = 500  # of records with all that they changed
# Of one piece: 0.08 s, and 0.4 s where each holds 7 kB; others wait for that long.
VERIFIED_AT_ONCE_MAX = 1_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Piece:
    """How far the log is verified; `is_whole` once its end was reached, or a fault."""

    found: Verified
    newest: int
    compacted_to: int
    is_whole: bool


def verify_changes(session: Session, noted: Noted | None = None) -> Verified:
    """Return how far the log is sound, from its oldest change on; reads all of it."""
    piece = verify_piece(session, None, noted)
    while not piece.is_whole:
        piece = verify_piece(session, piece.found, noted)
    return piece.found


def verify_piece(session: Session, before: Verified | None, noted: Noted | None = None) -> Piece:
    """Verify the next 1,000 changes after what was verified before; None: from the oldest.

    OutOfRange where they were forgotten meanwhile, and where what was noted was.
    """
    counter = session.execute(select(tables.change_counter)).one()
    compacted_to: int = counter.compacted_to
    if before is None:
        _check_comparable(noted, compacted_to)
        before = _beginning(session, compacted_to)
    elif before.sequence < compacted_to:
        raise OutOfRange(
            f"changes up to {compacted_to} were forgotten meanwhile; verify from the start again",
            hints={"oldest_sequence": str(compacted_to + 1)},
        )
    found, read, is_whole = before, 0, bool(before.fault)
    while not is_whole and read < VERIFIED_AT_ONCE_MAX:
        links = list_links(session, found.sequence, READ_AT_ONCE)
        found, read = verify_links(links, found, noted), read + len(links)
        if len(links) < READ_AT_ONCE and not found.fault:
            found = beyond(_ended(found, counter.sequence, counter.digest), noted)
            is_whole = True
        is_whole = is_whole or bool(found.fault)
    return Piece(found=found, newest=counter.sequence, compacted_to=compacted_to, is_whole=is_whole)


def list_links(session: Session, after: int, limit: int) -> tuple[Link, ...]:
    """Return at most `limit` changes above a number with what chains them, in order."""
    table = tables.changes
    query = select(table).where(table.c.sequence > after).order_by(table.c.sequence).limit(limit)
    return tuple(
        Link(
            sequence=row["sequence"],
            content=content_of_change(change_of_row(row)),
            previous=row["previous_digest"],
            digest=row["digest"],
        )
        for row in session.execute(query).mappings()
    )


def list_records(
    session: Session, after: int, since: datetime | None, limit: int, bytes_max: int
) -> tuple[Link, ...]:
    """Return the changes above a number, and from the first at or after a time on, for an export.

    At most `limit`, and no more than one past `bytes_max` of content. 0: from the oldest that is
    kept. OutOfRange where the next ones were forgotten, and for a number from the future.
    """
    after = after or oldest_sequence(session) - 1
    check_kept(session, after)
    if since is not None:
        table = tables.changes
        first = select(func.min(table.c.sequence)).where(table.c.time >= since)
        found = session.execute(first).scalar()
        if found is None:
            return ()
        after = max(after, found - 1)
    return tuple(_within(session, after, limit, bytes_max))


def _within(session: Session, after: int, limit: int, bytes_max: int) -> Iterator[Link]:
    size, left = 0, limit
    while left > 0:
        links = list_links(session, after, min(left, READ_AT_ONCE))
        for link in links:
            yield link
            size, after, left = size + len(link.content), link.sequence, left - 1
            if size > bytes_max:
                return
        if len(links) < READ_AT_ONCE:
            return


def _check_comparable(noted: Noted | None, compacted_to: int) -> None:
    if noted is not None and noted.sequence < compacted_to:
        raise OutOfRange(
            f"change {noted.sequence} was forgotten, as were all up to {compacted_to}: its digest"
            " can't be compared here; compare it with an export that has it",
            hints={"oldest_sequence": str(compacted_to + 1)},
        )


def _beginning(session: Session, compacted_to: int) -> Verified:
    """Return where the chain begins: what is gone must have been forgotten, in a record's words."""
    start = Verified(sequence=compacted_to, digest=None)
    if not compacted_to:
        return start
    table = tables.changes
    told = select(table.c.summary, table.c.after).where(table.c.kind == FORGOTTEN)
    row = session.execute(told.order_by(table.c.sequence.desc()).limit(1)).one_or_none()
    try:
        # Before this was told in `after`, the summary alone did: FIRST to LAST.
        effect = row.after or {"up_to": row.summary.rpartition(" ")[2]} if row else {}
        digest = bytes.fromhex(effect.get("digest", "")) or None
        if str(effect.get("up_to")) == str(compacted_to):
            return replace(start, digest=digest)
    except (AttributeError, TypeError, ValueError):
        pass  # no release of ours wrote that record
    fault = f"changes up to {compacted_to} are gone, and no record says that they were forgotten"
    return replace(start, fault=fault)


def _ended(found: Verified, newest: int, digest: bytes | None) -> Verified:
    if found.sequence == newest and found.digest in (None, digest):
        return found
    fault = (
        f"the log ends at change {found.sequence}, the counter is at {newest}: the newest records"
        " were removed or altered"
    )
    return replace(found, fault=fault)
