"""Stores what planes tell of where their requests went, and answers how far it is kept.

The leader runs it beside the reconcile loop; `main.py` builds it.
"""

from dataclasses import dataclass

from control_plane.link.registry import Registry
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.residency import forget_residency, keep_residency
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import StaleGeneration

_log = logs.get_logger(__name__)

STORE_SECONDS = 0.5
# One transaction's: planes that come back at once are stored in pieces.
PLANES_AT_ONCE = 32
FORGET_SECONDS = 60.0
ACTOR = "control-plane:evidence"


@dataclass(slots=True, kw_only=True)
class EvidenceFlush:
    """Writes down what came in, twice a second, and forgets what is old."""

    database: Database
    clock: Clock
    epoch: int
    registry: Registry
    forgotten_at: float = 0.0

    async def run(self) -> None:
        """Store for ever; what could not be stored its plane tells again."""
        while True:
            await self.clock.sleep(STORE_SECONDS)
            try:
                while await self.store():
                    pass
                await self.forget()
            except StaleGeneration:
                raise
            except Exception as error:  # one odd report must not end every leader in turn
                _log.warning("evidence.not-stored", error=repr(error))

    async def store(self) -> int:
        """Store a piece of what came in; return of how many planes that was."""
        told = self.registry.evidence.take(PLANES_AT_ONCE)
        if not told:
            return 0
        for taken in await self.database.run_unannounced(keep_residency, self._write(), told):
            if taken.fault:
                _log.warning("evidence.refused", plane=taken.plane, fault=taken.fault)
            self.registry.tell_taken(taken)
        return len(told)

    async def forget(self) -> None:
        """Forget what is old, now and then."""
        now = self.clock.monotonic()
        if now - self.forgotten_at >= FORGET_SECONDS:
            self.forgotten_at = now
            while await self.database.run_unannounced(forget_residency, self._write()):
                pass

    def _write(self) -> WriteContext:
        return WriteContext(epoch=self.epoch, actor=ACTOR, now=self.clock.now())
