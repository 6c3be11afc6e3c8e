"""A candidate that fails in a full pool while nobody is there: this agent's loop and the next's."""

import asyncio

import pytest

from skerry.fleet.observation import ReplicaState
from tests.unit.workload_plane.converge.test_candidates import wants
from tests.unit.workload_plane.converge.test_loop import World
from tests.unit.workload_plane.converge.test_plan import POOL
from workload_plane.converge.grants import CANDIDATE_FAILURES_MAX
from workload_plane.converge.seen import SeenPool

THREE = SeenPool(name=POOL, accelerator="cpu", accelerators=3)
LOOK_SECONDS = 0.1


async def run_for(world: World, seconds: float, *, dies: bool = False) -> int:
    """Let time pass; return how many of the candidate began, each of which `dies` as it loads."""
    before = _began(world)
    world.probe.hung = Candidates() if dies else set()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        for _ in range(int(seconds / LOOK_SECONDS)):
            await world.clock.run_for(LOOK_SECONDS)
            for name, record in tuple(world.runtime.records.items()):
                is_loading = record.revision == 2 and record.state is ReplicaState.STARTING
                if dies and is_loading and name not in world.runtime.dead:
                    world.runtime.crash(name, "exit 1")
        task.cancel()
    return _began(world) - before


class Candidates(set[str]):
    """Every replica of the candidate: it loads, and does not answer yet."""

    def __contains__(self, name: object) -> bool:
        return str(name).startswith("demo-r2")


def _began(world: World) -> int:
    return sum(line.startswith("start demo-r2") for line in world.runtime.log)


@pytest.fixture
async def world() -> World:
    """A full pool in which revision 1 serves."""
    world = World((THREE,))
    world.desired.state = wants(3, 0)
    await run_for(world, 5)
    assert world.states() == [(1, "ready")] * 3
    return world


async def test_the_revision_that_serves_has_its_place_back_and_the_next_agent_knows_why(
    world: World,
) -> None:
    desired = world.desired.state = wants(3, 1)
    assert await run_for(world, 60, dies=True) == CANDIDATE_FAILURES_MAX
    assert world.states() == [(1, "ready")] * 3 + [(2, "failed")]
    assert any("failed 2 times in a row" in wait.reason for wait in world.loop.waits)
    after = World((THREE,))
    after.runtime.records = world.runtime.records
    after.desired.state = desired
    assert await run_for(after, 60, dies=True) == 0
    assert after.states() == [(1, "ready")] * 3 + [(2, "failed")]


async def test_told_of_it_anew_the_plane_tries_it_again(world: World) -> None:
    world.desired.state = wants(3, 1)
    await run_for(world, 60, dies=True)
    world.desired.state = wants(3, 0)
    await run_for(world, 5)
    assert world.states() == [(1, "ready")] * 3
    world.desired.state = wants(3, 1)
    assert await run_for(world, 60) == 1
    assert world.states() == [(1, "ready"), (1, "ready"), (2, "ready")]
