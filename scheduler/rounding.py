"""Whole replicas for all deployments: each in turn gives back what it holds and is placed again.

`large` and `repair` call `negotiate` (room may be overdrawn at a surcharge that rises from round to
round), `settle` (nothing is overdrawn) and `force` (what found no room pushes others aside).
"""

from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.pricing import QUICK, Care, place_one

DUST = 1e-9
# A pool overdrawn by a tenth doubles the surcharge.
STEEPNESS = 10.0
# Others asked to move for one deployment that found no room, and rounds of overdrawn pools.
ASKED_MAX = 400


class Market(NamedTuple):
    """Columns: who, where, what a replica takes, yields and costs; `bonus` is off for kept ones,
    `surcharge` is what overdrawing is measured in.

    `runs` counts what runs now. Rivals of column c are `rivals[rival_first[c]:rival_first[c + 1]]`:
    columns of its plane whose deployment shares no plane with its own."""

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
    bill: Floats
    runs: Ints
    rival_first: Ints
    rivals: Ints


class Wants(NamedTuple):
    """What each deployment must get; `demand` and `keep` already lowered to what is possible."""

    demand: Floats
    keep: Floats
    spot_max: Floats
    most: Floats
    cost_max: Floats
    domains_min: Ints
    priority: Ints


class PoolRoom(NamedTuple):
    """What pools have left, negative where overdrawn, and what they have in all.

    `moves` is one number: how many more healthy replicas may go elsewhere."""

    accelerators: Floats
    memory: Floats
    capacity: Floats
    memory_capacity: Floats
    moves: Floats


class Tariff(NamedTuple):
    """Prices per accelerator and byte, the surcharge on overdrawing (infinite: never), and how
    hard each deployment is looked at."""

    accelerator: Floats
    memory: Floats
    pressure: float
    care: Care = QUICK


@compiled
def take(market: Market, room: PoolRoom, begin: int, counts: Ints, sign: float) -> None:
    """Take (sign 1) or give back (sign -1) the room of one deployment's counts."""
    for i in range(len(counts)):
        if counts[i] != 0:
            c = begin + i
            room.accelerators[market.pool[c]] -= sign * counts[i] * market.accelerators[c]
            room.memory[market.pool[c]] -= sign * counts[i] * market.memory[c]


@compiled
def offers(
    market: Market, room: PoolRoom, tariff: Tariff, d: int, counts: Ints
) -> tuple[int, Ints, Floats, Ints]:
    """Return (number, column, price, room) of what deployment d may buy.

    A column is up to three offers: replicas kept, others that fit, and overdrawn ones.
    """
    begin, end = market.first[d], market.first[d + 1]
    n = end - begin
    column = np.empty(3 * n, np.int64)
    price = np.empty(3 * n)
    most = np.empty(3 * n, np.int64)
    size = 0
    for c in range(begin, end):
        j = market.pool[c]
        apart = False
        for at in range(market.rival_first[c], market.rival_first[c + 1]):
            if counts[market.rivals[at]] > 0:
                apart = True
        if apart:
            continue
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
    return size, column, price, most


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
    total, on_spot, highest = 0.0, 0.0, 0.0
    held = np.empty(len(counts), np.int64)
    size = 0
    for i in range(len(counts)):
        if counts[i] > 0:
            held[size] = i
            size += 1
            amount = counts[i] * market.throughput[begin + i]
            total += amount
            on_spot += amount * market.spot[begin + i]
    eps = 1e-8 * (1.0 + wants.demand[d])
    if total < wants.demand[d] - eps or on_spot > wants.spot_max[d] * total + eps:
        return False
    if wants.keep[d] <= 0.0:
        return True
    for x in range(size):
        load = 0.0
        for y in range(size):
            if market.domain[begin + held[x]] == market.domain[begin + held[y]]:
                load += counts[held[y]] * market.throughput[begin + held[y]]
        highest = max(highest, load)
    return bool(total - highest >= wants.keep[d] * wants.demand[d] - eps)


@compiled
def served_of(market: Market, wants: Wants, counts: Ints, served: Ints) -> None:
    """Fill 1 for each deployment whose counts meet what it wants, else 0."""
    for d in range(len(wants.demand)):
        mine = counts[market.first[d] : market.first[d + 1]]
        served[d] = 1 if meets(market, wants, d, mine) else 0


@compiled
def spare_of(market: Market, wants: Wants, counts: Ints, loose: Ints) -> None:
    """Fill 1 for each deployment that is short, or served as well with one replica less."""
    for d in range(len(wants.demand)):
        begin, end = market.first[d], market.first[d + 1]
        mine = counts[begin:end]
        loose[d] = 0 if meets(market, wants, d, mine) or wants.demand[d] <= 0.0 else 1
        for i in range(end - begin):
            if mine[i] > 0 and loose[d] == 0:
                mine[i] -= 1
                if meets(market, wants, d, mine) and wants.domains_min[d] < 2:
                    loose[d] = 1
                mine[i] += 1


