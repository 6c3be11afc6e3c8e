"""What waits to be said on one stream: the newest of each kind, for whoever sends when it can."""

import asyncio

from control_plane.store.residency import Taken
from skerry.fleet.generation import NEVER, Version


class Outbox:
    """A slot for the newest desired state, the heartbeat to be echoed, and what was kept.

    Whoever fills them waits for nothing: a plane on a slow line is read while it is sent to.
    """

    def __init__(self) -> None:
        """Begin with nothing to say."""
        self._state: tuple[Version, bytes] | None = None
        self._newest = NEVER
        self._heartbeat: int | None = None
        self._taken: Taken | None = None
        # Of who sends, while nothing waits: an event each would be a kilobyte of each plane.
        self._sender: asyncio.Future[None] | None = None

    def put(self, version: Version, payload: bytes) -> bool:
        """Offer a state, in place of one that was not sent yet; False when it is not newer."""
        if version <= self._newest:
            return False
        self._newest = version
        self._state = (version, payload)
        self._wake()
        return True

    def echo(self, number: int) -> None:
        """Have the plane's heartbeat of that number echoed, in place of one that was not yet."""
        self._heartbeat = number
        self._wake()

    def take_state(self) -> tuple[Version, bytes] | None:
        """Return the newest state that was not sent yet, None when there is none."""
        state, self._state = self._state, None
        return state

    def take_heartbeat(self) -> int | None:
        """Return the number of the heartbeat to echo, None when there is none."""
        number, self._heartbeat = self._heartbeat, None
        return number

    def tell_taken(self, taken: Taken) -> None:
        """Have the plane told how far its records of where requests went are kept."""
        self._taken = taken
        self._wake()

    def take_taken(self) -> Taken | None:
        """Return what it is to be told of that, None when there is nothing."""
        taken, self._taken = self._taken, None
        return taken

    async def wait(self) -> None:
        """Wait until there is something to say."""
        assert self._sender is None, "one sends"
        while self._state is None and self._heartbeat is None and self._taken is None:
            self._sender = asyncio.get_running_loop().create_future()
            try:
                await self._sender
            finally:
                self._sender = None

    def _wake(self) -> None:
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)
