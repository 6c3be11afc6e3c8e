"""The scheduler's input: supply, demand and what runs now, as one frozen record.

`control_plane.reconcile` builds it from a snapshot; what-if questions build changed ones.
"""

import math
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.deployment import REPLICAS_MAX, Deployment
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool


class BadQuestion(ValueError):
    """What was asked names something that the problem lacks, or asks for what no fleet can have."""


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandedDeployment:
    """A deployment and how many replicas of its first shape are wanted now.

    `tokens_per_second`, where it is measured, says it instead of `replicas`. With `pools` it may
    run on these only, whatever else its policy allows.
    """

    deployment: Deployment
    replicas: int = 0
    tokens_per_second: float | None = None
    pools: tuple[str, ...] | None = None

    def __post_init__(self) -> None:
        tokens = self.tokens_per_second
        if tokens is not None:
            if not (math.isfinite(tokens) and tokens >= 0.0):
                raise ValueError(f"deployment {self.deployment.name!r} wants {tokens} tokens/s")
            if any(not s.throughput_tokens_per_second for s in self.deployment.revision.shapes):
                raise ValueError(
                    f"deployment {self.deployment.name!r} wants tokens/s, but not all of its"
                    " shapes say throughput_tokens_per_second; say replicas instead"
                )
            if self._replicas_of(tokens) > REPLICAS_MAX:
                raise ValueError(
                    f"deployment {self.deployment.name!r} wants {tokens} tokens/s: more than"
                    f" {REPLICAS_MAX} replicas of its first shape"
                )
        if not 0 <= self.replicas <= REPLICAS_MAX:
            raise ValueError(
                f"deployment {self.deployment.name!r} wants {self.replicas} replicas;"
                f" need 0..{REPLICAS_MAX}"
            )

    @property
    def replicas_wanted(self) -> int:
        """Return the replicas wanted, inside the deployment's own bounds, rounded up."""
        return math.ceil(self.demand_replicas - 1e-9)

    @property
    def demand_replicas(self) -> float:
        """Return the demand in replicas of the first shape, a part of one where it is tokens/s."""
        scaling = self.deployment.scaling
        if self.tokens_per_second is not None:
            return max(float(scaling.min_replicas), self._replicas_of(self.tokens_per_second))
        return float(max(scaling.min_replicas, min(self.replicas, scaling.max_replicas)))

    def _replicas_of(self, tokens_per_second: float) -> float:
        speed = self.deployment.revision.shapes[0].throughput_tokens_per_second
        assert speed
        return tokens_per_second / speed


MOVE_COST_DOLLARS_MAX = 1e6  # of one start; above it a cost is a typing error


LOST = "lost"  # why a pool is barred whose plane is gone


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolBar:
    """A pool that takes nothing new, and why; without `keeps_current` what ran there is gone."""

    pool: str
    reason: str
    keeps_current: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class RegionLatency:
    """How far users of a client region are from the planes of a region, one way in seconds.

    The plane region is REGION, of whatever cloud, or CLOUD/REGION, which comes before it.
    """

    client_region: str
    plane_region: str
    seconds: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds) and self.seconds >= 0.0):
            raise ValueError(
                f"latency {self.client_region!r} to {self.plane_region!r} must be a number of"
                f" seconds, not {self.seconds}"
            )


# Reserved capacity is paid whether it is used or not. Counting a thousandth of its price fills it
# before anything else and still tells a cheap reservation from a dear one.
RESERVED_PRICE_SHARE = 0.001


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementProblem:
    """All that a placement depends on.

    `reserve_fraction` of each pool is room for surge and failover that ceilings may not use;
    starting a replica costs `move_cost_dollars`, spread over `move_horizon_hours`, and at most
    `moves_max` healthy replicas go elsewhere. A latency that is not told is not met. Reserved
    capacity counts `reserved_price_share` of its price in the objective, all of it in the bill.
    """

    now: datetime
    pools: tuple[Pool, ...]
    demands: tuple[DemandedDeployment, ...]
    current: tuple[Placement, ...] = ()
    bars: tuple[PoolBar, ...] = ()
    reserve_fraction: float = 0.0
    move_horizon_hours: float = 24.0
    move_cost_dollars: float = 0.01
    moves_max: int | None = None
    latencies: tuple[RegionLatency, ...] = ()
    reserved_price_share: float = RESERVED_PRICE_SHARE

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
        _refuse_duplicates("latency", ((r.client_region, r.plane_region) for r in self.latencies))
        if not (math.isfinite(self.move_horizon_hours) and self.move_horizon_hours > 0.0):
            raise ValueError(f"move_horizon_hours must be positive, not {self.move_horizon_hours}")
        if not 0.0 <= self.move_cost_dollars <= MOVE_COST_DOLLARS_MAX:
            raise ValueError(
                f"move_cost_dollars must be 0..{MOVE_COST_DOLLARS_MAX:g},"
                f" not {self.move_cost_dollars}"
            )
        if self.moves_max is not None and self.moves_max < 0:
            raise ValueError(f"moves_max must not be negative: {self.moves_max}")
        if not 0.0 <= self.reserved_price_share <= 1.0:
            raise ValueError(f"reserved_price_share must be 0..1, not {self.reserved_price_share}")


def _refuse_duplicates(what: str, names: Iterable[object]) -> None:
    all_names = list(names)
    if len(set(all_names)) < len(all_names):
        twice = [str(name) for name, count in Counter(all_names).items() if count > 1]
        raise ValueError(f"{what} {min(twice)!r} appears twice in the placement problem")
