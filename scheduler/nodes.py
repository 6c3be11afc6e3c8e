"""Replicas of all pools onto their nodes: the same first-fit orders as `skerry.fleet.packing`.

`large` packs every plan and grows its ceilings here. Nodes of a pool are alike, so those in one
state are a run: time goes with loads and runs, and a pool of ten million nodes costs no more.
"""

import numpy as np

from scheduler.compiled import Floats, Ints, compiled

# (accelerators, memory of one replica, count) by load; (nodes, accelerators, memory of one node)
Loads = tuple[Floats, Floats, Ints]
Shape = tuple[int, float, float]
# (nodes, accelerators free, memory free on each) by run, in the order of the nodes. What nothing
# has touched is the last run: first fit begins no node before the ones ahead of it are tried.
Runs = tuple[Ints, Floats, Floats]
# Extras that fit beside what runs may not fit first fit from scratch: so often what found no node
# is taken off, then all are halved until it does.
TAKEN_OFF_MAX = 4


@compiled
def empty_runs(loads: int, shape: Shape) -> Runs:
    """Return one run of empty nodes, with space for the runs that so many loads make of it."""
    length = 1 + 2 * loads  # a load splits one run, into full nodes, one with the rest and others
    nodes = np.zeros(length, np.int64)
    free = np.zeros(length)
    memory = np.zeros(length)
    nodes[0], free[0], memory[0] = shape
    return nodes, free, memory


@compiled
def room_on(accelerators: float, memory: float, free: float, free_memory: float) -> int:
    """Return how many replicas a node takes that has so much free."""
    if free < accelerators:
        return 0
    room = free / accelerators
    if memory > 0.0:
        room = min(room, free_memory / memory)
    return int(room + 1e-12)


