"""How planes are judged and why, as frozen values for people and programs.

`operator_methods.explain_plane` returns them; `skerry explain plane` prints them.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from skerry.api.operator.v1 import operator_service_pb2 as messages
from skerry.api.operator.v1 import plane_pb2
from skerry.client import operator_rows
from skerry.client.operator_calls import Call
from skerry.client.rows import PlaneRow
from skerry.fleet.names import full_name
from skerry.fleet.verdict import Verdict
from skerry.wire.enums import from_number


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneExplanation:
    """Why a plane is judged as it is, and what would have to happen for it to be lost.

    `verdict` is of now, None before the first judgement since the control plane's start; `history`
    has those with which the state changed, the newest first; `held_back` says what is not moved,
    `ending` what it still runs of deployments that were removed.
    """

    plane: PlaneRow
    reason: str
    until_lost: tuple[str, ...]
    verdict: Verdict | None
    history: tuple[Verdict, ...]
    held_back: tuple[str, ...]
    ending: tuple[str, ...] = ()


def explain_plane(project: str, plane: str) -> Call[PlaneExplanation]:
    """Return the call that asks why a plane is judged as it is."""
    request = messages.ExplainPlaneRequest(name=full_name(project, "planes", plane))
    return Call(method="ExplainPlane", request=request, read=explanation)


def get_freeze(project: str) -> Call[str]:
    """Return the call that asks why nothing is moved now; the answer is empty when all may be."""
    request = messages.ListPlanesRequest(parent=f"projects/{project}", page_size=1)
    return Call(method="ListPlanes", request=request, read=_freeze)


def explanation(message: plane_pb2.PlaneExplanation) -> PlaneExplanation:
    """Return the value of an explanation."""
    return PlaneExplanation(
        plane=operator_rows.plane_row(message.plane),
        reason=message.reason,
        until_lost=tuple(message.until_lost),
        verdict=_verdict(message.verdict) if message.HasField("verdict") else None,
        history=tuple(map(_verdict, message.history)),
        held_back=tuple(message.held_back),
        ending=tuple(message.ending),
    )


def _freeze(message: Any) -> str:
    return str(message.freeze)


def _verdict(message: plane_pb2.Verdict) -> Verdict:
    states = operator_rows.PLANE_STATES
    return Verdict(
        judged_at=message.judge_time.ToDatetime(tzinfo=UTC),
        state=from_number(states, message.state, "plane state"),
        before=from_number(states, message.before, "plane state") if message.before else None,
        reason=message.reason,
        linked=message.linked,
        silent_seconds=message.silent_seconds,
        lease_seconds=message.lease_seconds,
        witnesses=tuple(map(operator_rows.witness_of, message.witnesses)),
        witnesses_needed=message.witnesses_needed,
        grace=message.grace,
        frozen=message.frozen,
        planes_counted=message.planes_counted,
        planes_silent=message.planes_silent,
        declared=message.declared,
    )
