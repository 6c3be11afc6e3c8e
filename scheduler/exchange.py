"""Local search on one deployment's replicas: up to two go, up to two others come, while it pays.

`pricing.place_one` finishes its fills with `exchange`, in its own compiled loop.
"""

import numpy as np

from scheduler.compiled import Floats, Ints, compiled

# Columns by unit price that exchanges may add, alone and as one of two, and steps per deployment.
ADDED_MAX = 48
EXCHANGES_MAX = 60
DUST = 1e-9
# A move touches four domains at most: the fifth highest load is then untouched.
HIGHEST = 5


@compiled
def sum_up(
    counts: Ints, shape: tuple[Floats, Ints, Ints], load: Floats, high: Floats, who: Ints
) -> tuple[float, float]:
    """Fill the load per domain and the highest of them; return (all load, spot load)."""
    throughput, domain, spot = shape
    load[:] = 0.0
    total, on_spot = 0.0, 0.0
    for i in range(len(counts)):
        if counts[i] > 0:
            amount = counts[i] * throughput[i]
            load[domain[i]] += amount
            total += amount
            on_spot += amount * spot[i]
    high[:] = 0.0
    who[:] = -1
    last = len(high) - 1
    for f in range(len(load)):
        value = load[f]
        if value > high[last]:
            k = last
            while k > 0 and high[k - 1] < value:
                high[k] = high[k - 1]
                who[k] = who[k - 1]
                k -= 1
            high[k] = value
            who[k] = f
    return total, on_spot


@compiled
def highest_after(
    shape: tuple[Floats, Ints, Ints],
    loads: tuple[Floats, Floats, Ints],
    move: tuple[int, int, int, int],
) -> float:
    """Return the highest domain load after a move: (gone, gone, come, come), -1 for none."""
    throughput, domain, _ = shape
    load, high, who = loads
    top = 0.0
    for k in range(len(who)):
        touched = False
        for m in range(4):
            if move[m] >= 0 and domain[move[m]] == who[k]:
                touched = True
        if not touched:
            top = high[k]
            break
    for m in range(4):
        if move[m] < 0:
            continue
        f = domain[move[m]]
        value = load[f]
        for k in range(4):
            if move[k] >= 0 and domain[move[k]] == f:
                value += throughput[move[k]] if k >= 2 else -throughput[move[k]]
        top = max(top, value)
    return top


@compiled
def holds(
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    sums: tuple[float, float],
    loads: tuple[Floats, Floats, Ints],
    move: tuple[int, int, int, int],
) -> bool:
    """Say whether demand, promise and spot cap are met after a move."""
    throughput, _, spot = shape
    demand, keep, spot_max, _ = want
    total, on_spot = sums
    for k in range(4):
        i = move[k]
        if i >= 0:
            amount = throughput[i] if k >= 2 else -throughput[i]
            total += amount
            on_spot += amount * spot[i]
    eps = DUST * (1.0 + demand)
    if total < demand - eps or on_spot > spot_max * total + eps:
        return False
    if keep <= 0.0:
        return True
    return total - highest_after(shape, loads, move) >= keep * demand - eps


@compiled
def best_addition(
    gone: tuple[int, int, float],
    gain: float,
    limits: tuple[int, int, float],
    offer: tuple[Ints, Floats, Ints, Ints],
    told: tuple[
        tuple[Floats, Ints, Ints],
        tuple[float, float, float, float],
        tuple[float, float],
        tuple[Floats, Floats, Ints],
    ],
) -> tuple[float, int, int]:
    """Return (gain, come, come) of the best nothing, one or two that replace `gone` replicas.

    `gone` is (column, column or -1, what they cost), `limits` (columns looked at alone, in pairs,
    the highest throughput), `offer` (order, price, counts, room), `told` all about the sums. A
    first column of -2 says that nothing gains more than `gain`.
    """
    a, b, back = gone
    alone, pairs, fastest = limits
    order, price, counts, room = offer
    shape, want, sums, loads = told
    if back > gain and holds(shape, want, sums, loads, (a, b, -1, -1)):
        return back, -1, -1
    throughput = shape[0]
    left = sums[0] - throughput[a] - (throughput[b] if b >= 0 else 0.0)
    need = want[0] - left - DUST * (1.0 + want[0])
    first, second = -2, -1
    for z in range(alone):
        c = order[z]
        if c in (a, b) or counts[c] >= room[c] or price[c] >= back - gain:
            continue
        if throughput[c] >= need and holds(shape, want, sums, loads, (a, b, c, -1)):
            gain, first, second = back - price[c], c, -1
        if throughput[c] + fastest < need:
            continue
        for w in range(z, pairs):
            e = order[w]
            if (
                price[c] + price[e] >= back - gain
                or throughput[c] + throughput[e] < need
                or e in (a, b)
                or (e == c and counts[c] + 2 > room[c])
                or counts[e] >= room[e]
            ):
                continue
            if holds(shape, want, sums, loads, (a, b, c, e)):
                gain, first, second = back - price[c] - price[e], c, e
    return gain, first, second


@compiled
def exchange(
    counts: Ints,
    offer: tuple[Ints, Floats, Ints],
    shape: tuple[Floats, Ints, Ints],
    want: tuple[float, float, float, float],
    pairs: int,
) -> None:
    """Improve counts step by step, each the best: one or two go, none or one come, or two for one.

    `offer` is (order by unit price, price, room). Two come for two as well among the first `pairs`
    of the order.
    """
    order, price, room = offer
    load = np.empty(1 + shape[1].max())
    high, who = np.zeros(HIGHEST), np.zeros(HIGHEST, np.int64)
    held = np.empty(len(counts), np.int64)
    alone = min(len(order), ADDED_MAX)
    both = min(len(order), pairs)
    fastest = shape[0].max()
    for _ in range(EXCHANGES_MAX):
        told = shape, want, sum_up(counts, shape, load, high, who), (load, high, who)
        size, number = 0, 0
        for i in range(len(counts)):
            if counts[i] > 0:
                held[size] = i
                size += 1
                number += counts[i]
        gain, best = DUST * 10.0, (-1, -1, -1, -1)
        for x in range(size):
            a = held[x]
            for y in range(-1, size):
                if y >= 0 and (y < x or (y == x and counts[a] < 2)):
                    continue
                b = held[y] if y >= 0 else -1
                gone = a, b, price[a] + (price[b] if b >= 0 else 0.0)
                in_pairs = both if b >= 0 else (alone if number < want[3] else 0)
                limits = alone, in_pairs, fastest
                found, c, e = best_addition(gone, gain, limits, (order, price, counts, room), told)
                if c > -2:
                    gain, best = found, (a, b, c, e)
        if best[0] < 0:
            return
        counts[best[0]] -= 1
        if best[1] >= 0:
            counts[best[1]] -= 1
        if best[2] >= 0:
            counts[best[2]] += 1
        if best[3] >= 0:
            counts[best[3]] += 1
