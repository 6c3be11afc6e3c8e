"""Explain, what-if and survival: every sentence is true when the problem is solved again."""

import math
from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.conflicts import Family
from scheduler.explain import explain
from scheduler.problem import BadQuestion, PlacementProblem
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import DemandFactor, Lose, NewPools, PriceFactor, what_if
from skerry.fleet.deployment import (
    FailureDomain,
    LatencyLimit,
    PlacementPolicy,
    ResourceShape,
    Tolerate,
)
from skerry.fleet.pool import CapacityClass
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_plane,
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

AWS = a_pool(a_plane("aws", zones=("us",)), a_shape(per_node=4), some_terms(1.0))
FRA = a_pool(a_plane("fra", zones=("eu",)), a_shape(per_node=4), some_terms(0.5))


def conflict_of(problem: PlacementProblem, name: str = "demo") -> set[str]:
    plan = solve(problem)
    assert plan.unplaced, "nothing to explain"
    return {family.value for family in explain(problem, plan, name).conflict}


def test_why_here_says_what_it_would_cost_elsewhere() -> None:
    problem = a_problem((AWS, FRA), (wanting(3),))
    found = explain(problem, solve(problem), "demo", "fra--cpu")
    assert found.replicas == 3
    assert found.reasons == (
        "cheapest eligible pool, $0.5/h a replica",
        "without this pool: +$1.5/h",
    )


def test_why_not_there_names_every_constraint_and_by_how_much() -> None:
    policy = PlacementPolicy(
        residency_zones=("eu",), latency=(LatencyLimit(client_region="eu", seconds_max=0.05),)
    )
    problem = a_problem((AWS, FRA), (wanting(3, a_deployment(policy=policy)),))
    found = explain(problem, solve(problem), "demo", "aws--cpu")
    assert found.reasons == (
        "residency must be eu; the plane's zones: us",
        "latency eu to region-aws is not told; the limit is 50 ms",
    )


def test_why_not_there_says_what_an_eligible_pool_would_have_cost() -> None:
    problem = a_problem((AWS, FRA), (wanting(3),))
    found = explain(problem, solve(problem), "demo", "aws--cpu")
    assert found.reasons == ("all of it on aws--cpu: +$1.5/h",)
    larger = a_problem((AWS, FRA), (wanting(6),))
    plan = solve(larger)
    assert explain(larger, plan, "demo", "fra--cpu").reasons[1] == (
        "without this pool: 2 more replicas of demo unplaced, +$0/h"
    )


@pytest.mark.parametrize(
    ("policy", "families"),
    [
        (PlacementPolicy(residency_zones=("eu",)), {Family.RESIDENCY, Family.POOLS}),
        (PlacementPolicy(clouds=("cloud-aws",)), {Family.CLOUDS, Family.POOLS}),
        (PlacementPolicy(regions=("region-x",)), {Family.REGIONS}),
        (PlacementPolicy(capacity_classes=("spot",)), {Family.CLASSES}),
        (PlacementPolicy(cost_per_hour_max=1.0), {Family.COST}),
        (
            PlacementPolicy(latency=(LatencyLimit(client_region="eu", seconds_max=1.0),)),
            {Family.LATENCY},
        ),
    ],
)
def test_the_conflict_is_the_fewest_constraints_that_rule_it_out(
    policy: PlacementPolicy, families: set[Family]
) -> None:
    problem = a_problem((AWS, FRA), (wanting(5, a_deployment(policy=policy)),))
    assert conflict_of(problem) == {family.value for family in families}


def test_the_conflict_names_others_spot_and_neighbours_that_keep_apart() -> None:
    high = a_deployment("high", policy=PlacementPolicy(priority=0))
    both = a_problem((FRA,), (wanting(3, high), wanting(2)))
    assert conflict_of(both) == {"size of pools", "what other deployments hold"} or conflict_of(
        both
    ) == {"what other deployments hold"}
    spot = replace(FRA, terms=some_terms(0.1, kind=CapacityClass.SPOT))
    capped = a_deployment(policy=PlacementPolicy(spot_share_max=0.5))
    assert conflict_of(a_problem((spot,), (wanting(2, capped),))) == {"spot share"}
    apart = a_deployment(policy=PlacementPolicy(anti_affinity=("high",)))
    assert conflict_of(a_problem((FRA,), (wanting(1, high), wanting(1, apart)))) == {
        "anti-affinity"
    }


def test_every_way_out_is_true_and_the_cheapest_comes_first() -> None:
    policy = PlacementPolicy(residency_zones=("eu",))
    cordoned = a_pool(
        a_plane("par", zones=("eu",)), a_shape(per_node=4), some_terms(9.0, cordoned=True)
    )
    problem = a_problem((AWS, FRA, cordoned), (wanting(6, a_deployment(policy=policy)),))
    found = explain(problem, solve(problem), "demo")
    assert [way.change for way in found.ways] == [
        "+4 cpu accelerators in fra--cpu (1 more nodes)",
        "residency dropped",
        "par--cpu uncordoned",
    ]
    assert [way.dollars_per_hour for way in found.ways] == pytest.approx([1.0, 2.0, 18.0])
    dropped = a_problem((AWS, FRA, cordoned), (wanting(6),))
    assert solve(dropped).unplaced == ()


