"""The load on a gateway: raw connections in uvloop's protocols, so that it is not the limit.

Three ways: as many requests as come back (closed loop), requests at a fixed rate (open loop) with
the time to each first byte, and streams whose events are counted.
"""

import asyncio
import json
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from benchmarks.gateway.engine import HOST, SERVED
from skerry.plumbing.clock import SystemClock

CLOCK = SystemClock()
PROMPT = "Say in a few words what the sea does at night, and why the moon has a part in it."
DRAIN_SECONDS_MAX = 5.0


@dataclass(slots=True)
class Counts:
    """What came of one measurement."""

    answered: int = 0
    failed: int = 0
    events: int = 0
    seconds: float = 0.0
    ttfb: list[float] = field(default_factory=list)


def request_bytes(port: int, headers: tuple[tuple[str, str], ...], tokens: int) -> bytes:
    """Return one chat request; `tokens` of 0 asks for an answer in one piece."""
    values = {
        "model": SERVED,
        "messages": [{"role": "user", "content": PROMPT}],
        "max_tokens": tokens or 16,
        "temperature": 0.7,
        "stream": bool(tokens),
    }
    body = json.dumps(values).encode()
    more = "".join(f"{name}: {value}\r\n" for name, value in headers)
    head = (
        f"POST /v1/chat/completions HTTP/1.1\r\nhost: {HOST}:{port}\r\n{more}"
        f"content-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


class Connection(asyncio.Protocol):
    """One connection that asks when it is told to; httptools calls the `on_...` methods."""

    def __init__(self, counts: Counts, done: Callable[["Connection"], None]) -> None:
        """Call `done` whenever an answer is whole or the connection is lost."""
        self.counts = counts
        self.is_open = False
        self._done = done
        self._transport: asyncio.Transport | None = None
        self._asked_at = -1.0
        self._is_first = False
        self._is_ok = False
        self._parser = httptools.HttpResponseParser(self)

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Be ready."""
        self._transport = cast(asyncio.Transport, transport)
        self.is_open = True

    def ask(self, request: bytes) -> None:
        """Send a request."""
        assert self._transport is not None
        self._is_first = True
        self._asked_at = CLOCK.monotonic()
        self._transport.write(request)

    def close(self) -> None:
        """Close, whatever is under way."""
        self._asked_at = -1.0
        if self._transport is not None:
            self._transport.abort()

    def data_received(self, data: bytes) -> None:
        """Note the first byte, count events, parse."""
        if self._is_first:
            self._is_first = False
            self.counts.ttfb.append(CLOCK.monotonic() - self._asked_at)
        self.counts.events += data.count(b"data: {")
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.close()
            self.counts.failed += 1

    def on_headers_complete(self) -> None:
        """Note whether it is a good answer."""
        self._is_ok = self._parser.get_status_code() == 200

    def on_message_complete(self) -> None:
        """Count the answer, and have the next one asked for."""
        self._asked_at = -1.0
        if self._is_ok:
            self.counts.answered += 1
        else:
            self.counts.failed += 1
        if self._parser.should_keep_alive():
            self._parser = httptools.HttpResponseParser(self)
        elif self._transport is not None:
            self.is_open = False
            self._transport.close()
        self._done(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Count what was under way as failed."""
        was_asked = self._asked_at >= 0
        self.is_open = False
        if was_asked:
            self._asked_at = -1.0
            self.counts.failed += 1
            self._done(self)


class Load:
    """Connections to one gateway."""

    def __init__(self, port: int, headers: tuple[tuple[str, str], ...] = ()) -> None:
        """Connect to nothing yet."""
        self._port = port
        self._headers = headers

    async def closed(self, connections: int, seconds: float, tokens: int = 0) -> Counts:
        """Keep every connection busy for so long."""
        counts = Counts()
        request = request_bytes(self._port, self._headers, tokens)
        is_over = False
        lost: deque[Connection] = deque()

        def again(connection: Connection) -> None:
            if is_over:
                return
            if connection.is_open:
                connection.ask(request)
            else:
                lost.append(connection)

        pool = [await self._connect(counts, again) for _ in range(connections)]
        started = CLOCK.monotonic()
        for connection in pool:
            connection.ask(request)
        while (left := started + seconds - CLOCK.monotonic()) > 0:
            await CLOCK.sleep(min(left, 0.05))
            while lost:
                pool.remove(lost.popleft())
                pool.append(await self._connect(counts, again))
                pool[-1].ask(request)
        counts.seconds = CLOCK.monotonic() - started
        is_over = True
        found = Counts(**{name: getattr(counts, name) for name in counts.__slots__})
        for connection in pool:
            connection.close()
        return found

    async def paced(self, rate: float, seconds: float) -> Counts:
        """Send at a fixed rate whatever the answers do; wait for those that are under way."""
        counts = Counts()
        request = request_bytes(self._port, self._headers, 0)
        free: deque[Connection] = deque()
        busy: set[Connection] = set()

        def done(connection: Connection) -> None:
            busy.discard(connection)
            if connection.is_open:
                free.append(connection)

        for _ in range(8):
            free.append(await self._connect(counts, done))
        started = CLOCK.monotonic()
        for number in range(int(rate * seconds)):
            pause = started + number / rate - CLOCK.monotonic()
            if pause > 0:
                await CLOCK.sleep(pause)
            while free and not free[0].is_open:
                free.popleft()
            connection = free.popleft() if free else await self._connect(counts, done)
            busy.add(connection)
            connection.ask(request)
        ends = CLOCK.monotonic() + DRAIN_SECONDS_MAX
        while busy and CLOCK.monotonic() < ends:
            await CLOCK.sleep(0.005)
        counts.failed += len(busy)
        counts.seconds = CLOCK.monotonic() - started
        for connection in (*busy, *free):
            connection.close()
        return counts

    async def answers(self) -> bool:
        """Say whether one request is answered well, in one piece and streamed."""
        for tokens in (0, 4):
            counts = Counts()
            done = asyncio.Event()
            try:
                connection = await self._connect(counts, _set(done))
            except OSError:
                return False
            connection.ask(request_bytes(self._port, self._headers, tokens))
            try:
                async with asyncio.timeout(DRAIN_SECONDS_MAX):
                    await done.wait()
            except TimeoutError:
                return False
            finally:
                connection.close()
            if counts.answered != 1 or counts.events < tokens:
                return False
        return True

    async def _connect(self, counts: Counts, done: Callable[[Connection], None]) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(counts, done), HOST, self._port
        )
        return connection


def _set(event: asyncio.Event) -> Callable[[Connection], None]:
    return lambda _: event.set()
