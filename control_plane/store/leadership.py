"""Leadership: the fenced right to write, taken by raising the epoch above every earlier one."""

from datetime import datetime

from sqlalchemy import select, update
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.changes import Effect, append_change
from control_plane.store.fencing import WriteContext, check_epoch

__all__ = ["WriteContext", "check_epoch", "leading_epoch", "take_leadership"]


def take_leadership(session: Session, holder: str, now: datetime) -> int:
    """Depose whoever led and return the new epoch, one above every earlier one."""
    row = tables.leadership
    taken = update(row).values(epoch=row.c.epoch + 1, holder=holder, taken_at=now)
    epoch = int(session.execute(taken.returning(row.c.epoch)).scalar_one())
    write = WriteContext(epoch=epoch, actor=f"control-plane:{holder}", now=now)
    effect = Effect(before={"epoch": epoch - 1}, after={"epoch": epoch, "holder": holder})
    subject = f"control-planes/{holder}"
    append_change(session, write, "leadership.taken", subject, f"epoch {epoch}", effect)
    return epoch


def leading_epoch(session: Session) -> int:
    """Return the epoch that leads, 0 before the first leader."""
    return int(session.execute(select(tables.leadership.c.epoch)).scalar_one())
