"""Whole replicas for all deployments: each in turn gives back what it holds and is placed again.

`large` and `repair` call `negotiate` (room may be overdrawn at a surcharge that rises from round to
round), `settle` (nothing is overdrawn) and `force` (what found no room pushes others aside).
"""

from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.pricing import place_one

DUST = 1e-9
# A pool overdrawn by a tenth doubles the surcharge.
STEEPNESS = 10.0
# Others asked to move for one deployment that found no room, and rounds of overdrawn pools.
ASKED_MAX = 400


class Market(NamedTuple):
    """Columns: who, where, what a replica takes, yields and costs; `bonus` is off for kept ones,
    `surcharge` is what overdrawing is measured in."""

    first: Ints
    pool: Ints
    domain: Ints
    spread_domain: Ints
    spot: Ints
    accelerators: Floats
    memory: Floats
    throughput: Floats
    dollars: Floats
    limit: Ints
    kept: Ints
    bonus: Floats
    surcharge: Floats


class Wants(NamedTuple):
    """What each deployment must get; `demand` and `keep` already lowered to what is possible."""

    demand: Floats
    keep: Floats
    spot_max: Floats
    most: Floats
    cost_max: Floats
    domains_min: Ints
    priority: Ints


class Room(NamedTuple):
    """What pools have left, negative where overdrawn, and what they have in all."""

    accelerators: Floats
    memory: Floats
    capacity: Floats
    memory_capacity: Floats


class Tariff(NamedTuple):
    """Prices per accelerator and byte, and the surcharge on overdrawing (infinite: never)."""

    accelerator: Floats
    memory: Floats
    pressure: float


@compiled
def take(market: Market, room: Room, begin: int, counts: Ints, sign: float) -> None:
    """Take (sign 1) or give back (sign -1) the room of one deployment's counts."""
    for i in range(len(counts)):
        if counts[i] != 0:
            c = begin + i
            room.accelerators[market.pool[c]] -= sign * counts[i] * market.accelerators[c]
            room.memory[market.pool[c]] -= sign * counts[i] * market.memory[c]


@compiled
def offers(
    market: Market, room: Room, tariff: Tariff, begin: int, end: int
) -> tuple[int, Ints, Floats, Ints, int]:
    """Return (number, column, price, room, domains) of what one deployment may buy.

    A column is up to three offers: replicas kept, others that fit, and overdrawn ones.
    """
    n = end - begin
    column = np.empty(3 * n, np.int64)
    price = np.empty(3 * n)
    most = np.empty(3 * n, np.int64)
    size, domains = 0, 1
    for c in range(begin, end):
        j = market.pool[c]
        domains = max(domains, market.domain[c] + 1)
        base = market.dollars[c] + tariff.accelerator[j] * market.accelerators[c]
        base += tariff.memory[j] * market.memory[c]
        fit = room.accelerators[j] / market.accelerators[c]
        if market.memory[c] > 0.0:
            fit = min(fit, room.memory[j] / market.memory[c])
        inside = max(0, int(min(float(market.limit[c]), np.floor(fit + DUST))))
        kept = min(inside, market.kept[c]) if market.bonus[c] > 0.0 else 0
        if kept > 0:
            column[size], most[size] = c - begin, kept
            price[size] = max(base - market.bonus[c], 0.01 * base)
            size += 1
        if inside > kept:
            column[size], price[size], most[size] = c - begin, base, inside - kept
            size += 1
        if market.limit[c] > inside and tariff.pressure < np.inf:
            over = -room.accelerators[j] / max(room.capacity[j], 1.0)
            over = max(over, -room.memory[j] / max(room.memory_capacity[j], 1.0), 0.0)
            column[size], most[size] = c - begin, market.limit[c] - inside
            price[size] = base + tariff.pressure * market.surcharge[c] * (1.0 + STEEPNESS * over)
            size += 1
    return size, column, price, most, domains


@compiled
def spread_out(
    market: Market, begin: int, bought: tuple[Ints, Floats, Ints], fresh: Ints, wanted: int
) -> bool:
    """Add the cheapest replica of further domains until `wanted` hold one; say whether they do."""
    column, price, most = bought
    number = 0
    width = 1
    for e in range(len(column)):
        width = max(width, market.spread_domain[begin + column[e]] + 1)
    held = np.zeros(width, np.int64)
    for e in range(len(column)):
        f = market.spread_domain[begin + column[e]]
        if fresh[e] > 0 and held[f] == 0:
            held[f] = 1
            number += 1
    while number < wanted:
        best = -1
        for e in range(len(column)):
            f = market.spread_domain[begin + column[e]]
            if held[f] == 0 and most[e] > 0 and (best < 0 or price[e] < price[best]):
                best = e
        if best < 0:
            return False
        fresh[best] += 1
        held[market.spread_domain[begin + column[best]]] = 1
        number += 1
    return True


