"""The pipeline for fleets the exact search cannot take: prices, whole replicas, nodes, certificate.

`solve` calls `solve_large`, the control loop's repair calls `repair`; both are pure, deterministic
and without a clock. Levels are kept apart: what can be served is fixed before its cost is lowered.
"""

from dataclasses import dataclass, replace

import numpy as np

from scheduler.compiled import Floats, Ints
from scheduler.draft import (
    Draft,
    by_class,
    dollars_now,
    draft_of,
    failing_pools,
    lower_wants,
    overdrawing_ones,
    recount,
    served_now,
    tighten,
)
from scheduler.homeless import HARD, KEPT_SHARE, SEED, pack, place_homeless, settle_softly
from scheduler.instance import Instance
from scheduler.patterns import recombine
from scheduler.prices import Ascent, Climb, Prices, ascend, typical_prices
from scheduler.relaxation import Levels, alone, at_most, judge, levels_of_counts, served_and_short
from scheduler.rounding import Tariff, negotiate, settle

# Surcharge on overdrawn pools, from round to round: gently enough that whoever has a way out of the
# same price takes it, and at last so dear that nothing stays overdrawn.
PRESSURE_FIRST, PRESSURE_LAST = 0.02, 1.0
# What a round moves a pool's price by, over its own price and its overdraft.
HISTORY, HISTORY_DOWN = 0.1, 0.3
RECORDED_MAX = 60_000  # columns up to which rounds are kept for the master


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try, in steps (never in seconds: the same input gives the same plan)."""

    ascent_steps: int = 250
    warm_steps: int = 30
    rounds: int = 12
    polishing: int = 4
    master_columns_max: int = RECORDED_MAX
    master_rounds: int = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What the next call starts from, for arrays of the same shape.

    `tight` marks pools whose nodes a sum of accelerators and memory did not describe, `taken` is
    what a replica then counts for.
    """

    prices: Prices
    counts: Ints
    tight: Ints
    taken: Floats
    bounds: Levels


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeAnswer:
    """Counts per column, what is unmet, levels with their bounds, and prices of scarce pools.

    `unmet` is a share of each deployment's demand; `pool_prices` in dollars per accelerator-hour.
    """

    counts: Ints
    unmet: Floats
    levels: Levels
    bounds: Levels
    pool_prices: Floats
    warm: WarmStart

    @property
    def gap(self) -> float:
        """Return how far the cost is above its bound, as a share."""
        return self.levels.cost / self.bounds.cost - 1.0 if self.bounds.cost > 0.0 else 0.0


def solve_large(
    instance: Instance, *, warm: WarmStart | None = None, effort: Effort = Effort()
) -> LargeAnswer:
    """Return a plan that fits all nodes, with a bound per level; from `warm` where it is given."""
    state = draft_of(instance)
    possible = alone(instance)
    lower_wants(state, np.flatnonzero((possible.unmet > 0.0) | (possible.survival > 0.0)))
    if warm is None:
        climb = Climb(steps=effort.ascent_steps, reach=1.0, sigma=0.2, fall=7000.0)
        ascent = ascend(instance, _relaxed(state), None, climb)
        seen = _negotiate(state, ascent, effort.rounds)
    else:
        climb = Climb(steps=effort.warm_steps, reach=0.005, sigma=0.0, fall=50.0)
        ascent = ascend(instance, _relaxed(state), warm.prices, climb)
        tighten(state, warm.tight)
        _resume(state, warm.counts)
        seen = []
    _finish(state, ascent.prices, effort)
    if warm is None and instance.size[2] <= effort.master_columns_max:
        _recombine(state, ascent.prices, effort, seen)
    levels, bounds = judge(instance, state.counts, ascent.prices, possible)
    return _answer(state, ascent.prices, levels, bounds)


def _finish(state: Draft, prices: Prices, effort: Effort) -> None:
    """Serve the homeless, lower the cost, bind to nodes; what ran stands unless it gets better."""
    place_homeless(state, prices)
    before = None
    if state.market.kept.any():
        pack(state, prices)
        before = state.counts.copy()
    _polish(state, prices, effort.polishing)
    pack(state, prices)
    if before is not None:
        _stand_unless_better(state, before)


