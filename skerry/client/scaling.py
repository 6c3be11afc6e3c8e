"""Why a deployment has as many replicas as it has, as frozen values; and its pause switch.

`operator_methods` makes the clients' methods of it; `skerry explain scaling` prints them.
"""

from dataclasses import dataclass
from datetime import UTC
from typing import Any

from google.protobuf.field_mask_pb2 import FieldMask

from skerry.api.common.v1 import deployment_pb2 as common_pb2
from skerry.api.operator.v1 import deployment_pb2, scaling_pb2
from skerry.api.operator.v1 import operator_service_pb2 as messages
from skerry.client import operator_rows
from skerry.client.operator_calls import WRITE_SECONDS_MAX, Call
from skerry.client.rows import DeploymentRow
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.autoscaling.scaled import FleetRecord, ShareRecord
from skerry.fleet.autoscaling.told import ToldDecision
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.names import full_name
from skerry.wire.scaling import (
    COEFFICIENT_FIELDS,
    decision_from_proto,
    need_from_proto,
    reading_from_proto,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneScalingRow:
    """A plane's own last decision of a deployment, and whether it could count its load.

    `decisions` are the last that it told, the newest first, also of a plane that is not heard now:
    that one has no `decision`. `costs` are what tokens cost there by its own measurements.
    `reading` is what it counted last; its `at` says nothing, for the moment is not told.
    """

    plane: str
    decision: ToldDecision | None
    counts: bool
    decisions: tuple[ToldDecision, ...] = ()
    costs: tuple[Coefficients, ...] = ()
    reading: LoadReading | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingExplanation:
    """What autoscaling does with a deployment; `decisions` the newest first."""

    deployment: str
    sentence: str
    min_replicas: int
    max_replicas: int
    strategy: str
    paused: bool
    decisions: tuple[FleetRecord, ...]
    planes: tuple[PlaneScalingRow, ...]


def explain_scaling(project: str, deployment: str, decisions: int) -> Call[ScalingExplanation]:
    """Return the call that asks why a deployment has as many replicas as it has."""
    request = messages.ExplainScalingRequest(
        name=full_name(project, "deployments", deployment), decisions_max=decisions
    )
    return Call(method="ExplainScaling", request=request, read=explanation)


def pause_scaling(
    project: str, deployment: str, request_id: str, *, paused: bool
) -> Call[DeploymentRow]:
    """Return the call that pauses a deployment's scaling, or lets it go on."""
    told = deployment_pb2.Deployment(
        name=full_name(project, "deployments", deployment),
        spec=common_pb2.DeploymentSpec(scaling=common_pb2.Scaling(paused=paused)),
    )
    request = messages.UpdateDeploymentRequest(
        deployment=told, update_mask=FieldMask(paths=["spec.scaling.paused"]), request_id=request_id
    )
    return Call(
        method="UpdateDeployment",
        request=request,
        read=operator_rows.deployment_row,
        seconds_max=WRITE_SECONDS_MAX,
    )


def explanation(message: scaling_pb2.ScalingExplanation) -> ScalingExplanation:
    """Return the value of an explanation."""
    return ScalingExplanation(
        deployment=message.deployment,
        sentence=message.sentence,
        min_replicas=message.min_replicas,
        max_replicas=message.max_replicas,
        strategy=message.strategy,
        paused=message.paused,
        decisions=tuple(_decision(message.deployment, one) for one in message.decisions),
        planes=tuple(
            PlaneScalingRow(
                plane=one.plane,
                decision=decision_from_proto(one.decision) if one.HasField("decision") else None,
                counts=one.HasField("reading"),
                reading=reading_from_proto(one.reading, 0.0) if one.HasField("reading") else None,
                decisions=tuple(decision_from_proto(decided) for decided in one.decisions),
                costs=tuple(
                    Coefficients(**{name: getattr(cost, name) for name in COEFFICIENT_FIELDS})
                    for cost in one.costs
                ),
            )
            for one in message.planes
        ),
    )


def _decision(deployment: str, message: scaling_pb2.FleetScalingDecision) -> FleetRecord:
    return FleetRecord(
        deployment=deployment,
        decided_at=message.decide_time.ToDatetime(tzinfo=UTC),
        sentence=message.sentence,
        because=message.because,
        running=message.running,
        total=message.total,
        wanted=message.wanted,
        unmet=message.unmet,
        unmet_dollars_per_hour=_told(message, "unmet_dollars_per_hour"),
        dollars_per_hour=_told(message, "dollars_per_hour"),
        demand=message.demand,
        floor=message.floor,
        need=need_from_proto(message.need) if message.HasField("need") else None,
        highest=_told(message, "highest"),
        unheard=tuple(message.unheard),
        shares=tuple(
            ShareRecord(
                plane=share.plane,
                running=share.running,
                floor=share.floor,
                ceiling=share.ceiling,
                target=_told(share, "target"),
                price_per_hour=share.dollars_per_hour,
                heard=share.heard,
            )
            for share in message.shares
        ),
    )


def _told(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None
