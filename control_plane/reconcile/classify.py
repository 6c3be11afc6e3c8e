"""Ordered table: evidence about a plane -> its state; the first row that matches wins.

`failover.judge` gathers the evidence and asks; every row carries the sentence people read.
"""

from collections.abc import Callable
from dataclasses import dataclass

from skerry.fleet.observation import PeerVerdict, PeerView, PlaneState


@dataclass(frozen=True, slots=True, kw_only=True)
class Evidence:
    """All that the judgement of one plane rests on; times in seconds."""

    connected: bool
    silent_seconds: float
    heartbeat_timeout_seconds: float
    lease_seconds: float
    before: PlaneState | None
    synced: bool  # holds the newest desired state
    in_grace: bool
    frozen: bool  # too many planes silent at once
    witnesses: tuple[PeerView, ...]
    witnesses_needed: int
    peer_reachable: bool = True  # by design

    @property
    def heard(self) -> bool:
        """Say whether the stream is up and its heartbeats are on time."""
        return self.connected and self.silent_seconds <= self.heartbeat_timeout_seconds

    @property
    def seen_serving(self) -> bool:
        """Say whether any witness sees READY replicas there: then it is cut off from us only."""
        return any(view.verdict is PeerVerdict.SERVING for view in self.witnesses)

    @property
    def against(self) -> int:
        """Return how many witnesses saw replicas serve there, see none now, and count."""
        return sum(1 for view in self.witnesses if view.is_against)


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """One row: when it holds, the plane is in `state`; None keeps the state it had."""

    name: str
    holds: Callable[[Evidence], bool]
    state: PlaneState | None
    reason: str


PLANE_RULES: tuple[Rule, ...] = (
    Rule(
        name="back",
        holds=lambda e: e.heard and e.before is PlaneState.LOST,
        state=PlaneState.RECOVERING,
        reason="back after being lost; what it brought with it is being taken in",
    ),
    Rule(
        name="reconciling",
        holds=lambda e: e.heard and e.before is PlaneState.RECOVERING and not e.synced,
        state=PlaneState.RECOVERING,
        reason="back after being lost; it does not hold the newest desired state yet",
    ),
    Rule(
        name="heard",
        holds=lambda e: e.heard,
        state=PlaneState.CONNECTED,
        reason="heartbeats on time",
    ),
    Rule(
        name="lost-stays-lost",
        holds=lambda e: e.before is PlaneState.LOST,
        state=None,
        reason="lost until it connects again",
    ),
    Rule(
        name="seen-serving",
        holds=lambda e: e.seen_serving,
        state=PlaneState.DISCONNECTED,
        reason="silent here, but peers see it serving: nothing is moved",
    ),
    Rule(
        name="lease-runs",
        holds=lambda e: e.silent_seconds <= e.lease_seconds,
        state=PlaneState.SUSPECT,
        reason="silent; its lease still runs",
    ),
    Rule(
        name="grace",
        holds=lambda e: e.in_grace,
        state=PlaneState.SUSPECT,
        reason="silent, but the control plane itself was away: nothing expires during the grace",
    ),
    Rule(
        name="frozen",
        holds=lambda e: e.frozen,
        state=PlaneState.SUSPECT,
        reason="more than half of the planes are silent: taken as our own fault, moves are frozen",
    ),
    Rule(
        name="not-reachable-by-design",
        holds=lambda e: not e.peer_reachable,
        state=PlaneState.SUSPECT,
        reason="lease over, but no peer could reach it at any time: an operator must decide",
    ),
    Rule(
        name="no-witness",
        holds=lambda e: e.witnesses_needed == 0,
        state=PlaneState.SUSPECT,
        reason="lease over, but no other plane can testify: an operator must decide",
    ),
    Rule(
        name="lost",
        holds=lambda e: e.against >= e.witnesses_needed,
        state=PlaneState.LOST,
        reason="lease over and the witnesses see nothing serving there",
    ),
    Rule(
        name="evidence-missing",
        holds=lambda e: True,
        state=PlaneState.SUSPECT,
        reason="lease over; waiting for more witnesses",
    ),
)


def classify(evidence: Evidence) -> Rule:
    """Return the first rule of the table that holds."""
    return next(rule for rule in PLANE_RULES if rule.holds(evidence))
