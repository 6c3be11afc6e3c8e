"""The pipeline for fleets the exact search cannot take: prices, whole replicas, nodes, certificate.

`wide` calls `solve_large`; pure, deterministic and without a clock. Levels are kept apart: what can
be served is fixed before its cost is lowered.
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
    loose_ones,
    lower_wants,
    overdrawing_ones,
    part_rivals,
    recount,
    tighten,
)
from scheduler.homeless import HARD, KEPT_SHARE, SEED, pack, place_homeless, trim_spot
from scheduler.instance import Instance
from scheduler.prices import Climb, Prices, ascend, no_prices, typical_prices
from scheduler.pricing import CAREFUL, QUICK, Care
from scheduler.relaxation import (
    Levels,
    Possible,
    alone,
    judge,
    levels_of_counts,
    served_and_short,
)
from scheduler.rounding import Tariff, negotiate, settle

# Surcharge on overdrawn pools, from round to round: gently enough that whoever has a way out of the
# same price takes it, and at last so dear that nothing stays overdrawn.
PRESSURE_FIRST, PRESSURE_LAST = 0.02, 1.0
# What a round moves a pool's price by, over its own price and its overdraft.
HISTORY, HISTORY_DOWN = 0.1, 0.3
# Looking harder at each deployment took the gap of the 100 x 500 file from 6.6 to 3.3 % before any
# master; at 700,000 columns it gained nothing (1.16 to 1.2 %) and cost 40 % more time.
CAREFUL_COLUMNS_MAX = 60_000
# Looks at a fresh plan as if it ran, where not everybody could be served.
SETTLING_MAX = 4
# Nothing that runs is moved for less of the whole cost than this: heuristics differ by as much from
# one run to the next, and a plan that was applied must be one that stays.
REPLAN_GAIN_MIN = 0.002


@dataclass(frozen=True, slots=True, kw_only=True)
class Effort:
    """How hard to try, in steps (never in seconds: the same input gives the same plan).

    At 700,000 columns 8 rounds take a second less than 12, for 0.03 % of gap.
    """

    ascent_steps: int = 250
    warm_steps: int = 30
    rounds: int = 12
    rounds_wide: int = 8
    polishing: int = 4
    warm_polishing: int = 2
    careful_columns_max: int = CAREFUL_COLUMNS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class WarmStart:
    """What the next call starts from, for arrays of the same pools and deployments.

    `tight` marks pools whose nodes a sum of accelerators and memory did not describe; `gap` is how
    far the plan's cost was above its bound, as a share.
    """

    prices: Prices
    tight: Ints
    gap: float


@dataclass(frozen=True, slots=True, kw_only=True)
class LargeAnswer:
    """Counts per column, levels with their bounds, and what the next call starts from.

    `unmet` and `short` are shares of each deployment's demand, `possible` the least of both.
    """

    counts: Ints
    unmet: Floats
    short: Floats
    possible: Possible
    levels: Levels
    bounds: Levels
    warm: WarmStart
    draft: Draft

    @property
    def gap(self) -> float:
        """Return how far the cost is above its bound, as a share."""
        return _gap(self.levels, self.bounds)


def _gap(levels: Levels, bounds: Levels) -> float:
    return levels.cost / bounds.cost - 1.0 if bounds.cost > 0.0 else 0.0


def solve_large(
    instance: Instance, *, warm: WarmStart | None = None, effort: Effort = Effort()
) -> LargeAnswer:
    """Return a plan that fits all nodes, with a bound per level; prices start from `warm`.

    Where something runs it stays unless a level gets better, or the cost by REPLAN_GAIN_MIN.
    """
    state = draft_of(instance)
    care = CAREFUL if instance.size[2] <= effort.careful_columns_max else QUICK
    possible = alone(instance)
    lower_wants(state, np.flatnonzero((possible.unmet > 0.0) | (possible.survival > 0.0)))
    climb = Climb(steps=effort.ascent_steps, reach=1.0, sigma=0.2, fall=7000.0)
    if warm is not None:
        climb = Climb(steps=effort.warm_steps, reach=0.005, sigma=0.0, fall=50.0)
    ascent = ascend(instance, _relaxed(state), warm.prices if warm else None, climb)
    prices = ascent.prices
    if instance.columns.current.any():
        if warm is not None:
            tighten(state, warm.tight)
        _resume(state, care)
        pack(state, prices)
        _place_more(state, prices)
        return _replan(state, answer_of(state, prices, possible), warm, effort, care)
    rounds = effort.rounds if care is CAREFUL else effort.rounds_wide
    _negotiate(state, prices, rounds, care)
    place_homeless(state, prices)
    polish(state, prices, effort.polishing, care)
    pack(state, prices)
    answer = answer_of(state, prices, possible)
    for _ in range(SETTLING_MAX):
        if answer.levels.unmet == answer.bounds.unmet:
            break  # nobody more can be served
        if not _served_further(state, prices, care):
            break
        answer = answer_of(state, prices, possible)
    return answer


def _place_more(state: Draft, prices: Prices) -> None:
    """Serve who is short, with all others kept as far as can be; stand where that serves nobody."""
    before, market = state.counts.copy(), state.market
    state.market = market._replace(kept=before, bonus=KEPT_SHARE * market.dollars)
    place_homeless(state, prices, gently=True)
    pack(state, prices)
    state.market = market._replace(accelerators=state.market.accelerators)
    if rank_of(state.instance, state.counts)[:-1] >= rank_of(state.instance, before)[:-1]:
        state.counts[:] = before
        recount(state)


def _served_further(state: Draft, prices: Prices, care: Care) -> bool:
    """Look at a plan again as if it ran: who is short may now find room; say whether one did.

    The next solve would do so, and a plan that was applied must be one that stays.
    """
    before, market = state.counts.copy(), state.market
    rank = rank_of(state.instance, before)
    state.market = market._replace(runs=before)
    _resume(state, care)
    pack(state, prices)
    _place_more(state, prices)
    state.market = market._replace(accelerators=state.market.accelerators)
    if rank_of(state.instance, state.counts)[:-1] < rank[:-1]:
        return True
    state.counts[:] = before
    recount(state)
    return False


def _replan(
    state: Draft, kept: LargeAnswer, warm: WarmStart | None, effort: Effort, care: Care
) -> LargeAnswer:
    """Return what runs, or a better plan where one is found that is worth its moves."""
    if warm is not None and kept.gap <= warm.gap + REPLAN_GAIN_MIN:
        # Compared with the last plan that was looked for, or small losses would add up unseen.
        return replace(kept, warm=replace(kept.warm, gap=min(kept.gap, warm.gap)))
    prices = kept.warm.prices
    before = state.counts.copy()
    rounds = effort.polishing if warm is None else effort.warm_polishing
    polish(state, prices, rounds, care)
    pack(state, prices)
    found, least = rank_of(state.instance, state.counts), rank_of(state.instance, before)
    if is_worth(found, least, REPLAN_GAIN_MIN):
        return answer_of(state, prices, kept.possible)
    state.counts[:] = before
    recount(state)
    return kept


def is_worth(found: tuple[float, ...], least: tuple[float, ...], gain_min: float) -> bool:
    """Say whether what was found is better in a level before cost, or cheaper by that share."""
    if found[:-1] != least[:-1]:
        return found[:-1] < least[:-1]
    return found[-1] < least[-1] * (1.0 - gain_min)


def rank_of(instance: Instance, counts: Ints) -> tuple[float, ...]:
    """Return the levels in their order, to compare two plans."""
    levels = levels_of_counts(instance, counts)
    exact = (*levels.unmet, levels.survival)
    return (*(round(value, 6) for value in exact), levels.cost)


def place_plainly(instance: Instance) -> LargeAnswer:
    """Return the fallback: what runs, then everybody in turn where it is cheapest, no prices."""
    state = draft_of(instance)
    possible = alone(instance)
    lower_wants(state, np.flatnonzero((possible.unmet > 0.0) | (possible.survival > 0.0)))
    none = no_prices(instance)
    _resume(state, QUICK)
    place_homeless(state, none)
    pack(state, none)
    return answer_of(state, none, possible)


def _relaxed(state: Draft) -> tuple[Floats, Floats, Floats]:
    return state.wants.demand, state.wants.keep, state.wants.spot_max


def _negotiate(state: Draft, prices: Prices, rounds: int, care: Care) -> None:
    """Place all at the ascent's prices, in rounds with a rising surcharge on overdrawing."""
    chance = np.random.default_rng(SEED)
    room = state.room
    typical = typical_prices(state.instance)
    price = [prices.accelerator.copy(), prices.memory.copy()]
    per_byte = (
        typical * state.instance.pools.per_node / np.maximum(state.instance.pools.node_memory, 1.0)
    )
    order = by_class(state)
    everywhere = np.ones(state.instance.size[0], np.int64)
    for number in range(rounds):
        if number == rounds * 2 // 3:
            tighten(state, failing_pools(state, everywhere))
        share = number / max(1, rounds - 1)
        pressure = PRESSURE_FIRST * (PRESSURE_LAST / PRESSURE_FIRST) ** share
        tariff = Tariff(accelerator=price[0], memory=price[1], pressure=pressure, care=care)
        turn = order if number == 0 else chance.permutation(order)
        changed = negotiate(turn, state.market, state.wants, room, tariff, state.counts)
        calm = not len(overdrawing_ones(state))
        if number > rounds * 2 // 3 and calm and changed < len(order) // 100:
            break
        _remember(price[0], room.accelerators, room.capacity, typical)
        _remember(price[1], room.memory, room.memory_capacity, per_byte)
    tariff = Tariff(accelerator=prices.accelerator, memory=prices.memory, pressure=HARD, care=care)
    settle(order, state.market, state.wants, room, tariff, state.counts)


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


