"""A replica over two Ray nodes: its ranks are placed, taken for and ended with it.

The engine is the simulated one, which is a driver of Ray's with a rank on each node, as
TensorRT-LLM and vLLM are; its host is the real one.
"""

import asyncio
import os
import signal
from collections.abc import AsyncIterator

import aiohttp
import psutil
import pytest
import pytest_asyncio

from skerry.fleet.engine import EngineName, EngineSpec, Parallelism
from skerry.plumbing.errors import Exhausted
from skerry.plumbing.processes import is_alive
from tests.integration.ray_record import keep
from tests.integration.ray_world import NODES, POOL, RayWorld, ray_settings
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.own_nodes import read_processes
from workload_plane.replicas.ray.runtime import RayRuntime
from workload_plane.replicas.records import ReplicaRecord

pytestmark = [
    pytest.mark.asyncio(loop_scope="module"),
    pytest.mark.integration,
    pytest.mark.ray_faults,
    pytest.mark.slow,
    pytest.mark.timeout(600),
]

# Importing Ray, joining it and two actors' starts: 10 s on a quiet machine. An engine that was
# started against a dead head tries it for a minute or two before it ends and is started again.
SERVES_SECONDS_MAX = 300.0
# Ray ends a driver that has lost its head for a minute, and the actors with it.
HEAD_LOST_SECONDS_MAX = 180.0


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def world(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RayWorld]:
    directory = tmp_path_factory.mktemp("ray")
    world = RayWorld(directory, ray_settings(directory))
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


def _order(name: str, *nodes: str, accelerators: int) -> ReplicaOrder:
    return ReplicaOrder(
        name=f"demo-r1-{name}",
        deployment="demo",
        revision=1,
        pool=POOL,
        served_name="demo",
        engine=EngineSpec(
            name=EngineName.SIMULATED, parallelism=Parallelism(tensor=3, pipeline=len(nodes))
        ),
        nodes=nodes,
        accelerators=accelerators,
    )


def _ranks(world: RayWorld) -> dict[str, list[int]]:
    """Return the ranks' processes by the node whose raylet they are children of."""
    found: dict[str, list[int]] = {}
    for node, process in read_processes(world.settings).items():
        if not is_alive(process):
            continue
        below = psutil.Process(process.pid).children(recursive=True)
        found[node] = [one.pid for one in below if "ray::Rank" in " ".join(one.cmdline())]
    return {node: pids for node, pids in found.items() if pids}


async def _answers(record: ReplicaRecord) -> bool:
    body = {"model": "demo", "prompt": "hello", "max_tokens": 4}
    url = f"http://{record.host}:{record.http_port}/v1/completions"
    try:
        async with aiohttp.ClientSession() as session, session.post(url, json=body) as answer:
            return answer.status == 200
    except aiohttp.ClientError:
        return False


async def _serving(world: RayWorld, runtime: RayRuntime, name: str) -> ReplicaRecord:
    async with asyncio.timeout(SERVES_SECONDS_MAX):
        while True:
            one = await _only(runtime)
            assert one.record.name == name
            if one.alive and one.record.http_port and await _answers(one.record):
                return one.record
            await world.clock.sleep(0.2)


async def _only(runtime: RayRuntime) -> LiveReplica:
    (one,) = await runtime.list()
    return one


async def _two_nodes(world: RayWorld, runtime: RayRuntime, name: str) -> ReplicaRecord:
    started = await runtime.start(_order(name, *NODES, accelerators=6))
    return await _serving(world, runtime, started.name)


async def test_a_rank_is_on_each_node_and_both_nodes_are_taken_until_it_is_killed(
    world: RayWorld, runtime: RayRuntime
) -> None:
    record = await _two_nodes(world, runtime, "aaaaaa")
    assert record.nodes == NODES
    ranks = _ranks(world)
    assert {node: len(pids) for node, pids in ranks.items()} == {"n1": 1, "n2": 1}
    for node in NODES:  # in Ray's view every accelerator of both is taken
        with pytest.raises(Exhausted, match=node):
            await runtime.start(_order("bbbbbb", node, accelerators=1))
    await runtime.kill(record, "a test")
    # Confirmed gone before anybody else may have the accelerators, also on the other node.
    assert not any(psutil.pid_exists(pid) for pids in ranks.values() for pid in pids)
    assert not is_alive(record.host_process)  # type: ignore[arg-type]
    await runtime.forget(record.name)
    for node in NODES:
        await runtime.start(_order(f"cccc{node}", node, accelerators=3))
    assert {one.record.nodes for one in await runtime.list()} == {("n1",), ("n2",)}


async def test_a_killed_rank_ends_the_engine_which_its_host_starts_again(
    world: RayWorld, runtime: RayRuntime
) -> None:
    before = await _two_nodes(world, runtime, "aaaaaa")
    (rank,) = _ranks(world)["n2"]
    os.kill(rank, signal.SIGKILL)
    async with asyncio.timeout(SERVES_SECONDS_MAX):
        while (await _only(runtime)).record.engine_pid == before.engine_pid:
            await world.clock.sleep(0.1)
    after = await _serving(world, runtime, before.name)
    assert after.pid == before.pid
    assert {node: len(pids) for node, pids in _ranks(world).items()} == {"n1": 1, "n2": 1}
    assert rank not in _ranks(world)["n2"]


async def test_a_replica_over_nodes_dies_with_the_head_and_serves_once_it_is_back(
    world: RayWorld, runtime: RayRuntime
) -> None:
    before = await _two_nodes(world, runtime, "aaaaaa")
    top = psutil.Process(read_processes(world.settings)["n1"].pid)
    (head,) = (p.pid for p in top.children(recursive=True) if "gcs_server" in p.name())
    os.kill(head, signal.SIGKILL)
    killed_at = world.clock.monotonic()
    async with asyncio.timeout(HEAD_LOST_SECONDS_MAX):
        while await _answers(before):
            await world.clock.sleep(0.2)
    ended = world.clock.monotonic() - killed_at
    keep("head killed under a replica over two nodes", replica_ended_seconds=ended)
    await world.open(runtime)
    one = await _only(runtime)
    if not one.alive:  # its host gave up meanwhile: the plane would start another one
        await runtime.kill(one.record, one.fault)
        await runtime.forget(one.record.name)
        await _two_nodes(world, runtime, "bbbbbb")
    else:
        await _serving(world, runtime, before.name)
    assert {node: len(pids) for node, pids in _ranks(world).items()} == {"n1": 1, "n2": 1}
