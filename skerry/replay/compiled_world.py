"""The replay's inner loops: requests to replicas, and engines that batch, compiled.

`world` calls `advance` from one decision to the next and `read` for what a plane could count. An
engine computes in iterations: one token for each request that decodes and, beside them, a piece of
the prompts that wait. Iterations in which nothing begins or ends are taken in one stride.
"""

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from scheduler.compiled import Floats, Ints, compiled

FREE, STARTING, READY, DRAINING = 0, 1, 2, 3
NONE = -1
# Of a region, in the order of `LoadReading`'s totals.
ARRIVED, PROMPT, FINISHED, OUTPUT, JUDGED, GOOD = range(6)
COUNTERS = 6
# Of a region, as they are now.
IN_FLIGHT, WAITING, WAITING_TOKENS, COUNT_STARTING, COUNT_READY, COUNT_DRAINING = range(6)
GAUGES = 6
NEVER = 2**62


class Trace(NamedTuple):
    """Requests in order of time: seconds, region, tokens in and out."""

    at: Floats
    region: Ints
    prompt: Ints
    output: Ints


class Rules(NamedTuple):
    """What requests and tokens cost, and where they go; `spill_at` in flight, or never.

    A first token is in time within `ttft_seconds + ttft_per_token * prompt`, the others within
    `tpot_seconds` each on average.
    """

    prefill: float
    decode: float
    iteration: float
    chunk: int
    batch: int
    spill_at: int
    spill_margin: int
    peer_seconds: float
    ttft_seconds: float
    ttft_per_token: float
    tpot_seconds: float


class State(NamedTuple):
    """Replicas by region and slot, and their requests; queues are lists linked by `after`."""

    status: Ints
    clock: Floats
    iterations: Ints
    decoding: Ints
    next_end: Ints
    ends: NDArray[np.int64]
    requests: NDArray[np.int64]
    head: Ints
    tail: Ints
    queued: Ints
    queued_tokens: Ints
    head_left: Ints
    held_head: Ints
    held_tail: Ints
    held: Ints
    held_tokens: Ints
    after: Ints
    first_at: Floats
    extra: Floats
    met: NDArray[np.int64]
    counters: Floats
    served_away: Ints


def new_state(regions: int, slots: int, batch: int, requests: int) -> State:
    """Return a world without replicas."""
    many = regions * slots

    def ints(shape: int | tuple[int, int], value: int = 0) -> Ints:
        return np.full(shape, value, dtype=np.int64)

    return State(
        status=ints(many),
        clock=np.zeros(many),
        iterations=ints(many),
        decoding=ints(many),
        next_end=ints(many, NEVER),
        ends=ints((many, batch)),
        requests=ints((many, batch)),
        head=ints(many, NONE),
        tail=ints(many, NONE),
        queued=ints(many),
        queued_tokens=ints(many),
        head_left=ints(many),
        held_head=ints(regions, NONE),
        held_tail=ints(regions, NONE),
        held=ints(regions),
        held_tokens=ints(regions),
        after=ints(requests, NONE),
        first_at=np.zeros(requests),
        extra=np.zeros(requests),
        met=ints(requests),
        counters=np.zeros((regions, COUNTERS)),
        served_away=ints(regions),
    )


@compiled
def _finish(state: State, trace: Trace, rules: Rules, request: int, at: float) -> None:
    """Count an answer, and whether it met its objective."""
    region = trace.region[request]
    output = trace.output[request]
    first = state.first_at[request]
    allowed = rules.ttft_seconds + rules.ttft_per_token * trace.prompt[request]
    good = first + state.extra[request] - trace.at[request] <= allowed
    if good and output > 1:
        good = (at - first) / (output - 1) <= rules.tpot_seconds
    state.met[request] = 1 if good else 2
    state.counters[region, FINISHED] += 1.0
    state.counters[region, OUTPUT] += output
    state.counters[region, JUDGED] += 1.0
    if good:
        state.counters[region, GOOD] += 1.0