def test_what_tells_no_price_counts_at_the_cheapest_of_its_kind_that_does() -> None:
    policy = PlacementPolicy(residency_zones=("eu",))
    silent = a_pool(a_plane("par", zones=("eu",)), a_shape(per_node=4), some_terms(None))
    demanded = wanting(3, a_deployment(policy=policy))
    problem = a_problem((AWS, silent), (demanded,), current=(runs(1, "demo", "par--cpu"),))
    found = explain(problem, solve(problem), "demo")
    assert [(way.change, way.dollars_per_hour) for way in found.ways] == [
        ("a new pool of +2 cpu accelerators in eu (price counted as $1/h an accelerator)", 2.0),
        ("par--cpu had a price (counted as $1/h an accelerator)", 2.0),
        ("residency dropped", 2.0),
    ]
    nowhere = a_problem((AWS,), (demanded,))
    found = explain(nowhere, solve(nowhere), "demo")
    assert [(way.change, way.dollars_per_hour) for way in found.ways] == [
        ("a new pool of +3 cpu accelerators in eu (price counted as $1/h an accelerator)", 3.0),
        ("residency dropped", 3.0),
    ]


def test_ways_out_at_a_price_that_nobody_knows_come_last_and_say_so() -> None:
    policy = PlacementPolicy(clouds=("cloud-par",))
    shapes = (ResourceShape(accelerator="cpu"), ResourceShape(accelerator="gpu"))
    silent = a_pool(a_plane("par"), a_shape(kind="gpu", per_node=4), some_terms(None))
    demanded = wanting(2, a_deployment(policy=policy, shapes=shapes))
    problem = a_problem((AWS, silent), (demanded,))
    plan = solve(problem)
    assert [(way.change, way.dollars_per_hour) for way in explain(problem, plan, "demo").ways] == [
        ("a new pool of +2 cpu accelerators (price counted as $1/h an accelerator)", 2.0),
        ("clouds dropped", 2.0),
        ("par--gpu had a price (unknown)", None),
    ]
    assert plan.unplaced[0].reason.endswith("| par--gpu had a price (unknown)")


def test_a_movement_budget_that_keeps_others_in_place_is_named_with_one_that_does() -> None:
    bound = a_deployment("bound", policy=PlacementPolicy(clouds=("cloud-fra",)))
    others = wanting(3, a_deployment("loose"))
    running = (runs(3, "loose", "fra--cpu"),)
    problem = a_problem((AWS, FRA), (wanting(3, bound), others), current=running)
    kept = replace(problem, moves_max=1)
    plan = solve(kept)
    assert [(u.deployment, u.replicas) for u in plan.unplaced] == [("bound", 1)]
    found = explain(kept, plan, "bound")
    assert found.conflict[-1] is Family.MOVES
    way = next(way for way in found.ways if way.change.startswith("movement budget"))
    assert way.change == "movement budget 2 (it is 1)"
    larger = solve(replace(kept, moves_max=2))
    assert larger.unplaced == ()
    assert way.dollars_per_hour == pytest.approx(larger.cost_per_hour - plan.cost_per_hour)
    enough = replace(problem, moves_max=2, pools=(AWS,), current=())
    assert Family.MOVES not in explain(enough, solve(enough), "bound").conflict


def test_a_movement_budget_that_binds_a_deployment_by_itself_is_part_of_its_conflict() -> None:
    spot = a_pool(a_plane("spot"), a_shape(per_node=4), some_terms(0.1, kind=CapacityClass.SPOT))
    capped = a_deployment(policy=PlacementPolicy(spot_share_max=0.5), replicas=(0, 4))
    problem = replace(
        a_problem((AWS, spot), (wanting(4, capped),), current=(runs(4, "demo", "spot--cpu"),)),
        moves_max=1,
    )
    plan = solve(problem)
    assert plan.unplaced
    found = explain(problem, plan, "demo")
    assert set(found.conflict) == {Family.SPOT, Family.REPLICAS, Family.MOVES}
    # A larger pool would not help: the moves that lead there are too many.
    assert [way.change for way in found.ways] == [
        "spot share dropped",
        "movement budget 2 (it is 1)",
    ]


def test_what_is_placed_needs_no_way_out() -> None:
    problem = a_problem((FRA,), (wanting(2),))
    found = explain(problem, solve(problem), "demo")
    assert (found.replicas, found.conflict, found.ways) == (2, (), ())


