"""The relay's HTTP against sockets: slow readers, refusals, broken answers, what is no HTTP."""

import asyncio
import contextlib
import contextvars
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port
from tests.integration.gateway_world import eventually
from workload_plane.gateway.wire import BODY_BYTES_MAX
from workload_plane.relay.http_client import ClientPool
from workload_plane.relay.http_relay import Relaying
from workload_plane.relay.http_server import ServerConnection
from workload_plane.relay.known import KnownDeployments
from workload_plane.relay.main import HttpFront
from workload_plane.relay.memory import HeldBytes

pytestmark = pytest.mark.integration
HOST = "127.0.0.1"
CLOCK = SystemClock()
PATH = "/v1/chat/completions"
BODY = {"model": "m", "stream": True, "messages": [{"role": "user", "content": "hi"}]}
SSE_HEAD = (
    b"HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\ntransfer-encoding: chunked\r\n\r\n"
)
# Kernel buffers of four sockets and the relay's own; far below what an engine would have sent.
BUFFERS_BYTES_MAX = 32 * 1024 * 1024

Answer = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


HELD: contextvars.ContextVar[HeldBytes] = contextvars.ContextVar("held")


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def event(text: str) -> bytes:
    choice = {"index": 0, "delta": {"content": text}, "finish_reason": None}
    return b"data: " + json.dumps({"id": "i", "created": 1, "choices": [choice]}).encode() + b"\n\n"


@contextlib.asynccontextmanager
async def a_relay(
    tmp_path: Path, answer: Answer, *, held_bytes_max: int = 1 << 30
) -> AsyncIterator[int]:
    """Run a relay before something that answers so; yield its port."""
    entry = {"deployment": "chat", "engine": "simulated"}
    known = json.dumps({"format": 1, "deployments": [entry]})
    (tmp_path / "relay.json").write_text(known)
    open_ones: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        open_ones.append(writer)
        with contextlib.suppress(ConnectionError, asyncio.IncompleteReadError):
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.lower().split(b"content-length: ")[1].split(b"\r\n")[0])
                await reader.readexactly(length)
                await answer(reader, writer)
        writer.close()

    inner = await asyncio.start_server(serve, HOST, 0)
    relaying = Relaying(
        pool=ClientPool(HOST, inner.sockets[0].getsockname()[1], CLOCK),
        known=KnownDeployments(tmp_path / "relay.json", CLOCK),
        held=HeldBytes(held_bytes_max),
        clock=CLOCK,
        ids=SystemIds(CLOCK),
        plane="a",
    )
    front, port = HttpFront(relaying), free_port(HOST)
    await front.open(port)
    HELD.set(relaying.held)
    try:
        yield port
    finally:
        await closed(front, relaying)
        inner.close()
        for writer in open_ones:
            writer.close()
            with contextlib.suppress(ConnectionError):
                await writer.wait_closed()
    assert relaying.held.held == 0


async def closed(front: HttpFront, relaying: Relaying) -> None:
    """Close all, and let the loop take leave of the sockets."""
    await front.close()
    relaying.pool.close()
    await CLOCK.sleep(0.05)


async def ask(port: int, **more: object) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    reader, writer = await asyncio.open_connection(HOST, port)
    body = json.dumps(BODY | more).encode()
    head = b"POST %b HTTP/1.1\r\nx-skerry-deployment: chat\r\ncontent-length: %d\r\n\r\n"
    writer.write(head % (PATH.encode(), len(body)))
    writer.write(body)
    return reader, writer


async def gone(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_a_client_that_does_not_read_stops_the_engines_stream(tmp_path: Path) -> None:
    sent, stop = 0, asyncio.Event()
    piece = chunk(event("x" * 1024) * 16)

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(SSE_HEAD)
        while not stop.is_set():
            writer.write(piece)
            await writer.drain()
            sent += len(piece)
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port)
        before = -1

        async def stands_still() -> bool:
            nonlocal before
            before, last = sent, before
            await CLOCK.sleep(0.3)
            return 0 < sent == last

        await eventually(stands_still)
        assert sent < BUFFERS_BYTES_MAX
        stop.set()
        received = bytearray()
        while not received.endswith(b"0\r\n\r\n"):
            received += await reader.read(1 << 20)
        assert received.count(b'"id": "i"') == sent // len(piece) * 16
        await gone(writer)


async def test_what_is_no_stream_passes_as_it_is(tmp_path: Path) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(
            b"HTTP/1.1 429 Too Many\r\nretry-after: 3\r\ncontent-type: application/json\r\n"
            b"content-length: 13\r\n\r\n" + b'{"error": {}}'
        )

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port)
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"HTTP/1.1 429 ")
        assert b"retry-after: 3" in head
        assert await reader.readuntil(b"0\r\n\r\n") == b'd\r\n{"error": {}}\r\n0\r\n\r\n'
        await gone(writer)


async def test_a_stream_that_had_only_begun_is_asked_for_again_as_it_came(tmp_path: Path) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        writer.write(SSE_HEAD)
        if asked == 1:
            writer.write(chunk(b'data: {"id": "i", "cho'))  # half an event
            raise ConnectionError
        writer.write(chunk(event("whole")) + chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port)
        answered = await reader.readuntil(b"0\r\n\r\n")
        assert answered.count(b"data: ") == 2
        assert b"whole" in answered
        assert asked == 2
        await gone(writer)


