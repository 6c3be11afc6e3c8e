"""What the loop remembers between two turns: the last plan and what it answered. Pure values.

`fingerprint` says when the placement must be decided anew: when demand, supply or the usability of
a plane changed, and never because time passed.
"""

import hashlib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from control_plane.reconcile.policy import ReconcilePolicy
from control_plane.reconcile.problem import pool_bars
from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan
from scheduler.problem import PoolBar
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneCondition, PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Fingerprint:
    """Everything the placement depends on, comparable."""

    deployments: tuple[Deployment, ...]
    pools: tuple[Pool, ...]
    bars: tuple[PoolBar, ...]
    recovering: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Decided:
    """The last plan and the fingerprint it answers."""

    fingerprint: Fingerprint
    plan: PlacementPlan


def digest_of(seen: Fingerprint, policy: ReconcilePolicy) -> str:
    """Return a digest of what a placement depends on, to tell plans of the same inputs."""
    return hashlib.sha256(repr((seen, policy)).encode()).hexdigest()


def is_answered(decided: Decided | None, seen: Fingerprint, snapshot: Snapshot) -> bool:
    """Say whether the plan in force answers what is seen, and is what the store has placed.

    The store has placed something else where an operator approved a plan meanwhile.
    """
    if decided is None or decided.fingerprint != seen:
        return False
    if not snapshot.policy.advisory:
        return True
    return counts_of(decided.plan.placements) == counts_of(snapshot.placements)


def counts_of(placements: Iterable[Placement]) -> dict[tuple[str, str], int]:
    """Return how many replicas are placed, by (deployment, pool)."""
    return {(p.deployment, p.pool): p.count for p in placements if p.count}


def fingerprint(snapshot: Snapshot, conditions: Mapping[str, PlaneCondition]) -> Fingerprint:
    """Return what the placement of this snapshot depends on."""
    return Fingerprint(
        deployments=tuple(d.deployment for d in snapshot.demands if not d.deleting),
        pools=snapshot.pools,
        bars=pool_bars(snapshot, conditions),
        recovering=tuple(
            name
            for name, condition in sorted(conditions.items())
            if condition.state is PlaneState.RECOVERING
        ),
    )