def _stand_unless_better(state: Draft, before: Ints) -> None:
    if _rank(state.instance, state.counts) >= _rank(state.instance, before):
        state.counts[:] = before
        recount(state)


def _recombine(state: Draft, prices: Prices, effort: Effort, seen: list[Ints]) -> None:
    """Let the master over patterns choose anew; what it finds stands where it is better."""
    before = state.counts.copy()
    full = state.room._replace(accelerators=state.room.capacity, memory=state.room.memory_capacity)
    found = recombine(state.market, state.wants, full, [*seen, before], effort.master_rounds)
    if found is None:
        return
    state.counts[:] = found[0]
    recount(state)
    sharper = replace(prices, accelerator=found[1], memory=found[2])
    settle_softly(state, sharper, overdrawing_ones(state), 0)
    _finish(state, prices, effort)
    _stand_unless_better(state, before)


def _rank(instance: Instance, counts: Ints) -> tuple[float, ...]:
    """Return the levels in their order, to compare two plans."""
    levels = levels_of_counts(instance, counts)
    exact = (*levels.unmet, levels.survival)
    return (*(round(value, 6) for value in exact), levels.cost)


def repair(instance: Instance, warm: WarmStart, lost_pools: Ints) -> LargeAnswer:
    """Return a plan without the lost pools that moves nothing healthy it need not move.

    The bounds are those from before the loss: they hold, for less supply never costs less.
    """
    capacity = instance.pools.capacity.copy()
    memory = instance.pools.memory.copy()
    capacity[lost_pools] = 0.0
    memory[lost_pools] = 0.0
    limit = instance.columns.limit.copy()
    counts = warm.counts.copy()
    hit: list[Ints] = []
    for j in lost_pools:
        mine = instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
        hit.append(instance.columns.deployment[mine[counts[mine] > 0]])
        limit[mine] = 0
        counts[mine] = 0
    less = replace(
        instance,
        pools=replace(instance.pools, capacity=capacity, memory=memory),
        columns=replace(instance.columns, limit=limit),
    )
    state = draft_of(less)
    state.tight = warm.tight.copy()
    state.market = state.market._replace(
        accelerators=warm.taken.copy(), kept=counts, bonus=KEPT_SHARE * state.market.dollars
    )
    _resume(state, counts, only=np.unique(np.concatenate(hit or [np.zeros(0, np.int64)])))
    place_homeless(state, warm.prices)
    pack(state, warm.prices, packed=warm.counts)
    levels = levels_of_counts(less, state.counts)
    bounds = at_most(warm.bounds, levels)
    if (bounds.unmet, bounds.survival) != (levels.unmet, levels.survival):
        bounds = replace(bounds, cost=0.0)  # who serves less may cost less
    return _answer(state, warm.prices, levels, bounds)


def _relaxed(state: Draft) -> tuple[Floats, Floats, Floats]:
    return state.wants.demand, state.wants.keep, state.wants.spot_max


def _negotiate(state: Draft, ascent: Ascent, rounds: int) -> list[Ints]:
    """Place all at the ascent's prices, in rounds with a rising surcharge on overdrawing.

    Returns the counts after each round: what they overdraw, a master may recombine.
    """
    seen: list[Ints] = []
    chance = np.random.default_rng(SEED)
    market, room = state.market, state.room
    typical = typical_prices(state.instance)
    prices = [ascent.prices.accelerator.copy(), ascent.prices.memory.copy()]
    per_byte = (
        typical * state.instance.pools.per_node / np.maximum(state.instance.pools.node_memory, 1.0)
    )
    order = by_class(state)
    everywhere = np.ones(state.instance.size[0], np.int64)
    for number in range(rounds):
        if number == rounds * 2 // 3:
            tighten(state, failing_pools(state, everywhere))
            market = state.market
        share = number / max(1, rounds - 1)
        pressure = PRESSURE_FIRST * (PRESSURE_LAST / PRESSURE_FIRST) ** share
        tariff = Tariff(accelerator=prices[0], memory=prices[1], pressure=pressure)
        turn = order if number == 0 else chance.permutation(order)
        changed = negotiate(turn, market, state.wants, room, tariff, state.counts)
        if state.instance.size[2] <= RECORDED_MAX:
            seen.append(state.counts.copy())
        calm = not len(overdrawing_ones(state))
        if number > rounds * 2 // 3 and calm and changed < len(order) // 100:
            break
        _remember(prices[0], room.accelerators, room.capacity, typical)
        _remember(prices[1], room.memory, room.memory_capacity, per_byte)
    tariff = Tariff(
        accelerator=ascent.prices.accelerator, memory=ascent.prices.memory, pressure=HARD
    )
    settle(order, market, state.wants, room, tariff, state.counts)
    return seen


