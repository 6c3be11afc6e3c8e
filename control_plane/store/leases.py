"""Leases: when each plane was last heard, written in one batch a second; no change of the log."""

from collections.abc import Mapping, Sequence

from sqlalchemy import select
from sqlalchemy.dialects import postgresql, sqlite
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredLease
from skerry.fleet.generation import Version


def flush_leases(session: Session, write: WriteContext, leases: Sequence[StoredLease]) -> int:
    """Keep when these planes were heard; return how many they are."""
    check_epoch(session, write.epoch)
    if not leases:
        return 0
    table = tables.leases
    is_postgres = session.get_bind().dialect.name == "postgresql"
    insert = postgresql.insert(table) if is_postgres else sqlite.insert(table)
    renewed = {c.name: insert.excluded[c.name] for c in table.c if c is not table.c.plane}
    rows = [
        {
            "plane": lease.plane,
            "epoch": write.epoch,
            "heard_at": lease.heard_at,
            "held_epoch": lease.held.epoch,
            "held_generation": lease.held.generation,
            "replicas_ready": lease.replicas_ready,
        }
        for lease in leases
    ]
    upsert = insert.on_conflict_do_update(index_elements=[table.c.plane], set_=renewed)
    session.execute(upsert, rows)
    return len(rows)


def list_leases(session: Session) -> Mapping[str, StoredLease]:
    """Return when each plane was last heard, by plane."""
    return {
        row.plane: StoredLease(
            plane=row.plane,
            heard_at=row.heard_at,
            held=Version(epoch=row.held_epoch, generation=row.held_generation),
            replicas_ready=row.replicas_ready,
        )
        for row in session.execute(select(tables.leases).order_by(tables.leases.c.plane))
    }
