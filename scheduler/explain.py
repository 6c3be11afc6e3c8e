"""Why here, why not there, why not at all: counterfactuals, each found by solving again.

The operator API's Explain and the CLI ask about one deployment of a plan, and maybe one pool. In a
large fleet all other deployments are held where they are, and the sentences say so.
"""

from collections.abc import Iterator
from dataclasses import dataclass, replace

from scheduler.conflicts import Family, conflict
from scheduler.feasibility import bars_by_pool, latency_table, rejections
from scheduler.focus import beside_others, of_its_kinds, where_it_may_help
from scheduler.grid import Counts, Grid, Want, build_grid
from scheduler.levels import unmet_of
from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem
from scheduler.reasons import WAYS_OUT_MAX, Way, ways_out
from scheduler.solve import SolveLimits, grid_if_small, solve

# Changes that help are all tried up to so many, so that the cheapest of them come first.
WAYS_TRIED_MAX = 12
LIMITS = SolveLimits(explained_max=0)
# Of a large fleet one deployment is placed anew: greedy does it, and no grid is needed for it.
_FOCUSED = SolveLimits(explained_max=0, searches=False, pairs_max=0)
_HELD = "all others held on their pools"


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Sentences about one deployment of a plan; `pool` None speaks of all of it.

    `conflict` is a minimal set of kinds of constraints that rules out what is unmet, and `ways` are
    changes that would place it, the cheapest first, each verified by solving again.
    """

    deployment: str
    pool: str | None
    replicas: int
    reasons: tuple[str, ...]
    conflict: tuple[Family, ...] = ()
    ways: tuple[Way, ...] = ()


def explain(
    problem: PlacementProblem,
    plan: PlacementPlan,
    deployment: str,
    pool: str | None = None,
    limits: SolveLimits = LIMITS,
) -> Explanation:
    """Return why the deployment is where it is, or why it is not on a pool, or not placed.

    Raises ValueError when the problem names no such deployment or pool.
    """
    demanded = next((d for d in problem.demands if d.deployment.name == deployment), None)
    if demanded is None:
        raise ValueError(f"no deployment {deployment!r} in the problem")
    if pool is not None and all(other.name != pool for other in problem.pools):
        raise ValueError(f"no pool {pool!r} in the problem")
    placed = {p.pool: p for p in plan.placements if p.deployment == deployment}
    if pool is None:
        return _of_all(problem, plan, demanded, limits)
    if pool in placed:
        others = _others(problem, demanded, pool)
        only = ("without this pool", others)
        here = (placed[pool].reason, _if_only(problem, plan, demanded, only, limits))
        count = placed[pool].count
        return Explanation(deployment=deployment, pool=pool, replicas=count, reasons=here)
    reasons = tuple(_why_not(problem, plan, demanded, pool, limits))
    return Explanation(deployment=deployment, pool=pool, replicas=0, reasons=reasons)


def _of_all(
    problem: PlacementProblem,
    plan: PlacementPlan,
    demanded: DemandedDeployment,
    limits: SolveLimits,
) -> Explanation:
    name = demanded.deployment.name
    placed = [p for p in plan.placements if p.deployment == name]
    short = next((u for u in plan.unplaced if u.deployment == name), None)
    reasons = [f"{p.count} on {p.pool}: {p.reason}" for p in placed]
    found: tuple[Family, ...] = ()
    ways: tuple[Way, ...] = ()
    if short is not None:
        reasons.append(short.reason)
        whole = grid_if_small(problem, limits)
        grid = whole or build_grid(of_its_kinds(problem, plan, demanded))
        want = _want_of(grid, name)
        found = conflict(grid, want, _counts(grid, plan))
        if whole is None:
            grid = build_grid(where_it_may_help(problem, plan, demanded))
            want = _want_of(grid, name)
            reasons.append(f"ways out sought on {len(grid.pools)} pools, {_HELD}")
        ways = _cheapest_first(grid, want, _counts(grid, plan))
    return Explanation(
        deployment=name,
        pool=None,
        replicas=sum(p.count for p in placed),
        reasons=tuple(reasons),
        conflict=found,
        ways=ways,
    )


def _want_of(grid: Grid, name: str) -> Want:
    return next(want for want in grid.wants if want.name == name)


def _cheapest_first(grid: Grid, want: Want, counts: Counts) -> tuple[Way, ...]:
    assert unmet_of(grid, want, counts)
    ways = ways_out(grid, want, counts, WAYS_TRIED_MAX)
    return tuple(sorted(ways, key=lambda way: (way.dollars_per_hour, way.change))[:WAYS_OUT_MAX])


def _counts(grid: Grid, plan: PlacementPlan) -> Counts:
    placed = {(p.deployment, p.pool): p.count for p in plan.placements}
    return tuple(placed.get((column.deployment, column.pool), 0) for column in grid.columns)


def _why_not(
    problem: PlacementProblem,
    plan: PlacementPlan,
    demanded: DemandedDeployment,
    pool: str,
    limits: SolveLimits,
) -> Iterator[str]:
    """Yield every constraint that rules the pool out, or what using it would have cost."""
    there = next(other for other in problem.pools if other.name == pool)
    runs = {(p.deployment, p.pool): p.count for p in problem.current}
    broken = rejections(
        demanded,
        there,
        bar=bars_by_pool(problem.bars).get(pool),
        runs=runs.get((demanded.deployment.name, pool), 0),
        latencies=latency_table(problem.latencies),
    )
    yield from broken
    if not broken:
        yield _if_only(problem, plan, demanded, (f"all of it on {pool}", (pool,)), limits)


def _others(problem: PlacementProblem, demanded: DemandedDeployment, pool: str) -> tuple[str, ...]:
    named = demanded.pools
    return tuple(
        other.name
        for other in problem.pools
        if other.name != pool and (named is None or other.name in named)
    )


def _if_only(
    problem: PlacementProblem,
    plan: PlacementPlan,
    demanded: DemandedDeployment,
    only: tuple[str, tuple[str, ...]],
    limits: SolveLimits,
) -> str:
    """Return what solving again finds when the deployment may use some pools only."""
    what, pools = only
    name = demanded.deployment.name
    if grid_if_small(problem, limits) is None:
        problem, limits, what = beside_others(problem, plan, name), _FOCUSED, f"{what}, {_HELD}"
    demands = tuple(
        replace(demanded, pools=pools) if other.deployment.name == name else other
        for other in problem.demands
    )
    other = solve(replace(problem, demands=demands), limits)
    unmet_before = {u.deployment: u.replicas for u in plan.unplaced}
    worse = [
        f"{u.replicas - unmet_before.get(u.deployment, 0)} more replicas of {u.deployment} unplaced"
        for u in other.unplaced
        if u.replicas > unmet_before.get(u.deployment, 0)
    ]
    survival = _level(other, "survival") - _level(plan, "survival")
    if survival > 0.0:
        worse.append(f"{survival:g} replicas more are missing after the loss of a domain")
    dollars = other.cost_per_hour - plan.cost_per_hour
    money = f"{'+' if dollars >= 0 else '-'}${abs(dollars):.4g}/h"
    return f"{what}: {', '.join([*worse, money])}"


def _level(plan: PlacementPlan, name: str) -> float:
    return next((level.value for level in plan.levels if level.level == name), 0.0)
