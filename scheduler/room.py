"""How much more fits: counts that grow and shrink one column at a time, node-exact.

`greedy` places with it and `envelopes` raises ceilings with it.
"""

from collections.abc import Mapping

from scheduler.grid import Counts, Grid, Want, packs, totals_suffice


class Room:
    """Counts per column, and what each pool has left beside them.

    `reserves` holds accelerators per pool that may not be taken.
    """

    def __init__(self, grid: Grid, counts: Counts, reserves: Mapping[str, int]) -> None:
        self.grid = grid
        self.counts = list(counts)
        self._simple = {pool: totals_suffice(grid, pool) for pool in grid.pools}
        self._left = {
            name: pool.shape.accelerators - reserves.get(name, 0)
            for name, pool in grid.pools.items()
        }
        for column, count in zip(grid.columns, counts, strict=True):
            self._left[column.pool] -= column.accelerators * count

    @property
    def result(self) -> Counts:
        """Return the counts as they are now."""
        return tuple(self.counts)

    def left(self, pool: str) -> int:
        """Return the accelerators of a pool that are not taken."""
        return self._left[pool]

    def more(self, want: Want, index: int, at_most: int) -> int:
        """Return how many more replicas of the want its column takes, up to `at_most`."""
        column = self.grid.columns[index]
        count = min(
            at_most,
            column.count_max - self.counts[index],
            self._left[column.pool] // column.accelerators,
        )
        if count <= 0:
            return 0
        count = min(count, want.replicas_max - sum(self.counts[i] for i in want.columns))
        if want.cost_microdollars_max is not None and column.cost_microdollars:
            left = want.cost_microdollars_max - self.cost_microdollars(want)
            count = min(count, left // column.cost_microdollars)
        if count <= 0 or self._simple[column.pool]:
            return max(0, count)
        return self._packable(index, count)

    def cost_microdollars(self, want: Want) -> int:
        """Return what the want's replicas cost an hour."""
        return sum(self.grid.columns[i].cost_microdollars * self.counts[i] for i in want.columns)

    def add(self, index: int, count: int) -> None:
        """Take (or give back, below zero) room for replicas on a column."""
        column = self.grid.columns[index]
        self.counts[index] += count
        self._left[column.pool] -= count * column.accelerators
        assert self.counts[index] >= 0

    def _packable(self, index: int, count: int) -> int:
        """Return the largest number up to `count` that the pool's nodes take, by halving."""
        low, high = 0, count
        while low < high:
            middle = (low + high + 1) // 2
            self.counts[index] += middle
            fits = packs(self.grid, self.grid.columns[index].pool, self.counts)
            self.counts[index] -= middle
            low, high = (middle, high) if fits else (low, middle - 1)
        return low
