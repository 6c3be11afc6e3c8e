"""What a connection looks at by itself: with its heartbeats, by as few timers as may be."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.desired import TAKES_LOADS
from tests.unit.workload_plane.link.test_connection import World, counted
from workload_plane.link.connection import LOADS_LOOK_SECONDS_MAX


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.hold())
        await world.clock.run_for(0)
        yield world
        task.cancel()


async def welcome(world: World, period_seconds: float) -> None:
    period_ms = round(1000 * period_seconds)
    welcome = messages.Welcome(
        heartbeat_period_ms=period_ms, heartbeat_timeout_ms=3 * period_ms, features=(TAKES_LOADS,)
    )
    world.stream.answers.put_nowait(messages.ConnectResponse(welcome=welcome))
    await world.clock.run_for(0.01)


@pytest.mark.parametrize("period_seconds", [0.05, 0.7, 1.0, 2.0, 7.0])
async def test_a_count_is_told_within_two_seconds_however_seldom_heartbeats_come(
    world: World, period_seconds: float
) -> None:
    await welcome(world, period_seconds)
    for number in range(1, 12):
        world.side.counted = counted(float(number))
        await world.clock.run_for(LOADS_LOOK_SECONDS_MAX + 0.01)
        told = world.stream.said("loads")
        assert [one.loads[0].reading.requests_total for one in told] == [*range(1, number + 1)]


@pytest.mark.parametrize("period_seconds", [1.0, 2.0, 7.0])
async def test_heartbeats_keep_their_period_whatever_is_looked_at(
    world: World, period_seconds: float
) -> None:
    await welcome(world, period_seconds)
    await world.clock.run_for(42.0)
    beats = len(world.stream.said("heartbeat"))
    assert beats == pytest.approx(42.0 / period_seconds, abs=1)


async def test_a_link_at_rest_waits_for_two_moments_the_next_heartbeat_and_silence(
    world: World,
) -> None:
    await welcome(world, 2.0)
    await world.clock.run_for(1.0)
    assert world.clock.sleepers == 2
