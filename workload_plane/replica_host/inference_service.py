"""`openengine.v1.Inference`: one Generate is one HTTP request to the engine.

Accepted means that the engine began to answer: before that, faults are gRPC statuses (and a
gateway may try another replica); after it, a failure is a terminal EngineError and the status OK.
"""

import contextlib
from collections.abc import Iterable, Sequence
from typing import Any

import aiohttp
import grpc

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.plumbing import logs, tracing
from skerry.plumbing.ids import IdSource
from workload_plane.replica_host.deltas import Delta, EngineSaid, Failed, TokenPiece
from workload_plane.replica_host.dialects import DIALECTS, StreamReader, outputs_wanted
from workload_plane.replica_host.engine_client import EngineClient
from workload_plane.replica_host.faults import (
    RequestFault,
    invalid,
    refuse,
    unavailable,
    unsupported,
)
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.in_flight import Aborted, EngineLost, Flight
from workload_plane.replica_host.instruments import ENDED, FIRST_TOKEN, RUNNING, TOKENS
from workload_plane.replica_host.sampling import check_request
from workload_plane.replica_host.sse import EventSplitter, OversizedEvent
from workload_plane.replica_host.translate import Response, ResponseStream

_log = logs.get_logger(__name__)

Context = grpc.aio.ServicerContext[generation_pb2.GenerateRequest, Response]

_RANK_KEY = "openengine-target-dp-rank"
_ABORTED = "ended by Abort"


class InferenceService(openengine_pb2_grpc.InferenceServicer):
    """Generates through the engine of one host."""

    def __init__(self, host: ReplicaHost, engine: EngineClient, ids: IdSource) -> None:
        """Serve that engine of the host in its dialect."""
        self._host = host
        self._engine = engine
        self._ids = ids
        self._dialect = DIALECTS[host.launch.dialect]

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Context) -> None:
        """Answer one request with deltas, its endings, and the usage on the last of them."""
        outcome = "cancelled"
        with tracing.continued("generate", _traceparent(context)) as span:
            try:
                self._check(request, context)
                request_id = request.request_id or self._ids.new_id()
                span.set(request_id=request_id)
                with self._host.flights.begin(request_id) as flight, RUNNING.track_inprogress():
                    outcome = await self._generate(request, flight, context, span)
            except RequestFault as fault:
                outcome = "refused"
                await refuse(context, fault)
            finally:
                span.set(outcome=outcome)
                ENDED.labels(outcome).inc()

    def _check(self, request: generation_pb2.GenerateRequest, context: Context) -> None:
        self._host.check_serving()
        spec = self._host.spec
        check_request(
            request,
            served_name=spec.served_name,
            sequences_max=spec.engine.concurrent_requests,
            adapters=self._host.adapters,
            aliases=spec.aliases,
        )
        _check_rank(context.invocation_metadata() or ())
        self._dialect.check(request)

    async def _generate(
        self,
        request: generation_pb2.GenerateRequest,
        flight: Flight,
        context: Context,
        span: tracing.Span,
    ) -> str:
        served = self._host.spec.served_name
        stream = ResponseStream(request_id=flight.request_id, outputs=outputs_wanted(request))
        reader = self._dialect.reader(request)
        splitter = EventSplitter()
        work = self._engine.generate(self._dialect.PATH, self._dialect.body(request, served))
        outcome, is_accepted = "finished", False
        began = self._host.clock.monotonic()
        try:
            async with contextlib.AsyncExitStack() as stack:
                async with flight.waiting():
                    content = await stack.enter_async_context(work)
                is_accepted = True
                span.event("accepted")
                while not stream.finished:
                    async with flight.waiting():
                        said = await _read(content, splitter, reader)
                        said = [await self._with_all_ids(event) for event in said]
                    if any(isinstance(event, Failed) for event in said):
                        outcome = "failed"
                        said = [*_counted(reader), *said]
                    is_first = not stream.tokens
                    await _write_all(context, stream.feed(said))
                    if is_first and stream.tokens:
                        FIRST_TOKEN.observe(self._host.clock.monotonic() - began)
                        span.event("first token")
        except Aborted:
            await _write_all(context, stream.cancel(_ABORTED, reader.counted_so_far()))
            outcome = "aborted"
        except EngineLost as lost:
            if not is_accepted:
                raise unavailable(str(lost)) from None
            failed = Failed(message=str(lost), retryable=True)
            await _write_all(context, stream.feed([*_counted(reader), failed]))
            outcome = "failed"
        finally:
            span.event("last token")
            span.set(tokens=stream.tokens)
            TOKENS.inc(stream.tokens)
        return outcome

    async def _with_all_ids(self, event: EngineSaid) -> EngineSaid:
        """Return the event with the ids that the engine left out, where they can be known."""
        if not isinstance(event, Delta) or not event.tokens_missing or not event.tokens:
            return event
        ids = await self._engine.tokenize(event.text)
        # Only when the text alone gives so many tokens, and the last is the one that was told.
        known = event.tokens[-1]
        if len(ids) != len(event.tokens) + event.tokens_missing or ids[-1] != known.id:
            return event
        pieces = (*(TokenPiece(id=number) for number in ids[:-1]), known)
        return Delta(output_index=event.output_index, text=event.text, tokens=pieces)


async def _read(
    content: aiohttp.StreamReader, splitter: EventSplitter, reader: StreamReader
) -> list[EngineSaid]:
    """Return what the next bytes of the stream say; its end and its faults are Failed."""
    said: list[EngineSaid] = []
    try:
        while not said:
            data = await content.readany()
            if not data:
                return [Failed(message="the engine ended the stream early", retryable=True)]
            for event in splitter.feed(data):
                said += reader.read(event)
    except (aiohttp.ClientError, OSError) as error:
        return [*said, Failed(message=f"the engine was lost: {error}", retryable=True)]
    except (ValueError, KeyError, TypeError, OversizedEvent) as error:
        _log.warning("engine.answer_unreadable", error=error)
        return [*said, Failed(message="the engine's answer cannot be read", retryable=False)]
    return said


def _counted(reader: StreamReader) -> list[EngineSaid]:
    counted = reader.counted_so_far()
    return [counted] if counted else []


async def _write_all(context: Context, responses: Sequence[Response]) -> None:
    for response in responses:
        await context.write(response)


def _traceparent(context: Context) -> str:
    for key, value in context.invocation_metadata() or ():
        if key == tracing.TRACEPARENT:
            return str(value)
    return ""


def _check_rank(metadata: Iterable[Any]) -> None:
    for key, value in metadata:
        if key != _RANK_KEY:
            continue
        if not str(value).isdigit():
            raise invalid(_RANK_KEY, "must be a whole number")
        if int(value):
            raise unsupported(_RANK_KEY, "this replica has rank 0 only")
