"""What a plan promises, each on the smallest fleet that can break it."""

from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.exact import improve
from scheduler.greedy import solve_greedy
from scheduler.grid import build_grid
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem, PoolBar
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import (
    FailureDomain,
    PlacementPolicy,
    ResourceShape,
    Scaling,
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

THREE_PLANES = (
    a_pool("aws", a_shape(per_node=4), some_terms(0.05)),
    a_pool("gcp", a_shape(per_node=4), some_terms(0.04)),
    a_pool("fra", a_shape(per_node=4), some_terms(0.02)),
)
EXACT = SolveLimits()
GREEDY = SolveLimits(searches=False)


def counts(plan: PlacementPlan) -> dict[str, int]:
    """Return replicas by `deployment pool`."""
    return {f"{p.deployment} {p.pool}": p.count for p in plan.placements}


def checked(problem: PlacementProblem, limits: SolveLimits = EXACT) -> PlacementPlan:
    plan = solve(problem, limits)
    assert violations(plan, problem) == ()
    return plan


def level(plan: PlacementPlan, name: str) -> float:
    return next(item.value for item in plan.levels if item.level == name)


def test_the_cheapest_eligible_pool_is_taken_and_the_plan_is_proven() -> None:
    plan = checked(a_problem(THREE_PLANES, (wanting(3),)))
    assert counts(plan) == {"demo fra--cpu": 3}
    assert plan.placements[0].reason == "cheapest eligible pool, $0.02/h a replica"
    assert (plan.solver, plan.optimal) == ("cp-sat", True)
    assert plan.cost_per_hour == pytest.approx(0.06)


@pytest.mark.parametrize("limits", [EXACT, GREEDY])
def test_spread_puts_a_replica_on_every_plane_and_the_rest_where_it_is_cheap(
    limits: SolveLimits,
) -> None:
    policy = PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=3))
    plan = checked(a_problem(THREE_PLANES, (wanting(4, a_deployment(policy=policy)),)), limits)
    assert counts(plan) == {"demo aws--cpu": 1, "demo fra--cpu": 2, "demo gcp--cpu": 1}
    assert plan.placements[0].reason == "spread over 3 planes"
    assert level(plan, "survival") == 0


def test_fewer_planes_than_the_spread_wants_still_place_everything() -> None:
    policy = PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=3))
    plan = checked(a_problem(THREE_PLANES[:2], (wanting(4, a_deployment(policy=policy)),)))
    assert sum(counts(plan).values()) == 4
    assert plan.unplaced == ()
    assert level(plan, "survival") == 1


@pytest.mark.parametrize("limits", [EXACT, GREEDY])
def test_demand_survives_the_loss_of_any_one_cloud(limits: SolveLimits) -> None:
    policy = PlacementPolicy(tolerate=Tolerate(domain=FailureDomain.CLOUD, keep=1.0))
    plan = checked(a_problem(THREE_PLANES, (wanting(4, a_deployment(policy=policy)),)), limits)
    placed = counts(plan)
    assert all(sum(placed.values()) - lost >= 4 for lost in placed.values())
    assert "survives loss of any one cloud (100% kept)" in {p.reason for p in plan.placements}


def test_a_higher_class_is_served_before_a_lower_one_that_already_runs() -> None:
    first = a_deployment("first", policy=PlacementPolicy(priority=0))
    second = a_deployment("second", policy=PlacementPolicy(priority=3))
    pools = (a_pool("fra", a_shape(per_node=4)),)
    current = (runs(4, "second", "fra--cpu"),)
    demands = (wanting(3, first), wanting(4, second))
    for limits in (EXACT, GREEDY):
        plan = checked(a_problem(pools, demands, current=current), limits)
        assert counts(plan) == {"first fra--cpu": 3, "second fra--cpu": 1}
        assert [(u.deployment, u.replicas) for u in plan.unplaced] == [("second", 3)]


