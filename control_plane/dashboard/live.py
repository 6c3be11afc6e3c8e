"""Server-sent events: that something changed, so that an open page looks again.

An event carries a number and no content: what a page shows it asks for itself.
"""

import asyncio
import contextlib
import json

from aiohttp import web

from control_plane.dashboard.guard import HEADERS
from control_plane.dashboard.sessions import STREAMS_MAX, Session
from skerry.client import operator_methods as ask
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, SkerryError

# A fleet that decides a hundred times a second is looked at once.
CHANGE_SECONDS_MIN = 1.0
# What is observed and not changed, READY replicas for one, is in no change log.
TICK_SECONDS = 10.0
# A browser asks again after so long when a stream broke.
RETRY_MILLISECONDS = 2_000


class _News:
    """What the watch of one stream heard and the page was not told yet."""

    def __init__(self) -> None:
        self.sequence: int | None = None
        self.ended = ""
        self.wakes = asyncio.Event()

    async def follow(self, session: Session) -> None:
        """Hear every change, until the watch cannot go on."""
        try:
            async for change in session.client.watch(await _newest(session)):
                self.sequence = change.sequence
                self.wakes.set()
            self.ended = "the stream ended"
        except SkerryError as error:
            self.ended = error.message
        self.wakes.set()

    async def next(self) -> tuple[str, dict[str, object]]:
        """Return `change` with its sequence, `away` with the reason, or after a while `tick`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(TICK_SECONDS):
                await self.wakes.wait()
        if self.ended:
            return "away", {"reason": self.ended}
        self.wakes.clear()
        sequence, self.sequence = self.sequence, None
        return ("tick", {}) if sequence is None else ("change", {"sequence": sequence})


async def answer_events(request: web.Request, session: Session, clock: Clock) -> web.StreamResponse:
    """Send events until the browser goes away or the watch ends; the browser comes back by itself.

    Exhausted past the streams that one session may have.
    """
    if session.streams >= STREAMS_MAX:
        raise Exhausted(f"{STREAMS_MAX} pages of this session are live; close one")
    session.streams += 1
    response = web.StreamResponse(
        headers={**HEADERS, "Content-Type": "text/event-stream", "Cache-Control": "no-store"}
    )
    try:
        await response.prepare(request)
        news = _News()
        async with asyncio.TaskGroup() as group:
            following = group.create_task(news.follow(session))
            try:
                await _tell(response, news, clock)
            finally:
                following.cancel()
        return response
    finally:
        session.streams -= 1


async def _tell(response: web.StreamResponse, news: _News, clock: Clock) -> None:
    kind = ""
    with contextlib.suppress(ConnectionResetError):  # the page was closed
        await response.write(f"retry: {RETRY_MILLISECONDS}\n\n".encode())
        while kind != "away":
            kind, value = await news.next()
            await response.write(f"event: {kind}\ndata: {json.dumps(value)}\n\n".encode())
            if kind == "change":
                await clock.sleep(CHANGE_SECONDS_MIN)


async def _newest(session: Session) -> int:
    call = ask.newest_changes(session.client.asker, 1)
    page = await session.client.run(call(""))
    return page.rows[0].sequence if page.rows else 0
