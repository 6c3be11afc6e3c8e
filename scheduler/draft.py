"""Counts under construction: what they leave of the pools, who is short, whose nodes fail.

`large` makes and reads drafts, `homeless` serves who found no room in them.
"""

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import numpy as np

from scheduler.compiled import Floats, Ints
from scheduler.instance import NO_LIMIT, Instance
from scheduler.nodes import pack_pools
from scheduler.pricing import QUICK, place_one
from scheduler.rounding import Market, PoolRoom, Wants, served_of, spare_of
from skerry.fleet.deployment import PRIORITY_CLASSES

BISECTIONS = 12


@dataclass(slots=True, kw_only=True)
class Draft:
    """Counts under construction, and what they leave of the pools."""

    instance: Instance
    market: Market
    wants: Wants
    room: PoolRoom
    counts: Ints
    tight: Ints


def draft_of(instance: Instance) -> Draft:
    """Return an empty draft of an instance, with all its arrays at hand."""
    columns, wanted = instance.columns, instance.deployments
    market = Market(
        first=instance.first,
        pool=columns.pool,
        domain=instance.domain,
        spread_domain=instance.spread_domain,
        spot=columns.spot,
        accelerators=columns.accelerators,
        memory=columns.memory,
        throughput=columns.throughput,
        dollars=columns.price + columns.move_price,
        limit=columns.limit,
        kept=columns.current,
        bonus=np.where(columns.current > 0, columns.move_price, 0.0),
        surcharge=_surcharge(instance),
        bill=instance.bill,
        runs=columns.current,
        rival_first=instance.rival_first,
        rivals=instance.rivals,
    )
    wants = Wants(
        demand=wanted.demand.copy(),
        keep=wanted.keep.copy(),
        spot_max=wanted.spot_max,
        most=wanted.replicas_max,
        cost_max=wanted.cost_max,
        domains_min=spread_possible(instance),
        priority=wanted.priority,
    )
    room = PoolRoom(
        accelerators=instance.pools.capacity.copy(),
        memory=instance.pools.memory.copy(),
        capacity=instance.pools.capacity,
        memory_capacity=instance.pools.memory,
        moves=np.full(1, instance.moves_max),
    )
    counts = np.zeros(instance.size[2], np.int64)
    return Draft(
        instance=instance,
        market=market,
        wants=wants,
        room=room,
        counts=counts,
        tight=np.zeros(instance.size[0], np.int64),
    )


def _surcharge(instance: Instance) -> Floats:
    """Return what overdrawing is measured in: a price, or what the work costs elsewhere."""
    columns, deployments = instance.columns, instance.size[1]
    own = columns.price + columns.move_price
    number = np.maximum(1, np.bincount(columns.deployment, minlength=deployments))
    rate = np.bincount(columns.deployment, own / columns.throughput, minlength=deployments) / number
    return np.maximum(own, 0.5 * rate[columns.deployment] * columns.throughput)


def tighten(state: Draft, tight: Ints) -> None:
    """Count replicas on tight pools by how many fill a node: what fits that sum fits the nodes.

    The plain sums let about 3 % of the replicas through that no node takes; on all pools this would
    cost up to two points.
    """
    fresh = np.flatnonzero((tight == 1) & (state.tight == 0))
    state.tight = np.maximum(state.tight, tight)
    market, pools, memory = state.market, state.instance.pools, state.instance.columns.load_memory
    for j in fresh:
        mine = state.instance.by_pool[
            state.instance.pool_first[j] : state.instance.pool_first[j + 1]
        ]
        per_node = float(pools.per_node[j])
        taken = state.instance.columns.accelerators[mine]
        alike = np.floor(per_node / taken)
        alike = np.minimum(alike, np.floor(pools.node_memory[j] / np.maximum(memory[mine], 1.0)))
        if market.accelerators is state.instance.columns.accelerators:
            market = market._replace(accelerators=market.accelerators.copy())
        market.accelerators[mine] = np.where(
            taken > per_node, taken, per_node / np.maximum(alike, 1.0)
        )
    state.market = market
    recount(state)


def recount(state: Draft) -> None:
    """Make the room what the counts leave."""
    market, room = state.market, state.room
    held = np.flatnonzero(state.counts)
    pool, count = market.pool[held], state.counts[held]
    pools = len(room.capacity)
    room.accelerators[:] = room.capacity
    room.accelerators[:] -= np.bincount(pool, count * market.accelerators[held], minlength=pools)
    room.memory[:] = room.memory_capacity
    room.memory[:] -= np.bincount(pool, count * market.memory[held], minlength=pools)
    room.moves[:] = state.instance.moves_max - moves_now(state)


def moves_now(state: Draft) -> int:
    """Return how many healthy replicas the draft moves; not counted where nothing limits them."""
    if state.instance.moves_max == NO_LIMIT:
        return 0
    more = state.counts - state.market.runs
    of, number = state.instance.columns.deployment, state.instance.size[1]
    starts = np.bincount(of, np.maximum(more, 0), minlength=number)
    stops = np.bincount(of, np.maximum(-more, 0), minlength=number)
    return int(np.minimum(starts, stops).sum())


def unpacked_replicas(state: Draft, wanted: Ints) -> Ints:
    """Return how many replicas per column find no node, of the wanted pools."""
    instance = state.instance
    unpacked = np.zeros(instance.size[2], np.int64)
    pack_pools(
        (instance.pool_first, instance.by_pool),
        (instance.columns.accelerators, instance.columns.load_memory),
        (instance.pools.nodes, instance.pools.per_node, instance.pools.node_memory),
        state.counts,
        wanted,
        unpacked,
    )
    return unpacked


