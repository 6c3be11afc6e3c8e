"""Placements -> the envelopes each plane is granted, two-phase: new READY before old goes. Pure.

Grown envelopes are granted as far as the pool's accelerators are free of what others still hold;
a shrunken one is granted only when the deployment's replicas are READY elsewhere.
"""

from collections import Counter, defaultdict
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from typing import NamedTuple

from control_plane.reconcile.failover import is_held
from control_plane.reconcile.holding import Holding
from control_plane.reconcile.leftovers import strays
from control_plane.reconcile.shares import Shares, shares_of
from control_plane.reconcile.snapshot import Snapshot, ready
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import SEPARATOR
from skerry.fleet.observation import PlaneCondition, PlaneState, ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool, resides

Key = tuple[str, str]  # deployment, pool


def granted_now(snapshot: Snapshot) -> dict[Key, Envelope]:
    """Return the envelopes that planes were last granted, by deployment and pool."""
    return {
        (envelope.deployment, envelope.pool): envelope
        for state in snapshot.desired
        for assignment in state.assignments
        for envelope in assignment.envelopes
    }


def grant_envelopes(
    snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]
) -> dict[Key, Envelope]:
    """Return the envelope of every deployment on every pool that has or had one.

    A plane that is not heard keeps what it was granted, whole: its share stays reserved until it
    is lost. What a lost plane was granted is left out; it is told anew when it is back.
    """
    held = granted_now(snapshot)
    wanted = {(e.deployment, e.pool): e for e in snapshot.envelopes}
    shares = shares_of(snapshot)
    allowed = shares.bounded(wanted, held)
    planes = {pool.name: pool.plane.name for pool in snapshot.pools}
    deployments = {demand.deployment.name: demand.deployment for demand in snapshot.demands}
    deleting = {demand.deployment.name for demand in snapshot.demands if demand.deleting}
    holding = Holding(
        snapshot=snapshot, shares=shares, deployments=deployments, wanted=wanted, held=held
    )
    left = strays(snapshot, held.keys() | wanted.keys())

    of_deployment: dict[str, dict[Key, Envelope]] = {}
    for key, envelope in wanted.items():
        of_deployment.setdefault(key[0], {})[key] = envelope

    terms = _Terms(planes, held, shares)

    @cache  # one look for a deployment, not one for each of thousands of planes that it leaves
    def is_replaced(name: str) -> bool:
        own = of_deployment.get(name, {})
        return _is_replaced(snapshot, deployments[name], own, conditions, terms)

    granted: dict[Key, Envelope] = {}
    waiting: dict[Key, int] = {}  # what is to go once it is replaced, and how much is to stay
    for key in sorted(held.keys() | wanted.keys() | left.keys()):
        deployment, pool = key
        condition = conditions.get(planes.get(pool, ""))
        if deployment not in deployments or condition is None or _is_lost(condition):
            continue
        new = allowed.get(key) or _nothing(key)
        old = held.get(key)
        if key in left:
            # The plane fell back to older words, or its own are not known: it takes none that do
            # not name what runs there, not even those by which the replacement starts.
            if not _is_heard(condition):
                continue
            stays = left[key]
            if deployment in deleting:
                stays = 0
            elif is_replaced(deployment):
                stays = holding.stays(key, stays, 0)
            granted[key] = _with_more(_nothing(key), stays)
        elif not _is_heard(condition):
            granted[key] = old or _nothing(key)
        elif deployment in deleting:
            granted[key] = new
        elif old is None or new.target >= old.target:
            granted[key] = _nothing(key) if new.ceiling and holding.must_wait(key) else new
        elif is_replaced(deployment):
            granted[key] = _with_more(new, holding.stays(key, old.target, new.target))
        else:  # its replicas stay for now; the room above them is given back at once
            room = min(_room_above(old), _room_above(new))
            granted[key] = replace(old, ceiling=old.target + room)
            waiting[key] = new.target
    bounded = _within_maximum(snapshot, conditions, granted, held, deployments)
    fitted = _fitting(holding, left)
    if waiting:
        holding.give_way(bounded, waiting, _proven(snapshot, conditions, terms), fitted)
    return fitted(bounded)


