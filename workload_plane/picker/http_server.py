"""HTTP/1.1 for the gateway beside us: a parser in C, answers as bytes, every size bounded.

`authz` and `room` hand in what answers. Nobody but Envoy and a scraper on this host connects, so
there is no TLS, and whoever does not keep to the protocol is cut off.
"""

import asyncio
from collections.abc import Callable
from typing import Protocol

import httptools

from skerry.plumbing import logs

_log = logs.get_logger(__name__)

# Envoy opens a connection for each question under way; its own limit is 20,000 requests.
CONNECTIONS_MAX = 20_000
HEADERS_MAX = 100
HEADER_BYTES_MAX = 64 * 1024


class Exchange:
    """One request and the way to answer it, now or later, once."""

    __slots__ = ("_connection", "body", "headers", "on_gone", "path")

    def __init__(
        self, connection: "_Connection", path: bytes, headers: dict[bytes, bytes], body: bytes
    ) -> None:
        """Belong to a connection that waits for the answer."""
        self._connection = connection
        self.path = path
        self.headers = headers
        self.body = body
        self.on_gone: Callable[[], None] | None = None

    def answer(self, response: bytes) -> None:
        """Send a whole response; nothing happens when the asker went away."""
        self._connection.send(self, response)


class Handler(Protocol):
    """What answers; it must not block, and may keep the exchange to answer it later."""

    def __call__(self, exchange: Exchange) -> None:
        """Take a request."""
        ...


class HttpServer:
    """The connections of one address."""

    def __init__(self, handler: Handler, *, body_bytes_max: int, keep_bytes_max: int) -> None:
        """Refuse larger bodies, and keep no more than `keep_bytes_max` of one."""
        self.handler = handler
        self.body_bytes_max = body_bytes_max
        self.keep_bytes_max = keep_bytes_max
        self.connections: set[_Connection] = set()
        self.failures = 0

    def __call__(self) -> asyncio.Protocol:
        """Return the protocol of a new connection."""
        return _Connection(self)

    def failed(self) -> None:
        """Log that the handler raised: the first time, and ever more rarely, for each may do so."""
        self.failures += 1
        if self.failures.bit_count() == 1:
            _log.exception("answer.failed", failures=self.failures)

    def close(self) -> None:
        """Cut all connections."""
        for connection in tuple(self.connections):
            connection.close()


class _Connection(asyncio.Protocol):
    __slots__ = (
        "_body",
        "_bytes",
        "_headers",
        "_open",
        "_parser",
        "_path",
        "_server",
        "_transport",
    )

    def __init__(self, server: HttpServer) -> None:
        self._server = server
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._headers: dict[bytes, bytes] = {}
        self._path = b""
        self._body: list[bytes] = []
        self._bytes = 0
        self._open: Exchange | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        if len(self._server.connections) >= CONNECTIONS_MAX:
            transport.close()
            return
        self._transport = transport  # type: ignore[assignment]
        self._server.connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        self._server.connections.discard(self)
        self._transport = None
        exchange, self._open = self._open, None
        if exchange is not None and exchange.on_gone is not None:
            exchange.on_gone()

    def data_received(self, data: bytes) -> None:
        try:
            self._parser.feed_data(data)
        except (httptools.HttpParserError, _TooLarge):
            self.close()

    def close(self) -> None:
        if self._transport is not None:
            self._transport.abort()

    def send(self, exchange: Exchange, response: bytes) -> None:
        if self._open is exchange and self._transport is not None:
            self._open = None
            self._transport.write(response)

    # What the parser calls.

    def on_url(self, url: bytes) -> None:
        self._path = self._path + url if self._path else url

    def on_header(self, name: bytes, value: bytes) -> None:
        self._bytes += len(value)
        if len(self._headers) >= HEADERS_MAX or self._bytes > HEADER_BYTES_MAX:
            raise _TooLarge
        self._headers[name] = value

    def on_headers_complete(self) -> None:
        self._bytes = 0

    def on_body(self, data: bytes) -> None:
        kept = self._bytes
        self._bytes += len(data)
        if self._bytes > self._server.body_bytes_max:
            raise _TooLarge
        if kept < self._server.keep_bytes_max:
            self._body.append(data)

    def on_message_complete(self) -> None:
        body = self._body
        whole = body[0] if len(body) == 1 else b"".join(body)
        exchange = Exchange(self, self._path, self._headers, whole)
        self._headers, self._path, self._body, self._bytes = {}, b"", [], 0
        if self._open is not None:
            raise _TooLarge  # a second question before the first was answered: Envoy asks none
        self._open = exchange
        try:
            self._server.handler(exchange)
        except Exception:  # of ours: the parser would take it for the sender's
            self._server.failed()
            self.close()


class _TooLarge(Exception):
    """Ends the parsing of a connection that goes beyond its bounds."""


def response(status: bytes, body: bytes = b"", *headers: tuple[bytes, bytes]) -> bytes:
    """Return a whole response; `status` is e.g. b"200 OK"."""
    lines = b"".join(b"%b: %b\r\n" % header for header in headers)
    return b"HTTP/1.1 %b\r\n%bcontent-length: %d\r\n\r\n%b" % (status, lines, len(body), body)


def read_number(text: bytes | None) -> int | None:
    """Return what a header says as a number, None where it says none."""
    return int(text) if text and len(text) <= 20 and text.isdigit() else None
