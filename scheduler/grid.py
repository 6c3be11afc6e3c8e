"""The problem in sorted integers: one column per deployment and pool that may host it.

`greedy`, `exact`, `levels` and `envelopes` work on it; counts are a tuple aligned with `columns`.
Sorting here is what makes a plan independent of the order of the input.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from scheduler.feasibility import bars_by_pool, latency_table, nothing_new, rejection
from scheduler.plan import Rejection
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import FailureDomain, ResourceShape
from skerry.fleet.packing import Load, fits, nodes_of_replica
from skerry.fleet.pool import CapacityClass, Pool

MICRODOLLARS = 1_000_000  # a price of $0.01/h stays exact to four digits
# Throughput ratios of mixed kinds in thousandths, rounded up: a fleet of 1,000 replicas is at most
# one replica short of what was asked, and coefficients stay small for the solver.
THROUGHPUT_SCALE = 1_000
# Demand in tokens/s is no whole number of replicas, and there may be thousands of them.
TOKENS_SCALE = 100_000
SPOT_UNITS = 10_000  # a spot share in hundredths of a percent
MIB = 2**20  # host memory in the solver's sums, which stay in 64 bits with 10^7 nodes

Counts = tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Column:
    """One deployment on one pool: what a replica takes, yields and costs there.

    `price_microdollars` is on the bill, `cost_microdollars` in the objective: less when reserved.
    """

    deployment: str
    pool: str
    accelerators: int
    host_memory_bytes: int
    throughput: int
    price_microdollars: int
    cost_microdollars: int
    is_spot: bool
    current: int
    count_max: int
    nothing_new: str | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Want:
    """One deployment's demand; `demand` and `kept_demand` in 1/`scale` of a replica."""

    demanded: DemandedDeployment
    scale: int
    demand: int
    kept_demand: int
    cost_microdollars_max: int | None
    columns: tuple[int, ...]
    domains: Mapping[str, tuple[int, ...]]
    spread_domains: Mapping[str, tuple[int, ...]]
    spot_units_max: int | None = None

    @property
    def name(self) -> str:
        """Return the deployment's name."""
        return self.demanded.deployment.name

    @property
    def priority(self) -> int:
        """Return the priority class, 0 first."""
        return self.demanded.deployment.policy.priority

    @property
    def replicas_max(self) -> int:
        """Return how many replicas there may be in all."""
        return self.demanded.deployment.scaling.max_replicas

    @property
    def domains_min(self) -> int:
        """Return how many domains must hold a replica, as far as they exist."""
        spread = self.demanded.deployment.policy.spread
        if spread is None or self.demand == 0:
            return 0
        return min(spread.domains_min, self.replicas_max)


@dataclass(frozen=True, slots=True, kw_only=True)
class Grid:
    """The problem as columns, by deployment and by pool.

    `rivals` of a column are those on its plane of deployments that share no plane with its own;
    columns without rivals are not in it.
    """

    problem: PlacementProblem
    pools: Mapping[str, Pool]
    wants: tuple[Want, ...]
    columns: tuple[Column, ...]
    on_pool: Mapping[str, tuple[int, ...]]
    rejections: tuple[Rejection, ...]
    move_microdollars: int
    rivals: Mapping[int, tuple[int, ...]]

    @property
    def nothing(self) -> Counts:
        """Return counts with no replica anywhere."""
        return (0,) * len(self.columns)


