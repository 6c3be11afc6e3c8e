"""A better plan behind the first one: patterns recombined by a linear program, then local search.

`session.refine` asks where there are seconds to spare; effort is counted in steps, never in time.
"""

from dataclasses import dataclass, replace

import numpy as np

from scheduler.compiled import Ints
from scheduler.draft import Draft, overdrawing_ones, part_rivals, recount
from scheduler.homeless import HARD, pack, place_homeless, settle_softly
from scheduler.large import (
    REPLAN_GAIN_MIN,
    LargeAnswer,
    answer_of,
    is_worth,
    polish_at,
    rank_of,
)
from scheduler.patterns import recombine
from scheduler.prices import Prices
from scheduler.pricing import CAREFUL, QUICK
from scheduler.rounding import Tariff
from scheduler.ruin import search

SEED = 17
# Past so many columns the master's simplex takes longer than all else.
RECOMBINED_COLUMNS_MAX = 60_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Refinement:
    """How hard to try, in steps."""

    master_rounds: int = 5
    polishing: int = 6
    searches: int = 6
    steps: int = 2_000
    group: int = 4


def refine_large(answer: LargeAnswer, how: Refinement = Refinement()) -> LargeAnswer:
    """Return an answer as good in every level, and cheaper where one is found."""
    state = own_draft(answer)
    prices = answer.warm.prices
    if state.instance.size[2] <= RECOMBINED_COLUMNS_MAX:
        sharper = _recombine(state, prices, how)
        _search(state, sharper, how)
    else:
        before = state.counts.copy()
        polish_at(state, prices, how.polishing, QUICK, 0.5)
        pack(state, prices)
        _stand_unless_better(state, before)
    found, least = (rank_of(state.instance, c) for c in (state.counts, answer.counts))
    runs = bool(state.instance.columns.current.any())
    # Where something runs, a fleet does not move for what the next solve may take back.
    if not is_worth(found, least, REPLAN_GAIN_MIN if runs else 0.0):
        return answer
    return answer_of(state, prices, answer.possible)


def own_draft(answer: LargeAnswer) -> Draft:
    """Return a draft of its own with the counts of an answer, and moves at their real cost."""
    draft, columns = answer.draft, answer.draft.instance.columns
    state = Draft(
        instance=draft.instance,
        market=draft.market._replace(
            kept=columns.current,
            bonus=np.where(columns.current > 0, columns.move_price, 0.0),
            runs=columns.current,
            accelerators=draft.market.accelerators.copy(),
        ),
        wants=draft.wants._replace(demand=draft.wants.demand.copy(), keep=draft.wants.keep.copy()),
        room=draft.room._replace(
            accelerators=draft.room.accelerators.copy(),
            memory=draft.room.memory.copy(),
            moves=draft.room.moves.copy(),
        ),
        counts=answer.counts.copy(),
        tight=draft.tight.copy(),
    )
    recount(state)
    return state


def _recombine(state: Draft, prices: Prices, how: Refinement) -> Prices:
    """Let the master over patterns choose anew; what it finds stands where it is better.

    Returns the master's prices, which know of whole replicas what a relaxation does not.
    """
    before, room = state.counts.copy(), state.room
    full = room._replace(accelerators=room.capacity, memory=room.memory_capacity)
    found = recombine(state.market, state.wants, full, prices, [before], how.master_rounds)
    if found is None:
        return prices
    sharper = replace(prices, accelerator=found[1], memory=found[2])
    state.counts[:] = found[0]
    part_rivals(state)
    recount(state)
    settle_softly(state, sharper, overdrawing_ones(state), 0)
    place_homeless(state, sharper)
    polish_at(state, sharper, how.polishing, CAREFUL, 0.5)
    pack(state, sharper)
    _stand_unless_better(state, before)
    return sharper


def _search(state: Draft, prices: Prices, how: Refinement) -> None:
    """Ruin and recreate in groups around pools that have a price, in turns that must pack."""
    instance = state.instance
    hot = np.flatnonzero((prices.accelerator > 0.0) & (np.diff(instance.pool_first) > 0))
    for turn in range(how.searches if len(hot) else 0):
        before = state.counts.copy()
        tariff = Tariff(prices.accelerator, prices.memory, HARD, CAREFUL)
        search(
            SEED + turn,
            how.steps,
            (
                hot,
                (instance.pool_first, instance.by_pool),
                prices.accelerator,
                prices.memory,
                how.group,
            ),
            (state.market, state.wants, state.room, tariff),
            state.counts,
        )
        pack(state, prices)
        _stand_unless_better(state, before)


def _stand_unless_better(state: Draft, before: Ints) -> None:
    if rank_of(state.instance, state.counts) >= rank_of(state.instance, before):
        state.counts[:] = before
        recount(state)
