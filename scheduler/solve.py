"""From a problem to a checked plan: the exact path for small fleets, the arrays for large ones.

`solve` for one problem, `session.Session` for one fleet again and again; `process` holds a session.
Deterministic and without a clock: the caller measures the time.
"""

from collections import defaultdict
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

from scheduler.check import Violation, violations
from scheduler.exact import Answer, improve, unproven
from scheduler.greedy import keep_running, solve_greedy
from scheduler.grid import Counts, Grid, build_grid
from scheduler.gridplan import plan_of, prices_of
from scheduler.levels import COST, Scope, as_values, evaluate, floors
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem

if TYPE_CHECKING:
    from scheduler.arrays import Arrays
    from scheduler.large import LargeAnswer
    from scheduler.wide import Start, Warm

# The pipeline's start beats two seconds of search at 150 columns; below 100 all is proven anyway.
ARRAYS_COLUMNS_MIN = 100


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
    failures: list[str] = []
    if warm is not None and limits.searches and len(grid.columns) >= ARRAYS_COLUMNS_MIN:
        try:
            found = solve_arrays(problem, limits, warm)
        except UnusablePlan as error:
            failures.append(f"pipeline: {error}")
        else:
            levels = found.plan.levels[:COST]
            if found.answer is not None and all(v.value <= v.bound for v in levels):
                return found
    return _solve_grid(grid, limits, failures)


def _solve_grid(grid: Grid, limits: SolveLimits, failures: list[str]) -> Outcome:
    started = _start(grid, limits, failures)
    for solver, attempt in _attempts(grid, started, limits):
        try:
            answer = attempt()
            if answer is None:
                failures.append(f"{solver}: found nothing better that fits the nodes")
                continue
            plan = _told(grid, answer, solver, (started.pipeline, limits))
        except Exception as error:  # a fault of one solver must not leave the fleet without a plan
            failures.append(f"{solver}: {type(error).__name__}: {error}")
            continue
        plan = replace(plan, solver_reason="; ".join(failures))
        found = violations(plan, grid.problem)
        if not found:
            arrays = started.pipeline.arrays if started.pipeline else None
            return Outcome(plan=plan, arrays=arrays, warm=started.warm)
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
    plan = plan_of(grid, answer, "keep", 0)
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
    """Counts to search from: the pipeline's from ARRAYS_COLUMNS_MIN on, or greedy's.

    `bounds` are those of the first levels, where these are decided already.
    """

    best: Counts
    pipeline: "Start | None" = None
    warm: "Warm | None" = None
    bounds: tuple[int, ...] = ()


def _start(grid: Grid, limits: SolveLimits, failures: list[str]) -> _Start:
    if not limits.searches or len(grid.columns) < ARRAYS_COLUMNS_MIN:
        return _Start(best=solve_greedy(grid))
    try:
        # Compiled code takes longer to load than small fleets take to solve.
        from scheduler.overfull import decided
        from scheduler.wide import start_of, warm_of

        chosen: _Start | None = None
        if part := decided(grid, limits.deterministic_time_max):
            chosen = _Start(best=part.start.counts, pipeline=part.start, bounds=part.bounds)
            if evaluate(grid, chosen.best)[:COST] == chosen.bounds:
                return chosen
        found = start_of(grid)
    except Exception as error:  # greedy's start will do for the exact search
        failures.append(f"pipeline: {type(error).__name__}: {error}")
        return _Start(best=solve_greedy(grid))
    best, levels, bounds = found.counts, found.answer.levels, found.answer.bounds
    if levels.unmet != bounds.unmet or levels.survival > bounds.survival:
        best = min(solve_greedy(grid), best, key=partial(evaluate, grid))
    warm = warm_of(found.arrays, found.answer)
    start = _Start(best=best, pipeline=found, warm=warm)
    return _better_of(grid, chosen, start) if chosen else start


def _told(
    grid: Grid, answer: Answer, solver: str, how: "tuple[Start | None, SolveLimits]"
) -> PlacementPlan:
    """Return the plan of an answer, by way of the arrays where there are some."""
    start, limits = how
    if start is None:
        most = limits.explained_max if len(grid.columns) < ARRAYS_COLUMNS_MIN else 0
        return plan_of(grid, answer, solver, most)
    from scheduler.wide import tell_counts

    return replace(
        tell_counts(grid, start, answer.counts, solver),
        levels=as_values(grid, evaluate(grid, answer.counts), answer.bounds),
        optimal=answer.optimal,
        prices=prices_of(answer),
    )


def _better_of(grid: Grid, decided: _Start, start: _Start) -> _Start:
    """Return the better start, with the bounds that hold for it: up to where the two differ."""
    values, others = evaluate(grid, decided.best), evaluate(grid, start.best)
    if values <= others:
        return decided
    differs = next(n for n, pair in enumerate(zip(values, others, strict=True)) if len({*pair}) > 1)
    bounds = (*decided.bounds[: differs + 1], *floors(grid)[differs + 1 : COST])
    return replace(start, bounds=bounds)


def _attempts(
    grid: Grid, start: _Start, limits: SolveLimits
) -> Iterator[tuple[str, Callable[[], Answer | None]]]:
    """Yield the solvers in the order in which they are asked."""
    if limits.searches:
        yield "cp-sat", partial(_exact, grid, start, limits)
        if start.pipeline is not None:
            yield "pipeline", partial(unproven, grid, start.best)
    yield "greedy", lambda: unproven(grid, solve_greedy(grid))


def _exact(grid: Grid, start: _Start, limits: SolveLimits) -> Answer | None:
    share = limits.cost_time_share if len(grid.columns) >= ARRAYS_COLUMNS_MIN else 1.0
    proven = evaluate(grid, start.best)[:COST] == start.bounds
    if proven and share < 1.0:
        share = 0.0  # presolve takes 0.03 s, and the search found nothing
    first = len(start.bounds) if proven or share < 1.0 else 0
    scope = Scope(first=first, bounds=start.bounds)
    answer = improve(grid, start.best, (limits.deterministic_time_max, share), scope)
    if answer is None or evaluate(grid, answer.counts) > evaluate(grid, start.best):
        return None
    return answer