def test_cents_an_hour_do_not_move_a_replica_but_dollars_do() -> None:
    current = (runs(2, "demo", "aws--cpu"),)
    near = (a_pool("aws", terms=some_terms(1.02)), a_pool("gcp", terms=some_terms(1.0)))
    assert counts(checked(a_problem(near, (wanting(2),), current=current))) == {"demo aws--cpu": 2}
    far = (a_pool("aws", terms=some_terms(3.0)), a_pool("gcp", terms=some_terms(1.0)))
    assert counts(checked(a_problem(far, (wanting(2),), current=current))) == {"demo gcp--cpu": 2}


def test_equal_pools_keep_what_runs_where_it_runs() -> None:
    pools = (a_pool("aws"), a_pool("gcp"), a_pool("fra"))
    current = (runs(1, "demo", "gcp--cpu"), runs(1, "demo", "fra--cpu"))
    plan = checked(a_problem(pools, (wanting(2),), current=current, move_cost_dollars=0.0))
    assert counts(plan) == {"demo fra--cpu": 1, "demo gcp--cpu": 1}
    assert {p.reason for p in plan.placements} == {"kept where it runs"}


def test_a_lost_plane_counts_as_gone_and_a_cordoned_one_keeps_but_takes_nothing() -> None:
    current = (runs(2, "demo", "fra--cpu"), runs(1, "demo", "gcp--cpu"))
    lost = PoolBar(pool="fra--cpu", reason="plane lost", keeps_current=False)
    plan = checked(a_problem(THREE_PLANES, (wanting(3),), current=current, bars=(lost,)))
    assert counts(plan) == {"demo gcp--cpu": 3}
    cordon = replace(lost, reason="cordoned by root", keeps_current=True)
    plan = checked(a_problem(THREE_PLANES, (wanting(4),), current=current, bars=(cordon,)))
    assert counts(plan) == {"demo fra--cpu": 2, "demo gcp--cpu": 2}
    fra = next(p for p in plan.placements if p.pool == "fra--cpu")
    assert fra.reason == "kept where it runs (cordoned by root)"
    assert next(e.ceiling for e in plan.envelopes if e.pool == "fra--cpu") == 2


def test_a_missing_price_starts_nothing_and_stops_nothing() -> None:
    pools = (a_pool("aws", terms=some_terms(None)), a_pool("gcp"))
    plan = checked(a_problem(pools, (wanting(2),), current=(runs(1, "demo", "aws--cpu"),)))
    assert counts(plan) == {"demo aws--cpu": 1, "demo gcp--cpu": 1}
    plan = checked(a_problem(pools[:1], (wanting(2),)))
    assert [r.reason for r in plan.rejections] == ["pool has no price: `skerry pool set`"]
    assert "would fit if: aws--cpu had a price (unknown)" in plan.unplaced[0].reason


def test_residency_fails_closed() -> None:
    policy = PlacementPolicy(residency_zones=("eu",))
    pools = (
        a_pool(a_plane("told", zones=("de", "eu")), terms=some_terms(9.0)),
        a_pool(a_plane("other", zones=("us",))),
        a_pool(a_plane("silent")),
    )
    plan = checked(a_problem(pools, (wanting(2, a_deployment(policy=policy)),)))
    assert counts(plan) == {"demo told--cpu": 2}
    assert [r.reason for r in plan.rejections] == [
        "residency must be eu; the plane's zones: us",
        "residency must be eu; the plane's zones: none told",
    ]


def test_capacity_classes_clouds_and_regions_filter_pools() -> None:
    spot = a_pool("spot", terms=some_terms(0.1, kind=CapacityClass.SPOT))
    policy = PlacementPolicy(
        capacity_classes=("on_demand",), clouds=("cloud-aws", "cloud-gcp"), regions=("region-gcp",)
    )
    plan = checked(a_problem((*THREE_PLANES, spot), (wanting(1, a_deployment(policy=policy)),)))
    assert counts(plan) == {"demo gcp--cpu": 1}
    assert [(r.pool, r.reason) for r in plan.rejections] == [
        ("aws--cpu", "region region-aws is not among region-gcp"),
        ("fra--cpu", "cloud cloud-fra is not among cloud-aws, cloud-gcp"),
        ("spot--cpu", "cloud cloud-spot is not among cloud-aws, cloud-gcp"),
    ]


