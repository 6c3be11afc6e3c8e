"""The runtime `ray` over machines that cannot be looked at from here: lost, silent, back again."""

import errno
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.fleet.pool import PoolShape
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from tests.fakes.clock import FakeClock
from tests.fakes.ray_cluster import FakeRayCluster, engine_died
from workload_plane.replicas import record_store
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray import cluster as cluster_module
from workload_plane.replicas.ray import runtime as ray_module
from workload_plane.replicas.ray.cluster import RayPlace
from workload_plane.replicas.ray.nodes import GRACE_SECONDS
from workload_plane.replicas.ray.runtime import RayRuntime
from workload_plane.replicas.ray.settings import RayPool, RaySettings
from workload_plane.replicas.ray.values import Fault, Rank
from workload_plane.replicas.records import ReplicaRecord, record_path, write_record

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


def _runtime(home: Path, cluster: FakeRayCluster, clock: FakeClock | None = None) -> RayRuntime:
    return ray_runtime_on(home, cluster, clock or FakeClock())


def ray_runtime_on(
    home: Path, cluster: FakeRayCluster, clock: FakeClock, per_node: int = 4
) -> RayRuntime:
    """Return a runtime on nodes of so many accelerators each."""
    settings = RaySettings(
        pools=(RayPool(name="gpu", labels={"skerry.io/pool": "gpu"}, resource="GPU"),),
        token_file=home / "token",
        temp_dir=home / "temp",
        data_dir=home / "ray",
        address="10.0.0.5:6379",
    )
    place = RayPlace(
        plane="here",
        shapes=(replace(SHAPE, accelerators_per_node=per_node),),
        settings=settings,
        replicas_dir=home / "replicas",
        logs_dir=home / "logs",
    )
    return RayRuntime(place, cluster, None, clock)


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
    cluster.groups["a stranger's"] = Counter({"n1-1": 3})
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


