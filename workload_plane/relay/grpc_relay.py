"""`openengine.v1` Generate through the relay: the same course over gRPC.

Called by `main`. The pure part is `skerry.wire.continuation.generate`; a refusal ends the stream
with a terminal EngineError, as the contract has it for a request that was accepted and then failed.
"""

import asyncio
from collections.abc import AsyncIterator, Iterable
from typing import Any

import grpc

from skerry.api.openengine.v1 import error_pb2, generation_pb2, openengine_pb2_grpc
from skerry.plumbing import logs
from skerry.wire.continuation.dialects import CONTINUATION_HEADER
from skerry.wire.continuation.generate import GenerateStream, refusal_of
from skerry.wire.continuation.openai_continuation import Close, LookUp
from skerry.wire.continuation.refusals import Reason, Refusal
from workload_plane.gateway.wire import (
    AVOID_HEADER,
    DEPLOYMENT_HEADER,
    DIRECT_HEADER,
    LOST_HEADER,
    REQUEST_ID_HEADER,
    RESUMED_HEADER,
    TIMING_HEADER,
    TRIED_HEADER,
)
from workload_plane.relay import instruments
from workload_plane.relay.course import Course, TryAgain, hindrance
from workload_plane.relay.http_relay import Relaying
from workload_plane.relay.lost_with import LostWith

_log = logs.get_logger(__name__)

Request = generation_pb2.GenerateRequest
Response = generation_pb2.GenerateResponse
Context = grpc.aio.ServicerContext[Request, Response]

# Somebody else may take it, or the same one later; a duplicate is our own call that still winds
# down where it was lost.
_AGAIN = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.RESOURCE_EXHAUSTED,
        grpc.StatusCode.ALREADY_EXISTS,
        grpc.StatusCode.ABORTED,
    )
)
# What the gateway says when the other end was lost behind an answer that had begun.
_LOST = frozenset(
    (
        grpc.StatusCode.UNAVAILABLE,
        grpc.StatusCode.INTERNAL,
        grpc.StatusCode.UNKNOWN,
        grpc.StatusCode.CANCELLED,
        grpc.StatusCode.ABORTED,
    )
)
_OWN_PREFIXES = (":", "grpc-", "x-envoy-")
_OWN_NAMES = frozenset(("content-type", "te", "user-agent", "host", TRIED_HEADER))
_DETAIL_CHARACTERS_MAX = 200
# The end comes right behind the last response; nobody waits longer for it.
_TAIL_SECONDS_MAX = 1.0
# An id and a piece of text, each an object of its own.
_TOKEN_BYTES = 96
_COUNT_STEP_TOKENS = 256


class RelayInference(openengine_pb2_grpc.InferenceServicer):
    """Generates through the gateway's inner listener, more than once if need be."""

    def __init__(self, relaying: Relaying, inner: grpc.aio.Channel) -> None:
        """Ask over that channel."""
        self._relaying = relaying
        self._stub = openengine_pb2_grpc.InferenceStub(inner)

    async def Generate(self, request: Request, context: Context) -> None:
        """Carry one stream to its end."""
        metadata = [(str(key), value) for key, value in context.invocation_metadata() or ()]
        exchange = _Exchange(self._relaying, self._stub, request, metadata)
        try:
            with instruments.RUNNING.track_inprogress():
                async for response in exchange.responses(context):
                    await context.write(response)
        finally:
            exchange.end()


