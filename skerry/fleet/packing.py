"""Replicas onto nodes: first-fit decreasing over (accelerators, host memory), pure.

The scheduler asks whether a pool's counts fit its nodes; a plane asks which node takes a replica.
A replica on one node takes a part of it; one larger than a node takes whole, untouched nodes.
Neighbouring nodes in the same state are one run: time goes with runs, not with ten million nodes.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain, groupby
from operator import itemgetter
from typing import NamedTuple

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


def pack(nodes: Sequence[Node], loads: Iterable[Load]) -> Packing:
    """Bind replicas to nodes; the first of several orders that leaves nothing over wins.

    Deterministic: ties go by key and by the order of `nodes`. What cannot be bound is in `unpacked`
    of the result of the first order.
    """
    wanted = [load for load in loads if load.count > 0]
    largest = max((node.accelerators for node in nodes), default=0)
    bench, unpacked = _best_attempt(_runs_of(nodes), largest, wanted)
    bindings = tuple(
        Binding(
            key=span.key,
            nodes=tuple(nodes[at].name for at in span.nodes[begin : begin + span.width]),
            count=span.replicas,
        )
        for span in bench.spans
        for begin in range(0, len(span.nodes), span.width)
    )
    return Packing(bindings=bindings, unpacked=tuple(unpacked))


def fits(
    nodes: int,
    accelerators_per_node: int,
    host_memory_bytes: int,
    loads: Iterable[Load],
    *,
    searches: bool = True,
) -> bool:
    """Say whether so many empty, like nodes take the loads.

    The answer of `pack(empty_nodes(...), loads).is_complete`, without making the nodes. Without
    `searches` some sets that only a search would pack are said not to fit.
    """
    empty = _Run(0, nodes, accelerators_per_node, host_memory_bytes, True)
    wanted = [load for load in loads if load.count > 0]
    for load in wanted:
        if whole := nodes_of_replica(load.accelerators, accelerators_per_node):
            if load.host_memory_bytes > whole * host_memory_bytes:
                return False
            nodes -= whole * load.count
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
        _fit_first(nodes, empty, by_accelerators)
        or _fit_first(nodes, empty, sorted(small, key=_by_host_memory))
        or (
            searches
            and _search(
                _Bench([empty._replace(nodes=nodes)], accelerators_per_node), by_accelerators
            )
        )
    )


class _Run(NamedTuple):
    """Neighbouring nodes in one state: from number `first` on, with so much free on each."""

    first: int
    nodes: int
    accelerators: int
    memory: int
    untouched: bool

    @property
    def is_whole(self) -> bool:
        """Say whether a replica that takes whole nodes could use it."""
        return self.untouched and self.nodes > 0

    def room(self, load: Load) -> int:
        """Return how many replicas of the load each node takes."""
        room = self.accelerators // load.accelerators
        if room > 0 and load.host_memory_bytes:
            return min(room, self.memory // load.host_memory_bytes)
        return room


_Unpacked = list[tuple[str, int]]


class _Span(NamedTuple):
    """Nodes by number: every `width` of them are a binding of so many `replicas`."""

    key: str
    nodes: Sequence[int]
    width: int
    replicas: int


def _runs_of(nodes: Sequence[Node]) -> list[_Run]:
    """Return the nodes that have accelerators free."""
    runs: list[_Run] = []
    states = ((n.accelerators_free, n.host_memory_bytes_free, n.is_untouched) for n in nodes)
    for state, members in groupby(enumerate(states), key=itemgetter(1)):
        numbers = [at for at, _ in members]
        if state[0] > 0:
            runs.append(_Run(numbers[0], len(numbers), *state))
    return runs


def _fit_first(nodes: int, empty: _Run, ordered: Sequence[Load]) -> bool:
    """Say whether first fit takes all: `_Bench` without names, as checks of fleets wait for it."""
    runs = [(nodes, empty.accelerators, empty.memory)]
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


class _Bench:
    """What is free while one order is tried, and what went where."""

    def __init__(self, runs: Sequence[_Run], largest: int) -> None:
        self.runs = list(runs)
        self.largest = largest
        self.spans: list[_Span] = []
        self._whole_from = 0  # runs before it have no untouched node left

    def is_wide(self, load: Load) -> bool:
        """Say whether one replica takes whole nodes."""
        return load.accelerators > self.largest

    def bind(self, load: Load) -> int:
        """Bind replicas, first fit; return how many found no node."""
        return self._bind_whole_nodes(load) if self.is_wide(load) else self._bind_parts(load)

    def skip_bound(self) -> None:
        """Leave alone every node up to the last one that took something."""
        last = self.spans[-1].nodes[-1]
        self.runs = [run for run in self.runs if run.first > last]

    def _bind_parts(self, load: Load) -> int:
        missing = load.count
        left: list[_Run] = []
        for at, run in enumerate(self.runs):
            if not missing:
                left += self.runs[at:]
                break
            room = run.room(load)
            if room < 1:
                left.append(run)
                continue
            full, last = divmod(missing, room)
            if full >= run.nodes:
                full, last = run.nodes, 0
            missing -= full * room + last
            # Full nodes, then one with the rest, then those that are as they were.
            first = run.first
            if full:
                self._take_part(load, run, range(first, first + full), room, left)
                first += full
            if last:
                self._take_part(load, run, range(first, first + 1), last, left)
                first += 1
            if nodes := run.first + run.nodes - first:
                left.append(_Run(first, nodes, run.accelerators, run.memory, run.untouched))
        self.runs = left
        return missing

    def _take_part(self, load: Load, run: _Run, nodes: range, count: int, left: list[_Run]) -> None:
        """Bind `count` replicas to each of some nodes of the run; add what this leaves, if any."""
        self.spans.append(_Span(load.key, nodes, 1, count))
        if accelerators := run.accelerators - count * load.accelerators:
            memory = run.memory - count * load.host_memory_bytes
            left.append(_Run(nodes.start, len(nodes), accelerators, memory, False))

    def _bind_whole_nodes(self, load: Load) -> int:
        missing = load.count
        while missing and (parts := self._whole_nodes(load)):
            replicas = 1
            if len(parts) == 1:
                at, width = parts[0]
                replicas = min(missing, self.runs[at].nodes // width)
            taken = [self._take_whole(at, nodes * replicas) for at, nodes in parts]
            numbers = taken[0] if len(taken) == 1 else tuple(chain.from_iterable(taken))
            self.spans.append(_Span(load.key, numbers, len(numbers) // replicas, 1))
            missing -= replicas
        return missing

    def _take_whole(self, at: int, nodes: int) -> range:
        run = self.runs[at]
        self.runs[at] = run._replace(first=run.first + nodes, nodes=run.nodes - nodes)
        return range(run.first, run.first + nodes)

    def _whole_nodes(self, load: Load) -> list[tuple[int, int]]:
        """Return (run, nodes) for one replica on the first untouched nodes; nothing if too few."""
        runs = self.runs
        while self._whole_from < len(runs) and not runs[self._whole_from].is_whole:
            self._whole_from += 1
        chosen: list[tuple[int, int]] = []
        lacking = load.accelerators
        for at in range(self._whole_from, len(runs)):
            if lacking <= 0:
                break
            if runs[at].is_whole:
                nodes = min(runs[at].nodes, -(-lacking // runs[at].accelerators))
                chosen.append((at, nodes))
                lacking -= nodes * runs[at].accelerators
        if lacking > 0:
            return []
        share = -(-load.host_memory_bytes // sum(nodes for _, nodes in chosen))
        return chosen if all(runs[at].memory >= share for at, _ in chosen) else []


def _best_attempt(
    runs: Sequence[_Run], largest: int, loads: Sequence[Load]
) -> tuple[_Bench, _Unpacked]:
    """Return the first attempt that binds all, or else the first one with what it left over."""
    by_accelerators = sorted(loads, key=_by_accelerators)
    first: tuple[_Bench, _Unpacked] | None = None
    for ordered in (by_accelerators, sorted(loads, key=_by_host_memory)):
        bench = _Bench(runs, largest)
        # Whole nodes first: once a small replica sits on a node it is whole no more.
        whole_first = sorted(ordered, key=bench.is_wide, reverse=True)
        missing = [(load.key, bench.bind(load)) for load in whole_first]
        unpacked = [(key, count) for key, count in missing if count]
        if not unpacked:
            return bench, unpacked
        first = first or (bench, unpacked)
    assert first is not None
    for attempt in (_one_load_per_node, _search):
        bench = _Bench(runs, largest)
        if attempt(bench, by_accelerators):
            return bench, []
    return first


def _one_load_per_node(bench: _Bench, ordered: Sequence[Load]) -> bool:
    """Give each load nodes of its own: what the solver's most careful row promises to fit."""
    for load in ordered:
        if bench.bind(load):
            return False
        if not bench.is_wide(load):
            bench.skip_bound()
    return True


