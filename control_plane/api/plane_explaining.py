"""Why a plane is judged as it is: the evidence of now, and of when its state changed last.

`operator_service.py` calls it; what it says is decided in `control_plane.reconcile`.
"""

from collections.abc import Iterable

from control_plane.api.convert import PLANE_STATES, add_witness
from control_plane.api.times import time_to_proto
from control_plane.reconcile.failback import settling
from control_plane.reconcile.failover import freeze_of, weigh
from control_plane.reconcile.leftovers import described
from control_plane.reconcile.prognosis import until_lost
from control_plane.reconcile.snapshot import Seen
from skerry.api.operator.v1 import plane_pb2
from skerry.fleet.verdict import Verdict


def explanation_to_proto(
    plane: plane_pb2.Plane,
    name: str,
    seen: Seen | None,
    history: Iterable[Verdict],
    held_back: Iterable[str],
) -> plane_pb2.PlaneExplanation:
    """Return all that there is to say of a plane; `seen` None before the first judgement."""
    message = plane_pb2.PlaneExplanation(plane=plane, reason=plane.reason, held_back=held_back)
    for verdict in history:
        message.history.append(verdict_to_proto(verdict))
    message.ending.extend(described(seen.snapshot, name) if seen is not None else ())
    weighed = weigh(seen.snapshot) if seen is not None else {}
    if seen is not None and name in weighed:
        condition, verdict = weighed[name]
        message.verdict.CopyFrom(verdict_to_proto(verdict))
        message.until_lost.extend(until_lost(name, verdict, seen.snapshot))
        if settling(condition, seen.snapshot) and condition.returned_at is not None:
            message.held_back.append(
                f"it was lost and is back since {condition.returned_at:%H:%M:%S} UTC: nothing moves"
                f" there before it was heard for {seen.snapshot.policy.settle_seconds:g} s"
            )
    return message


def freeze_told(seen: Seen | None) -> str:
    """Return why nothing is moved now; empty when nothing is frozen, or known."""
    return freeze_of(seen.snapshot).describe() if seen is not None else ""


def verdict_to_proto(verdict: Verdict) -> plane_pb2.Verdict:
    """Return the message of a judgement."""
    message = plane_pb2.Verdict(
        judge_time=time_to_proto(verdict.judged_at),
        state=PLANE_STATES[verdict.state],
        reason=verdict.reason,
        linked=verdict.linked,
        silent_seconds=verdict.silent_seconds,
        lease_seconds=verdict.lease_seconds,
        witnesses_needed=verdict.witnesses_needed,
        witnesses_against=verdict.against,
        grace=verdict.grace,
        frozen=verdict.frozen,
        planes_counted=verdict.planes_counted,
        planes_silent=verdict.planes_silent,
        declared=verdict.declared,
    )
    if verdict.before is not None:
        message.before = PLANE_STATES[verdict.before]
    for view in verdict.witnesses:
        add_witness(message.witnesses, view)
    return message