class _Exchange:
    """One Generate from its coming to its end."""

    def __init__(
        self, relaying: Relaying, stub: Any, request: Request, metadata: list[tuple[str, Any]]
    ) -> None:
        """Read what is asked."""
        self._relaying = relaying
        self._stub = stub
        self._request = request
        self._name = next((str(v) for k, v in metadata if k == DEPLOYMENT_HEADER), "")
        self._label = relaying.known.label(self._name)
        self._metadata = [pair for pair in metadata if _passes(pair[0])]
        refusal = refusal_of(request)
        if refusal is None and relaying.held.is_full:
            refusal = Refusal(reason=Reason.MEMORY)
        self._stream = GenerateStream(request, relaying.known.dialect(self._name), refusal)
        self._is_kept = refusal is None
        self._has_room = refusal is None or refusal.reason is not Reason.MEMORY
        self._is_dropped = False
        self._course = Course()
        self._lost_with = LostWith(relaying.plane)
        self._call: Any = None
        self._counted_tokens = 0
        self._held_bytes = relaying.held.change(0, request.ByteSize())
        instruments.STREAMS.labels(self._label, "generate").inc()
        if refusal is not None:
            instruments.PASSED.labels(self._label, refusal.reason.value).inc()

    def end(self) -> None:
        """Let go of everything; a call under way is cancelled, which frees the engine's slot."""
        if self._call is not None:
            self._call.cancel()
        self._relaying.held.change(self._held_bytes, 0)

    async def responses(self, context: Context) -> AsyncIterator[Response]:
        """Yield what the client is sent."""
        stream = self._stream
        first = await self._first(self._request, context)
        engine = self._relaying.known.engine(self._name)
        if self._is_kept and engine:
            # Lets the client itself go on, should this plane die.
            await context.send_initial_metadata(((CONTINUATION_HEADER, engine),))
        self._course.accept(0)
        self._drop_prompt(first)
        while True:
            async for response in self._carry(first):
                yield response
            if stream.is_closed:
                await self._tell_trailers(context)
                return
            again = await self._resume()
            if isinstance(again, list):
                for response in again:
                    yield response
                return
            first = again

    async def _tell_trailers(self, context: Context) -> None:
        """Pass on what the gateway says behind an answer: plane, replica, time in the queue."""
        try:
            async with asyncio.timeout(_TAIL_SECONDS_MAX):
                await self._call.read()
                trailers = await self._call.trailing_metadata()
        except (TimeoutError, grpc.aio.AioRpcError):
            return
        context.set_trailing_metadata(_passed(trailers))

    async def _first(self, request: Request, context: Context) -> Response | None:
        """Ask for the first time: a refusal before the first response is the client's to hear."""
        try:
            return await self._ask(request)
        except grpc.aio.AioRpcError as error:
            if self._is_kept and _is_cut(error):
                return None  # an engine had taken it: as one whose stream ends with nothing in it
            trailers = _passed(error.trailing_metadata())
            if _is_unreached(error):
                trailers = (*trailers, (DIRECT_HEADER, "1"))
            await context.abort(error.code(), error.details() or "", trailers)
            raise AssertionError("abort raises") from None

    async def _ask(self, request: Request, *marks: tuple[str, str]) -> Response | None:
        """Return the first response, None when the stream ends without one."""
        self._call = self._stub.Generate(request, metadata=(*self._metadata, *marks))
        try:
            first = await self._call.read()
            self._hear(await self._call.initial_metadata())
        except grpc.aio.AioRpcError as error:
            self._hear((*(error.initial_metadata() or ()), *(error.trailing_metadata() or ())))
            raise
        return None if first is grpc.aio.EOF else first

    def _hear(self, metadata: Iterable[tuple[str, Any]]) -> None:
        """Note whom the gateway names as the hosts of the stream."""
        told = {str(key): str(value) for key, value in metadata}
        self._lost_with.hear(told.get(TRIED_HEADER, ""), told.get(TIMING_HEADER, ""))

    def _marks(self) -> list[tuple[str, str]]:
        """Return what marks a stream that broke, and with whom it did."""
        avoided = self._lost_with.ask()
        return [(RESUMED_HEADER, "1"), *([(AVOID_HEADER, avoided)] if avoided else ())]

    def _lose(self, now: float) -> TryAgain | Reason:
        """Take in that the stream was lost with whom it was sent to; say what follows."""
        instruments.BREAKS.labels(self._label).inc()
        self._lost_with.lose()
        return self._course.lose(self._stream.tokens, now=now, random=self._random())

    async def _carry(self, first: Response | None) -> AsyncIterator[Response]:
        """Yield what a replica's responses become until its stream ends, however it ends."""
        stream, response = self._stream, first
        try:
            while response is not None:
                for told in stream.feed(response):
                    yield told
                self._count()
                if stream.is_cut or stream.is_closed or stream.error is not None:
                    break
                response = await self._call.read()
                if response is grpc.aio.EOF:
                    response = None
        except grpc.aio.AioRpcError as error:
            if error.code() not in _LOST:
                yield _failed(error.details() or error.code().name)
                stream.is_closed = True

    async def _resume(self) -> Response | list[Response] | None:
        """Find somebody who goes on: return its first response, or the responses that end all."""
        clock, stream = self._relaying.clock, self._stream
        self._call.cancel()  # what it has still to say is nobody's
        broke_at = clock.monotonic()
        again: TryAgain | Reason = TryAgain(seconds=0.0)
        if not stream.is_cut:
            again = self._lose(broke_at)
        else:
            self._course.search(now=broke_at)
        while True:
            step = Refusal(reason=Reason.MEMORY) if self._is_dropped else stream.next()
            if isinstance(step, Close):
                return stream.close()
            if refusal := hindrance(step, again):
                return self._broken(step, refusal)
            assert isinstance(again, TryAgain)
            assert not isinstance(step, Refusal)
            await clock.sleep(again.seconds)
            silent = isinstance(step, LookUp)
            stream.begin_again(silent=silent)
            request = Request.FromString(step.body) if isinstance(step, LookUp) else step
            try:
                first = await self._ask(request, *self._marks())
            except grpc.aio.AioRpcError as error:
                met = self._refused(error)
                if isinstance(met, Refusal):
                    return self._broken(step, met)
                again = met
                continue
            self._course.accept(stream.tokens)
            instruments.CONTINUED.labels(self._label).inc()
            instruments.SEAM.observe(clock.monotonic() - broke_at)
            return first

    def _refused(self, error: grpc.aio.AioRpcError) -> Refusal | TryAgain | Reason:
        """Return a refusal for good, or what the course says of one that is not."""
        now = self._relaying.clock.monotonic()
        if _is_cut(error) or _has(error, LOST_HEADER):
            # Dead before its answer began: the request may be what kills, as behind a beginning.
            return self._lose(now)
        if error.code() in _AGAIN:
            return self._course.turn_away(0.0, now=now, random=self._random())
        detail = f"{error.code().name}: {error.details()}"[:_DETAIL_CHARACTERS_MAX]
        return Refusal(reason=Reason.REFUSED, detail=detail)

    def _broken(self, step: object, refusal: Refusal) -> list[Response]:
        """Return the error that ends all; what misses its usage only, ends without the usage."""
        if isinstance(step, LookUp):
            return self._stream.close()
        instruments.BROKEN.labels(self._label, refusal.reason.value).inc()
        _log.warning("stream.broken", deployment=self._name, reason=refusal.reason.value)
        return [self._stream.sign(_failed(refusal.message))]

    def _drop_prompt(self, first: Response | None) -> None:
        """Keep nothing of a request that there was no room to keep."""
        if self._has_room or first is None:
            return
        self._is_dropped = True
        self._request.ClearField("prompt")
        self._request.ClearField("token_ids")
        self._held_bytes = self._relaying.held.change(self._held_bytes, 0)

    def _count(self) -> None:
        """Tell the bound on memory what this stream holds now."""
        if self._stream.tokens - self._counted_tokens > _COUNT_STEP_TOKENS:
            self._counted_tokens = self._stream.tokens
            now = self._request.ByteSize() + self._counted_tokens * _TOKEN_BYTES
            self._held_bytes = self._relaying.held.change(self._held_bytes, now)

    def _random(self) -> float:
        return self._relaying.ids.random()


