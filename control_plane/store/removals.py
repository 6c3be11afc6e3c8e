"""Deployments that were removed, the newest of them: what a plane may be told to end, unasked.

`deployments` keeps one as it removes a deployment, reconciliation reads them. Only what is here is
known to be gone: a name that the database merely lacks may be one that it lost.
"""

from collections.abc import Iterable

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.fencing import WriteContext, check_epoch
from control_plane.store.values import StoredRemoval
from skerry.fleet.deployment import Deployment

# A disk has two states, both younger than a thousand removals; at some kB each it is a megabyte.
REMOVALS_KEPT_MAX = 1_024


def keep_removal(session: Session, write: WriteContext, deployment: Deployment) -> None:
    """Keep that a deployment was removed, in the place of an earlier removal of its name.

    Beside the removal, in its transaction. Revisions are numbered on when a name is used again, so
    a higher number than the highest there was is of a later life of it.
    """
    check_epoch(session, write.epoch)
    table, revisions = tables.removals, tables.revisions
    highest = select(func.max(revisions.c.number)).where(revisions.c.deployment == deployment.name)
    number = session.execute(highest).scalar() or 0
    session.execute(delete(table).where(table.c.name == deployment.name))
    row = {
        "name": deployment.name,
        "deployment": deployment,
        "last_revision": max(number, deployment.revision.number),
        "removed_at": write.now,
    }
    session.execute(insert(table).values(row))
    newest = select(table.c.name).order_by(table.c.removed_at.desc(), table.c.name)
    session.execute(delete(table).where(table.c.name.not_in(newest.limit(REMOVALS_KEPT_MAX))))


def list_removals(session: Session) -> tuple[StoredRemoval, ...]:
    """Return the removals that are kept, by name."""
    rows = session.execute(select(tables.removals).order_by(tables.removals.c.name)).mappings()
    return tuple(
        StoredRemoval(
            deployment=row["deployment"],
            last_revision=row["last_revision"],
            removed_at=row["removed_at"],
        )
        for row in rows
    )


def forget_removals(session: Session, write: WriteContext, names: Iterable[str]) -> None:
    """Forget removals of these names: what runs under them is none of what was removed."""
    check_epoch(session, write.epoch)
    table = tables.removals
    session.execute(delete(table).where(table.c.name.in_(tuple(names))))
