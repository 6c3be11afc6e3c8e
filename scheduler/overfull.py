"""A small fleet that can't serve everybody: whom to serve is decided among those who compete.

`solve` asks `decided` before the pipeline, and `resumed` for a fleet that was over-full before.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scheduler.arrays import Arrays, arrays_of, updated
from scheduler.draft import Draft, by_class, draft_of, recount
from scheduler.exact import improve
from scheduler.greedy import complete, solve_greedy
from scheduler.grid import Contended, Counts, Grid, contended, packs, part_of
from scheduler.homeless import HARD
from scheduler.large import LargeAnswer, WarmStart
from scheduler.levels import COST, SURVIVAL, Scope, evaluate, floors, survival_scale, unmet_of
from scheduler.prices import no_prices
from scheduler.pricing import CAREFUL
from scheduler.relaxation import Possible, levels_of_counts, served_and_short
from scheduler.rounding import Tariff, negotiate
from scheduler.wide import Start

# Whom to serve is decided among those who compete where that is a smaller problem: at half of 197
# columns it took 0.13 s instead of 0.35.
CONTENDED_SHARE_MAX = 0.75
CONTENDED_TIME_SHARE = 0.1
# What one deployment gets with the fleet to itself shows at once.
ALONE_TIME_MAX = 0.005
# Rounds in which those who are served move to cheaper pools; it is over after two or three.
CHEAPER_ROUNDS = 8
CHEAPER_TRIES = 4
# An over-full fleet is searched this near to what runs while no demand is further from what it was:
# on 50 deployments and six drifts 4 found the best set of five, 2 of one.
RESUMED_REACH = 4
RESUMED_DRIFT_MAX = 0.25
RESUMED_TIME_MAX = 0.001


class Decided(NamedTuple):
    """Counts and arrays to start from, and the bounds of the levels before the cost."""

    start: Start
    bounds: tuple[int, ...]


def resumed(grid: Grid, former: Arrays) -> Start | None:
    """Return counts near what runs, where an over-full fleet only wants a little more or less.

    None where all can be served or where much is new: then whom to serve is decided again.
    """
    if not grid.problem.current:
        return None
    arrays = updated(former, grid.problem)
    part = contended(grid)
    if arrays is None or not _is_worth_parting(grid, part) or _has_drifted(former, arrays):
        return None
    runs = complete(grid, tuple(min(c.current, c.count_max) for c in grid.columns))
    first = tuple(runs[index] for index in part.columns)
    # Who now lacks more than demands drifted lacked something before: that much was decided.
    if not any(unmet_of(grid, w, runs) > RESUMED_DRIFT_MAX * w.demand for w in grid.wants):
        return None
    scope = Scope(end=COST, is_part=True, reach=RESUMED_REACH)
    answer = improve(part.grid, first, (RESUMED_TIME_MAX, 1.0), scope)
    if answer is None:
        return None
    near = dict(zip(part.columns, answer.counts, strict=True))
    counts = tuple(near.get(index, count) for index, count in enumerate(runs))
    if not _all_pack(grid, counts):
        counts = part.whole(answer.counts, grid)
    start = _cheaper(grid, counts, arrays)
    return start if _all_pack(grid, start.counts) else None


def decided(grid: Grid, deterministic_time_max: float) -> Decided | None:
    """Return counts that serve whom an over-full fleet can, decided among those who compete.

    None where greedy serves all that anybody could, or where most compete with most: then the
    pipeline is the start.
    """
    part = contended(grid)
    if not _is_worth_parting(grid, part):
        return None
    first = solve_greedy(part.grid)
    if not _competes(part.grid, first):
        return None
    effort = (deterministic_time_max * CONTENDED_TIME_SHARE, 1.0)
    answer = improve(part.grid, first, effort, Scope(end=COST, is_part=True))
    if answer is None:
        return None
    counts = part.whole(answer.counts, grid)
    if not _all_pack(grid, counts):
        return None
    return Decided(_cheaper(grid, counts), answer.bounds[:COST])


def _has_drifted(former: Arrays, arrays: Arrays) -> bool:
    """Say whether some demand is far from what it was."""
    pairs = zip(former.instance.deployments.demand, arrays.instance.deployments.demand, strict=True)
    return any(abs(now - was) > RESUMED_DRIFT_MAX * was for was, now in pairs)


def _is_worth_parting(grid: Grid, part: Contended) -> bool:
    return len(part.columns) <= CONTENDED_SHARE_MAX * len(grid.columns) and (
        survival_scale(part.grid) == survival_scale(grid)
    )


def _all_pack(grid: Grid, counts: Counts) -> bool:
    return all(packs(grid, pool, counts) for pool in grid.pools)


def _competes(grid: Grid, counts: Counts) -> bool:
    """Say whether someone who is short would be served further with the fleet to itself."""
    for want in sorted(grid.wants, key=lambda want: (want.priority, want.name)):
        missing = unmet_of(grid, want, counts)
        if not missing:
            continue
        own = part_of(grid, [want], {}).grid
        effort, scope = (ALONE_TIME_MAX, 1.0), Scope(end=SURVIVAL, is_part=True)
        alone = improve(own, solve_greedy(own), effort, scope)
        if alone is None or missing > unmet_of(own, own.wants[0], alone.counts):
            return True
    return evaluate(grid, counts)[SURVIVAL] > floors(grid)[SURVIVAL]


def _cheaper(grid: Grid, counts: Counts, arrays: Arrays | None = None) -> Start:
    """Return counts in which each who is served whole moved to where it is cheapest."""
    arrays = arrays or arrays_of(grid.problem)
    instance = arrays.instance
    pairs = _pairs(arrays)
    placed = {(c.deployment, c.pool): n for c, n in zip(grid.columns, counts, strict=True)}
    state = draft_of(instance)
    state.counts[:] = [placed.get(pair, 0) for pair in pairs]
    recount(state)

    def told() -> Counts:
        moved = dict(zip(pairs, state.counts.tolist(), strict=True))
        return tuple(moved.get((c.deployment, c.pool), 0) for c in grid.columns)

    _move(state, lambda: [j for j, p in enumerate(arrays.names) if not packs(grid, p, told())])
    found = told()
    if not _all_pack(grid, found) or evaluate(grid, found) >= evaluate(grid, counts):
        found = counts
    unmet, short = served_and_short(instance, state.counts)
    levels = levels_of_counts(instance, state.counts)
    answer = LargeAnswer(
        counts=state.counts,
        unmet=unmet,
        short=short,
        # What the grid decided is not asked again of each deployment alone.
        possible=Possible(unmet=unmet, survival=short),
        levels=levels,
        bounds=levels,
        warm=WarmStart(prices=no_prices(instance), tight=state.tight.copy(), gap=0.0),
        draft=state,
    )
    return Start(counts=found, arrays=arrays, answer=answer)


def _pairs(arrays: Arrays) -> list[tuple[str, str]]:
    columns = arrays.instance.columns
    return [
        (arrays.deployments[d], arrays.names[j])
        for d, j in zip(columns.deployment.tolist(), columns.pool.tolist(), strict=True)
    ]


def _move(state: Draft, failing: Callable[[], list[int]]) -> None:
    """Let who is served whole move where it is cheaper; who loses or no longer packs stays."""
    instance, before = state.instance, state.counts.copy()
    free = no_prices(instance)
    tariff = Tariff(free.accelerator, free.memory, HARD, CAREFUL)
    unmet, short = served_and_short(instance, before)
    moves = (unmet == 0.0) & (short == 0.0)
    for _ in range(CHEAPER_TRIES):
        order = np.array([d for d in by_class(state).tolist() if moves[d]], np.int64)
        for _ in range(CHEAPER_ROUNDS):
            if not negotiate(order, state.market, state.wants, state.room, tariff, state.counts):
                break
        unmet, short = served_and_short(instance, state.counts)
        stays = moves & ((unmet > 0.0) | (short > 0.0))
        crowded = np.isin(instance.columns.pool, failing()) & (state.counts > before)
        stays[instance.columns.deployment[crowded]] = True
        if not stays.any():
            return
        moves &= ~stays
        state.counts[:] = before
        recount(state)
