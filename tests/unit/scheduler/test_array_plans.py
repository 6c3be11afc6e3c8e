"""What plans of the array path say: reasons, ceilings, who is unplaced or shed, and repairs."""

from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from scheduler.session import Session, without
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
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

ARRAYS = SolveLimits(pairs_max=-1)
SMALL = a_shape(per_node=4)
AWS, GCP, FRA = (
    a_pool(name, SMALL, some_terms(price))
    for name, price in (("aws", 0.05), ("gcp", 0.04), ("fra", 0.02))
)
THREE_PLANES = (AWS, GCP, FRA)


def checked(problem: PlacementProblem) -> PlacementPlan:
    plan = solve(problem, ARRAYS)
    assert violations(plan, problem) == ()
    assert (plan.solver, plan.solver_reason) == ("pipeline", "")
    return plan


def reasons(plan: PlacementPlan) -> dict[str, str]:
    return {f"{p.deployment} {p.pool} {p.count}": p.reason for p in plan.placements}


def one_that_keeps(keep: float, replicas: int) -> DemandedDeployment:
    tolerate = Tolerate(domain=FailureDomain.PLANE, keep=keep)
    return wanting(replicas, a_deployment(policy=PlacementPolicy(tolerate=tolerate)))


def test_the_cheapest_pool_and_the_next_once_it_is_full_say_so() -> None:
    plan = checked(a_problem(THREE_PLANES, (wanting(7),)))
    assert reasons(plan) == {
        "demo fra--cpu 4": "cheapest eligible pool, $0.02/h a replica",
        "demo gcp--cpu 3": "cheapest pool with room, $0.04/h a replica; full: fra--cpu",
    }


def test_more_full_pools_than_a_sentence_holds_are_counted() -> None:
    cheap = tuple(a_pool(f"p{n}", SMALL, some_terms(0.01 + 0.001 * n)) for n in range(5))
    plan = checked(a_problem((*cheap, AWS), (wanting(22, a_deployment(replicas=(0, 30))),)))
    assert reasons(plan)["demo aws--cpu 2"] == (
        "cheapest pool with room, $0.05/h a replica; full: p0--cpu, p1--cpu, p2--cpu and 2 more"
    )


def test_what_runs_is_kept_and_what_joins_it_is_told_apart() -> None:
    current = (runs(1, "demo", "fra--cpu"), runs(2, "demo", "gcp--cpu"))
    bar = PoolBar(pool="gcp--cpu", reason="cordoned by root", keeps_current=True)
    plan = checked(a_problem(THREE_PLANES, (wanting(5),), current=current, bars=(bar,)))
    assert reasons(plan) == {
        "demo fra--cpu 3": "1 kept where they run, 2 started:"
        " cheapest eligible pool, $0.02/h a replica",
        "demo gcp--cpu 2": "kept where it runs (cordoned by root)",
    }


def test_a_promise_is_named_where_a_cheaper_pool_had_room() -> None:
    plan = checked(a_problem(THREE_PLANES, (one_that_keeps(1.0, 2),)))
    assert set(reasons(plan).values()) == {
        "cheapest eligible pool, $0.02/h a replica",
        "survives loss of any one plane (100% kept)",
    }


def test_a_spread_is_named_where_a_cheaper_pool_had_room() -> None:
    policy = PlacementPolicy(spread=Spread(domain=FailureDomain.PLANE, domains_min=2))
    plan = checked(a_problem((GCP, FRA), (wanting(2, a_deployment(policy=policy)),)))
    assert reasons(plan)["demo gcp--cpu 1"] == "spread over planes"


def test_the_worth_of_a_full_pool_is_told_and_an_idle_one_has_none() -> None:
    plan = checked(a_problem((AWS, FRA), (wanting(6),)))
    assert [p.pool for p in plan.prices] == ["fra--cpu"]
    assert plan.prices[0].dollars_per_hour == pytest.approx(0.03, rel=0.2)


