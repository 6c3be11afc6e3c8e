"""One attempt at one gateway over real HTTP and gRPC: pieces, and what a failed one means."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aiohttp import web

from skerry.api.openengine.v1 import error_pb2, generation_pb2, openengine_pb2_grpc
from skerry.client.gateways import AttemptFailed, Gateway, Request, RequestKind
from skerry.client.transport import NetworkTransport
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
STREAM = Request(kind=RequestKind.CHAT_STREAM, model="m", prompt="p")
CHAT = Request(kind=RequestKind.CHAT, model="m", prompt="p")
GENERATE = Request(kind=RequestKind.GENERATE, model="m", prompt="p")

Handler = Callable[[web.Request], Awaitable[web.StreamResponse]]


@asynccontextmanager
async def a_gateway(handler: Handler) -> AsyncIterator[Gateway]:
    """Serve the OpenAI API with one handler."""
    application = web.Application()
    application.router.add_post("/v1/chat/completions", handler)
    runner = web.AppRunner(application, access_log=None)
    await runner.setup()
    site = web.TCPSite(runner, HOST, 0)
    await site.start()
    _, port = runner.addresses[0][:2]
    try:
        yield Gateway(name="g", http=f"{HOST}:{port}", grpc=f"{HOST}:{port}")
    finally:
        await runner.cleanup()


class _Engine(openengine_pb2_grpc.InferenceServicer):
    """Answers Generate with the events given."""

    def __init__(self, *events: generation_pb2.GenerateResponse) -> None:
        self.events = events

    async def Generate(self, request: Any, context: Any) -> AsyncIterator[Any]:
        if request.model == "unknown":
            await context.abort(grpc.StatusCode.NOT_FOUND, "no such model")
        for event in self.events:
            yield event


@asynccontextmanager
async def an_engine(*events: generation_pb2.GenerateResponse) -> AsyncIterator[Gateway]:
    """Serve Generate."""
    server = grpc.aio.server()
    openengine_pb2_grpc.add_InferenceServicer_to_server(_Engine(*events), server)
    port = server.add_insecure_port(f"{HOST}:0")
    await server.start()
    try:
        yield Gateway(name="g", http=f"{HOST}:{port}", grpc=f"{HOST}:{port}")
    finally:
        await server.stop(None)


async def pieces_of(gateway: Gateway, request: Request) -> list[tuple[str, int]]:
    """Make one attempt and return all of its pieces."""
    async with NetworkTransport(SystemIds(SystemClock())) as transport:
        return [piece async for piece in transport.attempt(gateway, request)]


async def failure_of(gateway: Gateway, request: Request) -> AttemptFailed:
    """Make one attempt and return why it failed."""
    with pytest.raises(AttemptFailed) as failed:
        await pieces_of(gateway, request)
    return failed.value


def event(text: str | None = None, finish: str | None = None) -> bytes:
    """Return one event of a chat stream."""
    choice = {"delta": {"content": text}, "finish_reason": finish}
    return b"data: " + json.dumps({"choices": [choice]}).encode() + b"\n\n"


def streaming(*chunks: bytes) -> Handler:
    """Return a handler that sends the chunks and ends."""

    async def handler(request: web.Request) -> web.StreamResponse:
        response = web.StreamResponse(headers={"content-type": "text/event-stream"})
        await response.prepare(request)
        for chunk in chunks:
            await response.write(chunk)
        return response

    return handler


def answering(status: int, body: Any) -> Handler:
    """Return a handler with one JSON answer."""

    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response(body, status=status)

    return handler


async def test_a_chat_stream_yields_its_text_piece_by_piece() -> None:
    chunks = (event("Once"), event(" upon"), event(None, "stop"), b"data: [DONE]\n\n")
    async with a_gateway(streaming(*chunks)) as gateway:
        assert await pieces_of(gateway, STREAM) == [("Once", 1), (" upon", 1)]


async def test_a_stream_without_an_end_has_failed() -> None:
    async with a_gateway(streaming(event("Once"))) as gateway:
        assert "ended without an end" in str(await failure_of(gateway, STREAM))


async def test_an_error_in_the_stream_is_the_engines() -> None:
    chunk = b'data: {"error": {"message": "out of cache"}}\n\n'
    async with a_gateway(streaming(chunk)) as gateway:
        assert "out of cache" in str(await failure_of(gateway, STREAM))


async def test_a_whole_answer_comes_with_its_tokens() -> None:
    body = {"choices": [{"message": {"content": "Once"}}], "usage": {"completion_tokens": 3}}
    async with a_gateway(answering(200, body)) as gateway:
        assert await pieces_of(gateway, CHAT) == [("Once", 3)]


@pytest.mark.parametrize(
    ("status", "elsewhere", "cool_down"),
    [(404, True, False), (503, True, True), (429, True, True), (400, False, True)],
)
async def test_a_status_says_whether_another_gateway_may_do_better(
    status: int, elsewhere: bool, cool_down: bool
) -> None:
    async with a_gateway(answering(status, {"error": {"message": "no"}})) as gateway:
        failed = await failure_of(gateway, CHAT)
    assert (failed.elsewhere, failed.cool_down) == (elsewhere, cool_down)
    assert f"HTTP {status}: no" in str(failed)


@pytest.mark.parametrize("request_", [STREAM, CHAT, GENERATE], ids=str)
async def test_nobody_at_the_address_sends_the_request_elsewhere(request_: Request) -> None:
    address = f"{HOST}:{free_port(HOST)}"
    failed = await failure_of(Gateway(name="g", http=address, grpc=address), request_)
    assert failed.elsewhere
    assert failed.cool_down


def a_token(text: str, *ids: int) -> generation_pb2.GenerateResponse:
    """Return a token event."""
    message = generation_pb2.GenerateResponse()
    message.token.text = text
    for number in ids:
        message.token.tokens.add().token_id = number
    return message


def finished() -> generation_pb2.GenerateResponse:
    """Return the last event."""
    message = generation_pb2.GenerateResponse()
    message.finished.SetInParent()
    return message


async def test_generate_yields_text_with_its_tokens() -> None:
    async with an_engine(a_token("Once", 1, 2), a_token(" upon", 3), finished()) as gateway:
        assert await pieces_of(gateway, GENERATE) == [("Once", 2), (" upon", 1)]


async def test_generate_without_an_end_has_failed() -> None:
    async with an_engine(a_token("Once", 1)) as gateway:
        assert "ended without an end" in str(await failure_of(gateway, GENERATE))


async def test_a_model_unknown_here_is_asked_for_elsewhere_without_blame() -> None:
    unknown = Request(kind=RequestKind.GENERATE, model="unknown", prompt="p")
    async with an_engine() as gateway:
        failed = await failure_of(gateway, unknown)
    assert (failed.elsewhere, failed.cool_down) == (True, False)


async def test_an_error_of_the_request_itself_is_final() -> None:
    refusal = generation_pb2.GenerateResponse()
    refusal.error.code = error_pb2.ERROR_CODE_INVALID_ARGUMENT
    refusal.error.message = "negative temperature"
    async with an_engine(refusal) as gateway:
        failed = await failure_of(gateway, GENERATE)
    assert not failed.elsewhere
    assert "INVALID_ARGUMENT: negative temperature" in str(failed)
