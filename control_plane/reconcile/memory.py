"""What the loop remembers between two turns: the last plan and what it answered. Pure values.

`fingerprint` says when the placement must be decided anew: when demand, supply or the usability of
a plane changed, and never because time passed.
"""

import hashlib
from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.autoscale.targets import demand_of
from control_plane.reconcile.failback import is_timed
from control_plane.reconcile.kept import Kept
from control_plane.reconcile.pace import LARGE_PLANES
from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from control_plane.reconcile.supply import supply_of
from control_plane.reconcile.testimony import is_fresh, is_lost
from scheduler.plan import PlacementPlan
from scheduler.problem import PoolBar, RegionLatency
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import counts_of
from skerry.fleet.pool import Pool
from skerry.fleet.profile import with_measured
from skerry.fleet.rollout import Stage

# A plane that has been silent for so long is judged by what others say of it, no more by time: all
# that is counted in seconds of a silence is less.
SILENT_SECONDS = 900.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything the placement depends on, comparable."""

    deployments: tuple[Deployment, ...]
    pools: tuple[Pool, ...]
    bars: tuple[PoolBar, ...]
    recovering: tuple[str, ...]
    latencies: tuple[RegionLatency, ...]
    # What load asks for beyond the floors, by deployment.
    demanded: tuple[tuple[str, int], ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The last plan and the fingerprint it answers; without `holds` it is to be decided anew.

    `kept` is what the plan leaves where it is drained, which the scheduler knows nothing of.
    """

    fingerprint: Fingerprint
    plan: PlacementPlan
    holds: bool = True
    kept: tuple[Kept, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Inputs:
    """All that placing and telling planes go by, to see that a turn has nothing new.

    Thousands of planes make it worth while: what did not move is the same object as the turn
    before, and equal at a glance.
    """

    parts: tuple[object, ...]
    planes: tuple[object, ...]
    states: tuple[PlaneState, ...]


def inputs_of(snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]) -> Inputs | None:
    """Return what a turn goes by; None while time alone may change what it does."""
    at_rest = (Stage.COMPLETE, Stage.ROLLED_BACK)
    under_way = any(rollout.stage not in at_rest for rollout in snapshot.rollouts)
    if under_way or any(is_timed(one, snapshot) for one in conditions.values()):
        return None
    return _inputs(snapshot, conditions, (snapshot.placements, snapshot.policy))


def told_of(snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]) -> Inputs:
    """Return what planes are told by once all is placed; no time changes that, nor what is placed.

    It is the plan's envelopes and the rollouts that say how much of that is told.
    """
    return _inputs(snapshot, conditions, (snapshot.envelopes,))


def _inputs(
    snapshot: Snapshot, conditions: Mapping[str, PlaneCondition], more: tuple[object, ...]
) -> Inputs:
    told = snapshot.demands, snapshot.pools, snapshot.desired, snapshot.revisions, snapshot.removed
    rest = snapshot.cordons, snapshot.profiles, snapshot.digests, snapshot.rollouts
    gates = snapshot.api_keys, snapshot.revoked_planes
    # What the global loop decided is the same value until it moves.
    return Inputs(
        parts=(*told, *rest, *gates, snapshot.scalings, *more),
        planes=tuple(
            part
            for plane in snapshot.planes
            for part in (
                *(plane.identity, plane.gateway, plane.nodes_digest, plane.link.report),
                plane.gone_after(snapshot.policy.lease_seconds),
            )
        ),
        states=tuple(conditions[plane.name].state for plane in snapshot.planes),
    )


def is_at_rest(snapshot: Snapshot) -> bool:
    """Say whether a turn that found nothing to do need not be repeated until something moves.

    Of a large fleet only: to look at thousands of planes each second for what cannot have come to
    pass takes a tenth of a core.
    """
    if len(snapshot.planes) < LARGE_PLANES or snapshot.in_grace or snapshot.is_young:
        return False
    lease_seconds = snapshot.policy.lease_seconds
    return all(
        _stays(plane, snapshot) and all(seconds >= lease_seconds for _, seconds in plane.missing)
        for plane in snapshot.planes
    )


def _stays(plane: PlaneView, snapshot: Snapshot) -> bool:
    """Say whether a plane is judged as it is until it says something, or others do."""
    silent_for_good = not plane.link.connected and plane.link.silent_seconds > SILENT_SECONDS
    return is_fresh(plane, snapshot) or is_lost(plane) or silent_for_good


def digest_of(seen: Fingerprint, policy: ReconcilePolicy) -> str:
    """Return a digest of what a placement depends on, to tell plans of the same inputs."""
    return hashlib.sha256(repr((seen, policy)).encode()).hexdigest()


def is_answered(decided: Decided | None, seen: Fingerprint, snapshot: Snapshot) -> bool:
    """Say whether the plan in force answers what is seen, and is what the store has placed.

    The store has placed something else where an operator approved a plan or moved replicas.
    """
    if decided is None or not decided.holds or decided.fingerprint != seen:
        return False
    return counts_of(decided.plan.placements) == counts_of(snapshot.placements)


def fingerprint(snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]) -> Fingerprint:
    """Return what the placement of this snapshot depends on."""
    supply = supply_of(snapshot, conditions)
    return Fingerprint(
        # With what was measured of them: a profile that none of them takes decides nothing.
        deployments=tuple(
            with_measured(d.deployment, snapshot.profiles)
            for d in snapshot.demands
            if not d.deleting
        ),
        pools=supply.pools,
        bars=supply.bars,
        recovering=tuple(
            name
            for name, condition in sorted(conditions.items())
            if condition.state is PlaneState.RECOVERING
        ),
        latencies=snapshot.policy.latencies,
        demanded=_demanded(snapshot),
    )


def _demanded(snapshot: Snapshot) -> tuple[tuple[str, int], ...]:
    asked = (
        (one.deployment, demand_of(one.deployment, snapshot.scaled(one.deployment.name)))
        for one in snapshot.demands
        if one.deployment.scaling.scales and not one.deleting
    )
    return tuple((one.name, many) for one, many in asked if many > one.scaling.min_replicas)