def _resume(state: Draft, care: Care) -> None:
    """Keep what runs as far as it fits; place who falls short or has too much again, keeping most.

    A kept replica counts a tenth of its price here, so that topping up moves nothing.
    """
    market, room = state.market, state.room
    state.counts[:] = np.minimum(market.runs, market.limit)
    part_rivals(state)
    trim_spot(state)
    recount(state)
    _trust_what_packs(state)
    keeping = market._replace(kept=state.counts.copy(), bonus=KEPT_SHARE * market.dollars)
    none = np.zeros(len(room.capacity))
    tariff = Tariff(accelerator=none, memory=none, pressure=HARD, care=care)
    over = overdrawing_ones(state)
    order = over[np.argsort(-state.wants.priority[over], kind="stable")]
    settle(order, keeping, state.wants, room, tariff, state.counts)
    loose = loose_ones(state)
    order = loose[np.argsort(state.wants.priority[loose], kind="stable")]
    negotiate(order, keeping, state.wants, room, tariff, state.counts)


def polish(state: Draft, prices: Prices, rounds: int, care: Care) -> None:
    """Let each deployment move where it is cheaper in dollars, and at the pools' prices between."""
    # Where something runs each move must pay by itself, not by what it may make room for.
    running = bool(state.market.runs.any())
    polish_at(state, prices, rounds, care, 0.0 if running else 0.5)