@compiled
def _end_decodes(state: State, trace: Trace, rules: Rules, slot: int) -> None:
    """Take the answers out whose last token is made, and find the next end."""
    done = state.iterations[slot]
    least = NEVER
    place = 0
    while place < state.decoding[slot]:
        end = state.ends[slot, place]
        if end <= done:
            _finish(state, trace, rules, state.requests[slot, place], state.clock[slot])
            last = state.decoding[slot] - 1
            state.ends[slot, place] = state.ends[slot, last]
            state.requests[slot, place] = state.requests[slot, last]
            state.decoding[slot] = last
        else:
            least = min(least, end)
            place += 1
    state.next_end[slot] = least


@compiled
def _prefill(state: State, trace: Trace, rules: Rules, slot: int) -> None:
    """Compute one iteration with pieces of prompts in it, first come first served."""
    # Prompts that end in this iteration decode from the next one on.
    decoding = state.decoding[slot]
    room = rules.chunk
    used = 0
    finished = 0
    first = state.head[slot]
    request = first
    while request != NONE and used < room and decoding + finished < rules.batch:
        left = state.head_left[slot] if request == first else trace.prompt[request]
        taken = min(left, room - used)
        used += taken
        if taken < left:
            if request == first:
                state.head_left[slot] = left - taken
            else:
                state.head[slot] = request
                state.head_left[slot] = left - taken
            break
        finished += 1
        request = state.after[request]
    seconds = rules.iteration + rules.decode * decoding + rules.prefill * used
    state.clock[slot] += seconds
    state.iterations[slot] += 1
    state.queued_tokens[slot] -= used
    request = first
    for _ in range(finished):
        following = state.after[request]
        state.first_at[request] = state.clock[slot]
        place = state.decoding[slot]
        state.requests[slot, place] = request
        end = state.iterations[slot] + trace.output[request] - 1
        state.ends[slot, place] = end
        state.decoding[slot] = place + 1
        state.next_end[slot] = min(state.next_end[slot], end)
        state.queued[slot] -= 1
        request = following
    if finished:
        if state.head[slot] == first:
            state.head[slot] = request
            state.head_left[slot] = trace.prompt[request] if request != NONE else 0
        if request == NONE:
            state.tail[slot] = NONE
    if state.next_end[slot] <= state.iterations[slot]:
        _end_decodes(state, trace, rules, slot)


@compiled
def _run(state: State, trace: Trace, rules: Rules, slot: int, until: float) -> None:
    """Let one replica compute up to a moment, and the iteration that is under way then."""
    while state.clock[slot] < until:
        decoding = state.decoding[slot]
        if state.queued[slot] > 0 and decoding < rules.batch:
            _prefill(state, trace, rules, slot)
        elif decoding > 0:
            seconds = rules.iteration + rules.decode * decoding
            many = state.next_end[slot] - state.iterations[slot]
            within = int(np.ceil((until - state.clock[slot]) / seconds))
            many = min(many, max(within, 1))
            state.clock[slot] += many * seconds
            state.iterations[slot] += many
            if state.next_end[slot] <= state.iterations[slot]:
                _end_decodes(state, trace, rules, slot)
        else:
            state.clock[slot] = until


@compiled
def _enqueue(state: State, trace: Trace, slot: int, request: int, now: float) -> None:
    """Put a request at the end of a replica's queue; an idle one begins now."""
    state.clock[slot] = max(state.clock[slot], now)
    state.after[request] = NONE
    if state.head[slot] == NONE:
        state.head[slot] = request
        state.head_left[slot] = trace.prompt[request]
    else:
        state.after[state.tail[slot]] = request
    state.tail[slot] = request
    state.queued[slot] += 1
    state.queued_tokens[slot] += trace.prompt[request]


@compiled
def _least(
    state: State, trace: Trace, rules: Rules, slots: tuple[int, int], now: float
) -> tuple[int, int]:
    """Return the ready replica of some slots with the fewest requests, and how many those are."""
    best, fewest, tokens = NONE, NEVER, NEVER
    for slot in range(slots[0], slots[1]):
        if state.status[slot] == READY:
            flying = state.decoding[slot] + state.queued[slot]
            # An idle replica, or one that is in the middle of an iteration, has nothing to do.
            if flying > 0 and state.clock[slot] < now:
                _run(state, trace, rules, slot, now)
                flying = state.decoding[slot] + state.queued[slot]
            if flying < fewest or (flying == fewest and state.queued_tokens[slot] < tokens):
                best, fewest, tokens = slot, flying, state.queued_tokens[slot]
    return best, fewest


