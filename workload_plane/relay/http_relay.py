"""One stream of OpenAI's APIs through the relay: asked, told, asked again elsewhere, ended.

Called by `main` for every request of the gateway. What is decided is decided by pure modules
(`course`, `openai_stream`, `skerry.wire.continuation`); here are connections, clock and waiting.
"""

import asyncio
import json
from dataclasses import dataclass, replace

from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.ids import IdSource
from skerry.wire.continuation.dialects import CONTINUATION_HEADER
from skerry.wire.continuation.openai_continuation import (
    Close,
    GoOn,
    LookUp,
    Next,
    continue_openai,
)
from skerry.wire.continuation.openai_request import PATHS, OpenAiRequest, read_request
from skerry.wire.continuation.refusals import Reason, Refusal, error_event
from workload_plane.gateway.wire import (
    DEPLOYMENT_HEADER,
    DIRECT_HEADER,
    LOST_HEADER,
    TIMING_HEADER,
    TRIED_HEADER,
)
from workload_plane.relay import instruments
from workload_plane.relay.course import Course, TryAgain, hindrance
from workload_plane.relay.http_client import (
    ClientConnection,
    ClientPool,
    Head,
    Lost,
    Unreached,
    request_bytes,
)
from workload_plane.relay.http_server import Headers, Request, ServerConnection
from workload_plane.relay.known import KnownDeployments
from workload_plane.relay.lost_with import LostWith
from workload_plane.relay.memory import HeldBytes
from workload_plane.relay.openai_stream import OpenAiStream
from workload_plane.relay.sse import BlockSplitter
from workload_plane.replica_host.sse import OversizedEvent

_log = logs.get_logger(__name__)

_SSE = "text/event-stream"
_TRIED, _TIMING = TRIED_HEADER.encode(), TIMING_HEADER.encode()
# The mark of the end comes right behind the last event; nobody waits longer for it.
_TAIL_SECONDS_MAX = 1.0
# Not the request's fault and not for ever: somebody else may take it, or the same one later.
_AGAIN = frozenset((408, 429, 502, 503, 504))
_RETRY_AFTER_SECONDS_MAX = 10.0
_DETAIL_BYTES_MAX = 16 * 1024
_DETAIL_CHARACTERS_MAX = 200
# How much a stream grows before it is counted again.
_COUNT_STEP_BYTES = 4096


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaying:
    """What all streams share."""

    pool: ClientPool
    known: KnownDeployments
    held: HeldBytes
    clock: Clock
    ids: IdSource
    plane: str


