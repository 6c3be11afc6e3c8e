"""What stays where it is drained because no other place is found: a drain ends no service. Pure.

The scheduler counts what runs on a drained pool as gone, so it says what is left without a place;
so much of it stays, placed and granted, until there is room elsewhere or the drain is ended.
"""

from collections import Counter
from collections.abc import Callable, Collection, Iterable, Mapping
from dataclasses import dataclass, replace

from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan, Shed, Unplaced
from skerry.fleet.placement import Envelope, Placement, counts_of

Key = tuple[str, str]  # deployment, pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Kept:
    """Replicas that stay on a pool which is drained, all or in part, and why."""

    deployment: str
    pool: str
    replicas: int
    reason: str


def with_kept(
    plan: PlacementPlan, snapshot: Snapshot, drained: Collection[str]
) -> tuple[PlacementPlan, tuple[Kept, ...]]:
    """Return the plan with what finds no other place left where it was placed, and what that is."""
    kept = _kept(plan, snapshot, drained)
    return left_in_place(plan, kept, snapshot, _drained), kept


def left_in_place(
    plan: PlacementPlan,
    kept: tuple[Kept, ...],
    snapshot: Snapshot,
    tell: Callable[[Kept], str],
) -> PlacementPlan:
    """Return the plan with those replicas where they are, beside what it places there."""
    if not kept:
        return plan
    count = {(one.deployment, one.pool): one for one in kept}
    left = Counter[str]()
    for one in kept:
        left[one.deployment] += one.replicas
    return replace(
        plan,
        placements=_placements(plan.placements, count, tell),
        envelopes=_envelopes(plan.envelopes, count),
        unplaced=tuple(_reduced(plan.unplaced, left)),
        shed=tuple(_shed(plan.shed, count)),
        cost_per_hour=plan.cost_per_hour + _cost(kept, snapshot),
    )


def _kept(plan: PlacementPlan, snapshot: Snapshot, drained: Collection[str]) -> tuple[Kept, ...]:
    short = Counter[str]()
    why: dict[str, str] = {}
    for left in plan.unplaced if drained else ():
        short[left.deployment] += left.replicas
        why.setdefault(left.deployment, left.reason)
    planned = counts_of(plan.placements)
    found = []
    for placed in sorted(snapshot.placements, key=lambda p: (p.deployment, p.pool)):
        name, pool = placed.deployment, placed.pool
        surplus = placed.count - planned.get((name, pool), 0)
        replicas = min(short[name], surplus) if pool in drained else 0
        if replicas > 0:
            short[name] -= replicas
            found.append(Kept(deployment=name, pool=pool, replicas=replicas, reason=why[name]))
    return tuple(found)


def _drained(one: Kept) -> str:
    return f"{one.replicas} stay while it is drained, for want of another place: {one.reason}"


def _placements(
    placements: Iterable[Placement], kept: Mapping[Key, Kept], tell: Callable[[Kept], str]
) -> tuple[Placement, ...]:
    by_key = {(p.deployment, p.pool): p for p in placements}
    for key, one in kept.items():
        told = tell(one)
        held = by_key.get(key)
        by_key[key] = Placement(
            deployment=key[0],
            pool=key[1],
            count=one.replicas + (held.count if held else 0),
            reason=f"{held.reason}; {told}" if held and held.count else told,
        )
    return tuple(by_key[key] for key in sorted(by_key))


def _envelopes(envelopes: Iterable[Envelope], kept: Mapping[Key, Kept]) -> tuple[Envelope, ...]:
    by_key = {(e.deployment, e.pool): e for e in envelopes}
    for key, one in kept.items():
        none = Envelope(deployment=key[0], pool=key[1], floor=0, target=0, ceiling=0)
        held, more = by_key.get(key, none), one.replicas
        by_key[key] = replace(
            held, floor=held.floor + more, target=held.target + more, ceiling=held.ceiling + more
        )
    return tuple(by_key[key] for key in sorted(by_key))


def _reduced(unplaced: Iterable[Unplaced], left: Counter[str]) -> Iterable[Unplaced]:
    left = Counter(left)
    for one in unplaced:
        fewer = min(one.replicas, left[one.deployment])
        left[one.deployment] -= fewer
        if one.replicas > fewer:
            yield replace(one, replicas=one.replicas - fewer)


def _shed(shed: Iterable[Shed], kept: Mapping[Key, Kept]) -> Iterable[Shed]:
    for one in shed:
        stays = kept.get((one.deployment, one.pool))
        fewer = min(one.replicas, stays.replicas) if stays else 0
        if one.replicas > fewer:
            yield replace(one, replicas=one.replicas - fewer)


def _cost(kept: Iterable[Kept], snapshot: Snapshot) -> float:
    pools = {pool.name: pool for pool in snapshot.pools}
    deployments = {demand.deployment.name: demand.deployment for demand in snapshot.demands}
    total = 0.0
    for one in kept:
        pool = pools[one.pool]
        shape = deployments[one.deployment].revision.shape_on(pool.shape.accelerator)
        price = pool.terms.price_per_accelerator_hour or 0.0
        total += one.replicas * price * (shape.accelerators if shape else 1)
    return total
