"""A repaired plan, told by what changed: everything else is taken over from the plan before.

`session` calls `retell` after `repair.repair`, and checks the touched part only.
"""

import math
from collections import defaultdict
from dataclasses import replace

import numpy as np

from scheduler.arrays import Arrays
from scheduler.check import Touched
from scheduler.compiled import Ints
from scheduler.instance import Instance
from scheduler.nodes import grow_pools
from scheduler.plan import PlacementPlan
from scheduler.repair import Repair
from scheduler.wide import levels_told, shed_told, unplaced_told
from skerry.fleet.placement import Envelope, Placement


def touched_by(arrays: Arrays, repaired: Repair) -> Touched:
    """Return the names of what a repair changed."""
    names = {arrays.deployments[d] for d in repaired.deployments.tolist()}
    for demanded in arrays.demands:
        if not names.isdisjoint(demanded.deployment.policy.anti_affinity):
            names.add(demanded.deployment.name)
    return Touched(
        deployments=frozenset(names),
        pools=frozenset(arrays.names[j] for j in repaired.pools.tolist()),
    )


def retell(arrays: Arrays, before: PlacementPlan, repaired: Repair) -> PlacementPlan:
    """Return the plan of a repair; `before` is the plan of the counts that it started from."""
    touched = touched_by(arrays, repaired)
    changed = frozenset(arrays.deployments[d] for d in repaired.deployments.tolist())
    placed = _placements(arrays, before, repaired, changed)
    answer = repaired.answer
    short = bool((answer.unmet > 0.0).any())
    levels = levels_told(arrays, answer)
    return replace(
        before,
        placements=placed,
        envelopes=_envelopes(arrays, before, repaired, changed),
        unplaced=unplaced_told(arrays, answer) if short else (),
        rejections=(),
        levels=levels,
        cost_per_hour=_bill(arrays, before, placed, touched),
        solver="repair",
        solver_reason="",
        optimal=False,
        shed=shed_told(arrays, answer) if short else (),
        prices=before.prices,
    )


def _placements(
    arrays: Arrays, before: PlacementPlan, repaired: Repair, changed: frozenset[str]
) -> tuple[Placement, ...]:
    """Return the placements in their order: those of who changed anew, the others as they are."""
    found = [p for p in before.placements if p.deployment not in changed]
    had = {(p.deployment, p.pool): p.count for p in before.placements if p.deployment in changed}
    bill = arrays.instance.bill
    for c in _columns_of(arrays.instance, repaired).tolist():
        count = int(repaired.answer.counts[c])
        name, pool = _names(arrays, c)
        kept = min(count, had.get((name, pool), 0))
        reason = f"replaces what is lost, ${bill[c]:.4g}/h a replica"
        if kept == count:
            reason = "kept where it runs"
        elif kept:
            reason = f"{kept} kept where they run, {count - kept} started: {reason}"
        found.append(Placement(deployment=name, pool=pool, count=count, reason=reason))
    return tuple(sorted(found, key=lambda p: (p.deployment, p.pool)))


def _columns_of(instance: Instance, repaired: Repair) -> Ints:
    """Return the columns that deployments that changed hold now."""
    columns: Ints = np.concatenate(
        [np.arange(instance.first[d], instance.first[d + 1]) for d in repaired.deployments]
        or [np.zeros(0, np.int64)]
    )
    held: Ints = columns[repaired.answer.counts[columns] > 0]
    return held


def _names(arrays: Arrays, column: int) -> tuple[str, str]:
    columns = arrays.instance.columns
    return arrays.deployments[int(columns.deployment[column])], arrays.names[
        int(columns.pool[column])
    ]


def _envelopes(
    arrays: Arrays, before: PlacementPlan, repaired: Repair, changed: frozenset[str]
) -> tuple[Envelope, ...]:
    """Return the envelopes: who changed has no room to grow until the next solve.

    Others give up what the replacements took of their ceilings' room, the lowest class first.
    """
    instance, counts = arrays.instance, repaired.answer.counts
    pools = {arrays.names[j] for j in repaired.pools.tolist()}
    extra = np.zeros(len(counts), np.int64)
    former = {(e.deployment, e.pool): e for e in before.envelopes if e.pool in pools}
    by_pool: dict[int, list[int]] = defaultdict(list)
    for j in repaired.pools.tolist():
        mine = instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
        for c in mine[counts[mine] > 0].tolist():
            by_pool[j].append(c)
            name, pool = _names(arrays, c)
            envelope = former.get((name, pool))
            if name not in changed and envelope is not None:
                extra[c] = envelope.ceiling - envelope.floor
    granted = _granted(arrays, by_pool, counts, extra)
    found = [e for e in before.envelopes if e.deployment not in changed and e.pool not in pools]
    rows = {c for members in by_pool.values() for c in members}
    rows.update(_columns_of(instance, repaired).tolist())
    for c in sorted(rows):
        name, pool = _names(arrays, c)
        count = int(counts[c])
        ceiling = count + int(granted[c])
        found.append(
            Envelope(deployment=name, pool=pool, floor=count, target=count, ceiling=ceiling)
        )
    return tuple(sorted(found, key=lambda e: (e.deployment, e.pool)))


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


def _bill(
    arrays: Arrays,
    before: PlacementPlan,
    placed: tuple[Placement, ...],
    touched: Touched,
) -> float:
    """Return the bill: the one before, less what the touched ones cost, and what they cost now."""
    pools = dict(zip(arrays.names, arrays.pools, strict=True))
    revisions = {
        name: demanded.deployment.revision
        for name, demanded in zip(arrays.deployments, arrays.demands, strict=True)
    }

    def cost(placements: tuple[Placement, ...]) -> float:
        total = []
        for p in placements:
            if p.deployment in touched.deployments:
                pool = pools[p.pool]
                shape = revisions[p.deployment].shape_on(pool.shape.accelerator)
                assert shape is not None, "a checked plan places only where a shape fits"
                price = pool.terms.price_per_accelerator_hour or 0.0
                total.append(price * shape.accelerators * p.count)
        return math.fsum(total)

    return before.cost_per_hour - cost(before.placements) + cost(placed)
