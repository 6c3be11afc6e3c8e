"""Ceilings of an array plan: how far planes may scale by themselves, packed into what is left.

`wide` asks; the rules are those of `envelopes`, on arrays: by class, one by one in turn, the
cheapest columns first, and never more than the nodes hold.
"""

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
    columns, wants, pools = instance.columns, instance.deployments, instance.pools
    held = np.flatnonzero((counts > 0) & (is_open[columns.pool] == 1))
    ceilings = counts.copy()
    deployments = instance.size[1]
    firm = np.where(columns.spot == 0, columns.throughput * counts, 0.0)
    firm = np.bincount(columns.deployment, firm, minlength=deployments)
    by_cost = held[np.lexsort((held, columns.price[held], columns.deployment[held]))]
    for priority in range(PRIORITY_CLASSES):
        mine = by_cost[wants.priority[columns.deployment[by_cost]] == priority]
        if not len(mine):
            continue
        left = pools.capacity - reserve - _taken(instance, columns.accelerators, ceilings)
        memory = pools.memory - _taken(instance, columns.memory, ceilings)
        replicas = wants.replicas_max - np.bincount(
            columns.deployment, ceilings, minlength=deployments
        )
        money = wants.cost_max - np.bincount(
            columns.deployment, ceilings * instance.bill, minlength=deployments
        )
        spot = np.where(columns.spot == 1, columns.throughput * ceilings, 0.0)
        spot = np.bincount(columns.deployment, spot, minlength=deployments)
        spare = wants.spot_max * firm - (1.0 - wants.spot_max) * spot
        extra = np.zeros(len(counts), np.int64)
        share_out(
            mine,
            (columns.deployment, columns.pool, columns.spot, columns.limit),
            (columns.accelerators, columns.memory, columns.throughput, instance.bill),
            (left, memory, replicas, money, spare, wants.spot_max),
            ceilings,
            extra,
        )
        granted = np.zeros(len(counts), np.int64)
        grow_pools(
            (instance.pool_first, instance.by_pool),
            (columns.accelerators, columns.load_memory),
            (pools.nodes, pools.per_node, pools.node_memory),
            ceilings,
            extra,
            granted,
        )
        ceilings += granted
    return ceilings


def _taken(instance: Instance, size: Floats, counts: Ints) -> Floats:
    pools = instance.size[0]
    return np.bincount(instance.columns.pool, size * counts, minlength=pools).astype(np.float64)


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