def test_ceilings_share_what_is_left_by_priority_and_leave_the_reserve() -> None:
    first = a_deployment("first", replicas=(1, 4), policy=PlacementPolicy(priority=0))
    second = a_deployment("second", replicas=(1, 10))
    pools = (a_pool("fra", a_shape(per_node=10)),)
    plan = checked(a_problem(pools, (wanting(2, first), wanting(2, second)), reserve_fraction=0.2))
    assert [(e.deployment, e.floor, e.target, e.ceiling) for e in plan.envelopes] == [
        ("first", 2, 2, 4),
        ("second", 2, 2, 4),
    ]


def test_counts_may_use_the_reserve_that_ceilings_may_not() -> None:
    pools = (a_pool("fra", a_shape(per_node=4)),)
    plan = checked(a_problem(pools, (wanting(4),), reserve_fraction=0.5))
    assert [(e.floor, e.ceiling) for e in plan.envelopes] == [(4, 4)]


def test_mixed_kinds_count_by_measured_throughput() -> None:
    shapes = (
        ResourceShape(accelerator="H100", throughput_tokens_per_second=1000.0),
        ResourceShape(accelerator="L4", throughput_tokens_per_second=250.0),
    )
    pools = (
        a_pool("fast", a_shape(kind="H100"), some_terms(5.0)),
        a_pool("slow", a_shape(kind="L4"), some_terms(1.0)),
    )
    demands = (wanting(2, a_deployment(shapes=shapes)),)
    plan = checked(a_problem(pools, demands))
    assert counts(plan) == {"demo slow--l4": 8}


def test_a_replica_larger_than_a_node_takes_whole_nodes() -> None:
    large = a_deployment("large", shapes=(ResourceShape(accelerator="cpu", accelerators=16),))
    small = a_deployment("small", policy=PlacementPolicy(priority=0))
    pools = (a_pool("fra", a_shape(nodes=3)),)
    plan = checked(a_problem(pools, (wanting(1, large), wanting(8, small))))
    assert counts(plan) == {"large fra--cpu": 1, "small fra--cpu": 8}
    odd = a_deployment("odd", shapes=(ResourceShape(accelerator="cpu", accelerators=12),))
    plan = checked(a_problem(pools, (wanting(1, odd),)))
    assert "more than a node must be whole nodes" in plan.unplaced[0].reason


@pytest.mark.parametrize("limits", [EXACT, GREEDY])
def test_host_memory_binds_node_by_node(limits: SolveLimits) -> None:
    fat = ResourceShape(accelerator="cpu", host_memory_bytes=300 * GIB)
    pools = (a_pool("fra", a_shape(nodes=2, memory_gib=512)),)
    plan = checked(a_problem(pools, (wanting(3, a_deployment(shapes=(fat,))),)), limits)
    assert counts(plan) == {"demo fra--cpu": 2}
    assert plan.unplaced[0].replicas == 1


def test_odd_sizes_that_totals_admit_and_nodes_do_not_are_found_by_a_closer_model() -> None:
    five = a_deployment("five", shapes=(ResourceShape(accelerator="cpu", accelerators=5),))
    three = a_deployment("three", shapes=(ResourceShape(accelerator="cpu", accelerators=3),))
    pools = (a_pool("aws", a_shape(nodes=2)), a_pool("fra", terms=some_terms(9.0)))
    plan = checked(a_problem(pools, (wanting(3, five), wanting(2, three))))
    assert counts(plan) == {"five aws--cpu": 2, "five fra--cpu": 1, "three aws--cpu": 2}
    assert plan.optimal


def test_a_cost_ceiling_holds_for_counts_and_for_local_scaling() -> None:
    policy = PlacementPolicy(cost_per_hour_max=0.07)
    plan = checked(a_problem(THREE_PLANES, (wanting(2, a_deployment(policy=policy)),)))
    assert [(e.floor, e.ceiling) for e in plan.envelopes] == [(2, 3)]
    plan = checked(a_problem(THREE_PLANES, (wanting(5, a_deployment(policy=policy)),)))
    assert plan.unplaced[0].replicas == 2
    assert "its cost ceiling is $0.07/h" in plan.unplaced[0].reason
    assert "cost ceiling dropped" in plan.unplaced[0].reason


