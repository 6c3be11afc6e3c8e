"""One attempt at one gateway over real HTTP and gRPC: pieces, and what a failed one means."""

import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from aiohttp import web

from skerry.api.openengine.v1 import error_pb2, generation_pb2, openengine_pb2_grpc
from skerry.client.gateways import (
    AttemptFailed,
    Begun,
    Cause,
    Emitted,
    End,
    Gateway,
    Head,
    Item,
    Message,
    Piece,
    Request,
    RequestKind,
)
from skerry.client.transport import NetworkTransport
from skerry.plumbing.clock import SystemClock
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
    for path in ("/v1/chat/completions", "/v1/completions"):
        application.router.add_post(path, handler)
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


async def items_of(gateway: Gateway, request: Request, api_key: str = "") -> list[Item]:
    """Make one attempt and return all that comes of it."""
    async with NetworkTransport(SystemClock(), api_key) as transport:
        return [item async for item in transport.attempt(gateway, request, "id-1")]


async def pieces_of(gateway: Gateway, request: Request) -> list[tuple[str, int]]:
    """Make one attempt and return its texts with their tokens; a head is first, an end last."""
    head, *pieces, end = await items_of(gateway, request)
    assert isinstance(head, Head)
    assert isinstance(end, End)
    assert all(isinstance(piece, Piece) for piece in pieces)
    return [(piece.text, piece.tokens) for piece in pieces if isinstance(piece, Piece)]


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


def saying(**fields: Any) -> bytes:
    """Return one event of a chat stream with those fields beside its choice."""
    delta = fields.pop("delta", {})
    choice = {"delta": delta, "finish_reason": None}
    return b"data: " + json.dumps({"choices": [choice], **fields}).encode() + b"\n\n"


async def test_what_begins_beside_the_text_is_told_once() -> None:
    chunks = (
        saying(delta={"reasoning_content": "Hm"}),
        saying(delta={"reasoning": "Hm"}),
        event("Once"),
        saying(delta={"tool_calls": [{"index": 0}]}),
        event(None, "stop"),
    )
    async with a_gateway(streaming(*chunks)) as gateway:
        _, first, piece, second, _ = await items_of(gateway, STREAM)
    assert first == Begun(has_reasoning=True)
    assert piece == Piece("Once")
    assert second == Begun(has_reasoning=True, has_tool_calls=True)


async def test_chunks_with_counts_say_how_many_tokens_they_have() -> None:
    chunks = (
        saying(delta={"content": "a b c"}, usage={"completion_tokens": 3}),
        saying(delta={"content": "d"}, usage={"completion_tokens": 4}),
        event(None, "stop"),
    )
    async with a_gateway(streaming(*chunks)) as gateway:
        assert await pieces_of(gateway, STREAM) == [("a b c", 3), ("d", 1)]


async def test_a_stream_that_breaks_behind_its_ending_is_whole() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        response = await streaming(event("Once"), event(None, "length"))(request)
        assert request.transport is not None
        request.transport.close()  # before the last chunk
        return response

    async with a_gateway(handler) as gateway:
        assert (await items_of(gateway, STREAM))[-1] == End(finish_reason="length")


async def test_a_stream_without_an_end_has_failed() -> None:
    async with a_gateway(streaming(event("Once"))) as gateway:
        assert "ended without an end" in str(await failure_of(gateway, STREAM))


async def test_an_error_in_the_stream_is_the_engines() -> None:
    chunk = b'data: {"error": {"message": "out of cache"}}\n\n'
    async with a_gateway(streaming(chunk)) as gateway:
        assert "out of cache" in str(await failure_of(gateway, STREAM))


async def test_what_a_relay_could_not_continue_is_asked_for_nowhere_else() -> None:
    chunk = b'data: {"error": {"message": "suspect", "code": "stream_not_continued"}}\n\n'
    async with a_gateway(streaming(event("Once"), chunk)) as gateway:
        failed = await failure_of(gateway, STREAM)
    assert (failed.cause, failed.elsewhere) == (Cause.CONTINUATION, False)


@pytest.mark.parametrize("retryable", [True, False])
async def test_an_error_behind_tokens_says_itself_whether_to_go_on_elsewhere(
    retryable: bool,
) -> None:
    lost = generation_pb2.GenerateResponse()
    lost.error.code = error_pb2.ERROR_CODE_INTERNAL
    lost.error.retryable = retryable
    async with an_engine(a_token("Once", 1), lost) as gateway:
        failed = await failure_of(gateway, GENERATE)
    assert failed.elsewhere is retryable


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


def recording(seen: list[Any], body: Any, headers: dict[str, str]) -> Handler:
    """Return a handler that keeps what it was sent."""

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append((request.path, request.headers.copy(), await request.json()))
        return web.json_response(body, headers=headers)

    return handler


