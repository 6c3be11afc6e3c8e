"""What the leader does beside deciding: old changes are forgotten, reports flushed once a second.

`main.py` runs both beside the reconcile loop.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from control_plane.store.changes import forget_changes, last_sequence, oldest_sequence
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.leases import flush_leases
from control_plane.store.values import StoredLease
from skerry.fleet.observation import Observation, ReplicaState
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, StaleGeneration

_log = logs.get_logger(__name__)

LOOK_SECONDS = 60.0
FLUSH_SECONDS = 1.0
ACTOR = "control-plane:upkeep"


def surplus(oldest: int, newest: int, kept: int) -> int | None:
    """Return up to which number changes are to be forgotten, None while too few are surplus.

    A tenth more than is kept may gather, so that forgetting is seldom and in large pieces.
    """
    held = newest - oldest + 1
    return newest - kept if held > kept + kept // 10 else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Upkeep:
    """Tidies the store of one leader; `changes_kept` is how many changes stay."""

    database: Database
    clock: Clock
    epoch: int
    changes_kept: int

    async def run(self) -> None:
        """Look once a minute, for ever; a failure waits for the next look."""
        while True:
            await self.clock.sleep(LOOK_SECONDS)
            try:
                await self.forget()
            except StaleGeneration:
                raise
            except SkerryError as error:
                _log.warning("upkeep.failed", error=str(error))

    async def forget(self) -> int:
        """Forget what is surplus, piece by piece; return how many changes that were."""
        newest = await self.database.run_read(last_sequence)
        oldest = await self.database.run_read(oldest_sequence)
        up_to = surplus(oldest, newest, self.changes_kept)
        if up_to is None:
            return 0
        forgotten = 0
        while True:
            write = WriteContext(epoch=self.epoch, actor=ACTOR, now=self.clock.now())
            # Each piece is a transaction of its own: others get their turn in between.
            piece = await self.database.run(forget_changes, write, up_to)
            forgotten += piece
            if not piece:
                return forgotten


class Reports(Protocol):
    """What planes said last; control_plane.link.registry.Registry is the real one."""

    def observations(self) -> Mapping[str, Observation]:
        """Return the newest observation of every plane heard, by name."""


def renewed(
    observations: Mapping[str, Observation], flushed: Mapping[str, datetime]
) -> tuple[StoredLease, ...]:
    """Return the leases of planes that said something since they were flushed last."""
    return tuple(
        StoredLease(
            plane=plane,
            heard_at=observation.received_at,
            held=observation.report.held,
            replicas_ready=sum(
                replica.state is ReplicaState.READY for replica in observation.report.replicas
            ),
        )
        for plane, observation in observations.items()
        if flushed.get(plane) != observation.received_at
    )


@dataclass(slots=True, kw_only=True)
class LeaseFlush:
    """Writes down, once a second and in one batch, when planes were heard."""

    database: Database
    clock: Clock
    epoch: int
    reports: Reports
    flushed: dict[str, datetime] = field(default_factory=dict)

    async def run(self) -> None:
        """Flush for ever; what could not be written is written with the next batch."""
        while True:
            await self.clock.sleep(FLUSH_SECONDS)
            try:
                await self.flush()
            except StaleGeneration:
                raise
            except SkerryError as error:
                _log.warning("leases.not-flushed", error=str(error))

    async def flush(self) -> int:
        """Write what is new; return how many planes that were."""
        leases = renewed(self.reports.observations(), self.flushed)
        if not leases:
            return 0
        write = WriteContext(epoch=self.epoch, actor=ACTOR, now=self.clock.now())
        count = await self.database.run(flush_leases, write, leases)
        self.flushed.update({lease.plane: lease.heard_at for lease in leases})
        return count