def test_no_such_accelerator_is_said_with_the_numbers() -> None:
    shapes = (ResourceShape(accelerator="H100-80G", accelerators=8),)
    plan = checked(a_problem(THREE_PLANES, (wanting(1, a_deployment(shapes=shapes)),)))
    assert plan.unplaced[0].reason == (
        "needs 8 x H100-80G; the fleet has none; it has cpu (12);"
        " would fit if: a new pool of +8 H100-80G accelerators (price unknown)"
    )


def test_a_full_fleet_says_how_many_more_would_do_and_that_is_true() -> None:
    problem = a_problem(THREE_PLANES[2:], (wanting(9),))
    plan = checked(problem)
    assert plan.unplaced[0].reason == (
        "needs 5 replicas of 1 x cpu more; accelerators free where it may run: fra--cpu 0 of 4;"
        " would fit if: +8 cpu accelerators in fra--cpu (2 more nodes)"
    )
    grown = a_pool("fra", a_shape(nodes=3, per_node=4), some_terms(0.02))
    assert checked(replace(problem, pools=(grown,))).unplaced == ()


def test_replicas_wanted_stay_inside_the_deployments_own_bounds() -> None:
    plan = checked(a_problem(THREE_PLANES, (wanting(9, a_deployment(replicas=(1, 2))),)))
    assert counts(plan) == {"demo fra--cpu": 2}
    plan = checked(a_problem(THREE_PLANES, (wanting(0, a_deployment(replicas=(1, 2))),)))
    assert counts(plan) == {"demo fra--cpu": 1}


def test_a_deployment_nobody_wants_is_removed_and_nothing_is_left_of_it() -> None:
    current = (runs(2, "demo", "fra--cpu"), runs(3, "gone", "fra--cpu"))
    demands = (wanting(0, a_deployment(replicas=(0, 2))),)
    plan = checked(a_problem(THREE_PLANES, demands, current=current))
    assert (plan.placements, plan.envelopes, plan.unplaced) == ((), (), ())


def test_an_empty_problem_has_an_empty_plan() -> None:
    plan = checked(a_problem((), ()))
    assert (plan.placements, plan.optimal, plan.cost_per_hour) == ((), True, 0.0)
    assert (
        "the fleet has none; it has no pool"
        in checked(a_problem((), (wanting(1),))).unplaced[0].reason
    )


def test_past_the_exact_size_greedy_answers_alone_and_says_so() -> None:
    plan = checked(a_problem(THREE_PLANES, (wanting(3),)), GREEDY)
    assert (plan.solver, plan.optimal) == ("greedy", False)
    assert counts(plan) == {"demo fra--cpu": 3}


def test_without_time_the_exact_path_returns_where_it_started() -> None:
    grid = build_grid(a_problem(THREE_PLANES, (wanting(3),)))
    start = solve_greedy(grid)
    answer = improve(grid, start, (0.0, 1.0))
    assert answer is not None
    assert answer.counts == start


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pools": (THREE_PLANES[0], THREE_PLANES[0])}, "pool 'aws--cpu' appears twice"),
        ({"demands": (wanting(1), wanting(2))}, "deployment 'demo' appears twice"),
        ({"current": (runs(1, "demo", "nowhere--cpu"),)}, "'nowhere--cpu' is named but not among"),
        ({"reserve_fraction": 1.0}, "reserve_fraction must be"),
        ({"move_horizon_hours": 0.0}, "move_horizon_hours must be"),
    ],
)
def test_a_broken_problem_is_refused(change: dict[str, object], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        replace(a_problem(THREE_PLANES, (wanting(1),)), **change)  # type: ignore[arg-type]


def test_scaling_up_touches_no_replica_that_runs() -> None:
    deployment = a_deployment()
    first = checked(a_problem(THREE_PLANES, (wanting(3, deployment),)))
    grown = replace(deployment, scaling=Scaling(min_replicas=0, max_replicas=12))
    after = checked(a_problem(THREE_PLANES, (wanting(9, grown),), current=first.placements))
    assert all(counts(after)[key] >= count for key, count in counts(first).items())