class HttpExchange:
    """One request from its coming to the end of its stream."""

    def __init__(self, relaying: Relaying, client: ServerConnection, request: Request) -> None:
        """Read what is asked."""
        self._relaying = relaying
        self._client = client
        self._asked = request
        self._name = request.header(DEPLOYMENT_HEADER.encode())
        self._label = relaying.known.label(self._name)
        self._dialect = relaying.known.dialect(self._name)
        self._request = _kept_if_room(
            read_request(PATHS[request.path], request.body, self._dialect), relaying.held
        )
        self._stream = OpenAiStream(self._request)
        self._course = Course()
        self._lost_with = LostWith(relaying.plane)
        self._connection: ClientConnection | None = None
        self._held_bytes = 0
        self._counted_bytes = 0
        self._is_dropped = False

    async def run(self) -> None:
        """Carry the stream to its end; cancelled when the client has gone."""
        refusal = self._request.refusal
        instruments.STREAMS.labels(self._label, self._request.api.value).inc()
        if refusal is not None:
            instruments.PASSED.labels(self._label, refusal.reason.value).inc()
        try:
            with instruments.RUNNING.track_inprogress():
                self._count()
                await self._run()
        finally:
            self._relaying.held.change(self._held_bytes, 0)
            self._drop()

    async def _run(self) -> None:
        try:
            head, ended = await self._ask(self._request.sent_body)
        except Unreached as unreached:
            # The gateway then takes the way without us.
            body = _unavailable(str(unreached))
            self._client.respond(503, body, more=[(DIRECT_HEADER.encode(), b"1")])
            return
        except Lost as lost:
            self._client.respond(503, _unavailable(str(lost)))
            return
        if not _is_stream(head):
            await self._pass_whole(head, ended)
            return
        self._client.begin(head.status, [*_told(head), *self._offer()])
        self._course.accept(0)
        self._drop_body()
        while not await self._carry(ended):
            again = await self._resume()
            if again is None:
                return
            ended = again
        await self._give_back(ended)

    def _offer(self) -> Headers:
        """Return the header that lets the client itself go on, should this plane die."""
        engine = self._relaying.known.engine(self._name)
        if self._request.refusal is not None or not engine:
            return []
        return [(CONTINUATION_HEADER.encode(), engine.encode())]

    async def _carry(self, ended: asyncio.Future[None]) -> bool:
        """Pass events on until the engine's answer ends; say whether the client has its end."""
        connection, stream, client = self._connection, self._stream, self._client
        assert connection is not None
        splitter, feed = BlockSplitter(), stream.feed
        over = asyncio.get_running_loop().create_future()

        def take(data: bytes) -> None:
            try:
                blocks = splitter.feed(data)
            except OversizedEvent as error:
                _log.warning("relay.event-too-long", deployment=self._name, error=error)
                connection.close()
                return
            # One write for all that came together: a write costs more than an event.
            told = feed(blocks[0]) if len(blocks) == 1 else b"".join(map(feed, blocks))
            if stream.is_closed:
                client.end(told)
            else:
                client.send(told)
                if stream.told_bytes - self._counted_bytes > _COUNT_STEP_BYTES:
                    self._count()
            if (stream.is_closed or stream.is_cut) and not over.done():
                connection.read_into(_ignore)
                over.set_result(None)

        client.press_on(connection.press)
        connection.read_into(take)
        await asyncio.wait((over, ended), return_when=asyncio.FIRST_COMPLETED)
        return stream.is_closed

    async def _resume(self) -> asyncio.Future[None] | None:
        """Find somebody who goes on; return what tells of the end, None when the stream is over."""
        clock, stream = self._relaying.clock, self._stream
        self._drop()
        broke_at = clock.monotonic()
        again: TryAgain | Reason = TryAgain(seconds=0.0)
        if not stream.is_cut:  # then no one was lost: the rest is ours to make
            again = self._lose(broke_at)
        else:
            self._course.search(now=broke_at)
        while True:
            step = self._next()
            if isinstance(step, Close):
                self._client.end(stream.close())
                return None
            if refusal := hindrance(step, again):
                self._break(step, refusal)
                return None
            assert isinstance(again, TryAgain)
            assert isinstance(step, GoOn | LookUp)
            await clock.sleep(again.seconds)
            stream.begin_again(silent=isinstance(step, LookUp))
            answer = await self._try(step.body)  # at nobody who was lost with it
            if isinstance(answer, Refusal):
                self._break(step, answer)
                return None
            if isinstance(answer, asyncio.Future):
                self._course.accept(stream.tokens)
                instruments.CONTINUED.labels(self._label).inc()
                instruments.SEAM.observe(clock.monotonic() - broke_at)
                return answer
            again = answer

    def _next(self) -> Next:
        if self._is_dropped:
            return Refusal(reason=Reason.MEMORY)
        return continue_openai(self._request, self._stream.told, self._dialect)

    async def _try(self, body: bytes) -> asyncio.Future[None] | Refusal | TryAgain | Reason:
        """Ask once; return what tells of the end, a refusal for good, or what the course says."""
        wait_seconds, is_lost = 0.0, False
        try:
            head, ended = await self._ask(body, avoided=self._lost_with.ask())
            if _is_stream(head):
                return ended
            wait_seconds = _retry_after_seconds(head)
            is_lost = bool(head.header(LOST_HEADER.encode()))
            detail = await self._detail(ended)
            if head.status not in _AGAIN:
                return Refusal(reason=Reason.REFUSED, detail=f"{head.status}: {detail}")
        except Lost:
            pass
        now = self._relaying.clock.monotonic()
        if is_lost:
            # Dead before its answer began: the request may be what kills, as behind a beginning.
            return self._lose(now)
        return self._course.turn_away(wait_seconds, now=now, random=self._random())

    def _lose(self, now: float) -> TryAgain | Reason:
        """Take in that the stream was lost with whom it was sent to; say what follows."""
        instruments.BREAKS.labels(self._label).inc()
        self._lost_with.lose()
        return self._course.lose(self._stream.tokens, now=now, random=self._random())

    async def _ask(
        self, body: bytes, *, avoided: str | None = None
    ) -> tuple[Head, asyncio.Future[None]]:
        """Send the request; return its head and what tells of its end. Raises Lost."""
        asked = self._asked
        data = request_bytes(asked.method, asked.url, asked.headers, body, avoided=avoided)
        connection, is_new = await self._relaying.pool.take()
        while True:
            self._connection = connection
            headed, ended = connection.ask(data)
            try:
                head = await headed
                self._lost_with.hear(head.header(_TRIED), head.header(_TIMING))
                return head, ended
            except Lost:
                connection.close()
                # A kept connection may have been closed just now, before it heard of the request.
                if is_new or connection.has_bytes:
                    raise
            connection, is_new = await self._relaying.pool.take(fresh=True)

    async def _pass_whole(self, head: Head, ended: asyncio.Future[None]) -> None:
        """Pass an answer on that is no stream of events, whatever it says."""
        assert self._connection is not None
        self._client.begin(head.status, _told(head))
        self._client.press_on(self._connection.press)
        self._connection.read_into(self._client.send)
        try:
            await ended
        except Lost:
            self._client.abort()
            return
        self._client.end()
        await self._give_back(ended)

    async def _detail(self, ended: asyncio.Future[None]) -> str:
        """Return what a refusing answer says, as short as a message may repeat it."""
        assert self._connection is not None
        body = bytearray()

        def take(data: bytes) -> None:
            if len(body) < _DETAIL_BYTES_MAX:
                body.extend(data)

        self._connection.read_into(take)
        await ended
        await self._give_back(ended)
        try:
            error = json.loads(bytes(body))["error"]
            return str(error["message"])[:_DETAIL_CHARACTERS_MAX]
        except (ValueError, KeyError, TypeError):
            return body.decode(errors="replace")[:_DETAIL_CHARACTERS_MAX]

    async def _give_back(self, ended: asyncio.Future[None]) -> None:
        """Keep the connection for another request once its answer is whole."""
        connection, self._connection = self._connection, None
        assert connection is not None
        await asyncio.wait((ended,), timeout=_TAIL_SECONDS_MAX)
        if ended.done() and ended.exception() is None:
            self._relaying.pool.give_back(connection)
        else:
            connection.close()

    def _break(self, step: Next, refusal: Refusal) -> None:
        """End the stream with an error; one that misses its usage only, without the usage."""
        if isinstance(step, LookUp):
            self._client.end(self._stream.close())
            return
        instruments.BROKEN.labels(self._label, refusal.reason.value).inc()
        _log.warning("stream.broken", deployment=self._name, reason=refusal.reason.value)
        self._client.end(error_event(refusal))

    def _drop(self) -> None:
        connection, self._connection = self._connection, None
        if connection is not None:
            connection.close()

    def _drop_body(self) -> None:
        """Keep nothing of a request that there was no room to keep."""
        refusal = self._request.refusal
        if refusal is not None and refusal.reason is Reason.MEMORY:
            self._is_dropped = True
            self._asked.body = b""
            self._request = replace(self._request, body=b"", sent_body=b"")
            self._count()

    def _count(self) -> None:
        """Tell the bound on memory what this stream holds now."""
        self._counted_bytes = self._stream.told_bytes
        bodies = len(self._request.body) + len(self._request.sent_body)
        now = bodies + self._counted_bytes
        self._held_bytes = self._relaying.held.change(self._held_bytes, now)

    def _random(self) -> float:
        return self._relaying.ids.random()


def _kept_if_room(request: OpenAiRequest, held: HeldBytes) -> OpenAiRequest:
    if request.refusal is not None or not held.is_full:
        return request
    refusal = Refusal(reason=Reason.MEMORY)
    return replace(request, sent_body=request.body, strips_counts=False, refusal=refusal)


def _told(head: Head) -> Headers:
    """Return the headers that are the client's to see."""
    return [(name, value) for name, value in head.headers if name != _TRIED]


def _is_stream(head: Head) -> bool:
    return head.status == 200 and head.header(b"content-type").startswith(_SSE)


def _retry_after_seconds(head: Head) -> float:
    told = head.header(b"retry-after")
    return min(float(told), _RETRY_AFTER_SECONDS_MAX) if told.isdigit() else 0.0


def _unavailable(detail: str) -> bytes:
    message = f"the gateway cannot be reached from its relay: {detail}; try again"
    error = {"message": message, "type": "server_error", "param": None, "code": "relay_cut_off"}
    return json.dumps({"error": error}).encode()


def _ignore(data: bytes) -> None:
    """Take what nobody is told any more."""
