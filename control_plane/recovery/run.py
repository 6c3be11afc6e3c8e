"""A recovery under way: asks planes what they hold, keeps what they told, ends it once.

The reconcile loop asks each turn whether it may go on; the API shows and approves.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Protocol

from control_plane import instruments
from control_plane.reconcile.snapshot import Snapshot
from control_plane.recovery.adopt import adoption_of
from control_plane.recovery.assess import (
    Assessment,
    Facts,
    Quarantined,
    Resolution,
    Told,
    assess,
    quarantined_in,
)
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.recovery import end_recovery, epoch_before_next, restored_because
from control_plane.store.requests import Asked
from skerry.fleet.desired import TELLS_HELD
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, StaleGeneration

_log = logs.get_logger(__name__)

ACTOR = "control-plane:recovery"
READ_ONLY = (
    "this control plane recovers what its planes hold and changes nothing meanwhile;"
    " `skerry recover status` shows what it waits for"
)
ETAG_CHARACTERS = 16


class Planes(Protocol):
    """The link, as far as planes are asked what they hold."""

    def ask(self, plane: str) -> None:
        """Have the plane tell all that it holds, at its next heartbeat."""
        ...

    def told(self) -> Mapping[str, Told]:
        """Return what planes told since they were asked, by plane."""
        ...

    def forget(self) -> None:
        """Let go of what they told."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryStatus:
    """A recovery as it is now; `since` is None and `found` empty while there is nothing to."""

    found: Assessment
    quarantined: tuple[Quarantined, ...] = ()
    since: datetime | None = None
    next_epoch: int = 0
    etag: str = ""


@dataclass(slots=True)
class _UnderWay:
    since: datetime


class Recovery:
    """What one control plane knows of its recovery, in one term."""

    def __init__(self, database: Database, planes: Planes, clock: Clock) -> None:
        """Begin with a database that is not known to lack anything."""
        self._database = database
        self._planes = planes
        self._clock = clock
        self._mark: str | None = None
        self._facts: Facts | None = None
        self._found = Assessment()
        self._under_way: _UnderWay | None = None
        self._lock = asyncio.Lock()
        self._has_ended_epoch = False

    @property
    def is_under_way(self) -> bool:
        """Say whether nothing may be placed, pushed or changed by operators."""
        return self._under_way is not None

    @property
    def has_ended_epoch(self) -> bool:
        """Say whether this term was ended for the next one to be above every epoch seen."""
        return self._has_ended_epoch

    async def holds(self, snapshot: Snapshot, epoch: int) -> bool:
        """Say whether the loop must wait, after doing what there is to do about it.

        Raises StaleGeneration where another control plane leads, or nobody until the next epoch.
        """
        async with self._lock:
            self._check_epoch()
            if self._mark is None:
                self._mark = await self._database.run_read(restored_because)
            self._look(snapshot, epoch)
            if self._under_way is None:
                return False
            if self._found.may_end:
                write = WriteContext(epoch=epoch, actor=ACTOR, now=self._clock.now())
                await self._end(write, None)
                self._check_epoch()
            return True

    async def approve(self, write: WriteContext, asked: Asked, etag: str) -> None:
        """End the recovery as it stands; one that has ended by itself is as well.

        Conflict when `etag` is not empty and it is another one by now.
        """
        async with self._lock:
            if self._under_way is None:
                await self._database.run(end_recovery, write, None, asked)
                return
            if etag and etag != self.status().etag:
                raise Conflict(
                    "the recovery has gone on since it was looked at; look again and approve that",
                    field="etag",
                )
            await self._end(write, asked)

    def status(self) -> RecoveryStatus:
        """Return how far the recovery is."""
        facts, under_way = self._facts, self._under_way
        if facts is None:
            return RecoveryStatus(found=Assessment())
        if under_way is None:
            return RecoveryStatus(found=Assessment(), quarantined=quarantined_in(facts.snapshot))
        floor = self._found.epoch_floor
        return RecoveryStatus(
            found=self._found,
            quarantined=self._found.quarantined,
            since=under_way.since,
            next_epoch=epoch_before_next(facts.epoch, floor) + 1 if floor else 0,
            etag=_etag(self._found),
        )

    def _look(self, snapshot: Snapshot, epoch: int) -> None:
        told = dict(self._planes.told())
        for plane in snapshot.planes:
            report = plane.link.report
            if report is not None and TELLS_HELD not in report.features:
                told[plane.name] = Told(plane=plane.name, state=None)
        self._facts = Facts(snapshot=snapshot, epoch=epoch, told=told, mark=self._mark or "")
        self._found = assess(self._facts)
        instruments.RECOVERING.set(1 if self._found.is_recovering else 0)
        if not self._found.is_recovering:
            if self._under_way is not None:
                self._forget()
            return
        if self._under_way is None:
            self._under_way = _UnderWay(since=self._clock.now())
            _log.warning("recovery.began", reason=self._found.reason)
        for name in self._found.to_ask:
            self._planes.ask(name)

    async def _end(self, write: WriteContext, asked: Asked | None) -> None:
        facts, found = self._facts, self._found
        assert facts is not None, "there is a recovery only of what was looked at"
        adoption = adoption_of(facts, found)
        await self._database.run(end_recovery, write, adoption, asked)
        conflicts = sum(d.resolution is Resolution.CONFLICT for d in found.differences)
        _log.warning(
            "recovery.ended",
            by=write.actor,
            deployments=len(adoption.deployments),
            planes=len(adoption.planes),
            conflicts=conflicts,
            epoch_floor=adoption.epoch_floor,
        )
        self._mark = ""
        self._has_ended_epoch = bool(adoption.epoch_floor)
        self._forget()

    def _check_epoch(self) -> None:
        if self._has_ended_epoch:
            raise StaleGeneration("this epoch ended with the recovery; the next one goes on")

    def _forget(self) -> None:
        self._under_way, self._found = None, Assessment()
        self._planes.forget()
        instruments.RECOVERING.set(0)


def _etag(found: Assessment) -> str:
    """Return what tells one state of a recovery from another, as far as a person decides on it."""
    text = repr((found.reason, found.differences, found.quarantined, found.waits_for))
    return hashlib.sha256(text.encode()).hexdigest()[:ETAG_CHARACTERS]
