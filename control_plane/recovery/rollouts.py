"""How far each rollout is, as planes hold it: a database that forgot would begin it anew. Pure.

One that is under way is taken in paused: planes keep just what they run until somebody has looked.
"""

from collections import Counter
from collections.abc import Mapping
from datetime import datetime

from control_plane.recovery.assess import Told, Truth
from skerry.fleet.desired import Assignment
from skerry.fleet.rollout import Halt, Rollout, Stage

REASON = "under way when the database was recovered; `skerry rollout resume` goes on with it"


def rollout_of(truth: Truth, told: Mapping[str, Told], now: datetime) -> Rollout:
    """Return the rollout of a deployment's newest revision as its planes were told of it."""
    name, newest = truth.deployment.name, truth.deployment.revision.number
    held = {plane: one for plane in truth.holders if (one := _held(told[plane], name)) is not None}
    base = {plane: one.deployment.revision.number for plane, one in held.items()}
    older = Counter(number for number in base.values() if number != newest)
    if not older:
        return Rollout(
            deployment=name, revision=newest, stable=newest, stage=Stage.COMPLETE, since=now
        )
    stable = older.most_common(1)[0][0]
    plane, replicas = _candidates(held, newest)
    done = tuple(sorted(one for one, number in base.items() if number == newest))
    is_canary = bool(plane) and not done
    return Rollout(
        deployment=name,
        revision=newest,
        stable=stable,
        stage=Stage.CANARY if is_canary else Stage.ROLLING,
        since=now,
        halt=Halt.OPERATOR,
        reason=REASON,
        plane=plane,
        pool=replicas[0][0] if replicas else "",
        done=done,
        elsewhere=tuple(
            sorted((one, number) for one, number in base.items() if number not in (newest, stable))
        ),
        released=bool(plane) and not is_canary,
        kept=() if is_canary else replicas,
    )


def _held(told: Told, deployment: str) -> Assignment | None:
    """Return what a plane was told of a deployment that it may run something of."""
    for assignment in told.state.assignments if told.state else ():
        if assignment.deployment.name == deployment and any(
            envelope.ceiling for envelope in assignment.envelopes
        ):
            return assignment
    return None


def _candidates(
    held: Mapping[str, Assignment], newest: int
) -> tuple[str, tuple[tuple[str, int], ...]]:
    """Return the plane that runs some of the newest revision beside another, and how many."""
    for plane, assignment in sorted(held.items()):
        candidate = assignment.candidate
        if candidate is not None and candidate.revision.number == newest:
            return plane, candidate.replicas
    return "", ()
