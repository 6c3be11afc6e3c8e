"""Demand: deployments, their immutable revisions, and the promises under which they are served."""

import math
from dataclasses import dataclass, field
from enum import StrEnum

from skerry.fleet.engine import EngineSpec
from skerry.fleet.names import DEFAULT_PROJECT, check_name
from skerry.fleet.rollout import RolloutPolicy
from skerry.fleet.routing import Routing
from skerry.fleet.scaling import REPLICAS_MAX, Scaling

# Also of `scaling`, for whoever reads a deployment.
__all__ = [
    "ACCELERATORS_OF_REPLICA_MAX",
    "HOST_MEMORY_BYTES_MAX",
    "PRIORITY_CLASSES",
    "REPLICAS_MAX",
    "BaseModel",
    "Deployment",
    "FailBack",
    "FailureDomain",
    "LatencyLimit",
    "PlacementPolicy",
    "ResourceShape",
    "Revision",
    "Scaling",
    "ServiceObjective",
    "Spread",
    "Tolerate",
]

PRIORITY_CLASSES = 4  # 0 is served first, 3 is shed first
# The largest replica there is takes a few hundred accelerators; sums of products stay in 64 bits.
ACCELERATORS_OF_REPLICA_MAX = 100_000
HOST_MEMORY_BYTES_MAX = 2**60  # an exbibyte: beyond it a size is a typing error
DOLLARS_PER_HOUR_MAX = 1e9


class FailureDomain(StrEnum):
    """What may be lost as one."""

    PLANE = "plane"
    REGION = "region"
    CLOUD = "cloud"


@dataclass(frozen=True, slots=True, kw_only=True)
class ResourceShape:
    """What one replica takes on one accelerator kind, and what it yields there.

    `throughput_tokens_per_second` is of the deployment's reference mix; None until measured.
    """

    accelerator: str
    accelerators: int = 1
    host_memory_bytes: int = 0
    throughput_tokens_per_second: float | None = None

    def __post_init__(self) -> None:
        if self.accelerators < 1:
            raise ValueError(f"a replica takes at least 1 accelerator, not {self.accelerators}")
        if self.accelerators > ACCELERATORS_OF_REPLICA_MAX:
            raise ValueError(
                f"a replica takes at most {ACCELERATORS_OF_REPLICA_MAX} accelerators,"
                f" not {self.accelerators}"
            )
        if not 0 <= self.host_memory_bytes <= HOST_MEMORY_BYTES_MAX:
            raise ValueError(
                "host_memory_bytes must not be negative"
                f" nor above {HOST_MEMORY_BYTES_MAX}: {self.host_memory_bytes}"
            )
        speed = self.throughput_tokens_per_second
        if speed is not None and not (math.isfinite(speed) and speed > 0.0):
            raise ValueError(
                f"throughput_tokens_per_second must be a positive number, not {speed};"
                " leave it out until it is measured"
            )


@dataclass(frozen=True, slots=True, kw_only=True)
class BaseModel:
    """The weights: where they are, and the name users ask for in the body's `model`."""

    uri: str
    served_name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ServiceObjective:
    """Time to first token and time per output token that users are promised, in seconds."""

    ttft_seconds: float = 2.0
    tpot_seconds: float = 0.2


@dataclass(frozen=True, slots=True, kw_only=True)
class Revision:
    """An immutable version of what a deployment runs; `number` starts at 1."""

    number: int
    base_model: BaseModel
    engine: EngineSpec
    shapes: tuple[ResourceShape, ...]
    objective: ServiceObjective = field(default_factory=ServiceObjective)

    def __post_init__(self) -> None:
        if not self.shapes:
            raise ValueError("a revision needs at least one accelerator kind under resources")
        kinds = [shape.accelerator for shape in self.shapes]
        if len(set(kinds)) != len(kinds):
            raise ValueError(f"an accelerator kind appears twice under resources: {kinds}")

    def shape_on(self, accelerator: str) -> ResourceShape | None:
        """Return what one replica takes on that accelerator kind; None when it cannot run there."""
        for shape in self.shapes:
            if shape.accelerator == accelerator:
                return shape
        return None


