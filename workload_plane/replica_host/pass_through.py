"""`openengine.v1` of the engine's own, passed through the host's port byte for byte.

`forwarding` passes; here is what `openengine.v1` adds: health with the host's word in it, what the
answers count, and the error that ends a stream.
"""

from typing import Any

import grpc
from google.protobuf.message import DecodeError

from skerry.api.openengine.v1 import generation_pb2, lifecycle_pb2
from skerry.plumbing.ids import IdSource
from workload_plane.replica_host.control_service import HEALTH_STATES
from workload_plane.replica_host.engine_client import PROBE_SECONDS_MAX
from workload_plane.replica_host.faults import RequestFault, engine_error
from workload_plane.replica_host.forwarding import (
    SILENT,
    Context,
    Generation,
    Noted,
    end_as,
    forwarder,
    generate,
    onward,
    raw,
)
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.openengine_client import OpenEngineClient

PACKAGE = "/openengine.v1."
GENERATE = f"{PACKAGE}Inference/Generate"
HEALTH = f"{PACKAGE}Control/Health"

# As long as TensorRT-LLM lets its own inference probe run, and a moment more.
_INFERENCE_PROBE_SECONDS_MAX = 31.0
# Of the client's time, so that it hears of an engine that hangs before it gives up.
_SHARE_TO_WAIT = 0.8
# States in which there is an engine to ask.
_ASKED = frozenset({HostState.READY, HostState.UNHEALTHY, HostState.DRAINING})


class PassThrough(grpc.GenericRpcHandler):
    """Answers every method of `openengine.v1` with what the engine answers."""

    def __init__(self, host: ReplicaHost, engine: OpenEngineClient, ids: IdSource) -> None:
        """Pass through to that engine of the host."""
        self._host = host
        self._engine = engine
        self._ids = ids

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method; None for those of other packages."""
        method = str(handler_call_details.method)
        if method == GENERATE:
            return grpc.unary_stream_rpc_method_handler(self._generate)
        if method == HEALTH:
            return grpc.unary_unary_rpc_method_handler(self._health)
        return forwarder(self._engine.channel, method) if method.startswith(PACKAGE) else None

    async def _generate(self, request: bytes, context: Context) -> None:
        generation = Generation(
            channel=self._engine.channel,
            method=GENERATE,
            request_id=_request_id(request) or self._ids.new_id(),
            reader=_Reader(self._engine),
        )
        await generate(self._host, generation, request, context)

    async def _health(self, request: bytes, context: Context) -> bytes:
        """Answer what the engine says, with the host's word before it where it does not serve."""
        host = self._host
        response = lifecycle_pb2.HealthResponse()
        if host.health.state in _ASKED:
            seconds = _health_seconds(request, context.time_remaining())
            ask = raw(self._engine.channel.unary_unary, HEALTH)
            try:
                answer = await ask(request, metadata=onward(context), timeout=seconds)
                response.ParseFromString(answer)
            except grpc.aio.AioRpcError as error:
                if error.code() not in SILENT:
                    await end_as(context, error)
                state = lifecycle_pb2.HEALTH_STATE_NOT_READY
                response.checks.add(name="engine", state=state, message=error.details() or "")
                response.state = state
        state = HEALTH_STATES[host.health.state]
        if not host.health.serving:
            response.state = state
        response.checks.add(name="replica-host", state=state, message=host.message)
        return response.SerializeToString()


class _Reader:
    """Reads one answer of `openengine.v1`."""

    def __init__(self, engine: OpenEngineClient) -> None:
        self._engine = engine

    def note(self, message: bytes) -> Noted:
        try:
            response = generation_pb2.GenerateResponse.FromString(message)
        except DecodeError:
            return Noted()
        if response.HasField("usage"):
            self._engine.count(response.usage)
        match response.WhichOneof("event"):
            case "token":
                return Noted(tokens=len(response.token.tokens) or bool(response.token.text))
            case "error":
                return Noted(outcome="failed")
            case "finished":
                is_cut = response.finished.reason == generation_pb2.FINISH_REASON_CANCELLED
                return Noted(outcome="aborted" if is_cut else "")
        return Noted()

    def last_words(self, request_id: str, fault: RequestFault) -> bytes:
        last = generation_pb2.GenerateResponse(request_id=request_id, error=engine_error(fault))
        return last.SerializeToString()


def _health_seconds(request: bytes, left: float | None) -> float:
    """Return how long the engine may take to tell its health."""
    try:
        told = lifecycle_pb2.HealthRequest.FromString(request)
    except DecodeError:
        told = lifecycle_pb2.HealthRequest()
    most = _INFERENCE_PROBE_SECONDS_MAX if told.include_inference_probe else PROBE_SECONDS_MAX
    return most if left is None else min(most, left * _SHARE_TO_WAIT)


def _request_id(request: bytes) -> str:
    """Return the id that the client chose, empty where the engine is to judge the request."""
    try:
        return generation_pb2.GenerateRequest.FromString(request).request_id
    except DecodeError:
        return ""
