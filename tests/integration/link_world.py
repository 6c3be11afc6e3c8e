"""The plane's side of a link without a plane, and a relay that loses one direction of its bytes."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress

from skerry.api.plane.v1.plane_service_pb2 import Desired
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import FEATURES, DesiredState
from skerry.fleet.observation import PlaneReport
from skerry.wire.desired import desired_from_proto
from tests.builders import a_report
from workload_plane.autoscale.history import KeptDecision
from workload_plane.desired_state.accept import Refuse

READ_BYTES = 65_536


class Side:
    """Accepts what it is offered and remembers which generations those were."""

    planes = 3
    evidence = None

    def __init__(self, plane: str) -> None:
        self._plane = plane
        self.accepted: list[int] = []

    def report(self) -> PlaneReport:
        """Return a report that never changes."""
        return a_report(self._plane, features=FEATURES)

    def loads(self) -> LoadReport:
        """Return nothing: it scales nothing."""
        return LoadReport()

    def decisions_after(self, number: int) -> tuple[KeptDecision, ...]:
        """Return nothing: it decides nothing."""
        return ()

    async def stored(self) -> bytes:
        """Return nothing: it stores nothing."""
        return b""

    async def offer(self, payload: bytes) -> DesiredState | Refuse:
        """Take it."""
        state = desired_from_proto(Desired.FromString(payload))
        self.accepted.append(state.version.generation)
        return state


class Relay:
    """Passes bytes on between clients and one address; `deaf` keeps what clients send to itself."""

    def __init__(self, target: str) -> None:
        self._host, _, port = target.rpartition(":")
        self._port = int(port)
        self.deaf = False
        self.address = ""
        self._writers: set[asyncio.StreamWriter] = set()

    async def close(self) -> None:
        """End every connection."""
        for writer in self._writers:
            writer.transport.abort()
        for writer in self._writers:
            with suppress(OSError):
                await writer.wait_closed()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Pass one connection's bytes on until either side ends it."""
        onward, back = await asyncio.open_connection(self._host, self._port)
        self._writers |= {writer, back}
        async with asyncio.TaskGroup() as group:
            group.create_task(self._pass(reader, back, loses=True))
            group.create_task(self._pass(onward, writer, loses=False))

    async def _pass(
        self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, *, loses: bool
    ) -> None:
        with suppress(OSError):
            while data := await reader.read(READ_BYTES):
                if not (loses and self.deaf):
                    writer.write(data)
                    await writer.drain()
        writer.close()


@asynccontextmanager
async def a_relay(target: str) -> AsyncIterator[Relay]:
    """A running relay."""
    relay = Relay(target)
    server = await asyncio.start_server(relay.serve, "127.0.0.1", 0)
    relay.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield relay
    finally:
        server.close()
        await relay.close()
