"""Control planes as they last told of themselves; each writes its own row, whether it leads or not.

Not fenced: a row says who is there, and decides nothing. Times are of the database's clock.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any

from sqlalchemy import delete, insert, select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.database_clock import clock
from control_plane.store.leadership import Addresses, current_leadership

# Of five that come once a second; a paused or dead one is told as silent.
SILENT_SECONDS = 5.0
# Who was not heard for a day was taken away, or has another name by now.
FORGOTTEN_SECONDS = 86_400.0


class ControlPlaneRole(StrEnum):
    """What a control plane is, seen from the database."""

    LEADING = "leading"
    STANDING_BY = "standing-by"
    SILENT = "silent"


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a control plane says of itself; epoch 0 while it stands by."""

    name: str
    epoch: int
    addresses: Addresses
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredControlPlane:
    """A control plane, what it is by the database, and since when it says so."""

    told: Told
    role: ControlPlaneRole
    since: datetime
    heard_at: datetime


def tell_control_plane(session: Session, told: Told) -> None:
    """Keep what a control plane says of itself now; `since` moves when its epoch does."""
    table = tables.control_planes
    values = {
        "epoch": told.epoch,
        "operator_address": told.addresses.operator,
        "link_address": told.addresses.link,
        "http_address": told.addresses.http,
        "software": told.software,
        "heard_at": clock(session),
    }
    named = table.c.name == told.name
    held = session.execute(select(table.c.epoch).where(named)).scalar_one_or_none()
    if held is None:
        first = insert(table).values(name=told.name, since=clock(session), **values)
        session.execute(first)
        return
    if held != told.epoch:
        values["since"] = clock(session)
    session.execute(update(table).where(named).values(values))


def forget_control_planes(session: Session) -> int:
    """Forget those that were not heard for a day; return how many."""
    table = tables.control_planes
    gone = delete(table).where(table.c.heard_at < clock(session, -FORGOTTEN_SECONDS))
    return len(session.execute(gone.returning(table.c.name)).all())


def list_control_planes(session: Session) -> tuple[StoredControlPlane, ...]:
    """Return the control planes by name."""
    leading = current_leadership(session)
    table = tables.control_planes
    query = select(table, clock(session).label("now")).order_by(table.c.name)
    return tuple(_stored(row, leading.epoch) for row in session.execute(query))


def _stored(row: Any, leading_epoch: int) -> StoredControlPlane:
    role = ControlPlaneRole.STANDING_BY
    if (row.now - row.heard_at).total_seconds() > SILENT_SECONDS:
        role = ControlPlaneRole.SILENT
    elif row.epoch and row.epoch == leading_epoch:
        role = ControlPlaneRole.LEADING
    addresses = Addresses(
        operator=row.operator_address, link=row.link_address, http=row.http_address
    )
    return StoredControlPlane(
        told=Told(name=row.name, epoch=row.epoch, addresses=addresses, software=row.software),
        role=role,
        since=row.since,
        heard_at=row.heard_at,
    )
