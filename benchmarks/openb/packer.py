"""The packer's decisions, compiled: what fits where, what a placement costs, what to move.

Called by `online`. Every compiled function of this benchmark is in this file: the compiler's cache
knows a function's own file only. A node is a row of integers, its *room*: CPU and memory left, its
kind, its number of accelerators, and the thousandths left on each.

The three policies differ in one figure of a room (`worth_lost`) and place where it grows least:
best fit, fragmentation gradient descent (FGD), and ours, the look-ahead, which fills the room with
a few futures drawn from the mix and takes the accelerators that are left over on average.
"""

from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled

CPU, MEMORY, KIND, COUNT, FREE = 0, 1, 2, 3, 4
ACCELERATORS_MAX = 8  # of the trace's nodes
ROOM = FREE + ACCELERATORS_MAX
WHOLE = 1000  # thousandths of one accelerator

BEST_FIT, FGD, LOOK_AHEAD = 0, 1, 2

NO_FIT, NO_ONE = -2, -1  # in Board.seat: does not fit; needs no one accelerator to be chosen
STALE = -1
NOWHERE = -1
UNASKED = -2
FAR = 1e18
MOVERS = 8  # replicas for which a node to go to is sought; more find no more


class Shapes(NamedTuple):
    """What replicas ask for, one entry per distinct request."""

    accelerators: Ints
    milli: Ints  # of each accelerator; below WHOLE only where it is one
    cpu: Ints
    memory: Ints
    allowed: Ints  # shape x kind: may it run there
    share: Floats  # of the arrivals


class Policy(NamedTuple):
    """How to choose, and how much may be moved."""

    rule: int  # BEST_FIT, FGD or LOOK_AHEAD
    step: float  # look-ahead: differences below it are ties, in thousandths; ties go to the first
    futures: Ints  # look-ahead: one row of shape numbers per future
    together: float  # look-ahead: weight of what shapes of several accelerators are denied
    cpu_max: float  # of any node; best fit weighs by it
    moved_share_max: float  # of the placed replicas
    gain_min: float  # thousandths that a move must win


class Board(NamedTuple):
    """What is known of every shape on every node, renewed where a node has changed since."""

    score: Floats  # shape x node, rounded; the least is taken
    seat: Ints  # shape x node: the accelerator to take, NO_ONE or NO_FIT
    seen: Ints  # shape x node: the node's version when scored
    version: Ints
    lost: Floats  # worth_lost of each node as it is


class Yard(NamedTuple):
    """Everything a decision reads: the nodes as they are, what is asked, how to choose."""

    rooms: Ints
    shapes: Shapes
    policy: Policy
    board: Board


class Record(NamedTuple):
    """What became of each arrival, and of what was moved: enough to replay it all."""

    node: Ints  # where it was put on arrival, NOWHERE when rejected
    seats: Ints  # bit mask of the accelerators it took there
    at_node: Ints  # where it is now
    at_seats: Ints
    moves: Ints  # rows of (before which arrival, who, to which node, to which seats)
    moved: Ints  # one entry: how many rows are filled


@compiled
def fits(room: Ints, shapes: Shapes, shape: int) -> bool:
    """Say whether the room hosts one more of the shape."""
    if room[CPU] < shapes.cpu[shape] or room[MEMORY] < shapes.memory[shape]:
        return False
    needed = shapes.accelerators[shape]
    if needed == 0:
        return True
    if shapes.allowed[shape, room[KIND]] == 0:
        return False
    for seat in range(room[COUNT]):
        if room[FREE + seat] >= shapes.milli[shape]:
            needed -= 1
    return bool(needed <= 0)


@compiled
def take(room: Ints, shapes: Shapes, shape: int, seat: int) -> int:
    """Take the shape's resources out of the room; return the accelerators taken as a bit mask."""
    room[CPU] -= shapes.cpu[shape]
    room[MEMORY] -= shapes.memory[shape]
    if seat >= 0:
        room[FREE + seat] -= shapes.milli[shape]
        return 1 << seat
    taken, needed = 0, shapes.accelerators[shape]
    for other in range(room[COUNT]):
        if needed > 0 and room[FREE + other] >= shapes.milli[shape]:
            room[FREE + other] -= shapes.milli[shape]
            taken |= 1 << other
            needed -= 1
    return taken


