"""Who found no room: others are asked to move, lower classes shed last; then all go onto nodes.

`large` calls `place_homeless` and `pack` on its drafts, cold, warm and after a loss.
"""

import numpy as np

from scheduler.compiled import Ints
from scheduler.draft import (
    Draft,
    bisect_part,
    class_sizes,
    homeless_ones,
    lower_wants,
    overdrawing_ones,
    recount,
    shed_by_class,
    tighten,
    unpacked_replicas,
)
from scheduler.prices import Prices
from scheduler.rounding import Tariff, empty_out, force, negotiate, settle

HARD = float("inf")
SEED = 7
# A kept replica counts this much of its price off where little is to move.
KEPT_SHARE = 0.9
PACKING_ROUNDS_MAX = 8
# One homeless deployment at a time overdraws gently; many settle it in rounds of rising surcharge.
FORCE_PRESSURE = 0.05
SETTLING_ROUNDS = 10
SETTLING_FIRST, SETTLING_LAST = 0.05, 3.0
# Tries in all, and tries in a row that served nobody more; up to so many are forced at once.
ATTEMPTS = 8
STUCK_MAX = 3
FORCED_MAX = 6
GENTLY_FORCED_MAX = 60


def place_homeless(state: Draft, prices: Prices, *, gently: bool = False) -> None:
    """Serve who found no room: by class, others moved aside, lower classes shed as the last way.

    Gently each homeless one pushes aside as few as it can, before all may settle it together.
    """
    forced_max, forced_times = (GENTLY_FORCED_MAX, 2) if gently else (FORCED_MAX, 1)
    market, wants, room, counts = state.market, state.wants, state.room, state.counts
    hard = Tariff(accelerator=prices.accelerator, memory=prices.memory, pressure=HARD)
    soft = hard._replace(pressure=FORCE_PRESSURE)
    homeless = homeless_ones(state)
    stuck, least = 0, class_sizes(state, homeless)
    for attempt in range(ATTEMPTS):
        if len(homeless):
            negotiate(homeless, market, wants, room, hard, counts)
            homeless = homeless_ones(state)
        if attempt == 0 and len(homeless):
            lower_wants(state, homeless)
            homeless = homeless_ones(state)
        if not len(homeless):
            return
        if len(homeless) > forced_max or attempt >= forced_times:
            renegotiate(state, prices, homeless, attempt, gently=gently)
        for d in homeless_ones(state):
            force(int(d), market, wants, room, (soft, hard), counts)
        homeless = homeless_ones(state)
        shed = class_sizes(state, homeless)
        stuck, least = (0, shed) if shed < least else (stuck + 1, least)
        if stuck >= STUCK_MAX:
            break
    for d in homeless_ones(state):
        _part_from_rivals(state, int(d))
        serve_in_part(state, int(d), hard)
    negotiate(homeless_ones(state), market, wants, room, hard, counts)


def _part_from_rivals(state: Draft, d: int) -> None:
    """Take out those of lower classes that may share no plane with d: they look for room after."""
    market, instance = state.market, state.instance
    columns = np.arange(market.first[d], market.first[d + 1])
    columns = columns[np.diff(market.rival_first)[columns] > 0]
    for c in columns.tolist():
        for e in market.rivals[market.rival_first[c] : market.rival_first[c + 1]].tolist():
            other = int(instance.columns.deployment[e])
            if state.counts[e] and state.wants.priority[other] > state.wants.priority[d]:
                empty_out(market, state.room, other, state.counts)


def renegotiate(
    state: Draft, prices: Prices, homeless: Ints, attempt: int, *, gently: bool
) -> None:
    """Let the homeless overdraw, then let all who use overdrawn pools settle it among themselves.

    What was there before comes back where that serves fewer, class by class; gently also where it
    serves as many, for then others moved in vain.
    """
    market, wants, room, counts = state.market, state.wants, state.room, state.counts
    before = counts.copy(), room.accelerators.copy(), room.memory.copy(), room.moves.copy()
    shortest = shed_by_class(state)
    hard = Tariff(accelerator=prices.accelerator, memory=prices.memory, pressure=HARD)
    settle_softly(state, prices, homeless, attempt)
    negotiate(homeless_ones(state), market, wants, room, hard, counts)
    shed = shed_by_class(state)
    if shed > shortest or (gently and shed == shortest):
        counts[:], room.accelerators[:], room.memory[:], room.moves[:] = before


