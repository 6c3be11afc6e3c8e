"""Replicas onto nodes: whole nodes, memory, odd sizes, and the same answer each time."""

from itertools import product

import pytest

from skerry.fleet.packing import Binding, Load, Node, Packing, empty_nodes, nodes_of_replica, pack


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
