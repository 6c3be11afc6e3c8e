"""Planes that go down with a revision: a second one halts its rollout for an operator. Pure.

One that ends a plane as a whole is seen by no gate that asks for replicas: nobody there tells of
them any more. It would go on from plane to plane, each lost and the next one tried.
"""

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta

from control_plane.reconcile.rollout_facts import Facts, PlaneFacts
from skerry.fleet.observation import PlaneState
from skerry.fleet.rollout import FALLEN_MAX, REASON_CHARACTERS_MAX, Halt, Rollout, Stage

# What no witness sees serve and is silent for longer did not only start its agent anew.
SILENT_SECONDS = 10.0
# A plane that goes down at the end of its soak is judged lost within so many seconds: 20 are
# promised, and before that it may be taken for one that lost its link.
JUDGED_SECONDS = 30.0
NAMES_SHOWN_MAX = 3


def with_falls(before: Rollout, facts: Facts) -> Rollout:
    """Return the rollout with which planes went down under it, and since when its own is away.

    Those that are silent count for as long as they are, those that were lost for ever. Where they
    are too many, all of them are named.
    """
    under_way = facts.plane(before.plane)
    is_away = under_way is not None and not under_way.is_connected
    away_at = (before.away_at or facts.now) if is_away else None
    now = replace(before, away_at=away_at)
    down = [one for one in _in_soak(now, facts) if one.name not in now.fallen]
    lost = {one.name for one in down if one.state is PlaneState.LOST}
    silent = {one.name for one in down if _is_silent(one, now, facts)}
    fallen = {*now.fallen, *lost}
    if len(fallen | silent) >= FALLEN_MAX:
        fallen |= silent
    return replace(now, fallen=tuple(sorted(fallen)))


def with_received(before: Rollout, facts: Facts) -> Rollout:
    """Return the rollout with its plane under way, if it has one, done; its soak begins."""
    if not before.plane:
        return before
    received = [(name, at) for name, at in before.received if not _is_soaked(at, facts)]
    return replace(
        before,
        plane="",
        done=tuple(sorted({*before.done, before.plane})),
        received=(*received, (before.plane, facts.now)),
    )


def with_given_up(before: Rollout, facts: Facts) -> Rollout:
    """Return the rollout knowing that its plane is given up, if that one is silent.

    It has no soak in which it would go on counting: only a first revision is given up so.
    """
    plane = facts.plane(before.plane)
    if plane is None or not _is_silent(plane, before, facts):
        return before
    return replace(before, fallen=tuple(sorted({*before.fallen, plane.name})))


def silent_in_soak(rollout: Rollout, facts: Facts, seconds_max: float) -> list[PlaneFacts]:
    """Return the planes done in their soak that nobody hears or sees serve, for at most so long."""
    return [
        one
        for one in _in_soak(rollout, facts)
        if one.name in rollout.done
        and one.state is PlaneState.SUSPECT
        and facts.now - min(one.since, facts.now) <= timedelta(seconds=seconds_max)
    ]


def fell(before: Rollout) -> Rollout:
    """Return the rollout halted for the planes that went down; those are told it no more.

    What comes back of them runs the revision before, where there is one: it may be the new one that
    ends it each time.
    """
    fallen = frozenset(before.fallen)
    names = " and ".join(before.fallen[:NAMES_SHOWN_MAX])
    name, number = before.deployment, before.revision
    if before.stage is Stage.FIRST:
        remedy = "apply a revision that works"
    else:
        remedy = f"`skerry rollout undo {name}` goes back to revision {before.stable} everywhere"
    reason = (
        f"{names} went down with revision {number} under way there or in its soak, so no other"
        f" plane gets it: {remedy}, `skerry rollout resume {name}` goes on all the same"
    )
    is_down = before.plane in fallen
    return replace(
        before,
        halt=Halt.FAILURE,
        reason=reason[:REASON_CHARACTERS_MAX],
        plane="" if is_down else before.plane,
        pool="" if is_down else before.pool,
        started_at=None if is_down else before.started_at,
        pid=0 if is_down else before.pid,
        away_at=None,
        done=tuple(one for one in before.done if one not in fallen),
        elsewhere=tuple(one for one in before.elsewhere if one[0] not in fallen),
        received=tuple(one for one in before.received if one[0] not in fallen),
    )


def _in_soak(rollout: Rollout, facts: Facts) -> Iterator[PlaneFacts]:
    """Yield the planes that were told the revision and did not serve it for its soak yet.

    Those among them that were put aside when they fell silent, too.
    """
    received = dict(rollout.received)
    aside = {plane for plane, revision in rollout.elsewhere if revision == rollout.revision}
    for one in facts.planes:
        if one.name == rollout.plane or one.name in aside:
            yield one
        elif one.name in received and not one.is_connected:
            until = received[one.name] + timedelta(seconds=_soak_seconds(facts) + JUDGED_SECONDS)
            if min(one.since, facts.now) <= until:
                yield one


def _is_silent(plane: PlaneFacts, rollout: Rollout, facts: Facts) -> bool:
    """Say whether nobody hears it or sees it serve, for longer than an agent takes to start."""
    if plane.state is not PlaneState.SUSPECT or facts.silence_is_ours:
        return False
    since = min(plane.since, facts.now)
    if plane.name == rollout.plane and rollout.away_at is not None:
        since = min(since, rollout.away_at)
    return facts.now - since >= timedelta(seconds=SILENT_SECONDS)


def _is_soaked(at: datetime, facts: Facts) -> bool:
    seconds = _soak_seconds(facts) + JUDGED_SECONDS
    return facts.now - at > timedelta(seconds=seconds)


def _soak_seconds(facts: Facts) -> float:
    return facts.deployment.rollout.soak_seconds
