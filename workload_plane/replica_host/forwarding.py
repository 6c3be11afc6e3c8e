"""Calls passed through the host's port byte for byte: `pass_through`, `trtllm_pass_through` use it.

Messages are not encoded anew, so that fields that this release does not know survive; metadata,
trailers, statuses and deadlines go along. The host keeps what is its own: drain, the count of
requests under way, and what a client is told when the engine dies.
"""

from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import grpc

from workload_plane.replica_host.faults import RequestFault, refuse, unavailable
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.in_flight import Aborted, EngineLost, Flight
from workload_plane.replica_host.instruments import ENDED, FIRST_TOKEN, RUNNING, TOKENS

Context = grpc.aio.ServicerContext[bytes, bytes]
Metadata = tuple[tuple[str, str | bytes], ...]

# Statuses by which an engine that does not answer is known, and those of one that broke.
SILENT = frozenset({grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED})
_BROKEN = SILENT | {grpc.StatusCode.INTERNAL, grpc.StatusCode.UNKNOWN}

# A dying engine closes its connection a moment before its end is known here.
_VERDICT_SECONDS = 0.5
# gRPC's own, of this hop only.
_OF_THIS_HOP = ("user-agent", "content-type", "te")


@dataclass(frozen=True, slots=True, kw_only=True)
class Noted:
    """What a message told: tokens that no message told before, and how the request ended if so."""

    tokens: int = 0
    outcome: str = ""


class Reader(Protocol):
    """Reads one answer as it passes."""

    def note(self, message: bytes) -> Noted:
        """Return what a message tells; nothing where it cannot be read."""
        ...

    def last_words(self, request_id: str, fault: RequestFault) -> bytes | None:
        """Return the message that ends an answer whose engine is gone; None: a status does."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class Generation:
    """One Generate that is to be passed: by which method, of which id, and who reads along."""

    channel: grpc.aio.Channel
    method: str
    request_id: str
    reader: Reader


async def generate(
    host: ReplicaHost, generation: Generation, request: bytes, context: Context
) -> None:
    """Pass one Generate through while it is counted as a request of the host."""
    outcome = "cancelled"
    try:
        host.check_serving()
        with host.flights.begin(generation.request_id) as flight, RUNNING.track_inprogress():
            passing = _Passing(host, generation, flight)
            try:
                await passing.run(request, context)
            finally:
                outcome = passing.outcome
    except RequestFault as fault:
        outcome = "refused"
        await refuse(context, fault)
    finally:
        ENDED.labels(outcome).inc()


def forwarder(channel: grpc.aio.Channel, method: str) -> Any:
    """Return the handler that passes any method through, whatever it streams."""

    # On the wire a call with one message is a stream of one.
    async def forward(requests: AsyncIterator[bytes], context: Context) -> None:
        # Every method of either service begins with a message. Were the call made before it is
        # here, an engine that refuses at once would be done, and gRPC would tell the failure to
        # send in place of the refusal.
        stream = aiter(requests)
        first = await anext(stream, None)
        call = raw(channel.stream_stream, method)(
            _from(first, stream), metadata=onward(context), timeout=context.time_remaining()
        )
        await _relay(call, context)

    return grpc.stream_stream_rpc_method_handler(forward)


async def _from(first: bytes | None, rest: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    if first is not None:
        yield first
    async for message in rest:
        yield message


class _Passing:
    """One Generate on its way through; `outcome` says how it ended."""

    def __init__(self, host: ReplicaHost, generation: Generation, flight: Flight) -> None:
        self._host = host
        self._generation = generation
        self._flight = flight
        self._has_begun = False
        self._tokens = 0
        self.outcome = "cancelled"

    async def run(self, request: bytes, context: Context) -> None:
        began = self._host.clock.monotonic()
        call = raw(self._generation.channel.unary_stream, self._generation.method)(
            request, metadata=onward(context), timeout=context.time_remaining()
        )
        outcome = "finished"
        try:
            while (message := await self._next(call)) is not grpc.aio.EOF:
                if not self._has_begun:
                    await context.send_initial_metadata(_pairs(await call.initial_metadata()))
                    self._has_begun = True
                await context.write(message)
                noted = self._generation.reader.note(message)
                outcome = noted.outcome or outcome
                if noted.tokens and not self._tokens:
                    FIRST_TOKEN.observe(self._host.clock.monotonic() - began)
                self._tokens += noted.tokens
            context.set_trailing_metadata(_pairs(await call.trailing_metadata()))
            self.outcome = outcome
        except EngineLost as lost:
            self.outcome = "failed"
            await self._end_lost(unavailable(str(lost)), context)
        except Aborted:
            self.outcome = "aborted"
            await context.abort(grpc.StatusCode.CANCELLED, "ended by Abort")
        except grpc.aio.AioRpcError as error:
            is_fault = self._has_begun or error.code() in _BROKEN
            self.outcome = "failed" if is_fault else "refused"
            await end_as(context, error)
        finally:
            call.cancel()  # a client that is gone frees the engine's slot
            TOKENS.inc(self._tokens)

    async def _next(self, call: Any) -> Any:
        async with self._flight.waiting():
            try:
                return await call.read()
            except grpc.aio.AioRpcError as error:
                if error.code() is grpc.StatusCode.UNAVAILABLE:
                    await self._host.clock.sleep(_VERDICT_SECONDS)  # EngineLost cuts it short
                raise

    async def _end_lost(self, fault: RequestFault, context: Context) -> None:
        if not self._has_begun:
            raise fault from None
        last = self._generation.reader.last_words(self._flight.request_id, fault)
        if last is None:
            await refuse(context, fault)
        else:
            await context.write(last)


def raw(kind: Any, method: str) -> Any:
    """Return the call of a method whose messages stay as they are: gRPC's types know no such."""
    return kind(method, None, None)


async def _relay(call: Any, context: Context) -> None:
    """Send on all that a call answers, and how it ends."""
    try:
        has_begun = False
        while (message := await call.read()) is not grpc.aio.EOF:
            if not has_begun:
                await context.send_initial_metadata(_pairs(await call.initial_metadata()))
                has_begun = True
            await context.write(message)
        context.set_trailing_metadata(_pairs(await call.trailing_metadata()))
    except grpc.aio.AioRpcError as error:
        await end_as(context, error)
    finally:
        call.cancel()


async def end_as(context: Context, error: grpc.aio.AioRpcError) -> None:
    """End a call as the engine ended it; never returns."""
    await context.abort(error.code(), error.details() or "", _pairs(error.trailing_metadata()))


def onward(context: Context) -> Metadata:
    """Return the client's metadata without what is of its own connection."""
    return tuple(
        (key, value)
        for key, value in _pairs(context.invocation_metadata())
        if key not in _OF_THIS_HOP and not key.startswith((":", "grpc-"))
    )


def _pairs(metadata: Sequence[Any] | Any | None) -> Metadata:
    return tuple((str(key), value) for key, value in metadata or ())
