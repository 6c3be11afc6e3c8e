"""Latest-generation-wins delivery: at most one desired state waits for each plane, the newest."""

import asyncio

from skerry.fleet.generation import NEVER, Version


class Outbox:
    """The one slot of a session; putting a newer state replaces one that was not sent yet."""

    def __init__(self) -> None:
        self._waiting: tuple[Version, bytes] | None = None
        self._newest = NEVER
        # Of who takes, while nothing waits: an event each would be a kilobyte of each plane.
        self._taker: asyncio.Future[None] | None = None

    def put(self, version: Version, payload: bytes) -> bool:
        """Offer a state; return False when it is not newer than the last one put."""
        if version <= self._newest:
            return False
        self._newest = version
        self._waiting = (version, payload)
        if self._taker is not None and not self._taker.done():
            self._taker.set_result(None)
        return True

    async def take(self) -> tuple[Version, bytes]:
        """Wait for the newest state that was not sent yet."""
        assert self._taker is None, "one takes"
        while self._waiting is None:
            self._taker = asyncio.get_running_loop().create_future()
            try:
                await self._taker
            finally:
                self._taker = None
        waiting, self._waiting = self._waiting, None
        return waiting