async def test_who_answered_how_and_why_it_ended_is_told() -> None:
    usage = {
        "prompt_tokens": 9,
        "completion_tokens": 3,
        "prompt_tokens_details": {"cached_tokens": 4},
    }
    choice = {"text": "Once", "finish_reason": "length"}
    headers = {
        "Server-Timing": 'plane;desc="eu-1", replica;desc="chat-1", queue;dur=12.5',
        "x-request-id": "theirs",
        "x-skerry-continuation": "vllm",
    }
    seen: list[Any] = []
    request = Request(
        kind=RequestKind.COMPLETION,
        model="m",
        prompt="p",
        ignore_eos=True,
        fields={"top_k": 5, "model": "other"},
        headers=(("x-session", "s1"),),
    )
    answer = recording(seen, {"choices": [choice], "usage": usage}, headers)
    async with a_gateway(answer) as gateway:
        head, piece, end = await items_of(gateway, request, api_key="secret")
    assert head == Head(
        plane="eu-1",
        replica="chat-1",
        queue_seconds=0.0125,
        request_id="theirs",
        continuation="vllm",
    )
    assert piece == Piece("Once", 3)
    assert end == End(finish_reason="length", prompt_tokens=9, output_tokens=3, cached_tokens=4)
    (path, sent, body), *_ = seen
    assert path == "/v1/completions"
    assert (sent["authorization"], sent["x-request-id"]) == ("Bearer secret", "id-1")
    assert sent["x-session"] == "s1"
    # What has a name in a Request wins over a field of the same name.
    assert (body["model"], body["prompt"], body["top_k"], body["ignore_eos"]) == ("m", "p", 5, True)


async def rest_of(gateway: Gateway, request: Request, emitted: Emitted) -> list[Item]:
    """Ask for the rest of an answer and return all that comes."""
    async with NetworkTransport(SystemClock()) as transport:
        return [item async for item in transport.attempt(gateway, request, "id-2", emitted)]


async def test_the_rest_of_an_answer_is_asked_for_in_the_dialect_of_its_head() -> None:
    seen: list[Any] = []

    async def handler(request: web.Request) -> web.StreamResponse:
        seen.append(await request.json())
        return await streaming(event(" a time"), event(None, "stop"))(request)

    told = Emitted(dialect="vllm", text="Once upon", tokens=2)
    async with a_gateway(handler) as gateway:
        _, piece, end = await rest_of(gateway, STREAM, told)
    assert (piece, end) == (Piece(" a time"), End(finish_reason="stop"))
    assert seen[0]["messages"][-1] == {"role": "assistant", "content": "Once upon"}


@pytest.mark.parametrize(
    ("texts", "shown", "reason"),
    [
        (["ND", " more"], [], "stop"),  # "END" is met across the seam
        (["N", "o"], ["N", "o"], "length"),  # held back, and shown once it is nothing
        (["N"], ["N"], "length"),
    ],
)
async def test_a_stop_text_that_begins_before_the_break_is_not_shown_behind_it(
    texts: list[str], shown: list[str], reason: str
) -> None:
    told = Emitted(dialect="vllm", text="the E", tokens=2)
    request = Request(kind=RequestKind.CHAT_STREAM, model="m", prompt="p", fields={"stop": "END"})
    events = [*(event(text) for text in texts), event(None, "length")]
    async with a_gateway(streaming(*events)) as gateway:
        _, *pieces, end = await rest_of(gateway, request, told)
    assert pieces == [Piece(text) for text in shown]
    assert isinstance(end, End)
    assert end.finish_reason == reason


async def test_generate_is_gone_on_with_behind_what_was_told() -> None:
    told = Emitted(dialect="vllm", text="Once", tokens=1, token_ids=(1,))
    async with an_engine(a_token(" upon", 3), finished()) as gateway:
        _, piece, _ = await rest_of(gateway, GENERATE, told)
    assert piece == Piece(" upon", 1, (3,))


async def test_a_conversation_goes_as_its_messages() -> None:
    seen: list[Any] = []
    request = Request(
        kind=RequestKind.CHAT,
        model="m",
        messages=(Message(role="system", content="s"), Message(role="user", content="u")),
    )
    body = {"choices": [{"message": {"content": "x"}}]}
    async with a_gateway(recording(seen, body, {})) as gateway:
        await items_of(gateway, request)
    assert seen[0][2]["messages"] == [
        {"role": "system", "content": "s"},
        {"role": "user", "content": "u"},
    ]


async def test_a_completion_streams_its_text() -> None:
    events = b'data: {"choices": [{"text": "Once"}]}\n\ndata: [DONE]\n\n'
    request = Request(kind=RequestKind.COMPLETION_STREAM, model="m", prompt="p")
    async with a_gateway(streaming(events)) as gateway:
        assert await pieces_of(gateway, request) == [("Once", 1)]


async def test_a_refusal_says_when_to_come_back_and_what_it_is() -> None:
    async def handler(request: web.Request) -> web.StreamResponse:
        return web.json_response({"error": "full"}, status=429, headers={"Retry-After": "7"})

    async with a_gateway(handler) as gateway:
        failed = await failure_of(gateway, CHAT)
    assert (failed.cause, failed.retry_after_seconds) == (Cause.EXHAUSTED, 7.0)


async def test_what_answers_anything_at_all_can_be_measured() -> None:
    async with NetworkTransport(SystemClock()) as transport:
        async with a_gateway(answering(200, {})) as gateway:  # it has no /v1/models: 404
            assert 0 < await transport.probe(gateway) < 1
        with pytest.raises(AttemptFailed) as failed:
            await transport.probe(gateway)
    assert failed.value.cause is Cause.CONNECT


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
