"""Two gateways with a picker each before the same replicas: a session has one replica at both."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.routing import RoutingPolicy
from tests.integration.gateway_world import generate
from tests.integration.picker_world import PickedWorld, a_picked_world, a_routed_model
from workload_plane.picker.wire import SESSION_HEADER

pytestmark = pytest.mark.integration

GATEWAYS = ("a", "b")
ASKS_MAX = 3
SESSIONS = tuple(f"session-{number}" for number in range(24))
SHORT = [{"role": "user", "content": "hello"}]


async def asked(
    picked: PickedWorld, gateway: str, headers: dict[str, str] | None = None, **body: Any
) -> str:
    """Return which replica the picker chose, once the gateway knows that it has answered.

    A picker that is not heard within 100 ms, as on a busy machine, chooses nothing: asked again.
    """
    url = f"{picked.world.planes[gateway].url}/v1/chat/completions"
    told = {"model": "m1", "messages": SHORT, **body}
    for _ in range(ASKS_MAX):
        before = await steered(picked, gateway)
        async with picked.world.client.post(url, json=told, headers=headers) as response:
            assert response.status == 200
            replica = (await response.json())["engine"]
        # What is still counted as under way would send the session's next request elsewhere.
        await picked.shows(gateway, "skerry_picker_open_requests", 0)
        if await steered(picked, gateway) > before:
            assert isinstance(replica, str)
            return replica
    raise AssertionError(f"{ASKS_MAX} requests were sent without the picker")


async def steered(picked: PickedWorld, gateway: str) -> float:
    """Return how many requests the gateway's picker has chosen a replica for."""
    values = await picked.metrics(gateway)
    return sum(
        value
        for name, value in values.items()
        if name.startswith("skerry_picker_requests_total") and "steered" in name
    )


async def by_session(picked: PickedWorld, gateway: str) -> dict[str, str]:
    """Return the replica of every session through one of the gateways."""
    return {one: await asked(picked, gateway, {SESSION_HEADER: one}) for one in SESSIONS}


async def test_a_session_has_the_same_replica_through_either_gateway(tmp_path: Path) -> None:
    async with a_picked_world(tmp_path) as picked:
        engines = [await picked.engine(f"r{number}") for number in range(4)]
        model = a_routed_model("1", *engines, routing={"policy": RoutingPolicy.SESSION})
        # The second learns of them in another order, as agents may list what runs.
        other = replace(model, replicas=model.replicas[::-1])
        for gateway, told in zip(GATEWAYS, (model, other), strict=True):
            await picked.publish(gateway, told)

        first, second = [await by_session(picked, gateway) for gateway in GATEWAYS]
        assert first == second
        assert set(first.values()) == {engine.name for engine in engines}, "and all have some"

        for key in ("user", "prompt_cache_key", "session_id"):
            body: dict[str, Any] = {key: "ann"}
            assert len({await asked(picked, one, **body) for one in GATEWAYS}) == 1, key
        for session in SESSIONS[:6]:
            for gateway in GATEWAYS:
                metadata = {SESSION_HEADER: session}
                answer = await generate(picked.world, gateway, "m1", **metadata)
                await picked.shows(gateway, "skerry_picker_open_requests", 0)
                assert answer == first[session], "over gRPC too"

        # One goes: its sessions move, to the same place at both, and nobody else's does.
        leaving = first[SESSIONS[0]]
        for gateway, told in zip(GATEWAYS, (model, other), strict=True):
            fewer = tuple(replace(r, draining=r.name == leaving) for r in told.replicas)
            await picked.publish(gateway, replace(told, replicas=fewer))
            await picked.shows(gateway, 'skerry_picker_usable_replicas{deployment="d1"}', 3)
        first_after, second_after = [await by_session(picked, gateway) for gateway in GATEWAYS]
        assert first_after == second_after
        assert leaving not in first_after.values()
        assert {one for one in SESSIONS if first_after[one] != first[one]} == {
            one for one in SESSIONS if first[one] == leaving
        }

        # Without one of the gateways the other goes on as before.
        await picked.world.planes["b"].kill()
        await picked.pickers["b"].kill()
        assert await by_session(picked, "a") == first_after
