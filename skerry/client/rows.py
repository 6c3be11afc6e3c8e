"""What the operator API shows, as frozen values for people and programs.

`skerry.client.operator` returns them; the command line prints them. Names are short ids.
"""

from dataclasses import dataclass
from datetime import datetime
from enum import StrEnum
from typing import Any, Generic, TypeVar

from skerry.fleet.catalogue import AcceleratorKind, Cloud, Region, RegisteredModel, Reservation
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.generation import Version
from skerry.fleet.intent import Intent
from skerry.fleet.observation import ObservedReplica, PeerView, PlaneState
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape, PoolTerms
from skerry.fleet.profile import Profile

Value = TypeVar("Value", AcceleratorKind, RegisteredModel, Reservation, Cloud, Region, Profile)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneRow:
    """A plane with the state that the control plane judges it to be in."""

    identity: PlaneIdentity
    gateway: GatewayAddresses
    state: PlaneState
    reason: str
    since: datetime | None
    desired: Version
    held: Version
    witnesses: tuple[PeerView, ...]
    nack: str
    gateway_faults: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the plane's short id."""
        return self.identity.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolRow:
    """A pool with its terms and what is placed on it; no shape while its plane has not told it."""

    name: str
    plane: str
    shape: PoolShape | None
    terms: PoolTerms
    accelerators_placed: int
    etag: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentRow:
    """A deployment and what runs of it."""

    deployment: Deployment
    replicas_wanted: int
    replicas_placed: int
    replicas_ready: int
    cost_per_hour: float
    pending: tuple[str, ...]
    etag: str
    deleting: bool = False
    # What load asks for, None before autoscaling decided; of it, what no pool has room for.
    replicas_needed: int | None = None
    replicas_short: int = 0
    short_dollars_per_hour: float | None = None

    @property
    def name(self) -> str:
        """Return the deployment's short id."""
        return self.deployment.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementRow:
    """A placement with its reason; the envelope is what the plane holds at the moment."""

    name: str
    deployment: str
    plane: str
    pool: str
    replicas: int
    replicas_ready: int
    cost_per_hour: float
    reason: str
    envelope: Envelope | None


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRow:
    """A replica as its plane last reported it, and how old that report is."""

    plane: str
    observed: ObservedReplica
    report_age_seconds: float

    @property
    def name(self) -> str:
        """Return the replica's name."""
        return self.observed.name


@dataclass(frozen=True, slots=True, kw_only=True)
class ChangeRow:
    """A committed change: who did what, and why.

    `before` and `after` are what it changed, as JSON values; None in lists and where there was
    nothing.
    """

    sequence: int
    time: datetime
    actor: str
    kind: str
    subject: str
    summary: str
    epoch: int
    reason: str = ""
    before: Any = None
    after: Any = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RevisionRow:
    """An immutable revision of a deployment."""

    deployment: str
    revision: Revision
    created_at: datetime
    current: bool

    @property
    def name(self) -> str:
        """Return the revision's name: its deployment and number."""
        return f"{self.deployment}/{self.revision.number}"


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanRow:
    """A plan by number: applied, held, approved, rejected or superseded."""

    name: str
    state: str
    decided_at: datetime
    cost_per_hour: float
    solver: str
    summary: str


@dataclass(frozen=True, slots=True, kw_only=True)
class EntryRow(Generic[Value]):
    """An entry of the catalogue; `planes` are those in a cloud or region.

    A cloud or region that planes report and nobody registered has no etag and no times.
    """

    value: Value
    etag: str
    created_at: datetime | None
    updated_at: datetime | None
    planes: tuple[str, ...] = ()

    @property
    def name(self) -> str:
        """Return the entry's short id."""
        return self.value.name


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceRow:
    """What an accelerator-hour of a pool costs from a moment on, in USD."""

    pool: str
    valid_from: datetime
    price_per_accelerator_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class CordonRow:
    """A part that takes nothing new: `planes/X`, `nodes/PLANE--NODE`, `clouds/X` or the like.

    Draining, what runs there goes elsewhere.
    """

    name: str
    actor: str
    reason: str
    since: datetime
    draining: bool = False