@compiled
def meets(market: Market, wants: Wants, d: int, counts: Ints) -> bool:
    """Say whether the counts of deployment d meet its demand, its survival and its spot cap."""
    begin = market.first[d]
    total, on_spot, width = 0.0, 0.0, 1
    for i in range(len(counts)):
        if counts[i] > 0:
            width = max(width, market.domain[begin + i] + 1)
    load = np.zeros(width)
    for i in range(len(counts)):
        if counts[i] > 0:
            amount = counts[i] * market.throughput[begin + i]
            total += amount
            load[market.domain[begin + i]] += amount
            on_spot += amount * market.spot[begin + i]
    eps = 1e-8 * (1.0 + wants.demand[d])
    left = total - load.max() if wants.keep[d] > 0.0 else total
    good = total >= wants.demand[d] - eps and left >= wants.keep[d] * wants.demand[d] - eps
    return bool(good and on_spot <= wants.spot_max[d] * total + eps)


@compiled
def served_of(market: Market, wants: Wants, counts: Ints, served: Ints) -> None:
    """Fill 1 for each deployment whose counts meet what it wants, else 0."""
    for d in range(len(wants.demand)):
        mine = counts[market.first[d] : market.first[d + 1]]
        served[d] = 1 if meets(market, wants, d, mine) else 0


@compiled
def buy(
    market: Market, wants: Wants, room: Room, tariff: Tariff, d: int, counts: Ints
) -> tuple[float, float]:
    """Fill the cheapest counts for deployment d, whose own were given back; return both prices.

    The first is infinite where the want can't be served whole, the second is what `counts` as they
    came would cost now.
    """
    begin, end = market.first[d], market.first[d + 1]
    size, column, price, most, domains = offers(market, room, tariff, begin, end)
    column, price, most = column[:size], price[:size], most[:size]
    rate = np.empty(size)
    where = np.empty(size, np.int64)
    cheap = np.empty(size, np.int64)
    for e in range(size):
        c = begin + column[e]
        rate[e], where[e], cheap[e] = market.throughput[c], market.domain[c], market.spot[c]
    before = 0.0
    rest = counts.copy()
    for e in range(size):
        n = min(rest[column[e]], most[e])
        before += n * price[e]
        rest[column[e]] -= n
    if rest.sum() > 0 or not meets(market, wants, d, counts):
        before = np.inf  # an incomplete plan is cheap, and no reason to stay
    fresh = np.zeros(size, np.int64)
    want = wants.demand[d], wants.keep[d], wants.spot_max[d], wants.most[d]
    paid = place_one(price, most, (rate, where, cheap), want, domains, fresh)
    if paid == np.inf:
        return paid, before
    if wants.domains_min[d] > 1:
        bought = column, price, most
        if not spread_out(market, begin, bought, fresh, wants.domains_min[d]):
            return np.inf, before
    dollars, number = 0.0, 0.0
    paid = 0.0
    for e in range(size):
        dollars += fresh[e] * market.dollars[begin + column[e]]
        number += fresh[e]
        paid += fresh[e] * price[e]
    if dollars > wants.cost_max[d] + DUST or number > wants.most[d]:
        return np.inf, before
    if paid < before - 1e-7 * (1.0 + paid):
        counts[:] = 0
        for e in range(size):
            counts[column[e]] += fresh[e]
    return paid, before


@compiled
def negotiate(
    order: Ints, market: Market, wants: Wants, room: Room, tariff: Tariff, counts: Ints
) -> int:
    """Place each of `order` again where it is cheapest for it now; return how many changed.

    What fits pays the pool's price; what does not pays `pressure` times its own price on top, more
    the further the pool is overdrawn: whoever has the best way out leaves. With infinite pressure
    nothing is overdrawn further, and who can't be served keeps what it has.
    """
    changed = 0
    for at in range(len(order)):
        d = order[at]
        begin, end = market.first[d], market.first[d + 1]
        if begin == end or wants.demand[d] <= 0.0:
            continue
        mine = counts[begin:end]
        take(market, room, begin, mine, -1.0)
        old = mine.copy()
        paid, _ = buy(market, wants, room, tariff, d, mine)
        if paid < np.inf:
            for i in range(end - begin):
                if mine[i] != old[i]:
                    changed += 1
                    break
        take(market, room, begin, mine, 1.0)
    return changed


