"""What the leader does beside deciding: old changes are forgotten, reports flushed once a second.

What is flushed of reports: when planes were heard, and how long their replicas took to start.
`main.py` runs all of it beside the reconcile loop.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Protocol

from control_plane.store.changes import forget_changes, last_sequence, oldest_sequence
from control_plane.store.cold_starts import STARTS_OF_BATCH_MAX, SightedStart, record_starts
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.leases import flush_leases
from control_plane.store.values import StoredLease
from skerry.fleet.cold_start import START_SECONDS_MAX
from skerry.fleet.names import InvalidName, check_name, pool_name
from skerry.fleet.observation import Observation, ObservedReplica, PlaneReport, ReplicaState
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import StaleGeneration

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
            except Exception as error:  # one odd row must not end every leader in turn
                _log.warning("upkeep.failed", error=repr(error))

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
        await _flush_for_ever(self.clock, self.flush, "leases.not-flushed")

    async def flush(self) -> int:
        """Write what is new; return how many planes that were."""
        leases = renewed(self.reports.observations(), self.flushed)
        if not leases:
            return 0
        write = WriteContext(epoch=self.epoch, actor=ACTOR, now=self.clock.now())
        count = await self.database.run_unannounced(flush_leases, write, leases)
        self.flushed.update({lease.plane: lease.heard_at for lease in leases})
        return count


@dataclass(frozen=True, slots=True, kw_only=True)
class Looked:
    """A plane's report that was looked at, and its measured starts, by replica and restarts."""

    report: PlaneReport
    starts: frozenset[tuple[str, int]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """Measured starts that are to be written, and what was looked at once they are."""

    starts: tuple[SightedStart, ...]
    looked: Mapping[str, Looked]


def started(observations: Mapping[str, Observation], looked: Mapping[str, Looked]) -> Started:
    """Return the measured starts of a batch that are new since planes were looked at.

    When the replicas of a plane started that is looked at first nobody can tell: none is fresh. A
    plane for which the batch has no room waits for the next one.
    """
    found: list[SightedStart] = []
    after: dict[str, Looked] = {}
    for plane, observation in observations.items():
        report, before = observation.report, looked.get(plane)
        room = STARTS_OF_BATCH_MAX - len(found)
        if before is None and not room:
            continue
        if before is not None and before.report is report:
            after[plane] = before
            continue
        measured = {(r.name, r.restarts): r for r in report.replicas if r.start_seconds > 0.0}
        new = [key for key in measured if before is None or key not in before.starts]
        found += _sighted(observation, [measured[key] for key in new[:room]], before is not None)
        # What is not fresh only fills gaps; what is waits, and its plane is looked at again.
        waiting = frozenset(new[room:] if before is not None else ())
        if before is not None and waiting:
            report = before.report
        after[plane] = Looked(report=report, starts=frozenset(measured) - waiting)
    return Started(starts=tuple(found), looked=after)


def _sighted(
    observation: Observation, replicas: Sequence[ObservedReplica], is_fresh: bool
) -> list[SightedStart]:
    report = observation.report
    plane = report.identity.name
    kinds = {pool_name(plane, shape.name): shape.accelerator for shape in report.pools}
    return [
        SightedStart(
            plane=plane,
            replica=replica.name,
            restarts=replica.restarts,
            deployment=replica.deployment,
            revision=replica.revision,
            accelerator=kinds[replica.pool],
            seconds=replica.start_seconds,
            seen_at=observation.received_at,
            is_fresh=is_fresh,
        )
        for replica in replicas
        if replica.pool in kinds and _can_be_kept(replica)
    ]


def _can_be_kept(replica: ObservedReplica) -> bool:
    """Say whether no database refuses it: one bad report would hold up all that come after it."""
    try:
        check_name(replica.name, "replica")
        check_name(replica.deployment, "deployment")
    except InvalidName:
        return False
    return replica.start_seconds <= START_SECONDS_MAX


@dataclass(slots=True, kw_only=True)
class StartFlush:
    """Writes down, once a second and in one batch, how long replicas took to start."""

    database: Database
    clock: Clock
    epoch: int
    reports: Reports
    looked: Mapping[str, Looked] = field(default_factory=dict)

    async def run(self) -> None:
        """Flush for ever; what could not be written is written with the next batch."""
        await _flush_for_ever(self.clock, self.flush, "starts.not-flushed")

    async def flush(self) -> int:
        """Write what is new; return how many starts that were."""
        found = started(self.reports.observations(), self.looked)
        count = 0
        if found.starts:
            write = WriteContext(epoch=self.epoch, actor=ACTOR, now=self.clock.now())
            count = await self.database.run_unannounced(record_starts, write, found.starts)
        self.looked = found.looked
        return count


async def _flush_for_ever(clock: Clock, flush: Callable[[], Awaitable[int]], failed: str) -> None:
    while True:
        await clock.sleep(FLUSH_SECONDS)
        try:
            await flush()
        except StaleGeneration:
            raise
        except Exception as error:  # one odd report must not end every leader in turn
            _log.warning(failed, error=repr(error))
