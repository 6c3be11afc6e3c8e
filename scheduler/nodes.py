"""Replicas of all pools onto their nodes: the same first-fit orders as `skerry.fleet.packing`.

`large` packs every plan; what finds no node is told per column, to be placed elsewhere.
"""

import numpy as np

from scheduler.compiled import Floats, Ints, compiled


@compiled
def first_fit(
    loads: tuple[Floats, Floats, Ints],
    order: Ints,
    shape: tuple[int, float, float],
    left_over: Ints,
) -> int:
    """Fill the replicas of each load that found no node; return how many in all.

    `loads` are (accelerators, memory of one replica, count), `shape` (nodes, accelerators and
    memory of one node). Whole nodes go first: a node with a small replica is whole no more.
    """
    accelerators, memory, count = loads
    nodes, per_node, node_memory = shape
    free = np.full(nodes, per_node)
    free_memory = np.full(nodes, node_memory)
    missing_all = 0
    whole = 0
    for k in range(len(order)):
        i = order[k]
        if accelerators[i] > per_node:
            each = int(np.ceil(accelerators[i] / per_node))
            fits = min(count[i], (nodes - whole) // each)
            if np.ceil(memory[i] / each) > node_memory:
                fits = 0
            for n in range(whole, whole + fits * each):
                free[n] = 0.0
                free_memory[n] = 0.0
            whole += fits * each
            left_over[i] = count[i] - fits
            missing_all += left_over[i]
    for k in range(len(order)):
        i = order[k]
        if accelerators[i] > per_node:
            continue
        missing = count[i]
        for n in range(whole, nodes):
            if missing == 0:
                break
            if free[n] < accelerators[i]:
                continue
            room = free[n] / accelerators[i]
            if memory[i] > 0.0:
                room = min(room, free_memory[n] / memory[i])
            fits = min(missing, int(room + 1e-12))
            if fits > 0:
                free[n] -= fits * accelerators[i]
                free_memory[n] -= fits * memory[i]
                missing -= fits
        left_over[i] = missing
        missing_all += missing
    return missing_all


@compiled
def pack_pools(
    by_pool: tuple[Ints, Ints],
    sizes: tuple[Floats, Floats],
    shapes: tuple[Ints, Ints, Floats],
    counts: Ints,
    wanted: Ints,
    unpacked: Ints,
) -> int:
    """Pack each pool marked in `wanted`; fill what found no node per column, return it in all.

    `by_pool` is (start per pool, columns sorted by pool). Orders: by accelerators, then by memory.
    """
    start, column = by_pool
    nodes, per_node, node_memory = shapes
    total = 0
    for j in range(len(nodes)):
        if wanted[j] == 0:
            continue
        held = 0
        for at in range(start[j], start[j + 1]):
            if counts[column[at]] > 0:
                held += 1
        if held == 0:
            continue
        which = np.empty(held, np.int64)
        held = 0
        for at in range(start[j], start[j + 1]):
            if counts[column[at]] > 0:
                which[held] = column[at]
                held += 1
        loads = sizes[0][which], sizes[1][which], counts[which]
        shape = nodes[j], float(per_node[j]), node_memory[j]
        over = np.zeros(held, np.int64)
        big = loads[1].max() + 1.0
        order = np.argsort(-(loads[0] * big + loads[1]), kind="mergesort")
        missing = first_fit(loads, order, shape, over)
        if missing > 0:
            order = order[np.argsort(-loads[1][order], kind="mergesort")]
            other = np.zeros(held, np.int64)
            again = first_fit(loads, order, shape, other)
            if again < missing:
                missing = again
                over = other
        for k in range(held):
            unpacked[which[k]] = over[k]
        total += missing
    return total
