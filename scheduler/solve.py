"""The pipeline: grid, greedy start, exact search, check, envelopes, reasons.

The only entrance for callers. Deterministic and without a clock: the caller measures the time.
"""

import math
from dataclasses import dataclass

from scheduler.check import Violation, violations
from scheduler.envelopes import grant_envelopes
from scheduler.exact import Answer, improve, unproven
from scheduler.explain import free_accelerators, placement_reason, unplaced_reason
from scheduler.greedy import solve_greedy
from scheduler.grid import Counts, Grid, build_grid
from scheduler.levels import as_values, evaluate, unmet_of
from scheduler.plan import PlacementPlan, Rejection, Unplaced
from scheduler.problem import PlacementProblem
from skerry.fleet.placement import Placement

# 2,000 deployments on 1,000 pools have two million pairs; a plan is stored and shown to people.
REJECTIONS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveLimits:
    """How hard to try. `deterministic_time_max` is per level, in CP-SAT's unit of about a second.

    Past `columns_max` the exact search proves nothing in that time, and greedy stands alone; up to
    there `explained_max` deployments get ways out, each of which costs a few greedy solves.
    """

    columns_max: int = 4_000
    deterministic_time_max: float = 1.0
    explained_max: int = 5


class UnusablePlan(RuntimeError):
    """Even the fallback broke a rule: a fault of the scheduler; nothing may be changed by it."""

    def __init__(self, found: tuple[Violation, ...]) -> None:
        first = found[0]
        super().__init__(
            f"{len(found)} violations, first: {first.rule} of {first.subject}: {first.message}"
        )
        self.violations = found


def solve(problem: PlacementProblem, limits: SolveLimits = SolveLimits()) -> PlacementPlan:
    """Return a checked plan; the same problem gives the same plan, in whatever order it is told.

    Raises UnusablePlan rather than return a plan that breaks a rule.
    """
    grid = build_grid(problem)
    start = solve_greedy(grid)
    if len(grid.columns) <= limits.columns_max:
        answer = improve(grid, start, deterministic_time_max=limits.deterministic_time_max)
        if answer is not None and evaluate(grid, answer.counts) <= evaluate(grid, start):
            plan = _plan(grid, answer, "cp-sat", limits)
            if not violations(plan, problem):
                return plan
    plan = _plan(grid, unproven(grid, start), "greedy", limits)
    if found := violations(plan, problem):
        raise UnusablePlan(found)
    return plan


def _plan(grid: Grid, answer: Answer, solver: str, limits: SolveLimits) -> PlacementPlan:
    counts = answer.counts
    free = free_accelerators(grid, counts)
    placements = tuple(
        Placement(
            deployment=want.name,
            pool=grid.columns[index].pool,
            count=counts[index],
            reason=placement_reason(grid, want, index, counts, free),
        )
        for want in grid.wants
        for index in want.columns
        if counts[index]
    )
    unplaced = _unplaced(grid, counts, limits)
    return PlacementPlan(
        placements=placements,
        envelopes=grant_envelopes(grid, counts),
        unplaced=unplaced,
        rejections=_rejections(grid, unplaced),
        levels=as_values(grid, evaluate(grid, counts), answer.bounds),
        cost_per_hour=_cost_per_hour(grid, counts),
        solver=solver,
        optimal=answer.optimal,
    )


def _unplaced(grid: Grid, counts: Counts, limits: SolveLimits) -> tuple[Unplaced, ...]:
    short = [want for want in grid.wants if unmet_of(grid, want, counts)]
    first = sorted(short, key=lambda want: (want.priority, want.name))[: limits.explained_max]
    affordable = len(grid.columns) <= limits.columns_max
    explained = {want.name for want in first if affordable}
    return tuple(
        Unplaced(
            deployment=want.name,
            replicas=-(-unmet_of(grid, want, counts) // want.scale),
            reason=unplaced_reason(grid, want, counts, with_ways=want.name in explained),
        )
        for want in short
    )


def _rejections(grid: Grid, unplaced: tuple[Unplaced, ...]) -> tuple[Rejection, ...]:
    """Return the rejections, those of unplaced deployments first where there are too many."""
    if len(grid.rejections) <= REJECTIONS_MAX:
        return grid.rejections
    short = {item.deployment for item in unplaced}
    first = sorted(grid.rejections, key=lambda rejected: rejected.deployment not in short)
    return tuple(sorted(first[:REJECTIONS_MAX], key=lambda r: (r.deployment, r.pool)))


def _cost_per_hour(grid: Grid, counts: Counts) -> float:
    return math.fsum(
        (grid.pools[column.pool].terms.price_per_accelerator_hour or 0.0)
        * column.accelerators
        * count
        for column, count in zip(grid.columns, counts, strict=True)
    )
