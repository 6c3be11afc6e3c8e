"""Replicas onto nodes: first-fit decreasing over (accelerators, host memory), pure.

The scheduler asks whether a pool's counts fit its nodes; a plane asks which node takes a replica.
A replica on one node takes a part of it; one larger than a node takes whole, untouched nodes.
"""

from collections.abc import Sequence
from dataclasses import dataclass

# First-fit decreasing fails on some packable sets of odd sizes. Up to so many steps of search are
# spent before giving up: about 10 ms, and every set of a dozen replicas on four nodes is decided.
SEARCH_STEPS_MAX = 5_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Node:
    """What is left on one node, and what it has in all (memory in bytes)."""

    name: str
    accelerators_free: int
    accelerators: int
    host_memory_bytes_free: int

    @property
    def is_untouched(self) -> bool:
        """Say whether a replica that takes whole nodes could use it."""
        return self.accelerators_free == self.accelerators


@dataclass(frozen=True, slots=True, kw_only=True)
class Load:
    """`count` replicas of one shape; `key` says whose they are. Memory is of one whole replica."""

    key: str
    accelerators: int
    host_memory_bytes: int
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Binding:
    """`count` replicas of `key` on `nodes`: on one node each, or one replica over all of them."""

    key: str
    nodes: tuple[str, ...]
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Packing:
    """Where replicas went, and what found no node, as (key, count)."""

    bindings: tuple[Binding, ...]
    unpacked: tuple[tuple[str, int], ...]

    @property
    def is_complete(self) -> bool:
        """Say whether every replica found its node."""
        return not self.unpacked


def empty_nodes(count: int, accelerators: int, host_memory_bytes: int) -> tuple[Node, ...]:
    """Return `count` like nodes with nothing on them, named by their number."""
    return tuple(
        Node(
            name=str(number),
            accelerators_free=accelerators,
            accelerators=accelerators,
            host_memory_bytes_free=host_memory_bytes,
        )
        for number in range(count)
    )