@dataclass(frozen=True, slots=True, kw_only=True)
class Spread:
    """At least `domains_min` different domains hold a replica each, as far as they exist."""

    domain: FailureDomain
    domains_min: int

    def __post_init__(self) -> None:
        if not 1 <= self.domains_min <= REPLICAS_MAX:
            raise ValueError(f"spread.domains_min must be at least 1, not {self.domains_min}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Tolerate:
    """Lose any one domain and still meet the fraction `keep` of the demand."""

    domain: FailureDomain
    keep: float

    def __post_init__(self) -> None:
        if not 0.0 < self.keep <= 1.0:
            raise ValueError(f"tolerate.keep must be above 0 and at most 1, not {self.keep}")


@dataclass(frozen=True, slots=True, kw_only=True)
class LatencyLimit:
    """Users of a client region reach every replica within `seconds_max`, one way."""

    client_region: str
    seconds_max: float

    def __post_init__(self) -> None:
        if not (math.isfinite(self.seconds_max) and self.seconds_max > 0.0):
            raise ValueError(
                f"latency from {self.client_region!r} must be a positive number of seconds,"
                f" not {self.seconds_max}"
            )


class FailBack(StrEnum):
    """Where replicas go that were placed elsewhere when their plane was lost, once it is back."""

    BEST_SCORE = "best_score"  # where the scheduler would have them
    KEEP_ORIGINAL = "keep_original"  # where they were
    KEEP_REPLACEMENT = "keep_replacement"  # where they are


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPolicy:
    """Where replicas may go; an empty tuple leaves that dimension free.

    `residency_zones`: the deployment runs, and its requests spill over, only inside these zones.
    `anti_affinity` names deployments that share no plane with this one, whoever of the two says so.
    `spot_share_max` is of the throughput that is placed; every `latency` limit must hold.
    `fail_back` None: as the fleet's settings say.
    """

    clouds: tuple[str, ...] = ()
    regions: tuple[str, ...] = ()
    residency_zones: tuple[str, ...] = ()
    capacity_classes: tuple[str, ...] = ()
    spread: Spread | None = None
    tolerate: Tolerate | None = None
    priority: int = 1
    cost_per_hour_max: float | None = None
    spot_share_max: float | None = None
    anti_affinity: tuple[str, ...] = ()
    latency: tuple[LatencyLimit, ...] = ()
    fail_back: FailBack | None = None

    def __post_init__(self) -> None:
        if not 0 <= self.priority < PRIORITY_CLASSES:
            raise ValueError(f"priority must be 0..{PRIORITY_CLASSES - 1}, not {self.priority}")
        dollars = self.cost_per_hour_max
        if dollars is not None and not 0.0 <= dollars <= DOLLARS_PER_HOUR_MAX:
            raise ValueError(
                f"cost_per_hour_max must be 0..{DOLLARS_PER_HOUR_MAX:g} dollars, not {dollars}"
            )
        if self.spot_share_max is not None and not 0.0 <= self.spot_share_max <= 1.0:
            raise ValueError(f"spot_share_max must be 0..1, not {self.spot_share_max}")
        regions = [limit.client_region for limit in self.latency]
        if len(set(regions)) != len(regions):
            raise ValueError(f"a client region appears twice under latency: {regions}")


@dataclass(frozen=True, slots=True, kw_only=True)
class Deployment:
    """An operator's standing request to serve a base model."""

    name: str
    revision: Revision
    scaling: Scaling = field(default_factory=Scaling)
    policy: PlacementPolicy = field(default_factory=PlacementPolicy)
    project: str = DEFAULT_PROJECT
    labels: tuple[tuple[str, str], ...] = ()
    routing: Routing = field(default_factory=Routing)
    rollout: RolloutPolicy = field(default_factory=RolloutPolicy)

    def __post_init__(self) -> None:
        check_name(self.name, "deployment")
        check_name(self.project, "project")
        if self.name in self.policy.anti_affinity:
            raise ValueError(f"deployment {self.name!r} can't keep apart from itself")
