"""Ceilings of an array plan: how far planes may scale by themselves, packed into what is left.

`wide` asks; the rules are those of `envelopes`, on arrays: by class, one by one in turn, the
cheapest columns first, and never more than the nodes hold.
"""

from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.instance import Instance
from scheduler.nodes import grow_pools
from skerry.fleet.deployment import PRIORITY_CLASSES

EPS = 1e-9


def grow_ceilings(instance: Instance, counts: Ints, *, is_open: Ints, reserve: Floats) -> Ints:
    """Return the ceiling of each column, its count where it may not grow.

    `is_open` is 1 for pools that take something new, `reserve` the accelerators of each pool that
    ceilings may not use.
    """
    wants, pools, deployments = instance.deployments, instance.pools, instance.size[1]
    held = np.flatnonzero(counts > 0)
    held = held[np.lexsort((instance.columns.price[held], instance.columns.pool[held]))]
    here = _Held(
        **{name: getattr(instance.columns, name)[held] for name in _Held._fields[:-1]},
        bill=instance.bill[held],
    )
    start = np.searchsorted(here.pool, np.arange(len(pools.nodes) + 1)).astype(np.int64)
    grows = is_open[here.pool] == 1
    ceilings = counts[held]
    firm = _sums(here.deployment, (here.spot == 0) * here.throughput * ceilings, deployments)
    by_cost = np.lexsort((np.arange(len(held)), here.price, here.deployment))
    for priority in range(PRIORITY_CLASSES):
        mine = by_cost[(wants.priority[here.deployment] == priority)[by_cost] & grows[by_cost]]
        if not len(mine):
            continue
        spot = _sums(here.deployment, (here.spot == 1) * here.throughput * ceilings, deployments)
        left = (
            pools.capacity - reserve - _sums(here.pool, here.accelerators * ceilings, len(reserve)),
            pools.memory - _sums(here.pool, here.memory * ceilings, len(reserve)),
            wants.replicas_max - _sums(here.deployment, ceilings, deployments),
            wants.cost_max - _sums(here.deployment, here.bill * ceilings, deployments),
            wants.spot_max * firm - (1.0 - wants.spot_max) * spot,
            wants.spot_max,
        )
        extra, granted = np.zeros(len(held), np.int64), np.zeros(len(held), np.int64)
        share_out(
            mine,
            (here.deployment, here.pool, here.spot, here.limit),
            (here.accelerators, here.memory, here.throughput, here.bill),
            left,
            ceilings,
            extra,
        )
        grow_pools(
            (start, np.arange(len(held))),
            (here.accelerators, here.load_memory),
            (pools.nodes, pools.per_node, pools.node_memory),
            ceilings,
            extra,
            granted,
        )
        ceilings += granted
    everything = counts.copy()
    everything[held] = ceilings
    return everything


class _Held(NamedTuple):
    """Columns that hold replicas, sorted by pool and price."""

    deployment: Ints
    pool: Ints
    accelerators: Floats
    memory: Floats
    load_memory: Floats
    throughput: Floats
    price: Floats
    limit: Ints
    spot: Ints
    bill: Floats


def _sums(ids: Ints, amounts: Floats | Ints, number: int) -> Floats:
    return np.bincount(ids, amounts, minlength=number).astype(np.float64)


@compiled
def share_out(
    order: Ints,
    ids: tuple[Ints, Ints, Ints, Ints],
    sizes: tuple[Floats, Floats, Floats, Floats],
    left: tuple[Floats, Floats, Floats, Floats, Floats, Floats],
    counts: Ints,
    extra: Ints,
) -> None:
    """Fill `extra` turn by turn; a turn gives each column one, or half of everyone's share.

    `ids` are (deployment, pool, spot, limit), `sizes` (accelerators, memory, throughput, bill) by
    column; `left` is (accelerators, memory) by pool and (replicas, dollars, spot throughput that
    may be added, spot share) by deployment. What takes no more now takes no more later.
    """
    deployment, pool, spot, limit = ids
    accelerators, memory, throughput, bill = sizes
    room, room_memory, replicas, money, spare, share = left
    active = order.copy()
    number = len(active)
    while number > 0:
        turn = np.zeros(len(room))
        for k in range(number):
            turn[pool[active[k]]] += accelerators[active[k]]
        step = np.maximum(1.0, np.floor(room / (2.0 * np.maximum(turn, 1.0))))
        grown = 0
        for k in range(number):
            c = active[k]
            d, j = deployment[c], pool[c]
            more = min(step[j], float(limit[c] - counts[c] - extra[c]), replicas[d])
            more = min(more, np.floor(room[j] / accelerators[c] + EPS))
            if memory[c] > 0.0:
                more = min(more, np.floor(room_memory[j] / memory[c] + EPS))
            if bill[c] > 0.0 and money[d] < np.inf:
                more = min(more, np.floor(money[d] / bill[c]))
            each = throughput[c] * (1.0 - share[d])
            if spot[c] == 1 and each > 0.0:
                more = min(more, np.floor(spare[d] / each + EPS))
            if more < 1.0:
                continue
            n = int(more)
            extra[c] += n
            room[j] -= n * accelerators[c]
            room_memory[j] -= n * memory[c]
            replicas[d] -= n
            money[d] -= n * bill[c]
            if spot[c] == 1:
                spare[d] -= n * each
            active[grown] = c
            grown += 1
        number = grown