@compiled
def give_back(room: Ints, shapes: Shapes, shape: int, seats: int) -> None:
    """Return what a replica of the shape on these accelerators had taken."""
    room[CPU] += shapes.cpu[shape]
    room[MEMORY] += shapes.memory[shape]
    for seat in range(room[COUNT]):
        if seats >> seat & 1:
            room[FREE + seat] += shapes.milli[shape]


@compiled
def left(room: Ints) -> int:
    """Return the thousandths of accelerators left in the room."""
    total = 0
    for seat in range(room[COUNT]):
        total += room[FREE + seat]
    return total


@compiled
def fragmentation(room: Ints, shapes: Shapes) -> float:
    """Return the FGD paper's expected fragment of the room over the mix, in thousandths.

    For a shape that the room cannot host, or that needs no accelerator, all that is left is a
    fragment; for one that it can host, what is left on accelerators with too little for it. As
    there, CPU and accelerators count and memory does not.
    """
    total, widest, whole = left(room), 0, 0
    if total == 0:
        return 0.0
    for seat in range(room[COUNT]):
        widest = max(widest, room[FREE + seat])
        whole += room[FREE + seat] == WHOLE
    expected = 0.0
    for shape in range(len(shapes.accelerators)):
        share, milli, count = shapes.share[shape], shapes.milli[shape], shapes.accelerators[shape]
        hosts = (
            count > 0
            and room[CPU] >= shapes.cpu[shape]
            and shapes.allowed[shape, room[KIND]] != 0
            and (widest >= milli if count == 1 else whole >= count)
        )
        if not hosts:
            expected += share * total
            continue
        for seat in range(room[COUNT]):
            if room[FREE + seat] < milli:
                expected += share * room[FREE + seat]
    return expected


@compiled
def tightest(room: Ints, shapes: Shapes, shape: int) -> int:
    """Return the accelerator with the least left that still suffices, NO_FIT if none does."""
    best = NO_FIT
    for seat in range(room[COUNT]):
        here = room[FREE + seat]
        if here >= shapes.milli[shape] and (best == NO_FIT or here < room[FREE + best]):
            best = seat
    return best


@compiled
def left_over(room: Ints, shapes: Shapes, futures: Ints) -> float:
    """Return the mean of what is left once the room has been offered each of the futures."""
    before = left(room)
    if before == 0:
        return 0.0
    trial, total = np.empty_like(room), 0
    for future in futures:
        trial[:] = room
        rest = before
        for shape in future:
            if trial[CPU] < shapes.cpu[shape] or trial[MEMORY] < shapes.memory[shape]:
                continue
            if not fits(trial, shapes, shape):
                continue
            seat = tightest(trial, shapes, shape) if shapes.accelerators[shape] == 1 else NO_ONE
            take(trial, shapes, shape, seat)
            rest -= shapes.accelerators[shape] * shapes.milli[shape]
            if rest == 0:
                break
        total += rest
    return total / len(futures)


@compiled
def denied(room: Ints, shapes: Shapes) -> float:
    """Return what is left, times the demand for several accelerators at once that it cannot host.

    Futures drawn by count hardly ever begin with such a shape, though whole nodes must be kept
    for it: demand is by accelerators asked for.
    """
    total = left(room)
    if total == 0:
        return 0.0
    demand, missed = 0.0, 0.0
    for shape in range(len(shapes.accelerators)):
        asked = shapes.share[shape] * shapes.accelerators[shape] * shapes.milli[shape]
        demand += asked
        if shapes.accelerators[shape] > 1 and not fits(room, shapes, shape):
            missed += asked
    return total * missed / demand


