"""HTTP/1.1 requests out of bytes that come in pieces, for the simulated engine's server.

Pure and small: what clients of an engine send, and a clear refusal of the rest. Why it is written
here: docs/decisions/0012-simulated-engine-http.md.
"""

import re
from dataclasses import dataclass

# A prompt of 128 k tokens is half a megabyte; images are not taken.
BODY_BYTES_MAX = 4 * 1024 * 1024
_HEAD_BYTES_MAX = 64 * 1024
_SIZE_LINE_BYTES_MAX = 1024
_REQUEST_LINE = re.compile(rb"([A-Z]{1,16}) (/[^ ?]*)(?:\?[^ ]*)? HTTP/1\.([01])")
_FIELDS = re.compile(rb"(?:\r\n[!#$%&'*+\-.^_`|~0-9A-Za-z]+:[^\r\n\0]*)*")
# The few headers that matter here, wherever they are.
_WANTED = re.compile(
    rb"\r\n(content-length|transfer-encoding|connection|expect):[ \t]*([^\r]*)", re.IGNORECASE
)


class HttpFault(Exception):
    """Bytes that are no request; the connection is of no use after them."""

    def __init__(self, status: int, message: str) -> None:
        """Keep what the client is told."""
        super().__init__(message)
        self.status = status
        self.message = message


@dataclass(slots=True, kw_only=True)
class HttpRequest:
    """One request; `keeps_alive` says whether another may follow."""

    method: str
    path: str
    keeps_alive: bool
    is_http10: bool
    expects_continue: bool
    body: bytes = b""


class RequestReader:
    """Cuts one connection's bytes into requests."""

    __slots__ = ("_buffer", "_chunks", "_left", "_request")

    def __init__(self) -> None:
        """Start between two requests."""
        self._buffer = bytearray()
        self._request: HttpRequest | None = None
        self._left = 0
        self._chunks: list[bytes] | None = None

    @property
    def is_amid(self) -> bool:
        """Say whether a request has begun to come, and has not come whole."""
        return self._request is not None or bool(self._buffer)

    def feed(self, data: bytes) -> None:
        """Keep what came; raises HttpFault when nobody would send that much."""
        self._buffer += data
        if len(self._buffer) > BODY_BYTES_MAX + 2 * _HEAD_BYTES_MAX:
            raise HttpFault(413, f"a body may have {BODY_BYTES_MAX} bytes")

    def next(self) -> HttpRequest | None:
        """Return the next whole request, None when bytes are missing; raises HttpFault."""
        if self._request is None and not self._read_head():
            return None
        request = self._request
        assert request is not None
        body = self._read_body() if self._chunks is None else self._read_chunks(self._chunks)
        if body is None:
            return None
        request.body = body
        self._request = None
        self._chunks = None
        return request

    def take_expectation(self) -> bool:
        """Return once whether the client waits for a word before it sends the body."""
        request = self._request
        if request is None or not request.expects_continue:
            return False
        request.expects_continue = False
        return True

    def _read_head(self) -> bool:
        buffer = self._buffer
        # A blank line before a request is allowed, and sent by some after a body.
        while buffer[:2] == b"\r\n":
            del buffer[:2]
        end = buffer.find(b"\r\n\r\n", 0, _HEAD_BYTES_MAX)
        if end < 0:
            if len(buffer) >= _HEAD_BYTES_MAX:
                raise HttpFault(431, f"the head may have {_HEAD_BYTES_MAX} bytes")
            return False
        head = bytes(buffer[:end])
        del buffer[: end + 4]
        line = _REQUEST_LINE.match(head)
        if line is None:
            raise HttpFault(400, "the first line must be METHOD /PATH HTTP/1.1")
        method, path, minor = line.groups()
        headers = _headers(head, line.end())
        is_http10 = minor == b"0"
        connection = headers.get(b"connection", b"").lower()
        self._request = HttpRequest(
            method=method.decode(),
            path=path.decode("latin-1"),
            keeps_alive=b"keep-alive" in connection if is_http10 else b"close" not in connection,
            is_http10=is_http10,
            expects_continue=headers.get(b"expect", b"").lower() == b"100-continue",
        )
        self._expect_body(headers)
        return True

    def _expect_body(self, headers: dict[bytes, bytes]) -> None:
        length = headers.get(b"content-length")
        encoding = headers.get(b"transfer-encoding")
        self._left = 0
        if encoding is not None:
            if length is not None:
                raise HttpFault(400, "Content-Length and Transfer-Encoding exclude each other")
            if encoding.lower() != b"chunked":
                raise HttpFault(501, "the only transfer encoding is chunked")
            self._chunks = []
        elif length is not None:
            if not length.isdigit() or len(length) > 12:
                raise HttpFault(400, "Content-Length must be a number")
            self._left = int(length)
            if self._left > BODY_BYTES_MAX:
                raise HttpFault(413, f"a body may have {BODY_BYTES_MAX} bytes")

    def _read_body(self) -> bytes | None:
        size = self._left
        if len(self._buffer) < size:
            return None
        body = bytes(self._buffer[:size])
        del self._buffer[:size]
        return body

    def _read_chunks(self, chunks: list[bytes]) -> bytes | None:
        buffer = self._buffer
        while (end := buffer.find(b"\r\n", 0, _SIZE_LINE_BYTES_MAX)) >= 0:
            size = _chunk_size(bytes(buffer[:end]))
            if size == 0:
                return self._read_trailer(end + 2, chunks)
            after = end + 2 + size
            if self._left + size > BODY_BYTES_MAX:
                raise HttpFault(413, f"a body may have {BODY_BYTES_MAX} bytes")
            if len(buffer) < after + 2:
                return None
            if buffer[after : after + 2] != b"\r\n":
                raise HttpFault(400, "a chunk is longer than it says")
            chunks.append(bytes(buffer[end + 2 : after]))
            self._left += size
            del buffer[: after + 2]
        if len(buffer) >= _SIZE_LINE_BYTES_MAX:
            raise HttpFault(400, "the size of a chunk is missing")
        return None

    def _read_trailer(self, start: int, chunks: list[bytes]) -> bytes | None:
        buffer = self._buffer
        if buffer[start : start + 2] == b"\r\n":
            end = start - 2
        else:
            end = buffer.find(b"\r\n\r\n", start, start + _HEAD_BYTES_MAX)
        if end < 0:
            if len(buffer) >= start + _HEAD_BYTES_MAX:
                raise HttpFault(431, f"the trailer may have {_HEAD_BYTES_MAX} bytes")
            return None
        if len(buffer) < end + 4:
            return None
        del buffer[: end + 4]
        return b"".join(chunks)


def _headers(head: bytes, start: int) -> dict[bytes, bytes]:
    """Return the headers that matter; raises HttpFault for what two readers read differently."""
    if _FIELDS.fullmatch(head, start) is None:
        raise HttpFault(400, "a header must be NAME: VALUE")
    found: dict[bytes, bytes] = {}
    for name, value in _WANTED.findall(head, start):
        name = name.lower()
        if name in found and name != b"connection":
            raise HttpFault(400, f"{name.decode()} is there twice")
        found[name] = found.get(name, b"") + value.rstrip(b" \t")
    return found


def _chunk_size(line: bytes) -> int:
    digits = line.partition(b";")[0].strip(b" \t")
    try:
        # int() would take a sign and underscores as well.
        if digits.isalnum() and len(digits) <= 8:
            return int(digits, 16)
    except ValueError:
        pass
    raise HttpFault(400, "the size of a chunk is no number")