@compiled
def moves_of(runs: Ints, counts: Ints) -> int:
    """Return how many healthy replicas stop while others of the deployment start."""
    started, stopped = 0, 0
    for i in range(len(counts)):
        started += max(0, counts[i] - runs[i])
        stopped += max(0, runs[i] - counts[i])
    return min(started, stopped)


@compiled
def afford(room: PoolRoom, runs: Ints, old: Ints, new: Ints) -> bool:
    """Take the moves from the budget that `new` makes beyond `old`; say whether there were any."""
    if room.moves[0] == np.inf:
        return True
    more = moves_of(runs, new) - moves_of(runs, old)
    if more > room.moves[0]:
        return False
    room.moves[0] -= more
    return True


@compiled
def value_of(
    market: Market, wants: Wants, d: int, mine: Ints, bought: tuple[Ints, Floats, Ints]
) -> float:
    """Return what counts would cost now; infinite where they don't fit or don't meet the want."""
    column, price, most = bought
    paid = 0.0
    rest = mine.copy()
    for e in range(len(column)):
        n = min(rest[column[e]], most[e])
        paid += n * price[e]
        rest[column[e]] -= n
    # An incomplete plan is cheap, and no reason to stay.
    return paid if rest.sum() == 0 and meets(market, wants, d, mine) else np.inf


@compiled
def within(
    market: Market, wants: Wants, d: int, bought: tuple[Ints, Floats, Ints], fresh: Ints
) -> bool:
    """Say whether what is bought keeps the bounds on replicas, dollars and spot."""
    column, _, most = bought
    begin = market.first[d]
    dollars, number, total, on_spot = 0.0, 0.0, 0.0, 0.0
    for e in range(len(column)):
        if fresh[e] > most[e]:
            return False
        c = begin + column[e]
        dollars += fresh[e] * market.bill[c]
        number += fresh[e]
        total += fresh[e] * market.throughput[c]
        on_spot += fresh[e] * market.throughput[c] * market.spot[c]
    if dollars > wants.cost_max[d] + DUST or number > wants.most[d]:
        return False
    return bool(on_spot <= wants.spot_max[d] * total + 1e-8 * (1.0 + wants.demand[d]))


@compiled
def buy(
    market: Market, wants: Wants, room: PoolRoom, tariff: Tariff, d: int, counts: Ints
) -> float:
    """Fill the cheapest counts for deployment d, whose own were given back; return their price.

    What `counts` say of d as they come stays where it is no dearer. Infinite where the want can't
    be served whole.
    """
    begin, end = market.first[d], market.first[d + 1]
    mine = counts[begin:end]
    size, column, price, most = offers(market, room, tariff, d, counts)
    column, price, most = column[:size], price[:size], most[:size]
    rate = np.empty(size)
    where = np.empty(size, np.int64)
    cheap = np.empty(size, np.int64)
    for e in range(size):
        c = begin + column[e]
        rate[e], where[e], cheap[e] = market.throughput[c], market.domain[c], market.spot[c]
    before = value_of(market, wants, d, mine, (column, price, most))
    fresh = np.zeros(size, np.int64)
    want = wants.demand[d], wants.keep[d], wants.spot_max[d], wants.most[d]
    if place_one(price, most, (rate, where, cheap), want, tariff.care, fresh) == np.inf:
        return np.inf
    bought = column, price, most
    plain = fresh.copy()
    if wants.domains_min[d] > 1 and not spread_out(
        market, begin, bought, fresh, wants.domains_min[d]
    ):
        fresh[:] = plain  # served where it can be; the spread is told as missing
    if not within(market, wants, d, bought, fresh):
        fresh[:] = plain
        if not within(market, wants, d, bought, fresh):
            return np.inf
    paid = float((fresh * price).sum())
    if paid < before - 1e-7 * (1.0 + paid):
        mine[:] = 0
        for e in range(size):
            mine[column[e]] += fresh[e]
    return paid


@compiled
def place_again(
    market: Market, wants: Wants, room: PoolRoom, tariff: Tariff, d: int, counts: Ints
) -> float:
    """Give back what d holds and buy again; return the price, infinite where nothing changed
    because the want can't be served whole or its moves would be too many."""
    begin, end = market.first[d], market.first[d + 1]
    mine = counts[begin:end]
    take(market, room, begin, mine, -1.0)
    old = mine.copy()
    paid = buy(market, wants, room, tariff, d, counts)
    if paid < np.inf and not afford(room, market.runs[begin:end], old, mine):
        mine[:] = old
        paid = np.inf
    take(market, room, begin, mine, 1.0)
    return paid


