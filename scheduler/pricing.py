"""One deployment at given prices: whole replicas on its columns, under what the pools have left.

`rounding` calls `place_one` in their compiled loops. Greedy fills over a grid of domain
loads, finished by the cheapest last replica, then exchanges of up to three replicas.
"""

import numpy as np

from scheduler.compiled import Floats, Ints, compiled

# Columns by unit price that exchanges may add, and steps of exchange per deployment.
ADDED_MAX = 48
EXCHANGES_MAX = 60
CAPS_MAX = 96
DUST = 1e-9


@compiled
def loads_of(
    counts: Ints, throughput: Floats, domain: Ints, spot: Ints, load: Floats
) -> tuple[float, float]:
    """Fill the load per domain; return (all load, spot load) of one deployment's counts."""
    load[:] = 0.0
    total, on_spot = 0.0, 0.0
    for i in range(len(counts)):
        if counts[i] > 0:
            amount = counts[i] * throughput[i]
            load[domain[i]] += amount
            total += amount
            if spot[i] == 1:
                on_spot += amount
    return total, on_spot


@compiled
def top_three(load: Floats, high: Floats, who: Ints) -> None:
    """Fill the three highest loads and their domains."""
    high[:] = 0.0
    who[:] = -1
    for f in range(len(load)):
        value = load[f]
        if value > high[2]:
            k = 2
            while k > 0 and high[k - 1] < value:
                high[k] = high[k - 1]
                who[k] = who[k - 1]
                k -= 1
            high[k] = value
            who[k] = f


@compiled
def highest_after(
    load: Floats,
    high: Floats,
    who: Ints,
    fa: int,
    da: float,
    fb: int,
    db: float,
    fc: int,
    dc: float,
) -> float:
    """Return the highest domain load once three domains (may be alike) change by so much."""
    top = 0.0
    for k in range(3):
        if who[k] != fa and who[k] != fb and who[k] != fc:
            top = high[k]
            break
    if who[2] == fa or who[2] == fb or who[2] == fc:
        # All of the highest three may have changed: look again.
        changed = 0
        for k in range(3):
            if who[k] == fa or who[k] == fb or who[k] == fc:
                changed += 1
        if changed == 3:
            for f in range(len(load)):
                if f != fa and f != fb and f != fc and load[f] > top:
                    top = load[f]
    for f in (fa, fb, fc):
        value = load[f]
        if f == fa:
            value += da
        if f == fb:
            value += db
        if f == fc:
            value += dc
        top = max(top, value)
    return top


@compiled
def fill(
    order: Ints,
    price: Floats,
    room: Ints,
    shape: tuple[Floats, Ints, Ints],
    need: tuple[float, float, float, float, float],
    best: Ints,
    work: tuple[Ints, Floats],
    best_price: float,
) -> float:
    """Fill by unit price under a cap per domain; keep the cheapest completion in `best`.

    `need` is (load wanted, cap per domain, cap of spot, most replicas, most dollars as priced).
    Returns the cheapest price so far.
    """
    throughput, domain, spot = shape
    wanted, cap, spot_cap, most, _ = need
    counts, load = work
    counts[:] = 0
    load[:] = 0.0
    left, paid, on_spot, number = wanted, 0.0, 0.0, 0.0
    eps = DUST * (1.0 + wanted)
    finished = -1
    improved = False
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
            if spot[i] == 1:
                on_spot += n * t
        if left <= eps:
            if paid < best_price - DUST:
                best_price, improved = paid, True
                finished = -1
            break
        if paid >= best_price:
            break
        if (
            t >= left - eps
            and n < room[i]
            and number < most
            and load[f] + t <= cap + eps
            and (spot[i] == 0 or on_spot + t <= spot_cap + eps)
            and paid + price[i] < best_price - DUST
        ):
            best_price, improved, finished = paid + price[i], True, i
            best[:] = counts
            best[i] += 1
    if improved and finished < 0:
        best[:] = counts
    return best_price