@compiled
def overdrawn(market: Market, room: Room, begin: int, counts: Ints) -> int:
    """Return a pool this deployment uses that has less than nothing left, -1 when there is none."""
    for i in range(len(counts)):
        if counts[i] > 0:
            j = market.pool[begin + i]
            if room.accelerators[j] < -1e-6 or room.memory[j] < -1.0:
                return int(j)
    return -1


@compiled
def settle(
    order: Ints, market: Market, wants: Wants, room: Room, tariff: Tariff, counts: Ints
) -> int:
    """Take overdrawing deployments of `order` out and place them where there is room.

    Returns how many hold nothing now because there was none.
    """
    homeless = 0
    for at in range(len(order)):
        d = order[at]
        begin, end = market.first[d], market.first[d + 1]
        mine = counts[begin:end]
        if begin == end or overdrawn(market, room, begin, mine) < 0:
            continue
        take(market, room, begin, mine, -1.0)
        mine[:] = 0
        paid, _ = buy(market, wants, room, tariff, d, mine)
        if paid == np.inf:
            mine[:] = 0
            homeless += 1
        take(market, room, begin, mine, 1.0)
    return homeless


@compiled
def force(
    d: int, market: Market, wants: Wants, room: Room, tariffs: tuple[Tariff, Tariff], counts: Ints
) -> bool:
    """Serve d by overdrawing, then move others of its pools until nothing is overdrawn.

    `tariffs` are (soft, hard). Who has no way out stays, unless of a lower class: that one is shed.
    Says whether it worked; otherwise everything is as it was.
    """
    soft, hard = tariffs
    begin, end = market.first[d], market.first[d + 1]
    mine = counts[begin:end]
    if begin == end:
        return False
    before = mine.copy()
    take(market, room, begin, mine, -1.0)
    mine[:] = 0
    paid, _ = buy(market, wants, room, soft, d, mine)
    if paid == np.inf:
        mine[:] = before
        take(market, room, begin, mine, 1.0)
        return False
    take(market, room, begin, mine, 1.0)
    moved = np.empty(ASKED_MAX, np.int64)
    saved = [before]
    number = 0
    worked = True
    while True:
        j = overdrawn(market, room, begin, mine)
        if j < 0:
            break
        found = False
        for shed in range(2):
            for back in range(len(wants.demand)):
                # The lowest class is asked first; ids order equals.
                e = len(wants.demand) - 1 - back
                if e == d or number >= ASKED_MAX or wants.priority[e] < wants.priority[d]:
                    continue
                if shed == 1 and wants.priority[e] <= wants.priority[d]:
                    continue
                lo, hi = market.first[e], market.first[e + 1]
                uses = False
                for c in range(lo, hi):
                    if market.pool[c] == j and counts[c] > 0:
                        uses = True
                        break
                if not uses:
                    continue
                theirs = counts[lo:hi]
                copy = theirs.copy()
                take(market, room, lo, theirs, -1.0)
                theirs[:] = 0
                paid, _ = buy(market, wants, room, hard, e, theirs)
                if paid == np.inf:
                    if shed == 1:
                        theirs[:] = 0
                    else:
                        theirs[:] = copy
                take(market, room, lo, theirs, 1.0)
                if paid < np.inf or shed == 1:
                    moved[number] = e
                    saved.append(copy)
                    number += 1
                    found = True
                if room.accelerators[j] >= -1e-6 and room.memory[j] >= -1.0:
                    break
            if room.accelerators[j] >= -1e-6 and room.memory[j] >= -1.0:
                break
        if not found:
            worked = False
            break
    if not worked:
        for k in range(number - 1, -1, -1):
            lo, hi = market.first[moved[k]], market.first[moved[k] + 1]
            take(market, room, lo, counts[lo:hi], -1.0)
            counts[lo:hi] = saved[k + 1]
            take(market, room, lo, counts[lo:hi], 1.0)
        take(market, room, begin, mine, -1.0)
        mine[:] = before
        take(market, room, begin, mine, 1.0)
    return worked
