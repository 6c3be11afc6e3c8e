"""What the plane's own loop wants converges, inside the envelope; draining ones come back."""

from dataclasses import replace

from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.deployment import Scaling
from skerry.fleet.desired import DesiredState
from skerry.fleet.node import NodeCordon
from skerry.fleet.observation import ReplicaState
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
from workload_plane.converge.actions import DrainReplica, ReviveReplica
from workload_plane.converge.demand import DeploymentDemand
from workload_plane.converge.memory import after_look, first_sight
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import Observed

NEXT = a_deployment(revision=2).revision


def scales(floor: int, target: int, ceiling: int, **scaling: float) -> DesiredState:
    deployment = replace(
        a_deployment(),
        scaling=Scaling(min_replicas=0, max_replicas=9, **scaling),  # type: ignore[arg-type]
    )
    desired = wants(target, deployment)
    (assignment,) = desired.assignments
    envelope = Envelope(deployment="demo", pool=POOL, floor=floor, target=target, ceiling=ceiling)
    told = replace(assignment, envelopes=(envelope,), scaling=ScalingTerms())
    return replace(desired, assignments=(told,))


def wanting(observed: Observed, count: int) -> Observed:
    return replace(observed, wanted={("demo", POOL): count})


def test_the_planes_own_number_is_run_and_not_the_target() -> None:
    assert plan(scales(1, 1, 4), wanting(sees(a_replica()), 3), NOW) == (start(), start())
    two = sees(a_replica(), a_replica("demo-r1-b"))
    (drain,) = plan(scales(1, 2, 4), wanting(two, 1), NOW)
    assert drain == DrainReplica(name="demo-r1-b", reason="the target is 1")


def test_a_number_of_before_never_leaves_the_envelope_of_now() -> None:
    assert plan(scales(1, 1, 2), wanting(sees(a_replica()), 9), NOW) == (start(),)
    assert plan(scales(2, 2, 4), wanting(sees(a_replica()), 0), NOW) == (start(),)


def test_without_a_number_the_target_is_run() -> None:
    assert plan(scales(1, 2, 4), sees(a_replica()), NOW) == (start(),)


def test_an_agent_that_wants_nothing_yet_lets_nothing_go() -> None:
    three = sees(a_replica(), a_replica("demo-r1-b"), a_replica("demo-r1-c"))
    three = replace(three, wanted={})
    assert plan(scales(1, 1, 4), three, NOW) == ()
    (drain,) = plan(scales(1, 1, 2), three, NOW)  # the ceiling holds all the same
    assert isinstance(drain, DrainReplica)


def second(desired: DesiredState) -> DesiredState:
    """Return it with the next revision, which replaces the one that runs."""
    (assignment,) = desired.assignments
    told = replace(assignment, deployment=replace(assignment.deployment, revision=NEXT))
    return replace(desired, assignments=(told,))


def test_an_agent_that_wants_nothing_yet_lets_nothing_go_while_a_revision_replaces_another() -> (
    None
):
    old = [a_replica(f"demo-r1-{n}") for n in "abc"]
    begins = a_replica("demo-r2-a", revision=2, state=ReplicaState.STARTING, routable=False)
    there = replace(sees(*old, begins), wanted={})
    assert plan(second(scales(1, 1, 4)), there, NOW) == (), "what starts is the rollout's surge"
    serves = a_replica("demo-r2-b", revision=2)
    there = replace(sees(*old, serves), wanted={})
    assert plan(second(scales(1, 1, 4)), there, NOW) == (start(2),), "four serve: four are wanted"
    drained = plan(second(scales(1, 1, 3)), there, NOW)
    assert [type(one) for one in drained] == [DrainReplica, type(start())], "the ceiling holds"


