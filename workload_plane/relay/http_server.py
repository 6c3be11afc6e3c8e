"""The relay's HTTP side towards the gateway: requests in, one streamed answer at a time out.

Raw asyncio protocols and `httptools`: what is done for every event of every stream is done here.
"""

import asyncio
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import cast

import httptools

from workload_plane.gateway.wire import BODY_BYTES_MAX

Headers = list[tuple[bytes, bytes]]

# A client that reads more slowly than the engine writes: beyond it the engine's side is not read.
UNSENT_BYTES_MAX = 64 * 1024
HEAD_BYTES_MAX = 64 * 1024
# Of one connection, not of one body; they do not pass a proxy.
HOP_HEADERS = frozenset(
    b"connection keep-alive transfer-encoding content-length upgrade te trailer expect"
    b" proxy-connection".split()
)
_REASONS = {200: b"OK", 404: b"Not Found", 413: b"Content Too Large", 503: b"Service Unavailable"}
_CHUNK_END = b"\r\n"


@dataclass(slots=True, kw_only=True)
class Request:
    """One request of the gateway."""

    method: bytes = b""
    url: bytes = b""
    headers: Headers = field(default_factory=list)
    body: bytes = b""

    def header(self, name: bytes) -> str:
        """Return a header's value, empty when there is none; the name in lower case."""
        return next((v.decode("latin-1") for n, v in self.headers if n == name), "")

    @property
    def path(self) -> str:
        """Return the path without its query."""
        return self.url.partition(b"?")[0].decode("latin-1")


class ServerConnection(asyncio.Protocol):
    """One connection of the gateway; handlers answer by `respond`, or `begin`, `send`, `end`."""

    def __init__(
        self,
        handler: Callable[["ServerConnection", Request], None],
        connections: set["ServerConnection"],
    ) -> None:
        """Wait for requests; `connections` holds this one while it is open."""
        self._handler = handler
        self._connections = connections
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._request: Request | None = None
        self._pieces: list[bytes] = []
        self._size = 0
        self._is_heading = True
        self._head_bytes = 0
        self._is_answering = False
        self.on_gone: Callable[[], None] | None = None
        self.on_pressure: Callable[[bool], None] | None = None
        self.is_pressed = False

    @property
    def is_open(self) -> bool:
        """Say whether the gateway still waits."""
        return self._transport is not None and not self._transport.is_closing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport."""
        self._transport = cast(asyncio.Transport, transport)
        self._transport.set_write_buffer_limits(high=UNSENT_BYTES_MAX)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler that nobody waits any more."""
        self._transport = None
        self._connections.discard(self)
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def pause_writing(self) -> None:
        """Stop what writes."""
        self.is_pressed = True
        if self.on_pressure is not None:
            self.on_pressure(True)

    def resume_writing(self) -> None:
        """Let it write again."""
        self.is_pressed = False
        if self.on_pressure is not None:
            self.on_pressure(False)

    def data_received(self, data: bytes) -> None:
        """Parse; what is no HTTP ends the connection."""
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError:
            self.abort()
            return
        if self._is_heading:
            # The parser gathers a header that does not end, and tells nobody of it.
            self._head_bytes += len(data)
            if self._head_bytes > HEAD_BYTES_MAX:
                self.abort()

    # What httptools calls.

    def on_message_begin(self) -> None:
        """Begin a request; one before the last is answered is nobody's we know."""
        if self._is_answering:
            raise httptools.HttpParserError("a request before the last was answered")
        self._request = Request()
        self._pieces = []
        self._size = 0

    def on_url(self, url: bytes) -> None:
        """Take a piece of the path."""
        assert self._request is not None
        self._request.url += url

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take a header."""
        assert self._request is not None
        self._request.headers.append((name.lower(), value))
        self._grow(len(name) + len(value), HEAD_BYTES_MAX)

    def on_headers_complete(self) -> None:
        """Count the body alone from here."""
        self._size = 0
        self._is_heading = False

    def on_body(self, body: bytes) -> None:
        """Take a piece of the body."""
        self._grow(len(body), BODY_BYTES_MAX)
        self._pieces.append(body)

    def on_message_complete(self) -> None:
        """Hand the request on."""
        request, self._request = self._request, None
        assert request is not None
        request.method = self._parser.get_method()
        request.body = b"".join(self._pieces)
        self._pieces = []
        self._is_heading, self._head_bytes = True, 0
        self._is_answering = True
        self._handler(self, request)

    def press_on(self, press: Callable[[bool], None]) -> None:
        """Have `press` stop and start what writes from here on, in keeping with what holds now."""
        self.on_pressure = press
        if self.is_pressed:
            press(True)

    def respond(
        self,
        status: int,
        body: bytes,
        content_type: str = "application/json",
        more: Sequence[tuple[bytes, bytes]] = (),
    ) -> None:
        """Answer with a whole body."""
        headers = [
            (b"content-type", content_type.encode()),
            (b"content-length", b"%d" % len(body)),
            *more,
        ]
        self._write(_head(status, headers) + body)
        self._finish()

    def begin(self, status: int, headers: Headers) -> None:
        """Begin an answer that comes piece by piece."""
        kept = [(name, value) for name, value in headers if name not in HOP_HEADERS]
        self._write(_head(status, [*kept, (b"transfer-encoding", b"chunked")]))

    def send(self, data: bytes) -> None:
        """Send a piece of it."""
        if data:
            self._write(b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, data: bytes = b"") -> None:
        """Send the last piece of it."""
        last = b"%x\r\n%b\r\n" % (len(data), data) if data else b""
        self._write(last + b"0\r\n\r\n")
        self._finish()

    def abort(self) -> None:
        """Break the connection off, so that nobody takes half an answer for a whole one."""
        if self._transport is not None:
            self._transport.abort()

    def _grow(self, size: int, size_max: int) -> None:
        self._size += size
        if self._size > size_max:
            raise httptools.HttpParserError(f"more than {size_max} bytes")

    def _write(self, data: bytes) -> None:
        if self._transport is not None:
            self._transport.write(data)

    def _finish(self) -> None:
        self._is_answering = False
        self.on_gone = self.on_pressure = None


def _head(status: int, headers: Headers) -> bytes:
    lines = b"".join(b"%b: %b\r\n" % pair for pair in headers)
    return b"HTTP/1.1 %d %b\r\n%b\r\n" % (status, _REASONS.get(status, b"Status"), lines)
