"""The waiting room's door for Generate over gRPC.

AGAIN_HEADER in an answer that is trailers alone reaches Envoy as a header, as over HTTP.
"""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc

from skerry.plumbing.rpc import SERVER_OPTIONS
from workload_plane.picker.room import Room, Verdict
from workload_plane.picker.room_http import read_asked
from workload_plane.picker.wire import AGAIN_HEADER


def build_room_server(room: Room) -> grpc.aio.Server:
    """Return a server that holds whatever is called, not started."""
    server = grpc.aio.server(options=SERVER_OPTIONS)
    server.add_generic_rpc_handlers((_AnyMethod(room),))
    return server


class _AnyMethod(grpc.GenericRpcHandler):
    def __init__(self, room: Room) -> None:
        self._room = room

    def service(self, handler_call_details: Any) -> Any:
        # As a stream, although there is one message: one that is handed over whole is kept in
        # memory until the answer, up to 4 MiB for each that waits.
        handler: Any = grpc.stream_unary_rpc_method_handler(self._hold)
        return handler

    async def _hold(self, messages: AsyncIterator[bytes], context: Any) -> bytes:
        async for message in messages:
            del message  # the name would keep it
        headers = {
            key.encode(): value if isinstance(value, bytes) else value.encode("latin-1")
            for key, value in context.invocation_metadata() or ()
        }
        loop = asyncio.get_running_loop()
        verdict: asyncio.Future[Verdict] = loop.create_future()
        number = self._room.enter(read_asked(headers), lambda told: _set(verdict, told))
        try:
            told = await verdict
        finally:
            if number is not None:
                self._room.leave(number)
        if told.again:
            await context.abort(
                grpc.StatusCode.ABORTED,
                "a replica is there now",
                trailing_metadata=((AGAIN_HEADER, "1"),),
            )
        status = (
            grpc.StatusCode.RESOURCE_EXHAUSTED
            if told.status == 429
            else grpc.StatusCode.UNAVAILABLE
        )
        # Outlier detection counts a status that comes at once, in trailers alone, as it counts a
        # 5xx over HTTP, and Envoy would ask again for nothing.
        await context.send_initial_metadata(())
        await context.abort(
            status,
            told.message,
            trailing_metadata=(("retry-after", str(told.retry_after_seconds)),),
        )
        raise AssertionError("abort raises")


def _set(future: "asyncio.Future[Verdict]", verdict: Verdict) -> None:
    if not future.done():
        future.set_result(verdict)
