"""Whether replicas fit nodes: first-fit decreasing over (accelerators, host memory), pure.

The scheduler asks it of a pool's counts. A replica on one node takes a part of it; one larger than
a node takes whole nodes. Nodes in the same state are one run: time goes with runs, not with ten
million nodes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

# First-fit decreasing fails on some packable sets of odd sizes. Up to so many steps of search are
# spent before giving up: about 10 ms, and every set of a dozen replicas on four nodes is decided.
SEARCH_STEPS_MAX = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`count` replicas of one shape; `key` says whose they are. Memory is of one whole replica."""

    key: str
    accelerators: int
    host_memory_bytes: int
    count: int


def nodes_of_replica(accelerators: int, accelerators_per_node: int) -> int:
    """Return how many whole nodes one replica takes; 0 when it shares a node."""
    if accelerators <= accelerators_per_node:
        return 0
    return -(-accelerators // accelerators_per_node)


def fits(
    nodes: int,
    accelerators_per_node: int,
    host_memory_bytes: int,
    loads: Iterable[Load],
    *,
    searches: bool = True,
) -> bool:
    """Say whether so many empty, like nodes take the loads.

    Without `searches` some sets that only a search would pack are said not to fit.
    """
    wanted = [load for load in loads if load.count > 0]
    for load in wanted:
        if whole := nodes_of_replica(load.accelerators, accelerators_per_node):
            if load.host_memory_bytes > whole * host_memory_bytes:
                return False
            nodes -= whole * load.count
    empty = _Empty(nodes, accelerators_per_node, host_memory_bytes)
    small = [load for load in wanted if load.accelerators <= accelerators_per_node]
    apart = accelerators = memory = 0
    for load in small:
        room = empty.room(load)
        if room < 1:
            return False
        apart += -(-load.count // room)
        accelerators += load.accelerators * load.count
        memory += load.host_memory_bytes * load.count
    if apart <= nodes:
        return True
    if accelerators > nodes * accelerators_per_node or memory > nodes * host_memory_bytes:
        return False
    by_accelerators = sorted(small, key=_by_accelerators)
    return (
        _fit_first(empty, by_accelerators)
        or _fit_first(empty, sorted(small, key=_by_host_memory))
        or (searches and _search(empty, by_accelerators))
    )


class _Empty(NamedTuple):
    """Empty nodes, with so much on each."""

    nodes: int
    accelerators: int
    memory: int

    def room(self, load: Load) -> int:
        """Return how many replicas of the load each node takes."""
        room = self.accelerators // load.accelerators
        if room > 0 and load.host_memory_bytes:
            return min(room, self.memory // load.host_memory_bytes)
        return room


def _fit_first(empty: _Empty, ordered: Sequence[Load]) -> bool:
    """Say whether first fit takes all, replica by replica and node after node."""
    runs = [(empty.nodes, empty.accelerators, empty.memory)]
    for load in ordered:
        size, share, missing = load.accelerators, load.host_memory_bytes, load.count
        left: list[tuple[int, int, int]] = []
        for at, run in enumerate(runs):
            number, accelerators, memory = run
            room = accelerators // size
            if share and room:
                room = min(room, memory // share)
            if not room:
                left.append(run)
                continue
            full, last = divmod(missing, room)
            if full >= number:
                full, last = number, 0
            missing -= full * room + last
            if full and accelerators > room * size:
                left.append((full, accelerators - room * size, memory - room * share))
            if last:
                left.append((1, accelerators - last * size, memory - last * share))
                full += 1
            if full < number:
                left.append((number - full, accelerators, memory))
            if not missing:
                left += runs[at + 1 :]
                break
        if missing:
            return False
        runs = left
    return True


def _by_accelerators(load: Load) -> tuple[int, int, str]:
    return (-load.accelerators, -load.host_memory_bytes, load.key)


def _by_host_memory(load: Load) -> tuple[int, int, str]:
    return (-load.host_memory_bytes, -load.accelerators, load.key)


def _search(empty: _Empty, ordered: Sequence[Load]) -> bool:
    """Try placements one replica at a time, within SEARCH_STEPS_MAX."""
    if sum(load.count for load in ordered) > SEARCH_STEPS_MAX // 10:
        return False
    return _Table(empty, [load for load in ordered for _ in range(load.count)]).search()


class _Table:
    """Single nodes and single replicas, for the search.

    Nodes fill up from the first one on, so no more of them are laid out than are units.
    """

    def __init__(self, empty: _Empty, units: Sequence[Load]) -> None:
        nodes = min(empty.nodes, len(units))
        self.units = units
        self.chosen: list[int] = []
        self.empty = empty
        self.accelerators = [empty.accelerators] * nodes
        self.memory = [empty.memory] * nodes

    def search(self) -> bool:
        """Say whether all find a node.

        Goes depth first with an explicit stack: units may outnumber Python's frames.
        """
        if not self.units:
            return True
        stack = [self._candidates()]
        for _ in range(SEARCH_STEPS_MAX):
            if stack[-1]:
                at = stack[-1].pop(0)
                self._take(at, 1)
                self.chosen.append(at)
                if len(self.chosen) == len(self.units):
                    return True
                stack.append(self._candidates())
            else:
                stack.pop()
                if not stack:
                    return False
                last = self.chosen.pop()
                self._take(last, -1)
        return False

    def _take(self, at: int, count: int) -> None:
        """Take the next unit's share of a node; -1 gives it back."""
        unit = self.units[len(self.chosen)]
        self.accelerators[at] -= count * unit.accelerators
        self.memory[at] -= count * unit.host_memory_bytes

    def _candidates(self) -> list[int]:
        """Return nodes worth trying for the next unit: one of each state, twins in order."""
        chosen, unit = self.chosen, self.units[len(self.chosen)]
        twin = bool(chosen) and self.units[len(chosen) - 1] is unit
        seen: set[tuple[int, int]] = set()
        candidates: list[int] = []
        at = chosen[-1] if twin else 0
        while at < len(self.accelerators):
            state = (self.accelerators[at], self.memory[at])
            fits_here = unit.accelerators <= state[0] and unit.host_memory_bytes <= state[1]
            if fits_here and state not in seen:
                seen.add(state)
                candidates.append(at)
            if state[0] == self.empty.accelerators:
                break  # after an empty node come only empty ones
            at += 1
        return candidates
