"""What the runtime `ray` relies on when it asks Ray, held by the bridge and by the tests' own.

The bridge's part runs under `make test-ray` only: it needs a cluster of its own.
"""

import asyncio
from collections.abc import AsyncIterator, Callable, Coroutine
from dataclasses import dataclass
from pathlib import Path

import pytest
import pytest_asyncio

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import Unavailable
from skerry.plumbing.ids import SystemIds
from tests.fakes.ray_cluster import FakeRayCluster
from tests.integration.ray_world import (
    ACCELERATORS_PER_NODE,
    NODES,
    PLANE,
    SHAPE,
    ray_settings,
    stand_in_command,
)
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.ray.cluster import RayConnection
from workload_plane.replicas.ray.connection import Connection
from workload_plane.replicas.ray.own_nodes import OwnNodes, end_own_nodes
from workload_plane.replicas.ray.values import (
    CREATED,
    LaunchPlace,
    NodeWord,
    RayLook,
    RayNode,
    bundles_of,
)
from workload_plane.replicas.records import ReplicaRecord

pytestmark = [pytest.mark.asyncio(loop_scope="module"), pytest.mark.timeout(300)]
RAY_MARKS = (pytest.mark.ray_faults, pytest.mark.integration, pytest.mark.slow)
UP_SECONDS = 120.0
SECONDS = 20.0


@dataclass(frozen=True)
class Bench:
    """A connection to two nodes, the resource of theirs, and how to let it be lost."""

    connection: RayConnection
    resource: str
    directory: Path
    lose: Callable[[], None]

    async def nodes(self) -> dict[str, RayNode]:
        seen: RayLook = await self.connection.ask("look", seconds=SECONDS)
        return {node.labels["skerry.io/node"]: node for node in seen.nodes if node.alive}

    async def place(self, name: str) -> LaunchPlace:
        node = (await self.nodes())[name]
        return LaunchPlace(
            plane=PLANE,
            node=name,
            node_id=node.node_id,
            replicas_dir=str(self.directory / name / "replicas"),
            logs_dir=str(self.directory / "logs"),
            host="127.0.0.1",
            command=stand_in_command,
        )

    async def words(self, *names: str) -> dict[str, NodeWord]:
        places = [await self.place(name) for name in names]
        async with _limit():
            while True:
                words = await self.connection.ask("words", places, seconds=SECONDS)
                if all(isinstance(word, NodeWord) for word in words.values()):
                    return dict(words)
                await SystemClock().sleep(0.2)  # launchers that are only being started


@pytest_asyncio.fixture(
    params=["fake", pytest.param("bridge", marks=RAY_MARKS)], scope="module", loop_scope="module"
)
async def bench(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Bench]:
    directory = tmp_path_factory.mktemp("ray")
    if request.param == "fake":
        fake = FakeRayCluster(*NODES, accelerators=ACCELERATORS_PER_NODE)
        yield Bench(fake, "GPU", directory, lambda: fake.doubt("it is gone"))
        return
    clock, settings = SystemClock(), ray_settings(directory)
    ids = SystemIds(clock)
    connection = Connection(PLANE, settings, directory / "logs", clock, ids)
    own = OwnNodes(settings, (SHAPE,), clock, ids)
    running = [_begin(own.run()), _begin(connection.run())]
    async with _limit():
        while connection.fault or len(await Bench(connection, "", directory, print).nodes()) < 2:
            await clock.sleep(0.2)
    yield Bench(connection, "CPU", directory, lambda: connection.doubt("it is gone"))
    for task in running:
        task.cancel()
    await end_own_nodes(settings, clock)


def _begin(work: Coroutine[None, None, None]) -> asyncio.Task[None]:
    return asyncio.ensure_future(work)  # noqa: TID251


def _limit() -> asyncio.Timeout:
    return asyncio.timeout(UP_SECONDS)


def _order(name: str) -> ReplicaOrder:
    return ReplicaOrder(
        name=name,
        deployment="demo",
        revision=1,
        pool=f"{PLANE}--cpu",
        served_name="demo",
        engine=EngineSpec(name=EngineName.SIMULATED),
        nodes=("n1",),
    )


async def test_a_look_lists_nodes_with_labels_and_accelerators(bench: Bench) -> None:
    nodes = await bench.nodes()
    assert set(nodes) == set(NODES)
    assert len({node.node_id for node in nodes.values()}) == len(NODES)
    assert {node.resources[bench.resource] for node in nodes.values()} == {ACCELERATORS_PER_NODE}


async def test_what_is_reserved_is_reserved_once_and_given_to_nobody_else(bench: Bench) -> None:
    ask = bench.connection.ask
    two = bundles_of([(await bench.nodes())["n1"].node_id], bench.resource, 2)
    assert await ask("reserve", "skerry/here/a", two, seconds=SECONDS) == CREATED
    assert await ask("reserve", "skerry/here/a", two, seconds=SECONDS) == CREATED
    assert await ask("reserve", "skerry/here/b", two, seconds=SECONDS) != CREATED
    await ask("release", "skerry/here/b", seconds=SECONDS)
    seen: RayLook = await ask("look", seconds=SECONDS)
    assert seen.groups == {"skerry/here/a": CREATED}
    await ask("release", "skerry/here/a", seconds=SECONDS)
    await ask("release", "skerry/here/a", seconds=SECONDS)


async def test_a_group_over_nodes_holds_all_of_each_and_tells_who_works_in_it(bench: Bench) -> None:
    ask = bench.connection.ask
    ids = [node.node_id for node in (await bench.nodes()).values()]
    whole = bundles_of(ids, bench.resource, ACCELERATORS_PER_NODE)
    assert await ask("ranks", "skerry/here/c", seconds=SECONDS) == ()
    assert await ask("reserve", "skerry/here/c", whole, seconds=SECONDS) == CREATED
    for node_id in ids:
        one = bundles_of([node_id], bench.resource, 1)
        assert await ask("reserve", "skerry/here/d", one, seconds=SECONDS) != CREATED
        await ask("release", "skerry/here/d", seconds=SECONDS)
    assert await ask("ranks", "skerry/here/c", seconds=SECONDS) == ()  # nobody does yet
    await ask("release", "skerry/here/c", seconds=SECONDS)


async def test_a_launcher_starts_tells_and_ends_the_replicas_of_its_node(bench: Bench) -> None:
    place = await bench.place("n1")
    assert set(await bench.words(*NODES)) == set(NODES)
    ask = bench.connection.ask
    call = ("call", place, "start", (_order("demo-r1-aaaaaa"),), SECONDS)
    record = await ask(*call, seconds=SECONDS)
    assert isinstance(record, ReplicaRecord)
    words = await bench.words(*NODES)
    assert [one.record.name for one in words["n1"].replicas] == ["demo-r1-aaaaaa"]
    assert words["n2"].replicas == ()
    for _ in range(2):  # a repeat is harmless
        await ask("call", place, "end", (record, 0.0), SECONDS, seconds=SECONDS)
    assert (await bench.words("n1"))["n1"].replicas == ()


async def test_a_lost_connection_says_so_at_once(bench: Bench) -> None:
    bench.lose()
    with pytest.raises(Unavailable, match="it is gone"):
        await bench.connection.ask("look", seconds=SECONDS)
