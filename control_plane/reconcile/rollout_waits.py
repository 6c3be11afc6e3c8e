"""Whom a rollout waits for, and how it says so: what waits without a reason nobody can end. Pure.

What is said is stored with the rollout at each change, so it tells no figure that moves by itself.
"""

from collections.abc import Iterable
from dataclasses import replace
from datetime import timedelta

from control_plane.reconcile.rollout_facts import Facts, PlaneFacts
from skerry.fleet.observation import ReplicaState
from skerry.fleet.rollout import REASON_CHARACTERS_MAX, UNDER_WAY, Halt, Rollout, Stage

NAMES_SHOWN_MAX = 3


def with_reason(rollout: Rollout, facts: Facts) -> Rollout:
    """Return the rollout with why it waits; one that rests or is halted says so already."""
    if rollout.halt is not Halt.NONE or rollout.stage not in (*UNDER_WAY, Stage.FIRST):
        return rollout
    told = _why(rollout, facts)
    if rollout.fallen:
        told += f"; {', '.join(rollout.fallen)} went down with it, and another one would halt it"
    own = {*rollout.done, rollout.plane}
    away = [one for one in left_of(rollout, facts) if one.is_away and one.name not in own]
    if away and rollout.stage is not Stage.FIRST:
        told = f"{told}; {names_of(away)} will have its turn once it is heard"
    return replace(rollout, reason=told[:REASON_CHARACTERS_MAX])


def reached_by(rollout: Rollout) -> frozenset[str]:
    """Return the planes that were told the new revision, done with it or not."""
    aside = (plane for plane, revision in rollout.elsewhere if revision == rollout.revision)
    return frozenset({*rollout.done, rollout.plane, *aside}) - {""}


def left_of(rollout: Rollout, facts: Facts) -> list[PlaneFacts]:
    """Return the planes that are not done, heard or not; a lost one has nothing to do any more.

    One without a target only ends what it has, when all that is to hold replicas has them.
    """
    return [
        one
        for one in facts.planes
        if one.name not in rollout.done and one.target and (one.is_connected or one.is_away)
    ]


def short_of(rollout: Rollout, facts: Facts) -> list[PlaneFacts]:
    """Return the planes that are done and lack replicas by now, of those that are heard."""
    return [
        one
        for one in facts.planes
        if one.name in rollout.done
        and one.is_connected
        and one.ready(rollout.revision) < one.target
    ]


def names_of(planes: Iterable[PlaneFacts]) -> str:
    """Return the names of some planes, the first of many."""
    names = [one.name for one in planes]
    more = " and more" if len(names) > NAMES_SHOWN_MAX else ""
    return ", ".join(names[:NAMES_SHOWN_MAX]) + more


def _why(rollout: Rollout, facts: Facts) -> str:
    match rollout.stage:
        case Stage.SOAKING:
            ends = rollout.since + timedelta(seconds=facts.deployment.rollout.soak_seconds)
            return f"it is watched until {ends:%Y-%m-%d %H:%M:%S} UTC"
        case Stage.ROLLING:
            return _why_rolling(rollout, facts)
        case _:
            return _why_tried(rollout, facts)


def _why_tried(rollout: Rollout, facts: Facts) -> str:
    """Return what the first replica waits for."""
    plane = facts.plane(rollout.plane) if rollout.plane else None
    if plane is None:
        return "no plane that is heard is to hold a replica of it"
    if not plane.is_connected:
        return f"{plane.name} is {plane.state.value}"
    there = plane.of(rollout.revision)
    if not there:
        return _why_not_begun(plane, rollout, facts)
    if any(one.state in (ReplicaState.STARTING, ReplicaState.READY) for one in there):
        return f"it starts on {plane.name}"
    return f"it failed on {plane.name} and is to start there again"


def _why_not_begun(plane: PlaneFacts, rollout: Rollout, facts: Facts) -> str:
    """Return why nothing of the revision starts there, by what the plane said and shows."""
    lacking = _why_refused(plane) if plane.refused else _why_full(plane, rollout, facts)
    return (
        lacking
        or f"{plane.name} is to start it; `waits` in its agent.json says so if it cannot yet"
    )


def _why_full(plane: PlaneFacts, rollout: Rollout, facts: Facts) -> str:
    """Return what the plane lacks to start one more, empty where it has room or makes some."""
    moving = (ReplicaState.STARTING, ReplicaState.DRAINING)
    if not plane.settled or any(one.state in moving for one in plane.replicas):
        return ""
    known = facts.known.get(rollout.revision)
    for pool in (rollout.pool,) if rollout.pool else plane.targets:
        shape = known.shape_on(facts.kinds.get(pool, "")) if known is not None else None
        if shape is not None and plane.free.get(pool, 0) < shape.accelerators:
            return (
                f"{plane.name} has no room for it: a replica takes {shape.accelerators} of {pool},"
                " of which fewer are free; `waits` in its agent.json says whether one that serves"
                " may go"
            )
    return ""


def _why_refused(plane: PlaneFacts) -> str:
    return f"{plane.name} refuses what it is told: {plane.refused}"


def _why_rolling(rollout: Rollout, facts: Facts) -> str:
    if rollout.plane:
        plane = facts.plane(rollout.plane)
        if plane is not None and plane.is_connected and plane.refused:
            return _why_refused(plane)
        # Else the plane ends one that serves for it, which takes a moment.
        is_stuck = facts.deployment.rollout.max_unavailable == 0
        full = _why_full(plane, rollout, facts) if plane is not None and is_stuck else ""
        return full or f"{rollout.plane} replaces its replicas"
    if short := short_of(rollout, facts):
        if refused := next((one for one in short if one.refused), None):
            return f"others follow once {refused.name} has its replicas: {_why_refused(refused)}"
        return f"others follow once {names_of(short)} has all its replicas READY"
    if any(one.is_connected for one in left_of(rollout, facts)):
        return "the next plane follows"
    return "all planes that are heard are done"