def failing_pools(state: Draft, wanted: Ints) -> Ints:
    """Return 1 for pools whose nodes do not take their counts."""
    failing = np.zeros(state.instance.size[0], np.int64)
    failing[state.market.pool[np.flatnonzero(unpacked_replicas(state, wanted))]] = 1
    return failing


def spread_possible(instance: Instance) -> Ints:
    """Return how many domains each deployment must hold, as far as they exist."""
    wanted = instance.deployments.domains_min
    if not wanted.any():
        return wanted.copy()
    width = instance.domains_max
    pairs = np.unique(instance.columns.deployment * width + instance.spread_domain)
    return np.minimum(wanted, np.bincount(pairs // width, minlength=len(wanted)))


def lower_wants(state: Draft, which: Ints) -> None:
    """Lower demand and promise to what each deployment can get with the fleet to itself."""
    market, wants = state.market, state.wants
    for d in which.tolist():
        if market.first[d] == market.first[d + 1] or servable_alone(state, d, 1.0, 1.0):
            continue
        if not servable_alone(state, d, 1.0, 0.0):
            wants.demand[d] *= bisect_part(partial(servable_alone, state, d, kept=0.0))
            wants.keep[d] = 0.0
        wants.keep[d] *= bisect_part(partial(servable_alone, state, d, 1.0))


def bisect_part(holds: Callable[[float], bool]) -> float:
    """Return the largest part of one that holds, found by halving."""
    low, high = 0.0, 1.0
    for _ in range(BISECTIONS):
        middle = (low + high) / 2
        low, high = (middle, high) if holds(middle) else (low, middle)
    return low


def servable_alone(state: Draft, d: int, served: float, kept: float) -> bool:
    """Say whether the deployment could get such parts of its demand and promise alone."""
    market, wants = state.market, state.wants
    begin, end = int(market.first[d]), int(market.first[d + 1])
    demand, keep = wants.demand[d] * served, wants.keep[d] * kept
    if demand <= 0.0:
        return True
    shape = market.throughput[begin:end], market.domain[begin:end], market.spot[begin:end]
    want = (demand, keep, wants.spot_max[d], wants.most[d])
    counts = np.zeros(end - begin, np.int64)
    price = market.dollars[begin:end]
    limit = market.limit[begin:end]
    paid = place_one(price, limit, shape, want, QUICK, counts)
    return paid < np.inf and float((counts * market.bill[begin:end]).sum()) <= wants.cost_max[d]


def served_now(state: Draft) -> Ints:
    """Return the throughput that each deployment is served with."""
    served = np.zeros(state.instance.size[1], np.int64)
    served_of(state.market, state.wants, state.counts, served)
    return served


def loose_ones(state: Draft) -> Ints:
    """Return who is short, and who would be served as far with one replica less."""
    loose = np.zeros(state.instance.size[1], np.int64)
    spare_of(state.market, state.wants, state.counts, loose)
    return np.flatnonzero(loose)


def part_rivals(state: Draft) -> None:
    """Take replicas off planes that a rival of a higher class (or an earlier name) holds."""
    market, counts = state.market, state.counts
    for c in np.flatnonzero((np.diff(market.rival_first) > 0) & (counts > 0)).tolist():
        against = market.rivals[market.rival_first[c] : market.rival_first[c + 1]]
        d = state.instance.columns.deployment
        mine = state.wants.priority[d[c]], d[c]
        if any(counts[e] and (state.wants.priority[d[e]], d[e]) < mine for e in against):
            counts[c] = 0


def homeless_ones(state: Draft) -> Ints:
    """Return who is not served as far as possible, by class."""
    has = np.diff(state.market.first) > 0
    short = np.flatnonzero((served_now(state) == 0) & has)
    return short[np.argsort(state.wants.priority[short], kind="stable")]


def overdrawing_ones(state: Draft) -> Ints:
    """Return the columns that stand on pools with less than nothing left."""
    room = state.room
    over = (room.accelerators < -1e-6) | (room.memory < -1.0)
    if not over.any():
        return np.zeros(0, np.int64)
    instance = state.instance
    mine = np.concatenate(
        [
            instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
            for j in np.flatnonzero(over)
        ]
    )
    return np.unique(instance.columns.deployment[mine[state.counts[mine] > 0]])


def shed_by_class(state: Draft) -> tuple[int, ...]:
    """Return how many are not served as far as possible, by class."""
    return class_sizes(state, homeless_ones(state))


def class_sizes(state: Draft, which: Ints) -> tuple[int, ...]:
    """Return how many of some deployments are of each class."""
    return tuple(np.bincount(state.wants.priority[which], minlength=PRIORITY_CLASSES).tolist())


def by_class(state: Draft) -> Ints:
    """Return the deployments by class, those with the least choice first."""
    choice = np.diff(state.market.first)
    number = np.arange(len(choice))
    return np.lexsort((number, choice, state.wants.priority)).astype(np.int64)


def dollars_now(state: Draft) -> float:
    """Return what the draft costs an hour, moves included."""
    held = np.flatnonzero(state.counts)
    count = state.counts[held]
    kept = np.minimum(count, state.market.kept[held])
    paid = state.market.dollars[held] * count - state.market.bonus[held] * kept
    return float(paid.sum())
