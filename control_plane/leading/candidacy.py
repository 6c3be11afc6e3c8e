"""A standby's way to leadership, and what every control plane tells of itself meanwhile.

I/O only; `term.py` decides. Through a database thread of its own, so that nothing that the control
plane does otherwise holds it up.
"""

from dataclasses import dataclass
from typing import Any

from control_plane import instruments
from control_plane.leading.tenure import Tenure
from control_plane.leading.term import (
    LOOK_SECONDS,
    TERM_SECONDS,
    Seen,
    Term,
    should_acquire,
    term_from,
)
from control_plane.store.control_planes import Told, forget_control_planes, tell_control_plane
from control_plane.store.engine import Database
from control_plane.store.leadership import (
    Addresses,
    acquire,
    current_leadership,
    take_leadership,
)
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError

_log = logs.get_logger(__name__)

# Two are lost before it counts as silent, see store/control_planes.py.
TELL_SECONDS = 2.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """One control plane: its name, and where it answers."""

    name: str
    addresses: Addresses
    software: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidacy:
    """Seeks leadership for one control plane."""

    database: Database
    candidate: Candidate
    tenure: Tenure
    clock: Clock

    async def take(self) -> Term:
        """Depose whoever led and return the term, which never ends; for SQLite, see `sole.py`."""
        epoch = await self.database.run(
            take_leadership, self.candidate.name, self.clock.now(), self.candidate.addresses
        )
        return self._taken(Term(epoch=epoch, until=float("inf")))

    async def until_acquired(self) -> Term:
        """Look until leadership is to be had and return the term; waits for ever otherwise."""
        told = ""
        instruments.LEADER.set(0)  # of an earlier run of this process, too
        instruments.EPOCH.set(0)
        while True:
            try:
                term = await self._look()
                instruments.DATABASE_AWAY.set(0)
                told = ""
            except SkerryError as error:
                term = None
                instruments.DATABASE_AWAY.set(1)
                if str(error) != told:  # once a half second, it would fill the disk
                    told = str(error)
                    _log.warning("leadership.not-seen", error=told)
            if term is not None:
                return term
            await self.clock.sleep(LOOK_SECONDS)

    async def _look(self) -> Term | None:
        leader = await self.database.run_read(current_leadership)
        self.tenure.note_leader(leader)
        if not should_acquire(Seen(epoch=leader.epoch, seconds_left=leader.seconds_left)):
            return None
        asked_at = self.clock.monotonic()
        epoch = await self.database.run(
            acquire,
            self.candidate.name,
            self.candidate.addresses,
            self.clock.now(),
            seconds=TERM_SECONDS,
        )
        return None if epoch is None else self._taken(term_from(epoch, asked_at))

    def _taken(self, term: Term) -> Term:
        _log.info("leadership.taken", epoch=term.epoch, name=self.candidate.name)
        instruments.TAKEOVERS.inc()
        instruments.LEADER.set(1)
        instruments.EPOCH.set(term.epoch)
        return term

    async def tell(self) -> None:
        """Tell who we are for ever, leading or not; what could not be told is told again."""
        await self._try(forget_control_planes)
        while True:
            told = Told(
                name=self.candidate.name,
                epoch=self.tenure.epoch,
                addresses=self.candidate.addresses,
                software=self.candidate.software,
            )
            await self._try(tell_control_plane, told)
            await self.clock.sleep(TELL_SECONDS)

    async def _try(self, function: Any, *arguments: Any) -> None:
        try:
            await self.database.run_unannounced(function, *arguments)
        except SkerryError as error:
            _log.info("control-plane.not-told", error=str(error))
