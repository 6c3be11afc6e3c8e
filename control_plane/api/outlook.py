"""What a plan means for each deployment -> the operator API's messages.

`convert.py` adds it to every plan that says what it places.
"""

from control_plane.api import answers
from control_plane.api.ports import PlannedChange
from control_plane.api.views import FleetView
from control_plane.reconcile.outlook import DeploymentOutlook, outlook
from control_plane.reconcile.readiness import Prospect
from skerry.api.operator.v1 import placement_pb2
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.deployment import Deployment


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
    )
    return [_to_proto(one) for one in outlook(prospect)]


def _to_proto(one: DeploymentOutlook) -> placement_pb2.PlannedDeployment:
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
    )
