"""Safety sentences about packing, on small random nodes and loads of odd sizes."""

from collections import Counter
from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.packing import Load, Node, Packing, empty_nodes, fits, pack

modest = settings(max_examples=300, deadline=None, derandomize=True)


def loads(*, count_max: int) -> st.SearchStrategy[list[Load]]:
    """Draw loads: several of one shape, some with a lot of memory, some wider than any node."""
    return st.lists(
        st.builds(
            Load,
            key=st.sampled_from("abcdef"),
            accelerators=st.sampled_from((1, 2, 2, 3, 4, 5, 8, 9, 16)),
            host_memory_bytes=st.sampled_from((0, 1, 2, 3, 5, 7, 12)),
            count=st.integers(0, count_max),
        ),
        max_size=5,
        unique_by=lambda load: load.key,
    )


@st.composite
def some_nodes(draw: st.DrawFn) -> tuple[Node, ...]:
    """Draw nodes of which some neighbours are alike, and some are in use."""
    found: list[Node] = []
    for _ in range(draw(st.integers(0, 4))):
        accelerators = draw(st.sampled_from((2, 8, 8, 10)))
        free = draw(st.sampled_from((accelerators, accelerators, 1)))
        memory = draw(st.sampled_from((4, 20)))
        found += [
            Node(
                name=f"node-{len(found) + twin}",
                accelerators_free=free,
                accelerators=accelerators,
                host_memory_bytes_free=memory,
            )
            for twin in range(draw(st.integers(1, 3)))
        ]
    return tuple(found)


def left_by_first_fit(nodes: Sequence[Node], ordered: Sequence[Load]) -> dict[str, int]:
    """Return what finds no node, one replica and one node after another."""
    free = [[node.accelerators_free, node.host_memory_bytes_free] for node in nodes]
    largest = max((node.accelerators for node in nodes), default=0)
    left: Counter[str] = Counter()
    for load in sorted(ordered, key=lambda load: load.accelerators <= largest):
        for _ in range(load.count):
            at = [n for n in range(len(nodes)) if free[n][0] >= load.accelerators]
            at = [n for n in at if free[n][1] >= load.host_memory_bytes][:1]
            if load.accelerators > largest:
                at = whole_nodes(nodes, free, load)
            for n in at:
                shared = load.accelerators <= largest
                free[n][0] -= load.accelerators if shared else free[n][0]
                free[n][1] -= load.host_memory_bytes if shared else free[n][1]
            left[load.key] += not at
    return {key: count for key, count in left.items() if count}


def whole_nodes(nodes: Sequence[Node], free: Sequence[Sequence[int]], load: Load) -> list[int]:
    chosen: list[int] = []
    for n, node in enumerate(nodes):
        if sum(nodes[at].accelerators for at in chosen) >= load.accelerators:
            break
        if free[n][0] == node.accelerators:
            chosen.append(n)
    enough = sum(nodes[at].accelerators for at in chosen) >= load.accelerators
    share = -(-load.host_memory_bytes // max(1, len(chosen)))
    return chosen if enough and all(free[at][1] >= share for at in chosen) else []


def assert_holds(nodes: Sequence[Node], wanted: Sequence[Load], packing: Packing) -> None:
    """No node is overfilled, whole nodes are shared with nobody, and all replicas are told."""
    shapes = {load.key: load for load in wanted}
    largest = max((node.accelerators for node in nodes), default=0)
    taken: Counter[str] = Counter()
    memory: Counter[str] = Counter()
    told = Counter(dict(packing.unpacked))
    for binding in packing.bindings:
        load = shapes[binding.key]
        told[binding.key] += binding.count
        if load.accelerators > largest:
            sizes = {node.name: node.accelerators for node in nodes}
            assert sum(sizes[name] for name in binding.nodes) >= load.accelerators
            taken.update({name: sizes[name] for name in binding.nodes})
            memory.update(
                dict.fromkeys(binding.nodes, load.host_memory_bytes // len(binding.nodes))
            )
        else:
            (name,) = binding.nodes
            taken[name] += binding.count * load.accelerators
            memory[name] += binding.count * load.host_memory_bytes
    for node in nodes:
        assert taken[node.name] <= node.accelerators_free
        assert memory[node.name] <= node.host_memory_bytes_free
    assert told == Counter({load.key: load.count for load in wanted if load.count})


@modest
@given(
    st.integers(0, 6), st.sampled_from((1, 3, 4, 7, 8, 10)), st.integers(0, 20), loads(count_max=4)
)
def test_empty_nodes_fit_exactly_what_packs_on_them(
    nodes: int, per_node: int, memory: int, wanted: list[Load]
) -> None:
    packing = pack(empty_nodes(nodes, per_node, memory), wanted)
    assert fits(nodes, per_node, memory, wanted) == packing.is_complete


@modest
@given(some_nodes(), loads(count_max=6))
def test_runs_of_nodes_take_what_node_after_node_takes(
    nodes: tuple[Node, ...], wanted: list[Load]
) -> None:
    packing = pack(nodes, wanted)
    assert_holds(nodes, wanted, packing)
    by_accelerators = sorted(wanted, key=lambda x: (-x.accelerators, -x.host_memory_bytes, x.key))
    by_memory = sorted(wanted, key=lambda x: (-x.host_memory_bytes, -x.accelerators, x.key))
    left = [left_by_first_fit(nodes, ordered) for ordered in (by_accelerators, by_memory)]
    if all(left):  # only the later attempts may have found nodes for all
        assert packing.is_complete or dict(packing.unpacked) == left[0]
    else:
        assert packing.is_complete
