"""How answers of the last minutes kept what a deployment promises -> the operator API's messages.

`operations_service.py` calls it. Planes where a deployment is placed tell it beside their loads.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import asdict
from datetime import timedelta

from control_plane.api.ports import Live
from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.api.operator.v1 import service_level_pb2
from skerry.fleet.answers import (
    Quantiles,
    RecentAnswers,
    added,
    first_token_quantiles,
    interval_quantiles,
)
from skerry.fleet.autoscaling.fleetwide import FLEET_STALE_SECONDS
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import full_name
from skerry.plumbing.errors import InvalidInput
from skerry.wire.scaling import answers_to_proto

DEPLOYMENTS_MAX = 100

Told = Mapping[str, tuple[RecentAnswers, float]]  # by plane, with its age in seconds


def deployments_asked(request: pb.ListServiceLevelsRequest, view: FleetView) -> Sequence[str]:
    """Return the names that a request is about; InvalidInput for too many."""
    if len(request.deployments) > DEPLOYMENTS_MAX:
        raise InvalidInput(f"name at most {DEPLOYMENTS_MAX} deployments", field="deployments")
    if not request.deployments:
        return tuple(view.stored)
    return tuple(name for name in dict.fromkeys(request.deployments) if name in view.stored)


def level_to_proto(
    view: FleetView, live: Live, heard: Collection[str], name: str
) -> service_level_pb2.ServiceLevel:
    """Return how a deployment was served, by the planes where it is placed.

    `heard` are all planes that told loads of late.
    """
    placed = frozenset(one.pool.rpartition("--")[0] for one in view.placements.get(name, ()))
    told = {plane: found for plane in placed if (found := live.answers(name, plane)) is not None}
    deployment = view.stored[name].deployment
    message = _level(deployment, told, placed, placed.intersection(heard))
    if message.planes:
        oldest = max(told[plane][1] for plane in message.planes)
        message.heard_time.CopyFrom(time_to_proto(view.now - timedelta(seconds=oldest)))
    return message


def resource_of(deployment: Deployment) -> str:
    """Return the resource name of a deployment's service level."""
    return f"{full_name(deployment.project, 'deployments', deployment.name)}/serviceLevel"


def _level(
    deployment: Deployment, told: Told, placed: frozenset[str], heard: frozenset[str]
) -> service_level_pb2.ServiceLevel:
    fresh = {plane for plane, (_, age) in told.items() if age <= FLEET_STALE_SECONDS}
    # Where nobody is heard, what was told last, which its age marks; who is heard may have none.
    planes = sorted(fresh if fresh or heard else told)
    objective = deployment.revision.objective
    message = service_level_pb2.ServiceLevel(
        name=resource_of(deployment),
        deployment=deployment.name,
        ttft_seconds=objective.ttft_seconds,
        tpot_seconds=objective.tpot_seconds,
        planes=planes,
        silent_planes=sorted(placed.difference(planes, heard)),
    )
    if planes:
        answers = added([told[plane][0] for plane in planes])
        message.answers.CopyFrom(answers_to_proto(answers))
        _fill(message.first_token, first_token_quantiles(answers))
        _fill(message.interval, interval_quantiles(answers))
    return message


def _fill(message: service_level_pb2.LatencyQuantiles, told: Quantiles | None) -> None:
    if told is not None:
        message.CopyFrom(service_level_pb2.LatencyQuantiles(**asdict(told)))
