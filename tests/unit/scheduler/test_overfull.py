"""Fleets that cannot serve everybody: whom to serve is decided among those who compete."""

from dataclasses import replace

from benchmarks.placement_instances import SIZES, describe, problem_of
from scheduler.check import violations
from scheduler.greedy import solve_greedy
from scheduler.grid import build_grid, contended
from scheduler.levels import COST, evaluate
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.session import Session
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_pool,
    a_problem,
    a_shape,
    some_terms,
    wanting,
)

CHEAP = a_pool("cheap", a_shape(per_node=2), some_terms(0.25))
DEAR = a_pool("dear", a_shape(per_node=8))
DRIFT = 1.005


def overfull() -> PlacementProblem:
    """Return the fleet of the benchmarks that serves the least of what it is asked for."""
    return problem_of(describe(SIZES["10x50"], 1))


def placed(plan: PlacementPlan) -> dict[tuple[str, str], int]:
    return {(p.deployment, p.pool): p.count for p in plan.placements}


def test_who_finds_room_whatever_others_do_competes_with_nobody() -> None:
    everywhere = wanting(3, a_deployment("everywhere"))
    only_cheap = replace(wanting(3, a_deployment("only-cheap")), pools=("cheap--cpu",))
    grid = build_grid(a_problem((CHEAP, DEAR), (everywhere, only_cheap)))
    part = contended(grid)
    assert [want.name for want in part.grid.wants] == ["only-cheap"]
    whole = part.whole(solve_greedy(part.grid), grid)
    assert evaluate(part.grid, solve_greedy(part.grid))[:COST] == evaluate(grid, whole)[:COST]
    assert sum(whole) == 5


def test_what_binds_deployments_to_one_another_keeps_all_of_them() -> None:
    grid = build_grid(replace(a_problem((CHEAP, DEAR), (wanting(3),)), moves_max=1))
    assert contended(grid).grid.wants == grid.wants


def test_an_overfull_fleet_is_proven_and_a_little_drift_moves_little() -> None:
    problem, session = overfull(), Session()
    cold = session.solve(problem)
    assert all(level.value == level.bound for level in cold.levels[:COST])
    drifted = tuple(
        replace(d, tokens_per_second=round((d.tokens_per_second or 0.0) * DRIFT, 4))
        for d in problem.demands
    )
    asked = replace(problem, demands=drifted, current=cold.placements)
    warm = session.solve(asked)
    assert violations(warm, asked) == ()
    assert warm.levels[0].value == warm.levels[1].value == 0.0
    assert warm.levels[2].value <= 1.02 * cold.levels[2].value
    again = session.solve(replace(asked, current=warm.placements))
    assert placed(again) == placed(warm)