def build_grid(problem: PlacementProblem) -> Grid:
    """Return the sorted columns of a problem and the pairs that are no column."""
    pools = {pool.name: pool for pool in sorted(problem.pools, key=lambda pool: pool.name)}
    running = {(p.deployment, p.pool): p.count for p in problem.current}
    bars, latencies = bars_by_pool(problem.bars), latency_table(problem.latencies)
    columns: list[Column] = []
    wants: list[Want] = []
    rejections: list[Rejection] = []
    for demanded in sorted(problem.demands, key=lambda demanded: demanded.deployment.name):
        name, scale = demanded.deployment.name, scale_of(demanded)
        first = len(columns)
        for pool in _named(pools, demanded):
            runs, bar = running.get((name, pool.name), 0), bars.get(pool.name)
            reason = rejection(demanded, pool, bar=bar, runs=runs, latencies=latencies)
            if reason:
                rejections.append(Rejection(deployment=name, pool=pool.name, reason=reason))
            else:
                closed = nothing_new(pool, bar)
                column = _column(demanded, pool, scale=scale, runs=runs, closed=closed)
                share = problem.reserved_price_share
                columns.append(replace(column, cost_microdollars=_effective(column, pool, share)))
        indices = tuple(range(first, len(columns)))
        wants.append(_want(demanded, scale, indices, columns, pools))
    on_pool: dict[str, list[int]] = {name: [] for name in pools}
    for index, column in enumerate(columns):
        on_pool[column.pool].append(index)
    return Grid(
        problem=problem,
        pools=pools,
        wants=tuple(wants),
        columns=tuple(columns),
        on_pool={name: tuple(indices) for name, indices in on_pool.items()},
        rejections=tuple(rejections),
        move_microdollars=move_microdollars(problem),
        rivals=_rivals(wants, columns, pools),
    )


def _named(pools: Mapping[str, Pool], demanded: DemandedDeployment) -> Iterable[Pool]:
    """Return the pools that a demand speaks of: all, unless it names some."""
    if demanded.pools is None:
        return pools.values()
    return [pools[name] for name in sorted(set(demanded.pools)) if name in pools]


def domain_of(pool: Pool, domain: FailureDomain) -> str:
    """Return the name of what a pool is lost with; regions of two clouds are two regions."""
    match domain:
        case FailureDomain.PLANE:
            return pool.plane.name
        case FailureDomain.REGION:
            return f"{pool.plane.cloud}/{pool.plane.region}"
        case FailureDomain.CLOUD:
            return pool.plane.cloud


def packs(grid: Grid, pool: str, counts: Sequence[int], *, searches: bool = True) -> bool:
    """Say whether the counts of one pool fit its nodes; without `searches` some are overlooked."""
    shape = grid.pools[pool].shape
    return fits(
        shape.nodes,
        shape.accelerators_per_node,
        shape.host_memory_bytes,
        (
            Load(
                key=grid.columns[i].deployment,
                accelerators=grid.columns[i].accelerators,
                host_memory_bytes=grid.columns[i].host_memory_bytes,
                count=counts[i],
            )
            for i in grid.on_pool[pool]
            if counts[i]
        ),
        searches=searches,
    )


def totals_suffice(grid: Grid, pool: str) -> bool:
    """Say whether the sum of accelerators alone decides what fits the pool.

    True when sizes divide one another (1, 2, 4, 8 on nodes of 8) and host memory can't bind first.
    """
    shape = grid.pools[pool].shape
    columns = [grid.columns[i] for i in grid.on_pool[pool]]
    per_node = shape.accelerators_per_node
    sizes = sorted({c.accelerators for c in columns if c.accelerators <= per_node} | {per_node})
    divide = all(b % a == 0 for a, b in pairwise(sizes))
    slim = all(
        c.host_memory_bytes * per_node <= c.accelerators * shape.host_memory_bytes for c in columns
    )
    return divide and slim


def ratio(shape: ResourceShape, demanded: DemandedDeployment) -> float:
    """Return a shape's throughput over the first shape's; 1.0 unless all shapes are measured."""
    shapes = demanded.deployment.revision.shapes
    if any(not s.throughput_tokens_per_second for s in shapes):
        return 1.0
    first, own = shapes[0].throughput_tokens_per_second, shape.throughput_tokens_per_second
    assert first
    assert own
    return own / first


def scale_of(demanded: DemandedDeployment) -> int:
    """Return in how many parts a replica of the deployment is counted."""
    if demanded.tokens_per_second is not None:
        return TOKENS_SCALE
    even = all(ratio(shape, demanded) == 1.0 for shape in demanded.deployment.revision.shapes)
    return 1 if even else THROUGHPUT_SCALE


