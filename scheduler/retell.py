"""A repaired plan, told by what changed: everything else is taken over from the plan before.

`session` calls `retell` after `repair.repair`, and checks the touched part only.
"""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from typing import TypeVar

import numpy as np

from scheduler.arrays import Arrays
from scheduler.check import Touched
from scheduler.compiled import Ints
from scheduler.nodes import grow_pools
from scheduler.plan import PlacementPlan
from scheduler.problem import LOST
from scheduler.repair import Repair
from scheduler.wide import levels_told, shed_told, unplaced_told
from skerry.fleet.placement import Envelope, Placement

Item = TypeVar("Item", Placement, Envelope)


def touched_by(arrays: Arrays, repaired: Repair) -> Touched:
    """Return the names of what a repair changed."""
    return Touched(
        deployments=frozenset(arrays.deployments[d] for d in repaired.deployments.tolist()),
        pools=frozenset(arrays.names[j] for j in repaired.pools.tolist()),
    )


def retell(arrays: Arrays, before: PlacementPlan, repaired: Repair) -> PlacementPlan:
    """Return the plan of a repair; `before` is the plan of the counts that it started from."""
    changed = sorted(arrays.deployments[d] for d in repaired.deployments.tolist())
    spans = _spans(before.placements, changed)
    former = {(p.deployment, p.pool): p for at in spans for p in before.placements[at]}
    fresh = _fresh(arrays, repaired, former)
    answer = repaired.answer
    lost = {name for name, why in zip(arrays.names, arrays.closed, strict=True) if why == LOST}
    short = bool((answer.unmet > 0.0).any())
    return replace(
        before,
        placements=_patched(before.placements, spans, changed, fresh),
        envelopes=_envelopes(arrays, before, repaired, changed),
        unplaced=unplaced_told(arrays, answer) if short else (),
        rejections=(),
        levels=levels_told(arrays, answer),
        cost_per_hour=before.cost_per_hour + _dearer(arrays, former, fresh),
        solver="repair",
        solver_reason="",
        optimal=False,
        shed=shed_told(arrays, answer) if short else (),
        # As of the last solve, without pools that have nothing left to sell.
        prices=tuple(price for price in before.prices if price.pool not in lost),
    )


def _spans(items: Sequence[Item], names: Sequence[str]) -> list[slice]:
    """Return where the deployments of those names, sorted as the items are, have their items."""
    of = [item.deployment for item in items]
    found, begin = [], 0
    for name in names:
        begin = bisect_left(of, name, begin)
        end = bisect_right(of, name, begin)
        found.append(slice(begin, end))
        begin = end
    return found


def _patched(
    items: Sequence[Item], spans: Sequence[slice], names: Sequence[str], fresh: Sequence[Item]
) -> tuple[Item, ...]:
    """Return the items with those at the spans of the names replaced by the fresh ones."""
    by_name: dict[str, list[Item]] = {name: [] for name in names}
    for item in fresh:
        by_name[item.deployment].append(item)
    found: list[Item] = []
    begin = 0
    for span, name in zip(spans, names, strict=True):
        found += items[begin : span.start]
        found += sorted(by_name[name], key=lambda item: item.pool)
        begin = span.stop
    found += items[begin:]
    return tuple(found)


def _fresh(
    arrays: Arrays, repaired: Repair, former: Mapping[tuple[str, str], Placement]
) -> list[Placement]:
    """Return the placements of the deployments that changed, which had the former ones."""
    found = []
    bill, counts = arrays.instance.bill, repaired.answer.counts
    for c, name, pool in _columns_of(arrays, repaired):
        count, had = int(counts[c]), former.get((name, pool))
        if had is not None and had.count == count:
            found.append(had)
            continue
        kept = min(count, had.count if had else 0)
        reason = f"replaces what is lost, ${bill[c]:.4g}/h a replica"
        if kept == count:
            reason = "kept where it runs"
        elif kept:
            reason = f"{kept} kept where they run, {count - kept} started: {reason}"
        found.append(Placement(deployment=name, pool=pool, count=count, reason=reason))
    return found


def _columns_of(arrays: Arrays, repaired: Repair) -> Iterator[tuple[int, str, str]]:
    """Yield (column, deployment, pool) of what deployments that changed hold now."""
    first, counts = arrays.instance.first, repaired.answer.counts
    columns = arrays.instance.columns
    for d in repaired.deployments.tolist():
        held = np.flatnonzero(counts[first[d] : first[d + 1]]) + first[d]
        name = arrays.deployments[d]
        for c, j in zip(held.tolist(), columns.pool[held].tolist(), strict=True):
            yield c, name, arrays.names[j]


