"""Control planes of this process for the operator API's clients: stopped, started, and counted.

The service and the store are the real ones; what decides and hears planes is not there.
"""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import grpc.aio

from control_plane.api.operator_service import OperatorService
from control_plane.store.engine import Database, open_database
from control_plane.store.leadership import take_leadership
from skerry.api.operator.v1.operator_service_pb2_grpc import (
    add_OperatorServiceServicer_to_server,
)
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient, OperatorClient
from skerry.client.retrying import DEFAULT_RETRIES, RetryPolicy
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from skerry.plumbing.rpc import SERVER_OPTIONS, ErrorInterceptor
from tests.empty_store import make_empty_store
from tests.fakes.clock import START

HOST = "127.0.0.1"
CLOCK = SystemClock()

Client = OperatorClient | AsyncOperatorClient
# Given what the service would do, the request and the context.
Behaviour = Callable[[Any, Any, Any], Awaitable[Any]]


class _Nobody:
    """What the API asks of the rest of a control plane, where nothing is heard and decided."""

    seen = None

    def __init__(self, epoch: int) -> None:
        self.epoch = epoch

    def __getattr__(self, name: str) -> Any:
        return lambda *_: {}


class ControlPlane:
    """One control plane on a port of its own, over a store that others may share."""

    def __init__(self, database: Database, *, epoch: int) -> None:
        """Lead under this epoch; 0: stand by."""
        self.address = f"{HOST}:{free_port(HOST)}"
        self.calls: Counter[str] = Counter()
        self.instead: dict[str, Behaviour] = {}
        self._database = database
        self.epoch = epoch
        self._server: grpc.aio.Server | None = None

    async def start(self) -> None:
        """Serve from now on."""
        nobody: Any = _Nobody(self.epoch)
        service = OperatorService(
            database=self._database, clock=CLOCK, reconciler=nobody, live=nobody, questions=nobody
        )
        for method, behaviour in self.instead.items():
            setattr(service, method, _instead_of(getattr(service, method), behaviour))
        self._server = grpc.aio.server(
            interceptors=(_Counting(self.calls), ErrorInterceptor()), options=SERVER_OPTIONS
        )
        add_OperatorServiceServicer_to_server(service, self._server)
        self._server.add_insecure_port(self.address)
        await self._server.start()

    async def stop(self) -> None:
        """Cut every call off, as the end of the process would."""
        if self._server is not None:
            await self._server.stop(0)
            self._server = None

    async def restart(self) -> None:
        """End, and begin again on the same port."""
        await self.stop()
        await self.start()


def _instead_of(real: Any, behaviour: Behaviour) -> Any:
    async def method(request: Any, context: Any) -> Any:
        return await behaviour(real, request, context)

    return method


class _Counting(grpc.aio.ServerInterceptor):
    """Counts calls by method."""

    def __init__(self, calls: Counter[str]) -> None:
        self._calls = calls

    async def intercept_service(self, continuation: Any, handler_call_details: Any) -> Any:
        self._calls[handler_call_details.method.rpartition("/")[2]] += 1
        return await continuation(handler_call_details)


class World:
    """A store and the control planes over it."""

    def __init__(self, database: Database, epoch: int) -> None:
        self.database = database
        self.epoch = epoch
        self.control_planes: list[ControlPlane] = []

    async def started(self, *, leads: bool = True, **instead: Behaviour) -> ControlPlane:
        """Return a control plane that serves, with other behaviour for some methods."""
        one = ControlPlane(self.database, epoch=self.epoch if leads else 0)
        one.instead = instead
        await one.start()
        self.control_planes.append(one)
        return one


@contextlib.asynccontextmanager
async def a_world(directory: Path) -> AsyncIterator[World]:
    """A new store; what serves it is stopped at the end."""
    database = open_database(make_empty_store(directory / "skerry.db"))
    world = World(database, await database.run(take_leadership, "cp-1", START))
    try:
        yield world
    finally:
        for one in world.control_planes:
            await one.stop()
        database.close()


@contextlib.asynccontextmanager
async def connected(
    kind: type[Client], *addresses: str, retries: RetryPolicy = DEFAULT_RETRIES
) -> AsyncIterator[Client]:
    """A client of either kind."""
    context = Context(endpoints=addresses)
    client = kind(context, SystemIds(CLOCK), "user:test", retries=retries)
    try:
        yield client
    finally:
        await ask(client, "close")


async def ask(client: Client, method: str, *arguments: Any, **named: Any) -> Any:
    """Call a method of either kind of client without holding up this loop."""
    call = getattr(client, method)
    if isinstance(client, AsyncOperatorClient):
        return await call(*arguments, **named)
    return await asyncio.to_thread(call, *arguments, **named)


async def until(is_so: Callable[[], bool]) -> None:
    """Return once it is so."""
    async with asyncio.timeout(30):
        while not is_so():
            await CLOCK.sleep(0.01)
