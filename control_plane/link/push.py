"""What waits to be said on one stream: the newest of each kind, for whoever sends when it can."""

import asyncio

from skerry.fleet.generation import NEVER, Version


class Outbox:
    """A slot for the newest desired state and one for the heartbeat that is to be echoed.

    Whoever fills them waits for nothing: a plane on a slow line is read while it is sent to.
    """

    def __init__(self) -> None:
        """Begin with nothing to say."""
        self._state: tuple[Version, bytes] | None = None
        self._newest = NEVER
        self._heartbeat: int | None = None
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

    async def wait(self) -> None:
        """Wait until there is something to say."""
        assert self._sender is None, "one sends"
        while self._state is None and self._heartbeat is None:
            self._sender = asyncio.get_running_loop().create_future()
            try:
                await self._sender
            finally:
                self._sender = None

    def _wake(self) -> None:
        if self._sender is not None and not self._sender.done():
            self._sender.set_result(None)
