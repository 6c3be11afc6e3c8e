"""HTTP/1.1 requests with something wrong, as bytes, and how a listener answers them."""

import asyncio
import contextlib
import json
import random
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from google.protobuf import json_format
from google.protobuf.descriptor import MethodDescriptor, ServiceDescriptor

from tests.fuzz.dice import dice_of, mutated
from tests.fuzz.messages import TEXTS, a_message, a_text
from tests.fuzz.pace import Pace
from tests.fuzz.tally import INSIDES, Outcome

# A request that is not whole is waited for by who gets it; nobody needs to see that for long.
ANSWER_SECONDS, SILENCE_SECONDS = 20.0, 0.25
ANSWER_BYTES_MAX = 64 * 1024
# The server's own fault, or that of who is behind it.
BAD_STATUSES = (500, 502, 505)
_METHODS = ("GET", "PUT", "DELETE", "OPTIONS", "HEAD", "PATCH", "TRACE", "CONNECT", "post", "PO ST")
_SCALARS: tuple[Any, ...] = (None, True, 0, -1, 1e308, 2**63, -(2**70), "", "x" * 300, [], {}, [[]])
_WISHES = (
    "n",
    "stop",
    "logit_bias",
    "stream",
    "temperature",
    "top_p",
    "tools",
    "max_tokens",
    "response_format",
    "messages",
    "prompt",
    "model",
    "seed",
    "logprobs",
    "best_of",
    "lora_request",
    "stream_options",
    "input",
    "user",
    "metadata",
)
_HEADERS = (
    b"authorization: Bearer skt_x",
    b"authorization: Basic \xff\xfe",
    b"origin: https://evil.example",
    b"sec-fetch-site: cross-site",
    b"content-encoding: gzip",
    b"transfer-encoding: chunked",
    b"content-length: 5",
    b"content-length: -1",
    b"content-type: application/grpc",
    b"content-type: text/plain",
    b"expect: 100-continue",
    b"connect-timeout-ms: 1",
    b"connect-timeout-ms: x",
    b"connect-protocol-version: 9",
    b"x-skerry-reason: \xf0\x9f\x9a\xa2",
    b"x-skerry-reason-bin: !!!",
    b"x-skerry-actor: \x7f",
    b"x-forwarded-for: 10.0.0.1, \x01",
    b"x-request-id: " + b"x" * 4_000,
    b"x-skerry-plane: a",
    b"te: trailers",
    b"upgrade: websocket\r\nconnection: upgrade",
    b"cookie: " + b"a=b; " * 400,
    b"host: evil.example",
    b"bad name: 1",
    b": empty",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parts:
    """A request before it is bytes."""

    method: str
    path: str
    headers: tuple[bytes, ...]
    body: bytes

    def whole(self, *, length: bool = True) -> bytes:
        """Return the bytes; `length` says the body's."""
        told = (b"content-length: %d" % len(self.body),) if length else ()
        lines = (
            f"{self.method} {self.path} HTTP/1.1".encode("utf-8", "replace"),
            b"host: 127.0.0.1",
            b"connection: close",
            *told,
            *self.headers,
        )
        return b"\r\n".join(lines) + b"\r\n\r\n" + self.body


class HttpApi:
    """The operator API as JSON over HTTP."""

    name = "operator HTTP"
    concurrency = 12

    def __init__(
        self,
        address: str,
        token: str,
        seed: int,
        words: Sequence[str],
        services: Sequence[ServiceDescriptor],
    ) -> None:
        """Send to the port; `words` are names that there are."""
        self._pace = Pace()
        self._address, self._seed, self._words = address, seed, tuple(words)
        self._token = token.encode()
        self._methods = tuple(method for service in services for method in service.methods)

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        await self._pace.turn()
        dice = dice_of(self._seed, self.name, number)
        method = dice.choice(self._methods)
        parts = self._request(dice, method)
        if dice.random() < 0.05:
            path = dice.choice(("/livez", "/readyz", "/metrics", "/", "/%2e%2e/etc/passwd", "*"))
            parts = Parts(method="GET", path=path, headers=(), body=b"")
        return await exchanged(dice, self._address, parts)

    def _request(self, dice: random.Random, method: MethodDescriptor) -> Parts:
        message = a_message(dice, method.input_type, self._words)
        try:
            body = json_format.MessageToJson(message, indent=None).encode()
        except json_format.SerializeToJsonError:  # a time that no clock shows
            body = b'{"parent": "projects/default", "startTime": "9999-99-99T00:00:00Z"}'
        kind = "application/json"
        if method.server_streaming:
            kind = "application/connect+json"
            body = b"\x00" + len(body).to_bytes(4, "big") + body
        headers = [f"content-type: {kind}".encode()]
        if dice.random() < 0.9:
            headers.append(b"authorization: Bearer " + self._token)
        path = f"/{method.containing_service.full_name}/{method.name}"
        return Parts(method="POST", path=path, headers=tuple(headers), body=odd_json(dice, body))


class GatewayHttp:
    """A gateway's public port: OpenAI's paths, and all that is none of them."""

    name = "gateway HTTP"
    concurrency = 12
    _PATHS = (
        "/v1/chat/completions",
        "/v1/chat/completions",
        "/v1/completions",
        "/v1/embeddings",
        "/v1/responses",
        "/v1/models",
        "/health",
        "/metrics",
    )

    def __init__(self, address: str, model: str, seed: int) -> None:
        """Send to the gateway; `model` is one that it serves."""
        self._address, self._model, self._seed = address, model, seed

    async def send(self, number: int) -> Outcome:
        """Send one input and say what came of it."""
        dice = dice_of(self._seed, self.name, number)
        path = dice.choice(self._PATHS)
        method = "POST" if path.startswith("/v1/") and path != "/v1/models" else "GET"
        body = odd_json(dice, json.dumps(self._wishes(dice)).encode()) if method == "POST" else b""
        headers = (b"content-type: application/json",)
        parts = Parts(method=method, path=path, headers=headers, body=body)
        return await exchanged(dice, self._address, parts)

    def _wishes(self, dice: random.Random) -> dict[str, Any]:
        text = a_text(dice, ("hello", "What is a plane?"))
        said: Any = [{"role": dice.choice(("user", "system", "x")), "content": text}]
        told: dict[str, Any] = {"model": self._model, "max_tokens": dice.choice((1, 2, 4))}
        told |= {"messages": said, "prompt": text, "input": text}
        for field in dice.sample(_WISHES, dice.choice((0, 0, 1, 2))):
            told[field] = dice.choice((*_SCALARS, *TEXTS))
        return told


def odd_json(dice: random.Random, body: bytes) -> bytes:
    """Return the body, or with something wrong in it."""
    kind = dice.random()
    if kind < 0.35:
        return mutated(dice, body)
    if kind < 0.38:
        return b"[" * dice.choice((5, 5_000)) + body
    if kind < 0.40:
        return b'{"a":' * dice.choice((5, 5_000)) + body
    if kind < 0.42:
        return json.dumps(dice.choice(_SCALARS)).encode()
    return body


async def exchanged(dice: random.Random, address: str, parts: Parts) -> Outcome:
    """Send the request, in a third with something wrong around its body, and judge the answer."""
    kind, path = dice.random(), parts.path
    seconds = SILENCE_SECONDS
    if kind < 0.06:
        data = mutated(dice, parts.whole())
    elif kind < 0.10:
        data = dice.randbytes(dice.randint(1, 300))
    elif kind < 0.20:
        odd = tuple(dice.choice(_HEADERS) for _ in range(dice.randint(1, 3)))
        data = Parts(
            method=parts.method, path=path, headers=(*parts.headers, *odd), body=parts.body
        ).whole()
    elif kind < 0.25:
        method = dice.choice(_METHODS)
        data = Parts(method=method, path=path, headers=parts.headers, body=parts.body).whole()
    elif kind < 0.30:
        path = mutated(dice, path.encode()).decode("latin-1")
        data = Parts(method=parts.method, path=path, headers=parts.headers, body=parts.body).whole()
    elif kind < 0.33:
        data = parts.whole(length=False)
    else:
        data, seconds = parts.whole(), ANSWER_SECONDS
    return judged(f"{parts.method} {parts.path}", await answer_to(address, data, seconds))


async def answer_to(address: str, data: bytes, silence_seconds: float) -> bytes:
    """Return what the listener answers until it ends the connection, b"" for nothing in time."""
    host, _, port = address.rpartition(":")
    reader, writer = await asyncio.open_connection(host, int(port))
    answer = bytearray()
    with contextlib.suppress(TimeoutError, ConnectionError):
        writer.write(data)
        async with asyncio.timeout(silence_seconds):
            answer += await reader.read(ANSWER_BYTES_MAX)
        # A model writes for as long as it is asked to, and a watch goes on: the head is enough.
        async with asyncio.timeout(SILENCE_SECONDS):
            while len(answer) < ANSWER_BYTES_MAX and (more := await reader.read(ANSWER_BYTES_MAX)):
                answer += more
    writer.transport.abort()
    return bytes(answer)


def judged(what: str, answer: bytes) -> Outcome:
    """Return the outcome that an answer is."""
    if not answer:
        return Outcome(label="(silence)")
    words = answer.split(b" ", 2)
    if not answer.startswith(b"HTTP/") or len(words) < 2 or not words[1].isdigit():
        return Outcome(label="(no HTTP)", finding=f"{what}: {answer[:200]!r}")
    status, text = int(words[1]), answer.decode("utf-8", "replace")
    body = text.partition("\r\n\r\n")[2]
    if status in BAD_STATUSES or INSIDES.search(body) or '"code":"unknown"' in body:
        return Outcome(label=str(status), finding=f"{what}: {text[:80]!r} {body[:300]!r}")
    return Outcome(label=str(status))