def _search(bench: _Bench, ordered: Sequence[Load]) -> bool:
    """Try placements one replica at a time, within SEARCH_STEPS_MAX."""
    if any(bench.is_wide(load) and bench.bind(load) for load in ordered):
        return False
    small = [load for load in ordered if not bench.is_wide(load)]
    if sum(load.count for load in small) > SEARCH_STEPS_MAX // 10:
        return False
    units = [load for load in small for _ in range(load.count)]
    accelerators = sum(unit.accelerators for unit in units)
    memory = sum(unit.host_memory_bytes for unit in units)
    if accelerators > sum(run.nodes * run.accelerators for run in bench.runs):
        return False
    if memory > sum(run.nodes * run.memory for run in bench.runs):
        return False
    table = _Table(bench.runs, units)
    if not table.search():
        return False
    bench.spans += [
        _Span(unit.key, (table.number[at],), 1, 1)
        for unit, at in zip(units, table.chosen, strict=True)
    ]
    return True


class _Table:
    """Single nodes and single replicas, for the search.

    Nodes of a run fill up from its first one on, so no more of them are laid out than are units.
    """

    def __init__(self, runs: Sequence[_Run], units: Sequence[Load]) -> None:
        self.units = units
        self.chosen: list[int] = []
        self.number: list[int] = []
        self.accelerators: list[int] = []
        self.memory: list[int] = []
        self.before: list[int] = []  # accelerators free before anything is tried
        self.next_run: list[int] = []
        for run in runs:
            nodes = min(run.nodes, len(units))
            self.number += range(run.first, run.first + nodes)
            self.accelerators += [run.accelerators] * nodes
            self.memory += [run.memory] * nodes
            self.next_run += [len(self.number)] * nodes
        self.before = list(self.accelerators)

    def search(self) -> bool:
        """Go depth first with an explicit stack: units may outnumber Python's frames."""
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
        while at < len(self.number):
            state = (self.accelerators[at], self.memory[at])
            fits_here = unit.accelerators <= state[0] and unit.host_memory_bytes <= state[1]
            if fits_here and state not in seen:
                seen.add(state)
                candidates.append(at)
            # After a node that is as it was before come only such of its run.
            at = self.next_run[at] if state[0] == self.before[at] else at + 1
        return candidates