def _column(
    demanded: DemandedDeployment, pool: Pool, *, scale: int, runs: int, closed: str | None
) -> Column:
    shape = demanded.deployment.revision.shape_on(pool.shape.accelerator)
    assert shape is not None
    per_node = pool.shape.accelerators_per_node
    whole = nodes_of_replica(shape.accelerators, per_node)
    alone = pool.shape.nodes // whole if whole else pool.shape.accelerators // shape.accelerators
    count_max = min(demanded.deployment.scaling.max_replicas, alone)
    return Column(
        deployment=demanded.deployment.name,
        pool=pool.name,
        accelerators=shape.accelerators,
        host_memory_bytes=shape.host_memory_bytes,
        throughput=max(1, math.ceil(ratio(shape, demanded) * scale - 1e-9)),
        price_microdollars=cost_microdollars(pool, shape.accelerators),
        cost_microdollars=cost_microdollars(pool, shape.accelerators),
        is_spot=pool.terms.capacity_class is CapacityClass.SPOT,
        current=runs,
        count_max=min(count_max, runs) if closed else count_max,
        nothing_new=closed,
    )


def cost_microdollars(pool: Pool, accelerators: int) -> int:
    """Return what one replica costs an hour; where the price is unknown what runs counts as 0."""
    return round((pool.terms.price_per_accelerator_hour or 0.0) * accelerators * MICRODOLLARS)


def cheapest_prices(pools: Iterable[Pool]) -> Mapping[str, float]:
    """Return by kind the least price of an accelerator that any pool tells, in dollars an hour."""
    found: dict[str, float] = {}
    for pool in pools:
        price, kind = pool.terms.price_per_accelerator_hour, pool.shape.accelerator
        if price is not None:
            found[kind] = min(price, found.get(kind, math.inf))
    return found


def _want(
    demanded: DemandedDeployment,
    scale: int,
    indices: tuple[int, ...],
    columns: Sequence[Column],
    pools: Mapping[str, Pool],
) -> Want:
    policy = demanded.deployment.policy
    no_spot = policy.spot_share_max == 0.0
    # What can hold no replica can lose none: such a domain is none of this deployment's.
    usable = tuple(
        i for i in indices if columns[i].count_max and not (no_spot and columns[i].is_spot)
    )
    on = [pools[columns[i].pool] for i in indices]
    usable_on = [pools[columns[i].pool] for i in usable]
    demand = math.ceil(demanded.demand_replicas * scale - 1e-6)
    kept = math.ceil(policy.tolerate.keep * demand - 1e-9) if policy.tolerate else 0
    cost_max, spot_max = policy.cost_per_hour_max, policy.spot_share_max
    return Want(
        demanded=demanded,
        scale=scale,
        demand=demand,
        kept_demand=kept,
        cost_microdollars_max=None if cost_max is None else math.floor(cost_max * MICRODOLLARS),
        columns=indices,
        domains=_domains(policy.tolerate.domain if policy.tolerate else None, usable, usable_on),
        spread_domains=_domains(policy.spread.domain if policy.spread else None, indices, on),
        spot_units_max=None if spot_max is None else math.floor(spot_max * SPOT_UNITS + 1e-9),
    )


def _domains(
    domain: FailureDomain | None, indices: tuple[int, ...], pools: list[Pool]
) -> Mapping[str, tuple[int, ...]]:
    if domain is None:
        return {}
    members: dict[str, list[int]] = defaultdict(list)
    for index, pool in zip(indices, pools, strict=True):
        members[domain_of(pool, domain)].append(index)
    return {name: tuple(members[name]) for name in sorted(members)}


def _effective(column: Column, pool: Pool, reserved_price_share: float) -> int:
    if pool.terms.capacity_class is not CapacityClass.RESERVED:
        return column.price_microdollars
    return round(column.price_microdollars * reserved_price_share)


def _rivals(
    wants: Sequence[Want], columns: Sequence[Column], pools: Mapping[str, Pool]
) -> Mapping[int, tuple[int, ...]]:
    """Return for each column those of its plane that may not be used together with it."""
    by_name = {want.name: want for want in wants}
    pairs = {
        (min(want.name, other), max(want.name, other))
        for want in wants
        for other in want.demanded.deployment.policy.anti_affinity
        if other in by_name
    }
    found: dict[int, set[int]] = defaultdict(set)
    for one, other in sorted(pairs):
        for i in by_name[one].columns:
            plane = pools[columns[i].pool].plane.name
            for k in by_name[other].columns:
                if pools[columns[k].pool].plane.name == plane:
                    found[i].add(k)
                    found[k].add(i)
    return {index: tuple(sorted(found[index])) for index in sorted(found)}


