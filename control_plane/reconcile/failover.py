"""Is a plane lost? By its lease AND by its peers' view, with a brake on mass failover. Pure."""

from control_plane.reconcile.classify import Evidence, classify
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import (
    PeerVerdict,
    PeerView,
    PlaneCondition,
    PlaneReport,
    PlaneState,
)

# A witness that we do not hear ourselves cannot testify: its report may be of another hour.


def judge(snapshot: Snapshot) -> dict[str, PlaneCondition]:
    """Return the condition of every plane, by name; `since` moves only when the state does."""
    frozen = is_frozen(snapshot)
    conditions = {}
    for plane in snapshot.planes:
        evidence = gather(snapshot, plane, frozen=frozen)
        rule = classify(evidence)
        before = plane.condition
        state = rule.state or (before.state if before else PlaneState.SUSPECT)
        unchanged = before is not None and before.state is state
        conditions[plane.name] = PlaneCondition(
            state=state,
            since=before.since if unchanged and before else snapshot.now,
            # A state that is only kept keeps the reason it was reached by.
            reason=before.reason if rule.state is None and before else rule.reason,
            witnesses=evidence.witnesses,
            declared=unchanged and before is not None and before.declared,
        )
    return conditions


def is_frozen(snapshot: Snapshot) -> bool:
    """Say whether so many planes are silent at once that the fault must be our own."""
    timeout = snapshot.policy.heartbeat_timeout_seconds
    counted = [p for p in snapshot.planes if not _is_lost(p)]
    silent = [p for p in counted if not p.link.connected or p.link.silent_seconds > timeout]
    return len(silent) > len(counted) * snapshot.policy.silent_share_max


def is_evacuated(snapshot: Snapshot) -> bool:
    """Say whether nothing is placed any more on planes that an operator declared lost.

    While most planes are silent only this is moved, and then nothing again.
    """
    declared = {
        plane.name
        for plane in snapshot.planes
        if plane.condition is not None and plane.condition.declared
    }
    there = {pool.name for pool in snapshot.pools if pool.plane.name in declared}
    return not any(placed.count and placed.pool in there for placed in snapshot.placements)


def is_held(report: PlaneReport, desired: DesiredState) -> bool:
    """Say whether the plane holds that state; a later leader pushes it under its own epoch."""
    return report.held.generation == desired.version.generation


def gather(snapshot: Snapshot, plane: PlaneView, *, frozen: bool) -> Evidence:
    """Return the evidence about one plane."""
    policy = snapshot.policy
    others = [p for p in snapshot.planes if p.name != plane.name and not _is_lost(p)]
    desired = snapshot.desired_of(plane.name)
    report = plane.link.report
    return Evidence(
        connected=plane.link.connected,
        silent_seconds=plane.link.silent_seconds,
        heartbeat_timeout_seconds=policy.heartbeat_timeout_seconds,
        lease_seconds=policy.lease_seconds,
        before=plane.condition.state if plane.condition else None,
        synced=desired is not None and report is not None and is_held(report, desired),
        in_grace=snapshot.in_grace,
        frozen=frozen,
        witnesses=tuple(
            PeerView(plane=other.name, verdict=_verdict(snapshot, other, plane.name))
            for other in others
        ),
        witnesses_needed=min(policy.witnesses_min, len(others)),
    )


def _verdict(snapshot: Snapshot, witness: PlaneView, subject: str) -> PeerVerdict:
    """Return what a witness says of the subject; UNKNOWN when the witness itself is not heard."""
    link = witness.link
    fresh = link.connected and link.silent_seconds <= snapshot.policy.heartbeat_timeout_seconds
    if not fresh or link.report is None:
        return PeerVerdict.UNKNOWN
    views = {view.plane: view.verdict for view in link.report.peers}
    return views.get(subject, PeerVerdict.UNKNOWN)


def _is_lost(plane: PlaneView) -> bool:
    return plane.condition is not None and plane.condition.state is PlaneState.LOST
