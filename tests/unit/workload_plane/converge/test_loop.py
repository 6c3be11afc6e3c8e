"""The loop with everything faked but itself: it brings replicas up, ends them, and never stops."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.deployment import BaseModel, ResourceShape
from skerry.fleet.desired import DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.node import NodeCordon
from skerry.fleet.observation import UNKNOWN, ReplicaState, Unknown
from skerry.plumbing.ids import SystemIds
from tests.fakes.clock import FakeClock
from tests.fakes.replica_runtime import FakeReplicaRuntime
from tests.unit.workload_plane.converge.test_plan import POOL, a_deployment, wants
from workload_plane.converge.apply import Applier, StartTerms, engine_to_run, replica_name
from workload_plane.converge.discover import GatewayView, Memory
from workload_plane.converge.loop import ConvergeLoop, LoopParts
from workload_plane.converge.seen import SeenPool, StartBackoff
from workload_plane.models.local_checks import LocalChecks
from workload_plane.replicas.port import ReplicaOrder, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord


@dataclass
class FakeProbe:
    """Healthy unless told otherwise; nothing in flight."""

    hung: set[str] = field(default_factory=set)
    broken: bool = False
    loading: bool = False

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        if self.broken:
            raise RuntimeError("a mistake of ours")
        return record.name not in self.hung and not self.loading

    async def in_flight(self, record: ReplicaRecord) -> int | None:
        return 0


@dataclass
class Desired:
    state: DesiredState | Unknown = UNKNOWN


class RoutesAll:
    """A gateway that routes to whatever is there."""

    def __init__(self, runtime: FakeReplicaRuntime) -> None:
        self._runtime = runtime

    @property
    def view(self) -> GatewayView:
        return GatewayView(known=True, routable=frozenset(self._runtime.records))


ORDER = ReplicaOrder(
    name="demo-r1-a",
    deployment="demo",
    revision=1,
    pool=POOL,
    served_name="demo",
    engine=EngineSpec(name=EngineName.SIMULATED),
)
EIGHT = SeenPool(name=POOL, accelerator="cpu", accelerators=8)
TWO_NODES = SeenPool(
    name=POOL, accelerator="cpu", accelerators=4, nodes=("n1", "n2"), accelerators_per_node=2
)


class World:
    def __init__(
        self,
        pools: tuple[SeenPool, ...] = (EIGHT,),
        model_dir: Path = Path("/nowhere"),
        on: Callable[[FakeClock], ReplicaRuntime] | None = None,
    ) -> None:
        self.clock = FakeClock()
        self.runtime = FakeReplicaRuntime()
        runtime = self.runtime if on is None else on(self.clock)
        self.probe = FakeProbe()
        self.desired = Desired()
        self.wake, self.changed = asyncio.Event(), asyncio.Event()
        self.memory = memory = Memory()
        self.checks = LocalChecks((model_dir,), self.wake, self.clock)
        terms = StartTerms(
            model_dirs=(model_dir,),
            engine_override=None,
            pools=lambda: pools,
            local_checks=self.checks,
        )
        ids = SystemIds(self.clock)
        self.loop = ConvergeLoop(
            LoopParts(
                runtime=runtime,
                probe=self.probe,
                desired=self.desired,
                gateway=RoutesAll(self.runtime),
                applier=Applier(runtime, memory, terms, self.wake, self.clock, ids),
                memory=memory,
                pools=lambda: pools,
                clock=self.clock,
                local_checks=self.checks,
            ),
            self.wake,
            self.changed,
        )

    async def run_for(self, seconds: float) -> None:
        await self.clock.run_for(seconds)

    def states(self) -> list[tuple[int, str]]:
        return sorted((r.revision, r.state.value) for r in self.runtime.records.values())

    def ready(self) -> list[str]:
        return [r.name for r in self.runtime.records.values() if r.state is ReplicaState.READY]


@pytest.fixture
async def world() -> AsyncIterator[World]:
    world = World()
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        yield world
        task.cancel()


async def test_replicas_come_up_roll_over_and_go(world: World) -> None:
    world.desired.state = wants(2)
    await world.run_for(3)
    assert world.states() == [(1, "ready"), (1, "ready")]
    world.desired.state = wants(2, a_deployment(revision=2))
    await world.run_for(20)
    assert world.states() == [(2, "ready"), (2, "ready")]
    world.desired.state = wants(0, a_deployment(revision=2))
    await world.run_for(10)
    assert world.states() == []


async def test_a_crash_is_noticed_without_waiting_for_a_tick(world: World) -> None:
    world.desired.state = wants(1)
    await world.run_for(20)
    (name,) = world.runtime.records
    world.runtime.crash(name)
    await world.run_for(0.2)
    assert name not in world.runtime.records
    assert len(world.runtime.records) == 1


async def test_an_agent_stopped_between_its_look_and_its_decision_ends_nobody(
    world: World,
) -> None:
    world.desired.state = wants(1)
    await world.run_for(3)
    (first,) = world.ready()
    marked = world.runtime.mark

    async def stopped(name: str, state: ReplicaState, **rest: Any) -> None:
        # The one that came up is written down, and the other did not answer this look.
        await marked(name, state, **rest)
        world.clock.advance(10.0)
        world.probe.hung.clear()

    world.runtime.mark = stopped  # type: ignore[assignment, method-assign]
    world.probe.hung.add(first)
    world.desired.state = wants(2)
    await world.run_for(5)
    assert first in world.ready()


async def test_a_hung_replica_is_killed_and_replaced(world: World) -> None:
    world.desired.state = wants(1)
    await world.run_for(20)
    (name,) = world.runtime.records
    world.probe.hung.add(name)
    await world.run_for(5)
    assert list(world.runtime.records) == [name]
    await world.run_for(6)
    assert world.states() == [(1, "ready")]
    assert f"kill {name}" in world.runtime.log


async def test_a_replica_whose_engine_restarts_is_waited_for_as_long_as_a_start_takes(
    world: World,
) -> None:
    world.desired.state = wants(1)
    await world.run_for(20)
    (name,) = world.runtime.records
    # As the runtime reads it from what the host wrote.
    await world.runtime.mark(name, ReplicaState.STARTING, "the engine ended by itself")
    world.probe.loading = True
    await world.run_for(60)
    assert list(world.runtime.records) == [name]
    world.probe.loading = False
    await world.run_for(2)
    assert world.states() == [(1, "ready")]
    assert world.runtime.records[name].message == ""
    world.probe.hung.add(name)  # and a hang after it is one again
    await world.run_for(15)
    assert name not in world.runtime.records


async def test_a_replica_that_does_not_die_is_not_doubled(world: World) -> None:
    world.desired.state = wants(1)
    await world.run_for(20)
    (name,) = world.runtime.records
    world.runtime.stuck.add(name)
    world.runtime.crash(name)
    await world.run_for(30)
    assert list(world.runtime.records) == [name]
    world.runtime.stuck.clear()
    await world.run_for(40)
    assert world.states() == [(1, "ready")]


async def test_a_missing_model_is_told_and_not_tried_without_end(world: World) -> None:
    demo = a_deployment()
    missing = replace(
        demo,
        revision=replace(
            demo.revision,
            engine=EngineSpec(name=EngineName.LLAMACPP),
            base_model=BaseModel(uri="builtin://absent", served_name="demo"),
        ),
    )
    world.desired.state = wants(1, missing)
    await world.run_for(300)
    (record,) = world.runtime.records.values()
    assert record.state is ReplicaState.FAILED
    assert "put it there" in record.message
    assert 8 <= record.restarts <= 20


async def test_a_failed_turn_costs_one_turn(world: World) -> None:
    world.desired.state = wants(1)
    await world.run_for(2)
    world.probe.broken = True
    await world.run_for(5)
    world.probe.broken = False
    world.desired.state = wants(2)
    await world.run_for(3)
    assert world.states() == [(1, "ready"), (1, "ready")]


async def test_unknown_desired_keeps_everything(world: World) -> None:
    world.desired.state = wants(2)
    await world.run_for(3)
    before = dict(world.runtime.records)
    world.desired.state = UNKNOWN
    await world.run_for(3_600)
    assert world.runtime.records == before


async def test_a_replica_with_an_unreadable_record_is_neither_doubled_nor_touched(
    world: World,
) -> None:
    world.desired.state = wants(1)
    await world.run_for(20)
    (name,) = world.runtime.records
    world.runtime.unreadable.add(name)
    before, log = dict(world.runtime.records), list(world.runtime.log)
    for target in (1, 3, 0):
        world.desired.state = wants(target)
        await world.run_for(60)
    assert (world.runtime.records, world.runtime.log) == (before, log)
    world.runtime.unreadable.clear()
    await world.run_for(60)
    assert world.states() == []


async def test_failures_are_remembered_as_long_as_their_deployment_exists(world: World) -> None:
    world.memory.backoffs = {
        (name, 1): StartBackoff(deployment=name, revision=1, failures=3, retry_at=1e9)
        for name in ("demo", "gone")
    }
    world.desired.state = UNKNOWN
    await world.run_for(5)
    assert set(world.memory.backoffs) == {("demo", 1), ("gone", 1)}
    world.desired.state = wants(1)
    await world.run_for(5)
    assert set(world.memory.backoffs) == {("demo", 1)}


def test_a_plane_may_run_another_engine_than_was_asked_for() -> None:
    asked = EngineSpec(
        name=EngineName.LLAMACPP, context_tokens=64, concurrent_requests=3, options=(("a", "b"),)
    )
    assert engine_to_run(asked, None) == asked
    assert engine_to_run(asked, EngineName.SIMULATED) == EngineSpec(
        name=EngineName.SIMULATED, context_tokens=64, concurrent_requests=3
    )


def test_a_replica_is_named_after_its_deployment_and_revision() -> None:
    assert replica_name("demo", 3, "abc123") == "demo-r3-abc123"
    assert len(replica_name("d" * 63, 12, "abc123")) == 63


async def test_what_died_with_the_machine_comes_back_at_once_and_all_together() -> None:
    world = World()
    world.desired.state = wants(3)
    for name in ("demo-r1-a", "demo-r1-b", "demo-r1-c"):
        await world.runtime.start(replace(ORDER, name=name))
        await world.runtime.mark(name, ReplicaState.READY)
        world.runtime.crash(name)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        await world.run_for(0.5)
        task.cancel()
    assert world.states() == [(1, "ready")] * 3
    assert not world.runtime.dead.keys() & world.runtime.records.keys()


@pytest.fixture
async def nodes() -> AsyncIterator[World]:
    """Return a world with two nodes of two accelerators each."""
    world = World((TWO_NODES,))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        yield world
        task.cancel()


def _emptying(target: int, *draining: str) -> DesiredState:
    cordons = tuple(NodeCordon(node=node, draining=True) for node in draining)
    return replace(wants(target), node_cordons=cordons)


def _nodes(world: World) -> list[tuple[str, ...]]:
    return sorted(record.nodes for record in world.runtime.records.values())


async def test_a_draining_node_is_emptied_and_what_ran_there_runs_elsewhere(nodes: World) -> None:
    nodes.desired.state = wants(2)
    await nodes.run_for(3)
    assert _nodes(nodes) == [("n1",), ("n1",)]
    nodes.desired.state = _emptying(2, "n1")
    await nodes.run_for(20)
    assert _nodes(nodes) == [("n2",), ("n2",)]
    assert nodes.states() == [(1, "ready"), (1, "ready")]
    assert nodes.loop.waits == ()


async def test_why_a_draining_node_is_not_empty_is_logged_once(
    nodes: World, caplog: pytest.LogCaptureFixture
) -> None:
    nodes.desired.state = _emptying(2, "n1", "n2")
    await nodes.run_for(3)
    assert nodes.runtime.records == {}
    nodes.desired.state = wants(3)
    await nodes.run_for(3)
    before = set(nodes.runtime.records)
    nodes.desired.state = _emptying(3, "n1")
    await nodes.run_for(60)
    assert _nodes(nodes) == [("n1",), ("n2",), ("n2",)]
    assert len(before & set(nodes.runtime.records)) == 2
    told = [r for r in caplog.records if r.getMessage() == "node.not-emptied"]
    assert len(told) == 1
    assert [wait.draining for wait in nodes.loop.waits] == [("n1",)]
    nodes.desired.state = wants(3)
    await nodes.run_for(3)
    assert nodes.loop.waits == ()


async def test_a_replica_takes_the_devices_of_its_own_node() -> None:
    world = World((replace(TWO_NODES, accelerator="H100-80G"),))
    demo = a_deployment()
    shapes = (ResourceShape(accelerator="H100-80G", accelerators=2),)
    world.desired.state = wants(2, replace(demo, revision=replace(demo.revision, shapes=shapes)))
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        await world.run_for(3)
        task.cancel()
    held = {record.nodes: record.devices for record in world.runtime.records.values()}
    assert held == {("n1",): (0, 1), ("n2",): (2, 3)}


async def test_a_start_is_measured_up_to_the_first_answer(world: World) -> None:
    world.probe.loading = True
    world.desired.state = wants(1)
    await world.run_for(42)
    (record,) = world.runtime.records.values()
    assert (record.state, record.start_seconds) == (ReplicaState.STARTING, 0.0)
    world.probe.loading = False
    await world.run_for(2)
    (record,) = world.runtime.records.values()
    assert record.state is ReplicaState.READY
    assert record.start_seconds == pytest.approx(42, abs=1)
    assert [one.record.start_seconds for one in world.loop.replicas] == [record.start_seconds]
    await world.runtime.mark(record.name, ReplicaState.DRAINING, "why")
    assert world.runtime.records[record.name].start_seconds == record.start_seconds


async def test_the_start_of_an_adopted_replica_is_not_known() -> None:
    world = World()
    world.desired.state = wants(1)
    await world.runtime.start(ORDER)
    async with asyncio.TaskGroup() as group:
        task = group.create_task(world.loop.run())
        await world.run_for(5)
        task.cancel()
    (record,) = world.runtime.records.values()
    assert (record.state, record.start_seconds) == (ReplicaState.READY, 0.0)
