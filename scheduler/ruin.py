"""Ruin and recreate: a few deployments that share pools are taken out and placed in another order.

`refine` calls `search`; every step ends with counts that fit, and none dearer than before.
"""

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.rounding import Market, PoolRoom, Tariff, Wants, moves_of, place_again, take

# Draws for one group before it is left smaller, and how dear pools may be against their price.
DRAWS_PER_MEMBER = 8
PRICE_SHARE_MAX = 1.2
HOP = 0.5  # chance to go on to another pool of the last member


@compiled
def dollars_of(market: Market, d: int, counts: Ints) -> float:
    """Return what deployment d pays an hour, starts included."""
    paid = 0.0
    for c in range(market.first[d], market.first[d + 1]):
        if counts[c] > 0:
            paid += market.dollars[c] * counts[c]
            paid -= market.bonus[c] * min(counts[c], market.kept[c])
    return paid


@compiled
def draw_group(
    hot: Ints, by_pool: tuple[Ints, Ints], market: Market, counts: Ints, members: Ints
) -> int:
    """Fill `members` with deployments on pools near one another; return how many they are."""
    start, column = by_pool
    pool = hot[np.random.randint(len(hot))]
    number = 0
    for _ in range(DRAWS_PER_MEMBER * len(members)):
        low, high = start[pool], start[pool + 1]
        c = column[low + np.random.randint(high - low)]
        if counts[c] == 0:
            continue
        d = np.searchsorted(market.first, c, side="right") - 1
        known = False
        for k in range(number):
            if members[k] == d:
                known = True
        if known:
            continue
        members[number] = d
        number += 1
        if number == len(members):
            break
        if np.random.random() < HOP:
            begin, end = market.first[d], market.first[d + 1]
            pool = market.pool[begin + np.random.randint(end - begin)]
    return number


@compiled
def put_back(market: Market, room: PoolRoom, d: int, counts: Ints, saved: Ints) -> None:
    """Make the counts of d what they were."""
    begin, end = market.first[d], market.first[d + 1]
    mine = counts[begin:end]
    take(market, room, begin, mine, -1.0)
    if room.moves[0] < np.inf:
        room.moves[0] += moves_of(market.runs[begin:end], mine)
        room.moves[0] -= moves_of(market.runs[begin:end], saved)
    mine[:] = saved
    take(market, room, begin, mine, 1.0)


@compiled
def recreate(
    members: Ints, market: Market, wants: Wants, room: PoolRoom, tariff: Tariff, counts: Ints
) -> bool:
    """Take the members out and place them in a random order; say whether all became cheaper.

    Otherwise everything is as it was.
    """
    number = len(members)
    before = 0.0
    most = 0
    for k in range(number):
        before += dollars_of(market, members[k], counts)
        most = max(most, market.first[members[k] + 1] - market.first[members[k]])
    saved = np.zeros((number, most), np.int64)
    for k in range(number):
        begin, end = market.first[members[k]], market.first[members[k] + 1]
        saved[k, : end - begin] = counts[begin:end]
        put_back(market, room, members[k], counts, np.zeros(end - begin, np.int64))
    after = 0.0
    better = True
    for k in np.random.permutation(number):
        if place_again(market, wants, room, tariff, members[k], counts) == np.inf:
            better = False
            break
        after += dollars_of(market, members[k], counts)
        if after >= before - 1e-9:
            better = False
            break
    if better:
        return True
    for k in range(number):
        begin, end = market.first[members[k]], market.first[members[k] + 1]
        put_back(market, room, members[k], counts, saved[k, : end - begin])
    return False


@compiled
def search(
    seed: int,
    steps: int,
    told: tuple[Ints, tuple[Ints, Ints], Floats, Floats, int],
    parts: tuple[Market, Wants, PoolRoom, Tariff],
    counts: Ints,
) -> int:
    """Try so many groups; return how many became cheaper.

    `told` is (pools with a price, (start, column) by pool, prices per accelerator and byte, size of
    a group).
    """
    hot, by_pool, accelerator, memory, size = told
    market, wants, room, tariff = parts
    np.random.seed(seed)
    members = np.empty(size, np.int64)
    found = 0
    for _ in range(steps):
        number = draw_group(hot, by_pool, market, counts, members)
        if number < 2:
            continue
        share = np.random.random() * PRICE_SHARE_MAX
        priced = Tariff(accelerator * share, memory * share, tariff.pressure, tariff.care)
        if recreate(members[:number], market, wants, room, priced, counts):
            found += 1
    return found