def test_of_several_revisions_no_more_than_serves_is_held() -> None:
    old = [a_replica(f"demo-r1-{n}") for n in "ab"]
    begins = a_replica("demo-r2-a", revision=2, state=ReplicaState.STARTING, routable=False)
    leaves = a_replica("demo-r1-c", state=ReplicaState.DRAINING, draining_since=NOW, in_flight=1)
    there = replace(sees(*old, begins, leaves), wanted={})
    assert plan(second(scales(1, 1, 4)), there, NOW) == ()
    assert plan(second(scales(1, 3, 4)), there, NOW) == (start(2),), "no fewer than was granted"


def test_a_draining_replica_serves_again_before_one_is_started() -> None:
    draining = a_replica(
        "demo-r1-b",
        state=ReplicaState.DRAINING,
        routable=False,
        draining_since=NOW - 1.0,
        in_flight=1,
    )
    there = sees(a_replica(), draining)
    assert plan(scales(1, 1, 4), wanting(there, 1), NOW) == ()
    revive = ReviveReplica(name="demo-r1-b", reason="the target is 2")
    assert plan(scales(1, 1, 4), wanting(there, 2), NOW) == (revive,)
    revive = replace(revive, reason="the target is 3")
    assert plan(scales(1, 1, 4), wanting(there, 3), NOW) == (revive, start())


def test_what_drains_for_another_reason_stays_out() -> None:
    draining = a_replica(
        "demo-r1-b", state=ReplicaState.DRAINING, draining_since=NOW - 1.0, in_flight=1
    )
    of_before = replace(draining, revision=0)
    ill = replace(draining, unhealthy_since=NOW - 1.0)
    dead = replace(draining, alive=False)
    for one in (of_before, ill, dead):
        actions = plan(scales(1, 1, 4), wanting(sees(a_replica(), one), 2), NOW)
        assert start() in actions
        assert not any(isinstance(action, ReviveReplica) for action in actions)


def test_a_replica_on_a_node_to_be_emptied_is_not_revived() -> None:
    draining = a_replica(
        "demo-r1-b",
        state=ReplicaState.DRAINING,
        draining_since=NOW - 1.0,
        in_flight=1,
        nodes=("n1",),
    )
    observed = sees(a_replica(nodes=("n2",)), draining)
    (pool,) = observed.pools
    pool = replace(pool, nodes=("n1", "n2"), accelerators_per_node=4, accelerators=8)
    observed = wanting(replace(observed, pools=(pool,)), 2)
    cordon = NodeCordon(node="n1", draining=True)
    desired = replace(scales(1, 1, 4), node_cordons=(cordon,))
    assert [type(action) for action in plan(desired, observed, NOW)] == [type(start())]


def test_a_revived_replica_drains_anew_from_its_own_moment() -> None:
    drained = first_sight(ReplicaState.DRAINING, NOW)
    revived = after_look(drained, ReplicaState.READY, True, NOW + 5.0)
    assert revived.draining_since is None
    again = after_look(revived, ReplicaState.DRAINING, None, NOW + 60.0)
    assert again.draining_since == NOW + 60.0


def test_one_that_was_woken_outlives_the_look_that_sends_who_waited_to_it() -> None:
    desired = scales(0, 0, 4, scale_down_delay_seconds=0.0)
    asked = {"demo": DeploymentDemand(waiting=0, idle_seconds=1.0)}
    assert plan(desired, replace(wanting(sees(a_replica()), 0), demand=asked), NOW) == ()


def test_at_zero_a_request_wakes_one_and_it_stays_for_the_scale_down_delay() -> None:
    desired = scales(0, 0, 4, scale_down_delay_seconds=20.0)
    waits = {"demo": DeploymentDemand(waiting=1, idle_seconds=0.0)}
    woken = replace(wanting(sees(), 0), demand=waits)
    assert plan(desired, woken, NOW) == (start(),)
    for idle, goes in ((19.0, False), (21.0, True)):
        asked = {"demo": DeploymentDemand(waiting=0, idle_seconds=idle)}
        there = replace(wanting(sees(a_replica()), 0), demand=asked)
        assert bool(plan(desired, there, NOW)) is goes
