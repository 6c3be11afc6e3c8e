"""Bad input at the gateway: each has its status, and others notice nothing, with a real Envoy."""

import asyncio
import json
import struct
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from tests.integration.gateway_world import (
    CLOCK,
    GENERATE,
    HOST,
    FakeEngine,
    World,
    a_fleet,
    a_model,
    a_world,
    eventually,
    generate,
    string_field,
)
from workload_plane.gateway import listeners, resources

pytestmark = pytest.mark.integration

HEAD = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\n"
BODY = b'{"model":"m1"}'
# What others may notice: a hundred times what an answer takes here, and far below any timeout.
OTHERS_SECONDS_MAX = 2.0
PREFACE = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
HEADERS_FRAME, RST_FRAME, SETTINGS_FRAME, GOAWAY_FRAME = 1, 3, 4, 7


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as fleet:
        yield fleet


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def shared(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[World]:
    """Yield one for the tests that change nothing."""
    async with a_fleet(tmp_path_factory.mktemp("shared")) as fleet:
        yield fleet


async def connect(world: World) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    return await asyncio.open_connection(HOST, world.planes["a"].topology.listen.public_port)


async def answer_to(world: World, request: bytes) -> tuple[int, dict[str, str], bytes]:
    """Send bytes as they are and return status, headers and body of the answer."""
    reader, writer = await connect(world)
    writer.write(request)
    async with asyncio.timeout(15):
        head = (await reader.readuntil(b"\r\n\r\n")).decode().split("\r\n")
        headers = {
            name.lower(): value for name, _, value in (h.partition(": ") for h in head[1:-2])
        }
        body = await reader.readexactly(int(headers.get("content-length", "0")))
    writer.transport.abort()
    return int(head[0].split()[1]), headers, body


async def others_are_answered(world: World) -> None:
    async with asyncio.timeout(OTHERS_SECONDS_MAX):
        assert await world.chat("a") == (200, {"engine": "a1", "model": "m1"})


CHUNKED, FIVE = b"transfer-encoding: chunked\r\n", b"content-length: 5\r\n"
WHOLE = b"content-length: %d\r\n\r\n" % len(BODY) + BODY
SOCKET = (
    b"GET /v1/chat/completions HTTP/1.1\r\nhost: x\r\nconnection: upgrade\r\n"
    b"upgrade: websocket\r\n\r\n"
)
MANY = b"".join(b"x-%d: 1\r\n" % number for number in range(1_000))
WRONG: list[tuple[str, bytes, int]] = [
    ("length and chunks", HEAD + FIVE + CHUNKED + b"\r\n0\r\n\r\n", 400),
    ("two lengths", HEAD + FIVE + b"content-length: 6\r\n\r\nhello!", 400),
    ("no number", HEAD + b"content-length: five\r\n\r\nhello", 400),
    ("no chunk", HEAD + CHUNKED + b"\r\nzz\r\n", 400),
    ("no HTTP", b"hello there\r\n\r\n", 400),
    ("a space in a name", HEAD + b"bad name: 1\r\n\r\n", 400),
    ("a header of 64 KiB", HEAD + b"x-long: " + b"a" * 65_536 + b"\r\n\r\n", 431),
    ("a thousand headers", HEAD + MANY + b"\r\n", 431),
    ("HTTP/1.0", HEAD.replace(b"HTTP/1.1", b"HTTP/1.0") + WHOLE, 426),
    ("no host", HEAD.replace(b"host: x\r\n", b"") + WHOLE, 400),
    ("an upgrade to WebSocket", SOCKET, 403),
]
# Envoy's own words, where it knows of no request yet or of a good head before what is wrong.
UNSHAPED = {"no chunk", "HTTP/1.0", "no host", "an upgrade to WebSocket"}


@pytest.mark.parametrize(("name", "request_bytes", "status"), WRONG, ids=[c[0] for c in WRONG])
async def test_what_is_no_request_is_refused_with_its_status(
    world: World, name: str, request_bytes: bytes, status: int
) -> None:
    seen, headers, body = await answer_to(world, request_bytes)
    assert seen == status
    assert world.engines["a1"].requests == []
    if name in UNSHAPED:
        assert headers.get("content-type", "text/plain") == "text/plain"
    else:
        assert headers["content-type"] == "application/json", body
        assert set(json.loads(body)["error"]) == {"message", "type", "param", "code"}
    await others_are_answered(world)


BROKEN_BODIES: list[tuple[str, bytes, int, str]] = [
    ("bad UTF-8", b'{"model":"\xff\xfe"}', 400, "invalid_json"),
    ("nested 10,000 deep", b"[" * 10_000 + b"]" * 10_000, 400, "invalid_json"),
    ("a number beyond all", b'{"model": 1e999}', 400, "invalid_json"),
    ("a number as model", b'{"model": 1}', 400, "missing_model"),
    # The last one counts, as it does for the engines.
    ("model twice", b'{"model":"m1","model":"nope"}', 404, "model_not_found"),
    ("not JSON", b"model=m1", 400, "invalid_json"),
    ("a huge model name", b'{"model":"' + b"m" * 100_000 + b'"}', 400, "missing_model"),
    ("a format in the name", b'{"model":"%REQ(authorization)%"}', 404, "model_not_found"),
]


@pytest.mark.parametrize(
    ("body", "status", "code"), [c[1:] for c in BROKEN_BODIES], ids=[c[0] for c in BROKEN_BODIES]
)
async def test_a_broken_body_is_refused_and_the_error_is_short(
    world: World, body: bytes, status: int, code: str
) -> None:
    length = b"content-length: %d\r\n\r\n" % len(body)
    seen, headers, answered = await answer_to(
        world, HEAD + b"authorization: secret-of-mine\r\n" + length + body
    )
    assert (seen, json.loads(answered)["error"]["code"]) == (status, code), answered
    assert len(answered) < 1_000
    assert b"secret-of-mine" not in answered
    assert world.engines["a1"].requests == []
    assert headers["x-request-id"]
    await others_are_answered(world)


LORA = {"lora_name": "x", "lora_int_id": 1, "lora_path": "/etc"}
REFUSED_FIELDS: list[tuple[dict[str, Any] | bytes, str | None, str]] = [
    ({"n": 10**6}, "n", "out_of_range"),
    ({"n": 129}, "n", "out_of_range"),
    ({"n": "1000"}, "n", "out_of_range"),
    ({"n": 1, "best_of": 1_000_000, "n_cmpl": 2}, "n", "out_of_range"),
    ({"best_of": 1e18}, "n", "out_of_range"),
    ({"max_tokens": 10**12}, "max_tokens", "out_of_range"),
    ({"max_tokens": 2**31}, "max_tokens", "out_of_range"),
    ({"max_tokens": 5, "max_completion_tokens": 1e300}, "max_tokens", "out_of_range"),
    ({"max_output_tokens": 2**62, "n": 2}, "max_tokens", "out_of_range"),
    ({"lora_request": LORA}, "lora_request", "unsupported_field"),
    ({"lora_request": {"lora_name": "x", "lora_int_id": 1}}, "lora_request", "unsupported_field"),
    ({"lora_path": "/etc"}, "lora_request", "unsupported_field"),
    ({"lora_path": "a\nb"}, "lora_request", "unsupported_field"),
    (
        b'{"model":"m1","lora_\\u0072equest":{"l\\u006fra_name":"x"}}',
        "lora_request",
        "unsupported_field",
    ),
    (b'{"model":"m1","n":1,"n":1000}', "n", "out_of_range"),
    ({"disaggregated_params": {"request_type": "context_only"}}, None, "unsupported_field"),
    ({"kv_transfer_params": {"do_remote_prefill": True}}, None, "unsupported_field"),
    ({"bootstrap_host": "10.0.0.1", "bootstrap_port": 1}, None, "unsupported_field"),
]


@pytest.mark.asyncio(loop_scope="module")
@pytest.mark.parametrize(("fields", "param", "code"), REFUSED_FIELDS)
async def test_what_asks_for_too_much_or_names_a_path_reaches_no_engine(
    shared: World, fields: dict[str, Any] | bytes, param: str | None, code: str
) -> None:
    world = shared
    before = len(world.engines["a1"].requests)
    body = fields if isinstance(fields, bytes) else json.dumps({"model": "m1", **fields}).encode()
    for path in ("chat/completions", "completions", "embeddings", "responses"):
        url = f"{world.planes['a'].url}/v1/{path}"
        headers = {"content-type": "application/json"}
        async with world.client.post(url, data=body, headers=headers) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"], error["param"]) == (400, code, param)
            assert response.headers["x-request-id"]
    assert len(world.engines["a1"].requests) == before
    await others_are_answered(world)


@pytest.mark.asyncio(loop_scope="module")
async def test_what_looks_like_it_and_is_not_is_passed_on(shared: World) -> None:
    for fields in (
        {"n": 128},
        {"n": 1, "best_of": 2, "n_cmpl": 3},
        {"n": None, "max_tokens": None, "lora_request": None, "lora_path": None},
        {"n": -1, "max_tokens": -1},
        {"max_tokens": 1_000_000, "max_completion_tokens": 131_072},
        {"max_tokens": 999_000_000},
        {"n": "many", "max_tokens": "all"},
        {"messages": [{"role": "user", "content": '"lora_request": {"n": 1000000}'}]},
        {"metadata": {"lora_path": "/etc", "n": 1_000_000}},
        {"temperature": 1000, "seed": 10**12},
    ):
        assert await shared.chat("a", **fields) == (200, {"engine": "a1", "model": "m1"}), fields


async def test_slow_senders_of_headers_are_cut_after_ten_seconds_and_disturb_nobody(
    world: World,
) -> None:
    began = CLOCK.monotonic()
    slow = [await connect(world) for _ in range(100)]
    for _, writer in slow:
        writer.write(HEAD)

    async def ended(reader: asyncio.StreamReader) -> bytes:
        return await reader.read(200)

    async with asyncio.timeout(25), asyncio.TaskGroup() as group:
        waits = [group.create_task(ended(reader)) for reader, _ in slow]
        while not all(wait.done() for wait in waits):
            for _, writer in slow:
                if not writer.is_closing():
                    writer.write(b"x-a: b\r\n" if CLOCK.monotonic() - began < 5 else b"")
            await others_are_answered(world)
            await CLOCK.sleep(0.5)
    assert CLOCK.monotonic() - began > 8
    assert all(b" 408 " in wait.result() for wait in waits)
    for _, writer in slow:
        writer.transport.abort()


async def test_bodies_without_end_disturb_nobody(world: World) -> None:
    slow = [await connect(world) for _ in range(60)]
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    for number, (_, writer) in enumerate(slow):
        # Half of them in chunks, half far short of the length that they told: 1 MiB each.
        if number % 2:
            writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n" + chunk * 16)
        else:
            writer.write(HEAD + b"content-length: 4000000\r\n\r\n" + b"a" * 2**20)
    for _ in range(20):
        await others_are_answered(world)
    assert world.engines["a1"].requests[-1]["host"] != "x"
    for _, writer in slow:
        writer.transport.abort()


async def test_a_body_that_never_stops_is_refused_at_the_limit(world: World) -> None:
    reader, writer = await connect(world)
    writer.write(HEAD + b"transfer-encoding: chunked\r\n\r\n")
    chunk = b"10000\r\n" + b"a" * 0x10000 + b"\r\n"
    for _ in range(80):  # 5 MiB
        writer.write(chunk)
    async with asyncio.timeout(10):
        assert b" 413 " in await reader.readline()
    writer.transport.abort()
    await others_are_answered(world)


async def test_a_client_that_goes_away_frees_the_engine_within_a_second(world: World) -> None:
    url = f"{world.planes['a'].url}/v1/chat/completions"
    response = await world.client.post(url, json={"model": "m1", "stream": True})
    assert await response.content.readuntil(b"\n\n") == b"data: a1\n\n"
    response.close()
    async with asyncio.timeout(1.0):
        await world.engines["a1"].ended.wait()


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    length = struct.pack("!I", len(payload))[1:]
    return length + bytes([kind, flags]) + struct.pack("!I", stream) + payload


async def test_a_flood_of_resets_is_cut_off_and_disturbs_nobody(world: World) -> None:
    reader, writer = await connect(world)
    writer.write(PREFACE + frame(SETTINGS_FRAME, 0, 0, b""))
    # :method POST, :scheme http, :path /v1/models, :authority x, all without the dynamic table.
    path = b"/v1/models"
    block = b"\x83\x86\x04" + bytes([len(path)]) + path + b"\x01\x01x"
    cut = False
    for number in range(5_000):
        stream = 2 * number + 1
        writer.write(frame(HEADERS_FRAME, 4, stream, block))
        writer.write(frame(RST_FRAME, 0, stream, struct.pack("!I", 8)))
        if number % 500 == 0:
            try:
                await writer.drain()
            except ConnectionError:
                cut = True
                break
            await others_are_answered(world)

    async def closed() -> bool:
        return reader.at_eof() or reader.exception() is not None

    if not cut:

        async def read_all() -> None:
            try:
                while await reader.read(65_536):
                    pass
            except ConnectionError:
                pass

        async with asyncio.timeout(10):
            await read_all()
    await others_are_answered(world)
    status = await world.status("a")
    assert status is not None
    assert status.live
    await eventually(closed)
    writer.transport.abort()


async def test_a_grpc_message_beyond_the_limit_is_refused_with_a_status(world: World) -> None:
    # Field 3 of 5 MiB; the status is of Envoy's own choice.
    message = string_field(2, "m1") + b"\x1a\x80\x80\xc0\x02" + b"x" * (5 << 20)
    port = world.planes["a"].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(GENERATE)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in method(message, timeout=10):
                pass
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    await others_are_answered(world)


@pytest.mark.parametrize("path", ["/openengin%00e.v1.A/B", "/oi*4mbVG#?*sl"])
async def test_a_grpc_path_that_is_none_is_an_invalid_argument(world: World, path: str) -> None:
    """The fuzzer found Envoy's own status of them: INTERNAL."""
    port = world.planes["a"].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(path)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in method(b"", timeout=10):
                pass
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT
    assert error.value.details() == "the call's path is no valid one"


async def test_a_request_that_is_not_whole_in_time_is_ended(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(listeners, "_REQUEST_SECONDS", 2.0)  # a minute, where nobody tests
    async with a_fleet(tmp_path) as world:
        status, _, body = await answer_to(world, HEAD + b"content-length: 100\r\n\r\n" + BODY)
        assert (status, json.loads(body)["error"]["code"]) == (408, "request_timeout")
        # What follows a CONNECT is never a whole request.
        connect_to = b"CONNECT 127.0.0.1:1 HTTP/1.1\r\nhost: 127.0.0.1:1\r\n\r\n"
        assert (await answer_to(world, connect_to))[0] == 408
        assert world.engines["a1"].requests == []
        await others_are_answered(world)


async def test_a_gateway_whose_memory_is_at_its_limit_refuses_and_can_still_be_looked_at(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(resources, "_HEAP_BYTES_MAX", 2**20)  # less than it takes to start
    async with a_world(tmp_path) as world:
        engine = world.engines["a1"] = FakeEngine("a1")
        await engine.start()
        plane = world.planes["a"]
        plane.topology = replace(plane.topology, models=(a_model("1", engine),))
        await world.settled("a", await plane.publish())
        url = f"{plane.url}/v1/chat/completions"

        async def refused() -> bool:
            async with world.client.post(url, json={"model": "m1"}) as response:
                return response.status == 503

        await eventually(refused)
        async with world.client.post(url, json={"model": "m1"}) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (503, "gateway_overloaded")
            assert response.headers["retry-after"] == "1"
        with pytest.raises(grpc.aio.AioRpcError) as status:
            await generate(world, "a", "m1")
        assert status.value.code() is grpc.StatusCode.UNAVAILABLE
        assert await world.status("a") is not None  # its admin page answers all the same