class ApplyOutcome(StrEnum):
    """What applying a deployment did."""

    CREATED = "created"
    UPDATED = "updated"
    UNCHANGED = "unchanged"


@dataclass(frozen=True, slots=True, kw_only=True)
class FieldDiffRow:
    """A field of a deployment's spec with another value; empty where it is not set."""

    path: str
    before: str
    after: str


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedRow:
    """What applying did to a deployment, or would do; no diffs where it was not there before."""

    deployment: DeploymentRow
    outcome: ApplyOutcome
    diffs: tuple[FieldDiffRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedIntentRow:
    """What applying did to what an intent is about, or would do."""

    intent: Intent
    outcome: ApplyOutcome
    diffs: tuple[FieldDiffRow, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class AppliedEverything:
    """What applying did to each deployment and intent, in the order that they were given in."""

    deployments: tuple[AppliedRow, ...]
    intents: tuple[AppliedIntentRow, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedRow:
    """What a plan would do to one deployment on one pool."""

    deployment: str
    pool: str
    replicas_before: int
    replicas_after: int
    cost_per_hour: float
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveRow:
    """Replicas that leave one pool for another."""

    deployment: str
    from_pool: str
    to_pool: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ThroughputRow:
    """The tokens per second that a plan counts a replica with, on one kind of accelerator.

    `profile` is empty where nothing was measured, `load_seconds` 0 where that is not known; what
    was measured is within the deployment's objective, None where it is at no concurrency.
    """

    accelerator: str
    tokens_per_second: float | None
    profile: str
    measured_at: datetime | None
    measured_tokens_per_second: float | None
    load_seconds: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlannedDeploymentRow:
    """What a plan would do to one deployment as a whole; costs in USD per hour.

    `ready_in_seconds` is an estimate for the last replica that it starts, `ready_basis` what that
    rests on; None with no basis where it starts none, with the reason where nobody can tell.
    `ready_source` is what kind of figure that is, `throughput_source` whose `throughputs` are
    planned with; both are empty where they are not told.
    """

    deployment: str
    replicas_before: int
    replicas_after: int
    replicas_unmet: int
    unmet_reason: str
    cost_per_hour_before: float
    cost_per_hour_after: float
    moves: tuple[MoveRow, ...]
    ready_in_seconds: float | None
    ready_basis: str
    ready_source: str = ""
    throughput_source: str = ""
    throughputs: tuple[ThroughputRow, ...] = ()
    # What load asks for and no pool has room for, and what that would cost an hour.
    replicas_short: int = 0
    short_dollars_per_hour: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class RejectionRow:
    """A pool that was ruled out, and why."""

    deployment: str
    pool: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class UnplacedRow:
    """Replicas that found no place, and why."""

    deployment: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ShedRow:
    """Replicas that run and are given up for lack of room, and who takes it."""

    deployment: str
    pool: str
    replicas: int
    taken_by: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelRow:
    """A level of the objective: what was reached, and the bound no plan can go below."""

    level: str
    value: float
    bound: float
    gap: float
    unit: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPriceRow:
    """What one more accelerator of a scarce pool would save, in USD per hour."""

    pool: str
    dollars_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanPreview:
    """A plan: what it would do or did, what it costs per hour in USD, and what it proves.

    `shed` is in the order in which replicas are given up; `solver_reason` says why not a better
    solver answered.
    """

    placements: tuple[PlannedRow, ...]
    rejections: tuple[RejectionRow, ...]
    unplaced: tuple[UnplacedRow, ...]
    cost_per_hour_before: float
    cost_per_hour_after: float
    solver: str
    solve_seconds: float
    optimal: bool
    shed: tuple[ShedRow, ...] = ()
    levels: tuple[LevelRow, ...] = ()
    prices: tuple[PoolPriceRow, ...] = ()
    solver_reason: str = ""
    deployments: tuple[PlannedDeploymentRow, ...] = ()
