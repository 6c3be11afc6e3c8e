"""Safety sentences about packing, on a few nodes and loads of odd sizes."""

from collections.abc import Sequence

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.packing import Load, fits
from tests.properties.examples import examples

modest = settings(max_examples=examples(300), deadline=None, derandomize=True)
Free = tuple[tuple[int, int], ...]


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
        max_size=4,
        unique_by=lambda load: load.key,
    )


def can_pack(free: Free, units: Sequence[tuple[int, int]], per_node: int) -> bool:
    """Say whether any choice of nodes takes the units of (accelerators, memory), tried in turn."""
    states = {free}
    for accelerators, memory in units:
        states = {
            tuple(sorted(after))
            for state in states
            for after in choices(state, accelerators, memory, per_node)
        }
    return bool(states)


def choices(state: Free, accelerators: int, memory: int, per_node: int) -> list[Free]:
    """Return what may be left once one unit is placed; wide ones take whole, untouched nodes."""
    width = -(-accelerators // per_node)
    if width > 1:
        whole = [at for at, (left, _) in enumerate(state) if left == per_node]
        whole = [at for at in whole if state[at][1] * width >= memory][:width]
        rest = tuple(node for at, node in enumerate(state) if at not in whole)
        return [rest] if len(whole) == width else []
    return [
        (*state[:at], (left - accelerators, free_memory - memory), *state[at + 1 :])
        for at, (left, free_memory) in enumerate(state)
        if left >= accelerators and free_memory >= memory
    ]


@modest
@given(
    st.integers(0, 4), st.sampled_from((1, 3, 4, 7, 8, 10)), st.integers(0, 20), loads(count_max=3)
)
def test_empty_nodes_fit_exactly_what_some_choice_of_nodes_takes(
    nodes: int, per_node: int, memory: int, wanted: list[Load]
) -> None:
    units = [(x.accelerators, x.host_memory_bytes) for x in wanted for _ in range(x.count)]
    units.sort(reverse=True)  # wide ones first, while nodes are untouched
    possible = can_pack(((per_node, memory),) * nodes, units, per_node)
    assert fits(nodes, per_node, memory, wanted) == possible
    if fits(nodes, per_node, memory, wanted, searches=False):
        assert possible