def move_microdollars(problem: PlacementProblem) -> int:
    """Return what one start costs an hour, its price spread over the horizon."""
    if problem.move_cost_dollars == 0.0:
        return 0
    return max(1, round(problem.move_cost_dollars * MICRODOLLARS / problem.move_horizon_hours))


@dataclass(frozen=True, slots=True, kw_only=True)
class Contended:
    """The deployments that compete, as a grid of their own, and whom a pool with room for all
    serves anyway.

    `columns` are the places of its columns in the whole grid, `settled` the counts of the others.
    """

    grid: Grid
    columns: tuple[int, ...]
    settled: Mapping[int, int]

    def whole(self, counts: Counts, of: Grid) -> Counts:
        """Return the whole grid's counts."""
        found = dict(self.settled) | dict(zip(self.columns, counts, strict=True))
        return tuple(found.get(index, 0) for index in range(len(of.columns)))


def contended(grid: Grid) -> Contended:
    """Return the grid without deployments that somewhere find room whatever others do.

    As much of each class is unmet, and survival falls as short, as in the whole grid: those left
    out are served whole and promise nothing more. What binds deployments to one another keeps all.
    """
    left = list(grid.wants)
    room = {name: pool.shape.accelerators for name, pool in grid.pools.items()}
    settled: dict[int, int] = {}
    found = not grid.rivals and grid.problem.moves_max is None
    while found:
        ample = _ample(grid, left, room)
        homes = {want.name: _home(grid, want, ample) for want in left}
        for want in left:
            index = homes[want.name]
            if index is not None:
                settled[index] = _most(grid, want, index)
                room[grid.columns[index].pool] -= settled[index] * grid.columns[index].accelerators
        left = [want for want in left if homes[want.name] is None]
        found = any(index is not None for index in homes.values())
    return part_of(grid, left, settled)


def _most(grid: Grid, want: Want, index: int) -> int:
    """Return how many replicas serve the demand from one column alone, as far as they fit."""
    column = grid.columns[index]
    return min(column.count_max, -(-want.demand // column.throughput))


def _ample(grid: Grid, wants: Sequence[Want], room: Mapping[str, int]) -> set[str]:
    """Return the pools that hold whatever all of them may want of it."""
    asked = dict.fromkeys(room, 0)
    for want in wants:
        for index in want.columns:
            column = grid.columns[index]
            asked[column.pool] += column.accelerators * _most(grid, want, index)
    return {name for name, most in asked.items() if most <= room[name]}


def _home(grid: Grid, want: Want, ample: Collection[str]) -> int | None:
    """Return the cheapest column that serves a deployment whole and takes nothing of another's."""
    if want.kept_demand or want.domains_min or want.cost_microdollars_max is not None:
        return None
    spot_may_all = want.spot_units_max is None or want.spot_units_max >= SPOT_UNITS
    homes = [
        index
        for index in want.columns
        if grid.columns[index].pool in ample
        and (spot_may_all or not grid.columns[index].is_spot)
        and _most(grid, want, index) * grid.columns[index].throughput >= want.demand
        and totals_suffice(grid, grid.columns[index].pool)
    ]
    return min(
        homes,
        key=lambda i: grid.columns[i].cost_microdollars * _most(grid, want, i),
        default=None,
    )


def part_of(grid: Grid, wants: Sequence[Want], settled: Mapping[int, int]) -> Contended:
    """Return the grid of some deployments; what binds them to others is left out."""
    columns = tuple(index for want in wants for index in want.columns)
    place = {index: number for number, index in enumerate(columns)}

    def kept(of: Mapping[str, tuple[int, ...]]) -> Mapping[str, tuple[int, ...]]:
        return {name: tuple(place[i] for i in of[name] if i in place) for name in of}

    return Contended(
        grid=replace(
            grid,
            wants=tuple(
                replace(
                    want,
                    columns=tuple(place[index] for index in want.columns),
                    domains=kept(want.domains),
                    spread_domains=kept(want.spread_domains),
                )
                for want in wants
            ),
            columns=tuple(grid.columns[index] for index in columns),
            on_pool=kept(grid.on_pool),
            rivals={} if len(columns) < len(grid.columns) else grid.rivals,
        ),
        columns=columns,
        settled=settled,
    )