@compiled
def worth_lost(room: Ints, shapes: Shapes, policy: Policy) -> float:
    """Return the policy's figure of a room: the less a placement adds to it, the better."""
    if policy.rule == BEST_FIT:
        return float(
            0.5 * room[CPU] / policy.cpu_max + 0.5 * left(room) / (WHOLE * ACCELERATORS_MAX)
        )
    if policy.rule == FGD:
        return fragmentation(room, shapes)
    return left_over(room, shapes, policy.futures) + policy.together * denied(room, shapes)


@compiled
def grade(before: float, after: float, policy: Policy) -> float:
    """Return a placement's score in whole numbers, so that near ties go to the first node."""
    if policy.rule == BEST_FIT:
        return float(-np.floor(100.0 * (1.0 - after)))
    if policy.rule == FGD:
        return float(-np.floor(100.0 / (1.0 + np.exp((after - before) / WHOLE))))
    return float(np.floor((after - before) / policy.step))


@compiled
def best_seat(
    room: Ints, shapes: Shapes, shape: int, policy: Policy, trial: Ints
) -> tuple[int, float]:
    """Return the accelerator to take in a room that fits, and worth_lost after; ties: tightest."""
    if shapes.accelerators[shape] != 1:
        trial[:] = room
        take(trial, shapes, shape, NO_ONE)
        return NO_ONE, worth_lost(trial, shapes, policy)
    best, least = NO_FIT, FAR
    for seat in range(room[COUNT]):
        here = room[FREE + seat]
        if here < shapes.milli[shape]:
            continue
        is_known = False
        for other in range(seat):
            is_known = is_known or room[FREE + other] == here
        if is_known:
            continue
        trial[:] = room
        take(trial, shapes, shape, seat)
        after = worth_lost(trial, shapes, policy)
        if after < least or (after == least and here < room[FREE + best]):
            best, least = seat, after
    return best, least


@compiled
def renew(yard: Yard, shape: int) -> None:
    """Score the shape on every node that has changed since it was last scored there."""
    rooms, shapes, policy, board = yard
    trial = np.empty_like(rooms[0])
    score, seat, seen = board.score[shape], board.seat[shape], board.seen[shape]
    for node in range(len(rooms)):
        if seen[node] == board.version[node]:
            continue
        seen[node] = board.version[node]
        if node > 0 and (rooms[node] == rooms[node - 1]).all():
            score[node], seat[node] = score[node - 1], seat[node - 1]
        elif not fits(rooms[node], shapes, shape):
            score[node], seat[node] = FAR, NO_FIT
        else:
            chosen, after = best_seat(rooms[node], shapes, shape, policy, trial)
            score[node], seat[node] = grade(board.lost[node], after, policy), chosen


@compiled
def choose(yard: Yard, shape: int, but: int) -> int:
    """Return the node of the least score for the shape, not `but`; NOWHERE if none hosts it."""
    renew(yard, shape)
    score, best, least = yard.board.score[shape], NOWHERE, FAR
    for node in range(len(score)):
        if score[node] < least and node != but:
            best, least = node, score[node]
    return best


@compiled
def touch(yard: Yard, node: int) -> None:
    """Note that the node has changed."""
    yard.board.version[node] += 1
    yard.board.lost[node] = worth_lost(yard.rooms[node], yard.shapes, yard.policy)


@compiled
def settle(yard: Yard, shape: int, node: int) -> int:
    """Put a replica of the shape on the node, where the board says; return what it takes there."""
    seats = take(yard.rooms[node], yard.shapes, shape, yard.board.seat[shape, node])
    touch(yard, node)
    return seats


@compiled
def won_here(yard: Yard, mover: int, at: tuple[int, int], shape: int) -> float:
    """Return what (node, seats) wins when a replica leaves it and one of the shape comes in.

    Won is what the node expects to be left over less; -FAR where the newcomer still does not fit.
    """
    node, seats = at
    room, scratch = yard.rooms[node].copy(), np.empty_like(yard.rooms[node])
    give_back(room, yard.shapes, mover, seats)
    if not fits(room, yard.shapes, shape):
        return -FAR
    after = best_seat(room, yard.shapes, shape, yard.policy, scratch)[1]
    return float(yard.board.lost[node] - after)


