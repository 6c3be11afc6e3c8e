"""Actions as writes of the store: one at a time, or many in one transaction. `loop.py` runs these.

A transaction is an fsync: 160 a second. A fleet of thousands that joins or is told something new
would wait minutes for its own.
"""

from collections.abc import Callable, Iterator, Sequence

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
from control_plane.store.fencing import WriteContext
from control_plane.store.values import Told
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version

Encode = Callable[[DesiredState], tuple[bytes, bytes]]
Pushed = tuple[str, Version, bytes]  # plane, version, payload: what is to be sent once it is stored

# Fewer are stored one by one, so that one that fails is told by itself.
FEW = 20
# Of one transaction; the store has one thread, and whoever reads waits for so many.
TOGETHER_MAX = 50


def batches(actions: Sequence[Action]) -> Iterator[Sequence[Action]]:
    """Yield the actions in order, in pieces that are stored together."""
    size = 1 if len(actions) <= FEW else TOGETHER_MAX
    for begin in range(0, len(actions), size):
        yield actions[begin : begin + size]


def store_together(
    session: Session, write: WriteContext, actions: Sequence[Action], encode: Encode
) -> list[Pushed]:
    """Store all of them or none; raises what the first that cannot be stored does."""
    stored = (store_action(session, write, action, encode) for action in actions)
    return [pushed for pushed in stored if pushed is not None]


def store_action(
    session: Session, write: WriteContext, action: Action, encode: Encode
) -> Pushed | None:
    """Store one action; return what is to be pushed then."""
    match action:
        case RecordReport(report=report):
            planes.record_report(session, write, report)
        case SetCondition(plane=plane, condition=condition, before=before, verdict=verdict):
            planes.set_condition(session, write, plane, condition, before, verdict)
        case PushDesired(desired=state, expected_generation=expected):
            payload, digest = encode(state)
            told = Told(payload=payload, digest=digest, envelopes=state.envelopes)
            version = desired.put_desired(session, write, state.plane, told, expected)
            return state.plane, version, payload
        case RaiseGeneration(plane=plane, at_least=at_least):
            desired.raise_generation(session, write, plane, at_least)
        case RemoveDeployment(deployment=name):
            deployments.remove_deployment(session, write, name)
    return None
