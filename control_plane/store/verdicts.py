"""How planes were judged, each with its evidence: the last of every plane, as people ask for them.

`planes` keeps one with every new state; the API shows them.
"""

from collections.abc import Mapping

from sqlalchemy import bindparam, delete, func, insert, select
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
    return keep_verdicts(session, write, {plane: verdict})[plane]


def keep_verdicts(
    session: Session, write: WriteContext, verdicts: Mapping[str, Verdict]
) -> Mapping[str, int]:
    """Keep a verdict each of several planes, as `keep_verdict` does; return numbers by plane."""
    check_epoch(session, write.epoch)
    if not verdicts:
        return {}
    table = tables.verdicts
    newest = select(table.c.plane, func.max(table.c.number)).where(table.c.plane.in_(verdicts))
    rows = session.execute(newest.group_by(table.c.plane)).all()
    held: dict[str, int] = {row[0]: row[1] for row in rows}
    numbers = {plane: held.get(plane, 0) + 1 for plane in verdicts}
    new = [
        {"plane": plane, "number": numbers[plane], "judged_at": write.now, "verdict": verdict}
        for plane, verdict in verdicts.items()
    ]
    session.execute(insert(table), new)
    over = [
        {"of": plane, "up_to": number - VERDICTS_KEPT}
        for plane, number in numbers.items()
        if number > VERDICTS_KEPT
    ]
    if over:
        old = (table.c.plane == bindparam("of")) & (table.c.number <= bindparam("up_to"))
        session.connection().execute(delete(table).where(old), over)
    return numbers


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
