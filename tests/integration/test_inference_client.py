"""The client before two real gateways: the nearest is asked, and dies before and after a token."""

import asyncio
import contextlib
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import pytest
from aiohttp import web

from skerry.client.gateways import Gateway, Request, RequestKind, Result
from skerry.client.inference import InferenceClient, connect
from skerry.plumbing.ids import SystemIds
from tests.integration.gateway_world import (
    CLOCK,
    HOST,
    World,
    a_world,
    listening_port,
)
from workload_plane.gateway.topology import LocalReplica, ServedModel
from workload_plane.relay.http_client import ClientPool
from workload_plane.relay.http_relay import Relaying
from workload_plane.relay.known import KnownDeployments
from workload_plane.relay.main import HttpFront
from workload_plane.relay.memory import HeldBytes

pytestmark = pytest.mark.integration

REQUEST = Request(kind=RequestKind.CHAT_STREAM, model="m1", prompt="p", max_tokens=8)
WORDS = ("Once", " upon", " a", " time", " there", " was", " a", " boat")


class Engine:
    """Streams the words, from where the request's last message ends; pauses after two of them."""

    def __init__(self, *, told: bool) -> None:
        self.told = told
        self.port = listening_port()
        self.may_go_on = asyncio.Event()
        self.asked = 0

    async def health(self, request: web.Request) -> web.Response:
        return web.Response(text="ok")

    async def chat(self, request: web.Request) -> web.StreamResponse:
        self.asked += 1
        last = (await request.json())["messages"][-1]
        told = last["content"] if last["role"] == "assistant" else ""
        headers = {"content-type": "text/event-stream"}
        if self.told:
            headers["x-skerry-continuation"] = "vllm"
        response = web.StreamResponse(headers=headers)
        await response.prepare(request)
        rest = "".join(WORDS)[len(told) :]
        for number, word in enumerate(WORDS):
            if rest.endswith("".join(WORDS[number:])):
                if number == 2:
                    await self.may_go_on.wait()
                choice = {"index": 0, "delta": {"content": word}, "finish_reason": None}
                event = {"id": "i", "created": 1, "choices": [choice]}
                await response.write(f"data: {json.dumps(event)}\n\n".encode())
        await response.write(b"data: [DONE]\n\n")
        return response

    def model(self) -> ServedModel:
        replica = LocalReplica(
            name="r1",
            host=HOST,
            http_port=self.port,
            grpc_port=self.port,
            health_port=self.port,
        )
        return ServedModel(
            served_name="m1",
            deployment="d1",
            ttft_bound_seconds=60,
            total_deadline_seconds=60,
            replicas=(replica,),
        )


@asynccontextmanager
async def an_engine(*, told: bool = True) -> AsyncIterator[Engine]:
    """Serve; with `told` it says by itself what a relay would say of it."""
    engine = Engine(told=told)
    app = web.Application()
    app.router.add_get("/health", engine.health)
    app.router.add_post("/v1/chat/completions", engine.chat)
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0)
    await runner.setup()
    await web.TCPSite(runner, HOST, engine.port, reuse_address=True).start()
    try:
        yield engine
    finally:
        engine.may_go_on.set()
        await runner.cleanup()


@asynccontextmanager
async def a_client(world: World) -> AsyncIterator[InferenceClient]:
    addresses = {
        name: f"{HOST}:{plane.topology.listen.public_port}" for name, plane in world.planes.items()
    }
    gateways = [Gateway(name=n, http=a, grpc=a) for n, a in addresses.items()]
    async with connect(gateways, CLOCK, SystemIds(CLOCK)) as client:
        yield client


@asynccontextmanager
async def two_planes(tmp_path: Path) -> AsyncIterator[tuple[World, dict[str, Engine]]]:
    """Yield two planes that serve the model with an engine each and have no peers."""
    async with a_world(tmp_path) as world, an_engine() as a, an_engine() as b:
        for name, engine in (("a", a), ("b", b)):
            plane = world.planes[name]
            plane.topology = replace(plane.topology, models=(engine.model(),))
            await world.settled(name, await plane.publish())
        yield world, {"a": a, "b": b}


