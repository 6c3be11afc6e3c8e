"""What a freeze does to a plan: nothing moves, and what is on silent planes stays counted."""

from dataclasses import replace

from control_plane.reconcile.failover import judge
from control_plane.reconcile.frozen import WHY, held_still, without_moves
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Demand, Snapshot
from scheduler.plan import PlacementPlan
from scheduler.solve import solve
from skerry.fleet.placement import Placement, counts_of
from tests.builders import a_deployment, a_plane_view, a_snapshot

PLACED = (
    Placement(deployment="demo", pool="fra--cpu", count=3),
    Placement(deployment="demo", pool="aws--cpu", count=1),
)


def a_fleet(replicas: int, *, silent_seconds: float = 9.0, deleting: bool = False) -> Snapshot:
    """`fra` and `gcp` fell silent at once; `demo` wants so many of the four that are placed."""
    return a_snapshot(
        a_plane_view("fra", connected=False, silent_seconds=silent_seconds),
        a_plane_view("gcp", connected=False, silent_seconds=9.0),
        a_plane_view("aws"),
        demands=(Demand(deployment=a_deployment(replicas=replicas), deleting=deleting),),
        placements=PLACED,
    )


def planned(snapshot: Snapshot) -> PlacementPlan:
    conditions = judge(snapshot)
    plan = solve(placement_problem(without_moves(snapshot), conditions))
    return held_still(plan, snapshot, conditions)


def test_a_smaller_deployment_keeps_what_it_has_on_silent_planes_and_says_why() -> None:
    plan = planned(a_fleet(1))
    (there,) = (one for one in plan.placements if one.pool == "fra--cpu")
    assert there.count == 3
    assert WHY in there.reason
    targets = {one.pool: one.target for one in plan.envelopes}
    assert targets["fra--cpu"] == 3


def test_a_larger_one_grows_where_planes_are_heard() -> None:
    counts = counts_of(planned(a_fleet(6)).placements)
    assert counts["demo", "fra--cpu"] == 3
    assert counts["demo", "aws--cpu"] == 3
    assert not counts.get(("demo", "gcp--cpu"))


def test_a_deployment_that_operators_end_ends_everywhere() -> None:
    assert not any(counts_of(planned(a_fleet(1, deleting=True)).placements).values())


def test_without_a_freeze_nothing_is_held_and_the_budget_is_the_policys() -> None:
    free = a_fleet(1, silent_seconds=900.0)  # one after the other: no freeze
    assert without_moves(free) is free
    plan = solve(placement_problem(free, judge(free)))
    assert held_still(plan, free, judge(free)) is plan
    frozen = without_moves(a_fleet(4))
    assert frozen.policy == replace(a_fleet(4).policy, moves_max=0)