@compiled
def caps_of(
    demand: float,
    keep: float,
    domains: int,
    order: Ints,
    room: Ints,
    throughput: Floats,
    caps: Floats,
) -> int:
    """Fill the domain loads worth trying: the closed form's, and rounded to whole replicas."""
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
def exchange(
    counts: Ints,
    order: Ints,
    price: Floats,
    room: Ints,
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    load: Floats,
) -> None:
    """Improve counts: remove one or two, add none or one; or add two, remove one."""
    throughput, domain, spot = shape
    demand, keep, spot_max, most = want
    high = np.zeros(3)
    who = np.zeros(3, np.int64)
    held = np.empty(len(counts), np.int64)
    eps = DUST * (1.0 + demand)
    number = 0
    for i in range(len(counts)):
        number += counts[i]
    for _ in range(EXCHANGES_MAX):
        total, on_spot = loads_of(counts, throughput, domain, spot, load)
        top_three(load, high, who)
        size = 0
        for i in range(len(counts)):
            if counts[i] > 0:
                held[size] = i
                size += 1
        gain, a_best, b_best, c_best, d_best = DUST * 10.0, -1, -1, -1, -1
        candidates = min(len(order), ADDED_MAX)
        for x in range(size):
            a = held[x]
            for y in range(-1, size):
                # Remove a, and b where y >= x.
                if y >= 0 and (y < x or (y == x and counts[a] < 2)):
                    continue
                b = held[y] if y >= 0 else -1
                back = price[a] + (price[b] if b >= 0 else 0.0)
                gone = throughput[a] + (throughput[b] if b >= 0 else 0.0)
                spot_gone = throughput[a] * spot[a]
                if b >= 0:
                    spot_gone += throughput[b] * spot[b]
                fb = domain[b] if b >= 0 else domain[a]
                db = -throughput[b] if b >= 0 else 0.0
                # Nothing added.
                left = total - gone
                if back > gain and left >= demand - eps:
                    top = highest_after(load, high, who, domain[a], -throughput[a], fb, db, fb, 0.0)
                    safe = keep <= 0.0 or left - top >= keep * demand - eps
                    if safe and on_spot - spot_gone <= spot_max * left + eps:
                        gain, a_best, b_best, c_best, d_best = back, a, b, -1, -1
                need_now = max(demand - left, 0.0)
                for z in range(candidates):
                    c = order[z]
                    if c in (a, b) or counts[c] >= room[c]:
                        continue
                    if price[c] < back - gain and throughput[c] >= need_now - eps:
                        now = left + throughput[c]
                        spot_now = on_spot - spot_gone + throughput[c] * spot[c]
                        if spot_now <= spot_max * now + eps:
                            ok = keep <= 0.0
                            if not ok:
                                top = highest_after(
                                    load,
                                    high,
                                    who,
                                    domain[a],
                                    -throughput[a],
                                    fb,
                                    db,
                                    domain[c],
                                    throughput[c],
                                )
                                ok = now - top >= keep * demand - eps
                            if ok:
                                gain = back - price[c]
                                a_best, b_best, c_best, d_best = a, b, c, -1
                    if b >= 0 or number >= most or price[c] >= back - gain:
                        continue
                    # Two added for one removed.
                    for w in range(z, candidates):
                        e = order[w]
                        if e == a or (e == c and counts[c] + 2 > room[c]) or counts[e] >= room[e]:
                            continue
                        if price[c] + price[e] >= back - gain:
                            continue
                        now = left + throughput[c] + throughput[e]
                        if now < demand - eps:
                            continue
                        spot_now = on_spot - spot_gone
                        spot_now += throughput[c] * spot[c] + throughput[e] * spot[e]
                        if spot_now > spot_max * now + eps:
                            continue
                        if keep > 0.0:
                            top = highest_after(
                                load,
                                high,
                                who,
                                domain[a],
                                -throughput[a],
                                domain[c],
                                throughput[c],
                                domain[e],
                                throughput[e],
                            )
                            if now - top < keep * demand - eps:
                                continue
                        gain = back - price[c] - price[e]
                        a_best, b_best, c_best, d_best = a, -1, c, e
        if a_best < 0:
            return
        counts[a_best] -= 1
        number -= 1
        if b_best >= 0:
            counts[b_best] -= 1
            number -= 1
        if c_best >= 0:
            counts[c_best] += 1
            number += 1
        if d_best >= 0:
            counts[d_best] += 1
            number += 1


@compiled
def place_one(
    price: Floats,
    room: Ints,
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    domains: int,
    counts: Ints,
) -> float:
    """Fill whole counts that serve the want at the least price; inf (and zeros) when none do.

    `want` is (demand, keep, spot_max, replicas_max); `room` bounds each column's count.
    """
    throughput = shape[0]
    demand, keep, spot_max, most = want
    n = len(price)
    counts[:] = 0
    if n == 0:
        return np.inf
    order = np.argsort(price / throughput)
    work = np.empty(n, np.int64), np.empty(domains)
    load = np.empty(domains)
    found = np.inf
    if keep <= 0.0 or domains < 2:
        if keep > 0.0:
            return np.inf
        need = demand, np.inf, spot_max * demand if spot_max < 1.0 else np.inf, most, np.inf
        found = fill(order, price, room, shape, need, counts, work, found)
    else:
        caps = np.empty(CAPS_MAX)
        for k in range(caps_of(demand, keep, domains, order, room, throughput, caps)):
            wanted = max(demand, keep * demand + caps[k])
            need = wanted, caps[k], spot_max * wanted if spot_max < 1.0 else np.inf, most, np.inf
            found = fill(order, price, room, shape, need, counts, work, found)
        if found == np.inf and spot_max > 0.0:
            # All of the promised part may be on spot, and the rest must then outweigh it.
            cap = max(demand, keep * demand * (1.0 / spot_max - 1.0))
            for widened in (1.0, 1.25):
                wanted = keep * demand + widened * cap
                need = wanted, widened * cap, spot_max * wanted + DUST, most, np.inf
                found = fill(order, price, room, shape, need, counts, work, found)
    if found == np.inf:
        return np.inf
    exchange(counts, order, price, room, shape, want, load)
    paid = 0.0
    for i in range(n):
        paid += counts[i] * price[i]
    return paid
