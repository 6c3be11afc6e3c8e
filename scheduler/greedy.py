"""First answer and fallback: keep what runs, then the cheapest room, in order of priority.

`solve` starts the exact search of the smallest fleets from it; ways out are tried with it.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from scheduler.grid import SPOT_UNITS, Counts, Grid, Want, packs
from scheduler.levels import (
    moves_of,
    spread_shortfall,
    survival_of,
    survival_weight,
    unmet_of,
)
from scheduler.room import Room

# Replicas of one deployment spread over domains turn by turn: below so many each has its own turn.
TURNS = 32


@dataclass(frozen=True, slots=True, kw_only=True)
class _Mates:
    """By column: the columns of its failure domain, and of its spread domain."""

    lost_with: Mapping[int, tuple[int, ...]]
    spread_with: Mapping[int, tuple[int, ...]]


def solve_greedy(grid: Grid) -> Counts:
    """Return counts that fit, good but not proven; the same for the same grid."""
    room = Room(grid, grid.nothing, {})
    order = sorted(
        (want for want in grid.wants if want.columns),
        key=lambda want: (want.priority, len(want.columns), -_size(grid, want), want.name),
    )
    for want in sorted(order, key=lambda want: (want.priority, want.name)):
        _keep(room, want)
    for want in order:
        _fill(room, want)
        if unmet_of(grid, want, room.counts):
            _preempt(room, want, order)
    for want in order:
        _spread_and_survive(room, want)
    _hold_to_budget(room, order)
    return room.result


def keep_running(grid: Grid) -> Counts:
    """Return what runs, as far as it is wanted and may stay, the higher classes first."""
    current = [column.current for column in grid.columns]
    fitting = frozenset(pool for pool in grid.pools if packs(grid, pool, current))
    room = Room(grid, grid.nothing, {}, fitting=fitting)
    order = sorted(grid.wants, key=lambda want: (want.priority, want.name))
    for want in order:
        _keep(room, want)
    for want in order:
        _keep_promises(room, want)
    return room.result


def complete(grid: Grid, counts: Counts) -> Counts:
    """Return given counts as far as they keep every rule, and then what greedy adds to them."""
    room = Room(grid, grid.nothing, {})
    order = sorted(grid.wants, key=lambda want: (want.priority, want.name))
    for want in order:
        # What spot may be used depends on the rest that is.
        for index in sorted(want.columns, key=lambda i: (_is_capped(grid, want, i), i)):
            if counts[index]:
                room.add(index, room.more(want, index, counts[index]))
    for want in order:
        if want.columns and unmet_of(grid, want, room.counts):
            _fill(room, want)
            if unmet_of(grid, want, room.counts):
                _preempt(room, want, order)
    for want in order:
        if want.columns:
            _spread_and_survive(room, want)
    _hold_to_budget(room, order)
    return room.result


def _size(grid: Grid, want: Want) -> int:
    return max(grid.columns[i].accelerators for i in want.columns)


def _price(grid: Grid, index: int) -> float:
    column = grid.columns[index]
    return column.cost_microdollars / column.throughput


def _missing(room: Room, want: Want, index: int) -> int:
    """Return how many replicas on this column would meet the demand."""
    return -(-unmet_of(room.grid, want, room.counts) // room.grid.columns[index].throughput)


def _keep(room: Room, want: Want) -> None:
    """Keep what runs as far as it is wanted, the dearest given up first."""
    grid = room.grid
    # What spot may be kept depends on the rest that is.
    order = sorted(want.columns, key=lambda i: (_is_capped(grid, want, i), _price(grid, i), i))
    for index in order:
        wanted = min(grid.columns[index].current, _missing(room, want, index))
        room.add(index, room.more(want, index, wanted))


def _keep_promises(room: Room, want: Want) -> None:
    """Keep what runs beyond the demand as far as it is what a loss is to be survived with."""
    grid = room.grid
    for index in sorted(want.columns, key=lambda i: (_price(grid, i), i)):
        while room.counts[index] < grid.columns[index].current and room.more(want, index, 1):
            before = _broken(room, want)
            room.add(index, 1)
            if _broken(room, want) >= before:
                room.add(index, -1)
                break


def _broken(room: Room, want: Want) -> tuple[int, int]:
    counts = room.counts
    return survival_of(room.grid, want, counts), spread_shortfall(want, counts)


def _fill(room: Room, want: Want) -> None:
    """Place what is missing: new domains first where they are promised, then the cheapest."""
    by_one = bool(want.domains) or want.domains_min > 0
    _fill_beside_spot(room, want)
    mates = _Mates(lost_with=_mates(want.domains), spread_with=_mates(want.spread_domains))
    while unmet_of(room.grid, want, room.counts):
        for index in sorted(want.columns, key=lambda i: _preference(room, want, mates, i)):
            missing = _missing(room, want, index)
            if count := room.more(want, index, _step(missing) if by_one else missing):
                room.add(index, count)
                if by_one:
                    break
        else:
            return


def _is_capped(grid: Grid, want: Want, index: int) -> bool:
    return want.spot_units_max is not None and grid.columns[index].is_spot


def _fill_beside_spot(room: Room, want: Want) -> None:
    """Place the share that may not be spot, so that the rest may."""
    grid = room.grid
    if want.spot_units_max is None or want.domains or want.domains_min:
        return
    firm = [i for i in want.columns if not grid.columns[i].is_spot]
    if len(firm) == len(want.columns):
        return
    least = -(-want.demand * (SPOT_UNITS - want.spot_units_max) // SPOT_UNITS)
    for index in sorted(firm, key=lambda i: (_price(grid, i), i)):
        short = least - sum(grid.columns[i].throughput * room.counts[i] for i in firm)
        wanted = min(-(-short // grid.columns[index].throughput), _missing(room, want, index))
        room.add(index, room.more(want, index, max(0, wanted)))


def _hold_to_budget(room: Room, order: list[Want]) -> None:
    """Take back starts that are moves beyond the budget, in the lowest class first."""
    budget, grid = room.grid.problem.moves_max, room.grid
    if budget is None:
        return
    moves = {want.name: moves_of(grid, want, room.counts) for want in order}
    for want in sorted(order, key=lambda want: (-want.priority, want.name)):
        while sum(moves.values()) > budget and moves[want.name]:
            started = [i for i in want.columns if room.counts[i] > grid.columns[i].current]
            room.shed(max(started, key=lambda i: (_price(grid, i), i)))
            moves[want.name] = moves_of(grid, want, room.counts)


def _step(missing: int) -> int:
    """Return how many replicas a turn places: one by one, but not thousands of turns."""
    return max(1, missing // TURNS)


def _preference(room: Room, want: Want, mates: _Mates, index: int) -> tuple[int, int, float, int]:
    held_already = 0
    if spread_shortfall(want, room.counts):
        held_already = int(any(room.counts[i] for i in mates.spread_with[index]))
    load = sum(room.counts[i] for i in mates.lost_with.get(index, ()))
    return held_already, load, _price(room.grid, index), index


def _mates(domains: Mapping[str, tuple[int, ...]]) -> Mapping[int, tuple[int, ...]]:
    return {index: columns for columns in domains.values() for index in columns}


def _preempt(room: Room, want: Want, order: list[Want]) -> None:
    """Take room from lower classes, the lowest first: a class is served before the next one."""
    lower = sorted(
        (other for other in order if other.priority > want.priority),
        key=lambda other: (-other.priority, other.name),
    )
    for index in sorted(want.columns, key=lambda i: (_price(room.grid, i), i)):
        while unmet_of(room.grid, want, room.counts) and _make_room(room, want, index, lower):
            room.add(index, 1)


def _make_room(room: Room, want: Want, index: int, lower: list[Want]) -> bool:
    """Give up replicas of lower classes on the column's pool until one more fits."""
    pool = room.grid.columns[index].pool
    below = [i for other in lower for i in other.columns]
    apart = [i for i in room.grid.rivals.get(index, ()) if room.counts[i]]
    if not set(apart) <= set(below) or not room.grid.columns[index].count_max:
        return False
    victims = apart + [i for i in below if room.grid.columns[i].pool == pool]
    given_up: list[int] = []
    while not room.more(want, index, 1):
        victim = next((i for i in victims if room.counts[i]), None)
        if victim is None:
            for back in given_up:
                room.add(back, 1)
            return False
        given_up.extend(room.shed(victim))
    return True


def _spread_and_survive(room: Room, want: Want) -> None:
    """Add replicas beyond the demand while each makes the promises better."""
    grid = room.grid

    def shortfall() -> int:
        counts = room.counts
        replicas = survival_of(grid, want, counts) * survival_weight(grid, want)
        return replicas + spread_shortfall(want, counts) * want.scale * survival_weight(grid, want)

    def after(index: int) -> int:
        room.counts[index] += 1
        value = shortfall()
        room.counts[index] -= 1
        return value

    while before := shortfall():
        ways = sorted(
            (after(i), room.counts[i] >= grid.columns[i].current, _price(grid, i), i)
            for i in want.columns
            if room.more(want, i, 1)
        )
        if not ways or ways[0][0] >= before:
            return
        index = ways[0][3]
        each = grid.columns[index].throughput * survival_weight(grid, want)
        step = _step(before // (each * max(1, len(want.domains))))
        room.add(index, room.more(want, index, step))
