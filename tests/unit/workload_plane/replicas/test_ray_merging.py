"""What is known of a replica on a Ray node, and what its node is told to start."""

from dataclasses import replace

import pytest

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.node import Node
from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from workload_plane.replicas.apart import without_ray
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.merging import adopted, judge, node_order, nodes_wanted
from workload_plane.replicas.ray.values import Fault
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.supply import Supply

RECORD = ReplicaRecord(
    name="demo-r1-aaaaaa",
    deployment="demo",
    revision=1,
    pool="here--h100",
    accelerators=16,
    nodes=("n1", "n2"),
    state=ReplicaState.READY,
)
TOLD = replace(
    RECORD, pid=7, engine_pid=8, boot_id="b", host="10.0.0.7", state=ReplicaState.STARTING
)
ORDER = ReplicaOrder(
    name=RECORD.name,
    deployment="demo",
    revision=1,
    pool="here--h100",
    served_name="demo",
    engine=EngineSpec(name=EngineName.SIMULATED),
    accelerators=16,
    pool_devices=tuple(range(16)),
    nodes=("n1", "n2"),
)


ENDED = "the engine ended; it is restarted"


def test_the_processes_are_the_nodes_word_and_the_state_is_the_planes() -> None:
    record = adopted(RECORD, TOLD)
    assert (record.pid, record.engine_pid, record.host) == (7, 8, "10.0.0.7")
    assert record.state is ReplicaState.READY


def test_an_engine_that_was_restarted_is_starting_again() -> None:
    record = adopted(RECORD, replace(TOLD, restarts=1, failures=1, message=ENDED))
    assert (record.state, record.restarts, record.failures) == (ReplicaState.STARTING, 1, 1)
    assert record.message == ENDED


def test_what_nobody_can_ask_about_is_taken_to_live() -> None:
    assert judge(RECORD, None, "Ray does not list it", ()).alive
    assert judge(RECORD, None, "", {RECORD.name}).alive
    gone = judge(RECORD, None, "", ())
    assert (gone.alive, gone.fault) == (False, "its node knows nothing of its host")
    dead = LiveReplica(record=TOLD, alive=False, fault="its host is gone")
    assert judge(RECORD, dead, "", ()).fault == "its host is gone"


def test_a_node_is_told_its_share_and_its_own_devices() -> None:
    part = node_order(ORDER, ("n1", "n2"))
    assert (part.accelerators, part.pool_devices) == (8, tuple(range(8)))


def test_an_order_without_nodes_gets_one_that_is_open() -> None:
    nodes = tuple(Node(name=name, pool="h100", accelerators=8) for name in ("n1", "n2"))
    supply = Supply(shapes=(), nodes=nodes, closed=frozenset({"n1"}))
    anywhere = replace(ORDER, nodes=())
    assert nodes_wanted(anywhere, supply) == ("n2",)
    with pytest.raises(Exhausted):
        nodes_wanted(replace(anywhere, pool="here--a100"), supply)


def test_errors_keep_their_kind_across_processes() -> None:
    assert isinstance(Fault.of(Conflict("x")).error(), Conflict)
    error = Fault.of(RuntimeError("lost")).error()
    assert isinstance(error, Unavailable)
    assert error.message == "RuntimeError: lost"


def test_nothing_of_ray_is_in_a_replicas_environment() -> None:
    env = {
        "PATH": "/bin",
        "RAY_AUTH_TOKEN_PATH": "/t",
        "OMP_NUM_THREADS": "1",
        "CUDA_VISIBLE_DEVICES": "",
    }
    assert without_ray(env) == {"PATH": "/bin"}
    assert without_ray({"CUDA_VISIBLE_DEVICES": "0"}) == {"CUDA_VISIBLE_DEVICES": "0"}
