"""A start that takes long has its place, and nothing else waits for it."""

import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import ReplicaState
from tests.fakes.clock import FakeClock
from tests.fakes.ray_cluster import FakeRayCluster
from tests.unit.workload_plane.converge.test_loop import TWO_NODES, World
from tests.unit.workload_plane.converge.test_plan import (
    NOW,
    POOL,
    a_deployment,
    a_replica,
    sees,
    start,
    wants,
)
from tests.unit.workload_plane.replicas.test_ray_runtime import ray_runtime_on
from workload_plane.converge.condition import HUNG_SECONDS_MAX
from workload_plane.converge.plan import PROBING_FAILURES_MIN, plan
from workload_plane.converge.seen import SeenPool, StartBackoff

BEGINS = replace(a_replica("demo-r1-x"), state=ReplicaState.STARTING, busy=True, begins=True)
GPUS = SeenPool(
    name=POOL,
    accelerator="cpu",
    accelerators=4,
    nodes=("n1", "n2"),
    accelerators_per_node=2,
    numbered_by_node=True,
)


@asynccontextmanager
async def converging(world: World) -> AsyncIterator[None]:
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        yield
        task.cancel()


def both(*states: DesiredState) -> DesiredState:
    return replace(states[0], assignments=tuple(one for s in states for one in s.assignments))


async def test_what_is_started_elsewhere_and_what_hangs_do_not_wait_for_it() -> None:
    world = World((TWO_NODES,))
    world.desired.state = wants(3)
    async with converging(world):
        await world.run_for(20)
        serving = set(world.ready())
        assert len(serving) == 3  # two on n1, one on n2
        (there,) = [one.name for one in world.runtime.records.values() if one.nodes == ("n2",)]
        gone = next(one for one in serving if one != there)
        world.runtime.silent.add("n1")
        world.runtime.crash(gone)
        await world.run_for(5)
        assert gone not in world.runtime.records
        (shown,) = world.loop.awaiting
        assert (shown.state, shown.nodes) == (ReplicaState.STARTING, ("n1",))
        # Its place is kept, and nobody is started for it a second time.
        other = a_deployment("other")
        world.desired.state = both(wants(3), wants(2, other))
        await world.run_for(5)
        nodes = [(one.deployment, one.nodes) for one in world.runtime.records.values()]
        assert nodes.count(("other", ("n2",))) == 1
        assert len(nodes) == 3
        world.probe.hung.add(there)
        await world.run_for(HUNG_SECONDS_MAX + 2)
        assert f"kill {there}" in world.runtime.log
        world.runtime.silent.clear()
        world.runtime.heard.set()
        await world.run_for(5)
        assert shown.name in world.ready()
        assert world.loop.awaiting == ()


async def test_a_start_of_which_nothing_is_wanted_any_more_is_ended_once_it_has_begun() -> None:
    world = World((TWO_NODES,))
    world.runtime.silent.add("n1")
    world.desired.state = wants(1)
    async with converging(world):
        await world.run_for(5)
        world.desired.state = wants(0)
        await world.run_for(5)
        world.runtime.heard.set()
        await world.run_for(10)
        assert world.runtime.records == {}
        assert world.loop.awaiting == ()


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    async def inline(work: Callable[..., Any], *arguments: Any, **named: Any) -> Any:
        return work(*arguments, **named)

    # Time that is turned by hand waits for no thread.
    monkeypatch.setattr(asyncio, "to_thread", inline)


@pytest.mark.usefixtures("at_once")
async def test_a_launcher_that_never_answers_keeps_no_hung_engine_of_another_node(
    tmp_path: Path,
) -> None:
    cluster = FakeRayCluster("n1", "n2", accelerators=2)

    def on(clock: FakeClock) -> Any:
        return ray_runtime_on(tmp_path, cluster, clock, per_node=2)

    world = World((GPUS,), on=on)
    world.desired.state = wants(1)
    async with converging(world):
        await world.run_for(20)
        (name,) = [one.record.name for one in world.loop.replicas]
        (node,) = world.loop.replicas[0].record.nodes
        other = "n2" if node == "n1" else "n1"
        cluster.hanging.add(other)
        world.desired.state = both(wants(1), wants(1, a_deployment("large", accelerators=2)))
        await world.run_for(5)
        assert any(one.record.nodes == (other,) for one in world.loop.replicas)
        world.probe.hung.add(name)
        await world.run_for(HUNG_SECONDS_MAX + 2)
        assert f"end {name} on {node}" in cluster.log
        # What takes its place starts meanwhile, too.
        await world.run_for(5)
        assert cluster.log[-1].endswith(f"on {node}")
        assert cluster.log[-1].startswith("start demo-r1-")


def test_a_start_under_way_counts_against_the_surge() -> None:
    old = [a_replica(f"demo-r1-{name}") for name in "ab"]
    new = replace(BEGINS, name="demo-r2-x", revision=2)
    desired = wants(2, a_deployment(revision=2))
    assert plan(desired, sees(*old), NOW) == (start(2),)
    assert plan(desired, sees(*old, new), NOW) == ()


def test_nobody_makes_room_for_one_more_while_a_start_is_under_way() -> None:
    old = [a_replica(f"demo-r1-{name}") for name in "ab"]
    new = replace(BEGINS, name="demo-r2-x", revision=2)
    assert plan(wants(3, a_deployment(revision=2)), sees(*old, new, accelerators=3), NOW) == ()


def test_of_a_revision_that_fails_again_and_again_one_start_is_under_way() -> None:
    backoff = StartBackoff(deployment="demo", revision=1, failures=PROBING_FAILURES_MIN)
    seen = replace(sees(BEGINS), backoffs=(backoff,))
    assert plan(wants(3), seen, NOW) == ()
    assert plan(wants(3), replace(seen, replicas=()), NOW) == (start(1),)
