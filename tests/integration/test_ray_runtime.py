"""What a plane on Ray lives through: launcher, raylet and head killed under its replicas."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import psutil
import pytest
import pytest_asyncio

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Exhausted, Unavailable
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import is_alive, record_of
from tests.integration.ray_record import keep
from tests.integration.ray_world import POOL, RayWorld, ray_settings, stand_in_command
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.own_nodes import HUNG_SECONDS_MAX, read_processes
from workload_plane.replicas.ray.runtime import RayRuntime
from workload_plane.replicas.records import ReplicaRecord, record_path

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.integration,
    pytest.mark.ray_faults,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RayWorld]:
    directory = tmp_path_factory.mktemp("ray")
    world = RayWorld(directory, ray_settings(directory), stand_in_command)
    yield world
    await world.close()


@pytest_asyncio.fixture(loop_scope="module")
async def runtime(world: RayWorld) -> AsyncIterator[RayRuntime]:
    runtime = world.runtime()
    await world.open(runtime)
    yield runtime
    for one in await runtime.list():
        await runtime.stop(one.record, 5.0)
    assert await runtime.list() == ()
    await world.close_runtimes()


def _order(name: str, *nodes: str, accelerators: int = 2) -> ReplicaOrder:
    return ReplicaOrder(
        name=f"demo-r1-{name}",
        deployment="demo",
        revision=1,
        pool=POOL,
        served_name="demo",
        engine=EngineSpec(name=EngineName.SIMULATED),
        nodes=nodes,
        accelerators=accelerators,
    )


async def _started(runtime: RayRuntime, order: ReplicaOrder) -> ReplicaRecord:
    await runtime.start(order)
    while True:
        for one in await runtime.list():
            if one.record.name == order.name and one.record.engine_pid:
                return one.record
        await SystemClock().sleep(0.1)


async def _only(runtime: RayRuntime) -> LiveReplica:
    (one,) = await runtime.list()
    return one


def _ray_process(world: RayWorld, node: str, name: str) -> int:
    """Return the pid of a process of a Ray node, found below the node that we started."""
    top = psutil.Process(read_processes(world.settings)[node].pid)
    (pid,) = (one.pid for one in top.children(recursive=True) if name in " ".join(one.cmdline()))
    return int(pid)


async def test_a_replica_runs_on_the_node_that_was_chosen(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n2"))
    assert record.nodes == ("n2",)
    on_n2 = world.directory / "nodes" / "n2" / "replicas"
    assert record_path(on_n2, record.name).exists()
    # Nothing of Ray's is above it, so that nothing of Ray's can take it along.
    assert psutil.Process(record.pid).ppid() == 1
    assert "RAY_AUTH_TOKEN_PATH" not in psutil.Process(record.pid).environ()
    assert psutil.Process(record.pid).nice() <= psutil.Process().nice()
    # Ray gives the same accelerators to nobody else.
    with pytest.raises(Exhausted, match="n2"):
        await runtime.start(_order("bbbbbb", "n2"))
    assert [one.record.name for one in await runtime.list()] == [record.name]


async def test_a_replica_over_two_nodes_holds_both_and_listens_on_the_first(
    runtime: RayRuntime,
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n1", "n2", accelerators=6))
    assert record.nodes == ("n1", "n2")
    for node in record.nodes:
        with pytest.raises(Exhausted, match=node):
            await runtime.start(_order("bbbbbb", node, accelerators=1))


async def test_a_killed_launcher_costs_no_replica_and_a_new_one_comes(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n1", accelerators=1))
    os.kill(_ray_process(world, "n1", "ray::Launcher"), signal.SIGKILL)
    await world.open(runtime)
    assert (await _only(runtime)).record == record
    assert (await _only(runtime)).alive
    other = await _started(runtime, _order("bbbbbb", "n1", accelerators=1))
    assert other.nodes == ("n1",)


async def test_a_killed_raylet_costs_no_replica_and_its_node_takes_nothing_meanwhile(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n2"))
    os.kill(_ray_process(world, "n2", "raylet/raylet"), signal.SIGKILL)
    closed = False
    while not closed:
        one = await _only(runtime)
        assert one.alive, one.fault
        closed = "n2" in runtime.supply.closed
        await world.clock.sleep(0.1)
    # For a moment the control plane is not told: a raylet that is started again is back by then.
    assert {node.name for node in runtime.supply.nodes if node.ready} == {"n1", "n2"}
    await world.open(runtime)
    one = await _only(runtime)
    assert (one.alive, one.record.pid) == (True, record.pid)
    with pytest.raises(Exhausted, match="n2"):  # it is held again, under the new raylet
        await runtime.start(_order("bbbbbb", "n2"))


async def test_with_its_head_gone_nothing_ends_nothing_starts_and_all_is_adopted(
    world: RayWorld, runtime: RayRuntime
) -> None:
    first = await _started(runtime, _order("aaaaaa", "n1"))
    second = await _started(runtime, _order("bbbbbb", "n2"))
    os.kill(_ray_process(world, "n1", "gcs_server"), signal.SIGKILL)
    while not runtime.supply.stopped:
        assert all(one.alive for one in await runtime.list())
        await world.clock.sleep(0.2)
    with pytest.raises(Unavailable, match="nothing new starts"):
        await runtime.start(_order("cccccc", "n1", accelerators=1))
    # What the control plane is told of nodes stands, with the reason.
    assert {(node.ready, bool(node.message)) for node in runtime.supply.nodes} == {(True, True)}
    # An engine that dies meanwhile is confirmed gone without Ray: it was of this machine.
    os.kill(second.engine_pid, signal.SIGKILL)
    while all(one.alive for one in await runtime.list()):
        await world.clock.sleep(0.1)
    await runtime.kill(second, "it ended")
    assert not is_alive(second.host_process)  # type: ignore[arg-type]
    assert not await is_listening(second.host, second.health_port)
    await world.open(runtime)
    live = {one.record.name: one for one in await runtime.list()}
    assert live[first.name].alive
    assert live[first.name].record.pid == first.pid
    # Reserved before anything else is: a restarted Ray believed them free.
    with pytest.raises(Exhausted, match="n1"):
        await runtime.start(_order("dddddd", "n1"))
    await _started(runtime, _order("eeeeee", "n2", accelerators=3))


async def test_a_head_that_hangs_does_not_hang_the_agent(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n1"))
    head = _ray_process(world, "n1", "gcs_server")
    os.kill(head, signal.SIGSTOP)
    try:
        while not runtime.supply.stopped:
            began = world.clock.monotonic()
            one = await _only(runtime)
            assert world.clock.monotonic() - began < 4.0
            assert (one.alive, one.record.pid) == (True, record.pid)
    finally:
        os.kill(head, signal.SIGCONT)
    await world.open(runtime)
    assert (await _only(runtime)).record.pid == record.pid


async def test_a_head_that_hangs_on_is_started_again_and_costs_no_replica(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n1"))
    head = _ray_process(world, "n1", "gcs_server")
    hung = record_of(head)
    os.kill(head, signal.SIGSTOP)
    stopped_at = world.clock.monotonic()
    async with asyncio.timeout(60.0):
        while not runtime.supply.stopped:  # each look is the agent's loop's
            await runtime.list()
    told = world.clock.monotonic() - stopped_at
    with pytest.raises(Unavailable, match="nothing new starts"):
        await runtime.start(_order("bbbbbb", "n2", accelerators=1))
    async with asyncio.timeout(HUNG_SECONDS_MAX + 60.0):
        while is_alive(hung):
            one = await _only(runtime)
            assert (one.alive, one.record.pid) == (True, record.pid)
            await world.clock.sleep(1.0)
    await world.open(runtime)
    back = world.clock.monotonic() - stopped_at
    keep("the agent's own head stopped", told_seconds=told, another_serves_seconds=back)
    assert (await _only(runtime)).record.pid == record.pid
    with pytest.raises(Exhausted, match="n1"):  # held again, in the new head's books
        await runtime.start(_order("cccccc", "n1"))
    await _started(runtime, _order("dddddd", "n2", accelerators=3))


async def test_an_agent_that_begins_without_ray_knows_its_replicas(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _started(runtime, _order("aaaaaa", "n1"))
    blind = world.runtime_apart()
    (one,) = await blind.list()
    assert (one.alive, one.record.pid, one.known) == (True, record.pid, True)
    assert blind.supply.stopped
    assert [node.name for node in blind.supply.nodes] == ["n1", "n2"]
