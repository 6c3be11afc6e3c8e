"""The whole store, read once for all who look at it: the reconcile loop and the operator API.

`main.py` makes one. A snapshot each would be megabytes twice, and the work of reading them.
"""

import asyncio
from dataclasses import dataclass

from control_plane.store.engine import Database
from control_plane.store.snapshot import StoreSnapshot, renew
from skerry.plumbing.clock import Clock


@dataclass(frozen=True, slots=True, kw_only=True)
class Read:
    """The store as of a read that began at `began_at` of the monotonic clock.

    It has every commit of this process up to number `commits`; `number` counts the reads.
    """

    store: StoreSnapshot
    commits: int
    began_at: float
    number: int


class StoreReads:
    """Reads the store for all; parts that did not move are the values of the read before."""

    def __init__(self, database: Database, clock: Clock) -> None:
        """Have nothing read yet."""
        self.database = database
        self._clock = clock
        self._reading = asyncio.Lock()
        self._held: Read | None = None
        self._begun = 0

    @property
    def held(self) -> Read | None:
        """Return the last read; None before the first."""
        return self._held

    async def newest(self) -> Read:
        """Return a read that begins after this call; callers that wait share one."""
        asked = self._begun
        async with self._reading:
            held = self._held
            if held is not None and held.number > asked:
                return held
            self._begun = number = self._begun + 1
            commits, began_at = self.database.commits, self._clock.monotonic()
            store = await self.database.run_read(renew, held.store if held else None)
            self._held = Read(store=store, commits=commits, began_at=began_at, number=number)
            return self._held

    async def snapshot(self) -> StoreSnapshot:
        """Return the store as of a read that begins after this call."""
        return (await self.newest()).store