def _remember(price: Floats, left: Floats, capacity: Floats, typical: Floats) -> None:
    """Raise the prices of overdrawn pools, lower those of priced ones with room."""
    over = np.clip(-left / np.maximum(capacity, 1.0), -0.3, 0.3)
    over = np.where(over > 0.0, over, HISTORY_DOWN * over * (price > 0.0))
    price += HISTORY * typical * over
    np.maximum(price, 0.0, out=price)


def _trust_what_packs(state: Draft) -> None:
    """Call tight pools full, not overdrawn, where their nodes take what the sum forbids."""
    room = state.room
    doubtful = (state.tight == 1) & (room.accelerators < 0.0)
    if doubtful.any():
        packing = doubtful & (failing_pools(state, doubtful.astype(np.int64)) == 0)
        room.accelerators[packing] = 0.0


def _resume(state: Draft, counts: Ints, only: Ints | None = None) -> None:
    """Take over counts as far as they fit; place again, keeping what it holds, who falls short."""
    market, room = state.market, state.room
    held = np.minimum(counts, market.limit)
    state.counts[:] = held
    recount(state)
    _trust_what_packs(state)
    keeping = market
    if only is None:
        keeping = market._replace(kept=held.copy(), bonus=KEPT_SHARE * market.dollars)
    none = np.zeros(len(room.capacity))
    tariff = Tariff(accelerator=none, memory=none, pressure=HARD)
    over = overdrawing_ones(state)
    order = over[np.argsort(-state.wants.priority[over], kind="stable")]
    settle(order, keeping, state.wants, room, tariff, state.counts)
    short = np.flatnonzero(served_now(state) == 0) if only is None else only
    order = short[np.argsort(state.wants.priority[short], kind="stable")]
    negotiate(order, keeping, state.wants, room, tariff, state.counts)


def _polish(state: Draft, prices: Prices, rounds: int) -> None:
    """Let each deployment move where it is cheaper in dollars, and at the pools' prices between."""
    chance = np.random.default_rng(SEED + 1)
    order = by_class(state)
    # Where something runs each move must pay by itself, not by what it may make room for.
    running = bool(state.market.kept.any())
    for number in range(rounds):
        weight = 0.5 if number % 2 == 0 and not running else 0.0
        tariff = Tariff(
            accelerator=weight * prices.accelerator, memory=weight * prices.memory, pressure=HARD
        )
        before = state.counts.copy(), state.room.accelerators.copy(), state.room.memory.copy()
        cost = dollars_now(state)
        turn = chance.permutation(order)
        changed = negotiate(turn, state.market, state.wants, state.room, tariff, state.counts)
        if dollars_now(state) > cost and weight == 0.0:
            state.counts[:], state.room.accelerators[:], state.room.memory[:] = before
        if changed == 0 and weight == 0.0:
            break


def _answer(state: Draft, prices: Prices, levels: Levels, bounds: Levels) -> LargeAnswer:
    unmet, _ = served_and_short(state.instance, state.counts)
    return LargeAnswer(
        counts=state.counts,
        unmet=unmet,
        levels=levels,
        bounds=bounds,
        pool_prices=prices.accelerator,
        warm=WarmStart(
            prices=prices,
            counts=state.counts.copy(),
            tight=state.tight,
            taken=state.market.accelerators,
            bounds=bounds,
        ),
    )