@compiled
def _route(state: State, trace: Trace, rules: Rules, request: int, now: float) -> bool:
    """Give a request to a replica here or, where those are busy, of a peer; False without one."""
    regions = len(state.held)
    slots = len(state.status) // regions
    here = trace.region[request]
    best, fewest = _least(state, trace, rules, (here * slots, here * slots + slots), now)
    if rules.spill_at > 0 and fewest >= rules.spill_at:
        away, least = NONE, fewest
        for region in range(regions):
            if region != here:
                found, many = _least(
                    state, trace, rules, (region * slots, region * slots + slots), now
                )
                if found != NONE and many < least:
                    away, least = found, many
        if away != NONE and (best == NONE or least <= fewest - rules.spill_margin):
            best = away
            state.extra[request] = rules.peer_seconds
            state.served_away[here] += 1
    if best == NONE:
        return False
    _enqueue(state, trace, best, request, now)
    return True


@compiled
def _release_held(state: State, trace: Trace, rules: Rules, now: float) -> None:
    """Give what the gateways hold to replicas, as soon as there is one."""
    for region in range(len(state.held)):
        while state.held[region] > 0:
            request = state.held_head[region]
            following = state.after[request]
            if not _route(state, trace, rules, request, now):
                break
            state.held_head[region] = following
            state.held[region] -= 1
            state.held_tokens[region] -= trace.prompt[request]
        if state.held[region] == 0:
            state.held_head[region] = NONE
            state.held_tail[region] = NONE


@compiled
def advance(state: State, trace: Trace, rules: Rules, first: int, now: float, until: float) -> int:
    """Let requests come and replicas compute up to `until`; return the next request to come."""
    _release_held(state, trace, rules, now)
    request = first
    while request < len(trace.at) and trace.at[request] < until:
        region = trace.region[request]
        state.counters[region, ARRIVED] += 1.0
        state.counters[region, PROMPT] += trace.prompt[request]
        if not _route(state, trace, rules, request, trace.at[request]):
            state.after[request] = NONE
            if state.held[region] == 0:
                state.held_head[region] = request
            else:
                state.after[state.held_tail[region]] = request
            state.held_tail[region] = request
            state.held[region] += 1
            state.held_tokens[region] += trace.prompt[request]
        request += 1
    for slot in range(len(state.status)):
        if state.status[slot] == READY or state.status[slot] == DRAINING:
            _run(state, trace, rules, slot, until)
    return request


@compiled
def settle(state: State, ready_at: Floats, now: float) -> None:
    """Let starts that are over serve, and replicas that have drained go."""
    for slot in range(len(state.status)):
        if state.status[slot] == STARTING and ready_at[slot] <= now:
            state.status[slot] = READY
            state.clock[slot] = now
        elif state.status[slot] == DRAINING and state.decoding[slot] + state.queued[slot] == 0:
            state.status[slot] = FREE


@compiled
def read(state: State, gauges: Floats) -> None:
    """Write what runs, is in flight and waits in each region: at its replicas and its gateway."""
    regions = len(state.held)
    slots = len(state.status) // regions
    gauges[:, :] = 0.0
    for region in range(regions):
        waiting = float(state.held[region])
        tokens = float(state.held_tokens[region])
        flying = waiting
        for slot in range(region * slots, region * slots + slots):
            status = state.status[slot]
            if status != FREE:
                gauges[region, COUNT_STARTING + status - STARTING] += 1.0
            if status >= READY:
                waiting += state.queued[slot]
                tokens += state.queued_tokens[slot]
                flying += state.queued[slot] + state.decoding[slot]
        gauges[region, IN_FLIGHT] = flying
        gauges[region, WAITING] = waiting
        gauges[region, WAITING_TOKENS] = tokens
