"""A deployment at zero gets its first replica when it is asked for, inside its ceiling."""

from dataclasses import replace

from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import UNKNOWN, ReplicaState
from skerry.fleet.placement import Envelope
from tests.unit.workload_plane.converge.test_plan import (
    NOW,
    POOL,
    a_deployment,
    a_replica,
    sees,
    start,
    wants,
)
from workload_plane.converge.actions import DrainReplica
from workload_plane.converge.demand import (
    IDLE_SECONDS_MAX,
    Demand,
    DeploymentDemand,
    woken,
)
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import Observed

ASKED = {"demo": DeploymentDemand(waiting=1, idle_seconds=0.0)}
IDLE = {"demo": DeploymentDemand(waiting=0, idle_seconds=IDLE_SECONDS_MAX)}


def at_zero(ceiling: int = 2) -> DesiredState:
    desired = wants(0)
    (assignment,) = desired.assignments
    envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=0, ceiling=ceiling)
    return replace(desired, assignments=(replace(assignment, envelopes=(envelope,)),))


def with_demand(observed: Observed, demand: Demand) -> Observed:
    return replace(observed, demand=demand)


def test_what_is_asked_for_gets_one_replica() -> None:
    assert plan(at_zero(), with_demand(sees(), ASKED), NOW) == (start(),)


def test_what_a_peer_answers_starts_nothing_here_but_keeps_what_runs() -> None:
    served = {"demo": DeploymentDemand(waiting=0, idle_seconds=0.0)}
    assert plan(at_zero(), with_demand(sees(), served), NOW) == ()
    assert plan(at_zero(), with_demand(sees(a_replica()), served), NOW) == ()


def test_one_that_is_there_or_starting_is_enough() -> None:
    for state in (ReplicaState.STARTING, ReplicaState.READY):
        there = sees(a_replica(state=state))
        assert plan(at_zero(), with_demand(there, ASKED), NOW) == ()


def test_no_ceiling_means_no_replica_whoever_asks() -> None:
    assert plan(at_zero(ceiling=0), with_demand(sees(), ASKED), NOW) == ()


def test_a_replica_that_nobody_asks_for_any_more_goes() -> None:
    there = sees(a_replica())
    just = {"demo": DeploymentDemand(waiting=0, idle_seconds=IDLE_SECONDS_MAX - 1)}
    assert plan(at_zero(), with_demand(there, just), NOW) == ()
    gone = (DrainReplica(name="demo-r1-a", reason="the target is 0"),)
    assert plan(at_zero(), with_demand(there, IDLE), NOW) == gone
    assert plan(at_zero(), with_demand(there, {}), NOW) == gone


def test_with_demand_unknown_what_runs_goes_on_and_nothing_starts() -> None:
    assert plan(at_zero(), with_demand(sees(a_replica()), UNKNOWN), NOW) == ()
    assert plan(at_zero(), with_demand(sees(), UNKNOWN), NOW) == ()


def test_a_target_above_zero_is_what_it_was() -> None:
    assert plan(wants(2), with_demand(sees(), ASKED), NOW) == (start(), start())


def test_of_several_pools_one_runs_it_and_that_which_has_it_already() -> None:
    envelopes = tuple(
        Envelope(deployment="demo", pool=pool, floor=0, target=0, ceiling=1) for pool in "ab"
    )
    assert woken(envelopes, (), ASKED) == {"a": 1}
    assert woken(envelopes, ("b",), ASKED) == {"b": 1}
    served = (*envelopes, Envelope(deployment="demo", pool="c", floor=0, target=1, ceiling=1))
    assert woken(served, (), ASKED) == {}


def test_a_deleted_deployment_is_not_started_for_anybody() -> None:
    desired = wants(0, a_deployment(), tombstone=True)
    assert plan(desired, with_demand(sees(), ASKED), NOW) == ()
