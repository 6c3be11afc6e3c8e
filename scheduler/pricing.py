"""One deployment at given prices: whole replicas on its columns, under what the pools have left.

`rounding` calls `place_one` in their compiled loops. Greedy fills over a grid of domain loads and,
under a spot cap, over what spot costs; the best of them are finished by `exchange`.
"""

from typing import NamedTuple

import numpy as np

from scheduler.compiled import Floats, Ints, compiled
from scheduler.exchange import DUST, exchange

CAPS_MAX = 96


class Care(NamedTuple):
    """How hard one deployment is looked at: fills that are finished by exchanges, domain loads at
    which the spot price is searched, halvings of that search, columns tried two for two."""

    starts: int
    loads: int
    halvings: int
    pairs: int


# Excess over the exact optimum of 490 deployments at the prices of the 100 x 500 file, and time:
QUICK = Care(1, 1, 0, 0)  # 0.53 %, 12 ms
CAREFUL = Care(2, 3, 8, 0)  # 0.18 %, 33 ms
THOROUGH = Care(2, 3, 8, 8)  # 0.15 %, 50 ms


@compiled
def fill(
    offer: tuple[Ints, Floats, Ints],
    shape: tuple[Floats, Ints, Ints],
    need: tuple[float, float, float, float],
    best: Ints,
    work: tuple[Ints, Floats],
    least: float,
) -> float:
    """Fill in order under a cap per domain; leave the cheapest completion below `least` in `best`.

    `offer` is (order, price, room), `need` (load wanted, cap per domain, cap of spot, most
    replicas). Returns the price, `least` where no completion is cheaper.
    """
    order, price, room = offer
    throughput, domain, spot = shape
    wanted, cap, spot_cap, most = need
    counts, load = work
    counts[:] = 0
    load[:] = 0.0
    left, paid, on_spot, number = wanted, 0.0, 0.0, 0.0
    eps = DUST * (1.0 + wanted)
    for at in range(len(order)):
        i = order[at]
        if room[i] <= 0:
            continue
        t = throughput[i]
        f = domain[i]
        by_cap = (cap + eps - load[f]) / t
        if spot[i] == 1:
            by_cap = min(by_cap, (spot_cap + eps - on_spot) / t)
        n = int(min(float(room[i]), by_cap, (left + eps) / t, most - number))
        if n > 0:
            counts[i] = n
            load[f] += n * t
            left -= n * t
            paid += n * price[i]
            number += n
            on_spot += n * t * spot[i]
        if left <= eps:
            if paid < least - DUST:
                least = paid
                best[:] = counts
            break
        if paid >= least:
            break
        if (
            t >= left - eps
            and n < room[i]
            and number < most
            and load[f] + t <= cap + eps
            and (spot[i] == 0 or on_spot + t <= spot_cap + eps)
            and paid + price[i] < least - DUST
        ):
            least = paid + price[i]
            best[:] = counts
            best[i] += 1
    return least


@compiled
def caps_of(
    want: tuple[float, float, float, float],
    domains: int,
    offer: tuple[Ints, Floats, Ints],
    throughput: Floats,
    caps: Floats,
) -> int:
    """Fill the domain loads worth trying: the closed form's, and rounded to whole replicas."""
    demand, keep, _, _ = want
    order, _, room = offer
    count = 0
    seen = np.empty(4)
    kinds = 0
    for at in range(len(order)):
        t = throughput[order[at]]
        if room[order[at]] <= 0:
            continue
        known = False
        for k in range(kinds):
            if seen[k] == t:
                known = True
        if not known:
            seen[kinds] = t
            kinds += 1
            if kinds == 4:
                break
    least = int(np.ceil(1.0 / (1.0 - keep) - DUST)) if keep < 1.0 else domains
    for m in range(2, min(domains, least + 3) + 1):
        base = max(demand / m, keep * demand / (m - 1))
        if count < CAPS_MAX:
            caps[count] = base
            count += 1
        for k in range(kinds):
            if count < CAPS_MAX:
                caps[count] = np.ceil(base / seen[k] - DUST) * seen[k]
                count += 1
            if count < CAPS_MAX and m <= 4:
                caps[count] = (np.ceil(base / seen[k] - DUST) + 1.0) * seen[k]
                count += 1
    if count < CAPS_MAX and (1.0 - keep) * demand > 0.0:
        caps[count] = (1.0 - keep) * demand
        count += 1
    return count


@compiled
def spot_used(
    order: Ints,
    room: Ints,
    shape: tuple[Floats, Ints, Ints],
    need: tuple[float, float, float, float],
    load: Floats,
) -> float:
    """Return how much spot a fill in this order would use were there no cap on it."""
    throughput, domain, spot = shape
    wanted, cap, _, most = need
    load[:] = 0.0
    left, on_spot, number = wanted, 0.0, 0.0
    eps = DUST * (1.0 + wanted)
    for at in range(len(order)):
        i = order[at]
        if room[i] <= 0:
            continue
        t = throughput[i]
        by_cap = (cap + eps - load[domain[i]]) / t
        n = int(min(float(room[i]), by_cap, np.ceil((left - eps) / t), most - number))
        if n > 0:
            load[domain[i]] += n * t
            left -= n * t
            number += n
            on_spot += n * t * spot[i]
        if left <= eps:
            break
    return on_spot