@compiled
def take_parts(
    accelerators: float, memory: float, count: int, runs: Runs, used: int
) -> tuple[int, int]:
    """First-fit replicas that share nodes into the first `used` runs; return (missing, used)."""
    nodes, free, free_memory = runs
    missing = count
    at = 0
    while at < used and missing > 0:
        room = room_on(accelerators, memory, free[at], free_memory[at])
        if room < 1 or nodes[at] == 0:
            at += 1
            continue
        full = min(nodes[at], missing // room)
        rest = missing - full * room if full < nodes[at] else 0
        missing -= full * room + rest
        spare = nodes[at] - full - (1 if rest > 0 else 0)
        more = (1 if full > 0 else 0) + (1 if rest > 0 else 0) + (1 if spare > 0 else 0) - 1
        for k in range(used - 1, at - 1, -1):  # make room for one or two more runs
            nodes[k + more], free[k + more] = nodes[k], free[k]
            free_memory[k + more] = free_memory[k]
        used += more
        before, memory_before = free[at], free_memory[at]
        if full > 0:
            nodes[at] = full
            free[at] = before - room * accelerators
            free_memory[at] = memory_before - room * memory
            at += 1
        if rest > 0:
            nodes[at] = 1
            free[at] = before - rest * accelerators
            free_memory[at] = memory_before - rest * memory
            at += 1
        if spare > 0:
            nodes[at] = spare
            at += 1
    return missing, used


@compiled
def room_whole(accelerators: float, memory: float, shape: Shape, runs: Runs, used: int) -> int:
    """Return how many replicas that take whole nodes the untouched ones hold."""
    nodes, free, _ = runs
    each = int(np.ceil(accelerators / shape[1]))
    if free[used - 1] != shape[1] or np.ceil(memory / each) > shape[2]:
        return 0
    return int(nodes[used - 1] // each)


@compiled
def take(load: tuple[float, float, int], shape: Shape, runs: Runs, used: int) -> tuple[int, int]:
    """First-fit the replicas of one load; return (missing, used runs)."""
    accelerators, memory, count = load
    if accelerators <= shape[1]:
        return take_parts(accelerators, memory, count, runs, used)
    fits = min(count, room_whole(accelerators, memory, shape, runs, used))
    runs[0][used - 1] -= fits * int(np.ceil(accelerators / shape[1]))
    return count - fits, used


@compiled
def take_all(
    loads: Loads, order: Ints, shape: Shape, left_over: Ints, runs: Runs
) -> tuple[int, int]:
    """First-fit all loads into empty runs, whole nodes first; return (missing, used runs)."""
    accelerators, memory, count = loads
    missing_all, used = 0, 1
    for whole in (True, False):
        for k in range(len(order)):
            i = order[k]
            if (accelerators[i] > shape[1]) != whole:
                continue
            load = accelerators[i], memory[i], count[i]
            missing, used = take(load, shape, runs, used)
            left_over[i] = missing
            missing_all += missing
    return missing_all, used


@compiled
def first_fit(loads: Loads, order: Ints, shape: Shape, left_over: Ints) -> int:
    """Fill the replicas of each load that found no node; return how many in all.

    Whole nodes go first: a node with a small replica is whole no more.
    """
    return take_all(loads, order, shape, left_over, empty_runs(len(order), shape))[0]


@compiled
def sort_falling(order: Ints, key: Floats) -> None:
    """Sort the order so that its keys fall, equal ones as they were: a merge from bottom up.

    NumPy's sort would take as long to compile as all else here.
    """
    length = len(order)
    merged = np.zeros(length, np.int64)
    width = 1
    while width < length:
        for begin in range(0, length, 2 * width):
            one, middle = begin, min(begin + width, length)
            two, end = middle, min(begin + 2 * width, length)
            for at in range(begin, end):
                if one < middle and (two == end or key[order[one]] >= key[order[two]]):
                    merged[at] = order[one]
                    one += 1
                else:
                    merged[at] = order[two]
                    two += 1
        for at in range(length):
            order[at] = merged[at]
        width *= 2


@compiled
def better_order(loads: Loads, shape: Shape, left_over: Ints) -> tuple[int, Ints]:
    """First-fit by accelerators and, if some are left over, by memory; return the better.

    The result is (how many found no node, the order); `left_over` tells them by load.
    """
    accelerators, memory, _ = loads
    order = np.arange(len(accelerators))
    sort_falling(order, memory)
    sort_falling(order, accelerators)
    missing = first_fit(loads, order, shape, left_over)
    if missing > 0:
        by_memory = order.copy()
        sort_falling(by_memory, memory)
        other = np.zeros(len(order), np.int64)
        again = first_fit(loads, by_memory, shape, other)
        if again < missing:
            for i in range(len(order)):
                left_over[i] = other[i]
            return again, by_memory
    return missing, order


@compiled
def loads_of(columns: Ints, sizes: tuple[Floats, Floats], counts: Ints) -> Loads:
    """Return the loads of some columns."""
    accelerators, memory = np.zeros(len(columns)), np.zeros(len(columns))
    count = np.zeros(len(columns), np.int64)
    for i in range(len(columns)):
        accelerators[i], memory[i] = sizes[0][columns[i]], sizes[1][columns[i]]
        count[i] = counts[columns[i]]
    return accelerators, memory, count


@compiled
def held_columns(columns: Ints, counts: Ints, extra: Ints) -> Ints:
    """Return those of the columns with replicas or extras, in their order."""
    held = np.zeros(len(columns), np.int64)
    length = 0
    for c in columns:
        if counts[c] > 0 or extra[c] > 0:
            held[length] = c
            length += 1
    return held[:length]


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
        held = held_columns(column[start[j] : start[j + 1]], counts, counts)
        left_over = np.zeros(len(held), np.int64)
        shape = nodes[j], float(per_node[j]), node_memory[j]
        missing, _ = better_order(loads_of(held, sizes, counts), shape, left_over)
        for i in range(len(held)):
            unpacked[held[i]] = left_over[i]
        total += missing
    return total


@compiled
def extras_beside(loads: Loads, shape: Shape, extra: Ints) -> Ints:
    """Return how many extras of each load fit beside the loads and by first fit from scratch.

    Extras are tried in the order of the loads, so the first one takes the room it wants. None are
    granted where the loads alone do not fit.
    """
    accelerators, memory, count = loads
    length = len(count)
    left_over = np.zeros(length, np.int64)
    extras = np.zeros(length, np.int64)
    missing, order = better_order(loads, shape, left_over)
    if missing > 0:
        return extras
    runs = empty_runs(2 * length, shape)
    _, used = take_all(loads, order, shape, left_over, runs)
    total = count.copy()
    for i in range(length):
        load = accelerators[i], memory[i], extra[i]
        missing, used = take(load, shape, runs, used)
        total[i] += extra[i] - missing
    attempts = 0
    missing, _ = better_order((accelerators, memory, total), shape, left_over)
    while missing > 0:
        attempts += 1
        off = 0
        for i in range(length):
            taken = min(left_over[i], total[i] - count[i])
            total[i] -= taken
            off += taken
        if off == 0 or attempts > TAKEN_OFF_MAX:
            for i in range(length):
                total[i] -= (total[i] - count[i] + 1) // 2
        missing, _ = better_order((accelerators, memory, total), shape, left_over)
    for i in range(length):
        extras[i] = total[i] - count[i]
    return extras


@compiled
def grow_pools(
    by_pool: tuple[Ints, Ints],
    sizes: tuple[Floats, Floats],
    shapes: tuple[Ints, Ints, Floats],
    counts: Ints,
    extra: Ints,
    granted: Ints,
) -> None:
    """Fill `granted` with how many of the `extra` replicas of each column fit beside the counts.

    `by_pool` is (start per pool, columns by pool); in each pool extras are granted in the order of
    its columns, so the caller sorts them by who comes first. Counts and grants together pass
    `first_fit` from scratch in one of the two orders, as `pack_pools` tries them. Columns without
    extras get 0, and so do all of a pool whose counts do not pass.
    """
    start, column = by_pool
    nodes, per_node, node_memory = shapes
    for j in range(len(nodes)):
        held = held_columns(column[start[j] : start[j + 1]], counts, extra)
        shape = nodes[j], float(per_node[j]), node_memory[j]
        loads = loads_of(held, sizes, counts)
        wanted = np.zeros(len(held), np.int64)
        for i in range(len(held)):
            wanted[i] = extra[held[i]]
        extras = extras_beside(loads, shape, wanted)
        for at in range(start[j], start[j + 1]):
            granted[column[at]] = 0
        for i in range(len(held)):
            granted[held[i]] = extras[i]
