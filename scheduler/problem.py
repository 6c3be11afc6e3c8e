"""The scheduler's input: supply, demand and what runs now, as one frozen record.

`control_plane.reconcile` builds it from a snapshot; what-if questions build changed ones.
"""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.deployment import REPLICAS_MAX, Deployment
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandedDeployment:
    """A deployment and how many replicas of its first shape are wanted now."""

    deployment: Deployment
    replicas: int

    def __post_init__(self) -> None:
        if not 0 <= self.replicas <= REPLICAS_MAX:
            raise ValueError(
                f"deployment {self.deployment.name!r} wants {self.replicas} replicas;"
                f" need 0..{REPLICAS_MAX}"
            )

    @property
    def replicas_wanted(self) -> int:
        """Return the replicas wanted, inside the deployment's own bounds."""
        scaling = self.deployment.scaling
        return max(scaling.min_replicas, min(self.replicas, scaling.max_replicas))


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBar:
    """A pool that takes nothing new, and why; without `keeps_current` what ran there is gone."""

    pool: str
    reason: str
    keeps_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementProblem:
    """All that a placement depends on.

    `reserve_fraction` of each pool is room for surge and failover that ceilings may not use;
    starting a replica costs `move_cost_dollars`, spread over `move_horizon_hours`.
    """

    now: datetime
    pools: tuple[Pool, ...]
    demands: tuple[DemandedDeployment, ...]
    current: tuple[Placement, ...] = ()
    bars: tuple[PoolBar, ...] = ()
    reserve_fraction: float = 0.0
    move_horizon_hours: float = 24.0
    move_cost_dollars: float = 0.01

    def __post_init__(self) -> None:
        _refuse_duplicates("pool", (pool.name for pool in self.pools))
        _refuse_duplicates("deployment", (d.deployment.name for d in self.demands))
        _refuse_duplicates("current placement", ((p.deployment, p.pool) for p in self.current))
        known = {pool.name for pool in self.pools}
        named = {p.pool for p in self.current} | {bar.pool for bar in self.bars}
        if unknown := sorted(named - known):
            raise ValueError(f"pool {unknown[0]!r} is named but not among the {len(known)} pools")
        if not 0.0 <= self.reserve_fraction < 1.0:
            raise ValueError(f"reserve_fraction must be in 0..1, not {self.reserve_fraction}")
        if self.move_horizon_hours <= 0.0 or self.move_cost_dollars < 0.0:
            raise ValueError("move_horizon_hours must be positive, move_cost_dollars not negative")


def _refuse_duplicates(what: str, names: Iterable[object]) -> None:
    twice = [str(name) for name, count in Counter(names).items() if count > 1]
    if twice:
        raise ValueError(f"{what} {min(twice)!r} appears twice in the placement problem")
