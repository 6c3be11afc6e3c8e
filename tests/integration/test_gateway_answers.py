"""What the gateway says on every answer, and what it answers by itself, with a real Envoy."""

import re
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from tests.integration.gateway_world import (
    GENERATE,
    HOST,
    World,
    a_fleet,
    a_model,
    generate,
    string_field,
)
from workload_plane.gateway.topology import ServedModel

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
TRTLLM = "/trtllm.TrtllmService/Generate"
UUID = re.compile(r"[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}")


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as fleet:
        yield fleet


async def serve(world: World, plane: str, *models: ServedModel, gone: tuple[str, ...] = ()) -> None:
    """Publish these models on that plane."""
    changed = world.planes[plane]
    changed.topology = replace(changed.topology, models=models)
    await world.settled(plane, await changed.publish(*gone))


async def status_of(world: World, path: str, *metadata: tuple[str, str], model: str = "m1") -> Any:
    """Return the error with which plane `a` ends a gRPC call."""
    port = world.planes["a"].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(path)
        with pytest.raises(grpc.aio.AioRpcError) as error:
            async for _ in method(string_field(2, model), metadata=metadata, timeout=10):
                pass
    return error.value


async def test_every_answer_has_a_request_id_and_a_clients_own_is_kept(world: World) -> None:
    url = world.planes["a"].url
    for method, path, body in (
        ("POST", CHAT, {"model": "m1"}),
        ("POST", CHAT, {"model": "nope"}),
        ("GET", "/v1/models", None),
        ("GET", "/health", None),
        ("GET", "/nope", None),
    ):
        async with world.client.request(method, url + path, json=body) as response:
            assert UUID.fullmatch(response.headers["x-request-id"]), path
        own = {"x-request-id": "mine-1"}
        async with world.client.request(method, url + path, json=body, headers=own) as response:
            assert response.headers["x-request-id"] == "mine-1"
    seen = [request["x-request-id"] for request in world.engines["a1"].requests]
    assert seen[-1] == "mine-1", "the engine's log has the same id"


async def test_a_request_id_without_end_is_cut(world: World) -> None:
    url, long = world.planes["a"].url + CHAT, {"x-request-id": "x" * 4_000}
    async with world.client.post(url, json={"model": "m1"}, headers=long) as response:
        assert response.headers["x-request-id"] == "x" * 128


async def test_an_answer_tells_plane_replica_and_time_in_the_queue(world: World) -> None:
    url = world.planes["a"].url + CHAT
    async with world.client.post(url, json={"model": "m1"}) as response:
        told = response.headers.getall("server-timing")
    assert len(told) == 1
    assert re.fullmatch(r'plane;desc="a", replica;desc="a1", queue;dur=\d+', told[0])
    first, *others = world.planes["a"].topology.models
    await serve(world, "a", replace(first, replicas=()), *others, gone=("a1",))
    async with world.client.post(url, json={"model": "m1"}) as response:
        told = response.headers.getall("server-timing")
    assert len(told) == 1
    assert re.fullmatch(r'plane;desc="b", replica;desc="b1", queue;dur=\d+', told[0])


async def test_grpc_is_told_the_same_in_its_trailers(world: World) -> None:
    port = world.planes["a"].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(GENERATE)
        call = method(string_field(2, "m1"), metadata=(("x-request-id", "mine-2"),), timeout=10)
        assert [answer async for answer in call]
        first, last = dict(await call.initial_metadata()), dict(await call.trailing_metadata())
    for metadata in (first, last):
        assert metadata["x-request-id"] == "mine-2"
        assert metadata["x-skerry-plane"] == "a"
        assert 'replica;desc="a1"' in metadata["server-timing"]


async def test_a_grpc_error_has_a_status_and_the_request_id(world: World) -> None:
    for engine in ("a1", "b1"):
        await world.engines[engine].kill()
    error = await status_of(world, GENERATE, ("x-request-id", "mine-3"))
    assert error.code() is grpc.StatusCode.UNAVAILABLE
    assert dict(error.trailing_metadata())["x-request-id"] == "mine-3"


async def test_a_path_that_the_engine_has_not_is_refused_and_one_that_it_has_is_passed(
    world: World,
) -> None:
    first, second = world.planes["a"].topology.models
    await serve(world, "a", replace(first, lacks=("embeddings", "responses")), second)
    url = world.planes["a"].url
    for path in ("embeddings", "responses"):
        async with world.client.post(f"{url}/v1/{path}", json={"model": "m1"}) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (400, "unsupported_path")
            assert f"`m1` has no /v1/{path}" in error["message"]
        async with world.client.post(f"{url}/v1/{path}", json={"model": "m2"}) as response:
            assert (await response.json())["engine"] == "a2"


async def test_an_adapters_name_is_a_model_of_its_own(world: World) -> None:
    first, second = world.planes["a"].topology.models
    await serve(world, "a", replace(first, adapters=("legal", "m1:sql")), second)
    for name in ("m1", "legal", "m1:sql"):
        assert await world.chat("a", name) == (200, {"engine": "a1", "model": name})
    async with world.client.get(f"{world.planes['a'].url}/v1/models") as response:
        listed = {one["id"]: one.get("parent") for one in (await response.json())["data"]}
    assert listed == {"m1": None, "legal": "m1", "m1:sql": "m1", "m2": None}


async def test_the_list_of_models_has_what_peers_serve_and_not_what_nobody_may(
    world: World,
) -> None:
    first, second = world.planes["a"].topology.models
    unplaced = replace(a_model("3"), listed=False)
    await serve(world, "a", replace(first, replicas=()), second, unplaced, gone=("a1",))
    url = world.planes["a"].url
    async with world.client.get(f"{url}/v1/models") as response:
        assert [one["id"] for one in (await response.json())["data"]] == ["m1", "m2"]
    async with world.client.get(f"{url}/v1/models/m3") as response:
        assert response.status == 404
    async with world.client.post(f"{url}/v1/models", json={}) as response:
        assert response.status == 405
    status, body = await world.chat("a", "m3")
    assert (status, body["error"]["code"]) == (503, "no_ready_replica")


async def test_trtllms_own_service_is_passed_by_header_where_it_is_served(world: World) -> None:
    first, second = world.planes["a"].topology.models
    error = await status_of(world, TRTLLM, ("x-model", "m2"))
    assert error.code() is grpc.StatusCode.UNIMPLEMENTED
    assert "no model here serves trtllm.TrtllmService" in error.details()
    await serve(world, "a", first, replace(second, serves_trtllm=True))
    assert await generate(world, "a", "", TRTLLM, **{"x-model": "m2"}) == "a2"
    error = await status_of(world, TRTLLM, ("x-model", "m1"))
    assert "x-model must name one of: m2" in error.details()


async def test_a_forwarded_request_is_not_retried_at_the_peer(world: World) -> None:
    world.engines["b1"].status = 503
    first, *others = world.planes["a"].topology.models
    await serve(world, "a", replace(first, replicas=()), *others, gone=("a1",))
    status, _ = await world.chat("a")
    assert status == 503
    # Two attempts of the first gateway, none of the second's own.
    counts = [request["x-envoy-attempt-count"] for request in world.engines["b1"].requests]
    assert counts == ["1", "2"]