def polish_at(state: Draft, prices: Prices, rounds: int, care: Care, share: float) -> None:
    """Polish in turns at a share of the pools' prices and at none; no turn at none is dearer."""
    chance = np.random.default_rng(SEED + 1)
    order = by_class(state)
    for number in range(rounds):
        weight = share if number % 2 == 0 else 0.0
        tariff = Tariff(
            accelerator=weight * prices.accelerator,
            memory=weight * prices.memory,
            pressure=HARD,
            care=care,
        )
        before = state.counts.copy()
        cost = dollars_now(state)
        turn = chance.permutation(order)
        changed = negotiate(turn, state.market, state.wants, state.room, tariff, state.counts)
        if dollars_now(state) > cost and weight == 0.0:
            state.counts[:] = before
            recount(state)
        if changed == 0 and weight == 0.0:
            break


def answer_of(state: Draft, prices: Prices, possible: Possible) -> LargeAnswer:
    """Return the answer of a draft: its levels, judged with these prices."""
    instance, counts = state.instance, state.counts.copy()
    unmet, short = served_and_short(instance, counts)
    levels, bounds, possible = judge(instance, counts, prices, possible)
    return LargeAnswer(
        counts=counts,
        unmet=unmet,
        short=short,
        possible=possible,
        levels=levels,
        bounds=bounds,
        warm=WarmStart(prices=prices, tight=state.tight.copy(), gap=_gap(levels, bounds)),
        draft=state,
    )
