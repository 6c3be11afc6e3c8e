"""What the leader tidies away now and then: changes past the number that are kept.

`main.py` runs it beside the reconcile loop.
"""

from dataclasses import dataclass

from control_plane.store.changes import forget_changes, last_sequence, oldest_sequence
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, StaleGeneration

_log = logs.get_logger(__name__)

LOOK_SECONDS = 60.0
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