@compiled
def insert(value: float, row: Ints, values: Floats, rows: Ints) -> None:
    """Put a row among the best, which are sorted by value; the worst falls out."""
    z = len(values) - 1
    if value >= values[z] - DUST:
        return
    while z > 0 and values[z - 1] > value:
        values[z] = values[z - 1]
        rows[z] = rows[z - 1]
        z -= 1
    values[z] = value
    rows[z] = row


@compiled
def need_of(
    want: tuple[float, float, float, float], cap: float
) -> tuple[float, float, float, float]:
    """Return what a fill needs when no domain may hold more than `cap`."""
    demand, keep, spot_max, most = want
    wanted = max(demand, keep * demand + cap) if keep > 0.0 else demand
    return wanted, cap, spot_max * wanted if spot_max < 1.0 else np.inf, most


@compiled
def balance_spot(
    offer: tuple[Ints, Floats, Floats, Ints],
    shape: tuple[Floats, Ints, Ints],
    need: tuple[float, float, float, float],
    halvings: int,
    best: tuple[Floats, Ints],
    work: tuple[Ints, Ints, Floats],
) -> None:
    """Search what spot must cost so that its cap is used, and keep the fills on both sides of it.

    By unit price alone the cheapest spot takes the room of a domain that what is not spot needs
    more: the cap on spot then stands where a price on it finds the right domains.
    """
    order, unit, price, room = offer
    spot = shape[2]
    trial, rest, load = work
    if spot_used(order, room, shape, need, load) <= need[2]:
        return
    cheapest, dearest = np.inf, 0.0
    for i in range(len(unit)):
        if room[i] > 0 and spot[i] == 1:
            cheapest = min(cheapest, unit[i])
        elif room[i] > 0:
            dearest = max(dearest, unit[i])
    if dearest <= cheapest:
        return
    low, high = 0.0, dearest - cheapest
    below, above = order, order
    for h in range(halvings):
        # Spot is scarce by a third of the span more often than by half of it.
        middle = 0.5 * (low + high) if h > 0 else 0.35 * high
        tried = np.argsort(unit + middle * spot)
        if spot_used(tried, room, shape, need, load) > need[2]:
            low, below = middle, tried
        else:
            high, above = middle, tried
    for side in range(2):
        way = below if side == 0 else above
        paid = fill((way, price, room), shape, need, trial, (rest, load), best[0][-1])
        insert(paid, trial, best[0], best[1])


@compiled
def sweep(
    offer: tuple[Ints, Floats, Floats, Ints],
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    domains: int,
    care: Care,
    best: tuple[Floats, Ints],
) -> None:
    """Fill under every domain load worth trying; keep the best fills."""
    order, _, price, room = offer
    demand, keep, spot_max, _ = want
    n = len(price)
    trial, rest, load = np.empty(n, np.int64), np.empty(n, np.int64), np.empty(domains)
    caps = np.empty(CAPS_MAX)
    caps[0] = np.inf
    number = 1
    if keep > 0.0:
        number = caps_of(want, domains, (order, price, room), shape[0], caps)
    chosen, paid_at = np.zeros((care.loads, 1), np.int64), np.full(care.loads, np.inf)
    which = np.empty(1, np.int64)
    for k in range(number):
        need = need_of(want, caps[k])
        known = max(best[0][-1], paid_at[-1])  # what is dearer is kept by nobody
        paid = fill((order, price, room), shape, need, trial, (rest, load), known)
        if paid == known:
            continue
        insert(paid, trial, best[0], best[1])
        which[0] = k
        insert(paid, which, paid_at, chosen)
    if care.halvings > 0 and 0.0 < spot_max < 1.0:
        for z in range(care.loads):
            if paid_at[z] < np.inf:
                need = need_of(want, caps[chosen[z, 0]])
                balance_spot(offer, shape, need, care.halvings, best, (trial, rest, load))
    if best[0][0] == np.inf and spot_max > 0.0 and keep > 0.0:
        # All of the promised part may be on spot, and the rest must then outweigh it.
        cap = max(demand, keep * demand * (1.0 / spot_max - 1.0))
        for widened in (1.0, 1.25):
            wanted = keep * demand + widened * cap
            need = wanted, widened * cap, spot_max * wanted + DUST, want[3]
            paid = fill((order, price, room), shape, need, trial, (rest, load), best[0][-1])
            insert(paid, trial, best[0], best[1])


@compiled
def place_one(
    price: Floats,
    room: Ints,
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    care: Care,
    counts: Ints,
) -> float:
    """Fill whole counts that serve the want at the least price; inf (and zeros) when none do.

    `shape` is (throughput, domain, spot), `want` (demand, keep, spot_max, replicas_max); `room`
    bounds each column's count.
    """
    n = len(price)
    counts[:] = 0
    if n == 0:
        return np.inf
    domains = 1 + shape[1].max()
    if want[1] > 0.0 and domains < 2:
        return np.inf
    unit = price / shape[0]
    order = np.argsort(unit)
    best = np.full(care.starts, np.inf), np.zeros((care.starts, n), np.int64)
    sweep((order, unit, price, room), shape, want, domains, care, best)
    least = np.inf
    for z in range(care.starts):
        if best[0][z] == np.inf:
            break
        tried = best[1][z]
        exchange(tried, (order, price, room), shape, want, care.pairs)
        paid = (tried * price).sum()
        if paid < least:
            least = paid
            counts[:] = tried
    return least
