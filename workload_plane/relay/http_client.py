"""The relay's HTTP side towards the gateway's inner listener: one request, its answer in pieces.

Raw asyncio protocols and `httptools`. Connections are kept for the next request; one that turns out
to have been closed meanwhile is replaced.
"""

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import cast

import httptools

from skerry.plumbing.clock import Clock
from workload_plane.gateway.wire import AVOID_HEADER, RESUMED_HEADER
from workload_plane.relay.http_server import HEAD_BYTES_MAX, HOP_HEADERS, Headers

CONNECT_SECONDS_MAX = 2.0  # loopback
# Below the inner listener's own bound; past it the next request might meet the close.
IDLE_SECONDS_MAX = 60.0
IDLE_CONNECTIONS_MAX = 256


@dataclass(slots=True, kw_only=True)
class Head:
    """The beginning of an answer."""

    status: int = 0
    headers: Headers = field(default_factory=list)

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when there is none; the name in lower case."""
        return next((v.decode("latin-1") for n, v in self.headers if n == name), "")


class Lost(Exception):
    """The connection ended before the answer did."""


class Unreached(Lost):
    """There was no connection: nobody has heard of the request."""


class ClientConnection(asyncio.Protocol):
    """One connection; whoever reads an answer gets what came of its body at each read."""

    def __init__(self) -> None:
        """Wait to be connected."""
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpResponseParser(self)
        self._head = Head()
        self._head_size = self._unheaded_bytes = 0
        self._headed: asyncio.Future[Head] | None = None
        self._ended: asyncio.Future[None] | None = None
        self._pieces: list[bytes] = []
        self._is_whole = False
        self.has_bytes = False
        self.idle_since = 0.0
        self._take: Callable[[bytes], None] | None = None

    @property
    def is_open(self) -> bool:
        """Say whether the connection can take another request."""
        return self._transport is not None and not self._transport.is_closing()

    def ask(self, data: bytes) -> tuple[asyncio.Future[Head], asyncio.Future[None]]:
        """Send a request; return what tells of its head, and of its end: both raise Lost."""
        assert self._transport is not None
        loop = asyncio.get_running_loop()
        self._head, self._head_size, self._unheaded_bytes = Head(), 0, 0
        self._headed, self._ended = loop.create_future(), loop.create_future()
        self._is_whole = self.has_bytes = False
        self._take = None
        self._pieces = []
        self._transport.write(data)
        return self._headed, self._ended

    def read_into(self, take: Callable[[bytes], None]) -> None:
        """Hand the body to `take` from now on; what came already, at once."""
        self._take = take
        self._hand_on()

    def press(self, is_full: bool) -> None:
        """Stop reading while whoever takes the pieces is full."""
        if self._transport is None or self._transport.is_closing():
            return
        if is_full:
            self._transport.pause_reading()
        else:
            self._transport.resume_reading()

    def close(self) -> None:
        """Hang up; the gateway then frees the engine's slot."""
        self._take = None
        if self._transport is not None:
            self._transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell whoever waits that nothing more comes."""
        self._transport = None
        self._settle(Lost(str(exc) if exc else "the connection was closed"))

    def eof_received(self) -> None:
        """Let the connection close."""

    def data_received(self, data: bytes) -> None:
        """Parse, and hand all that came on together."""
        self.has_bytes = True
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as error:
            self._settle(Lost(f"no HTTP: {error}"))
            self.close()
            return
        if self._headed is not None and not self._headed.done():
            # The parser gathers a header that does not end, and tells nobody of it.
            self._unheaded_bytes += len(data)
            if self._unheaded_bytes > HEAD_BYTES_MAX:
                self.close()
        self._hand_on()
        if self._is_whole and self._ended is not None and not self._ended.done():
            self._ended.set_result(None)

    # What httptools calls.

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        self._head_size += len(name) + len(value)
        if self._head_size > HEAD_BYTES_MAX:
            raise httptools.HttpParserError("a head too large")
        self._head.headers.append((name.lower(), value))

    def on_headers_complete(self) -> None:
        """Tell the head."""
        self._head.status = self._parser.get_status_code()
        if self._headed is not None and not self._headed.done():
            self._headed.set_result(self._head)

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Note that the answer is whole."""
        self._is_whole = True
        if not self._parser.should_keep_alive() and self._transport is not None:
            self._transport.close()

    def _hand_on(self) -> None:
        if self._take is None or not self._pieces:
            return
        pieces, self._pieces = self._pieces, []
        self._take(pieces[0] if len(pieces) == 1 else b"".join(pieces))

    def _settle(self, lost: Lost) -> None:
        for future in (self._headed, self._ended):
            if future is not None and not future.done():
                future.set_exception(lost)
                future.exception()  # a future that nobody awaits is no fault


class ClientPool:
    """Connections to one port of this host."""

    def __init__(self, host: str, port: int, clock: Clock) -> None:
        """Connect to nothing yet."""
        self._address = (host, port)
        self._clock = clock
        self._idle: deque[ClientConnection] = deque()

    async def take(self, *, fresh: bool = False) -> tuple[ClientConnection, bool]:
        """Return a connection, and whether it is new; Unreached when there is none."""
        now = self._clock.monotonic()
        while self._idle and not fresh:
            kept = self._idle.pop()
            if kept.is_open and now - kept.idle_since < IDLE_SECONDS_MAX:
                return kept, False
            kept.close()
        loop = asyncio.get_running_loop()
        try:
            async with asyncio.timeout(CONNECT_SECONDS_MAX):
                _, made = await loop.create_connection(ClientConnection, *self._address)
        except OSError as error:  # TimeoutError is one
            raise Unreached(f"the gateway's inner listener does not answer: {error}") from None
        return made, True

    def give_back(self, connection: ClientConnection) -> None:
        """Keep a connection whose answer is whole."""
        if connection.is_open and len(self._idle) < IDLE_CONNECTIONS_MAX:
            connection.press(False)  # a slow client's last piece may have stopped it
            connection.idle_since = self._clock.monotonic()
            self._idle.append(connection)
        else:
            connection.close()

    def close(self) -> None:
        """Hang up on all that are kept."""
        with contextlib.suppress(IndexError):
            while True:
                self._idle.pop().close()


def request_bytes(
    method: bytes, url: bytes, headers: Headers, body: bytes, *, avoided: str | None = None
) -> bytes:
    """Return a request for the inner listener, without what was of one connection only.

    With `avoided` it is a stream's that broke, and was lost with those hosts.
    """
    lines = b"".join(
        b"%b: %b\r\n" % (name, value)
        for name, value in headers
        if name not in HOP_HEADERS and not name.startswith(b"x-envoy-")
    )
    if avoided is not None:
        lines += b"%b: 1\r\n" % RESUMED_HEADER.encode()
    if avoided:
        lines += b"%b: %b\r\n" % (AVOID_HEADER.encode(), avoided.encode())
    return b"%b %b HTTP/1.1\r\n%bcontent-length: %d\r\n\r\n%b" % (
        method,
        url,
        lines,
        len(body),
        body,
    )
