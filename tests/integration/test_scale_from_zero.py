"""A deployment at zero gets its first replica from the plane itself, and nobody asked in vain."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import aiohttp
import pytest

from skerry.fleet.placement import Envelope
from tests.integration.agent_world import PLANE, POOL, AgentWorld, a_deployment, a_desired


@pytest.fixture(params=["", "x" * 100], ids=["short path", "path too long for sockets"])
async def world(tmp_path: Path, request: pytest.FixtureRequest) -> AsyncIterator[AgentWorld]:
    """A plane with its agent and its link, without gateway and picker."""
    world = AgentWorld(tmp_path / request.param)
    await world.start_link()
    world.start_agent()
    try:
        yield world
    finally:
        await world.close()


async def test_twenty_requests_wait_for_the_first_replica_with_the_control_plane_dead(
    world: AgentWorld,
) -> None:
    desired = a_desired(1, 0, a_deployment())
    (assignment,) = desired.assignments
    envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=0, ceiling=1)
    granted = replace(assignment, envelopes=(envelope,), serving_planes=(PLANE,))
    await world.link.pushes.put(replace(desired, assignments=(granted,)))
    await world.until(lambda: "demo" in _text(world.data_dir / "picker.json"))
    await world.stop_link()
    assert world.replicas() == ()
    world.run("workload_plane.picker.main")
    world.start_gateway()
    async with aiohttp.ClientSession() as session:
        await until_it_listens(world, session, "http/demo")
        answers = await asyncio.gather(*(world.ask(session) for _ in range(20)))
        assert [status for status, _ in answers] == [200] * 20, answers
        await world.ready(1)


def _text(path: Path) -> str:
    return path.read_text() if path.is_file() else ""


async def until_it_listens(
    world: AgentWorld, session: aiohttp.ClientSession, cluster_name: str
) -> None:
    """Wait until the gateway is up and knows the deployment, its picker and its waiting room."""
    url = f"http://127.0.0.1:{world.gateway['admin_port']}/clusters?format=json"
    while True:
        try:
            async with session.get(url) as answer:
                clusters = (await answer.json(content_type=None))["cluster_statuses"]
        except aiohttp.ClientError:
            clusters = []
        hosts = {
            host.get("hostname") or cluster["name"]: host["health_status"]
            for cluster in clusters
            if cluster["name"] in ("picker", cluster_name)
            for host in cluster.get("host_statuses", ())
        }
        if hosts.keys() == {"picker", "_waiting-room"} and not any(
            health.get("failed_active_health_check") or health.get("pending_active_hc")
            for health in hosts.values()
        ):
            return
        await world.clock.sleep(0.1)
