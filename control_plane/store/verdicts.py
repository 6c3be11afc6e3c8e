"""How planes were judged, each with its evidence: the last of every plane, as people ask for them.

`planes` keeps one with every new state; the API shows them.
"""

from sqlalchemy import delete, func, insert, select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import append_change
from control_plane.store.fencing import WriteContext, check_epoch
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.verdict import Verdict

# Of one plane, at 1 kB each: one that flaps for an hour is told whole, a thousand take 50 MB.
VERDICTS_KEPT = 50


def keep_verdict(session: Session, write: WriteContext, plane: str, verdict: Verdict) -> int:
    """Keep a verdict and return its number, one above the plane's newest; old ones are forgotten.

    Beside the plane's condition, in its transaction: the change log tells the state.
    """
    check_epoch(session, write.epoch)
    table = tables.verdicts
    newest = select(func.max(table.c.number)).where(table.c.plane == plane)
    number = int(session.execute(newest).scalar() or 0) + 1
    row = {"plane": plane, "number": number, "judged_at": write.now, "verdict": verdict}
    session.execute(insert(table).values(row))
    old = delete(table).where(table.c.plane == plane, table.c.number <= number - VERDICTS_KEPT)
    session.execute(old)
    return number


def list_verdicts(session: Session, plane: str) -> tuple[Verdict, ...]:
    """Return what is kept of a plane, the newest first."""
    table = tables.verdicts
    query = select(table.c.verdict).where(table.c.plane == plane).order_by(table.c.number.desc())
    return tuple(session.execute(query).scalars())


def record_freeze(session: Session, write: WriteContext, frozen: bool, told: str) -> None:
    """Write into the change log that moves are frozen, or are so no more."""
    check_epoch(session, write.epoch)
    subject = full_name(DEFAULT_PROJECT, "planes", "-")
    append_change(session, write, "fleet.frozen" if frozen else "fleet.thawed", subject, told)
