"""Why a replica is where it is, why one is nowhere, and what would help: each way out is tried.

`solve` writes these sentences into the plan; they are stored and read back long after.
"""

import math
from collections import defaultdict
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from scheduler.greedy import solve_greedy
from scheduler.grid import (
    MICRODOLLARS,
    Column,
    Counts,
    Grid,
    Want,
    build_grid,
    cheapest_prices,
    cost_microdollars,
    packs,
    ratio,
    totals_suffice,
)
from scheduler.levels import unmet_of
from scheduler.plan import POOLS_NAMED_MAX
from scheduler.problem import PlacementProblem
from skerry.fleet.deployment import REPLICAS_MAX, Deployment, ResourceShape
from skerry.fleet.placement import Placement
from skerry.fleet.pool import (
    ACCELERATORS_PER_NODE_MAX,
    NODE_HOST_MEMORY_BYTES_MAX,
    NODES_MAX,
    PlaneIdentity,
    Pool,
    PoolShape,
    PoolTerms,
)

WAYS_OUT_MAX = 3
# More nodes are tried one by one from the least that could do; it is nearly always among these.
NODES_TRIED_MAX = 4


def placement_reason(
    grid: Grid, want: Want, index: int, counts: Counts, free: Mapping[str, int]
) -> str:
    """Return why these replicas are on this pool; `free` are the accelerators left by pool."""
    column, count = grid.columns[index], counts[index]
    kept = min(count, column.current)
    if kept == count:
        return (
            f"kept where it runs ({column.nothing_new})"
            if column.nothing_new
            else ("kept where it runs")
        )
    reason = _start_reason(grid, want, index, counts, free)
    return f"{kept} kept where they run, {count - kept} started: {reason}" if kept else reason


def _start_reason(
    grid: Grid, want: Want, index: int, counts: Counts, free: Mapping[str, int]
) -> str:
    column, policy = grid.columns[index], want.demanded.deployment.policy
    cheaper = [
        i
        for i in want.columns
        if grid.columns[i].nothing_new is None and _price(grid.columns[i]) < _price(column)
    ]
    dollars = f"${column.price_microdollars / 1e6:.4g}/h a replica"
    if not cheaper:
        return f"cheapest eligible pool, {dollars}"
    full = [grid.columns[i].pool for i in cheaper if not _fits_one_more(grid, i, counts, free)]
    if len(full) == len(cheaper):
        return f"cheapest pool with room, {dollars}; full: {_some(full)}"
    if policy.tolerate and len(want.domains) > 1:
        kept = f"{policy.tolerate.keep:.0%} kept"
        return f"survives loss of any one {policy.tolerate.domain} ({kept})"
    if policy.spread:
        return f"spread over {_held(want, counts)} {policy.spread.domain}s"
    return f"the cheaper {_some([grid.columns[i].pool for i in cheaper])} serve others, {dollars}"


def unplaced_reason(grid: Grid, want: Want, counts: Counts, *, with_ways: bool) -> str:
    """Return why replicas of the deployment found no place, with the numbers and the ways out."""
    ways = [way.change for way in ways_out(grid, want, counts)] if with_ways else []
    reason = _shortage(grid, want, counts)
    return f"{reason}; would fit if: {' | '.join(ways)}" if ways else reason


