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
from scheduler.levels import moves_of, unmet_of
from scheduler.plan import PlacementPlan
from scheduler.problem import BadQuestion, DemandedDeployment, PlacementProblem
from scheduler.reasons import WAYS_OUT_MAX, Way, ways_out
from scheduler.solve import SolveLimits, grid_if_small, solve

# Changes that help are all tried up to so many, so that the cheapest of them come first.
WAYS_TRIED_MAX = 12
# A larger movement budget is sought by halving what is between, each step a whole solve.
BUDGETS_TRIED_MAX = 4
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

    Raises BadQuestion when the problem names no such deployment or pool.
    """
    demanded = next((d for d in problem.demands if d.deployment.name == deployment), None)
    if demanded is None:
        raise BadQuestion(f"no deployment {deployment!r} in the problem")
    if pool is not None and all(other.name != pool for other in problem.pools):
        raise BadQuestion(f"no pool {pool!r} in the problem")
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
        # In a large fleet the others are held, so there is no budget that they could share.
        budget = _larger_budget(whole, plan, name, limits) if whole is not None else None
        if budget is not None and Family.MOVES not in found:
            found = (*found, Family.MOVES)  # it is what keeps the others where they are
        ways = _cheapest_first(grid, want, _counts(grid, plan), budget)
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


def _cheapest_first(grid: Grid, want: Want, counts: Counts, budget: Way | None) -> tuple[Way, ...]:
    assert unmet_of(grid, want, counts)
    ways = [*ways_out(grid, want, counts, WAYS_TRIED_MAX), *([budget] if budget else [])]
    return tuple(sorted(ways, key=_by_price)[:WAYS_OUT_MAX])


def _by_price(way: Way) -> tuple[bool, float, str]:
    """Order ways out by what they cost, those that nobody can price last."""
    return way.dollars_per_hour is None, way.dollars_per_hour or 0.0, way.change


def _larger_budget(grid: Grid, plan: PlacementPlan, name: str, limits: SolveLimits) -> Way | None:
    """Return the least movement budget found with which all of the deployment is placed.

    None where no budget helps. Each is tried by solving the whole fleet: others may have to move.
    """
    problem = grid.problem
    if problem.moves_max is None:
        return None
    free = solve(replace(problem, moves_max=None), limits)
    counts = _counts(grid, free)
    low, high = problem.moves_max, sum(moves_of(grid, want, counts) for want in grid.wants)
    if not _places_all_of(free, plan, name) or high <= low:
        return None
    found, tried = None, high
    for _ in range(BUDGETS_TRIED_MAX):
        other = solve(replace(problem, moves_max=tried), limits)
        if _places_all_of(other, plan, name):
            high, dollars = tried, other.cost_per_hour - plan.cost_per_hour
            text = f"movement budget {tried} (it is {problem.moves_max})"
            found = Way(change=text, dollars_per_hour=round(dollars, 6))
        elif found is None:
            return None
        else:
            low = tried
        if high - low == 1:
            break
        tried = (low + high) // 2
    return found


def _places_all_of(other: PlacementPlan, plan: PlacementPlan, name: str) -> bool:
    """Say whether the other plan places all of one deployment and no less of any."""
    unmet = {u.deployment: u.replicas for u in plan.unplaced if u.deployment != name}
    return all(u.replicas <= unmet.get(u.deployment, 0) for u in other.unplaced)


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