def _fitting(
    holding: Holding, left: Mapping[Key, int]
) -> Callable[[Mapping[Key, Envelope]], dict[Key, Envelope]]:
    """Return what makes envelopes fit their pools, beside what is kept there."""

    def fitted(some: Mapping[Key, Envelope]) -> dict[Key, Envelope]:
        sizes = {
            (name, pool): holding.shares.size(
                holding.deployments[name], holding.pools[pool].shape.accelerator
            )
            for name, pool in some
        }
        kept = _kept(some, holding.held, left, holding.snapshot)
        return _within_capacity(some, kept, holding.pools, sizes)

    return fitted


def _is_lost(condition: PlaneCondition) -> bool:
    return condition.state is PlaneState.LOST


def _is_heard(condition: PlaneCondition) -> bool:
    return condition.state in (PlaneState.CONNECTED, PlaneState.RECOVERING)


def _with_more(envelope: Envelope, more: int) -> Envelope:
    target = envelope.target + more
    return replace(envelope, target=target, ceiling=envelope.ceiling + more)


def _nothing(key: Key) -> Envelope:
    return Envelope(deployment=key[0], pool=key[1], floor=0, target=0, ceiling=0)


class _Terms(NamedTuple):
    """What planes were last told, beside where pools are: of all deployments together."""

    planes: Mapping[str, str]
    held: Mapping[Key, Envelope]
    shares: Shares


def _is_replaced(
    snapshot: Snapshot,
    deployment: Deployment,
    wanted: Mapping[Key, Envelope],
    conditions: Mapping[str, PlaneCondition],
    told: _Terms,
) -> bool:
    """Say whether every pool that is to hold replicas of the deployment has them READY for good.

    A replica counts only on a plane that holds what it was last told, and only as far as that
    grants it: one that a push under way is about to drain must not let another one go.
    """
    return all(
        _serving(snapshot, deployment, key, conditions, told) >= envelope.target
        for key, envelope in wanted.items()
        if envelope.target
    )


def _serving(
    snapshot: Snapshot,
    deployment: Deployment,
    key: Key,
    conditions: Mapping[str, PlaneCondition],
    told: _Terms,
    *,
    tried: bool = True,
) -> int:
    """Return how many replicas are READY on a pool for good, those that are `tried` too or not."""
    granted, plane = told.held.get(key), told.planes.get(key[1], "")
    if granted is None or not _is_settled(snapshot, plane, conditions):
        return 0
    view = snapshot.plane(plane)
    replicas = view.replicas(*key) if view else ()
    share = told.shares.of(deployment, plane)
    numbers = {share.revision, share.candidate} if tried else {share.revision}
    serving = sum(ready(replicas, number) for number in numbers)
    return min(serving, granted.target)


def _proven(
    snapshot: Snapshot, conditions: Mapping[str, PlaneCondition], told: _Terms
) -> Callable[[str], Counter[str]]:
    """Return what tells how many replicas of a deployment serve for good, by pool.

    Those outside its residency serve nobody any more, and a candidate may yet go back.
    """
    pools = {pool.name: pool for pool in snapshot.pools}
    deployments = {demand.deployment.name: demand.deployment for demand in snapshot.demands}
    own: dict[str, list[Key]] = defaultdict(list)
    for key in told.held:
        if key[1] in pools:
            own[key[0]].append(key)

    @cache
    def proven(name: str) -> Counter[str]:
        zones = deployments[name].policy.residency_zones
        return Counter(
            {
                key[1]: _serving(snapshot, deployments[name], key, conditions, told, tried=False)
                for key in own[name]
                if resides(pools[key[1]].plane.residency_zones, zones)
            }
        )

    return proven


def _is_settled(snapshot: Snapshot, plane: str, conditions: Mapping[str, PlaneCondition]) -> bool:
    """Say whether we hear the plane now, and it holds what it was last told.

    The last report of a silent plane is no evidence that its replicas still serve.
    """
    condition = conditions.get(plane)
    return condition is not None and _is_heard(condition) and _holds_newest(snapshot, plane)


