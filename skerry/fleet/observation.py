"""What a plane reported, and when; UNKNOWN is a value of its own, never zero."""

from dataclasses import dataclass, field
from datetime import datetime
from enum import StrEnum

from skerry.fleet.generation import NEVER, Version
from skerry.fleet.node import Node
from skerry.fleet.pool import GatewayAddresses, PlaneIdentity, PoolShape

GATEWAY_FAULTS_MAX = 16  # of one report; a few lines of text, whatever a plane sends
FAULT_CHARACTERS_MAX = 500


class ReplicaState(StrEnum):
    """Life of a replica as its plane sees it."""

    STARTING = "starting"
    READY = "ready"
    DRAINING = "draining"
    FAILED = "failed"  # ended or refused to start; it is started again after a backoff


class PeerVerdict(StrEnum):
    """What a plane's gateway sees of a peer plane."""

    UNKNOWN = "unknown"
    SERVING = "serving"  # the gateway answers and has READY replicas
    REACHABLE = "reachable"  # the gateway answers, no READY replica behind it
    UNREACHABLE = "unreachable"


class PlaneState(StrEnum):
    """Health of a plane as the control plane judges it."""

    CONNECTED = "connected"
    DISCONNECTED = "disconnected"  # stream lost, witnesses see it serve
    SUSPECT = "suspect"  # stream lost, no evidence yet
    LOST = "lost"  # lease over and witnesses agree
    RECOVERING = "recovering"  # back, being reconciled


# States of a plane that is heard now: what it reports holds, and what it is told it takes up.
HEARD = (PlaneState.CONNECTED, PlaneState.RECOVERING)


@dataclass(frozen=True, slots=True, kw_only=True)
class ObservedReplica:
    """One replica as its plane reports it; addresses as `host:port`, `pool` the fleet-wide id.

    `nodes` by the plane's own names, none where it does not tell; `start_seconds` is the time from
    its start to its first answer, 0 before that. `restarts` are all there ever were, `failures`
    those in a row before its present start, None where it does not tell.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    state: ReplicaState
    http: str = ""
    grpc: str = ""
    pid: int = 0
    engine_pid: int = 0
    restarts: int = 0
    failures: int | None = None
    message: str = ""
    nodes: tuple[str, ...] = ()
    start_seconds: float = 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerView:
    """One witness's verdict on one peer plane; times are by the witness's clock.

    `since` is when it became this one; `served_until` is when the witness last saw READY replicas
    there, None while it does and where it never did, and `served_until_seconds` the same moment by
    its monotonic clock, None where it does not tell. `discounted` says why the control plane does
    not count what it says against the plane, empty where it does.
    """

    plane: str
    verdict: PeerVerdict
    since: datetime | None = None
    served_until: datetime | None = None
    served_until_seconds: float | None = None
    discounted: str = ""

    @property
    def is_gone(self) -> bool:
        """Say whether the witness saw READY replicas there, and sees none now."""
        gone = (PeerVerdict.REACHABLE, PeerVerdict.UNREACHABLE)
        return self.verdict in gone and self.served_until is not None

    @property
    def is_against(self) -> bool:
        """Say whether the witness saw replicas fail there, and counts."""
        return self.is_gone and not self.discounted


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneReport:
    """All that a plane says of itself at one time: always whole, so a lost one costs nothing.

    `gateway_faults` are what is wrong with its gateway, in words; `held_digest` is of what it
    holds, without the version; `newest_epoch` is the highest under which it was ever welcomed.
    `seen` is the highest version that it ever made durable, which it may hold no more; NEVER where
    it does not tell.
    `told_at_seconds` is when it said so by its monotonic clock, None where it does not tell: two
    reports that differ in nothing else say the same.
    """

    identity: PlaneIdentity
    pools: tuple[PoolShape, ...]
    gateway: GatewayAddresses
    held: Version = NEVER
    replicas: tuple[ObservedReplica, ...] = ()
    peers: tuple[PeerView, ...] = ()
    features: tuple[str, ...] = ()
    software: str = ""
    nodes: tuple[Node, ...] = ()
    gateway_faults: tuple[str, ...] = ()
    held_digest: bytes = b""
    newest_epoch: int = 0
    told_at_seconds: float | None = field(default=None, compare=False)
    seen: Version = NEVER

    @property
    def generation_seen(self) -> int:
        """Return the highest generation that it holds, or held and lost."""
        return max(self.held.generation, self.seen.generation)


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """A report with the control plane's own time of receipt."""

    report: PlaneReport
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Unknown:
    """Not heard: not zero, not empty."""


UNKNOWN = Unknown()


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneCondition:
    """A plane's state with the evidence for it, for people.

    `declared`: lost by an operator's word, whatever the witnesses say. `returned_at`: when it was
    heard again after it was lost, or after it fell silent before it had settled. `displaced` are
    replicas, by deployment and pool, that were placed there when it was lost.
    """

    state: PlaneState
    since: datetime
    reason: str = ""
    witnesses: tuple[PeerView, ...] = field(default=())
    declared: bool = False
    returned_at: datetime | None = None
    displaced: tuple[tuple[str, str, int], ...] = ()
