"""Ceilings: how far a plane may scale each placement by itself, packed into what is left.

`solve` grants them after the counts are fixed, so no ceiling takes another deployment's replicas.
"""

import math
from collections import defaultdict
from collections.abc import Mapping

from scheduler.grid import Counts, Grid
from scheduler.room import Room
from skerry.fleet.deployment import PRIORITY_CLASSES
from skerry.fleet.placement import Envelope


def grant_envelopes(grid: Grid, counts: Counts) -> tuple[Envelope, ...]:
    """Return one envelope per placement; room is shared out by priority, then one by one in turn.

    A pool that takes nothing new grants its counts and no more.
    """
    reserves = {
        name: reserve_accelerators(pool.shape.accelerators, grid.problem.reserve_fraction)
        for name, pool in grid.pools.items()
    }
    # A ceiling is a favour: the searches for the last ones took 11 of the 13 s that keeping a
    # million accelerators' replicas took.
    room = Room(grid, counts, reserves, sure=counts, searches=False)
    for priority in range(PRIORITY_CLASSES):
        _raise_ceilings(room, priority, counts)
    return tuple(
        Envelope(
            deployment=column.deployment,
            pool=column.pool,
            floor=count,
            target=count,
            ceiling=ceiling,
        )
        for column, count, ceiling in zip(grid.columns, counts, room.result, strict=True)
        if count
    )


def reserve_accelerators(accelerators: int, fraction: float) -> int:
    """Return the accelerators of a pool that ceilings may not use: a promise, so rounded up."""
    return math.ceil(accelerators * fraction - 1e-9)


def _raise_ceilings(room: Room, priority: int, counts: Counts) -> None:
    grid = room.grid
    open_columns = [
        (want, index)
        for want in grid.wants
        if want.priority == priority
        for index in sorted(
            want.columns, key=lambda i: (grid.columns[i].cost_microdollars, grid.columns[i].pool)
        )
        if counts[index] and grid.columns[index].nothing_new is None
    ]
    while open_columns:
        # Room only shrinks here: what takes no more now takes no more later.
        grown = []
        steps = _steps(room, [index for _, index in open_columns])
        for want, index in open_columns:
            if more := room.more(want, index, steps[grid.columns[index].pool]):
                room.add(index, more)
                grown.append((want, index))
        open_columns = grown


def _steps(room: Room, open_columns: list[int]) -> Mapping[str, int]:
    """Return how many replicas a turn gives on each pool: one, or half of everyone's share."""
    turn: dict[str, int] = defaultdict(int)
    for index in open_columns:
        turn[room.grid.columns[index].pool] += room.grid.columns[index].accelerators
    return {pool: max(1, room.left(pool) // (2 * taken)) for pool, taken in turn.items()}
