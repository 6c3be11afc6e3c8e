"""From a problem to a checked plan: the exact path for small fleets, the arrays for large ones.

`solve` for one problem, `session.Session` for one fleet again and again; `process` holds a session.
Deterministic and without a clock: the caller measures the time.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from scheduler.check import Violation, violations
from scheduler.envelopes import grant_envelopes
from scheduler.exact import Answer, improve, unproven
from scheduler.greedy import keep_running, solve_greedy
from scheduler.grid import MICRODOLLARS, Counts, Grid, Want, build_grid
from scheduler.levels import COST, as_values, evaluate, unmet_of
from scheduler.plan import PlacementPlan, PoolPrice, Rejection, Shed, Unplaced
from scheduler.problem import PlacementProblem
from scheduler.reasons import free_accelerators, placement_reason, unplaced_reason
from skerry.fleet.placement import Placement

if TYPE_CHECKING:
    from scheduler.arrays import Arrays
    from scheduler.large import LargeAnswer
    from scheduler.wide import Start, Warm

# The pipeline's start beats two seconds of search at 150 columns; below 100 all is proven anyway.
ARRAYS_COLUMNS_MIN = 100
# 2,000 deployments on 1,000 pools have two million pairs; a plan is stored and shown to people.
REJECTIONS_MAX = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class SolveLimits:
    """How hard to try. `deterministic_time_max` is per level, in CP-SAT's unit of about a second.

    Past `columns_max` pairs that may host one another (or `pairs_max` in all) the exact search
    proves nothing in that time and the pipeline for large fleets is asked. Up to there
    `explained_max` deployments get ways out, each of which costs a few greedy solves. Without
    `searches` greedy alone answers. From ARRAYS_COLUMNS_MIN on the pipeline's plan is the start,
    cost gets `cost_time_share` of a level's time, and nobody gets ways out.
    """

    columns_max: int = 4_000
    pairs_max: int = 10_000
    deterministic_time_max: float = 0.2
    explained_max: int = 5
    searches: bool = True
    cost_time_share: float = 0.015


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

    What fails or breaks a rule gives way to greedy, and that to keeping what runs; the plan says
    why. Raises UnusablePlan rather than return a plan that breaks a rule.
    """
    return solve_from(problem, limits).plan


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A checked plan; the arrays and the answer it tells, where the pipeline found it; and what the
    next solve may start from."""

    plan: PlacementPlan
    arrays: "Arrays | None" = None
    answer: "LargeAnswer | None" = None
    warm: "Warm | None" = None


def solve_from(
    problem: PlacementProblem,
    limits: SolveLimits,
    warm: "Warm | None" = None,
    former: "Arrays | None" = None,
) -> Outcome:
    """Return a checked plan, found from the last prices and arrays where there are any."""
    grid = grid_if_small(problem, limits)
    if grid is None:
        return solve_arrays(problem, limits, warm, former)
    if warm is not None and limits.searches and len(grid.columns) >= ARRAYS_COLUMNS_MIN:
        found = solve_arrays(problem, limits, warm)
        levels = found.plan.levels[:COST]
        if found.answer is not None and all(v.value <= v.bound for v in levels):
            return found
    return _solve_grid(grid, limits)


def _solve_grid(grid: Grid, limits: SolveLimits) -> Outcome:
    failures: list[str] = []
    started = _start(grid, limits, failures)
    for solver, attempt in _attempts(grid, started, limits):
        try:
            answer = attempt()
        except Exception as error:  # a fault of one solver must not leave the fleet without a plan
            failures.append(f"{solver}: {type(error).__name__}: {error}")
            continue
        if answer is None:
            failures.append(f"{solver}: found nothing that fits the nodes")
            continue
        plan = _told(grid, answer, solver, (started.pipeline, limits))
        plan = replace(plan, solver_reason="; ".join(failures))
        found = violations(plan, grid.problem)
        if not found:
            return Outcome(plan=plan, warm=started.warm)
        failures.append(f"{solver}: {UnusablePlan(found)}")
    return Outcome(plan=keep_what_is(grid.problem, "; ".join(failures)))


def pairs_of(problem: PlacementProblem) -> int:
    """Return how many pairs of a deployment and a pool the demands speak of."""
    pools = len(problem.pools)
    return sum(pools if d.pools is None else min(len(d.pools), pools) for d in problem.demands)


def grid_if_small(problem: PlacementProblem, limits: SolveLimits) -> Grid | None:
    """Return the grid of a problem that the exact search can take, None for a larger one."""
    if pairs_of(problem) > limits.pairs_max:
        return None
    grid = build_grid(problem)
    return grid if len(grid.columns) <= limits.columns_max else None


def solve_arrays(
    problem: PlacementProblem,
    limits: SolveLimits = SolveLimits(),
    warm: "Warm | None" = None,
    former: "Arrays | None" = None,
) -> Outcome:
    """Return what the pipeline for large fleets finds, or what greedy does, or what runs."""
    failures: list[str] = []
    try:
        # Compiled code takes longer to load than small fleets take to solve.
        from scheduler.wide import attempts, prepare, tell, warm_of

        arrays, start = prepare(problem, warm, former)
    except Exception as error:
        return Outcome(plan=keep_what_is(problem, f"arrays: {type(error).__name__}: {error}"))
    for solver, attempt in attempts(arrays, start, searches=limits.searches):
        try:
            answer = attempt()
            plan = replace(tell(arrays, answer, solver), solver_reason="; ".join(failures))
        except Exception as error:  # as above
            failures.append(f"{solver}: {type(error).__name__}: {error}")
            continue
        found = violations(plan, problem)
        if not found:
            return Outcome(plan=plan, arrays=arrays, answer=answer, warm=warm_of(arrays, answer))
        failures.append(f"{solver}: {UnusablePlan(found)}")
    return Outcome(plan=keep_what_is(problem, "; ".join(failures)))


def keep_what_is(problem: PlacementProblem, reason: str = "") -> PlacementPlan:
    """Return the plan that starts nothing and stops only what may not stay.

    Raises UnusablePlan when even that breaks a rule.
    """
    running: dict[str, list[str]] = defaultdict(list)
    for placement in problem.current:
        running[placement.deployment].append(placement.pool)
    demands = tuple(
        replace(demanded, pools=_both(demanded.pools, running[demanded.deployment.name]))
        for demanded in problem.demands
    )
    grid = build_grid(replace(problem, demands=demands))
    answer = unproven(grid, keep_running(grid))
    # Of this smaller problem the bounds would be too high: they promise nothing.
    answer = replace(answer, bounds=(0,) * len(answer.bounds), optimal=False)
    plan = _plan(grid, answer, "keep", SolveLimits(explained_max=0))
    why = f"nothing new is placed: {reason or 'what runs is kept'}"
    unplaced = tuple(
        replace(item, reason=f"needs {item.replicas} more replicas; {why}")
        for item in plan.unplaced
    )
    plan = replace(plan, unplaced=unplaced, rejections=(), solver_reason=reason)
    if found := violations(plan, problem):
        raise UnusablePlan(found)
    return plan


def _both(named: tuple[str, ...] | None, running: list[str]) -> tuple[str, ...]:
    return tuple(sorted(pool for pool in running if named is None or pool in named))


@dataclass(frozen=True, slots=True, kw_only=True)
class _Start:
    """Counts to search from: the pipeline's from ARRAYS_COLUMNS_MIN on, or greedy's."""

    best: Counts
    pipeline: "Start | None" = None
    warm: "Warm | None" = None


def _start(grid: Grid, limits: SolveLimits, failures: list[str]) -> _Start:
    if not limits.searches or len(grid.columns) < ARRAYS_COLUMNS_MIN:
        return _Start(best=solve_greedy(grid))
    try:
        # Compiled code takes longer to load than small fleets take to solve.
        from scheduler.wide import start_of, warm_of

        found = start_of(grid)
    except Exception as error:  # greedy's start will do for the exact search
        failures.append(f"pipeline: {type(error).__name__}: {error}")
        return _Start(best=solve_greedy(grid))
    best, levels, bounds = found.counts, found.answer.levels, found.answer.bounds
    if levels.unmet != bounds.unmet or levels.survival > bounds.survival:
        best = min(solve_greedy(grid), best, key=partial(evaluate, grid))
    warm = warm_of(found.arrays, found.answer)
    return _Start(best=best, pipeline=found, warm=warm)


def _told(
    grid: Grid, answer: Answer, solver: str, how: "tuple[Start | None, SolveLimits]"
) -> PlacementPlan:
    """Return the plan of an answer, by way of the arrays where there are some."""
    start, limits = how
    if start is None:
        return _plan(grid, answer, solver, limits)
    from scheduler.wide import tell_counts

    return replace(
        tell_counts(grid, start, answer.counts, solver),
        levels=as_values(grid, evaluate(grid, answer.counts), answer.bounds),
        optimal=answer.optimal,
        prices=_prices(answer),
    )


def _attempts(
    grid: Grid, start: _Start, limits: SolveLimits
) -> Iterator[tuple[str, Callable[[], Answer | None]]]:
    """Yield the solvers in the order in which they are asked."""
    if limits.searches:
        yield "cp-sat", partial(_exact, grid, start.best, limits)
        if start.pipeline is not None:
            yield "pipeline", partial(unproven, grid, start.best)
    yield "greedy", lambda: unproven(grid, solve_greedy(grid))


def _exact(grid: Grid, start: Counts, limits: SolveLimits) -> Answer | None:
    share = limits.cost_time_share if len(grid.columns) >= ARRAYS_COLUMNS_MIN else 1.0
    answer = improve(grid, start, (limits.deterministic_time_max, share))
    if answer is None or evaluate(grid, answer.counts) > evaluate(grid, start):
        return None
    return answer


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
        shed=shed_replicas(grid, counts),
        prices=_prices(answer),
    )


def _prices(answer: Answer) -> tuple[PoolPrice, ...]:
    """Return what one more accelerator of each scarce pool would save."""
    told = ((pool, round(dual / MICRODOLLARS, 6)) for pool, dual in sorted(answer.prices.items()))
    return tuple(
        PoolPrice(pool=pool, dollars_per_hour=dollars) for pool, dollars in told if dollars
    )


def _unplaced(grid: Grid, counts: Counts, limits: SolveLimits) -> tuple[Unplaced, ...]:
    short = [want for want in grid.wants if unmet_of(grid, want, counts)]
    most = limits.explained_max if len(grid.columns) < ARRAYS_COLUMNS_MIN else 0
    first = sorted(short, key=lambda want: (want.priority, want.name))[:most]
    explained = {want.name for want in first}
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


def shed_replicas(grid: Grid, counts: Counts) -> tuple[Shed, ...]:
    """Return what is given up of deployments that are left short, the lowest class first."""
    found: list[Shed] = []
    for want in sorted(grid.wants, key=lambda want: (-want.priority, want.name)):
        gain = sum(counts[i] - grid.columns[i].current for i in want.columns)
        if gain >= 0 or not unmet_of(grid, want, counts):
            continue
        left = -gain
        for index in want.columns:
            stopped = min(left, grid.columns[index].current - counts[index])
            if stopped > 0:
                left -= stopped
                found.append(_shed(grid, want, index, counts, stopped))
    return tuple(found)


def _shed(grid: Grid, want: Want, index: int, counts: Counts, stopped: int) -> Shed:
    pool = grid.columns[index].pool
    priority = {other.name: other.priority for other in grid.wants}
    gained = [
        grid.columns[i].deployment
        for i in sorted({*grid.on_pool[pool], *grid.rivals.get(index, ())})
        if i != index and counts[i] > grid.columns[i].current
    ]
    takers = tuple(sorted({name for name in gained if priority[name] <= want.priority}))
    if takers:
        reason = f"class {want.priority} gives way to class {min(priority[t] for t in takers)}"
    else:
        reason = "its pool, its plane or its own limits no longer hold it"
    return Shed(deployment=want.name, pool=pool, replicas=stopped, taken_by=takers, reason=reason)


def _cost_per_hour(grid: Grid, counts: Counts) -> float:
    return math.fsum(
        (grid.pools[column.pool].terms.price_per_accelerator_hour or 0.0)
        * column.accelerators
        * count
        for column, count in zip(grid.columns, counts, strict=True)
    )
