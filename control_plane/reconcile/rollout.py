"""How a new revision goes on: one replica of one plane, then plane by plane, or back. Pure.

`loop` calls `plan_rollouts` before it tells planes anything, and stores what changed; `shares` then
says what each plane may run. Nothing here reads time.
"""

from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.reconcile.rollout_facts import Conditions, Facts, PlaneFacts, facts_of
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
    """Return the rollout after one look; the same value while it has to wait."""
    if before is None:
        return _begun(facts)
    if before.revision != facts.asked:
        return _superseded(before, facts)
    if before.stage is Stage.COMPLETE:
        return _watched(before, facts)
    if before.stage is Stage.ROLLED_BACK or before.halt is Halt.OPERATOR:
        return before
    if before.stage is Stage.FIRST:
        return _first(before, facts)
    if before.halt is Halt.FAILURE:
        return before
    if failing := _failing(before, facts):
        return _failed(before, facts, f"its replicas fail on {failing.name}", failing)
    if away := _who_is_away(before, facts):
        return _held(before, facts, away)
    if before.halt is Halt.AWAY:
        return resumed(before, facts.now)
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
            f"revision {revision} crash-loops on {_names(looping)} and is READY nowhere;"
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
        chosen = _choose(before, facts)
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
    if plane is None or not plane.targets.get(before.pool):
        chosen = _choose(before, facts)
        if chosen is not None:
            return replace(chosen, started_at=None)
        if any(one.replicas for one in facts.planes):
            return before
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
    if plane is None or not plane.targets.get(before.pool):  # moved away: tried elsewhere
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


def _rolling(before: Rollout, facts: Facts) -> Rollout:
    revision, now = before.revision, facts.now
    reached = [one for one in facts.planes if one.name in {*before.done, before.plane}]
    for plane in reached:
        if plane.failures(revision) >= FAILURES_MAX:
            return _failed(before, facts, f"its replicas fail on {plane.name}", plane)
    under_way = facts.plane(before.plane) if before.plane else None
    if under_way is not None and not under_way.is_whole(revision):
        bound = ready_seconds(facts) * max(1, under_way.target)
        starting = under_way.of(revision, ReplicaState.STARTING)
        if starting and _is_over(before.since, bound, now):
            told = f"{under_way.name} was not at it within {bound:.0f} s"
            return _failed(before, facts, told, under_way)
        return before
    done = tuple(sorted({*before.done, before.plane} - {""}))
    short = [
        one for one in reached if one.name != before.plane and one.ready(revision) < one.target
    ]
    # One without a target only ends what it has, when all that is to hold replicas has them.
    left = [one for one in facts.planes if one.name not in done and one.is_connected and one.target]
    if short or not left:
        if not left and not short:
            return _complete(replace(before, done=done), facts, "")
        return replace(before, done=done, plane="")
    # The plane with the fewest replicas first: what comes later was tried by more.
    following = min(left, key=lambda one: (one.target, one.name))
    beside = all(_fits_beside(before, facts, following, pool) for pool in following.targets)
    return replace(before, done=done, plane=following.name, pool="", since=now, beside=beside)


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
    return replace(before, plane=plane_name, pool=pool, beside=beside)


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
    for plane in facts.planes:
        is_reached = plane.name in {*before.done, before.plane}
        if is_reached and plane.is_connected and plane.failures(before.revision) >= FAILURES_MAX:
            return plane
    return None


def _who_is_away(before: Rollout, facts: Facts) -> str:
    """Return which planes are away, empty when none is: a rollout waits until they are back.

    What a lost one held may be placed elsewhere; once that serves, it is waited for no more. The
    plane under way is short of replicas by the rollout itself, and where nothing serves the new
    revision may be what mends it.
    """
    silent = [
        one for one in facts.planes if not one.is_connected and one.state is not PlaneState.LOST
    ]
    lost = [one for one in facts.planes if one.state is PlaneState.LOST and one.target]
    others = [one for one in facts.planes if one.is_connected and one.name != before.plane]
    serves = any(one.ready(before.stable) for one in facts.planes if one.is_connected)
    replacing = serves and any(one.ready() < one.target for one in others)
    away = [*silent, *(lost if replacing else ())]
    if not away:
        return ""
    return ", ".join(f"{one.name} is {one.state.value}" for one in away)


def _held(before: Rollout, facts: Facts, away: str) -> Rollout:
    """Return the rollout halted: what is READY stays, what only starts gives its place back."""
    reason = _cut(away)
    if before.halt is Halt.AWAY:
        return replace(before, reason=reason)
    plane = facts.plane(before.plane)
    if plane is None or not plane.is_connected or not before.beside:
        return replace(before, halt=Halt.AWAY, reason=reason)  # nobody can say what it has
    kept = Counter(one.pool for one in plane.of(before.revision, ReplicaState.READY))
    return replace(
        before, halt=Halt.AWAY, reason=reason, released=True, kept=tuple(sorted(kept.items()))
    )


def _failed(before: Rollout, facts: Facts, told: str, plane: PlaneFacts) -> Rollout:
    reason = _cut(f"{told}{_said(plane, before.revision)}")
    if facts.deployment.rollout.on_failure is OnFailure.PAUSE:
        return replace(before, halt=Halt.FAILURE, reason=reason)
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
    )


def _said(plane: PlaneFacts, revision: int) -> str:
    fault = plane.fault(revision)
    return f": {fault}" if fault else ""


def _names(planes: list[PlaneFacts]) -> str:
    return ", ".join(one.name for one in planes[:3]) + (" and more" if len(planes) > 3 else "")


def _cut(text: str) -> str:
    return text[:REASON_CHARACTERS_MAX]


def _is_over(since: datetime | None, seconds: float, now: datetime) -> bool:
    return since is not None and now - since >= timedelta(seconds=seconds)
