"""The blocking client: the same answers, from any thread, with no event loop of the caller's."""

import asyncio
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from typing import Any

import pytest
from aiohttp import web

from skerry.client.gateways import Gateway, Request, RequestKind, Result
from skerry.client.inference_sync import BlockingInferenceClient, connect_sync
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.ports import free_port

pytestmark = pytest.mark.integration

HOST = "127.0.0.1"
REQUEST = Request(kind=RequestKind.CHAT_STREAM, model="m", prompt="p")
_EVENT = b'data: {"choices": [{"delta": {"content": "x"}}]}\n\n'


class Server:
    """A gateway in a thread of its own: three tokens, and the third only when it is wanted."""

    def __init__(self, *, breaks: bool = False) -> None:
        self.breaks = breaks
        self.asked: list[dict[str, Any]] = []
        self.may_end = threading.Event()
        self.gone = threading.Event()
        self.address = ""

    async def answer(self, request: web.Request) -> web.StreamResponse:
        self.asked.append(await request.json())
        headers = {"content-type": "text/event-stream", "x-skerry-continuation": "vllm"}
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        await response.write(_EVENT * 2)
        if self.breaks:
            await asyncio.to_thread(self.may_end.wait)
            assert request.transport is not None
            request.transport.abort()
            return response
        try:
            await asyncio.to_thread(self.may_end.wait)
            await response.write(_EVENT + b"data: [DONE]\n\n")
        except (ConnectionError, asyncio.CancelledError):
            self.gone.set()
            raise
        return response


@contextmanager
def a_server(*, breaks: bool = False) -> Iterator[Server]:
    """Serve until the block ends."""
    server = Server(breaks=breaks)
    loop = asyncio.new_event_loop()

    async def start() -> web.AppRunner:
        app = web.Application()
        app.router.add_post("/v1/chat/completions", server.answer)
        runner = web.AppRunner(app, access_log=None, handler_cancellation=True, shutdown_timeout=0)
        await runner.setup()
        await web.TCPSite(runner, HOST, 0).start()
        server.address = f"{HOST}:{runner.addresses[0][1]}"
        return runner

    runner = loop.run_until_complete(start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield server
    finally:
        server.may_end.set()
        asyncio.run_coroutine_threadsafe(runner.cleanup(), loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()


@contextmanager
def a_client(*addresses: str) -> Iterator[BlockingInferenceClient]:
    """Give a blocking client of the addresses."""
    clock = SystemClock()
    gateways = [Gateway(name=a, http=a, grpc=a) for a in addresses]
    with connect_sync(gateways, clock, SystemIds(clock)) as client:
        yield client


def test_text_comes_as_it_is_made() -> None:
    with a_server() as server, a_client(server.address) as client:
        with client.ask(REQUEST) as answer:
            texts = iter(answer)
            assert [next(texts), next(texts)] == ["x", "x"]
            server.may_end.set()
            assert list(texts) == ["x"]
        assert (answer.tokens, answer.gateway) == (3, server.address)


def test_leaving_the_block_early_ends_the_request() -> None:
    with a_server() as server, a_client(server.address) as client:
        with client.ask(REQUEST) as answer:
            next(iter(answer))
        assert server.gone.wait(10.0)


def test_a_dead_gateway_is_passed_over() -> None:
    with a_server() as server, a_client(f"{HOST}:{free_port(HOST)}", server.address) as client:
        server.may_end.set()
        outcome = client.send(REQUEST, 0)
    assert (outcome.result, outcome.gateway) == (Result.OK, server.address)


def test_a_stream_that_broke_goes_on_at_another_gateway_and_nobody_sees_it() -> None:
    with a_server(breaks=True) as first, a_server() as second:
        second.may_end.set()
        with a_client(first.address, second.address) as client, client.ask(REQUEST, 0) as answer:
            texts = iter(answer)
            text = next(texts)
            first.may_end.set()  # not before: a reset loses what was not read yet
            text += "".join(texts)
    assert (answer.continued, answer.attempts, answer.gateway) == (1, 2, second.address)
    told = second.asked[0]["messages"][-1]["content"]
    assert told in ("x", "xx")
    assert text == told + "xxx"


def test_nobody_at_all_is_an_error_of_the_usual_kind() -> None:
    with a_client(f"{HOST}:{free_port(HOST)}") as client, pytest.raises(Unavailable):
        with client.ask(REQUEST):
            pass


def test_threads_may_share_a_client() -> None:
    with a_server() as server, a_client(server.address) as client, ThreadPoolExecutor(8) as pool:
        server.may_end.set()
        outcomes = list(pool.map(client.send, [REQUEST] * 32))
    assert {outcome.result for outcome in outcomes} == {Result.OK}
