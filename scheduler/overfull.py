"""A small fleet that can't serve everybody: whom to serve is decided among those who compete.

`solve` asks `decided` before the pipeline.
"""

from collections.abc import Callable
from typing import NamedTuple

import numpy as np

from scheduler.arrays import Arrays, arrays_of
from scheduler.draft import Draft, by_class, draft_of, recount
from scheduler.exact import improve
from scheduler.greedy import solve_greedy
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


class Decided(NamedTuple):
    """Counts and arrays to start from, and the bounds of the levels before the cost."""

    start: Start
    bounds: tuple[int, ...]


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


def _cheaper(grid: Grid, counts: Counts) -> Start:
    """Return counts in which each who is served whole moved to where it is cheapest."""
    arrays = arrays_of(grid.problem)
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
