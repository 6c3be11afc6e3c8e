"""What the store hands out beside the fleet's own values; each is frozen and holds no row."""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum

from skerry.fleet.deployment import Deployment
from skerry.fleet.generation import Version
from skerry.fleet.observation import PlaneCondition
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, Pool, PoolShape, PoolTerms


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change: who did what to what, under which leader."""

    sequence: int
    time: datetime
    actor: str
    kind: str
    subject: str
    summary: str
    epoch: int


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeployment:
    """A deployment at its present revision; `deleting` means an operator asked for its end."""

    deployment: Deployment
    etag: str
    created_at: datetime
    updated_at: datetime
    deleting: bool = False


class ApplyOutcome(StrEnum):
    """What applying a deployment did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedDeployment:
    """What is stored after an apply, and what the apply did."""

    stored: StoredDeployment
    outcome: ApplyOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlane:
    """A plane as last reported; `condition` is None until it was first judged."""

    identity: PlaneIdentity
    gateway: GatewayAddresses
    pools: tuple[PoolShape, ...]
    condition: PlaneCondition | None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPool:
    """A reported pool with its terms; `etag` is empty while no terms were told."""

    pool: Pool
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredTerms:
    """An operator's terms of a pool that may not have been reported yet."""

    pool: str
    terms: PoolTerms
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Decision:
    """What the last decision cost, proved and left out.

    `unplaced` and `rejections` are (deployment, replicas or pool, reason), `levels` (name, value,
    bound, unit), `shed` (deployment, pool, replicas, who takes the room, reason), `prices` what one
    more accelerator of a pool would save in dollars an hour. Rows of older releases lack some.
    """

    cost_per_hour: float
    solver: str
    optimal: bool
    solve_seconds: float
    unplaced: tuple[tuple[str, int, str], ...] = ()
    rejections: tuple[tuple[str, str, str], ...] = ()
    levels: tuple[tuple[str, float, float, str], ...] = ()
    shed: tuple[tuple[str, str, int, tuple[str, ...], str], ...] = ()
    prices: tuple[tuple[str, float], ...] = ()
    solver_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDesired:
    """A plane's desired state as pushed; an empty payload means only its generation is known."""

    version: Version
    payload: bytes
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request with a request_id was answered; the one of its kind is set."""

    applied: AppliedDeployment | None = None
    deleting: StoredDeployment | None = None
    terms: StoredTerms | None = None
