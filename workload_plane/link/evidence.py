"""Tells the control plane where requests went: what it has not kept yet, a piece at a time.

One for each connection; it begins by asking what the control plane has, which may be an older
backup's. A piece is told once the one before is kept.
"""

import asyncio
from collections.abc import Awaitable, Callable
from typing import Protocol

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.change_chain import Link
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.tasks import first_of

_log = logs.get_logger(__name__)

# It is kept within a second; after this it is asked again what is.
ANSWER_SECONDS_MAX = 30.0

Send = Callable[[messages.ConnectRequest], Awaitable[None]]


class EvidenceSide(Protocol):
    """What keeps the plane's records; `workload_plane.residency.keeper` is the real one."""

    news: asyncio.Event

    async def after(self, chain: str, sequence: int) -> tuple[str, tuple[Link, ...]]:
        """Return the chain in force, and what follows a record of it; all for another chain."""
        ...

    async def refused(self, chain: str, fault: str) -> None:
        """Begin a new chain where the control plane holds another of that name."""
        ...


class EvidenceTelling:
    """What one connection has told, and what it heard of it."""

    def __init__(self, side: EvidenceSide | None, clock: Clock) -> None:
        """Tell nothing before `may_tell` is set."""
        self._side = side
        self._clock = clock
        self._came = asyncio.Event()
        self._taken: messages.ResidencyTaken | None = None
        self.may_tell = asyncio.Event()

    def came(self, taken: messages.ResidencyTaken) -> None:
        """Take in how far the records are kept."""
        self._taken = taken
        self._came.set()

    async def tell_for_ever(self, send: Send) -> None:
        """Tell what is new, for ever, once the control plane takes it."""
        await self.may_tell.wait()
        while self._side is not None:
            try:
                await self._tell(self._side, send)
            except OSError as error:  # the disk; the control plane knows no more meanwhile
                _log.warning("residency.not-told", error=str(error))
                await self._clock.sleep(ANSWER_SECONDS_MAX)

    async def _tell(self, side: EvidenceSide, send: Send) -> None:
        chain, links = await side.after("", 0)
        taken = await self._answer(send, chain, ())  # what is there?
        while taken is not None:
            if taken.fault:
                await side.refused(taken.chain, taken.fault)
                return
            side.news.clear()
            chain, links = await side.after(taken.chain, taken.sequence)
            if chain != taken.chain:
                return
            if not links:
                await side.news.wait()
                continue
            before, taken = taken, await self._answer(send, chain, links)
            if taken is not None and not taken.fault and taken.sequence <= before.sequence:
                await self._clock.sleep(ANSWER_SECONDS_MAX)  # it kept nothing, and says not why

    async def _answer(
        self, send: Send, chain: str, links: tuple[Link, ...]
    ) -> messages.ResidencyTaken | None:
        """Tell records and return what the control plane says to it; None for nothing in time."""
        self._forget()
        records = [
            messages.ResidencyRecord(
                sequence=link.sequence,
                content=link.content,
                previous_digest=link.previous or b"",
                digest=link.digest or b"",
            )
            for link in links
        ]
        report = messages.ResidencyReport(chain=chain, records=records)
        await send(messages.ConnectRequest(residency=report))
        await first_of(self._clock.sleep(ANSWER_SECONDS_MAX), self._came.wait())
        return self._taken_of(chain)

    def _taken_of(self, chain: str) -> messages.ResidencyTaken | None:
        taken = self._taken
        return taken if taken is not None and taken.chain == chain else None

    def _forget(self) -> None:
        """Wait for an answer anew."""
        self._came.clear()
        self._taken = None