def _shortage(grid: Grid, want: Want, counts: Counts) -> str:
    deployment = want.demanded.deployment
    missing = -(-unmet_of(grid, want, counts) // want.scale)
    kinds = {shape.accelerator for shape in deployment.revision.shapes}
    first = deployment.revision.shapes[0]
    needs = f"needs {_takes(first, missing)}"
    if sum(counts[i] for i in want.columns) >= want.replicas_max:
        return f"{needs} more; max_replicas is {want.replicas_max}"
    if not any(pool.shape.accelerator in kinds for pool in grid.pools.values()):
        return f"{needs}; the fleet has none; it has {_kinds(grid)}"
    if not want.columns:
        rejected = [r for r in grid.rejections if r.deployment == want.name]
        rejected.sort(key=lambda r: (grid.pools[r.pool].shape.accelerator not in kinds, r.pool))
        return f"{needs}; no pool may host it: {_some([f'{r.pool}: {r.reason}' for r in rejected])}"
    left = [
        f"{column.pool} {_left(grid, column.pool, counts)} of"
        f" {grid.pools[column.pool].shape.accelerators}"
        for column in (grid.columns[i] for i in want.columns)
    ]
    text = f"{needs} more; accelerators free where it may run: {_some(left)}"
    if want.cost_microdollars_max is not None:
        text += f"; its cost ceiling is ${want.cost_microdollars_max / 1e6:.4g}/h"
    return text


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """A change that would place all of a deployment, and what that adds to the bill an hour.

    None dollars where it takes accelerators of which no pool tells a price.
    """

    change: str
    dollars_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Change:
    """A change that may help, the problem after it, and whether its price is known."""

    text: str
    problem: PlacementProblem
    is_priced: bool = True


def ways_out(grid: Grid, want: Want, counts: Counts, most: int = WAYS_OUT_MAX) -> Iterator[Way]:
    """Yield up to `most` changes that would place all of it, each verified by solving again.

    The rest of the plan is held where it is; a way that would take from others is not one.
    """
    found = 0
    for change in _candidates(grid, want, counts):
        if found == most:
            return
        dollars = _cost_of(grid, want, counts, change.problem)
        if dollars is not None:
            found += 1
            yield Way(change=change.text, dollars_per_hour=dollars if change.is_priced else None)


def _helps(grid: Grid, want: Want, counts: Counts, changed: PlacementProblem) -> bool:
    return _cost_of(grid, want, counts, changed) is not None


def _cost_of(grid: Grid, want: Want, counts: Counts, changed: PlacementProblem) -> float | None:
    """Return what the change adds to the bill an hour, None where it does not help."""
    held = tuple(
        Placement(deployment=column.deployment, pool=column.pool, count=count)
        for column, count in zip(grid.columns, counts, strict=True)
        if count
    )
    again = build_grid(replace(changed, current=held, moves_max=None))
    result = solve_greedy(again)
    if changed.moves_max is not None and _moves(grid, again, result) > changed.moves_max:
        return None
    before = {w.name: 0 if w.name == want.name else unmet_of(grid, w, counts) for w in grid.wants}
    if any(unmet_of(again, w, result) > before[w.name] for w in again.wants):
        return None
    before_bill, after_bill = _bill(grid, counts, again.pools), _bill(again, result, again.pools)
    return round((after_bill - before_bill) / MICRODOLLARS, 6)


def _moves(grid: Grid, again: Grid, result: Counts) -> int:
    """Return how many healthy replicas move by the result from where they run in the first grid."""
    runs = {(column.deployment, column.pool): column.current for column in grid.columns}
    moves = 0
    for want in again.wants:
        pairs = [(result[i], runs.get((want.name, again.columns[i].pool), 0)) for i in want.columns]
        started = sum(max(0, count - running) for count, running in pairs)
        moves += min(started, sum(max(0, running - count) for count, running in pairs))
    return moves


def _bill(grid: Grid, counts: Counts, pools: Mapping[str, Pool]) -> int:
    """Return the bill at the prices of these pools: telling a price adds nothing to what runs."""
    return sum(
        cost_microdollars(pools[column.pool], column.accelerators) * count
        for column, count in zip(grid.columns, counts, strict=True)
        if count
    )


def _candidates(grid: Grid, want: Want, counts: Counts) -> Iterator[_Change]:
    """Yield changes that may help; those whose price nobody knows come last."""
    problem, deployment = grid.problem, want.demanded.deployment
    prices = cheapest_prices(grid.pools.values())
    of_its_kinds = [
        pool
        for pool in grid.pools.values()
        if deployment.revision.shape_on(pool.shape.accelerator) is not None
    ]
    of_its_kinds.sort(key=lambda pool: (_rate(pool, prices), pool.name))
    unpriced = [pool for pool in of_its_kinds if pool.shape.accelerator not in prices]
    for pool in of_its_kinds:
        yield from _opened_pool(problem, pool, prices)
    yield from _without_limits(problem, deployment)
    yield from _more_replicas(problem, want)
    yield from _more_nodes(grid, want, counts)
    price = prices.get(deployment.revision.shapes[0].accelerator)
    if price is not None:
        yield from _new_pool(grid, want, counts, price)
    for pool in unpriced:
        yield _priced(problem, pool, None)
    if price is None:
        yield from _new_pool(grid, want, counts, None)


def _without_limits(problem: PlacementProblem, deployment: Deployment) -> Iterator[_Change]:
    """Yield the deployment without one of the limits of its policy."""
    for text, policy in (
        ("residency dropped", replace(deployment.policy, residency_zones=())),
        ("regions dropped", replace(deployment.policy, regions=())),
        ("clouds dropped", replace(deployment.policy, clouds=())),
        ("capacity classes dropped", replace(deployment.policy, capacity_classes=())),
        ("cost ceiling dropped", replace(deployment.policy, cost_per_hour_max=None)),
        ("latency limits dropped", replace(deployment.policy, latency=())),
        ("spot share dropped", replace(deployment.policy, spot_share_max=None)),
        ("anti-affinity dropped", replace(deployment.policy, anti_affinity=())),
    ):
        if policy != deployment.policy:
            changed = _with_deployment(problem, replace(deployment, policy=policy))
            yield _Change(text=text, problem=changed)


def _more_replicas(problem: PlacementProblem, want: Want) -> Iterator[_Change]:
    """Yield a maximum that leaves room for what slower kinds need."""
    if want.scale == 1:
        return
    deployment = want.demanded.deployment
    slowest = min(ratio(shape, want.demanded) for shape in deployment.revision.shapes)
    most = min(REPLICAS_MAX, math.ceil(want.demand / want.scale / slowest))
    if most > want.replicas_max:
        scaling = replace(deployment.scaling, max_replicas=most)
        changed = _with_deployment(problem, replace(deployment, scaling=scaling))
        yield _Change(text=f"max_replicas {most}", problem=changed)


def _opened_pool(
    problem: PlacementProblem, pool: Pool, prices: Mapping[str, float]
) -> Iterator[_Change]:
    if pool.terms.cordoned:
        opened = replace(pool, terms=replace(pool.terms, cordoned=False))
        yield _Change(text=f"{pool.name} uncordoned", problem=_with_pool(problem, opened))
    price = prices.get(pool.shape.accelerator)
    if pool.terms.price_per_accelerator_hour is None and price is not None:
        yield _priced(problem, pool, price)


def _priced(problem: PlacementProblem, pool: Pool, price: float | None) -> _Change:
    """Return the pool at a price: the cheapest of its kind, None where none of its kind has one."""
    terms = replace(pool.terms, price_per_accelerator_hour=price or 0.0)
    return _Change(
        text=f"{pool.name} had a price ({_told_price(price)})",
        problem=_with_pool(problem, replace(pool, terms=terms)),
        is_priced=price is not None,
    )


def _told_price(price: float | None) -> str:
    return "unknown" if price is None else f"counted as ${price:g}/h an accelerator"


def _more_nodes(grid: Grid, want: Want, counts: Counts) -> Iterator[_Change]:
    """Yield the fewest more nodes that do, on the cheapest pool that may host it."""
    open_columns = [grid.columns[i] for i in want.columns if not grid.columns[i].nothing_new]
    for column in sorted(open_columns, key=lambda c: (_price(c), c.pool))[:WAYS_OUT_MAX]:
        pool = grid.pools[column.pool]
        per_node = pool.shape.accelerators_per_node
        replicas = -(-unmet_of(grid, want, counts) // column.throughput)
        short = replicas * column.accelerators - _left(grid, column.pool, counts)
        least = max(1, -(-short // per_node))
        most = NODES_MAX - pool.shape.nodes  # a pool has no more, whatever would do
        for nodes in range(least, min(least + NODES_TRIED_MAX, most + 1)):
            grown = replace(pool, shape=replace(pool.shape, nodes=pool.shape.nodes + nodes))
            changed = _with_pool(grid.problem, grown)
            if _helps(grid, want, counts, changed):
                more = f"+{nodes * per_node} {pool.shape.accelerator} accelerators"
                text = f"{more} in {column.pool} ({nodes} more nodes)"
                yield _Change(text=text, problem=changed)
                break


def _new_pool(grid: Grid, want: Want, counts: Counts, price: float | None) -> Iterator[_Change]:
    """Yield a plane of its own that the policy allows, where no pool may take it."""
    if any(not grid.columns[i].nothing_new for i in want.columns):
        return
    deployment = want.demanded.deployment
    shape, policy = deployment.revision.shapes[0], deployment.policy
    replicas = -(-unmet_of(grid, want, counts) // want.scale)
    # A replica takes one node where there are such, else whole ones of the largest there are.
    whole = -(-shape.accelerators // ACCELERATORS_PER_NODE_MAX)
    per_node, nodes = shape.accelerators // whole, replicas * whole
    share = -(-shape.host_memory_bytes // whole)
    if shape.accelerators % whole or share > NODE_HOST_MEMORY_BYTES_MAX or nodes > NODES_MAX:
        return
    plane = PlaneIdentity(
        name=_unused_plane_name(grid),
        cloud=policy.clouds[0] if policy.clouds else "any",
        region=policy.regions[0] if policy.regions else "any",
        residency_zones=policy.residency_zones[:1],
    )
    pool = Pool(
        plane=plane,
        shape=PoolShape(
            name="more",
            accelerator=shape.accelerator,
            accelerator_memory_bytes=0,
            nodes=nodes,
            accelerators_per_node=per_node,
            host_memory_bytes=share,
        ),
        terms=PoolTerms(price_per_accelerator_hour=price or 0.0),
    )
    zone = f" in {' or '.join(policy.residency_zones)}" if policy.residency_zones else ""
    text = f"a new pool of +{replicas * shape.accelerators} {shape.accelerator} accelerators{zone}"
    yield _Change(
        text=f"{text} (price {_told_price(price)})",
        problem=replace(grid.problem, pools=(*grid.problem.pools, pool)),
        is_priced=price is not None,
    )


def _unused_plane_name(grid: Grid) -> str:
    taken = {pool.plane.name for pool in grid.pools.values()}
    return next(name for n in range(len(taken) + 1) if (name := f"new-{n}") not in taken)


def _with_pool(problem: PlacementProblem, pool: Pool) -> PlacementProblem:
    pools = tuple(pool if other.name == pool.name else other for other in problem.pools)
    return replace(problem, pools=pools)


def _with_deployment(problem: PlacementProblem, deployment: Deployment) -> PlacementProblem:
    demands = tuple(
        replace(demanded, deployment=deployment)
        if demanded.deployment.name == deployment.name
        else demanded
        for demanded in problem.demands
    )
    return replace(problem, demands=demands)


def _fits_one_more(grid: Grid, index: int, counts: Counts, free: Mapping[str, int]) -> bool:
    column = grid.columns[index]
    if counts[index] >= column.count_max or free[column.pool] < column.accelerators:
        return False
    if totals_suffice(grid, column.pool):
        return True
    more = list(counts)
    more[index] += 1
    return packs(grid, column.pool, more)


def free_accelerators(grid: Grid, counts: Counts) -> Mapping[str, int]:
    """Return the accelerators left on each pool."""
    return {pool: _left(grid, pool, counts) for pool in grid.pools}


def _left(grid: Grid, pool: str, counts: Counts) -> int:
    taken = sum(grid.columns[i].accelerators * counts[i] for i in grid.on_pool[pool])
    return grid.pools[pool].shape.accelerators - taken


def _held(want: Want, counts: Counts) -> int:
    return sum(1 for columns in want.spread_domains.values() if any(counts[i] for i in columns))


def _price(column: Column) -> float:
    return column.cost_microdollars / column.throughput


def _rate(pool: Pool, prices: Mapping[str, float]) -> float:
    """Return the pool's price; where none is told, the cheapest of its kind."""
    price = pool.terms.price_per_accelerator_hour
    return prices.get(pool.shape.accelerator, math.inf) if price is None else price


def _takes(shape: ResourceShape, replicas: int) -> str:
    one = f"{shape.accelerators} x {shape.accelerator}"
    return one if replicas == 1 else f"{replicas} replicas of {one}"


def _kinds(grid: Grid) -> str:
    kinds: dict[str, int] = defaultdict(int)
    for pool in grid.pools.values():
        kinds[pool.shape.accelerator] += pool.shape.accelerators
    return ", ".join(f"{kind} ({count})" for kind, count in sorted(kinds.items())) or "no pool"


def _some(items: list[str]) -> str:
    named = ", ".join(items[:POOLS_NAMED_MAX])
    more = len(items) - POOLS_NAMED_MAX
    return f"{named} and {more} more" if more > 0 else named