def test_what_is_unplaced_is_said_with_the_room_there_is() -> None:
    plan = checked(a_problem(THREE_PLANES, (wanting(14, a_deployment(replicas=(0, 20))),)))
    assert [u.replicas for u in plan.unplaced] == [2]
    assert plan.unplaced[0].reason == (
        "needs 2 replicas of 1 x cpu more; accelerators free where it may run:"
        " aws--cpu 0 of 4, fra--cpu 0 of 4, gcp--cpu 0 of 4"
    )


def test_no_pool_at_all_is_said_with_the_rule_of_each_pool() -> None:
    shapes = (ResourceShape(accelerator="H100-80G", accelerators=8),)
    plan = checked(a_problem(THREE_PLANES, (wanting(1, a_deployment(shapes=shapes)),)))
    assert plan.unplaced[0].reason == "needs 8 x H100-80G; no pool may host it"
    assert {r.pool: r.reason for r in plan.rejections} == {
        f"{name}--cpu": "pool has cpu; the deployment runs on H100-80G"
        for name in ("aws", "fra", "gcp")
    }


def test_its_own_maximum_is_said_where_that_is_what_binds() -> None:
    shapes = (
        ResourceShape(accelerator="cpu", throughput_tokens_per_second=50.0),
        ResourceShape(accelerator="H100", throughput_tokens_per_second=100.0),
    )
    demo = a_deployment(shapes=tuple(reversed(shapes)), replicas=(0, 3))
    plan = checked(a_problem(THREE_PLANES, (wanting(3, demo),)))
    assert plan.unplaced[0].reason == ("needs 2 replicas of 1 x H100 more; max_replicas is 3")


def test_shedding_is_told_lowest_class_first_with_who_takes_the_room() -> None:
    demands = tuple(
        wanting(n, a_deployment(name, policy=PlacementPolicy(priority=priority)))
        for name, priority, n in (("top", 0, 7), ("mid", 2, 2), ("low", 3, 2))
    )
    current = (runs(2, "low", "fra--cpu"), runs(2, "mid", "fra--cpu"))
    plan = checked(a_problem((a_pool("fra"),), demands, current=current))
    assert [(s.deployment, s.replicas, s.taken_by, s.reason) for s in plan.shed] == [
        ("low", 2, ("top",), "class 3 gives way to class 0"),
        ("mid", 1, ("top",), "class 2 gives way to class 0"),
    ]


def test_ceilings_share_what_is_left_by_priority_and_leave_the_reserve() -> None:
    first = a_deployment("first", replicas=(1, 4), policy=PlacementPolicy(priority=0))
    second = a_deployment("second", replicas=(1, 10))
    pools = (a_pool("fra", a_shape(per_node=10)),)
    problem = a_problem(pools, (wanting(2, first), wanting(2, second)), reserve_fraction=0.2)
    assert [(e.deployment, e.floor, e.target, e.ceiling) for e in checked(problem).envelopes] == [
        ("first", 2, 2, 4),
        ("second", 2, 2, 4),
    ]


@pytest.mark.parametrize(
    ("change", "ceiling"),
    [
        ({}, 4),
        ({"reserve_fraction": 0.5}, 2),
        ({"bars": (PoolBar(pool="fra--cpu", reason="full", keeps_current=True),)}, 2),
    ],
)
def test_a_ceiling_ends_at_the_pool_the_reserve_or_the_cordon(
    change: dict[str, object], ceiling: int
) -> None:
    problem = a_problem((FRA,), (wanting(2),), current=(runs(2, "demo", "fra--cpu"),))
    plan = checked(replace(problem, **change))  # type: ignore[arg-type]
    assert [e.ceiling for e in plan.envelopes] == [ceiling]