def nodes_of_replica(accelerators: int, accelerators_per_node: int) -> int:
    """Return how many whole nodes one replica takes; 0 when it shares a node."""
    if accelerators <= accelerators_per_node:
        return 0
    return -(-accelerators // accelerators_per_node)


def pack(nodes: Sequence[Node], loads: Sequence[Load]) -> Packing:
    """Bind replicas to nodes; the first of several orders that leaves nothing over wins.

    Deterministic: ties go by key and by the order of `nodes`. What cannot be bound is in `unpacked`
    of the result of the first order.
    """
    wanted = [load for load in loads if load.count > 0]
    first: Packing | None = None
    for order in (_by_accelerators, _by_host_memory):
        packing = _first_fit(nodes, sorted(wanted, key=order))
        if packing.is_complete:
            return packing
        first = first or packing
    assert first is not None
    for attempt in (_one_load_per_node, _search):
        found = attempt(nodes, sorted(wanted, key=_by_accelerators))
        if found is not None:
            return found
    return first


def _by_accelerators(load: Load) -> tuple[int, int, str]:
    return (-load.accelerators, -load.host_memory_bytes, load.key)


def _by_host_memory(load: Load) -> tuple[int, int, str]:
    return (-load.host_memory_bytes, -load.accelerators, load.key)


class _Bench:
    """Free accelerators and memory while one order is tried."""

    def __init__(self, nodes: Sequence[Node]) -> None:
        self.nodes = nodes
        self.accelerators = [node.accelerators_free for node in nodes]
        self.memory = [node.host_memory_bytes_free for node in nodes]
        self.bindings: list[Binding] = []

    def room(self, at: int, load: Load) -> int:
        """Return how many more replicas of the load the node takes."""
        by_accelerators = self.accelerators[at] // load.accelerators
        if load.host_memory_bytes == 0:
            return by_accelerators
        return min(by_accelerators, self.memory[at] // load.host_memory_bytes)

    def take(self, at: int, load: Load, count: int) -> None:
        self.accelerators[at] -= count * load.accelerators
        self.memory[at] -= count * load.host_memory_bytes

    def bind(self, at: int, load: Load, count: int) -> None:
        self.take(at, load, count)
        self.bindings.append(Binding(key=load.key, nodes=(self.nodes[at].name,), count=count))

    def bind_whole_nodes(self, load: Load) -> int:
        """Bind replicas that take whole nodes; return how many found none."""
        missing = load.count
        while missing:
            chosen = self._whole_nodes(load)
            if chosen is None:
                break
            for at in chosen:
                self.accelerators[at] = 0
                self.memory[at] = 0
            names = tuple(self.nodes[at].name for at in chosen)
            self.bindings.append(Binding(key=load.key, nodes=names, count=1))
            missing -= 1
        return missing

    def _whole_nodes(self, load: Load) -> list[int] | None:
        chosen: list[int] = []
        taken = 0
        for at, node in enumerate(self.nodes):
            if taken >= load.accelerators:
                break
            if node.is_untouched and self.accelerators[at] == node.accelerators:
                chosen.append(at)
                taken += node.accelerators
        if taken < load.accelerators:
            return None
        share = -(-load.host_memory_bytes // len(chosen))
        return chosen if all(self.memory[at] >= share for at in chosen) else None


def _largest_node(nodes: Sequence[Node]) -> int:
    return max((node.accelerators for node in nodes), default=0)


def _first_fit(nodes: Sequence[Node], ordered: Sequence[Load]) -> Packing:
    bench = _Bench(nodes)
    largest = _largest_node(nodes)
    unpacked: list[tuple[str, int]] = []
    # Whole nodes first: once a small replica sits on a node it is whole no more.
    for load in sorted(ordered, key=lambda load: load.accelerators <= largest):
        if load.accelerators > largest:
            missing = bench.bind_whole_nodes(load)
        else:
            missing = _fill(bench, load, range(len(nodes)))
        if missing:
            unpacked.append((load.key, missing))
    return Packing(bindings=tuple(bench.bindings), unpacked=tuple(unpacked))


def _fill(bench: _Bench, load: Load, among: Sequence[int]) -> int:
    missing = load.count
    for at in among:
        if not missing:
            break
        count = min(missing, bench.room(at, load))
        if count > 0:
            bench.bind(at, load, count)
            missing -= count
    return missing


def _one_load_per_node(nodes: Sequence[Node], ordered: Sequence[Load]) -> Packing | None:
    """Give each load nodes of its own: what the solver's most careful row promises to fit."""
    bench = _Bench(nodes)
    largest = _largest_node(nodes)
    used = 0
    for load in ordered:
        if load.accelerators > largest:
            if bench.bind_whole_nodes(load):
                return None
            while used < len(nodes) and bench.accelerators[used] == 0:
                used += 1
            continue
        if _fill(bench, load, range(used, len(nodes))):
            return None
        last = bench.bindings[-1].nodes[0]
        used = next(at for at, node in enumerate(nodes) if node.name == last) + 1
    return Packing(bindings=tuple(bench.bindings), unpacked=())


def _search(nodes: Sequence[Node], ordered: Sequence[Load]) -> Packing | None:
    """Try placements one replica at a time, within SEARCH_STEPS_MAX."""
    bench = _Bench(nodes)
    largest = _largest_node(nodes)
    for load in ordered:
        if load.accelerators > largest and bench.bind_whole_nodes(load):
            return None
    units = [load for load in ordered if load.accelerators <= largest for _ in range(load.count)]
    if len(units) > SEARCH_STEPS_MAX // 10 or not _may_fit(bench, units):
        return None
    chosen = _search_units(bench, units)
    if chosen is None:
        return None
    spread = tuple(
        Binding(key=load.key, nodes=(nodes[at].name,), count=1)
        for load, at in zip(units, chosen, strict=True)
    )
    return Packing(bindings=(*bench.bindings, *spread), unpacked=())


def _may_fit(bench: _Bench, units: Sequence[Load]) -> bool:
    accelerators = sum(unit.accelerators for unit in units)
    memory = sum(unit.host_memory_bytes for unit in units)
    return accelerators <= sum(bench.accelerators) and memory <= sum(bench.memory)


def _candidates(bench: _Bench, units: Sequence[Load], chosen: Sequence[int]) -> list[int]:
    """Return nodes worth trying for the next unit: one of each state, no reordering of twins."""
    unit = units[len(chosen)]
    twin = bool(chosen) and units[len(chosen) - 1] is unit
    seen: set[tuple[int, int]] = set()
    candidates: list[int] = []
    for at in range(chosen[-1] if twin else 0, len(bench.nodes)):
        state = (bench.accelerators[at], bench.memory[at])
        if state not in seen and bench.room(at, unit) > 0:
            seen.add(state)
            candidates.append(at)
    return candidates


def _search_units(bench: _Bench, units: Sequence[Load]) -> list[int] | None:
    """Depth first with an explicit stack: units may outnumber Python's frames."""
    chosen: list[int] = []
    if not units:
        return chosen
    stack = [_candidates(bench, units, chosen)]
    for _ in range(SEARCH_STEPS_MAX):
        if stack[-1]:
            at = stack[-1].pop(0)
            bench.take(at, units[len(chosen)], 1)
            chosen.append(at)
            if len(chosen) == len(units):
                return chosen
            stack.append(_candidates(bench, units, chosen))
        else:
            stack.pop()
            if not stack:
                return None
            last = chosen.pop()
            bench.take(last, units[len(chosen)], -1)
    return None