async def test_what_a_raylet_held_before_it_died_is_held_again_before_its_next_takes_anything(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    await runtime.start(_order("a", "n1", accelerators=4))
    # Ray still tells the group of the raylet before: what it held, its next believes free.
    cluster.nodes["n1"].raylet += "x"
    await runtime.list()
    assert runtime.supply.closed == {"n1"}
    await runtime.list()
    assert cluster.groups == {"skerry/here/demo-r1-a": {"n1-1x": 4}}
    await runtime.list()
    assert runtime.supply.closed == set()
    with pytest.raises(Exhausted):
        await runtime.start(_order("b", "n1", accelerators=4))


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


def _over_nodes(name: str, engine: EngineName = EngineName.TENSORRT_LLM) -> ReplicaOrder:
    order = _order(name, "n1", "n2", accelerators=8)
    return replace(order, engine=EngineSpec(name=engine))


async def test_a_replica_over_nodes_holds_every_accelerator_of_both(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_over_nodes("a"))
    assert (record.nodes, record.accelerators) == (("n1", "n2"), 8)
    assert cluster.groups["skerry/here/demo-r1-a"] == {"n1-1": 4, "n2-1": 4}
    assert cluster.log[-1] == "start demo-r1-a on n1"  # and nothing on the other one
    for node in ("n1", "n2"):
        with pytest.raises(Exhausted, match=node):
            await runtime.start(_order("b", node, accelerators=1))


async def test_an_accelerator_that_an_orphan_has_on_another_node_refuses_the_start(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    held = Fault(kind="Conflict", message="accelerator 3 of this host is held by 4711")
    cluster.device_faults["n2"] = held
    with pytest.raises(Conflict, match="held by 4711"):
        await runtime.start(_over_nodes("a"))
    assert (await runtime.list(), cluster.groups) == ((), {})
    # The simulated engine has no accelerators to lock.
    await runtime.start(_over_nodes("b", EngineName.SIMULATED))


async def test_ranks_are_seen_out_before_a_replica_over_nodes_is_gone(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_over_nodes("a"))
    cluster.ranks["skerry/here/demo-r1-a"] = (
        Rank(node_id="n1-1", pid=11),
        Rank(node_id="n2-1", pid=12),
        Rank(node_id="n2-1", pid=13),
    )
    cluster.rank_fault = Fault(kind="Unavailable", message="process 12 (rank) does not die")
    with pytest.raises(Unavailable, match="is not gone: its ranks on node n1: process 12"):
        await runtime.kill(record, "a test")
    cluster.rank_fault = None
    cluster.log.clear()
    cluster.groups["skerry/here/demo-r1-a"] = Counter({"n1-1": 4, "n2-1": 4})
    await runtime.kill(record, "a test")
    assert cluster.log == [
        "end demo-r1-a on n1",
        "see out 1 on n1",
        "see out 2 on n2",
    ]


async def test_a_replica_over_nodes_is_dead_once_a_node_of_its_ranks_is_lost(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    clock = FakeClock()
    runtime = _runtime(tmp_path, cluster, clock)
    await runtime.start(_over_nodes("a"))
    cluster.nodes["n2"].alive = False
    clock.advance(GRACE_SECONDS - 1.0)
    assert (await _listed(runtime))["demo-r1-a"].alive  # its raylet may be started again
    clock.advance(2.0)
    dead = (await _listed(runtime))["demo-r1-a"]
    assert (dead.alive, dead.fault) == (False, "node n2, which has ranks of it, is lost")
    cluster.fault = "Ray's head does not answer"
    assert (await _listed(runtime))["demo-r1-a"].alive  # nobody knows now


def _disk_is_full(directory: Path, record: ReplicaRecord) -> None:
    raise OSError(errno.ENOSPC, f"{directory / record.name}: no space left on device")


def _only_once() -> Callable[[Path, ReplicaRecord], None]:
    written: set[str] = set()

    def write(directory: Path, record: ReplicaRecord) -> None:
        if record.name in written:
            _disk_is_full(directory, record)
        written.add(record.name)
        write_record(directory, record)

    return write


async def test_a_full_disk_neither_hides_a_state_nor_stops_a_look(
    tmp_path: Path, cluster: FakeRayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = _runtime(tmp_path, cluster)
    record = await runtime.start(_order("a", "n1"))
    with monkeypatch.context() as full:
        full.setattr(record_store, "write_record", _disk_is_full)
        await runtime.mark(record.name, ReplicaState.DRAINING, "why")
        told = cluster.nodes["n1"].replicas
        told[record.name] = replace(told[record.name], restarts=3)
        (one,) = await runtime.list()
        assert (one.record.restarts, one.record.state) == (3, ReplicaState.DRAINING)
    await runtime.list()
    (kept,) = await _runtime(tmp_path, cluster).list()
    assert kept.record == one.record


async def test_a_start_that_cannot_be_written_down_in_the_end_is_a_start(
    tmp_path: Path, cluster: FakeRayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = _runtime(tmp_path, cluster)
    monkeypatch.setattr(record_store, "write_record", _only_once())
    record = await runtime.start(_order("a", "n1"))
    assert record.pid
    with pytest.raises(Conflict, match="exists already"):
        await runtime.refuse(_order("a", "n1"), "no space left")
    assert [one.record for one in await runtime.list()] == [record]


async def test_nodes_that_share_a_file_system_do_not_share_a_folder_of_logs(
    tmp_path: Path, cluster: FakeRayCluster
) -> None:
    await _runtime(tmp_path, cluster).list()
    await _runtime(tmp_path, cluster).list()
    folders = {place.node: place.logs_dir for place in cluster.places.values()}
    assert folders == {name: str(tmp_path / "nodes" / name / "logs") for name in ("n1", "n2")}


async def test_nodes_that_cannot_be_written_down_are_used_and_written_later(
    tmp_path: Path, cluster: FakeRayCluster, monkeypatch: pytest.MonkeyPatch
) -> None:
    runtime = _runtime(tmp_path, cluster)
    with monkeypatch.context() as full:
        full.setattr(cluster_module, "write_nodes", _disk_has_no_room)
        assert await runtime.list() == ()
        assert [node.name for node in runtime.supply.nodes] == ["n1", "n2"]
    await runtime.list()
    after = _runtime(tmp_path, cluster)
    assert [node.name for node in after.supply.nodes] == ["n1", "n2"]


def _disk_has_no_room(path: Path, nodes: object) -> None:
    raise OSError(errno.ENOSPC, f"{path}: no space left on device")
