"""The operator API on a real gRPC server over a store's fixture, on a thread with its own loop."""

import asyncio
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import grpc.aio

from control_plane.api.operator_service import OperatorService
from control_plane.store.engine import Database
from skerry.api.operator.v1.operator_service_pb2_grpc import (
    OperatorServiceStub,
    add_OperatorServiceServicer_to_server,
)
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, ErrorInterceptor
from tests.unit.control_plane.api.conftest import _Live, _Questions, _Reconciler


@contextmanager
def serving(database: Database, epoch: int) -> Iterator[Any]:
    """Serve the operator API of one leader; yields a blocking stub."""
    started: list[int] = []
    ready, over = threading.Event(), threading.Event()

    async def serve() -> None:
        reconciler = _Reconciler()
        reconciler.epoch = epoch
        service = OperatorService(
            database=database,
            clock=SystemClock(),
            reconciler=reconciler,
            live=_Live(),
            questions=_Questions(),
        )
        server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=SERVER_OPTIONS)
        add_OperatorServiceServicer_to_server(service, server)
        started.append(server.add_insecure_port("127.0.0.1:0"))
        await server.start()
        ready.set()
        await asyncio.to_thread(over.wait)
        await server.stop(0)

    thread = threading.Thread(target=lambda: asyncio.run(serve()), name="operator-api")
    thread.start()
    ready.wait()
    try:
        address = f"127.0.0.1:{started[0]}"
        with grpc.insecure_channel(address, options=list(CHANNEL_OPTIONS)) as channel:
            stub: Any = OperatorServiceStub(channel)
            yield stub
    finally:
        over.set()
        thread.join()
