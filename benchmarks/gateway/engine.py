"""The lightest engine there can be behind a gateway: `python -m benchmarks.gateway.engine PORT`.

Answers a chat with fixed bytes; a streamed one with `max_tokens` events, one each tick and each in
a write of its own. It is no model of an engine: it must never be what is measured.
"""

import asyncio
import json
import re
import sys
from typing import Any, cast

import httptools
import uvloop

HOST = "127.0.0.1"
SERVED = "m"
# 250 events a second and stream: ten times an engine's pace, so that few streams make many.
TICK_SECONDS = 0.004
_MAX_TOKENS = re.compile(rb'"max_tokens"\s*:\s*(\d+)')
_EVENT = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion.chunk",
        "created": 1_700_000_000,
        "model": SERVED,
        "choices": [{"index": 0, "delta": {"content": " harbour"}, "finish_reason": None}],
    }
)
_LAST = _EVENT.replace('"finish_reason": null', '"finish_reason": "stop"')
ANSWER = json.dumps(
    {
        "id": "chatcmpl-0123456789abcdef",
        "object": "chat.completion",
        "created": 1_700_000_000,
        "model": SERVED,
        "choices": [
            {
                "index": 0,
                "message": {"role": "assistant", "content": "The tide turns at night."},
                "finish_reason": "stop",
            }
        ],
        "usage": {"prompt_tokens": 12, "completion_tokens": 6, "total_tokens": 18},
    }
).encode()
_MODELS = json.dumps(
    {"object": "list", "data": [{"id": SERVED, "object": "model", "owned_by": "bench"}]}
).encode()


def _plain(body: bytes) -> bytes:
    head = (
        f"HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {len(body)}\r\n\r\n"
    )
    return head.encode() + body


def _chunk(text: str) -> bytes:
    data = f"data: {text}\n\n".encode()
    return f"{len(data):x}\r\n".encode() + data + b"\r\n"


EVENT_TEXT = f"data: {_EVENT}\n\n"
END_TEXT = f"data: {_LAST}\n\ndata: [DONE]\n\n"
_WHOLE = _plain(ANSWER)
_STREAM_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
_STREAM_EVENT = _chunk(_EVENT)
_STREAM_END = _chunk(_LAST) + _chunk("[DONE]") + b"0\r\n\r\n"


class Ticker:
    """Writes an event to every open stream each tick."""

    def __init__(self) -> None:
        """Tick only while there are streams."""
        self._left: dict[asyncio.Transport, int] = {}
        self._is_on = False

    def add(self, transport: asyncio.Transport, events: int) -> None:
        """Begin a stream."""
        self._left[transport] = events
        if not self._is_on:
            self._is_on = True
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)

    def drop(self, transport: asyncio.Transport) -> None:
        """Forget a stream whose client is gone."""
        self._left.pop(transport, None)

    def _tick(self) -> None:
        for transport, left in list(self._left.items()):
            if left > 1:
                self._left[transport] = left - 1
                transport.write(_STREAM_EVENT)
            else:
                del self._left[transport]
                transport.write(_STREAM_END)
        if self._left:
            asyncio.get_running_loop().call_later(TICK_SECONDS, self._tick)
        else:
            self._is_on = False


class Connection(asyncio.Protocol):
    """One connection; httptools calls the `on_...` methods."""

    def __init__(self, ticker: Ticker) -> None:
        """Wait for a request."""
        self._ticker = ticker
        self._transport: asyncio.Transport | None = None
        self._parser = httptools.HttpRequestParser(self)
        self._url = b""
        self._body = b""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Keep the transport."""
        self._transport = cast(asyncio.Transport, transport)

    def connection_lost(self, exc: Exception | None) -> None:
        """Forget its stream."""
        if self._transport is not None:
            self._ticker.drop(self._transport)
            self._transport = None

    def data_received(self, data: bytes) -> None:
        """Parse."""
        self._parser.feed_data(data)

    def on_url(self, url: bytes) -> None:
        """Begin a request."""
        self._url = url
        self._body = b""

    def on_body(self, body: bytes) -> None:
        """Collect the body."""
        self._body += body

    def on_message_complete(self) -> None:
        """Answer."""
        transport = self._transport
        if transport is None:
            return
        if self._url.startswith(b"/controller/"):
            # What SkyServe's load balancer asks its controller.
            host, port = transport.get_extra_info("sockname")[:2]
            told: dict[str, Any] = {"replica_info": {f"http://{host}:{port}": {}}}
            transport.write(_plain(json.dumps(told).encode()))
        elif b'"stream": true' in self._body or b'"stream":true' in self._body:
            found = _MAX_TOKENS.search(self._body)
            transport.write(_STREAM_HEAD + _STREAM_EVENT)
            self._ticker.add(transport, int(found.group(1)) - 1 if found else 15)
        elif self._body:
            transport.write(_WHOLE)
        else:
            transport.write(_plain(_MODELS))


async def serve(port: int) -> None:
    """Serve until killed."""
    ticker = Ticker()
    server = await asyncio.get_running_loop().create_server(
        lambda: Connection(ticker), HOST, port, backlog=4096
    )
    await server.serve_forever()


if __name__ == "__main__":
    uvloop.run(serve(int(sys.argv[1])))
