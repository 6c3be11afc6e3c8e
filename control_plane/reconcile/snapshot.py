"""Snapshot: everything a decision needs, as of one `now`, in one value.

`loop.py` builds it from one read transaction of the store and the link's memory; the deciding
modules take nothing else.
"""

from collections.abc import Collection, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime

from control_plane.reconcile.policy import ReconcilePolicy
from skerry.fleet.api_key import ApiKey
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.cordon import Cordon
from skerry.fleet.deployment import Deployment, Revision
from skerry.fleet.desired import DesiredState
from skerry.fleet.digests import Digests
from skerry.fleet.observation import (
    ObservedReplica,
    PlaneCondition,
    PlaneReport,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, Pool, PoolShape
from skerry.fleet.profile import Profiles
from skerry.fleet.rollout import Rollout

# By deployment and number: those that a rollout speaks of.
Revisions = Mapping[str, Mapping[int, Revision]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a plane said of a peer in this run, which it does not call serving: ages in seconds.

    `served_seconds` since it was heard last while it did, `denied_seconds` since the word that it
    does so no more: both None where it never did. `unreachable_seconds` since it first called the
    peer unreachable, None while it does not, infinite where it may have been so for any time.
    """

    served_seconds: float | None = None
    denied_seconds: float | None = None
    unreachable_seconds: float | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class LinkView:
    """What the link knows of a plane in this run of the control plane.

    `silent_seconds` is measured on the monotonic clock since the last message, or since the start
    of this control plane when none came; `report` None means not heard, never "empty".
    `report_age_seconds` is how long ago it came in, None where that is not known.
    `unready_seconds` is for how long its reports have named no READY replica, None while one does;
    `told` is what it said before of peers that it does not call serving, by peer.
    """

    connected: bool
    silent_seconds: float
    report: PlaneReport | None = None
    report_age_seconds: float | None = None
    nack: str = ""
    unready_seconds: float | None = None
    told: Mapping[str, Told] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneView:
    """A plane as stored and as the link sees it."""

    identity: PlaneIdentity
    gateway: GatewayAddresses
    shapes: tuple[PoolShape, ...]
    condition: PlaneCondition | None
    link: LinkView
    nodes_digest: str | None = None  # of its nodes as they are stored
    # Known pools that its reports have left out without a break, and for how many seconds.
    missing: tuple[tuple[str, float], ...] = ()
    # Of a plane that was not heard in this run: when it was heard last, as far as that is stored.
    # By our wall clock: the store keeps how long ago that was by the database's.
    heard_at: datetime | None = None

    @property
    def name(self) -> str:
        """Return the plane's short id."""
        return self.identity.name

    @property
    def is_peer_reachable(self) -> bool:
        """Say whether other planes' gateways can reach this one's at all."""
        return bool(self.gateway.peer)

    def gone_after(self, seconds: float) -> tuple[str, ...]:
        """Return the pools that were missing from its reports for so long."""
        return tuple(pool for pool, missing in self.missing if missing >= seconds)

    def replicas(self, deployment: str, pool: str) -> tuple[ObservedReplica, ...]:
        """Return the reported replicas of a deployment on a pool (none when nothing was heard)."""
        if self.link.report is None:
            return ()
        return tuple(
            replica
            for replica in self.link.report.replicas
            if replica.deployment == deployment and replica.pool == pool
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class Demand:
    """A deployment as stored; `deleting` means an operator asked for its end.

    Where a rollout went back, it is at the revision that serves; `asked_revision` is the number of
    the one that operators want, 0 where that is the same.
    """

    deployment: Deployment
    deleting: bool = False
    asked_revision: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Removed:
    """A deployment that is known to have been removed, and the highest revision it ever had."""

    deployment: Deployment
    last_revision: int
    removed_at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The fleet at `now`; `since_start_seconds` on the monotonic clock decides the grace."""

    now: datetime
    since_start_seconds: float
    # Since our database answers again; None when it was never away.
    since_database_back_seconds: float | None = None
    policy: ReconcilePolicy = field(default_factory=ReconcilePolicy)
    demands: tuple[Demand, ...] = ()
    planes: tuple[PlaneView, ...] = ()
    pools: tuple[Pool, ...] = ()
    placements: tuple[Placement, ...] = ()
    envelopes: tuple[Envelope, ...] = ()
    desired: tuple[DesiredState, ...] = ()
    # The same as they are stored, by plane; empty where nothing was told but a generation.
    payloads: Mapping[str, bytes] = field(default_factory=dict, repr=False, compare=False)
    cordons: tuple[Cordon, ...] = ()
    profiles: Profiles = field(default_factory=dict)
    digests: Digests = field(default_factory=dict)
    rollouts: tuple[Rollout, ...] = ()
    revisions: Revisions = field(default_factory=dict)
    removed: tuple[Removed, ...] = ()
    scalings: tuple[Scaled, ...] = ()
    # None: none was ever made, or our database has forgotten them.
    api_keys: tuple[ApiKey, ...] | None = None
    revoked_planes: tuple[str, ...] | None = None  # None: planes are told nothing of it
    # Which store and which words of planes it was made of; `sight.py` knows what it is.
    mark: object = field(default=None, repr=False, compare=False)
    # Found by name, for fleets in which to look through all for each is thousands by thousands.
    _planes: Mapping[str, PlaneView] = field(init=False, repr=False, compare=False)
    _desired: Mapping[str, DesiredState] = field(init=False, repr=False, compare=False)
    _scaled: Mapping[str, Scaled] = field(init=False, repr=False, compare=False)
    _targets: Mapping[tuple[str, str], int] = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        """Index what is found by name."""
        object.__setattr__(self, "_planes", {plane.name: plane for plane in self.planes})
        object.__setattr__(self, "_desired", {state.plane: state for state in self.desired})
        scaled = {one.deployment: one for one in self.scalings}
        scaled |= _told(self.demands, scaled, self.desired)
        object.__setattr__(self, "_scaled", scaled)
        targets = {(s.deployment, plane): n for s in scaled.values() for plane, n in s.targets}
        object.__setattr__(self, "_targets", targets)

    @property
    def in_grace(self) -> bool:
        """Say whether nothing may expire yet because we ourselves were away."""
        return self.grace_left_seconds > 0.0

    @property
    def grace_left_seconds(self) -> float:
        """Return how long nothing may expire yet: after a start, and after a database outage."""
        away = [self.since_start_seconds]
        if self.since_database_back_seconds is not None:
            away.append(self.since_database_back_seconds)
        return max(0.0, self.policy.grace_seconds() - min(away))

    @property
    def is_young(self) -> bool:
        """Say whether planes may not have found us yet since a start of ours."""
        return self.since_start_seconds < self.policy.grace_seconds()

    @property
    def is_waiting(self) -> bool:
        """Say whether planes we knew are still to be heard after a start of ours."""
        return self.is_young and any(
            plane.link.report is None
            for plane in self.planes
            if plane.condition is None or plane.condition.state is not PlaneState.LOST
        )

    def desired_of(self, plane: str) -> DesiredState | None:
        """Return the desired state last stored for a plane."""
        return self._desired.get(plane)

    def scaled(self, deployment: str) -> Scaled | None:
        """Return what the global loop has decided of a deployment.

        Where a database that was lost has forgotten it, what planes were told.
        """
        return self._scaled.get(deployment)

    def fleet_target(self, deployment: str, plane: str) -> int | None:
        """Return what the global loop decided for a plane, None where the plane decides."""
        return self._targets.get((deployment, plane))

    def plane(self, name: str) -> PlaneView | None:
        """Return a plane by name."""
        return self._planes.get(name)


def _told(
    demands: Iterable[Demand], known: Collection[str], desired: Iterable[DesiredState]
) -> dict[str, Scaled]:
    """Return what planes were told of deployments of which no decision is stored."""
    missing = {
        demand.deployment.name: demand.deployment.scaling
        for demand in demands
        if demand.deployment.scaling.scales and demand.deployment.name not in known
    }
    if not missing:
        return {}
    targets: dict[str, list[tuple[str, int]]] = {}
    for state in desired:
        for one in state.assignments:
            name = one.deployment.name
            if name in missing and one.scaling is not None and one.scaling.fleet_target:
                count = sum(envelope.target for envelope in one.envelopes)
                targets.setdefault(name, []).append((state.plane, count))
    found: dict[str, Scaled] = {}
    for name, mine in targets.items():
        floor = missing[name].min_replicas
        demand = min(max(floor, 1, sum(count for _, count in mine)), missing[name].max_replicas)
        found[name] = Scaled(
            deployment=name, demand=demand, floor=floor, targets=tuple(sorted(mine)), wanted=demand
        )
    return found


@dataclass(frozen=True, slots=True, kw_only=True)
class Seen:
    """The fleet as the last turn saw and judged it."""

    snapshot: Snapshot
    conditions: Mapping[str, PlaneCondition]


def ready(replicas: Iterable[ObservedReplica], revision: int) -> int:
    """Return how many of the replicas are READY at that revision."""
    return sum(1 for r in replicas if r.state is ReplicaState.READY and r.revision == revision)
