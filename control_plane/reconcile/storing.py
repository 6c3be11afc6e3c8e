"""Actions as writes of the store: one at a time, or many in one transaction. `loop.py` runs these.

A transaction is an fsync: 160 a second. A fleet of thousands that joins or is told something new
would wait minutes for its own.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import groupby, takewhile

from sqlalchemy.orm import Session

from control_plane.reconcile.actions import (
    Action,
    PushDesired,
    RaiseGeneration,
    RecordReport,
    RemoveDeployment,
    SetCondition,
)
from control_plane.store import deployments, desired, planes
from control_plane.store.desired import Telling
from control_plane.store.fencing import WriteContext
from control_plane.store.planes import Judged
from control_plane.store.values import Told
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version

Encode = Callable[[DesiredState], tuple[bytes, bytes]]
Pushed = tuple[str, Version, bytes]  # plane, version, payload: what is to be sent once it is stored

# Fewer are stored one by one, so that one that fails is told by itself.
FEW = 20
# Of one transaction; the store has one thread, and whoever reads waits for so many.
TOGETHER_MAX = 50
# How planes are judged is written in a few statements for all of them: a tenth of the time each.
JUDGED_TOGETHER_MAX = 300


def batches(actions: Sequence[Action]) -> Iterator[Sequence[Action]]:
    """Yield the actions in order, in pieces that are stored together."""
    if len(actions) <= FEW:
        yield from ((action,) for action in actions)
        return
    begin = 0
    while begin < len(actions):
        judged = _judged(actions[begin : begin + JUDGED_TOGETHER_MAX])
        size = max(len(judged), TOGETHER_MAX)
        yield actions[begin : begin + size]
        begin += size


def _judged(actions: Sequence[Action]) -> list[Judged]:
    """Return the judgements that the actions begin with."""
    first = takewhile(lambda action: isinstance(action, SetCondition), actions)
    return [
        Judged(plane=one.plane, condition=one.condition, before=one.before, verdict=one.verdict)
        for one in first
        if isinstance(one, SetCondition)
    ]


def store_together(
    session: Session, write: WriteContext, actions: Sequence[Action], encode: Encode
) -> list[Pushed]:
    """Store all of them or none; raises what the first that cannot be stored does."""
    judged = _judged(actions)
    if judged:
        planes.set_conditions(session, write, judged)
    pushed: list[Pushed] = []
    for is_push, some in groupby(actions[len(judged) :], lambda one: isinstance(one, PushDesired)):
        if is_push:
            pushed += _store_desired(session, write, some, encode)
        else:
            for action in some:
                store_action(session, write, action, encode)
    return pushed


def _store_desired(
    session: Session, write: WriteContext, actions: Iterable[Action], encode: Encode
) -> list[Pushed]:
    tellings = [_telling(action, encode) for action in actions if isinstance(action, PushDesired)]
    versions = desired.put_every_desired(session, write, tellings)
    return [
        (one.plane, version, one.told.payload)
        for one, version in zip(tellings, versions, strict=True)
    ]


def _telling(action: PushDesired, encode: Encode) -> Telling:
    state = action.desired
    payload, digest = encode(state)
    told = Told(payload=payload, digest=digest, envelopes=state.envelopes)
    return Telling(plane=state.plane, told=told, expected_generation=action.expected_generation)


def store_action(
    session: Session, write: WriteContext, action: Action, encode: Encode
) -> Pushed | None:
    """Store one action; return what is to be pushed then."""
    match action:
        case RecordReport(report=report):
            planes.record_report(session, write, report)
        case SetCondition(plane=plane, condition=condition, before=before, verdict=verdict):
            planes.set_condition(session, write, plane, condition, before, verdict)
        case PushDesired():
            (pushed,) = _store_desired(session, write, (action,), encode)
            return pushed
        case RaiseGeneration(plane=plane, at_least=at_least):
            desired.raise_generation(session, write, plane, at_least)
        case RemoveDeployment(deployment=name):
            deployments.remove_deployment(session, write, name)
    return None
