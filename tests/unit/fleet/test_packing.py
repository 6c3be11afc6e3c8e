"""Replicas onto nodes: whole nodes, memory, odd sizes, and ten million nodes at once."""

import pytest

from skerry.fleet.packing import Load, fits, nodes_of_replica


def a_load(key: str, accelerators: int, count: int = 1, memory: int = 0) -> Load:
    return Load(key=key, accelerators=accelerators, host_memory_bytes=memory, count=count)


def test_a_replica_larger_than_a_node_takes_whole_nodes_only() -> None:
    assert fits(3, 8, 0, [a_load("wide", 16), a_load("small", 1, 8)])
    assert not fits(3, 8, 0, [a_load("wide", 16), a_load("small", 1, 9)])
    assert not fits(3, 8, 0, [a_load("wide", 9), a_load("other", 9)])


def test_host_memory_binds_although_accelerators_are_free() -> None:
    assert not fits(2, 8, 10, [a_load("fat", 1, 3, memory=6)])
    assert not fits(2, 8, 10, [a_load("wide", 16, 1, memory=21)])
    assert fits(3, 8, 10, [a_load("wide", 16, 1, memory=20), a_load("fat", 1, 1, memory=10)])


def test_a_set_that_first_fit_decreasing_misses_is_found_by_search() -> None:
    loads = [a_load("a", 4, 2), a_load("b", 3, 4)]
    assert fits(2, 10, 0, loads)
    assert not fits(2, 10, 0, loads, searches=False)
    assert not fits(2, 10, 0, [*loads, a_load("c", 1)])


def test_nothing_fits_anywhere_and_something_fits_on_no_node() -> None:
    assert fits(0, 8, 0, [a_load("none", 1, 0)])
    assert not fits(0, 8, 0, [a_load("one", 1)])


def test_ten_million_nodes_take_ten_million_replicas_at_once() -> None:
    # Two million nodes taken whole, five with two of 3 and one of 2, four of 2 on each of the rest.
    loads = [a_load("wide", 16, 10**6), a_load("odd", 3, 10**7), a_load("thin", 2, 10**7)]
    assert fits(8_250_000, 8, 0, loads)
    assert not fits(8_249_999, 8, 0, loads)


@pytest.mark.parametrize(("accelerators", "nodes"), [(1, 0), (8, 0), (9, 2), (16, 2)])
def test_only_what_exceeds_a_node_takes_whole_nodes(accelerators: int, nodes: int) -> None:
    assert nodes_of_replica(accelerators, 8) == nodes
