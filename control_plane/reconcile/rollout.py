"""How a new revision goes on: one replica of one plane, then plane by plane, or back. Pure.

`loop` calls `plan_rollouts` before it tells planes anything, and stores what changed; `shares` then
says what each plane may run. Nothing here reads time.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.reconcile.rollout_facts import Conditions, Facts, PlaneFacts, facts_of
from control_plane.reconcile.rollout_falls import (
    fell,
    silent_in_soak,
    with_falls,
    with_given_up,
    with_received,
)
from control_plane.reconcile.rollout_waits import (
    left_of,
    names_of,
    reached_by,
    short_of,
    with_reason,
)
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.observation import PlaneState, ReplicaState
from skerry.fleet.rollout import (
    REASON_CHARACTERS_MAX,
    UNDER_WAY,
    Halt,
    OnFailure,
    Rollout,
    Stage,
    resumed,
    rolled_back,
)

# A start may fail once for a reason that passes (a port, a disk); twice in a row is the revision's.
FAILURES_MAX = 2
# Of a revision that was rolled out: what fails three times in a row while nothing of it is READY
# anywhere crash-loops, and would elsewhere too.
CRASH_LOOP_FAILURES = 3
# So long something must serve before a broken revision is taken for mended.
MENDED_SECONDS = 30.0
# A deployment's first replica holds up the others for at most so long while it loads without a
# fault: large base models take many minutes, and most that can't run end within seconds.
FIRST_SECONDS_MAX = 120.0
# A plane under way that falls silent may have done so by what it was told: the others wait until it
# is judged, which takes a lease. Neither lost nor heard by then it is out of our sight alone.
AWAY_SECONDS_MAX = 120.0
# Within which a replica is to be READY, unless said: three times the longest start measured, and
# time for a base model that has to be fetched first.
READY_SECONDS_MIN = 600.0
READY_FACTOR = 3.0


def plan_rollouts(snapshot: Snapshot, conditions: Conditions) -> tuple[Rollout, ...]:
    """Return the rollouts that are to be stored: those that began, went on or ended."""
    held = {one.deployment: one for one in snapshot.rollouts}
    changed = []
    for facts in facts_of(snapshot, conditions):
        before = held.get(facts.deployment.name)
        after = next_rollout(before, facts)
        if after != before:
            changed.append(after)
    return tuple(changed)


def next_rollout(before: Rollout | None, facts: Facts) -> Rollout:
    """Return the rollout after one look; the same value while it has to wait, which it says why."""
    return with_reason(_next(_not_ahead(before, facts.now), facts), facts)


def _not_ahead(before: Rollout | None, now: datetime) -> Rollout | None:
    """Return the rollout with moments that are still to come taken for this one.

    A clock was set back, or the leader's that stored them was ahead of ours: without this a soak
    of a minute lasted for as long as the clocks differ.
    """
    if before is None:
        return None
    since = before.since and min(before.since, now)
    started_at = before.started_at and min(before.started_at, now)
    away_at = before.away_at and min(before.away_at, now)
    received = tuple((plane, min(at, now)) for plane, at in before.received)
    return replace(before, since=since, started_at=started_at, away_at=away_at, received=received)


def _next(before: Rollout | None, facts: Facts) -> Rollout:
    if before is None:
        return _begun(facts)
    if before.revision != facts.asked:
        return _superseded(before, facts)
    if before.stage is Stage.COMPLETE:
        return _watched(before, facts)
    if before.stage is Stage.ROLLED_BACK or before.halt is Halt.OPERATOR:
        return before
    if before.halt is Halt.FAILURE and (before.fells_planes or before.stage is not Stage.FIRST):
        return before
    before = with_falls(before, facts)
    if before.fells_planes:
        return fell(before if before.stage is Stage.FIRST else _released(before, facts))
    if before.stage is Stage.FIRST:
        return _first(before, facts)
    if failing := _failing(before, facts):
        return _failed(before, facts, f"its replicas fail on {failing.name}", failing)
    if away := _held_up(before, facts):
        return _held(before, facts, away)
    if before.halt is Halt.AWAY:
        return replace(resumed(before, facts.now), away_at=before.away_at)
    return _STEPS[before.stage](before, facts)


def _begun(facts: Facts) -> Rollout:
    name, asked, now = facts.deployment.name, facts.asked, facts.now
    told = Counter(one.told for one in facts.planes if one.told)
    # Told nothing by this store: what is READY is adopted, as after a start without a database.
    running = told or Counter(
        one.revision
        for plane in facts.planes
        for one in plane.replicas
        if one.state is ReplicaState.READY
    )
    if not running:
        return Rollout(deployment=name, revision=asked, stage=Stage.FIRST, since=now)
    stable = asked if asked in running else running.most_common(1)[0][0]
    if stable == asked or stable not in facts.known:
        return Rollout(
            deployment=name, revision=asked, stable=asked, stage=Stage.COMPLETE, since=now
        )
    return Rollout(deployment=name, revision=asked, stable=stable, stage=Stage.CANARY, since=now)


def _superseded(before: Rollout, facts: Facts) -> Rollout:
    """Return the rollout of a newer revision; what an older one reached stays until its turn."""
    asked = facts.asked
    fresh = replace(
        before,
        revision=asked,
        since=facts.now,
        halt=Halt.NONE,
        reason="",
        plane="",
        pool="",
        beside=True,
        started_at=None,
        pid=0,
        done=(),
        elsewhere=(),
        released=False,
        kept=(),
        broken=tuple(one for one in before.broken if one != asked),
        away_at=None,
        received=(),
        fallen=(),
    )
    if before.stage is Stage.FIRST:
        return replace(fresh, stage=Stage.FIRST)
    serving = before.revision if before.stage is Stage.COMPLETE else before.stable
    if asked == serving or serving not in facts.known:
        return replace(fresh, stable=asked, stage=Stage.COMPLETE)
    reached = dict(before.elsewhere)
    if before.stage in UNDER_WAY:
        whole = {before.plane} if before.stage is Stage.ROLLING and before.plane else set()
        reached |= dict.fromkeys({*before.done, *whole}, before.revision)
    elsewhere = tuple(sorted((plane, n) for plane, n in reached.items() if n != asked))
    return replace(fresh, stable=serving, stage=Stage.CANARY, elsewhere=elsewhere)


def _watched(before: Rollout, facts: Facts) -> Rollout:
    """Return a finished rollout marked broken, or mended, by what its replicas do now."""
    revision, serves = before.revision, facts.ready(before.revision) > 0
    if before.halt is Halt.NONE:
        looping = [
            one
            for one in facts.planes
            if one.is_connected and one.failures(revision) >= CRASH_LOOP_FAILURES
        ]
        if not looping or serves:
            return before
        reason = (
            f"revision {revision} crash-loops on {names_of(looping)} and is READY nowhere;"
            f" it is started nowhere else{_said(looping[0], revision)}"
        )
        return replace(before, halt=Halt.FAILURE, reason=_cut(reason), started_at=None)
    if not serves:
        return replace(before, started_at=None)
    if before.started_at is None:
        return replace(before, started_at=facts.now)
    if facts.now - before.started_at < timedelta(seconds=MENDED_SECONDS):
        return before
    return replace(before, halt=Halt.NONE, reason="it serves again", started_at=None)


def _first(before: Rollout, facts: Facts) -> Rollout:
    revision, now = before.revision, facts.now
    if facts.ready(revision):
        return _complete(before, facts, "")
    plane = facts.plane(before.plane)
    if plane is None or not plane.targets.get(before.pool) or _is_given_up(plane, before, now):
        left = with_given_up(before, facts)
        if left.fells_planes:
            return fell(left)
        chosen = _choose(left, facts)
        if chosen is None or (chosen.plane, chosen.pool) == (before.plane, before.pool):
            return before
        return replace(chosen, halt=Halt.NONE, reason="", started_at=now)
    if plane.failures(revision) >= FAILURES_MAX:
        if before.halt is Halt.FAILURE:
            return before
        reason = f"its first replica fails on {plane.name}{_said(plane, revision)}"
        return replace(before, halt=Halt.FAILURE, reason=_cut(reason))
    loading = plane.of(revision, ReplicaState.STARTING)
    if loading and before.halt is Halt.NONE and _is_over(before.started_at, FIRST_SECONDS_MAX, now):
        told = f"its first replica loads since {FIRST_SECONDS_MAX:g} s without a fault"
        return _complete(before, facts, told)
    return before


def _is_given_up(plane: PlaneFacts, before: Rollout, now: datetime) -> bool:
    if plane.is_connected:
        return False
    return plane.state is PlaneState.LOST or _is_over(before.started_at, FIRST_SECONDS_MAX, now)


def _canary(before: Rollout, facts: Facts) -> Rollout:
    revision, now = before.revision, facts.now
    plane = facts.plane(before.plane)
    if plane is None or _is_gone(plane, before.pool):
        chosen = _choose(before, facts)
        if chosen is not None:
            return replace(chosen, started_at=None)
        # Nothing is seen of a plane that is lost, but it may come back with what it was told.
        if any(one.replicas or one.is_away or _may_return(one) for one in facts.planes):
            return replace(before, plane="", pool="", started_at=None)
        return _complete(before, facts, "nothing of it runs, so there was nothing to try it on")
    if plane.ready(revision):
        pid = next(one.engine_pid for one in plane.of(revision, ReplicaState.READY))
        return replace(before, stage=Stage.SOAKING, since=now, pid=pid, reason="")
    if plane.failures(revision) >= FAILURES_MAX:
        return _failed(before, facts, f"its first replica fails on {plane.name}", plane)
    if before.started_at is None and plane.of(revision):
        return replace(before, started_at=now)
    bound = ready_seconds(facts)
    if plane.of(revision) and _is_over(before.started_at, bound, now):
        told = f"its first replica was not READY on {plane.name} within {bound:.0f} s"
        return _failed(before, facts, told, plane)
    return before


def _soaking(before: Rollout, facts: Facts) -> Rollout:
    revision, now = before.revision, facts.now
    plane = facts.plane(before.plane)
    serving = plane.of(revision, ReplicaState.READY) if plane is not None else ()
    if plane is None or _is_gone(plane, before.pool):  # tried elsewhere
        return replace(before, stage=Stage.CANARY, since=now, plane="", pool="", started_at=None)
    if not serving:
        told = f"its first replica on {plane.name} was READY and is not any more"
        return _failed(before, facts, told, plane)
    if before.pid and before.pid not in {one.engine_pid for one in serving}:
        told = f"the engine of its first replica on {plane.name} was restarted while it soaked"
        return _failed(before, facts, told, plane)
    if not _is_over(before.since, facts.deployment.rollout.soak_seconds, now):
        return before
    return replace(before, stage=Stage.ROLLING, since=now, started_at=None, pid=0)


def _may_return(plane: PlaneFacts) -> bool:
    return plane.state is PlaneState.LOST and plane.told > 0


def _is_gone(plane: PlaneFacts, pool: str) -> bool:
    """Say whether nothing is to run there any more: it is lost, or was moved away."""
    return plane.state is PlaneState.LOST or not plane.targets.get(pool)


def _rolling(before: Rollout, facts: Facts) -> Rollout:
    revision, now = before.revision, facts.now
    under_way = facts.plane(before.plane) if before.plane else None
    if under_way is not None and not under_way.is_connected:
        # Neither done nor told to go back: it keeps what it was told, until it has its turn again.
        return _put_aside(before)
    if under_way is not None and not under_way.is_whole(revision):
        bound = ready_seconds(facts) * max(1, under_way.target)
        starting = under_way.of(revision, ReplicaState.STARTING)
        if starting and _is_over(before.since, bound, now):
            told = f"{under_way.name} was not at it within {bound:.0f} s"
            return _failed(before, facts, told, under_way)
        return before
    at_it = with_received(before, facts)
    if short_of(at_it, facts):
        return at_it
    left = [one for one in left_of(at_it, facts) if one.is_connected]
    if not left:
        return at_it if left_of(at_it, facts) else _complete(at_it, facts, "")
    # The plane with the fewest replicas first: what comes later was tried by more.
    following = min(left, key=lambda one: (one.target, one.name))
    beside = all(_fits_beside(before, facts, following, pool) for pool in following.targets)
    # One that had been put aside at the new revision has its turn now.
    elsewhere = tuple(one for one in before.elsewhere if one != (following.name, revision))
    return replace(
        at_it, plane=following.name, pool="", since=now, beside=beside, elsewhere=elsewhere
    )


def _put_aside(before: Rollout) -> Rollout:
    elsewhere = dict(before.elsewhere) | {before.plane: before.revision}
    return replace(before, plane="", pool="", elsewhere=tuple(sorted(elsewhere.items())))


_STEPS: Mapping[Stage, Callable[[Rollout, Facts], Rollout]] = {
    Stage.CANARY: _canary,
    Stage.SOAKING: _soaking,
    Stage.ROLLING: _rolling,
}


def _choose(before: Rollout, facts: Facts) -> Rollout | None:
    """Return the rollout with the plane and pool of its first replica; None where there is none.

    Where a replica fits beside those that serve, on the plane that loses the smallest part of its
    service if that one is harmed: the one with the most READY replicas. One that cannot run two
    revisions is taken last; its replicas are replaced one by one.
    """
    revision = facts.known[before.revision]
    places = []
    for plane in facts.planes:
        for pool, target in plane.targets.items():
            shape = revision.shape_on(facts.kinds.get(pool, ""))
            if not target or shape is None or not plane.is_connected:
                continue
            beside = _fits_beside(before, facts, plane, pool)
            has_room = plane.free.get(pool, 0) >= shape.accelerators
            rank = (not beside, not has_room, -plane.ready(), -target, plane.name, pool)
            places.append((rank, plane.name, pool, beside))
    if not places:
        return None
    _, plane_name, pool, beside = min(places)
    return replace(before, plane=plane_name, pool=pool, beside=beside, away_at=None)


def _fits_beside(before: Rollout, facts: Facts, plane: PlaneFacts, pool: str) -> bool:
    """Say whether the plane can run both revisions on the pool, under one served name."""
    names = {
        known.base_model.served_name
        for known in (facts.known.get(before.revision), facts.known.get(before.stable))
        if known is not None
    }
    return plane.understands and len(names) == 1 and facts.runs_on(before.stable, pool)


def ready_seconds(facts: Facts) -> float:
    """Return within how many seconds a replica of the new revision is to be READY."""
    if said := facts.deployment.rollout.ready_seconds_max:
        return said
    measured = (one.start_seconds for plane in facts.planes for one in plane.replicas)
    return max(READY_SECONDS_MIN, READY_FACTOR * max(measured, default=0.0))


def _failing(before: Rollout, facts: Facts) -> PlaneFacts | None:
    """Return a plane in reach that the new revision fails on; that of others is no excuse."""
    reached = reached_by(before)
    for plane in facts.planes:
        is_reached = plane.name in reached and plane.is_connected
        if is_reached and plane.failures(before.revision) >= FAILURES_MAX:
            return plane
    return None


def _held_up(before: Rollout, facts: Facts) -> str:
    """Return which planes hold the rollout up, empty when none does.

    The one under way, while it is not known what became of it; so is one that just came to be done,
    where nobody sees it serve. And a lost one until what it held serves elsewhere; then it is
    waited for no more. The plane under way is short of replicas by the rollout itself, and where
    nothing serves the new revision may be what mends it. Others that are away keep what they run,
    and have their turn once they are heard.
    """
    under_way = facts.plane(before.plane) if before.plane else None
    if under_way is not None and under_way.is_away:
        is_tried = before.stage in (Stage.CANARY, Stage.SOAKING)
        is_there = bool(under_way.targets.get(before.pool)) if is_tried else True
        # What one replica is tried by is waited for: tried elsewhere it might harm another plane.
        is_late = not is_tried and _is_over(before.away_at, AWAY_SECONDS_MAX, facts.now)
        if is_there and not is_late:
            return f"{under_way.name}, which is under way, is {under_way.state.value}"
    if silent := silent_in_soak(before, facts, AWAY_SECONDS_MAX):
        return f"{names_of(silent)} fell silent with it in its soak, and is judged first"
    lost = [one for one in facts.planes if one.state is PlaneState.LOST and one.target]
    others = [one for one in facts.planes if one.is_connected and one.name != before.plane]
    serves = any(one.ready(before.stable) for one in facts.planes if one.is_connected)
    if lost and serves and any(one.ready() < one.target for one in others):
        return f"what was on {names_of(lost)} is replaced first"
    return ""


def _held(before: Rollout, facts: Facts, away: str) -> Rollout:
    """Return the rollout halted, with its places given back."""
    reason = _cut(away)
    if before.halt is Halt.AWAY:
        return replace(before, reason=reason)
    return replace(_released(before, facts), halt=Halt.AWAY, reason=reason)


def _released(before: Rollout, facts: Facts) -> Rollout:
    """Return the rollout in which what is READY stays, and what only starts gives its place back.

    Where that cannot be told, or the plane knows no two revisions, it keeps what it was told.
    """
    plane = facts.plane(before.plane)
    if plane is None or not plane.is_connected or not before.beside:
        return before
    kept = Counter(one.pool for one in plane.of(before.revision, ReplicaState.READY))
    return replace(before, released=True, kept=tuple(sorted(kept.items())))


def _failed(before: Rollout, facts: Facts, told: str, plane: PlaneFacts) -> Rollout:
    reason = _cut(f"{told}{_said(plane, before.revision)}")
    if facts.deployment.rollout.on_failure is OnFailure.PAUSE:
        # The plane starts a candidate no more that it was told of all the time; told of it anew,
        # once the rollout is resumed, it does.
        return replace(_released(before, facts), halt=Halt.FAILURE, reason=reason)
    return rolled_back(before, reason, facts.now)


def _complete(before: Rollout, facts: Facts, reason: str) -> Rollout:
    return replace(
        before,
        stable=before.revision,
        stage=Stage.COMPLETE,
        halt=Halt.NONE,
        since=facts.now,
        reason=reason,
        plane="",
        pool="",
        started_at=None,
        pid=0,
        elsewhere=(),
        released=False,
        kept=(),
        away_at=None,
        received=(),
        fallen=(),
    )


def _said(plane: PlaneFacts, revision: int) -> str:
    fault = plane.fault(revision)
    return f": {fault}" if fault else ""


def _cut(text: str) -> str:
    return text[:REASON_CHARACTERS_MAX]


def _is_over(since: datetime | None, seconds: float, now: datetime) -> bool:
    return since is not None and now - since >= timedelta(seconds=seconds)