def _envelopes(
    arrays: Arrays, before: PlacementPlan, repaired: Repair, changed: Sequence[str]
) -> tuple[Envelope, ...]:
    """Return the envelopes: who changed has no room to grow until the next solve.

    Others give up what the replacements took of their ceilings' room, the lowest class first.
    """
    instance, counts = arrays.instance, repaired.answer.counts
    pools, names = {arrays.names[j] for j in repaired.pools.tolist()}, set(changed)
    extra = np.zeros(len(counts), np.int64)
    former = {
        (e.deployment, e.pool): e.ceiling - e.floor
        for e in before.envelopes
        if e.pool in pools and e.ceiling > e.floor and e.deployment not in names
    }
    by_pool: dict[int, list[int]] = {}
    column_of: dict[tuple[str, str], int] = {}
    roomy = {pool for _, pool in former}
    for j in repaired.pools.tolist():
        if arrays.names[j] not in roomy:
            continue
        mine = instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
        by_pool[j] = mine[counts[mine] > 0].tolist()
        for c in by_pool[j]:
            key = arrays.deployments[int(instance.columns.deployment[c])], arrays.names[j]
            if key in former:
                extra[c] = former[key]
                column_of[key] = c
    granted = _granted(arrays, by_pool, counts, extra) if by_pool else extra
    fresh = []
    for c, name, pool in _columns_of(arrays, repaired):
        count = int(counts[c])
        fresh.append(Envelope(deployment=name, pool=pool, floor=count, target=count, ceiling=count))
    spans = _spans(before.envelopes, changed)
    patched = _patched(before.envelopes, spans, changed, fresh)
    found = list(patched)
    for key, c in sorted(column_of.items()):
        if granted[c] < former[key]:
            at = _place_of(found, key)
            found[at] = replace(found[at], ceiling=found[at].floor + int(granted[c]))
    return tuple(found)


def _place_of(envelopes: Sequence[Envelope], key: tuple[str, str]) -> int:
    """Return where in the sorted envelopes that of a (deployment, pool) is."""
    return bisect_left(envelopes, key, key=lambda e: (e.deployment, e.pool))


def _granted(arrays: Arrays, by_pool: dict[int, list[int]], counts: Ints, extra: Ints) -> Ints:
    """Return how much of the extra still fits beside the counts of these pools."""
    instance = arrays.instance
    columns, priority = instance.columns, instance.deployments.priority
    pools = np.array(sorted(by_pool), np.int64)
    members = [
        sorted(by_pool[j], key=lambda c: (priority[columns.deployment[c]], c)) for j in pools
    ]
    fraction = arrays.problem.reserve_fraction
    for j, mine in zip(pools.tolist(), members, strict=True):
        size = arrays.pools[j].shape.accelerators
        left = size - math.ceil(size * fraction - 1e-9)
        left -= sum(int(columns.accelerators[c]) * int(counts[c]) for c in mine)
        for c in mine:  # the reserve is no room for ceilings
            extra[c] = max(0, min(int(extra[c]), left // int(columns.accelerators[c])))
            left -= int(extra[c]) * int(columns.accelerators[c])
    granted = np.zeros(len(counts), np.int64)
    start = np.cumsum([0, *(len(mine) for mine in members)]).astype(np.int64)
    flat = np.array([c for mine in members for c in mine], np.int64)
    grow_pools(
        (start, flat),
        (columns.accelerators, columns.load_memory),
        (
            instance.pools.nodes[pools],
            instance.pools.per_node[pools],
            instance.pools.node_memory[pools],
        ),
        counts,
        extra,
        granted,
    )
    return granted


def _dearer(
    arrays: Arrays, former: Mapping[tuple[str, str], Placement], fresh: Sequence[Placement]
) -> float:
    """Return how many dollars an hour the fresh placements cost more than the former ones."""
    more = {(p.deployment, p.pool): p.count for p in fresh}
    for key, placement in former.items():
        more[key] = more.get(key, 0) - placement.count
    pools = dict(zip(arrays.names, arrays.pools, strict=True))
    revisions = {d.deployment.name: d.deployment.revision for d in arrays.demands}
    total = []
    for (name, pool), count in more.items():
        if count:
            shape = revisions[name].shape_on(pools[pool].shape.accelerator)
            assert shape is not None, "a checked plan places only where a shape fits"
            price = pools[pool].terms.price_per_accelerator_hour or 0.0
            total.append(price * shape.accelerators * count)
    return math.fsum(total)
