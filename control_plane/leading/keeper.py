"""The leader's hold on leadership: renewed every second, given up at a stop, over when it is lost.

I/O only; `term.py` decides.
"""

import asyncio
from dataclasses import dataclass

from control_plane import instruments
from control_plane.leading.outage import DatabaseSight
from control_plane.leading.tenure import Tenure
from control_plane.leading.term import (
    LOOK_SECONDS,
    RENEW_AGAIN_SECONDS,
    RENEW_SECONDS,
    TERM_SECONDS,
    Term,
    should_step_down,
)
from control_plane.store.engine import Database
from control_plane.store.leadership import give_up, renew
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, StaleGeneration

_log = logs.get_logger(__name__)

# A stop does not wait for a database that is away: the term just runs out.
GIVE_UP_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Keeper:
    """Keeps one term; `name` is whose."""

    database: Database
    tenure: Tenure
    outage: DatabaseSight
    clock: Clock
    name: str

    async def renew(self) -> None:
        """Renew for ever; StaleGeneration once another epoch leads."""
        while True:
            is_done = await self.renew_once()
            await self.clock.sleep(RENEW_SECONDS if is_done else RENEW_AGAIN_SECONDS)

    async def renew_once(self) -> bool:
        """Renew and return whether that was done; StaleGeneration when another epoch leads."""
        term, asked_at = self._term(), self.clock.monotonic()
        try:
            leading = await self.database.run_unannounced(renew, term.epoch, seconds=TERM_SECONDS)
        except SkerryError as error:
            self.outage.note_failure(self.clock.monotonic())
            instruments.DATABASE_AWAY.set(1)
            _log.warning("leadership.not-renewed", epoch=term.epoch, error=str(error))
            return False
        self.outage.note_ok(self.clock.monotonic())
        instruments.DATABASE_AWAY.set(0)
        if should_step_down(term, leading, self.clock.monotonic()):
            raise StaleGeneration(
                f"another control plane leads, in epoch {leading}; ours was {term.epoch}"
            )
        self.tenure.term = term.renewed(asked_at)
        return True

    async def watch(self) -> None:
        """Look at our own clock for ever; StaleGeneration once the planes must be set free.

        Beside `renew`, which may wait long for a database that does not answer.
        """
        was_acting = True
        while True:
            term, now = self._term(), self.clock.monotonic()
            acts = self.tenure.is_acting
            instruments.LEADER.set(acts)
            instruments.EPOCH.set(term.epoch)
            if acts is not was_acting:
                _log.warning("leadership.paused" if was_acting else "leadership.resumed")
                was_acting = acts
            if should_step_down(term, None, now):
                raise StaleGeneration(
                    f"the database has not answered since the term of epoch {term.epoch} ended;"
                    " the planes are free to find another leader"
                )
            await self.clock.sleep(LOOK_SECONDS)

    async def give_up(self) -> None:
        """End the term, so that a standby leads at once; without a database it just runs out."""
        term = self._term()
        instruments.LEADER.set(0)
        try:
            async with asyncio.timeout(GIVE_UP_SECONDS_MAX):
                await self.database.run(give_up, term.epoch, self.name, self.clock.now())
        except (SkerryError, TimeoutError) as error:
            _log.warning("leadership.not-given-up", error=str(error))

    def _term(self) -> Term:
        term = self.tenure.term
        assert term is not None, "there is a keeper only of a term"
        return term
