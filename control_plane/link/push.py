"""Latest-generation-wins delivery: at most one desired state waits for each plane, the newest."""

import asyncio

from skerry.fleet.generation import NEVER, Version


class Outbox:
    """The one slot of a session; putting a newer state replaces one that was not sent yet."""

    def __init__(self) -> None:
        self._waiting: tuple[Version, bytes] | None = None
        self._newest = NEVER
        self._filled = asyncio.Event()

    def put(self, version: Version, payload: bytes) -> bool:
        """Offer a state; return False when it is not newer than the last one put."""
        if version <= self._newest:
            return False
        self._newest = version
        self._waiting = (version, payload)
        self._filled.set()
        return True

    async def take(self) -> tuple[Version, bytes]:
        """Wait for the newest state that was not sent yet."""
        await self._filled.wait()
        waiting = self._waiting
        assert waiting is not None, "filled without a state"
        self._waiting = None
        self._filled.clear()
        return waiting
