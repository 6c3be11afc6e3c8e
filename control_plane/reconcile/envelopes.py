"""Placements -> the envelopes each plane is granted, two-phase: new READY before old goes. Pure.

Grown envelopes are granted as far as the pool's accelerators are free of what others still hold;
a shrunken one is granted only when the deployment's replicas are READY elsewhere.
"""

from collections.abc import Mapping

from control_plane.reconcile.failover import is_held
from control_plane.reconcile.snapshot import Snapshot, ready
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool

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
    """Return the envelope of every deployment on every pool that has or had one."""
    held = granted_now(snapshot)
    wanted = {(e.deployment, e.pool): e for e in snapshot.envelopes}
    pools = {pool.name: pool for pool in snapshot.pools}
    deployments = {demand.deployment.name: demand.deployment for demand in snapshot.demands}
    deleting = {demand.deployment.name for demand in snapshot.demands if demand.deleting}
    granted: dict[Key, Envelope] = {}
    for key in sorted(held.keys() | wanted.keys()):
        deployment, pool = key
        if pool not in pools or deployment not in deployments:
            continue
        new = wanted.get(key) or _nothing(key)
        old = held.get(key)
        if (
            old is None
            or new.target >= old.target
            or deployment in deleting
            or _is_replaced(snapshot, deployments[deployment], wanted, conditions)
        ):
            granted[key] = new
        else:
            granted[key] = old
    return _within_capacity(granted, held, pools, deployments)


def _nothing(key: Key) -> Envelope:
    return Envelope(deployment=key[0], pool=key[1], floor=0, target=0, ceiling=0)


def _is_replaced(
    snapshot: Snapshot,
    deployment: Deployment,
    wanted: Mapping[Key, Envelope],
    conditions: Mapping[str, PlaneCondition],
) -> bool:
    """Say whether every pool that is to hold replicas of the deployment has them READY for good.

    A replica counts only on a plane that holds what it was last told, and only as far as that
    grants it: one that a push under way is about to drain must not let another one go.
    """
    held = granted_now(snapshot)
    for key, envelope in wanted.items():
        if key[0] != deployment.name or envelope.target == 0:
            continue
        granted = held.get(key)
        plane = next((p.plane.name for p in snapshot.pools if p.name == key[1]), "")
        if granted is None or not _is_settled(snapshot, plane, conditions):
            return False
        view = snapshot.plane(plane)
        replicas = view.replicas(*key) if view else ()
        if min(ready(replicas, deployment.revision.number), granted.target) < envelope.target:
            return False
    return True


def _is_settled(snapshot: Snapshot, plane: str, conditions: Mapping[str, PlaneCondition]) -> bool:
    """Say whether we hear the plane now, and it holds what it was last told.

    The last report of a silent plane is no evidence that its replicas still serve.
    """
    view, stored, condition = (
        snapshot.plane(plane),
        snapshot.desired_of(plane),
        conditions.get(plane),
    )
    if view is None or stored is None or condition is None or view.link.report is None:
        return False
    heard = condition.state in (PlaneState.CONNECTED, PlaneState.RECOVERING)
    return heard and is_held(view.link.report, stored)


def _within_capacity(
    granted: Mapping[Key, Envelope],
    held: Mapping[Key, Envelope],
    pools: Mapping[str, Pool],
    deployments: Mapping[str, Deployment],
) -> dict[Key, Envelope]:
    """Clamp what grows so that a pool's grants never exceed its accelerators.

    What is already held keeps its place first; growth takes what is left, in order of names.
    """
    free = {name: pool.shape.accelerators for name, pool in pools.items()}
    result: dict[Key, Envelope] = {}

    def size(key: Key) -> int:
        pool = pools[key[1]]
        shape = deployments[key[0]].revision.shape_on(pool.shape.accelerator)
        return shape.accelerators if shape else 1

    for key, envelope in granted.items():
        kept = min(envelope.ceiling, held[key].ceiling) if key in held else 0
        free[key[1]] -= kept * size(key)
    for key, envelope in granted.items():
        kept = min(envelope.ceiling, held[key].ceiling) if key in held else 0
        room = max(0, free[key[1]] // size(key))
        ceiling = kept + min(envelope.ceiling - kept, room)
        free[key[1]] -= (ceiling - kept) * size(key)
        result[key] = Envelope(
            deployment=key[0],
            pool=key[1],
            floor=min(envelope.floor, ceiling),
            target=min(envelope.target, ceiling),
            ceiling=ceiling,
        )
    return result