async def test_a_gateway_that_is_killed_costs_no_request_and_no_stream(tmp_path: Path) -> None:
    async with two_planes(tmp_path) as (world, engines), a_client(world) as client:
        engines["b"].may_go_on.set()
        async with client.ask(REQUEST, preferred=0) as answer:
            pieces = aiter(answer)
            seen = [await anext(pieces), await anext(pieces)]
            await world.planes["a"].kill()
            seen += [text async for text in pieces]
        assert "".join(seen) == "".join(WORDS)
        assert (answer.gateway, answer.continued) == ("b", 1)
        # And the next one, which begins at the dead one, has its first token from the other.
        outcome = await client.send(REQUEST, preferred=0)
        assert (outcome.result, outcome.gateway) == (Result.OK, "b")


async def test_who_answered_is_told_by_the_gateway(
    tmp_path: Path,
) -> None:
    async with two_planes(tmp_path) as (world, engines), a_client(world) as client:
        async with client.ask(REQUEST, preferred=1) as answer:
            assert answer.head.plane == "b"
            assert answer.head.replica
            assert answer.head.request_id
            engines["b"].may_go_on.set()
            assert [text async for text in answer][-1] == " boat"


def write_known(folder: Path) -> None:
    """Tell a relay which engine serves the deployment."""
    folder.mkdir()
    known = {"format": 1, "deployments": [{"deployment": "d1", "engine": "vllm"}]}
    (folder / "relay.json").write_text(json.dumps(known))


@asynccontextmanager
async def a_relay(folder: Path, inner_port: int) -> AsyncIterator[Gateway]:
    """Run a relay before an engine, as the gateway would ask it."""
    write_known(folder)
    relaying = Relaying(
        pool=ClientPool(HOST, inner_port, CLOCK),
        known=KnownDeployments(folder / "relay.json", CLOCK),
        held=HeldBytes(1 << 20),
        clock=CLOCK,
        ids=SystemIds(CLOCK),
        plane="a",
    )
    front, port = HttpFront(relaying), listening_port()
    await front.open(port)
    try:
        yield Gateway(name=folder.name, http=f"{HOST}:{port}", grpc=f"{HOST}:{port}")
    finally:
        await front.close()
        relaying.pool.close()
        await CLOCK.sleep(0.05)


async def test_what_a_relay_carries_the_client_continues_when_the_relay_dies(
    tmp_path: Path,
) -> None:
    request = replace(REQUEST, headers=(("x-skerry-deployment", "d1"),))
    async with an_engine(told=False) as a, an_engine(told=False) as b:
        b.may_go_on.set()
        async with a_relay(tmp_path / "b", b.port) as second:
            async with contextlib.AsyncExitStack() as first_plane:
                first = await first_plane.enter_async_context(a_relay(tmp_path / "a", a.port))
                async with connect((first, second), CLOCK, SystemIds(CLOCK)) as client:
                    async with client.ask(request, preferred=0) as answer:
                        pieces = aiter(answer)
                        seen = [await anext(pieces), await anext(pieces)]
                        await first_plane.aclose()
                        seen += [text async for text in pieces]
    assert "".join(seen) == "".join(WORDS)
    assert (answer.gateway, answer.continued) == ("b", 1)


async def test_a_request_that_cannot_be_continued_is_told_no_dialect(tmp_path: Path) -> None:
    headers = (("x-skerry-deployment", "d1"),)
    request = replace(REQUEST, headers=headers, fields={"seed": 3})
    async with an_engine(told=False) as engine, a_relay(tmp_path / "a", engine.port) as relay:
        engine.may_go_on.set()
        async with connect((relay,), CLOCK, SystemIds(CLOCK)) as client:
            async with client.ask(request) as answer:
                assert answer.head.continuation == ""
                assert "".join([text async for text in answer]) == "".join(WORDS)
