"""A watch through restarts of the control plane: every change once, in order, none missed."""

import asyncio
from pathlib import Path
from typing import Any

import grpc.aio
import pytest

from control_plane.api.operator_service import OperatorService
from control_plane.store.changes import append_change
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import WriteContext, take_leadership
from skerry.api.operator.v1.operator_service_pb2_grpc import (
    add_OperatorServiceServicer_to_server,
)
from skerry.client.context import Context
from skerry.client.operator import OperatorClient
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from tests.empty_store import make_empty_store
from tests.fakes.clock import START

pytestmark = pytest.mark.integration

CHANGES = 10_000
BATCH = 250  # of one transaction
RESTARTS = 5
CLOCK = SystemClock()


class _Nobody:
    """What the API asks of the rest, when only the change log is watched."""

    epoch = 1
    seen = None

    def __getattr__(self, name: str) -> Any:
        return lambda *_: {}


async def serve(database: Database, port: int) -> tuple[grpc.aio.Server, int]:
    """Serve the API on a port, 0: any; return the server and its port."""
    nobody: Any = _Nobody()
    service = OperatorService(
        database=database, clock=CLOCK, reconciler=nobody, live=nobody, questions=nobody
    )
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),), options=SERVER_OPTIONS)
    add_OperatorServiceServicer_to_server(service, server)
    bound = server.add_insecure_port(f"127.0.0.1:{port}")
    await server.start()
    return server, bound


def collect(address: str, last: int) -> list[int]:
    """Watch from the beginning until the change of that number came; return what was seen."""
    context = Context(endpoints=(address,))
    seen: list[int] = []
    with OperatorClient(context, SystemIds(CLOCK), "user:watcher") as client:
        for change in client.watch(0):
            seen.append(change.sequence)
            if change.sequence >= last:
                break
    return seen


async def test_a_watch_misses_nothing_while_the_control_plane_restarts(tmp_path: Path) -> None:
    database = open_database(make_empty_store(tmp_path / "skerry.db"))
    epoch = await database.run(take_leadership, "cp-1", START)
    write = WriteContext(epoch=epoch, actor="user:test", now=START)

    def batch(session: Any) -> None:
        for number in range(BATCH):
            append_change(session, write, "test.made", f"things/{number}", "made")

    server, port = await serve(database, 0)
    last = CHANGES + 1  # taking the leadership was the first
    batches = CHANGES // BATCH
    async with asyncio.timeout(60), asyncio.TaskGroup() as group:
        address = f"127.0.0.1:{port}"
        watching = group.create_task(asyncio.to_thread(collect, address, last))
        for number in range(batches):
            await database.run(batch)
            if number % (batches // RESTARTS) == 1:
                await server.stop(0)
                server, _ = await serve(database, port)
    seen = watching.result()
    await server.stop(0)
    database.close()
    assert seen == list(range(1, last + 1))