@compiled
def empty_out(market: Market, room: PoolRoom, d: int, counts: Ints) -> None:
    """Take all replicas of d out."""
    begin, end = market.first[d], market.first[d + 1]
    mine = counts[begin:end]
    take(market, room, begin, mine, -1.0)
    if room.moves[0] < np.inf:
        room.moves[0] += moves_of(market.runs[begin:end], mine)
    mine[:] = 0


@compiled
def negotiate(
    order: Ints, market: Market, wants: Wants, room: PoolRoom, tariff: Tariff, counts: Ints
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
        old = counts[begin:end].copy()
        if place_again(market, wants, room, tariff, d, counts) == np.inf:
            continue
        for i in range(end - begin):
            if counts[begin + i] != old[i]:
                changed += 1
                break
    return changed


@compiled
def overdrawn(market: Market, room: PoolRoom, begin: int, counts: Ints) -> int:
    """Return a pool this deployment uses that has less than nothing left, -1 when there is none."""
    for i in range(len(counts)):
        if counts[i] > 0:
            j = market.pool[begin + i]
            if room.accelerators[j] < -1e-6 or room.memory[j] < -1.0:
                return int(j)
    return -1


@compiled
def settle(
    order: Ints, market: Market, wants: Wants, room: PoolRoom, tariff: Tariff, counts: Ints
) -> int:
    """Take overdrawing deployments of `order` out and place them where there is room.

    Returns how many hold nothing now because there was none.
    """
    homeless = 0
    for at in range(len(order)):
        d = order[at]
        begin, end = market.first[d], market.first[d + 1]
        if begin == end or overdrawn(market, room, begin, counts[begin:end]) < 0:
            continue
        empty_out(market, room, d, counts)
        if place_again(market, wants, room, tariff, d, counts) == np.inf:
            homeless += 1
    return homeless


@compiled
def uses(market: Market, d: int, pool: int, counts: Ints) -> bool:
    """Say whether deployment d holds replicas on the pool."""
    for c in range(market.first[d], market.first[d + 1]):
        if market.pool[c] == pool and counts[c] > 0:
            return True
    return False


@compiled
def clear(
    d: int,
    pool: int,
    told: tuple[Market, Wants, PoolRoom, Tariff],
    counts: Ints,
    moved: Ints,
    number: int,
) -> int:
    """Ask others to leave an overdrawn pool, then shed who is of a lower class than d.

    Fills `moved` from `number` on with who left, and returns how many did in all.
    """
    market, wants, room, hard = told
    for shed in range(2):
        for back in range(len(wants.demand)):
            # The lowest class is asked first; ids order equals.
            e = len(wants.demand) - 1 - back
            if number >= len(moved) or wants.priority[e] < wants.priority[d] + shed or e == d:
                continue
            if not uses(market, e, pool, counts):
                continue
            begin, end = market.first[e], market.first[e + 1]
            before = counts[begin:end].copy()
            empty_out(market, room, e, counts)
            left = place_again(market, wants, room, hard, e, counts) < np.inf or shed == 1
            if not left:
                counts[begin:end] = before
                take(market, room, begin, before, 1.0)
                if room.moves[0] < np.inf:
                    room.moves[0] -= moves_of(market.runs[begin:end], before)
            else:
                moved[number] = e
                number += 1
            if room.accelerators[pool] >= -1e-6 and room.memory[pool] >= -1.0:
                return number
    return number


@compiled
def force(
    d: int,
    market: Market,
    wants: Wants,
    room: PoolRoom,
    tariffs: tuple[Tariff, Tariff],
    counts: Ints,
) -> bool:
    """Serve d by overdrawing, then move others of its pools until nothing is overdrawn.

    `tariffs` are (soft, hard). Who has no way out stays, unless of a lower class: that one is shed.
    Says whether it worked; otherwise everything is as it was.
    """
    soft, hard = tariffs
    begin, end = market.first[d], market.first[d + 1]
    if begin == end:
        return False
    before = counts.copy()
    room_before = room.accelerators.copy(), room.memory.copy(), room.moves.copy()
    empty_out(market, room, d, counts)
    worked = place_again(market, wants, room, soft, d, counts) < np.inf
    moved = np.empty(ASKED_MAX, np.int64)
    number = 0
    while worked:
        j = overdrawn(market, room, begin, counts[begin:end])
        if j < 0:
            return True
        asked = clear(d, j, (market, wants, room, hard), counts, moved, number)
        worked = asked > number
        number = asked
    counts[:] = before
    room.accelerators[:], room.memory[:] = room_before[0], room_before[1]
    room.moves[:] = room_before[2]
    return False
