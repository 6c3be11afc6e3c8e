"""Faults that readers of the scheduler found: each was a wrong answer or an exception once."""

from dataclasses import replace

import pytest

from scheduler.check import violations
from scheduler.conflicts import Family, conflict
from scheduler.greedy import solve_greedy
from scheduler.grid import build_grid
from scheduler.levels import COST
from scheduler.problem import PlacementProblem
from scheduler.session import Session, without
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import PlacementPolicy, ResourceShape
from skerry.fleet.pool import NODES_MAX, CapacityClass
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_pool,
    a_problem,
    a_shape,
    some_terms,
    wanting,
)

ARRAYS = SolveLimits(columns_max=0)


@pytest.mark.parametrize("accelerators", [2_048, 100_000])
def test_a_replica_larger_than_any_node_is_explained(accelerators: int) -> None:
    huge = a_deployment(
        "huge", shapes=(ResourceShape(accelerator="cpu", accelerators=accelerators),)
    )
    plan = solve(a_problem((), (wanting(1, huge),)))
    assert [item.deployment for item in plan.unplaced] == ["huge"]


def test_who_is_unmet_beside_a_pool_that_cannot_grow_is_explained() -> None:
    most = a_pool("most", a_shape(nodes=NODES_MAX, per_node=1))
    poor = a_deployment("poor", policy=PlacementPolicy(cost_per_hour_max=0.0001))
    plan = solve(a_problem((most,), (wanting(3, poor),)))
    assert [item.deployment for item in plan.unplaced] == ["poor"]


def chained() -> PlacementProblem:
    """Return three deployments that keep apart in a chain: b from c, and c from m."""
    pools = tuple(a_pool(name, a_shape(per_node=1)) for name in ("one", "two", "three", "four"))
    demands = tuple(
        wanting(1, a_deployment(name, policy=PlacementPolicy(anti_affinity=others)))
        for name, others in (("b", ("c",)), ("c", ("m",)), ("m", ()))
    )
    return a_problem(pools, demands)


@pytest.mark.parametrize("lost", ["one--cpu", "two--cpu", "three--cpu", "four--cpu"])
def test_a_chain_of_rivals_is_repaired(lost: str) -> None:
    problem, session = chained(), Session(ARRAYS)
    plan = session.solve(problem)
    repaired = session.repair(plan, [lost])
    assert violations(repaired, without(problem, plan, [lost])) == ()


def test_the_bound_of_a_repair_does_not_count_starts_of_what_runs() -> None:
    pools = tuple(a_pool(name, a_shape(per_node=8)) for name in ("one", "two"))
    problem = replace(a_problem(pools, (wanting(6),)), move_cost_dollars=500.0)
    session = Session(ARRAYS)
    plan = session.solve(problem)
    lost = next(p.name for p in pools if p.name not in {x.pool for x in plan.placements})
    repaired = session.repair(plan, [lost])
    again = solve(without(problem, plan, [lost]))
    assert repaired.levels[COST].bound <= again.levels[COST].value + 1e-6


def test_a_repaired_plan_tells_no_price_of_what_is_lost() -> None:
    pools = (
        a_pool("cheap", a_shape(per_node=2), some_terms(0.25)),
        a_pool("dear", a_shape(per_node=8)),
    )
    session = Session(ARRAYS)
    plan = session.solve(a_problem(pools, (wanting(4),)))
    repaired = session.repair(plan, ["cheap--cpu"])
    assert "cheap--cpu" not in {price.pool for price in repaired.prices}


def two_kinds(fast: float, slow: float, wanted: float, most: int) -> PlacementProblem:
    shapes = (
        ResourceShape(accelerator="fast", accelerators=1, throughput_tokens_per_second=fast),
        ResourceShape(accelerator="cpu", accelerators=1, throughput_tokens_per_second=slow),
    )
    deployment = a_deployment("demo", shapes=shapes, replicas=(0, most))
    demand = replace(wanting(0, deployment), tokens_per_second=wanted)
    return a_problem((a_pool("slow", a_shape(nodes=29, per_node=1)),), (demand,))


def test_conflict_counts_a_replica_as_the_solver_does() -> None:
    grid = build_grid(two_kinds(300.0, 100.0, 3_000.0, 30))
    found = conflict(grid, grid.wants[0], solve_greedy(grid))
    assert Family.POOLS in found


def test_conflict_answers_for_large_demands_on_many_spot_pools() -> None:
    spot = some_terms(1.0, kind=CapacityClass.SPOT)
    pools = tuple(a_pool(f"spot-{n}", a_shape(nodes=2_000, per_node=1), spot) for n in range(100))
    shape = ResourceShape(accelerator="cpu", accelerators=1, throughput_tokens_per_second=100.0)
    policy = PlacementPolicy(spot_share_max=0.0)
    deployment = a_deployment("demo", shapes=(shape,), policy=policy, replicas=(0, 100_000))
    demand = replace(wanting(0, deployment), tokens_per_second=100_000.0)
    grid = build_grid(a_problem(pools, (demand,)))
    assert conflict(grid, grid.wants[0], solve_greedy(grid)) == (Family.SPOT,)
