"""Small fleets on which the array path once served less than it could, or promised too much.

Each is the least example of a random one; those it still fails are marked with the reason.
"""

from dataclasses import replace

import numpy as np
import pytest

from scheduler.arrays import arrays_of
from scheduler.check import violations
from scheduler.plan import PlacementPlan, diff
from scheduler.prices import no_prices
from scheduler.problem import PlacementProblem, PoolBar
from scheduler.relaxation import alone, judge
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import (
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Spread,
    Tolerate,
)
from skerry.fleet.pool import CapacityClass
from tests.unit.scheduler.fleets import (
    GIB,
    a_deployment,
    a_plane,
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

ARRAYS = SolveLimits(pairs_max=-1)
WHOLE = (ResourceShape(accelerator="cpu", accelerators=8),)


def checked(problem: PlacementProblem) -> PlacementPlan:
    plan = solve(problem, ARRAYS)
    assert violations(plan, problem) == ()
    assert plan.solver == "pipeline"
    return plan


def counts(plan: PlacementPlan) -> dict[str, int]:
    return {f"{p.deployment} {p.pool}": p.count for p in plan.placements}


def test_who_gives_way_keeps_what_there_is_room_for_though_nothing_may_move() -> None:
    pools = (a_pool("aws", a_shape(per_node=2)), a_pool("fra", a_shape(kind="H100", per_node=1)))
    either = (ResourceShape(accelerator="cpu"), ResourceShape(accelerator="H100"))
    demands = (
        wanting(2, a_deployment("demo-0", shapes=either, replicas=(2, 2))),
        wanting(1, a_deployment("demo-1", replicas=(1, 1))),
    )
    problem = a_problem(pools, demands, current=(runs(2, "demo-0", "aws--cpu"),))
    plan = checked(replace(problem, moves_max=0))
    assert counts(plan).get("demo-0 aws--cpu", 0) >= 1


def test_a_spread_that_is_too_dear_still_serves_the_demand() -> None:
    policy = PlacementPolicy(
        spread=Spread(domain=FailureDomain.PLANE, domains_min=2), cost_per_hour_max=4.0
    )
    dear = a_pool("dear", terms=some_terms(5.0))
    problem = a_problem((dear, a_pool("fra")), (wanting(1, a_deployment(policy=policy)),))
    assert counts(checked(problem)) == {"demo fra--cpu": 1}


@pytest.mark.xfail(reason="high gets nothing where its rival and a class between share the pool")
def test_a_part_of_a_high_class_comes_before_a_rival_of_a_low_one_and_a_class_between() -> None:
    high = a_deployment("high", shapes=WHOLE, policy=PlacementPolicy(priority=0))
    low = a_deployment("low", policy=PlacementPolicy(priority=2, anti_affinity=("high",)))
    other = a_deployment("other", policy=PlacementPolicy(priority=1))
    demands = (wanting(2, high), wanting(2, low), wanting(5, other))
    assert counts(checked(a_problem((a_pool("fra"),), demands))) == {"high fra--cpu": 1}


def test_a_part_of_a_high_class_comes_before_the_whole_of_a_low_one() -> None:
    high = a_deployment("high", shapes=WHOLE, policy=PlacementPolicy(priority=0))
    low = a_deployment("low", policy=PlacementPolicy(priority=3))
    plan = checked(a_problem((a_pool("fra"),), (wanting(2, high), wanting(4, low))))
    assert counts(plan) == {"high fra--cpu": 1}


def test_a_cost_bound_is_below_the_cost_of_any_plan_that_serves_as_much() -> None:
    """`part` could be served by half, and nobody serves it: that half's cost is not owed."""
    pools = (
        a_pool("cheap", terms=some_terms(1.0)),
        a_pool("dear", terms=some_terms(3.0)),
        a_pool("other", a_shape(kind="H100", per_node=1), some_terms(4.0)),
    )
    part = a_deployment("part", shapes=(ResourceShape(accelerator="H100"),))
    problem = a_problem(pools, (wanting(2, part), wanting(1)), move_cost_dollars=0.0)
    arrays = arrays_of(problem)
    on = [arrays.pools[j].name for j in arrays.instance.columns.pool]
    dear, cheap = (
        np.array([int(name == f"{pool}--cpu") for name in on]) for pool in ("dear", "cheap")
    )
    least = alone(arrays.instance)
    values, bounds, _ = judge(arrays.instance, dear, no_prices(arrays.instance), least)
    better, _, _ = judge(arrays.instance, cheap, no_prices(arrays.instance), least)
    assert (better.unmet, better.survival) == (values.unmet, values.survival)
    assert bounds.cost <= better.cost


def test_a_plan_that_falls_short_is_not_moved_about_when_it_is_looked_at_again() -> None:
    first = a_pool(
        a_plane("plane-0", cloud="aws", region="east"), a_shape(nodes=2), some_terms(1.01)
    )
    second = a_pool(
        a_plane("plane-2", cloud="aws", region="east"),
        a_shape(nodes=3, memory_gib=6),
        some_terms(1.0, kind=CapacityClass.RESERVED),
    )
    small = (ResourceShape(accelerator="cpu", accelerators=2, host_memory_bytes=5 * GIB),)
    large = (ResourceShape(accelerator="cpu", accelerators=8, host_memory_bytes=3 * GIB),)
    spread = PlacementPolicy(spread=Spread(domain=FailureDomain.REGION, domains_min=3))
    tolerate = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.REGION, keep=0.9))
    demands = (
        wanting(1, a_deployment("d-0", shapes=small, replicas=(0, 5), policy=spread)),
        wanting(6, a_deployment("e-0", shapes=large, replicas=(0, 8), policy=tolerate)),
    )
    problem = a_problem((first, second), demands, reserve_fraction=0.5)
    plan = checked(problem)
    again = checked(replace(problem, current=plan.placements))
    assert diff(again, plan.placements).is_empty


def test_spot_that_is_left_alone_above_its_share_is_given_up_by_the_pipeline_itself() -> None:
    firm = a_pool("firm")
    spot = a_pool("spot", terms=some_terms(0.1, kind=CapacityClass.SPOT))
    half = wanting(2, a_deployment(policy=PlacementPolicy(spot_share_max=0.5)))
    current = (runs(3, "demo", "firm--cpu"), runs(3, "demo", "spot--cpu"))
    lost = PoolBar(pool="firm--cpu", reason="lost", keeps_current=False)
    plan = checked(a_problem((firm, spot), (half,), current=current, bars=(lost,)))
    assert counts(plan) == {}