def test_questions_about_what_there_is_not_are_refused() -> None:
    problem = a_problem((FRA,), (wanting(1),))
    plan = solve(problem)
    for ask in (
        lambda: explain(problem, plan, "nobody"),
        lambda: explain(problem, plan, "demo", "nowhere--cpu"),
        lambda: what_if(problem, Lose(domain=FailureDomain.PLANE, name="nowhere")),
        lambda: what_if(problem, PriceFactor(factor=2.0, pool="nowhere--cpu")),
        lambda: what_if(problem, PriceFactor(factor=math.nan)),
        lambda: what_if(problem, DemandFactor(factor=-1.0)),
        lambda: what_if(problem, DemandFactor(factor=1.0, deployment="nobody")),
    ):
        with pytest.raises(BadQuestion, match=r"nobody|nowhere|factor"):
            ask()


def test_a_lost_plane_moves_what_ran_there_and_says_what_is_left_unmet() -> None:
    problem = a_problem((AWS, FRA), (wanting(6),))
    answer = what_if(problem, Lose(domain=FailureDomain.PLANE, name="fra"))
    assert {p.pool: p.count for p in answer.plan.placements} == {"aws--cpu": 4}
    assert [(m.from_pool, m.to_pool, m.count) for m in answer.diff.move] == [
        ("fra--cpu", "aws--cpu", 2)
    ]
    assert sum(p.count for p in answer.evicted) == 2
    assert answer.unmet[0].replicas == 2
    assert answer.cost_delta_per_hour == pytest.approx(4.0 - 4.0)


def test_prices_demand_and_pools_may_change_at_once() -> None:
    problem = a_problem((AWS,), (wanting(2),))
    dearer = what_if(problem, PriceFactor(factor=3.0))
    assert dearer.cost_delta_per_hour == pytest.approx(4.0)
    assert dearer.diff.is_empty
    grown = what_if(problem, (DemandFactor(factor=3.0), NewPools(pools=(FRA,))))
    assert grown.unmet == ()
    assert sum(p.count for p in grown.plan.placements) == 6
    assert violations(grown.before, problem) == ()


def test_what_no_fleet_can_have_is_a_bad_question_too() -> None:
    problem = a_problem((AWS,), (wanting(2),))
    for change in (NewPools(pools=(AWS,)), PriceFactor(factor=1e9)):
        with pytest.raises(BadQuestion, match=r"twice|price"):
            what_if(problem, change)


def test_tokens_scale_with_demand_too() -> None:
    shapes = (ResourceShape(accelerator="cpu", throughput_tokens_per_second=10.0),)
    demanded = replace(wanting(0, a_deployment(shapes=shapes)), tokens_per_second=20.0)
    answer = what_if(a_problem((AWS,), (demanded,)), DemandFactor(factor=1.5, deployment="demo"))
    assert sum(p.count for p in answer.plan.placements) == 3


def test_the_matrix_says_what_is_left_of_each_deployment_and_who_is_shed() -> None:
    safe = a_deployment(
        "safe",
        policy=PlacementPolicy(priority=0, tolerate=Tolerate(domain=FailureDomain.PLANE, keep=1.0)),
    )
    loose = a_deployment("loose", policy=PlacementPolicy(priority=3))
    problem = a_problem((AWS, FRA), (wanting(2, safe), wanting(4, loose)))
    plan = solve(problem)
    losses = {(loss.domain.value, loss.name): loss for loss in survive(problem, plan)}
    assert set(losses) == {
        ("plane", "aws"),
        ("plane", "fra"),
        ("region", "cloud-aws/region-aws"),
        ("region", "cloud-fra/region-fra"),
        ("cloud", "cloud-aws"),
        ("cloud", "cloud-fra"),
    }
    for plane in ("aws", "fra"):
        loss = losses["plane", plane]
        assert loss.holds
        kept = next(s for s in loss.survivors if s.deployment == "safe")
        assert (kept.left, kept.promised, kept.unmet_after) == (2.0, 2.0, 0)


def test_a_broken_promise_shows_as_its_shortfall() -> None:
    policy = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.PLANE, keep=1.0))
    problem = a_problem((FRA,), (wanting(2, a_deployment(policy=policy)),))
    (loss,) = survive(problem, solve(problem), (FailureDomain.PLANE,))
    assert not loss.holds
    assert [(s.left, s.shortfall, s.unmet_after) for s in loss.survivors] == [(0.0, 2.0, 2)]


def test_losing_a_plane_sheds_lower_classes_for_higher_ones_and_says_so() -> None:
    high = a_deployment("high", policy=PlacementPolicy(priority=0, clouds=("cloud-fra",)))
    moved = a_deployment("moved", policy=PlacementPolicy(priority=0))
    low = a_deployment("low", policy=PlacementPolicy(priority=3))
    problem = a_problem(
        (AWS, FRA),
        (wanting(2, high), wanting(2, low), wanting(3, moved)),
        current=(runs(2, "low", "fra--cpu"), runs(3, "moved", "aws--cpu")),
    )
    losses = survive(problem, solve(problem), (FailureDomain.CLOUD,))
    aws = next(loss for loss in losses if loss.name == "cloud-aws")
    assert [item.deployment for item in aws.shed] == ["low"]
