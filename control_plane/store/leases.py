"""Leases: when each plane was last heard, written in one batch a second; no change of the log.

Kept by the database's clock: leaders of several hosts write and read them, whose clocks disagree.
"""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import JSON, column, func, literal, select, true
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.columns import UtcTime
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredLease
from skerry.fleet.generation import Version


def flush_leases(session: Session, write: WriteContext, leases: Sequence[StoredLease]) -> int:
    """Keep when these planes, each told once, were heard; return how many they are."""
    check_epoch(session, write.epoch)
    if not leases:
        return 0
    # All in one value: a statement for each of 1,000 rows takes three times as long.
    table, names = tables.leases, [c.name for c in tables.leases.c]
    is_sqlite = session.get_bind().dialect.name == "sqlite"
    written = _as_sqlite if is_sqlite else datetime.isoformat
    ahead = _ahead(session, write.now)
    moments = [written(lease.heard_at + ahead) for lease in leases]
    rows_told = zip(leases, moments, strict=True)
    told = literal([_row(lease, write.epoch, at) for lease, at in rows_told], JSON)
    if is_sqlite:
        every = func.json_each(told).table_valued(column("value", JSON))
        columns = [func.json_extract(every.c.value, f"$.{name}") for name in names]
        # SQLite takes the `on` of an upsert for a join's unless there is a `where` before it.
        rows = select(*columns).select_from(every).where(true())
        session.execute(_renewing(sqlite.insert(table).from_select(names, rows)))
    else:
        typed = [column(c.name, c.type) for c in table.c]
        found = func.json_to_recordset(told).table_valued(*typed).render_derived(with_types=True)
        session.execute(_renewing(postgresql.insert(table).from_select(names, select(found))))
    return len(leases)


def _as_sqlite(moment: datetime) -> str:
    """Return a time as SQLAlchemy writes it into SQLite, which has no type for it."""
    return moment.astimezone(UTC).strftime("%Y-%m-%d %H:%M:%S.%f")


def _row(lease: StoredLease, epoch: int, heard_at: str) -> dict[str, Any]:
    return {
        "plane": lease.plane,
        "epoch": epoch,
        "heard_at": heard_at,
        "held_epoch": lease.held.epoch,
        "held_generation": lease.held.generation,
        "replicas_ready": lease.replicas_ready,
    }


def _renewing(insert: Any) -> Any:
    table = tables.leases
    renewed = {c.name: insert.excluded[c.name] for c in table.c if c is not table.c.plane}
    return insert.on_conflict_do_update(index_elements=[table.c.plane], set_=renewed)


def _ahead(session: Session, now: datetime) -> timedelta:
    """Return how far the database's clock is ahead of one that shows `now`.

    Within a transaction always the same. SQLite's is the host's own.
    """
    if session.get_bind().dialect.name == "sqlite":
        return timedelta()
    shown: datetime = session.execute(select(func.now(type_=UtcTime()))).scalar_one()
    return shown - now


def list_leases(session: Session, now: datetime) -> Mapping[str, StoredLease]:
    """Return when each plane was last heard, by plane, as told by a clock that shows `now`."""
    ahead = _ahead(session, now)
    return {
        row.plane: StoredLease(
            plane=row.plane,
            heard_at=row.heard_at - ahead,
            held=Version(epoch=row.held_epoch, generation=row.held_generation),
            replicas_ready=row.replicas_ready,
        )
        for row in session.execute(select(tables.leases).order_by(tables.leases.c.plane))
    }
