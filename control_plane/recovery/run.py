"""A recovery under way: asks planes what they hold, keeps what they told, ends it once.

The reconcile loop asks each turn whether it may go on; the API shows and approves. What is computed
over the whole fleet is computed aside, as the loop's own turns are: heartbeats go on meanwhile.
"""

import asyncio
import hashlib
from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Protocol

from control_plane import instruments
from control_plane.reconcile.pace import aside
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
from control_plane.store.leadership import leading_epoch
from control_plane.store.recovery import (
    adopt_planes,
    begin_adoption,
    end_recovery,
    epoch_before_next,
    in_batches,
    needs_batches,
    restored_because,
)
from control_plane.store.requests import Asked
from control_plane.store.values import Adoption
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
        """Have the plane tell all that it holds, at a heartbeat once it is its turn."""
        ...

    def read(self) -> None:
        """Make values of what planes answered; safe in a thread, answers may come meanwhile."""
        ...

    def told(self) -> Mapping[str, Told]:
        """Return what planes told since they were asked, as far as it was read, by plane."""
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


@dataclass(frozen=True, slots=True, kw_only=True)
class _Look:
    """What one look at the fleet found; computed aside, and put in place as a whole."""

    facts: Facts
    found: Assessment
    etag: str


class Recovery:
    """What one control plane knows of its recovery, in one term."""

    def __init__(self, database: Database, planes: Planes, clock: Clock) -> None:
        """Begin with a database that is not known to lack anything."""
        self._database = database
        self._planes = planes
        self._clock = clock
        self._mark: str | None = None
        self._look: _Look | None = None
        self._since: datetime | None = None
        self._lock = asyncio.Lock()
        self._is_ending_epoch = False
        self._has_ended_epoch = False

    @property
    def is_under_way(self) -> bool:
        """Say whether nothing may be placed, pushed or changed by operators."""
        return self._since is not None

    @property
    def has_ended_epoch(self) -> bool:
        """Say whether this term was ended for the next one to be above every epoch seen.

        True from before that is stored: others see the epoch's end as soon as it is.
        """
        return self._has_ended_epoch or self._is_ending_epoch

    async def holds(self, snapshot: Snapshot, epoch: int) -> bool:
        """Say whether the loop must wait, after doing what there is to do about it.

        Raises StaleGeneration where another control plane leads, or nobody until the next epoch.
        """
        async with self._lock:
            if self._is_ending_epoch:  # and whoever approved that went away meanwhile
                leading = await self._database.run_read(leading_epoch)
                self._has_ended_epoch, self._is_ending_epoch = leading != epoch, False
            self._check_epoch()
            if self._mark is None:
                self._mark = await self._database.run_read(restored_because)
            look = await self._look_at(snapshot, epoch)
            if self._since is None:
                return False
            if look.found.may_end:
                write = WriteContext(epoch=epoch, actor=ACTOR, now=self._clock.now())
                await self._end(look, write, None)
                self._check_epoch()
            return True

    async def approve(self, write: WriteContext, asked: Asked, etag: str) -> None:
        """End the recovery as it stands; one that has ended by itself is as well.

        Conflict when `etag` is not empty and it is another one by now.
        """
        async with self._lock:
            if self._since is None or self._look is None:
                await self._database.run(end_recovery, write, None, asked)
                return
            if etag and etag != self._look.etag:
                raise Conflict(
                    "the recovery has gone on since it was looked at; look again and approve that",
                    field="etag",
                )
            await self._end(self._look, write, asked)

    def status(self) -> RecoveryStatus:
        """Return how far the recovery is."""
        look = self._look
        if look is None:
            return RecoveryStatus(found=Assessment())
        if self._since is None:
            # Asked for by people: each turn would look through all replicas of the fleet for it.
            quarantined = quarantined_in(look.facts.snapshot)
            return RecoveryStatus(found=Assessment(), quarantined=quarantined)
        floor = look.found.epoch_floor
        return RecoveryStatus(
            found=look.found,
            quarantined=look.found.quarantined,
            since=self._since,
            next_epoch=epoch_before_next(look.facts.epoch, floor) + 1 if floor else 0,
            etag=look.etag,
        )

    async def _look_at(self, snapshot: Snapshot, epoch: int) -> _Look:
        await aside(snapshot, self._planes.read)
        told, mark = dict(self._planes.told()), self._mark or ""
        look = self._look = await aside(snapshot, _looked, snapshot, epoch, told, mark)
        instruments.RECOVERING.set(1 if look.found.is_recovering else 0)
        if not look.found.is_recovering:
            if self._since is not None:
                self._forget()
            return look
        if self._since is None:
            self._since = self._clock.now()
            _log.warning("recovery.began", reason=look.found.reason)
        for name in look.found.to_ask:
            self._planes.ask(name)
        return look

    async def _end(self, look: _Look, write: WriteContext, asked: Asked | None) -> None:
        adoption = await aside(look.facts.snapshot, adoption_of, look.facts, look.found)
        self._mark, ending = None, adoption  # read again where this ends half done
        if needs_batches(adoption):
            ending = await self._adopt(adoption, write)
        # Who approves may go away before it is known here what was stored: the next look asks.
        self._is_ending_epoch = bool(adoption.epoch_floor)
        try:
            await self._database.run(end_recovery, write, ending, asked)
        except Exception:
            self._is_ending_epoch = False
            raise
        self._note_end(look, write, adoption)

    async def _adopt(self, adoption: Adoption, write: WriteContext) -> Adoption:
        """Take in what planes hold by batches, and return what then ends the recovery.

        Where it ends in between, the next look finds it begun and goes on with who is left.
        """
        if not adoption.is_begun:
            await self._database.run(begin_adoption, write, adoption)
        for batch in in_batches(adoption.planes):
            await self._database.run(adopt_planes, write, batch)
        return replace(adoption, planes=(), is_begun=True)

    def _note_end(self, look: _Look, write: WriteContext, adoption: Adoption) -> None:
        self._has_ended_epoch, self._is_ending_epoch = bool(adoption.epoch_floor), False
        self._mark = ""
        self._forget()
        conflicts = sum(d.resolution is Resolution.CONFLICT for d in look.found.differences)
        _log.warning(
            "recovery.ended",
            by=write.actor,
            deployments=len(adoption.deployments),
            planes=len(adoption.planes),
            conflicts=conflicts,
            epoch_floor=adoption.epoch_floor,
        )

    def _check_epoch(self) -> None:
        if self._has_ended_epoch:
            raise StaleGeneration("this epoch ended with the recovery; the next one goes on")

    def _forget(self) -> None:
        self._since = None
        self._planes.forget()
        instruments.RECOVERING.set(0)


def _looked(snapshot: Snapshot, epoch: int, told: dict[str, Told], mark: str) -> _Look:
    """Return what a look at the fleet finds, with what planes told that can tell."""
    for plane in snapshot.planes:
        report = plane.link.report
        if report is not None and TELLS_HELD not in report.features:
            told[plane.name] = Told(plane=plane.name, state=None)
    facts = Facts(snapshot=snapshot, epoch=epoch, told=told, mark=mark)
    found = assess(facts)
    return _Look(facts=facts, found=found, etag=_etag(found) if found.is_recovering else "")


def _etag(found: Assessment) -> str:
    """Return what tells one state of a recovery from another, as far as a person decides on it."""
    text = repr((found.reason, found.differences, found.quarantined, found.waits_for))
    return hashlib.sha256(text.encode()).hexdigest()[:ETAG_CHARACTERS]
