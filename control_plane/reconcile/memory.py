"""What the loop remembers between two turns: the last plan and what it answered. Pure values.

`fingerprint` says when the placement must be decided anew: when demand, supply or the usability of
a plane changed, and never because time passed.
"""

from collections.abc import Mapping
from dataclasses import dataclass

from control_plane.reconcile.problem import pool_bars
from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan
from scheduler.problem import PoolBar
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import PlaneCondition, PlaneState
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
