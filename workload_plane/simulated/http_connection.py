"""One client's connection to the simulated engine: requests in, one response at a time out.

An `asyncio.Protocol`, used by `workload_plane.simulated.server`: no task and no stream object per
request. A client that hangs up is told to the handler at once, which frees its slot.
"""

import asyncio
from collections.abc import Callable
from typing import cast

from workload_plane.simulated.http_requests import HttpFault, HttpRequest, RequestReader

# A client that reads nothing holds this much of its stream, and is hung up on then.
_UNREAD_BYTES_MAX = 16 * 1024 * 1024
# From its first byte to its last, however the bytes come; 4 MiB need 140 kB/s.
REQUEST_SECONDS_MAX = 30
# Far more than the requests that may run and wait; below what a process may have open anywhere.
CONNECTIONS_MAX = 16_384
_REASONS = {
    200: b"OK",
    400: b"Bad Request",
    404: b"Not Found",
    405: b"Method Not Allowed",
    408: b"Request Timeout",
    413: b"Content Too Large",
    429: b"Too Many Requests",
    431: b"Request Header Fields Too Large",
    500: b"Internal Server Error",
    501: b"Not Implemented",
    503: b"Service Unavailable",
}
_STATUS_LINES = {
    status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in _REASONS.items()
}
JSON, TEXT = b"application/json", b"text/plain; version=0.0.4; charset=utf-8"
_STREAM_HEAD = (
    _STATUS_LINES[200]
    + b"Content-Type: text/event-stream; charset=utf-8\r\nCache-Control: no-cache\r\n"
)

Handler = Callable[["Connection", HttpRequest], None]
FaultBody = Callable[[int, str], bytes]


class Connection(asyncio.Protocol):
    """Hands each request to the handler, which answers by `respond`, or `begin`, `send`, `end`.

    The head of a stream waits for `flush` or the first piece: together they cost one write.
    """

    def __init__(
        self, handler: Handler, fault_body: FaultBody, connections: set["Connection"]
    ) -> None:
        """Wait for the client; `connections` holds this one while it is open."""
        self._handler = handler
        self._fault_body = fault_body
        self._connections = connections
        self._reader = RequestReader()
        self._transport: asyncio.Transport | None = None
        self._request: HttpRequest | None = None  # the one that is being answered
        self._serving = False
        self._head = b""
        self._waited_seconds = 0  # for the next request, or for the rest of it
        self._was_amid = False
        self.on_gone: Callable[[], None] | None = None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Note the transport, or turn the client away when there are too many."""
        self._transport = cast(asyncio.Transport, transport)
        if len(self._connections) >= CONNECTIONS_MAX:
            self._refuse(HttpFault(503, f"there are {CONNECTIONS_MAX} connections already"))
            return
        self._transport.set_write_buffer_limits(high=_UNREAD_BYTES_MAX)
        self._connections.add(self)

    def connection_lost(self, exc: Exception | None) -> None:
        """Tell the handler that nobody waits any more."""
        self._transport = None
        self._connections.discard(self)
        on_gone, self.on_gone = self.on_gone, None
        if on_gone is not None:
            on_gone()

    def pause_writing(self) -> None:
        """Hang up: the client does not read."""
        self.close()

    def data_received(self, data: bytes) -> None:
        """Take requests out of what came; one that comes before the last is answered waits."""
        try:
            self._reader.feed(data)
        except HttpFault as fault:
            self._refuse(fault)
        else:
            self._serve()

    def respond(
        self, status: int, body: bytes, content_type: bytes = JSON, extra: bytes = b""
    ) -> None:
        """Answer with a whole body; `extra` is header lines with their ends."""
        request = self._request
        assert request is not None, "nothing was asked"
        if self._transport is None:
            return
        if not request.keeps_alive:
            extra += b"Connection: close\r\n"
        head = b"%sContent-Type: %s\r\nContent-Length: %d\r\n%s\r\n" % (
            _STATUS_LINES[status],
            content_type,
            len(body),
            extra,
        )
        self._transport.write(head if request.method == "HEAD" else head + body)
        self._finish()

    def begin(self) -> None:
        """Begin a stream of events."""
        request = self._request
        assert request is not None, "nothing was asked"
        if request.is_http10:
            request.keeps_alive = False
        extra = b"" if request.is_http10 else b"Transfer-Encoding: chunked\r\n"
        if not request.keeps_alive:
            extra += b"Connection: close\r\n"
        self._head = b"%s%s\r\n" % (_STREAM_HEAD, extra)

    def flush(self) -> None:
        """Send the head of a stream that has no tokens yet."""
        if self._head:
            self._write(b"")

    def send(self, data: bytes) -> None:
        """Send a piece of the stream."""
        assert self._request is not None
        if data:
            plain = self._request.is_http10
            self._write(data if plain else b"%x\r\n%b\r\n" % (len(data), data))

    def end(self, data: bytes) -> None:
        """Send the last piece of the stream."""
        assert self._request is not None
        plain = self._request.is_http10
        self._write(data if plain else b"%x\r\n%b\r\n0\r\n\r\n" % (len(data), data))
        self._finish()

    def close_if_quiet(self, seconds_max: int) -> None:
        """Close what waits for too long; to be called once a second.

        Without a request that is `seconds_max`, and 0 is for ever; a request that has begun has its
        own time, and each byte that comes leaves it as it is.
        """
        if self._request is not None:
            self._waited_seconds = 0
            return
        is_amid = self._reader.is_amid
        if is_amid != self._was_amid:
            self._was_amid, self._waited_seconds = is_amid, 0
        self._waited_seconds += 1
        if is_amid and self._waited_seconds > REQUEST_SECONDS_MAX:
            self._refuse(HttpFault(408, f"a request may take {REQUEST_SECONDS_MAX} s to come"))
        elif not is_amid and 0 < seconds_max < self._waited_seconds and self._transport is not None:
            self._transport.close()

    def close(self) -> None:
        """Hang up now."""
        if self._transport is not None:
            self._transport.abort()

    def _write(self, data: bytes) -> None:
        head, self._head = self._head, b""
        if self._transport is not None:
            self._transport.write(head + data)

    def _finish(self) -> None:
        request, self._request = self._request, None
        self.on_gone = None
        if request is not None and not request.keeps_alive and self._transport is not None:
            self._transport.close()
        self._serve()

    def _serve(self) -> None:
        # A handler that answers at once comes back here: the loop below goes on instead.
        if self._serving:
            return
        self._serving = True
        try:
            while self._request is None and self._transport is not None:
                if self._transport.is_closing():
                    return
                request = self._reader.next()
                if request is None:
                    if self._reader.take_expectation():
                        self._write(b"HTTP/1.1 100 Continue\r\n\r\n")
                    return
                self._request = request
                self._waited_seconds = 0
                self._handler(self, request)
        except HttpFault as fault:
            self._refuse(fault)
        finally:
            self._serving = False

    def _refuse(self, fault: HttpFault) -> None:
        if self._request is None and self._transport is not None:
            body = self._fault_body(fault.status, fault.message)
            self._transport.write(
                b"%sContent-Type: %s\r\nContent-Length: %d\r\nConnection: close\r\n\r\n%s"
                % (_STATUS_LINES[fault.status], JSON, len(body), body)
            )
            self._transport.close()
        else:
            self.close()
