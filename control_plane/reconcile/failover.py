"""Is a plane lost? By its lease AND by its peers' view, with a brake on mass failover. Pure."""

from collections.abc import Collection, Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.reconcile.classify import Evidence, classify
from control_plane.reconcile.failback import with_return
from control_plane.reconcile.snapshot import PlaneView, Snapshot
from control_plane.reconcile.testimony import (
    PLANES_TOLD_MAX,
    Testimony,
    hear_witnesses,
    is_fresh,
    is_lost,
    silence_of,
    testify,
)
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import PlaneCondition, PlaneReport, PlaneState
from skerry.fleet.verdict import Verdict

NAMES_TOLD_MAX = 5  # of silent planes, in a sentence


@dataclass(frozen=True, slots=True, kw_only=True)
class Freeze:
    """How many planes are not lost, and which of them fell silent within one lease of each other.

    Where those are more than may be, `frozen`: the fault is taken to be our own.
    """

    counted: int
    silent: tuple[str, ...]
    frozen: bool

    def describe(self) -> str:
        """Return why moves are frozen, as people read it; empty when they are not."""
        if not self.frozen:
            return ""
        return (
            f"{len(self.silent)} of {self.counted} planes fell silent at once"
            f" ({_some(self.silent)}): taken as our own fault, nothing is moved until they are"
            " heard; `skerry failover plane/NAME` gives one up all the same"
        )


def judge(snapshot: Snapshot) -> dict[str, PlaneCondition]:
    """Return the condition of every plane, by name; `since` moves only when the state does."""
    usual = _usual(snapshot) if len(snapshot.planes) > PLANES_TOLD_MAX else {}
    judged = weigh(snapshot, but=usual) if len(usual) < len(snapshot.planes) else {}
    return {plane.name: usual.get(plane.name) or judged[plane.name][0] for plane in snapshot.planes}


def _usual(snapshot: Snapshot) -> dict[str, PlaneCondition]:
    """Return the conditions of those planes that are heard as they were: nothing of it is new."""
    return {
        plane.name: plane.condition
        for plane in snapshot.planes
        if plane.condition is not None
        and plane.condition.state is PlaneState.CONNECTED
        and plane.condition.returned_at is None
        and is_fresh(plane, snapshot)
    }


def weigh(
    snapshot: Snapshot, *, but: Collection[str] = ()
) -> dict[str, tuple[PlaneCondition, Verdict]]:
    """Return the condition of every plane with the evidence it rests on, by name, but for some."""
    freeze, testimony = freeze_of(snapshot), hear_witnesses(snapshot)
    weighed = {}
    for plane in snapshot.planes:
        if plane.name in but:
            continue
        evidence = gather(snapshot, plane, testimony, frozen=freeze.frozen)
        condition = _condition(snapshot, plane, evidence)
        weighed[plane.name] = (condition, _verdict(snapshot.now, condition, evidence, freeze))
    return weighed


def _condition(snapshot: Snapshot, plane: PlaneView, evidence: Evidence) -> PlaneCondition:
    rule = classify(evidence)
    before = plane.condition
    state = rule.state or (before.state if before else PlaneState.SUSPECT)
    unchanged = before is not None and before.state is state
    condition = PlaneCondition(
        state=state,
        since=before.since if unchanged and before else snapshot.now,
        # A state that is only kept keeps the reason it was reached by.
        reason=before.reason if rule.state is None and before else rule.reason,
        witnesses=evidence.witnesses,
        declared=unchanged and before is not None and before.declared,
    )
    return with_return(condition, plane, snapshot)


def _verdict(
    now: datetime, condition: PlaneCondition, evidence: Evidence, freeze: Freeze
) -> Verdict:
    return Verdict(
        judged_at=now,
        state=condition.state,
        before=evidence.before,
        reason=condition.reason,
        linked=evidence.connected,
        silent_seconds=round(evidence.silent_seconds, 3),
        lease_seconds=evidence.lease_seconds,
        witnesses=evidence.witnesses,
        witnesses_needed=evidence.witnesses_needed,
        grace=evidence.in_grace,
        frozen=evidence.frozen,
        planes_counted=freeze.counted,
        planes_silent=len(freeze.silent),
        declared=condition.declared,
    )


def is_frozen(snapshot: Snapshot) -> bool:
    """Say whether so many planes fell silent at once that the fault must be our own."""
    return freeze_of(snapshot).frozen


def freeze_of(snapshot: Snapshot) -> Freeze:
    """Return which planes fell silent within one lease of each other, and whether that freezes.

    Those that were silent before count for neither side: over days, planes come and go.
    """
    policy = snapshot.policy
    counted = [plane for plane in snapshot.planes if not is_lost(plane)]
    silent = [
        (_silence(plane, snapshot), plane.name)
        for plane in counted
        if not plane.link.connected or plane.link.silent_seconds > policy.heartbeat_timeout_seconds
    ]
    group = _largest_group(silent, policy.lease_seconds)
    able = len(counted) - len(silent) + len(group)
    return Freeze(
        counted=able,
        silent=tuple(sorted(group)),
        frozen=len(group) > able * policy.silent_share_max,
    )


def _largest_group(moments: Iterable[tuple[float, str]], within: float) -> tuple[str, ...]:
    """Return the names of the most moments that lie within so many seconds, the newest of such."""
    ordered: Sequence[tuple[float, str]] = sorted(moments)
    group: Sequence[tuple[float, str]] = ()
    first = 0
    for last, (seconds, _) in enumerate(ordered):
        while seconds - ordered[first][0] > within:
            first += 1
        if last + 1 - first > len(group):
            group = ordered[first : last + 1]
    return tuple(name for _, name in group)


def _silence(plane: PlaneView, snapshot: Snapshot) -> float:
    """Return for how long a plane has been silent, also before a start of ours."""
    condition = plane.condition
    if plane.link.report is not None or plane.heard_at is not None:
        return silence_of(plane, snapshot.now)
    # Nothing is stored of when it was heard last, but since when it was judged silent; that is by
    # the clock of whoever led then.
    if condition is None or condition.state not in (PlaneState.SUSPECT, PlaneState.DISCONNECTED):
        return plane.link.silent_seconds
    return max(plane.link.silent_seconds, (snapshot.now - condition.since).total_seconds())


def _some(names: tuple[str, ...]) -> str:
    more = f" and {len(names) - NAMES_TOLD_MAX} more" if len(names) > NAMES_TOLD_MAX else ""
    return ", ".join(names[:NAMES_TOLD_MAX]) + more


def is_held(report: PlaneReport, desired: DesiredState) -> bool:
    """Say whether the plane holds that state; a later leader pushes it under its own epoch."""
    return report.held.generation == desired.version.generation


def gather(snapshot: Snapshot, plane: PlaneView, testimony: Testimony, *, frozen: bool) -> Evidence:
    """Return the evidence about one plane."""
    policy = snapshot.policy
    is_told = len(snapshot.planes) <= PLANES_TOLD_MAX or not is_fresh(plane, snapshot)
    others = len(testimony.asked) - (not is_lost(plane))
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
        witnesses=testify(testimony, plane, snapshot) if is_told else (),
        witnesses_needed=min(policy.witnesses_min, others),
        peer_reachable=plane.is_peer_reachable,
    )
