"""A plane scales by its own loop under real load, with its control plane dead, and fails nobody.

Real agent, Envoy, picker and replicas with the simulated engine; the control plane is the test's
own end of the link.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import aiohttp
import pytest

from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.deployment import Scaling
from skerry.fleet.desired import DesiredState
from skerry.fleet.placement import Envelope
from skerry.plumbing.ports import fixed_port
from tests.integration.agent_world import HOST, PLANE, POOL, AgentWorld, a_deployment, a_desired
from tests.integration.open_loop import OpenLoop
from tests.integration.test_scale_from_zero import until_it_listens

pytestmark = pytest.mark.slow
CEILING = 4
DELAY_SECONDS = 8.0
UP_SECONDS_MAX = 60.0  # rounds of the loop, and starts of a few seconds each on shared cores
# Of four slots each; an answer takes a second.
OPTIONS = {"tpot-seconds": "0.02", "tpot-seconds-per-request": "0", "jitter": "0"}


@pytest.fixture
async def world(tmp_path: Path) -> AsyncIterator[AgentWorld]:
    """A plane whose loop turns every second, with its gateway, picker and link."""
    world = AgentWorld(tmp_path)
    world.configure(autoscale={"period_seconds": 1.0}, agent_port=fixed_port(HOST))
    await world.start_link()
    world.start_agent()
    try:
        yield world
    finally:
        await world.close()


def scaled(generation: int, floor: int, target: int, **scaling: Any) -> DesiredState:
    """Return a state in which `demo` may scale up to CEILING by the plane's own loop."""
    factors = {
        "min_replicas": floor,
        "max_replicas": CEILING,
        "window_seconds": 10.0,
        "scale_down_delay_seconds": DELAY_SECONDS,
        **scaling,
    }
    demo = replace(a_deployment(options=OPTIONS), scaling=Scaling(**factors))
    desired = a_desired(generation, target, demo)
    (assignment,) = desired.assignments
    envelope = Envelope(deployment="demo", pool=POOL, floor=floor, target=target, ceiling=CEILING)
    told = replace(
        assignment, envelopes=(envelope,), serving_planes=(PLANE,), scaling=ScalingTerms()
    )
    return replace(desired, assignments=(told,))


def loop_of(world: AgentWorld, session: aiohttp.ClientSession) -> OpenLoop:
    """Return a load through the plane's gateway."""
    return OpenLoop(world.public, "demo", session, world.clock)


def live(world: AgentWorld) -> int:
    """Return how many replicas are READY."""
    return len(world.replicas("ready"))


async def begin(world: AgentWorld, session: aiohttp.ClientSession, desired: DesiredState) -> None:
    """Push a state and start picker and gateway."""
    await world.link.pushes.put(desired)
    picker = world.data_dir / "picker.json"
    await world.until(lambda: picker.is_file() and "demo" in picker.read_text())
    world.run("workload_plane.picker.main")
    world.start_gateway()
    if desired.envelopes[0].target:
        await world.ready(desired.envelopes[0].target)
        await world.until_served(session)
    else:
        await until_it_listens(world, session, "http/demo")


async def test_a_load_step_is_answered_with_the_control_plane_dead_and_nobody_fails(
    world: AgentWorld,
) -> None:
    async with aiohttp.ClientSession() as session:
        await begin(world, session, scaled(1, 1, 1))
        load = loop_of(world, session)
        # Six in flight, then twelve, where a replica is for four and to be seven tenths full.
        await load.send(6.0, lambda: live(world) >= 2, UP_SECONDS_MAX)
        await world.stop_link()
        await load.send(12.0, lambda: live(world) == CEILING, UP_SECONDS_MAX)
        grown = world.status()["scaling"]["demo"]
        await world.ready(1)  # the load is over: down to the floor after the delay
        assert load.failed == []
        assert len(load.answers) > 20
    assert grown["target"] == CEILING, grown
    assert "because" in grown["decision"]
    changes = [line for line in world.log.splitlines() if "scaling.decided" in line]
    assert any("because=need" in line for line in changes), changes
    assert any("because=surplus" in line for line in changes), changes


async def test_to_zero_by_itself_and_back_with_the_request_held(world: AgentWorld) -> None:
    async with aiohttp.ClientSession() as session:
        await begin(world, session, scaled(1, 0, 0))
        await world.stop_link()
        load = loop_of(world, session)
        for _ in range(2):
            async with asyncio.TaskGroup() as group:
                for _ in range(5):
                    group.create_task(load.ask())
            assert load.failed == []
            await world.until(lambda: world.replicas() == ())
        assert load.answers == [""] * 10


async def test_an_agent_that_was_killed_holds_before_it_lets_anything_go(
    world: AgentWorld,
) -> None:
    async with aiohttp.ClientSession() as session:
        await begin(world, session, scaled(1, 1, 1))
        load = loop_of(world, session)
        await load.send(10.0, lambda: live(world) >= 3, UP_SECONDS_MAX)
        await world.stop_link()
        before, killed = live(world), world.status()["agent_id"]
        world.kill_agent()
        world.start_agent()
        await world.until(
            lambda: (
                world.status()["agent_id"] != killed
                and world.status().get("scaling", {}).get("demo")
            )
        )
        assert live(world) >= before
        assert world.status()["scaling"]["demo"]["target"] >= before
        await world.ready(1)
        assert load.failed == []


async def test_what_came_and_what_was_decided_is_told_and_shown(world: AgentWorld) -> None:
    async with aiohttp.ClientSession() as session:
        await begin(world, session, scaled(1, 1, 1))
        load = loop_of(world, session)
        await load.send(5.0, lambda: len(load.answers) >= 5, UP_SECONDS_MAX)

        def has_counted(loads: Any) -> bool:
            # Of the gateway's and of the engines' counters, which are read at times of their own.
            return any(
                one.reading.requests_total >= 5
                and one.reading.finished_total >= 1
                and one.reading.output_tokens_total >= load.tokens
                and one.reading.good_total > 0
                for one in loads.loads
            )

        (told,) = (await world.link.wait_for("loads", has_counted)).loads
        assert told.deployment == "demo"
        assert told.reading.judged_total >= told.reading.good_total
        assert told.decision.target >= 1
        assert told.decision.sentence.endswith(".")
        port = world.settings["agent_port"]
        async with session.get(f"http://{HOST}:{port}/metrics") as answer:
            page = await answer.text()
        assert 'skerry_plane_scaling_target_replicas{deployment="demo"}' in page
        assert 'skerry_plane_scaling_answers{deployment="demo",kind="judged"}' in page
