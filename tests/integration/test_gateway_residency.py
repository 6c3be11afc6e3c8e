"""Residency before real gateways: plane `a` may not see `m1`, plane `b` serves it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path

import grpc
import pytest

from skerry.client.gateways import RequestKind, Result
from tests.integration.gateway_world import World, a_fleet, eventually, generate, peer_request
from tests.integration.test_inference_client import REQUEST, a_client, two_planes
from workload_plane.gateway.topology import ServedModel

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
ZONES = ("de", "eu")


def kept_out(model: ServedModel) -> ServedModel:
    draining = tuple(replace(one, draining=True) for one in model.replicas)
    return replace(model, replicas=draining, peers=(), listed=False, outside_of=ZONES)


async def keep_out(world: World) -> None:
    """Tighten the zones of `m1` so that plane `a` lies in none of them."""
    a = world.planes["a"]
    models = (kept_out(a.topology.models[0]), *a.topology.models[1:])
    a.topology = replace(a.topology, models=models)
    published = await a.publish()  # without a tombstone

    async def refuses() -> bool:
        return (await world.chat("a"))[0] == 403

    await world.settled("a", published)
    await eventually(refuses)


@asynccontextmanager
async def a_kept_out_fleet(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as world:
        await keep_out(world)
        for engine in world.engines.values():
            engine.requests.clear()
        yield world


async def test_http_is_refused_with_the_zones_and_nobody_is_asked(tmp_path: Path) -> None:
    async with a_kept_out_fleet(tmp_path) as world:
        url = world.planes["a"].url
        for stream in (True, False):
            body = {"model": "m1", "stream": stream}
            async with world.client.post(url + CHAT, json=body) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (403, "residency")
                assert "residency zones de, eu" in error["message"]
                assert response.headers["x-skerry-refusal"] == "residency"
        async with world.client.get(f"{url}/v1/models") as response:
            assert [entry["id"] for entry in (await response.json())["data"]] == ["m2"]
        async with world.client.get(f"{url}/v1/models/m1") as response:
            assert response.status == 403
        assert [engine.requests for engine in world.engines.values()] == [[], [], [], []]
        assert (await world.chat("a", "m2"))[0] == 200
        assert (await world.chat("b", "m1"))[0] == 200


async def test_grpc_is_refused_and_the_refusal_is_typed(tmp_path: Path) -> None:
    async with a_kept_out_fleet(tmp_path) as world:
        for model, metadata in (("m1", {}), ("", {"x-model": "m1"})):
            with pytest.raises(grpc.aio.AioRpcError) as raised:
                await generate(world, "a", model, **metadata)
            assert raised.value.code() is grpc.StatusCode.PERMISSION_DENIED
            assert "residency zones de, eu" in (raised.value.details() or "")
            trailers = dict(raised.value.trailing_metadata() or ())
            assert trailers["x-skerry-refusal"] == "residency"
        assert await generate(world, "a", "m2") == "a2"
        assert await generate(world, "b", "m1") == "b1"


async def test_peers_get_nothing_of_it_here_whatever_they_were_told(tmp_path: Path) -> None:
    async with a_kept_out_fleet(tmp_path) as world:
        named = {"x-skerry-deployment": "d1", "content-type": "application/json"}
        async with peer_request(world, "a", "POST", CHAT, named) as response:
            assert response.status == 503, "whoever forwarded it asks another plane"
        async with peer_request(world, "a", "GET", "/health", {"host": "d1"}) as response:
            assert response.status != 200


async def test_a_stream_under_way_ends_whole_when_the_zones_are_tightened(tmp_path: Path) -> None:
    async with a_fleet(tmp_path) as world:
        url = f"{world.planes['a'].url}{CHAT}"
        async with world.client.post(url, json={"model": "m1", "stream": True}) as response:
            assert await response.content.readuntil(b"\n\n") == b"data: a1\n\n"
            await keep_out(world)
            world.engines["a1"].next_event.set()
            assert await response.content.readuntil(b"\n\n") == b"data: [DONE]\n\n"


@pytest.mark.parametrize("kind", [RequestKind.CHAT_STREAM, RequestKind.GENERATE])
async def test_the_client_goes_on_inside_the_zones_and_passes_nobody_over(
    tmp_path: Path, kind: RequestKind
) -> None:
    async with two_planes(tmp_path) as (world, engines), a_client(world) as client:
        await keep_out(world)
        engines["b"].may_go_on.set()
        async with asyncio.timeout(20.0):
            outcome = await client.send(replace(REQUEST, kind=kind), preferred=0)
        assert client._standing.memories["a"].failures == 0
        assert engines["a"].asked == 0
        if kind is RequestKind.CHAT_STREAM:
            assert (outcome.result, outcome.gateway, outcome.attempts) == (Result.OK, "b", 2)
        else:
            # The test's engine speaks no gRPC: what counts is that `b` was asked for it.
            assert outcome.gateway == "b"
