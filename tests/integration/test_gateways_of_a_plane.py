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
SESSIONS = tuple(f"session-{number}" for number in range(24))
UNASKED = 'skerry_picker_unasked_requests{deployment="d1"}'
SHORT = [{"role": "user", "content": "hello"}]


async def asked(
    picked: PickedWorld, gateway: str, headers: dict[str, str] | None = None, **body: Any
) -> str:
    """Return which replica answered, once the gateway knows that it has."""
    url = f"{picked.world.planes[gateway].url}/v1/chat/completions"
    told = {"model": "m1", "messages": SHORT, **body}
    async with picked.world.client.post(url, json=told, headers=headers) as response:
        assert response.status == 200
        replica = (await response.json())["engine"]
    # What is still counted as under way there would send the session's next request elsewhere:
    # what the picker was asked about, and what it last heard of the gateway's own count beside.
    await picked.shows(gateway, "skerry_picker_open_requests", 0)
    await picked.shows(gateway, UNASKED, 0)
    assert isinstance(replica, str)
    return replica


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
                await picked.shows(gateway, UNASKED, 0)
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
