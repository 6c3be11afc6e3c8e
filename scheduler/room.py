"""How much more fits: counts that grow and shrink one column at a time, node-exact.

`greedy` places with it and `envelopes` raises ceilings with it.
"""

from collections.abc import Collection, Mapping

from scheduler.grid import SPOT_UNITS, Counts, Grid, Want, packs, totals_suffice


class Room:
    """Counts per column, and what each pool has left beside them.

    `reserves` holds accelerators per pool that may not be taken. What counts against spot shares
    beside the spot replicas is `sure`: with ceilings the counts below them, else the counts as
    they are. Without `searches` what only a search would pack does not fit. On pools that are
    `fitting` the nodes are known to take all that will be asked for.
    """

    def __init__(
        self,
        grid: Grid,
        counts: Counts,
        reserves: Mapping[str, int],
        *,
        sure: Counts | None = None,
        searches: bool = True,
        fitting: Collection[str] = (),
    ) -> None:
        self.grid = grid
        self._searches = searches
        self.counts = list(counts)
        self.sure = self.counts if sure is None else sure
        # A column that its nodes can't take one more of stays so until something is given back.
        self._full: dict[int, int] = {}
        self._given_back = dict.fromkeys(grid.pools, 0)
        self._wants = {index: want for want in grid.wants for index in want.columns}
        self._simple = {pool: pool in fitting or totals_suffice(grid, pool) for pool in grid.pools}
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
        if count <= 0 or any(self.counts[i] for i in self.grid.rivals.get(index, ())):
            return 0
        if column.is_spot and want.spot_units_max is not None:
            spare = -self._spot_excess(want)
            each = column.throughput * (SPOT_UNITS - want.spot_units_max)
            count = min(count, max(0, spare) // each if each else count)
        count = min(count, want.replicas_max - sum(self.counts[i] for i in want.columns))
        if want.cost_microdollars_max is not None and column.price_microdollars:
            left = want.cost_microdollars_max - self.price_microdollars(want)
            count = min(count, left // column.price_microdollars)
        if count <= 0 or self._simple[column.pool]:
            return max(0, count)
        return self._packable(index, count)

    def price_microdollars(self, want: Want) -> int:
        """Return what the want's replicas cost an hour."""
        return sum(self.grid.columns[i].price_microdollars * self.counts[i] for i in want.columns)

    def shed(self, index: int) -> tuple[int, ...]:
        """Give up one replica, and spot replicas that its going leaves above their share."""
        want = self._wants[index]
        self.add(index, -1)
        gone = [index]
        while want.spot_units_max is not None and self._spot_excess(want) > 0:
            spot = max(
                (i for i in want.columns if self.grid.columns[i].is_spot and self.counts[i]),
                key=lambda i: (self.grid.columns[i].cost_microdollars, i),
            )
            self.add(spot, -1)
            gone.append(spot)
        return tuple(gone)

    def _spot_excess(self, want: Want) -> int:
        """Return by how much spot throughput is above its share, in 1/SPOT_UNITS."""
        assert want.spot_units_max is not None
        excess = 0
        for i in want.columns:
            column = self.grid.columns[i]
            if column.is_spot:
                excess += column.throughput * self.counts[i] * (SPOT_UNITS - want.spot_units_max)
            else:
                excess -= column.throughput * self.sure[i] * want.spot_units_max
        return excess

    def add(self, index: int, count: int) -> None:
        """Take (or give back, below zero) room for replicas on a column."""
        column = self.grid.columns[index]
        self.counts[index] += count
        self._left[column.pool] -= count * column.accelerators
        if count < 0:
            self._given_back[column.pool] += 1
        assert self.counts[index] >= 0

    def _packable(self, index: int, count: int) -> int:
        """Return the largest number up to `count` that the pool's nodes take, by halving."""
        pool = self.grid.columns[index].pool
        if self._full.get(index) == self._given_back[pool]:
            return 0
        low, high = 0, count
        while low < high:
            middle = (low + high + 1) // 2
            self.counts[index] += middle
            fits = packs(self.grid, pool, self.counts, searches=self._searches)
            self.counts[index] -= middle
            low, high = (middle, high) if fits else (low, middle - 1)
        if not low:
            self._full[index] = self._given_back[pool]
        return low
