"""The runtime `ray` over machines that cannot be looked at from here: lost, silent, back again."""

from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.fleet.pool import PoolShape
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.ray_cluster import FakeRayCluster, engine_died
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray import runtime as ray_module
from workload_plane.replicas.ray.cluster import RayPlace
from workload_plane.replicas.ray.runtime import RayRuntime
from workload_plane.replicas.ray.settings import RayPool, RaySettings
from workload_plane.replicas.ray.values import Fault
from workload_plane.replicas.records import record_path

SHAPE = PoolShape(
    name="gpu",
    accelerator="H100-80G",
    accelerator_memory_bytes=1,
    nodes=0,
    accelerators_per_node=4,
    host_memory_bytes=1,
)


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> FakeRayCluster:
    async def nobody_listens(host: str, port: int) -> bool:
        return False

    monkeypatch.setattr(ray_module, "is_listening", nobody_listens)
    return FakeRayCluster("n1", "n2")


def _runtime(home: Path, cluster: FakeRayCluster) -> RayRuntime:
    settings = RaySettings(
        pools=(RayPool(name="gpu", labels={"skerry.io/pool": "gpu"}, resource="GPU"),),
        token_file=home / "token",
        temp_dir=home / "temp",
        data_dir=home / "ray",
        address="10.0.0.5:6379",
    )
    place = RayPlace(
        plane="here",
        shapes=(SHAPE,),
        settings=settings,
        replicas_dir=home / "replicas",
        logs_dir=home / "logs",
    )
    return RayRuntime(place, cluster, None, FakeClock())


def _order(name: str, *nodes: str, accelerators: int = 2) -> ReplicaOrder:
    return ReplicaOrder(
        name=f"demo-r1-{name}",
        deployment="demo",
        revision=1,
        pool="here--gpu",
        served_name="demo",
        engine=EngineSpec(name=EngineName.SIMULATED),
        nodes=nodes,
        accelerators=accelerators,
        pool_devices=tuple(range(4 * max(1, len(nodes)))),
    )


async def _listed(runtime: RayRuntime) -> dict[str, LiveReplica]:
    return {one.record.name: one for one in await runtime.list()}


async def test_it_holds_the_accelerators_first_and_starts_on_the_node_afterwards(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n2"))
    assert cluster.log == ["reserve skerry/here/demo-r1-a", "start demo-r1-a on n2"]
    assert (record.nodes, record.host, record.devices) == (("n2",), "127.0.0.9", (0, 1))
    with pytest.raises(Conflict):
        await runtime.start(_order("a", "n1"))
    await runtime.stop(record, 5.0)
    assert (await runtime.list(), cluster.groups) == ((), {})


async def test_accelerators_that_others_hold_in_ray_are_not_taken(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    cluster.groups["a stranger's"] = (("n1-1",), 3.0)
    with pytest.raises(Exhausted, match="somebody else"):
        await runtime.start(_order("a", "n1"))
    assert await runtime.list() == ()
    assert cluster.nodes["n1"].replicas == {}


async def test_a_restarted_ray_is_told_what_is_held_before_anything_starts(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    await runtime.start(_order("a", "n1", accelerators=4))
    cluster.restart()
    cluster.log.clear()
    await runtime.start(_order("b", "n2"))
    assert cluster.log[0] == "reserve skerry/here/demo-r1-a"
    assert set(cluster.groups) == {"skerry/here/demo-r1-a", "skerry/here/demo-r1-b"}


async def test_while_ray_is_gone_replicas_are_taken_to_live_and_are_not_given_up(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n1"))
    cluster.fault = "Ray's head does not answer"
    (one,) = await runtime.list()
    assert (one.alive, one.known) == (True, True)
    assert "does not answer" in one.fault
    with pytest.raises(Unavailable, match="nothing new starts"):
        await runtime.start(_order("b", "n2"))
    with pytest.raises(Unavailable, match="is not gone"):
        await runtime.kill(record, "it hangs")
    assert await runtime.gone(frozenset({"demo-r1-x"})) == frozenset()
    # Also for an agent that begins meanwhile.
    (again,) = await _runtime(tmp_path, cluster).list()
    assert (again.alive, again.record.pid) == (True, record.pid)


async def test_a_replica_of_a_lost_node_is_replaced_and_ended_when_the_node_is_back(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n1"))
    cluster.nodes["n1"].alive = False
    assert (await _listed(runtime))["demo-r1-a"].alive  # nothing is known yet
    await runtime.kill(record, "it was not healthy for 10 s")
    lost = (await _listed(runtime))["demo-r1-a"]
    assert (lost.record.state, lost.fault) == (ReplicaState.FAILED, "its node n1 is lost")
    await runtime.forget("demo-r1-a")
    await runtime.start(_order("b", "n2"))

    # Its machine was only cut off: what still runs there is ended before anything starts there,
    # also by another agent.
    cluster.nodes["n1"].alive = True
    cluster.log.clear()
    runtime = _runtime(tmp_path, cluster)
    await runtime.start(_order("c", "n1", accelerators=4))
    assert cluster.log[0] == "end demo-r1-a on n1"
    assert set(await _listed(runtime)) == {"demo-r1-b", "demo-r1-c"}


async def test_a_replica_that_answers_on_a_node_that_does_not_is_never_given_up(
    tmp_path: Path, cluster: FakeRayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def somebody_listens(host: str, port: int) -> bool:
        return True

    monkeypatch.setattr(ray_module, "is_listening", somebody_listens)
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n1"))
    cluster.nodes["n1"].alive = False
    with pytest.raises(Unavailable, match="is not gone: node n1 cannot be asked"):
        await runtime.kill(record, "its deployment is gone")
    assert (await _listed(runtime))["demo-r1-a"].alive


async def test_a_start_of_which_nothing_is_heard_is_undone(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    cluster.start_fault = Fault(kind="Unavailable", message="Ray did not answer within 60 s")
    with pytest.raises(Unavailable, match="did not answer"):
        await runtime.start(_order("a", "n1"))
    assert cluster.nodes["n1"].replicas == {}
    assert (await runtime.list(), cluster.groups) == ((), {})


async def test_a_silent_launcher_closes_its_node_and_changes_nothing_else(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    await runtime.start(_order("a", "n1"))
    cluster.nodes["n1"].silent = True
    assert (await _listed(runtime))["demo-r1-a"].alive
    assert runtime.supply.closed == {"n1"}
    assert [node.ready for node in runtime.supply.nodes] == [True, True]


async def test_lost_records_come_back_from_the_nodes(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    before = await runtime.start(_order("a", "n1", "n2", accelerators=8))
    record_path(tmp_path / "replicas", before.name).unlink()
    (one,) = await _runtime(tmp_path, cluster).list()
    assert (one.alive, one.record.pid) == (True, before.pid)
    assert (one.record.nodes, one.record.accelerators) == (("n1", "n2"), 8)


async def test_a_host_that_restarts_its_engine_is_not_ready_meanwhile(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n1"))
    await runtime.mark(record.name, ReplicaState.READY, start_seconds=3.0)
    told = cluster.nodes["n1"].replicas
    told[record.name] = engine_died(told[record.name])
    (one,) = await runtime.list()
    assert (one.record.state, one.record.restarts) == (ReplicaState.STARTING, 1)
