"""First fit on runs of like nodes: what a node after node says, and ceilings that still pack."""

import math

import numpy as np

from scheduler.compiled import Floats, Ints
from scheduler.nodes import Loads, Shape, first_fit, grow_pools, pack_pools

CASES = 150
SIZES = (1, 2, 3, 4, 8, 12, 16)
MEMORY = (0.0, 1.0, 2.5, 7.0, 20.0, 30.0)


def fit_node_by_node(loads: Loads, order: Ints, shape: Shape, left_over: Ints) -> Floats:
    """Fit as it is defined, one node after another; return (free, memory) of each node."""
    nodes, per_node, memory = shape
    free = np.array([[per_node, memory]] * nodes, float).reshape(nodes, 2)
    by_width = sorted(order.tolist(), key=lambda i: loads[0][i] <= per_node)
    for i in by_width:
        left_over[i] = loads[2][i]
        size = np.array([loads[0][i], loads[1][i]])
        if size[0] > per_node:
            each = math.ceil(size[0] / per_node)
            whole = [n for n in range(nodes) if free[n, 0] == per_node]
            while left_over[i] and len(whole) >= each and math.ceil(size[1] / each) <= memory:
                free[whole[:each]] = 0.0
                del whole[:each]
                left_over[i] -= 1
            continue
        for n in range(nodes):
            while left_over[i] and (free[n] >= size).all():
                free[n] -= size
                left_over[i] -= 1
    return free


def some_loads(chance: np.random.Generator, count: int) -> Loads:
    accelerators = chance.choice(SIZES, count).astype(np.float64)
    return accelerators, chance.choice(MEMORY, count), chance.integers(0, 4, count)


def some_shape(chance: np.random.Generator) -> Shape:
    return int(chance.integers(0, 16)), float(chance.choice((4, 8))), float(chance.choice((20, 64)))


def orders_of(loads: Loads) -> tuple[Ints, Ints]:
    return np.lexsort((-loads[1], -loads[0])), np.lexsort((-loads[0], -loads[1]))


def is_fit(loads: Loads, shape: Shape) -> bool:
    over = np.zeros(len(loads[2]), np.int64)
    return any(first_fit(loads, order, shape, over) == 0 for order in orders_of(loads))


def test_runs_of_nodes_hold_what_node_after_node_holds() -> None:
    chance = np.random.default_rng(1)
    for _ in range(CASES):
        loads, shape = some_loads(chance, int(chance.integers(1, 8))), some_shape(chance)
        for order in orders_of(loads):
            naive, over = np.zeros_like(order), np.zeros_like(order)
            fit_node_by_node(loads, order, shape, naive)
            assert first_fit(loads, order, shape, over) == naive.sum()
            assert over.tolist() == naive.tolist()


def test_ten_million_nodes_take_no_longer_than_ten() -> None:
    loads = np.array([16.0, 4.0, 2.0]), np.array([8.0, 4.0, 6.0]), np.array([10**6, 10**7, 10**7])
    left_over = np.zeros(3, np.int64)
    # Two million nodes taken whole, five with two of 4, and one of 2 on each of the other three.
    assert first_fit(loads, np.arange(3), (10**7, 8.0, 10.0), left_over) == 7 * 10**6
    assert left_over.tolist() == [0, 0, 7 * 10**6]


def test_pools_are_packed_in_the_better_order_and_only_if_wanted() -> None:
    chance = np.random.default_rng(2)
    for _ in range(CASES):
        loads = some_loads(chance, 12)
        start, column = np.array([0, 5, 5, 12]), chance.permutation(12)
        shapes = [some_shape(chance) for _ in range(3)]
        wanted, unpacked = chance.integers(0, 2, 3), np.zeros(12, np.int64)
        total = pack_pools(
            (start, column), loads[:2], columns_of(shapes), loads[2], wanted, unpacked
        )
        assert total == unpacked.sum()
        for j, shape in enumerate(shapes):
            mine = column[start[j] : start[j + 1]]
            here = loads[0][mine], loads[1][mine], loads[2][mine]
            left = []
            for order in orders_of(here):
                over = np.zeros(len(mine), np.int64)
                fit_node_by_node(here, order, shape, over)
                left.append(int(over.sum()))
            assert unpacked[mine].sum() == (min(left) if wanted[j] else 0)


def columns_of(shapes: list[Shape]) -> tuple[Ints, Ints, Floats]:
    return (
        np.array([shape[0] for shape in shapes]),
        np.array([int(shape[1]) for shape in shapes]),
        np.array([shape[2] for shape in shapes]),
    )


def test_granted_extras_pack_with_the_counts_and_fill_the_room_in_order() -> None:
    chance = np.random.default_rng(4)
    granted_all = 0
    for _ in range(CASES):
        loads, shape = some_loads(chance, 5), some_shape(chance)
        by_pool = np.array([0, 5]), chance.permutation(5)
        extra, granted = chance.integers(0, 5, 5), np.full(5, -1)
        grow_pools(by_pool, loads[:2], columns_of([shape]), loads[2], extra, granted)
        assert (granted >= 0).all()
        assert (granted <= extra).all()
        if is_fit(loads, shape):
            assert is_fit((loads[0], loads[1], loads[2] + granted), shape)
        else:
            assert not granted.any()
        granted_all += int(granted.sum())
    assert granted_all > CASES / 4


def test_extras_go_to_the_first_column_of_the_order() -> None:
    sizes = np.array([2.0, 2.0, 16.0]), np.zeros(3)
    counts, extra, granted = np.array([3, 1, 1]), np.array([9, 9, 1]), np.zeros(3, np.int64)
    shapes = np.array([4]), np.array([8]), np.array([0.0])
    grow_pools((np.array([0, 3]), np.array([1, 0, 2])), sizes, shapes, counts, extra, granted)
    assert granted.tolist() == [0, 4, 0]
    grow_pools((np.array([0, 3]), np.array([0, 1, 2])), sizes, shapes, counts, extra, granted)
    assert granted.tolist() == [4, 0, 0]