@compiled
def won_there(yard: Yard, mover: int, node: int) -> float:
    """Return what the mover's best other node wins by taking it in; -FAR if none can."""
    other = choose(yard, mover, node)
    if other == NOWHERE:
        return -FAR
    room, scratch = yard.rooms[other], np.empty_like(yard.rooms[other])
    after = best_seat(room, yard.shapes, mover, yard.policy, scratch)[1]
    return float(yard.board.lost[other] - after)


@compiled
def candidates(yard: Yard, stream: Ints, record: Record, newcomer: int) -> tuple[Ints, Floats]:
    """Return the few replicas whose leaving wins their node most, and what it wins, best first.

    A node cannot win more than it expects to be left over, and in a full fleet few shapes could go
    anywhere else: both spare most replicas the look.
    """
    shape, found = stream[newcomer], np.full(MOVERS, NOWHERE)
    home = np.full(len(yard.shapes.accelerators), UNASKED)  # where a shape could go, once asked
    needed = yard.shapes.accelerators[shape] * yard.shapes.milli[shape]
    won = np.full(MOVERS, yard.policy.gain_min - WHOLE)
    for who in range(newcomer):
        node = record.at_node[who]
        if node == NOWHERE or yard.board.lost[node] <= won[-1]:
            continue
        mover = stream[who]
        given = yard.shapes.accelerators[mover] * yard.shapes.milli[mover]
        if left(yard.rooms[node]) + given < needed:
            continue
        if home[mover] == UNASKED:
            home[mover] = choose(yard, mover, NOWHERE)
        if home[mover] == NOWHERE:
            continue
        wins = won_here(yard, mover, (node, record.at_seats[who]), shape)
        place = MOVERS
        while place > 0 and won[place - 1] < wins:
            place -= 1
        if place < MOVERS:
            found[place + 1 :], won[place + 1 :] = found[place:-1].copy(), won[place:-1].copy()
            found[place], won[place] = who, wins
    return found, won


@compiled
def make_room(yard: Yard, stream: Ints, record: Record, newcomer: int) -> int:
    """Move the one replica whose leaving wins most; return the freed node, NOWHERE if not worth it.

    Counted are both nodes: the one left, with the newcomer in, and the one gone to.
    """
    best, most = NOWHERE, yard.policy.gain_min
    found, won = candidates(yard, stream, record, newcomer)
    for place in range(MOVERS):
        if found[place] == NOWHERE:
            break
        who = found[place]
        total = won[place] + won_there(yard, stream[who], record.at_node[who])
        if total > most:
            best, most = who, total
    if best == NOWHERE:
        return NOWHERE
    node, mover = record.at_node[best], stream[best]
    other = choose(yard, mover, node)
    give_back(yard.rooms[node], yard.shapes, mover, record.at_seats[best])
    touch(yard, node)
    record.at_node[best], record.at_seats[best] = other, settle(yard, mover, other)
    row = record.moves[record.moved[0]]
    row[0], row[1], row[2], row[3] = newcomer, best, other, record.at_seats[best]
    record.moved[0] += 1
    renew(yard, stream[newcomer])
    return int(node)


@compiled
def pack(yard: Yard, stream: Ints, record: Record) -> None:
    """Place each arrival where the policy says; reject it only where no node hosts it.

    A move may be made for an arrival that would else be rejected, while the replicas moved stay
    within the policy's share of those placed. A shape for which no move was worth it is tried
    again only once something has changed.
    """
    for node in range(len(yard.rooms)):
        touch(yard, node)
    changes, placed = 0, 0
    tried = np.full(len(yard.shapes.accelerators), STALE)
    for number in range(len(stream)):
        shape = stream[number]
        node = choose(yard, shape, NOWHERE)
        may_move = record.moved[0] + 1 <= yard.policy.moved_share_max * placed
        if node == NOWHERE and may_move and tried[shape] != changes:
            tried[shape] = changes
            node = make_room(yard, stream, record, number)
        if node == NOWHERE:
            continue
        seats = settle(yard, shape, node)
        record.node[number], record.seats[number] = node, seats
        record.at_node[number], record.at_seats[number] = node, seats
        changes, placed = changes + 1, placed + 1
