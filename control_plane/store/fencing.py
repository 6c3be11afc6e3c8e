"""The fence: every write names its epoch and is refused once another leader has taken over."""

from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import select
from sqlalchemy.orm import Session

from control_plane.store import tables
from control_plane.store.database_clock import gives_way
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing.errors import StaleGeneration


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteContext:
    """Under which epoch, for whom, when, in which project and why something is written."""

    epoch: int
    actor: str
    now: datetime
    project: str = DEFAULT_PROJECT
    reason: str = ""


def check_epoch(session: Session, epoch: int) -> None:
    """Raise StaleGeneration unless `epoch` leads; nobody can take over before we commit."""
    # The shared lock holds off the next leader until this transaction ends (SQLite has one writer).
    # It must not outlive a leader that is stopped here, which then holds nothing off for long.
    query = select(tables.leadership.c.epoch, gives_way(session)).with_for_update(read=True)
    leading = session.execute(query).one().epoch
    if leading != epoch:
        raise StaleGeneration(
            f"epoch {epoch} is deposed, epoch {leading} leads;"
            " send the call to the control plane that leads"
        )
