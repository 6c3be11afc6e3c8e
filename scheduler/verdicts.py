"""Why each column of an array plan holds replicas: codes and the pools they speak of.

`wide` turns them into the sentences that `reasons` writes for small plans.
"""

import numpy as np

from scheduler.compiled import Ints, compiled
from scheduler.draft import Draft
from scheduler.instance import Instance

KEPT, CHEAPEST, ROOM, PROMISE, OTHERS = range(5)
NAMED_MAX = 3  # pools a sentence names


def fits_one_more(state: Draft, counts: Ints) -> Ints:
    """Return 1 for columns whose pool has room for one more replica, as far as sums can tell."""
    columns, room = state.instance.columns, state.room
    fits = (
        (counts < columns.limit)
        & (room.accelerators[columns.pool] >= state.market.accelerators - 1e-6)
        & (room.memory[columns.pool] >= state.market.memory - 1.0)
    )
    return fits.astype(np.int64)


def judge_columns(
    instance: Instance, counts: Ints, *, fits: Ints, is_open: Ints
) -> tuple[Ints, Ints, Ints]:
    """Return (held columns, code of each, cheaper pools: number and the first few by column)."""
    held = np.flatnonzero(counts).astype(np.int64)
    codes = np.zeros(len(held), np.int64)
    cheaper = np.zeros((len(held), 1 + NAMED_MAX), np.int64)
    columns = instance.columns
    compare_columns(
        held,
        (instance.first, columns.deployment, columns.pool, columns.current),
        columns.price / columns.throughput,
        (counts, fits, is_open, instance.domain + instance.spread_domain),
        codes,
        cheaper,
    )
    return held, codes, cheaper


@compiled
def compare_columns(
    held: Ints,
    ids: tuple[Ints, Ints, Ints, Ints],
    unit: np.ndarray[tuple[int], np.dtype[np.float64]],
    told: tuple[Ints, Ints, Ints, Ints],
    codes: Ints,
    cheaper: Ints,
) -> None:
    """Fill the codes: what is kept, cheapest, cheapest with room, or dearer for another reason.

    `ids` are (first, deployment, pool, current), `told` (counts, fits, open pools, domain).
    """
    first, deployment, pool, current = ids
    counts, fits, is_open, domain = told
    for k in range(len(held)):
        c = held[k]
        if counts[c] <= current[c]:
            codes[k] = KEPT
            continue
        d = deployment[c]
        number, full, domains = 0, 0, 0
        for e in range(first[d], first[d + 1]):
            domains = max(domains, domain[e])
            if is_open[pool[e]] == 0 or unit[e] >= unit[c]:
                continue
            if number < NAMED_MAX:
                cheaper[k, 1 + number] = pool[e]
            number += 1
            full += 1 - fits[e]
        cheaper[k, 0] = number
        if number == 0:
            codes[k] = CHEAPEST
        elif full == number:
            codes[k] = ROOM
        elif domains > 0:
            codes[k] = PROMISE
        else:
            codes[k] = OTHERS