def settle_softly(state: Draft, prices: Prices, who: Ints, attempt: int) -> None:
    """Place `who` softly, then let all who overdraw give way until nothing is overdrawn."""
    market, wants, room, counts = state.market, state.wants, state.room, state.counts
    chance = np.random.default_rng((SEED, attempt))
    hard = Tariff(accelerator=prices.accelerator, memory=prices.memory, pressure=HARD)
    for number in range(SETTLING_ROUNDS):
        rise = (SETTLING_LAST / SETTLING_FIRST) ** (number / (SETTLING_ROUNDS - 1))
        soft = hard._replace(pressure=SETTLING_FIRST * rise)
        negotiate(who, market, wants, room, soft, counts)
        who = chance.permutation(overdrawing_ones(state))
        if not len(who):
            return
    # The lowest class leaves overdrawn pools first, and looks for room last.
    settle(who[np.argsort(-wants.priority[who], kind="stable")], market, wants, room, hard, counts)


def serve_in_part(state: Draft, d: int, hard: Tariff) -> None:
    """Give a deployment that can't be served whole the most that fits, its promise last."""
    market, wants = state.market, state.wants
    begin, end = market.first[d], market.first[d + 1]
    if begin == end:
        return
    demand, keep = float(wants.demand[d]), float(wants.keep[d])
    mine = state.counts[begin:end]
    empty_out(market, state.room, d, state.counts)

    def fits(served: float, kept: float) -> bool:
        wants.demand[d], wants.keep[d] = demand * served, keep * kept
        empty_out(market, state.room, d, state.counts)
        negotiate(np.array([d]), market, wants, state.room, hard, state.counts)
        return bool(mine.any()) or demand * served <= 0.0

    part = 1.0 if fits(1.0, 0.0) else bisect_part(lambda part: fits(part, 0.0))
    kept = bisect_part(lambda kept: fits(part, kept))
    fits(part, kept)


def pack(state: Draft, prices: Prices, packed: Ints | None = None, *, gently: bool = False) -> None:
    """Bind all replicas to nodes; what finds none goes where there is room, pool after pool.

    `packed` are counts whose nodes are known to take them: pools that hold the same are left out.
    """
    instance, market, room = state.instance, state.market, state.room
    wanted = np.ones(instance.size[0], np.int64)
    if packed is not None:
        wanted[:] = 0
        wanted[market.pool[np.flatnonzero(state.counts != packed)]] = 1
    for _ in range(PACKING_ROUNDS_MAX):
        unpacked = unpacked_replicas(state, wanted)
        out = np.flatnonzero(unpacked)
        if not len(out):
            return
        before = state.counts.copy()
        state.counts[out] -= unpacked[out]
        failing = np.zeros(instance.size[0], np.int64)
        failing[market.pool[out]] = 1
        tighten(state, failing)
        # Sums that failed once are not trusted again: the pool takes nothing more.
        full = failing == 1
        room.accelerators[full] = np.minimum(room.accelerators[full], 0.0)
        kept = state.market
        state.market = kept._replace(kept=state.counts.copy(), bonus=KEPT_SHARE * kept.dollars)
        place_homeless(state, prices, gently=gently)
        state.market = kept
        wanted = np.zeros(instance.size[0], np.int64)
        wanted[market.pool[np.flatnonzero(state.counts != before)]] = 1
    state.counts -= unpacked_replicas(state, np.ones(instance.size[0], np.int64))
    trim_spot(state)
    recount(state)


def trim_spot(state: Draft) -> None:
    """Take off spot replicas that are above their share since others were dropped."""
    market, wants, counts = state.market, state.wants, state.counts
    amount = market.throughput * counts
    of, number = state.instance.columns.deployment, state.instance.size[1]
    total = np.bincount(of, amount, minlength=number)
    spot = np.bincount(of, amount * market.spot, minlength=number)
    for d in np.flatnonzero(spot > wants.spot_max * total * (1.0 + 1e-9)).tolist():
        mine = slice(int(market.first[d]), int(market.first[d + 1]))
        for c in (np.flatnonzero((market.spot[mine] == 1) & (counts[mine] > 0)) + mine.start)[::-1]:
            over = spot[d] - wants.spot_max[d] * total[d]
            each = market.throughput[c] * (1.0 - wants.spot_max[d])
            gone = min(int(counts[c]), int(np.ceil(over / each - 1e-9))) if over > 0.0 else 0
            counts[c] -= gone
            total[d] -= gone * market.throughput[c]
            spot[d] -= gone * market.throughput[c]
