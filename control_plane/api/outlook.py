"""What a plan means for each deployment -> the operator API's messages.

`convert.py` adds it to every plan that says what it places.
"""

from collections.abc import Iterator

from control_plane.api import answers
from control_plane.api.ports import PlannedChange
from control_plane.api.scaling_explaining import shortage_of
from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView
from control_plane.reconcile.outlook import DeploymentOutlook, outlook
from control_plane.reconcile.readiness import Prospect
from skerry.api.operator.v1 import placement_pb2
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.deployment import Deployment
from skerry.fleet.figures import Figures
from skerry.fleet.names import DEFAULT_PROJECT, full_name


def planned_deployments(
    view: FleetView, change: PlannedChange, applied: Deployment | None, starts: ColdStarts
) -> list[placement_pb2.PlannedDeployment]:
    """Return what a plan would do, deployment by deployment; `applied` as it would be then."""
    running = view.index.deployments
    prospect = Prospect(
        plan=change.plan,
        before=change.before,
        running=running,
        wanted={**running, applied.name: applied} if applied else running,
        pools={name: stored.pool for name, stored in view.pools.items()},
        observations={
            plane: observation
            for plane, observation in view.observations.items()
            if plane not in view.index.lost
        },
        starts=starts,
        profiles=view.index.profiles,
    )
    return [_to_proto(one, view) for one in outlook(prospect)]


def _to_proto(one: DeploymentOutlook, view: FleetView) -> placement_pb2.PlannedDeployment:
    held = view.index.deployments.get(one.deployment)
    scales = held is not None and held.scaling.scales
    short, dollars = shortage_of(view.index.scaled.get(one.deployment) if scales else None)
    return placement_pb2.PlannedDeployment(
        deployment=one.deployment,
        replicas_before=one.replicas_before,
        replicas_after=one.replicas_after,
        replicas_unmet=one.replicas_unmet,
        unmet_reason=one.unmet_reason,
        cost_per_hour_before=one.cost_per_hour_before,
        cost_per_hour_after=one.cost_per_hour_after,
        moves=[answers.move_to_proto(move) for move in one.moves],
        ready_in_seconds=one.ready_in_seconds,
        ready_basis=one.ready_basis,
        ready_source=one.ready_source or "",
        throughput_source=one.figures.source if one.figures else "",
        throughputs=_throughputs(one.figures) if one.figures else (),
        replicas_short=short,
        short_dollars_per_hour=dollars,
    )


def _throughputs(figures: Figures) -> Iterator[placement_pb2.PlannedThroughput]:
    for shape in figures.shapes:
        message = placement_pb2.PlannedThroughput(
            accelerator=shape.accelerator,
            tokens_per_second=shape.tokens_per_second,
            measured_tokens_per_second=shape.measured_tokens_per_second,
        )
        if shape.profile is not None:
            message.profile = full_name(DEFAULT_PROJECT, "profiles", shape.profile.name)
            message.measure_time.CopyFrom(time_to_proto(shape.profile.measured_at))
            message.load_seconds = shape.profile.load_seconds
        yield message
