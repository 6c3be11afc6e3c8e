"""What a freeze stops: moves, and nothing else. Pure.

So many planes fell silent at once that the fault is taken to be our own. What is placed on them
stays placed, whatever else is decided; on the planes that are heard operators' work goes on.
"""

from collections.abc import Mapping
from dataclasses import replace

from control_plane.reconcile.failover import Freeze, freeze_of, is_frozen
from control_plane.reconcile.kept import Kept, left_in_place
from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState
from skerry.fleet.placement import counts_of

WHY = "its plane is silent while moves are frozen"


def without_moves(snapshot: Snapshot, freeze: Freeze | None = None) -> Snapshot:
    """Return the snapshot under whose policy nothing moves while moves are frozen.

    `freeze` is the snapshot's own, where it is known already.
    """
    if not (freeze or freeze_of(snapshot)).frozen:
        return snapshot
    return replace(snapshot, policy=replace(snapshot.policy, moves_max=0))


def held_still(
    plan: PlacementPlan, snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]
) -> PlacementPlan:
    """Return the plan with all that was placed on silent planes, while moves are frozen.

    A scheduler that may move nothing may still take away: what a smaller deployment gives up, or a
    revision that fits the pool no more. Nobody there could be told of it, and where it serves its
    users it must be counted. Not of deployments that operators end, nor on planes that are lost.
    """
    if not is_frozen(snapshot):
        return plan
    wanted = {one.deployment.name for one in snapshot.demands if not one.deleting}
    silent = {
        pool.name
        for pool in snapshot.pools
        if (condition := conditions.get(pool.plane.name)) is not None
        and condition.state not in (*HEARD, PlaneState.LOST)
    }
    planned = counts_of(plan.placements)
    stays = tuple(
        Kept(deployment=one.deployment, pool=one.pool, replicas=less, reason=WHY)
        for one in sorted(snapshot.placements, key=lambda one: (one.deployment, one.pool))
        if one.pool in silent
        and one.deployment in wanted
        and (less := one.count - planned.get((one.deployment, one.pool), 0)) > 0
    )
    return left_in_place(plan, stays, snapshot, lambda one: f"{one.replicas} stay: {one.reason}")
