"""Where replicas go that gave way, or that go back, while few moves are left of a minute."""

from dataclasses import replace
from datetime import timedelta

from control_plane.reconcile.budget import moves_between
from control_plane.reconcile.failover import judge
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.problem import despite_settling, placement_problem
from control_plane.reconcile.snapshot import Snapshot
from control_plane.reconcile.supply import supply_of
from scheduler.plan import PlacementPlan
from scheduler.solve import solve
from skerry.fleet.deployment import FailBack, PlacementPolicy
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement, counts_of
from skerry.fleet.pool import PoolTerms
from tests.builders import T0, a_demand, a_deployment, a_plane_view, a_snapshot


def a_fleet(*urgent: str, moves_max: int | None, lacks: int = 0) -> Snapshot:
    """`fra` is full with demo and is to take what is urgent; `aws` was lost and is just back.

    Of demo, one for each that is urgent has to give way; `other`, the least urgent, lacks so many.
    """
    back = PlaneCondition(state=PlaneState.CONNECTED, since=T0, returned_at=T0)
    classes = [("demo", 4, 2), *((name, 1, 1) for name in urgent), ("other", lacks, 3)]
    return a_snapshot(
        a_plane_view("fra"),
        replace(a_plane_view("aws"), condition=back),
        demands=tuple(
            a_demand(a_deployment(name, replicas=many, policy=PlacementPolicy(priority=priority)))
            for name, many, priority in classes
            if many
        ),
        placements=(Placement(deployment="demo", pool="fra--cpu", count=4),),
        policy=ReconcilePolicy(moves_max=moves_max),
    )


def placed(snapshot: Snapshot) -> tuple[PlacementPlan, int]:
    """Return the plan as the loop makes it, and how many moves it counts for it."""
    conditions = judge(snapshot)
    plan = solve(placement_problem(snapshot, conditions))
    if (more := despite_settling(plan, snapshot, conditions)) is not None:
        plan = solve(more)
    bars = supply_of(snapshot, conditions).bars
    return plan, moves_between(snapshot.placements, plan.placements, bars)


def test_what_gave_way_starts_on_a_plane_that_is_back_only_while_moves_are_left() -> None:
    for moves_max, there in ((None, 1), (1, 1), (0, 0)):
        plan, moves = placed(a_fleet("guest", moves_max=moves_max))
        counts = counts_of(plan.placements)
        assert (counts["demo", "fra--cpu"], counts["guest", "fra--cpu"]) == (3, 1)
        assert (counts.get(("demo", "aws--cpu"), 0), moves) == (there, there)


def test_what_was_lost_or_is_new_starts_there_though_no_move_is_left() -> None:
    plan, moves = placed(a_fleet("guest", moves_max=0, lacks=2))
    counts = counts_of(plan.placements)
    assert counts["other", "aws--cpu"] == 2
    assert ("demo", "aws--cpu") not in counts
    assert moves == 0


def test_more_that_gave_way_than_may_move_waits() -> None:
    plan, moves = placed(a_fleet("guest", "visitor", moves_max=1))
    assert moves <= 1
    assert sum(one.replicas for one in plan.unplaced) == 2 - moves


def test_what_goes_back_is_counted_among_the_moves_that_are_left() -> None:
    """`demo` is to go back to aws; `other` would leave fra for gcp, which is cheaper by far."""
    settled = PlaneCondition(
        state=PlaneState.CONNECTED,
        since=T0 - timedelta(hours=1),
        returned_at=T0 - timedelta(minutes=2),
        displaced=(("demo", "aws--cpu", 2),),
    )
    fleet = a_snapshot(
        a_plane_view("fra"),
        replace(a_plane_view("aws"), condition=settled),
        a_plane_view("gcp"),
        demands=tuple(a_demand(a_deployment(name, replicas=2)) for name in ("demo", "other")),
        placements=tuple(
            Placement(deployment=name, pool="fra--cpu", count=2) for name in ("demo", "other")
        ),
        policy=ReconcilePolicy(moves_max=2, fail_back=FailBack.KEEP_ORIGINAL),
    )
    dear = {"fra--cpu": 9.0, "aws--cpu": 8.0, "gcp--cpu": 0.1}
    terms = {name: PoolTerms(price_per_accelerator_hour=price) for name, price in dear.items()}
    pools = tuple(replace(pool, terms=terms[pool.name]) for pool in fleet.pools)
    plan, moves = placed(replace(fleet, pools=pools))
    assert counts_of(plan.placements)["demo", "aws--cpu"] == 2
    assert moves == 2
