"""API keys before a real gateway: nobody else is in, and nothing else need run for it."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from datetime import timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from skerry.fleet.api_key import ApiKey, KeyTerms, digest_of_key, key_text
from tests.fakes.clock import START
from tests.integration.gateway_world import (
    CLOCK,
    GENERATE,
    HEALTH_CHECK,
    HOST,
    World,
    a_fleet,
    eventually,
    peer_request,
    string_field,
)
from tests.integration.picker_world import a_picked_world, a_routed_model

pytestmark = pytest.mark.integration

CHAT = "/v1/chat/completions"
CONTROL = "/openengine.v1.Control/Abort"
# Of one block of SHA-256 and of two.
EVERY = key_text("every", "A" * 43)
FIRST = key_text("for-the-first-model-alone", "b-_9" * 10 + "xyz")
SLOW, ENDED = key_text("slow", "S" * 43), key_text("ended", "E" * 43)
SPENDS = 3


def a_key(text: str, *deployments: str, rpm: int = 0, ends: Any = None) -> ApiKey:
    return ApiKey(
        name=text[3:].partition("_")[0],
        digest=digest_of_key(text),
        terms=KeyTerms(deployments=deployments, requests_per_minute=rpm),
        expires_at=ends,
    )


KEYS = (
    a_key(EVERY, "*"),
    a_key(FIRST, "d1"),
    a_key(SLOW, "*", rpm=SPENDS, ends=START.replace(year=2200)),
    a_key(ENDED, "*", ends=START.replace(year=2020)),
)


async def give_keys(world: World, plane: str, *keys: ApiKey) -> None:
    one = world.planes[plane]
    one.topology = replace(one.topology, api_keys=keys)
    await world.settled(plane, await one.publish())


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[World]:
    async with a_fleet(tmp_path) as fleet:
        await give_keys(fleet, "a", *KEYS)
        yield fleet


def bearer(text: str) -> dict[str, str]:
    return {"authorization": f"Bearer {text}"}


@asynccontextmanager
async def asked(
    world: World, text: str = "", model: str = "m1", headers: dict[str, str] | None = None
) -> AsyncIterator[Any]:
    told = {**(bearer(text) if text else {}), **(headers or {})}
    url = world.planes["a"].url + CHAT
    async with world.client.post(url, json={"model": model}, headers=told) as response:
        yield response


async def grpc_code(
    world: World, text: str, path: str = GENERATE, model: str = "m1"
) -> tuple[grpc.StatusCode, str]:
    port = world.planes["a"].topology.listen.public_port
    metadata = (("authorization", f"Bearer {text}"),) if text else ()
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_stream(path)
        call = method(string_field(2, model), metadata=metadata, timeout=10)
        try:
            async for _ in call:
                pass
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
    return grpc.StatusCode.OK, ""


async def test_only_who_shows_a_key_is_in_and_no_engine_sees_it(world: World) -> None:
    for text in (EVERY, FIRST, SLOW):
        async with asked(world, text) as response:
            assert response.status == 200, text
    wrong = EVERY[:-1] + "B"
    for text in ("", "x", wrong, "sk-every_", EVERY + "A", ENDED, "x" * 8_000):
        async with asked(world, text) as response:
            error = (await response.json())["error"]
            assert (response.status, error["code"]) == (401, "invalid_api_key"), text
            assert response.headers["www-authenticate"] == "Bearer"
            assert response.headers["x-skerry-plane"] == "a"
            assert response.headers["x-request-id"]
    seen = world.engines["a1"].requests
    assert len(seen) == 3
    assert all("authorization" not in one and "sk-" not in str(one) for one in seen)
    assert [one["x-skerry-key"] for one in seen] == ["every", "for-the-first-model-alone", "slow"]


async def test_two_credentials_are_none_and_a_name_in_a_header_is_not_heard(world: World) -> None:
    url = world.planes["a"].url + CHAT
    both = [("authorization", f"Bearer {FIRST}"), ("authorization", f"Bearer {EVERY}")]
    async with world.client.post(url, json={"model": "m2"}, headers=both) as response:
        assert response.status == 401
    async with asked(world, FIRST, headers={"x-skerry-key": "every"}) as response:
        assert response.status == 200
    assert world.engines["a1"].requests[-1]["x-skerry-key"] == "for-the-first-model-alone"


async def test_a_key_is_for_its_deployments_whatever_the_body_says(world: World) -> None:
    async with asked(world, FIRST, "m2") as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (403, "model_not_allowed")
        assert response.headers["x-skerry-plane"] == "a"
    assert world.engines["a2"].requests == []
    async with asked(world, EVERY, "m2") as response:
        assert response.status == 200
    async with asked(world, FIRST, "m3") as response:
        message = (await response.json())["error"]["message"]
        assert response.status == 404
        assert "served: m1" in message
        assert "m2" not in message


async def test_a_key_sees_its_own_models(world: World) -> None:
    url = f"{world.planes['a'].url}/v1/models"
    for text, path, known in (
        (EVERY, "", ["m1", "m2"]),
        (FIRST, "", ["m1"]),
        (FIRST, "?limit=1", ["m1"]),
    ):
        async with world.client.get(url + path, headers=bearer(text)) as response:
            assert [one["id"] for one in (await response.json())["data"]] == known
    for path, status in (("/m1", 200), ("/m2", 403), ("/m3", 404)):
        async with world.client.get(url + path, headers=bearer(FIRST)) as response:
            assert response.status == status
            assert path == "/m2" or "m2" not in await response.text()
    async with world.client.get(url) as response:
        assert response.status == 401
    async with world.client.get(f"{world.planes['a'].url}/health") as response:
        assert response.status == 200, "whoever asks whether it lives has no key"


async def test_a_key_has_its_requests_a_minute_and_then_429_for_it_alone(world: World) -> None:
    for _ in range(SPENDS):
        async with asked(world, SLOW) as response:
            assert response.status == 200
    async with asked(world, SLOW) as response:
        error = (await response.json())["error"]
        assert (response.status, error["code"]) == (429, "rate_limit_exceeded")
        assert error["type"] == "rate_limit_error"
        assert response.headers["retry-after"] == str(60 // SPENDS)
        assert response.headers["x-skerry-plane"] == "a"
    assert (await grpc_code(world, SLOW))[0] is grpc.StatusCode.RESOURCE_EXHAUSTED
    async with asked(world, EVERY) as response:
        assert response.status == 200


async def test_grpc_is_asked_for_the_same(world: World) -> None:
    assert await grpc_code(world, EVERY, model="m2") == (grpc.StatusCode.OK, "")
    assert await grpc_code(world, FIRST) == (grpc.StatusCode.OK, "")
    code, details = await grpc_code(world, "")
    assert code is grpc.StatusCode.UNAUTHENTICATED
    assert "no API key" in details
    assert "{" not in details
    code, details = await grpc_code(world, FIRST, model="m2")
    assert code is grpc.StatusCode.PERMISSION_DENIED
    assert "not for that" in details
    assert (await grpc_code(world, EVERY, model="m3"))[0] is grpc.StatusCode.NOT_FOUND
    # The front speaks for all replicas.
    assert (await grpc_code(world, FIRST, CONTROL))[0] is grpc.StatusCode.PERMISSION_DENIED
    assert (await grpc_code(world, EVERY, CONTROL))[0] is grpc.StatusCode.OK
    assert (await grpc_code(world, "", CONTROL))[0] is grpc.StatusCode.UNAUTHENTICATED
    port = world.planes["a"].topology.listen.public_port
    async with grpc.aio.insecure_channel(f"{HOST}:{port}") as channel:
        method: Any = channel.unary_unary(HEALTH_CHECK)
        assert await method(b"", timeout=10) == b"\x08\x01"


async def test_a_peer_takes_what_was_let_in_without_a_key_and_outsiders_need_one(
    world: World,
) -> None:
    await give_keys(world, "b")
    await world.engines["a1"].kill()
    async with asked(world, EVERY) as response:
        assert (response.status, (await response.json())["engine"]) == (200, "b1")
    seen = world.engines["b1"].requests[-1]
    assert seen["x-skerry-key"] == "every"
    assert "authorization" not in seen
    assert (await world.chat("b"))[0] == 401, "none is let in where there are no keys"
    named = {"x-skerry-deployment": "d1", "content-type": "application/json"}
    async with peer_request(world, "b", "POST", CHAT, named) as response:
        assert response.status != 401, "with a peer's certificate only"


async def test_a_key_that_is_revoked_or_new_counts_once_the_gateway_has_heard(
    world: World,
) -> None:
    new = key_text("new", "N" * 43)
    await give_keys(world, "a", *(key for key in KEYS if key.name != "every"), a_key(new, "*"))
    async with asked(world, EVERY) as response:
        assert response.status == 401
    async with asked(world, new) as response:
        assert response.status == 200


async def test_keys_are_checked_by_a_gateway_that_was_started_from_its_files_alone(
    world: World,
) -> None:
    plane = world.planes["a"]
    await plane.kill()
    assert b"sk-" not in b"".join(
        path.read_bytes() for path in plane.folder.rglob("*.json") if path.is_file()
    )
    ends = CLOCK.now() + timedelta(seconds=1)
    soon = key_text("soon", "Z" * 43)
    plane.topology = replace(plane.topology, api_keys=(*KEYS, a_key(soon, "*", ends=ends)))
    published = await plane.publish()
    plane.start()
    await world.settled("a", published)
    async with asked(world, EVERY) as response:
        assert response.status == 200
    async with asked(world) as response:
        assert response.status == 401

    async def has_ended() -> bool:
        async with asked(world, soon) as response:
            return bool(response.status == 401)

    await eventually(has_ended)


async def test_a_key_has_no_more_requests_at_once_than_it_may_and_a_dead_picker_lets_go_on(
    tmp_path: Path,
) -> None:
    bounded = key_text("bounded", "C" * 43)
    key = a_key(bounded, "*")
    key = replace(key, terms=replace(key.terms, concurrent_requests=1))
    async with a_picked_world(tmp_path) as picked:
        world, engine = picked.world, await picked.engine("a1")
        one = world.planes["a"]
        one.topology = replace(one.topology, api_keys=(key, a_key(EVERY, "*")))
        await picked.publish("a", a_routed_model("1", engine, routing={"queue_requests_max": 0}))
        engine.may_answer.clear()
        async with asyncio.TaskGroup() as group:
            answers = [group.create_task(status_of(world, bounded))]
            await picked.shows("a", "skerry_picker_open_requests", 1)
            async with asked(world, bounded) as response:
                error = (await response.json())["error"]
                assert (response.status, error["code"]) == (429, "concurrency_limit_exceeded")
                assert response.headers["retry-after"] == "1"
            code, details = await grpc_code(world, bounded)
            assert code is grpc.StatusCode.RESOURCE_EXHAUSTED
            assert "under way" in details
            await picked.pickers["a"].kill()
            answers += [group.create_task(status_of(world, text)) for text in (bounded, EVERY)]
            engine.may_answer.set()
        assert [answer.result() for answer in answers] == [200, 200, 200]


async def status_of(world: World, text: str) -> int:
    async with asked(world, text) as response:
        return int(response.status)