def _passes(name: str) -> bool:
    return not name.startswith(_OWN_PREFIXES) and name not in _OWN_NAMES


def _is_cut(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the stream was cut, not ended: behind its head the gateway tries nobody else.

    Nobody told this status; grpc makes it up, and its text is all that tells it from one.
    """
    return error.code() is grpc.StatusCode.INTERNAL and "RST_STREAM" in (error.details() or "")


def _is_unreached(error: grpc.aio.AioRpcError) -> bool:
    """Say whether the inner listener was not there: whatever it answers has a request id."""
    return error.code() is grpc.StatusCode.UNAVAILABLE and not _has(error, REQUEST_ID_HEADER)


def _has(error: grpc.aio.AioRpcError, name: str) -> bool:
    metadata = (*(error.initial_metadata() or ()), *(error.trailing_metadata() or ()))
    return any(key == name for key, _ in metadata)


def _passed(trailers: Any) -> tuple[Any, ...]:
    """Return the trailers that the client may see; grpc takes a tuple of pairs and nothing else."""
    return tuple(pair for pair in trailers or () if _passes(pair[0]))


def _failed(message: str) -> Response:
    error = error_pb2.EngineError(
        code=error_pb2.ERROR_CODE_INTERNAL, message=message, retryable=True
    )
    return Response(error=error)
