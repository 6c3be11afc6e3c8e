"""What the store hands out beside the fleet's own values; each is frozen and holds no row."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from skerry.fleet.api_key import ApiKey
from skerry.fleet.catalogue import Region
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.generation import Version
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.node import Node
from skerry.fleet.observation import PlaneCondition
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, Pool, PoolShape, PoolTerms
from skerry.fleet.rollout import Rollout

Value = TypeVar("Value")


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One committed change: who did what to what, under which leader, and why.

    `before` and `after` are what it changed, as JSON; None where there was nothing, where the
    subject is too large to keep twice, and in lists.
    """

    sequence: int
    time: datetime
    actor: str
    kind: str
    subject: str
    summary: str
    epoch: int
    project: str = DEFAULT_PROJECT
    reason: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDeployment:
    """A deployment at its present revision; `deleting` means an operator asked for its end."""

    deployment: Deployment
    etag: str
    created_at: datetime
    updated_at: datetime
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRemoval:
    """A deployment that was removed, as it was last, and the highest revision that it ever had."""

    deployment: Deployment
    last_revision: int
    removed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredEntry(Generic[Value]):
    """An entry of the catalogue: its value as stored, and since when."""

    value: Value
    etag: str
    created_at: datetime
    updated_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredRevision:
    """A revision that a deployment has or had."""

    revision: Revision
    created_at: datetime


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
    """A plane as last reported; `condition` is None until it was first judged.

    `nodes_digest` is of its nodes as they are stored, None where none ever were.
    """

    identity: PlaneIdentity
    gateway: GatewayAddresses
    pools: tuple[PoolShape, ...]
    condition: PlaneCondition | None
    nodes_digest: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredNode:
    """A node as its plane reported it first at `updated_at`; `name` is its fleet-wide id."""

    name: str
    plane: str
    node: Node
    updated_at: datetime


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
    # Replicas left where they are drained: (deployment, pool, replicas, why).
    kept: tuple[tuple[str, str, int, str], ...] = ()
    moves: int = 0  # of healthy replicas, that it makes


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredLease:
    """When a plane was last heard, what it held then and how many replicas were READY."""

    plane: str
    heard_at: datetime
    held: Version
    replicas_ready: int


class PlanState(StrEnum):
    """What became of a plan; only a held one may still be approved or rejected."""

    APPLIED = "applied"
    HELD = "held"
    APPROVED = "approved"
    REJECTED = "rejected"
    SUPERSEDED = "superseded"


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredPlan:
    """A plan by number; `inputs` is a digest of what it answers, `placements` are a held one's."""

    number: int
    epoch: int
    decided_at: datetime
    state: PlanState
    inputs: str
    summary: str
    decision: Decision
    placements: tuple[Placement, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class StoredDesired:
    """A plane's desired state as pushed; an empty payload means only its generation is known.

    `envelopes` are those that the payload tells, by deployment and pool; None where they are not
    kept beside it: it tells none, or an older release stored it.
    """

    version: Version
    payload: bytes
    digest: bytes
    envelopes: tuple[Envelope, ...] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a plane is to be told: encoded, with the digest of that and the envelopes in it."""

    payload: bytes
    digest: bytes
    envelopes: tuple[Envelope, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """What a request with a request_id was answered; the one of its kind is set."""

    applied: AppliedDeployment | None = None
    deleting: StoredDeployment | None = None
    rolled_back: StoredDeployment | None = None
    terms: StoredTerms | None = None
    # The release before set none of these for a settled plan.
    settled: StoredPlan | None = None
    # Of what answers whether anything changed.
    changed: bool | None = None
    # Of what answers with a message that cannot be made again: its bytes in base64.
    message: str | None = None
    # Its value as JSON: which kind of entry it is of, the call says.
    entry: StoredEntry[Any] | None = None
    # What `Apply` did, as JSON: the call says of which kind. The first release kept it as an entry.
    applied_all: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedDeployment:
    """A deployment as planes hold it, and every revision of it that they hold."""

    deployment: Deployment
    revisions: tuple[Revision, ...]
    deleting: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class AdoptedPlane:
    """What a plane holds, to be known as what it was told last.

    Without a payload only its generation is known; what it was told before stays.
    """

    plane: str
    version: Version
    payload: bytes = b""
    digest: bytes = b""
    envelopes: tuple[Envelope, ...] = ()


# The mark of a recovery of which all but some planes was taken in already.
TAKING_IN = "what planes hold is being taken in: some of them are left"


@dataclass(frozen=True, slots=True, kw_only=True)
class Adoption:
    """All that ends a recovery: in one transaction, or of a large fleet in several.

    `superseded` are deployments whose served name another one has by now; `terms`, by pool,
    `regions` and `api_keys` are written only where the database has none; `revoked_planes` are let
    in no more, whatever it says of them; `quarantined` are names
    under which something runs that nobody describes, so that none of it was ever removed;
    `epoch_floor` is what the next epoch must be above, 0 where the present one may stay. Where it
    `is_begun`, all but the planes was taken in before.
    """

    deployments: tuple[AdoptedDeployment, ...] = ()
    superseded: tuple[str, ...] = ()
    planes: tuple[AdoptedPlane, ...] = ()
    placements: tuple[Placement, ...] = ()
    terms: tuple[tuple[str, PoolTerms], ...] = ()
    regions: tuple[Region, ...] = ()
    rollouts: tuple[Rollout, ...] = ()
    api_keys: tuple[ApiKey, ...] = ()
    revoked_planes: tuple[str, ...] = ()
    quarantined: tuple[str, ...] = ()
    epoch_floor: int = 0
    is_begun: bool = False
    summary: str = ""
    details: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