def test_a_ceiling_ends_at_the_money_the_memory_and_the_spot_share() -> None:
    dear = PlacementPolicy(cost_per_hour_max=0.07)
    plan = checked(a_problem((FRA,), (wanting(2, a_deployment(policy=dear)),)))
    assert [e.ceiling for e in plan.envelopes] == [3]
    fat = (ResourceShape(accelerator="cpu", host_memory_bytes=200 * GIB),)
    plan = checked(a_problem((a_pool("fra"),), (wanting(1, a_deployment(shapes=fat)),)))
    assert [e.ceiling for e in plan.envelopes] == [2]
    spot = a_pool("spot", terms=some_terms(0.01, kind=CapacityClass.SPOT))
    half = PlacementPolicy(spot_share_max=0.5)
    plan = checked(a_problem((spot, a_pool("firm")), (wanting(4, a_deployment(policy=half)),)))
    # Planes scale by themselves: spot's ceiling must hold with the rest at its floor.
    assert {e.pool: e.ceiling for e in plan.envelopes} == {"firm--cpu": 8, "spot--cpu": 2}


def test_a_repair_tells_what_replaces_and_keeps_the_rest_word_for_word() -> None:
    other = a_deployment("other", policy=PlacementPolicy(regions=("region-gcp",)))
    problem = a_problem(THREE_PLANES, (wanting(4), wanting(2, other)))
    session = Session(ARRAYS)
    before = session.solve(problem)
    assert [(p.deployment, p.pool) for p in before.placements] == [
        ("demo", "fra--cpu"),
        ("other", "gcp--cpu"),
    ]
    after = session.repair(before, ["fra--cpu"])
    assert violations(after, without(problem, before, ["fra--cpu"])) == ()
    assert (after.solver, after.solver_reason, after.optimal) == ("repair", "", False)
    assert after.placements[-1] is before.placements[-1]
    replaced = [p for p in after.placements if p.deployment == "demo"]
    assert sum(p.count for p in replaced) == 4
    assert {p.reason for p in replaced} <= {
        "replaces what is lost, $0.04/h a replica",
        "replaces what is lost, $0.05/h a replica",
    }
    # Who was moved in a hurry has no room to grow until the next solve.
    ceilings = {e.pool: e.ceiling for e in after.envelopes if e.deployment == "demo"}
    assert ceilings == {p.pool: p.count for p in replaced}


def test_a_repair_without_room_says_what_is_missing_and_keeps_the_promise_of_classes() -> None:
    high = a_deployment("high", policy=PlacementPolicy(priority=0))
    low = a_deployment("low", policy=PlacementPolicy(priority=3))
    problem = a_problem((GCP, FRA), (wanting(4, high), wanting(4, low)))
    session = Session(ARRAYS)
    before = session.solve(problem)
    lost = next(p.pool for p in before.placements if p.deployment == "high")
    after = session.repair(before, [lost])
    assert violations(after, without(problem, before, [lost])) == ()
    assert [(p.deployment, p.count) for p in after.placements] == [("high", 4)]
    assert [(u.deployment, u.replicas) for u in after.unplaced] == [("low", 4)]
    assert [(s.deployment, s.replicas, s.taken_by) for s in after.shed] == [("low", 4, ("high",))]


def test_repairs_speak_of_the_last_plan_and_of_pools_that_are_there() -> None:
    session = Session(ARRAYS)
    plan = session.solve(a_problem(THREE_PLANES, (wanting(4),)))
    with pytest.raises(ValueError, match="'nowhere' is not among the 3 pools"):
        session.repair(plan, ["nowhere"])
    with pytest.raises(ValueError, match="solve first"):
        session.repair(replace(plan), ["fra--cpu"])
    with pytest.raises(ValueError, match="solve first"):
        Session(ARRAYS).repair(plan, ["fra--cpu"])
    after = session.repair(plan, ["fra--cpu"])
    with pytest.raises(ValueError, match="solve first"):
        session.repair(plan, ["gcp--cpu"])
    last = session.repair(after, ["gcp--cpu"])
    assert {p.pool for p in last.placements} == {"aws--cpu"}
