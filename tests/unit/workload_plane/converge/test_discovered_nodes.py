"""Discovered nodes: unfit ones take nothing, and without the runtime nothing starts."""

from dataclasses import replace

from skerry.fleet.observation import ReplicaState
from tests.unit.workload_plane.converge.test_plan import (
    NOW,
    POOL,
    a_deployment,
    a_replica,
    start,
    wants,
)
from workload_plane.converge.actions import FenceReplica
from workload_plane.converge.nodes import devices_of, nodes_held
from workload_plane.converge.plan import decide
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica

GONE = "Ray's head does not answer"
TWO = SeenPool(
    name=POOL,
    accelerator="cpu",
    accelerators=4,
    nodes=("n1", "n2"),
    accelerators_per_node=2,
    numbered_by_node=True,
)


def _sees(pool: SeenPool, *replicas: SeenReplica) -> Observed:
    return Observed(replicas=replicas, pools=(pool,))


def test_an_unfit_node_takes_nothing_and_what_runs_there_stays() -> None:
    there = a_replica(nodes=("n1",))
    pool = replace(TWO, unfit=frozenset({"n1"}))
    assert decide(wants(2), _sees(pool, there), NOW).actions == (start(nodes=("n2",)),)


def test_while_nothing_can_start_the_plan_waits_and_says_why() -> None:
    decision = decide(wants(2), _sees(replace(TWO, stopped=GONE), a_replica(nodes=("n1",))), NOW)
    assert decision.actions == ()
    assert [wait.reason for wait in decision.waits] == [GONE]


def test_nobody_makes_room_for_what_cannot_start() -> None:
    old = [
        a_replica(name=f"demo-r1-{name}", nodes=(node,))
        for name, node in (("a", "n1"), ("b", "n1"), ("c", "n2"), ("d", "n2"))
    ]
    wanted = wants(4, a_deployment(revision=2))
    assert decide(wanted, _sees(replace(TWO, stopped=GONE), *old), NOW).actions == ()
    assert decide(wanted, _sees(TWO, *old), NOW).actions


def test_what_ended_is_fenced_all_the_same() -> None:
    dead = a_replica(alive=False, fault="its engine is gone", nodes=("n1",))
    (action,) = decide(wants(1), _sees(replace(TWO, stopped=GONE), dead), NOW).actions
    assert action == FenceReplica(name=dead.name, reason="its engine is gone")
    failed = replace(dead, state=ReplicaState.FAILED)
    assert decide(wants(1), _sees(replace(TWO, stopped=GONE), failed), NOW).actions == ()


def test_devices_are_numbered_within_their_node() -> None:
    assert devices_of(TWO, ("n2",)) == (0, 1)
    assert nodes_held(TWO, ("n2",), (0, 1)) == ("n2",)
