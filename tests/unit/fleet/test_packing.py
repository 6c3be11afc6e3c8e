"""Replicas onto nodes: whole nodes, memory, odd sizes, and the same answer each time."""

from itertools import product

import pytest

from skerry.fleet.packing import (
    Binding,
    Load,
    Node,
    Packing,
    empty_nodes,
    fits,
    nodes_of_replica,
    pack,
)


def a_load(key: str, accelerators: int, count: int = 1, memory: int = 0) -> Load:
    return Load(key=key, accelerators=accelerators, host_memory_bytes=memory, count=count)


def test_the_largest_go_first_and_fill_node_after_node() -> None:
    packing = pack(empty_nodes(2, 8, 0), [a_load("small", 2, 4), a_load("large", 4, 2)])
    assert packing == Packing(
        bindings=(
            Binding(key="large", nodes=("0",), count=2),
            Binding(key="small", nodes=("1",), count=4),
        ),
        unpacked=(),
    )


def test_a_replica_larger_than_a_node_takes_untouched_nodes_only() -> None:
    touched = Node(name="a", accelerators_free=7, accelerators=8, host_memory_bytes_free=0)
    free = [
        Node(name=name, accelerators_free=8, accelerators=8, host_memory_bytes_free=0)
        for name in ("b", "c")
    ]
    packing = pack([touched, *free], [a_load("wide", 16), a_load("small", 1, 7)])
    assert packing.bindings == (
        Binding(key="wide", nodes=("b", "c"), count=1),
        Binding(key="small", nodes=("a",), count=7),
    )
    assert pack([touched, *free], [a_load("wide", 24)]).unpacked == (("wide", 1),)


def test_host_memory_binds_although_accelerators_are_free() -> None:
    assert pack(empty_nodes(2, 8, 10), [a_load("fat", 1, 3, memory=6)]).unpacked == (("fat", 1),)
    wide = a_load("wide", 16, 1, memory=24)
    assert pack(empty_nodes(2, 8, 10), [wide]).unpacked == (("wide", 1),)


def test_a_set_that_first_fit_decreasing_misses_is_found_by_search() -> None:
    loads = [a_load("a", 4, 2), a_load("b", 3, 2), a_load("c", 2, 3)]
    assert pack(empty_nodes(2, 10, 0), loads).is_complete


def test_fits_says_what_pack_finds_by_first_fit_apart_and_by_search() -> None:
    assert fits(2, 10, 0, [a_load("a", 4, 2), a_load("b", 3, 2), a_load("c", 2, 3)])
    assert not fits(2, 10, 0, [a_load("a", 4, 2), a_load("b", 3, 2), a_load("c", 2, 4)])
    assert fits(3, 8, 10, [a_load("wide", 16, 1, memory=20), a_load("fat", 1, 1, memory=10)])
    assert not fits(3, 8, 10, [a_load("wide", 16, 1, memory=21)])
    assert not fits(0, 8, 0, [a_load("one", 1)])
    assert fits(0, 8, 0, [a_load("none", 1, 0)])


def test_ten_million_nodes_take_ten_million_replicas_at_once() -> None:
    # Two million nodes taken whole, five with two of 3 and one of 2, four of 2 on each of the rest.
    loads = [a_load("wide", 16, 10**6), a_load("odd", 3, 10**7), a_load("thin", 2, 10**7)]
    assert fits(8_250_000, 8, 0, loads)
    assert not fits(8_249_999, 8, 0, loads)


def test_wide_replicas_on_many_nodes_are_bound_in_one_pass() -> None:
    nodes = empty_nodes(40_001, 8, 0)
    packing = pack(nodes, [a_load("wide", 16, 20_000), a_load("small", 1, 8)])
    assert packing.is_complete
    assert packing.bindings[19_999].nodes == ("39998", "39999")
    assert packing.bindings[20_000:] == (Binding(key="small", nodes=("40000",), count=8),)


def test_a_wide_replica_may_lie_on_nodes_that_are_no_neighbours() -> None:
    nodes = list(empty_nodes(5, 8, 0))
    nodes[1] = Node(name="1", accelerators_free=2, accelerators=8, host_memory_bytes_free=0)
    packing = pack(nodes, [a_load("wide", 16, 2), a_load("small", 1, 2)])
    assert [binding.nodes for binding in packing.bindings] == [("0", "2"), ("3", "4"), ("1",)]


def test_nothing_to_pack_and_nowhere_to_pack() -> None:
    assert pack([], []).is_complete
    assert pack([], [a_load("one", 1)]).unpacked == (("one", 1),)
    assert pack(empty_nodes(1, 8, 0), [a_load("none", 1, 0)]).bindings == ()


@pytest.mark.parametrize(("accelerators", "nodes"), [(1, 0), (8, 0), (9, 2), (16, 2)])
def test_only_what_exceeds_a_node_takes_whole_nodes(accelerators: int, nodes: int) -> None:
    assert nodes_of_replica(accelerators, 8) == nodes


def test_no_node_is_ever_overfilled() -> None:
    sizes = {"a": (3, 5), "b": (2, 1), "c": (5, 2)}
    for counts in product(range(4), repeat=3):
        loads = [
            a_load(key, size, count, memory)
            for (key, (size, memory)), count in zip(sizes.items(), counts, strict=True)
        ]
        packing = pack(empty_nodes(3, 8, 8), loads)
        for node in ("0", "1", "2"):
            here = [b for b in packing.bindings if b.nodes == (node,)]
            assert sum(sizes[b.key][0] * b.count for b in here) <= 8
            assert sum(sizes[b.key][1] * b.count for b in here) <= 8
        bound = sum(b.count for b in packing.bindings)
        assert bound + sum(count for _, count in packing.unpacked) == sum(counts)
