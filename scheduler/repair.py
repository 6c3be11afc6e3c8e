"""A plan without some pools, at once: who ran there is placed again, what is healthy stays.

`session` calls `repair` on the last answer; nothing is priced anew, so that it takes a tenth of a
second where a new solve takes several.
"""

from dataclasses import dataclass, replace

import numpy as np

from scheduler.compiled import Ints
from scheduler.draft import Draft, recount
from scheduler.homeless import HARD, pack, place_homeless
from scheduler.instance import Instance
from scheduler.large import LargeAnswer
from scheduler.relaxation import Possible, alone, at_most, levels_of, served_and_short
from scheduler.rounding import Tariff, negotiate


@dataclass(frozen=True, slots=True, kw_only=True)
class Repair:
    """The new answer, and which deployments and pools hold other counts than before."""

    answer: LargeAnswer
    deployments: Ints
    pools: Ints


def repair(answer: LargeAnswer, lost: Ints) -> Repair:
    """Return an answer without the lost pools that moves nothing healthy it need not move.

    The bounds are those from before the loss, for less supply never costs less; what replicas that
    run now cost to start is taken off, and shortfalls are counted without the lost domains.
    """
    before = answer.counts
    state = _without(answer.draft, before, lost)
    columns, prices = state.instance.columns, answer.warm.prices
    hit = np.unique(columns.deployment[np.flatnonzero(state.counts != before)])
    hit = hit[np.argsort(state.wants.priority[hit], kind="stable")]
    tariff = Tariff(accelerator=prices.accelerator, memory=prices.memory, pressure=HARD)
    negotiate(hit, state.market, state.wants, state.room, tariff, state.counts)
    place_homeless(state, prices, gently=True)
    pack(state, prices, packed=before, gently=True)
    changed = np.flatnonzero(state.counts != before)
    unmet, short = served_and_short(state.instance, state.counts)
    levels = levels_of(state.instance, state.counts, (unmet, short))
    possible = _possible(answer, state.instance)
    cost = answer.bounds.cost - _starts_saved(answer.draft.instance, state.instance)
    survival = min(answer.bounds.survival, float(possible.survival.sum()))
    bounds = at_most(replace(answer.bounds, cost=max(0.0, cost), survival=survival), levels)
    if (bounds.unmet, bounds.survival) != (levels.unmet, levels.survival):
        bounds = replace(bounds, cost=0.0)  # who serves less may cost less
    found = LargeAnswer(
        counts=state.counts,
        unmet=unmet,
        short=short,
        possible=possible,
        levels=levels,
        bounds=bounds,
        warm=answer.warm,
        draft=state,
    )
    return Repair(
        answer=found,
        deployments=np.unique(columns.deployment[changed]),
        pools=np.unique(columns.pool[changed]),
    )


def _possible(answer: LargeAnswer, left: Instance) -> Possible:
    """Return what each deployment could get alone of what is left, at least."""
    before = answer.possible
    if not before.survival.any():
        return before  # none falls short of its promise: it has no domain more to lose
    now = alone(left)
    return Possible(unmet=np.maximum(before.unmet, now.unmet), survival=now.survival)


def _starts_saved(before: Instance, left: Instance) -> float:
    """Return what the bound from before counts for starting replicas that run by now."""
    running = np.maximum(0, left.columns.current - before.columns.current)
    return float((before.columns.move_price * running).sum())


def _without(draft: Draft, counts: Ints, lost: Ints) -> Draft:
    """Return a draft of its own with the lost pools closed and what is left of the counts kept."""
    instance, room = draft.instance, draft.room
    gone = np.concatenate(
        [instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]] for j in lost]
        or [np.zeros(0, np.int64)]
    )
    kept, limit = counts.copy(), instance.columns.limit.copy()
    kept[gone] = 0
    limit[gone] = 0
    capacity, memory = room.capacity.copy(), room.memory_capacity.copy()
    capacity[lost] = 0.0
    memory[lost] = 0.0
    less = replace(
        instance,
        pools=replace(instance.pools, capacity=capacity.copy(), memory=memory.copy()),
        columns=replace(instance.columns, limit=limit, current=kept),
    )
    market = draft.market
    state = Draft(
        instance=less,
        market=market._replace(
            limit=limit,
            kept=kept,
            bonus=np.full(len(kept), np.inf),
            runs=kept,
            accelerators=market.accelerators.copy(),
        ),
        wants=draft.wants._replace(demand=draft.wants.demand.copy(), keep=draft.wants.keep.copy()),
        room=room._replace(
            accelerators=capacity.copy(),
            memory=memory.copy(),
            capacity=capacity,
            memory_capacity=memory,
            moves=room.moves.copy(),
        ),
        counts=kept.copy(),
        tight=draft.tight.copy(),
    )
    recount(state)
    # Nodes are known to take what is kept, whatever the careful sums of tight pools say.
    capacity -= np.minimum(state.room.accelerators, 0.0)
    memory -= np.minimum(state.room.memory, 0.0)
    np.maximum(state.room.accelerators, 0.0, out=state.room.accelerators)
    np.maximum(state.room.memory, 0.0, out=state.room.memory)
    return state