@pytest.mark.parametrize(
    "data",
    [
        b"no HTTP at all\r\n\r\n",
        b"POST /v1/chat/completions HTTP/1.1\r\nx: " + b"y" * 70_000,
        b"POST /v1/chat/completions HTTP/1.1\r\ncontent-length: %d\r\n\r\n" % (BODY_BYTES_MAX + 1)
        + b"z" * (BODY_BYTES_MAX + 1),
    ],
)
async def test_what_no_gateway_sends_ends_the_connection(tmp_path: Path, data: bytes) -> None:
    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        raise AssertionError("nobody is asked")

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await asyncio.open_connection(HOST, port)
        writer.write(data)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        await gone(writer)


async def test_without_a_gateway_behind_it_the_relay_says_so(tmp_path: Path) -> None:
    relaying = Relaying(
        pool=ClientPool(HOST, free_port(HOST), CLOCK),
        known=KnownDeployments(tmp_path / "relay.json", CLOCK),
        held=HeldBytes(1 << 30),
        clock=CLOCK,
        ids=SystemIds(CLOCK),
        plane="a",
    )
    front, port = HttpFront(relaying), free_port(HOST)
    await front.open(port)
    reader, writer = await ask(port)
    answered = await reader.readuntil(b"}}")
    assert answered.startswith(b"HTTP/1.1 503 ")
    assert b"relay_cut_off" in answered
    assert b"x-skerry-direct: 1" in answered  # the gateway takes the way without it
    await gone(writer)
    await closed(front, relaying)


LOST = (
    b"HTTP/1.1 503 Service Unavailable\r\nx-skerry-lost: 1\r\ncontent-length: 2\r\n\r\n{}",
    b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 2\r\n\r\n{}",
)


async def test_an_engine_that_dies_in_the_prefill_of_the_rest_makes_the_request_suspect(
    tmp_path: Path,
) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked > 1:
            writer.write(LOST[0])
            return
        writer.write(SSE_HEAD + chunk(b"".join(event(f" {n}") for n in range(30))))
        await writer.drain()
        raise ConnectionError

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port)
        answered = await reader.readuntil(b"0\r\n\r\n")
        assert b'"reason": "suspect"' in answered
        assert asked == 2
        await gone(writer)


async def test_a_request_that_reached_nobody_is_asked_again_until_somebody_takes_it(
    tmp_path: Path,
) -> None:
    heads: list[bytes] = []

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        heads.append(b"")
        if len(heads) in (2, 3):
            writer.write(LOST[1])
            return
        writer.write(SSE_HEAD + chunk(event(f" {len(heads)}")))
        await writer.drain()
        if len(heads) == 1:
            raise ConnectionError
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port)
        answered = await reader.readuntil(b"0\r\n\r\n")
        assert b" 1" in answered
        assert b" 4" in answered
        assert b"[DONE]" in answered
        await gone(writer)


@pytest.mark.parametrize("refused", [*LOST, b"HTTP/1.1 400 Bad\r\ncontent-length: 2\r\n\r\n{}"])
async def test_a_usage_that_nobody_tells_is_left_out_of_a_whole_answer(
    tmp_path: Path, refused: bytes
) -> None:
    asked = 0

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal asked
        asked += 1
        if asked in (2, 3):  # of a search: 503, and then nothing that is a usage
            writer.write(refused)
            return
        writer.write(SSE_HEAD)
        if asked == 1:
            writer.write(chunk(event("whole")))
            ending = {"index": 0, "delta": {}, "finish_reason": "stop"}
            told = json.dumps({"id": "i", "created": 1, "choices": [ending]}).encode()
            writer.write(chunk(b"data: " + told + b"\n\n"))
            await writer.drain()
            raise ConnectionError
        writer.write(chunk(b"data: [DONE]\n\n") + b"0\r\n\r\n")

    async with a_relay(tmp_path, answer) as port:
        reader, writer = await ask(port, stream_options={"include_usage": True})
        answered = await reader.readuntil(b"0\r\n\r\n")
        assert answered.count(b"[DONE]") == 1
        assert b'"error"' not in answered
        assert b'"completion_tokens"' not in answered
        await gone(writer)


def test_a_client_that_does_not_read_stops_the_next_engine_too() -> None:
    client = ServerConnection(lambda _, __: None, set())
    first: list[bool] = []
    client.press_on(first.append)
    client.pause_writing()
    second: list[bool] = []
    client.press_on(second.append)
    client.resume_writing()
    assert (first, second) == ([True], [True, False])


async def test_beyond_its_memory_the_relay_keeps_nothing_of_a_request(tmp_path: Path) -> None:
    headed, go_on = asyncio.Event(), asyncio.Event()

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(SSE_HEAD + chunk(event("x")))
        headed.set()
        await go_on.wait()
        raise ConnectionError

    async with a_relay(tmp_path, answer, held_bytes_max=0) as port:
        reader, writer = await ask(port)
        await reader.readuntil(b'"x"')
        assert HELD.get().held == 0
        go_on.set()
        assert b'"reason": "memory"' in await reader.readuntil(b"0\r\n\r\n")
        await gone(writer)
