"""The last decision: where replicas go, what it cost, and what was left out and why."""

from sqlalchemy import delete, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import append_change
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import Decision
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.placement import Placement

__all__ = [
    "Decision",
    "last_decision",
    "list_placements",
    "record_decision",
    "replace_placements",
]


def replace_placements(
    session: Session, write: WriteContext, placements: tuple[Placement, ...], summary: str
) -> bool:
    """Put these placements in the place of all others; return whether any count changed.

    New reasons for the same counts are kept without a change in the log.
    """
    check_epoch(session, write.epoch)
    held = list_placements(session)
    wanted = tuple(sorted(placements, key=lambda p: (p.deployment, p.pool)))
    if held == wanted:
        return False
    session.execute(delete(tables.placements))
    if wanted:
        rows = [
            {"deployment": p.deployment, "pool": p.pool, "replicas": p.count, "reason": p.reason}
            for p in wanted
        ]
        session.execute(insert(tables.placements), rows)
    if _counts(held) == _counts(wanted):
        return False
    subject = full_name(DEFAULT_PROJECT, "placements", "-")
    append_change(session, write, "placements.decided", subject, summary)
    return True


def list_placements(session: Session) -> tuple[Placement, ...]:
    """Return the placements by deployment, then pool."""
    table = tables.placements
    query = select(table).order_by(table.c.deployment, table.c.pool)
    found = (
        Placement(deployment=r.deployment, pool=r.pool, count=r.replicas, reason=r.reason)
        for r in session.execute(query)
    )
    # Sorted here too: PostgreSQL's collation may order `-` unlike Python does.
    return tuple(sorted(found, key=lambda p: (p.deployment, p.pool)))


def record_decision(session: Session, write: WriteContext, decision: Decision) -> None:
    """Keep what the decision cost and left out, in the place of the one before."""
    check_epoch(session, write.epoch)
    table = tables.decisions
    session.execute(delete(table))
    values = {"id": 1, "epoch": write.epoch, "decided_at": write.now, "decision": decision}
    session.execute(insert(table).values(values))


def last_decision(session: Session) -> Decision | None:
    """Return the last decision; None before the first."""
    decision: Decision | None = session.execute(select(tables.decisions.c.decision)).scalar()
    return decision


def _counts(placements: tuple[Placement, ...]) -> dict[tuple[str, str], int]:
    return {(p.deployment, p.pool): p.count for p in placements}
