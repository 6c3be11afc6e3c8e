"""`trtllm.TrtllmService` of the engine, passed through the host's port byte for byte.

The service has no word for an engine that died under a request: its errors are statuses, and so is
that one. `openengine.v1` has its Control from the host, and no Inference: tokens are all there is.
"""

from typing import Any, NoReturn

import grpc

from skerry.api.openengine.v1 import generation_pb2, openengine_pb2_grpc
from skerry.plumbing.ids import IdSource
from workload_plane.replica_host.faults import RequestFault, not_offered, refuse
from workload_plane.replica_host.forwarding import Context, Generation, Noted, forwarder, generate
from workload_plane.replica_host.host import ReplicaHost
from workload_plane.replica_host.trtllm_client import TrtllmClient
from workload_plane.replica_host.trtllm_messages import (
    CANCELLED,
    GENERATE,
    HEALTH_CHECK,
    PREFIX,
    chunk_tokens,
    complete_of,
    request_id,
)


class TrtllmPassThrough(grpc.GenericRpcHandler):
    """Answers every method of `trtllm.TrtllmService` with what the engine answers."""

    def __init__(self, host: ReplicaHost, engine: TrtllmClient, ids: IdSource) -> None:
        """Pass through to that engine of the host."""
        self._host = host
        self._engine = engine
        self._ids = ids

    def service(self, handler_call_details: Any) -> Any:
        """Return the handler of a method; None for those of other services."""
        method = str(handler_call_details.method)
        if method == GENERATE:
            return grpc.unary_stream_rpc_method_handler(self._generate)
        if not method.startswith(PREFIX):
            return None
        onward = forwarder(self._engine.channel, method)
        return self._where_it_serves(onward) if method == HEALTH_CHECK else onward

    async def _generate(self, request: bytes, context: Context) -> None:
        generation = Generation(
            channel=self._engine.channel,
            method=GENERATE,
            request_id=request_id(request) or self._ids.new_id(),
            reader=_Reader(self._engine),
        )
        with self._engine.working():
            await generate(self._host, generation, request, context)

    def _where_it_serves(self, onward: Any) -> Any:
        """Return the handler with the host's word first: of its drain the engine knows nothing."""

        async def check(requests: Any, context: Context) -> None:
            try:
                self._host.check_serving()
            except RequestFault as fault:
                await refuse(context, fault)
            await onward.stream_stream(requests, context)

        return grpc.stream_stream_rpc_method_handler(check)


class AbsentInference(openengine_pb2_grpc.InferenceServicer):
    """`openengine.v1.Inference` where the engine has another service in its stead."""

    def __init__(self, host: ReplicaHost) -> None:
        """Answer for that host."""
        self._served = host.spec.served_name

    async def Generate(self, request: generation_pb2.GenerateRequest, context: Any) -> NoReturn:
        """Refuse: the engine takes tokens by its own service only."""
        await not_offered(
            context,
            f"model {self._served!r} is served by trtllm.TrtllmService only: its deployment has"
            " `protocol: trtllm`; one without it is served by openengine.v1 and OpenAI HTTP",
        )


class _Reader:
    """Reads one answer; a streamed one says its tokens as they come, and all again at its end."""

    def __init__(self, engine: TrtllmClient) -> None:
        self._engine = engine
        self._is_streamed = False

    def note(self, message: bytes) -> Noted:
        if tokens := chunk_tokens(message):
            self._is_streamed = True
            return Noted(tokens=tokens)
        complete = complete_of(message)
        if complete is None:
            return Noted()
        self._engine.count(complete)
        return Noted(
            tokens=0 if self._is_streamed else complete.token_ids,
            outcome="aborted" if complete.finish_reason == CANCELLED else "",
        )

    def last_words(self, request_id: str, fault: RequestFault) -> None:
        return None