def _holds_newest(snapshot: Snapshot, plane: str) -> bool:
    """Say whether the plane told us that it holds what it was last told, if it was told at all."""
    view, stored = snapshot.plane(plane), snapshot.desired_of(plane)
    if stored is None:
        return True
    return view is not None and view.link.report is not None and is_held(view.link.report, stored)


def _within_maximum(
    snapshot: Snapshot,
    conditions: Mapping[str, PlaneCondition],
    granted: Mapping[Key, Envelope],
    held: Mapping[Key, Envelope],
    deployments: Mapping[str, Deployment],
) -> dict[Key, Envelope]:
    """Grant room above the targets so that all planes' disks together stay below the maximum.

    Released before taken: room that shrinks at one plane may grow at another only when the first
    one holds the smaller envelope, for until then its disk allows the larger one.
    """
    planes = {pool.name: pool.plane.name for pool in snapshot.pools}
    result = dict(granted)
    for name, deployment in deployments.items():
        keys = [key for key in granted if key[0] == name]
        targets = sum(e.target for e in snapshot.envelopes if e.deployment == name)
        budget = max(0, deployment.scaling.max_replicas - targets)
        before = {key: _room_above(held.get(key)) for key in keys}
        room = {key: min(_room_above(granted[key]), before[key]) for key in keys}
        for key in reversed(keys):  # a plane that came back may have brought more than is left
            if _is_heard(conditions[planes[key[1]]]):
                room[key] -= min(room[key], max(0, sum(room.values()) - budget))
        free = budget - sum(before.values())
        if not all(_holds_newest(snapshot, planes[key[1]]) for key in keys):
            free = 0
        for key in keys:
            more = min(max(0, _room_above(granted[key]) - before[key]), max(0, free))
            free -= more
            ceiling = granted[key].target + room[key] + more
            if ceiling != granted[key].ceiling:
                result[key] = replace(granted[key], ceiling=ceiling)
    return result


def _room_above(envelope: Envelope | None) -> int:
    return envelope.ceiling - envelope.target if envelope else 0


def _kept(
    granted: Mapping[Key, Envelope],
    held: Mapping[Key, Envelope],
    left: Mapping[Key, int],
    snapshot: Snapshot,
) -> dict[Key, int]:
    """Return how many replicas of each grant keep their place: as far as it was granted before.

    Where something else runs than was granted, no more of what was granted than runs.
    """
    crowded = {pool for _, pool in left}
    kept: dict[Key, int] = {}
    for key, envelope in granted.items():
        kept[key] = min(envelope.ceiling, held[key].ceiling) if key in held else 0
        if key[1] in crowded:
            kept[key] = min(envelope.ceiling, left[key] if key in left else _live(key, snapshot))
    return kept


def _live(key: Key, snapshot: Snapshot) -> int:
    plane = snapshot.plane(key[1].partition(SEPARATOR)[0])
    replicas = plane.replicas(*key) if plane is not None else ()
    return sum(one.state in (ReplicaState.STARTING, ReplicaState.READY) for one in replicas)


def _within_capacity(
    granted: Mapping[Key, Envelope],
    kept: Mapping[Key, int],
    pools: Mapping[str, Pool],
    sizes: Mapping[Key, int],
) -> dict[Key, Envelope]:
    """Clamp what grows so that a pool's grants never exceed its accelerators.

    What is kept has its place first; growth takes what is left, in order of names.
    """
    free = {pool: pools[pool].shape.accelerators for _, pool in granted}
    result: dict[Key, Envelope] = {}
    for key, count in kept.items():
        free[key[1]] -= count * sizes[key]
    for key, envelope in granted.items():
        room = max(0, free[key[1]] // sizes[key])
        more = min(envelope.ceiling - kept[key], room)
        free[key[1]] -= more * sizes[key]
        ceiling = kept[key] + more
        if ceiling == envelope.ceiling:
            result[key] = envelope
            continue
        result[key] = replace(
            envelope,
            floor=min(envelope.floor, ceiling),
            target=min(envelope.target, ceiling),
            ceiling=ceiling,
        )
    return result
