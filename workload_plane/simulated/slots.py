"""Slots of the simulated engine: so many requests run, so many may wait, the rest is refused."""

import asyncio
import contextlib
import math
from collections.abc import AsyncIterator

from skerry.plumbing.errors import Exhausted


class Slots:
    """Counts what runs and what waits; first come, first served."""

    def __init__(self, *, running_max: int, waiting_max: int) -> None:
        """Start with all slots free."""
        self.running = 0
        self.waiting = 0
        self._waiting_max = waiting_max
        self._running_max = running_max
        self._free = asyncio.Semaphore(running_max)

    @contextlib.asynccontextmanager
    async def take(self, *, seconds_each: float) -> AsyncIterator[None]:
        """Hold a slot for the block; raises Exhausted when the queue is full.

        `seconds_each` is what one request takes about, for the advice when to come back.
        """
        if self._free.locked() and self.waiting >= self._waiting_max:
            rounds = 1 + self.waiting // self._running_max
            raise Exhausted(
                f"{self.running} requests run and {self.waiting} wait, which is all this engine"
                " takes; try again later or elsewhere",
                retry_after_seconds=float(max(1, math.ceil(rounds * seconds_each))),
            )
        self.waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.waiting -= 1
        self.running += 1
        try:
            yield
        finally:
            self.running -= 1
            self._free.release()
