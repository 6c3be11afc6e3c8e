"""A TCP relay, as between an agent and its control plane, that delays, holds back, is slow, resets.

What no `tc netem` is needed for: each direction of each connection is a queue of (due, bytes). The
bytes of one connection stay in order, as TCP's are; those of a connection that was held back come
after everything on a newer one, which is how old messages arrive late.
"""

import asyncio
import contextlib
import random
import socket
import struct
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field

from tests.faults.fleet import CLOCK

_READ_BYTES_MAX = 64 * 1024
_QUEUED_MAX = 1_000  # pieces of one direction; past that the sender waits
_HOLD_LOOK_SECONDS = 0.02
_SLICE_BYTES = 1_500  # of a slow line: about what one packet carries
CONNECT_SECONDS_MAX = 5.0


@dataclass
class LinkProxy:
    """Settings may change at any time; `address` is where the agent is to connect."""

    dial: Callable[[], socket.socket]
    address: str = ""
    delay_seconds: float = 0.0
    jitter_seconds: float = 0.0
    bytes_per_second: float = 0.0  # each way of each connection; 0: as fast as it goes
    held: bool = False
    connections: int = 0
    chance: random.Random = field(default_factory=lambda: random.Random(1))
    _open: set[asyncio.StreamWriter] = field(default_factory=set)

    def reset_all(self) -> int:
        """Cut every connection with a reset on both sides; return how many ends that were."""
        ends = list(self._open)
        for writer in ends:
            # Linger 0: closing sends RST and not FIN.
            with contextlib.suppress(OSError):
                writer.get_extra_info("socket").setsockopt(
                    socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
                )
            writer.transport.abort()
        self._open.clear()
        return len(ends)

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """Relay one connection until either side ends it."""
        self.connections += 1
        try:
            far = await asyncio.to_thread(self.dial)
            far_reader, far_writer = await asyncio.open_connection(sock=far)
        except OSError:
            writer.close()
            return
        self._open |= {writer, far_writer}
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._pump(reader, far_writer))
                group.create_task(self._pump(far_reader, writer))
        except* OSError:
            pass
        finally:
            self._open -= {writer, far_writer}
            for end in (writer, far_writer):
                end.close()

    async def _write(self, writer: asyncio.StreamWriter, data: bytes) -> None:
        """Write at the line's pace; what a late timer costs is made up for within the data."""
        began, sent = CLOCK.monotonic(), 0
        while sent < len(data):
            size = _SLICE_BYTES if self.bytes_per_second else len(data)
            writer.write(data[sent : sent + size])
            await writer.drain()
            sent += size
            if self.bytes_per_second:
                due = began + min(sent, len(data)) / self.bytes_per_second
                await CLOCK.sleep(max(0.0, due - CLOCK.monotonic()))

    async def _pump(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        queue: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(_QUEUED_MAX)

        async def deliver() -> None:
            while True:
                due, data = await queue.get()
                await CLOCK.sleep(max(0.0, due - CLOCK.monotonic()))
                while self.held:
                    await CLOCK.sleep(_HOLD_LOOK_SECONDS)
                if not data:
                    raise ConnectionResetError("ended")
                await self._write(writer, data)

        async def receive() -> None:
            while data := await reader.read(_READ_BYTES_MAX):
                late = self.delay_seconds + self.jitter_seconds * self.chance.random()
                await queue.put((CLOCK.monotonic() + late, data))
            await queue.put((CLOCK.monotonic(), b""))

        async with asyncio.TaskGroup() as group:
            group.create_task(deliver())
            group.create_task(receive())


@contextlib.asynccontextmanager
async def a_proxy(dial: Callable[[], socket.socket]) -> AsyncIterator[LinkProxy]:
    """Yield a relay to whatever `dial` connects to, on a port of its own; all ends with it."""
    proxy = LinkProxy(dial)
    tasks: set[asyncio.Task[None]] = set()

    def accepted(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.get_running_loop().create_task(proxy.serve(reader, writer))
        tasks.add(task)
        task.add_done_callback(tasks.discard)

    server = await asyncio.start_server(accepted, "127.0.0.1", 0)
    bound = server.sockets[0].getsockname()
    proxy.address = f"127.0.0.1:{bound[1]}"
    try:
        yield proxy
    finally:
        server.close()
        for task in list(tasks):
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def dial(host: str, port: int) -> socket.socket:
    """Return a socket that is connected to there."""
    return socket.create_connection((host, port), timeout=CONNECT_SECONDS_MAX)
