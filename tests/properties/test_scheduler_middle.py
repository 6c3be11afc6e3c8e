"""Promises on fleets between the tiny ones of Hypothesis and the large ones: 100 to 400 columns.

Here CP-SAT starts from the pipeline, and an over-full fleet is decided among those who compete.
"""

from dataclasses import replace

import pytest

from benchmarks.placement_instances import Size, describe, problem_of
from scheduler.check import violations
from scheduler.grid import build_grid
from scheduler.large import REPLAN_GAIN_MIN
from scheduler.levels import COST
from scheduler.plan import PlacementPlan, diff
from scheduler.problem import PlacementProblem
from scheduler.session import Session
from scheduler.solve import ARRAYS_COLUMNS_MIN, SolveLimits, solve

pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("test_scheduler_middle")]

SEEDS = range(11, 19)
# Half of them have fewer nodes than they are asked for.
ROOMY = Size(pools=10, deployments=40, nodes_mean=70.0)
SCARCE = Size(pools=10, deployments=40, nodes_mean=35.0)
GREEDY = SolveLimits(searches=False)
# The last digit of a part that is told in thousandths.
DUST = 1e-3


@pytest.fixture(scope="module", params=SEEDS)
def problem(request: pytest.FixtureRequest) -> PlacementProblem:
    seed = int(request.param)
    return problem_of(describe(ROOMY if seed % 2 else SCARCE, seed))


@pytest.fixture(scope="module")
def plan(problem: PlacementProblem) -> PlacementPlan:
    return solve(problem)


def before_cost(plan: PlacementPlan) -> list[float]:
    return [level.value for level in plan.levels[:COST]]


def test_the_fleet_is_of_the_size_that_is_meant(problem: PlacementProblem) -> None:
    assert ARRAYS_COLUMNS_MIN <= len(build_grid(problem).columns) <= 4_000


def test_no_rule_is_broken_and_nothing_fell_back(
    problem: PlacementProblem, plan: PlacementPlan
) -> None:
    assert violations(plan, problem) == ()
    assert plan.solver in ("cp-sat", "pipeline")


def test_greedy_is_never_better(problem: PlacementProblem, plan: PlacementPlan) -> None:
    greedy = solve(problem, GREEDY)
    ours, theirs = before_cost(plan), before_cost(greedy)
    differs = next((n for n in range(COST) if abs(ours[n] - theirs[n]) > DUST), None)
    if differs is not None:
        assert ours[differs] < theirs[differs]
    else:
        assert plan.levels[COST].value <= greedy.levels[COST].value + DUST


def test_every_bound_is_one_that_greedy_does_not_go_below(
    problem: PlacementProblem, plan: PlacementPlan
) -> None:
    greedy = solve(problem, GREEDY)
    for ours, theirs in zip(plan.levels[: COST + 1], greedy.levels, strict=False):
        assert ours.bound <= theirs.value + DUST
        if ours.value < theirs.value - DUST:
            break  # the bounds below are for plans as good as ours up to there


def test_a_plan_applied_and_solved_again_moves_only_for_a_better_one(
    problem: PlacementProblem, plan: PlacementPlan
) -> None:
    """What was not proven may be found better when it is looked at again, and only then moves."""
    session = Session()
    first = session.solve(problem)
    again = session.solve(replace(problem, current=first.placements))
    ours, theirs = before_cost(again), before_cost(first)
    differs = next((n for n in range(COST) if abs(ours[n] - theirs[n]) > DUST), None)
    if differs is not None:
        assert ours[differs] < theirs[differs]
        assert first.levels[differs].value > first.levels[differs].bound
    elif sum(move.count for move in diff(again, first.placements).move):
        assert again.levels[COST].value < first.levels[COST].value * (1.0 - REPLAN_GAIN_MIN)


def test_the_same_problem_gives_the_same_plan_in_whatever_order_it_is_told(
    problem: PlacementProblem, plan: PlacementPlan
) -> None:
    turned = replace(
        problem, pools=tuple(reversed(problem.pools)), demands=tuple(reversed(problem.demands))
    )
    assert solve(turned) == plan
