"""One stream of arrivals packed by one policy, and the replay that checks it independently.

Called by `benchmarks/bench_openb.py`. The replay knows nothing of the packer: it takes the record
of what was placed and moved, and does it again with its own sums.
"""

from dataclasses import dataclass

import numpy as np

from benchmarks.openb.packer import (
    BEST_FIT,
    COUNT,
    CPU,
    FGD,
    FREE,
    KIND,
    LOOK_AHEAD,
    MEMORY,
    NO_FIT,
    NOWHERE,
    STALE,
    Board,
    Policy,
    Record,
    Shapes,
    Yard,
    pack,
)
from benchmarks.openb.trace import Trace
from scheduler.compiled import Ints

MOVED_SHARE_MAX = 0.02
# A node takes at most some 40 replicas before nothing in a future changes it any more. Fewer
# futures see a node's room too coarsely; 40 cost twice the time and win nothing.
FUTURES, FUTURE_LENGTH, FUTURES_SEED = 20, 60, 7
STEP_MILLI = 40.0  # 30 to 80 end alike; without steps, near ties open node after node
# At 0 whole nodes are broken up early and most requests for eight accelerators are refused while
# the fleet is three quarters empty; from 0.2 on CPU is stranded instead.
TOGETHER = 0.075
GAIN_MILLI_MIN = 0.0  # a move must lower what is expected to be wasted, however little
POLICIES = ("best_fit", "fgd", "skerry", "skerry_moves")


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What a policy made of a stream."""

    policy: str
    stream: Ints
    record: Record
    rooms: Ints  # what is left at the end

    @property
    def is_placed(self) -> Ints:
        """Return 1 for each arrival that was placed, else 0."""
        return np.where(self.record.node != NOWHERE, 1, 0)

    @property
    def moved(self) -> int:
        """Return how many moves were made."""
        return int(self.record.moved[0])


def policy_named(name: str, trace: Trace) -> Policy:
    """Return the policy; its futures come from the mix alone, with a seed of their own."""
    rules = {"best_fit": BEST_FIT, "fgd": FGD}
    return Policy(
        rule=rules.get(name, LOOK_AHEAD),
        step=STEP_MILLI,
        futures=futures_of(trace.shapes),
        together=TOGETHER,
        cpu_max=float(trace.rooms[:, CPU].max()),
        moved_share_max=MOVED_SHARE_MAX if name == "skerry_moves" else 0.0,
        gain_min=GAIN_MILLI_MIN,
    )


def futures_of(shapes: Shapes) -> Ints:
    """Return rows of shapes that together hold the mix, dealt out in a shuffled order.

    What needs no accelerator cannot fill one and is left out; several at once are `denied`'s
    business. Drawn one by one instead, the rows would hold too many or too few of the rare shapes,
    and what is left over would vary with it.
    """
    weights = np.where(shapes.accelerators == 1, shapes.share, 0.0)
    assert weights.sum() > 0, "the look-ahead needs shapes of one accelerator"
    dealt = (np.arange(FUTURES * FUTURE_LENGTH) + 0.5) / (FUTURES * FUTURE_LENGTH)
    cards = np.searchsorted(np.cumsum(weights / weights.sum()), dealt).astype(np.int64)
    cards = np.random.default_rng(FUTURES_SEED).permutation(cards)
    return cards.reshape(FUTURES, FUTURE_LENGTH)


def run(trace: Trace, stream: Ints, name: str) -> Outcome:
    """Pack the stream onto the trace's empty nodes."""
    policy, rooms = policy_named(name, trace), trace.rooms.copy()
    shapes, nodes = len(trace.shapes.accelerators), len(rooms)
    board = Board(
        score=np.zeros((shapes, nodes)),
        seat=np.full((shapes, nodes), NO_FIT, dtype=np.int64),
        seen=np.full((shapes, nodes), STALE, dtype=np.int64),
        version=np.zeros(nodes, dtype=np.int64),
        lost=np.zeros(nodes),
    )
    moves_max = int(policy.moved_share_max * len(stream))
    record = Record(
        node=np.full(len(stream), NOWHERE, dtype=np.int64),
        seats=np.zeros(len(stream), dtype=np.int64),
        at_node=np.full(len(stream), NOWHERE, dtype=np.int64),
        at_seats=np.zeros(len(stream), dtype=np.int64),
        moves=np.zeros((moves_max, 4), dtype=np.int64),
        moved=np.zeros(1, dtype=np.int64),
    )
    pack(Yard(rooms=rooms, shapes=trace.shapes, policy=policy, board=board), stream, record)
    return Outcome(policy=name, stream=stream, record=record, rooms=rooms)


def faults(trace: Trace, outcome: Outcome) -> list[str]:
    """Replay the record and return what is wrong with it: overcommitment, a wrong kind, a refusal.

    A refusal is a fault where some node would have hosted the arrival: nobody is turned away for
    a better future.
    """
    record, shapes, rooms, found = outcome.record, trace.shapes, trace.rooms.copy(), list[str]()
    where: dict[int, tuple[int, int]] = {}
    moves = record.moves[: outcome.moved].tolist()
    for number, shape in enumerate(outcome.stream.tolist()):
        node, seats = int(record.node[number]), int(record.seats[number])
        is_helped = bool(moves) and moves[0][0] == number
        if (node == NOWHERE or is_helped) and len(hosts(rooms, shapes, shape)):
            found.append(f"arrival {number} was refused, or moved for, though it fits")
        while moves and moves[0][0] == number:
            _, who, to_node, to_seats = moves.pop(0)
            found += change(rooms, shapes, int(outcome.stream[who]), (*where[who], -1))
            where[who] = to_node, to_seats
            found += change(rooms, shapes, int(outcome.stream[who]), (*where[who], 1))
        if node != NOWHERE:
            where[number] = node, seats
            found += change(rooms, shapes, shape, (node, seats, 1))
    if (rooms != outcome.rooms).any():
        found.append("what is left at the end is not what the record leaves")
    return found


def change(rooms: Ints, shapes: Shapes, shape: int, at: tuple[int, int, int]) -> list[str]:
    """Put (sign 1) or remove (-1) a replica at (node, seats, sign); return what is wrong then."""
    node, seats, sign = at
    room = rooms[node]
    taken = [seat for seat in range(int(room[COUNT])) if seats >> seat & 1]
    room[[CPU, MEMORY]] -= sign * np.array([shapes.cpu[shape], shapes.memory[shape]])
    room[[FREE + seat for seat in taken]] -= sign * shapes.milli[shape]
    found = []
    if len(taken) != shapes.accelerators[shape] or seats >> int(room[COUNT]):
        found.append(f"shape {shape} took {len(taken)} accelerators of node {node}")
    if (room < 0).any():
        found.append(f"node {node} is overcommitted")
    if taken and not shapes.allowed[shape, room[KIND]]:
        found.append(f"shape {shape} may not run on node {node}'s kind")
    return found


def hosts(rooms: Ints, shapes: Shapes, shape: int) -> Ints:
    """Return the nodes on which one more of the shape fits."""
    fits = (rooms[:, CPU] >= shapes.cpu[shape]) & (rooms[:, MEMORY] >= shapes.memory[shape])
    if shapes.accelerators[shape]:
        enough = (rooms[:, FREE:] >= shapes.milli[shape]).sum(axis=1) >= shapes.accelerators[shape]
        fits &= enough & (shapes.allowed[shape, rooms[:, KIND]] > 0)
    return np.flatnonzero(fits)
