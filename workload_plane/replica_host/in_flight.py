"""Requests under way in this host: by id, countable, and each of them can be ended early."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Iterator

from skerry.api.openengine.v1 import error_pb2
from workload_plane.replica_host.faults import RequestFault

# Far above what one engine queues; it bounds what a client can make the host remember.
FLIGHTS_MAX = 4_096


class Aborted(Exception):
    """The request was ended by Abort while the engine was waited for."""


class EngineLost(Exception):
    """The engine ended while the request waited for it."""


class Flight:
    """One request under way."""

    __slots__ = ("_wait", "aborted", "lost", "request_id")

    def __init__(self, request_id: str) -> None:
        """Begin a request that nobody has ended."""
        self.request_id = request_id
        self.aborted = False
        self.lost = ""
        self._wait: asyncio.Timeout | None = None

    def abort(self) -> None:
        """End the request: what it waits for now, or waits for next, raises Aborted."""
        self.aborted = True
        self._cut()

    def lose(self, reason: str) -> None:
        """End the request as `abort` does, with EngineLost for that reason."""
        self.lost = reason
        self._cut()

    def _cut(self) -> None:
        if self._wait is not None:
            self._wait.reschedule(0.0)

    def _check(self) -> None:
        if self.lost:
            raise EngineLost(self.lost)
        if self.aborted:
            raise Aborted

    @contextlib.asynccontextmanager
    async def waiting(self) -> AsyncIterator[None]:
        """Let the block be cut short by `abort` or `lose`, which raise out of it."""
        self._check()
        try:
            # A timeout without a deadline is a cancellation that knows whose it was; a task of
            # its own for each read would cost ten times as much.
            async with asyncio.timeout(None) as self._wait:
                yield
        except TimeoutError:
            self._check()
            raise
        finally:
            self._wait = None


class Flights:
    """All requests under way, by id."""

    def __init__(self) -> None:
        """Begin with none."""
        self._by_id: dict[str, Flight] = {}
        self._idle = asyncio.Event()
        self._idle.set()

    def __len__(self) -> int:
        return len(self._by_id)

    @contextlib.contextmanager
    def begin(self, request_id: str) -> Iterator[Flight]:
        """Hold a request for the block; raises RequestFault for a duplicate or one too many."""
        if request_id in self._by_id:
            raise RequestFault(
                code=error_pb2.ERROR_CODE_DUPLICATE_REQUEST,
                message=f"request_id {request_id!r} is under way already; choose another",
            )
        if len(self._by_id) >= FLIGHTS_MAX:
            raise RequestFault(
                code=error_pb2.ERROR_CODE_OVERLOADED,
                message=f"{FLIGHTS_MAX} requests are under way, which is all this host takes",
                retryable=True,
            )
        flight = Flight(request_id)
        self._by_id[request_id] = flight
        self._idle.clear()
        try:
            yield flight
        finally:
            del self._by_id[request_id]
            if not self._by_id:
                self._idle.set()

    def abort(self, request_id: str) -> bool:
        """End the request with that id; return False when there is none."""
        flight = self._by_id.get(request_id)
        if flight is not None:
            flight.abort()
        return flight is not None

    def abort_all(self) -> int:
        """End every request; return how many there were."""
        for flight in self._by_id.values():
            flight.abort()
        return len(self._by_id)

    def lose_all(self, reason: str) -> int:
        """End every request because the engine did; return how many there were."""
        for flight in self._by_id.values():
            flight.lose(reason)
        return len(self._by_id)

    async def wait_idle(self) -> None:
        """Return once no request is under way."""
        await self._idle.wait()
