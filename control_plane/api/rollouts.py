"""Rollouts as messages, and what is asked of them; OperationsService answers by it."""

from control_plane.api import validation
from control_plane.api.times import time_to_proto
from control_plane.store.rollouts import Steer
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.api.operator.v1 import rollout_pb2
from skerry.fleet.names import full_name
from skerry.fleet.rollout import Rollout
from skerry.plumbing.errors import InvalidInput

_TAIL = "/rollout"
_STEERS = {
    pb.SteerRolloutRequest.ACTION_PAUSE: Steer.PAUSE,
    pb.SteerRolloutRequest.ACTION_RESUME: Steer.RESUME,
    pb.SteerRolloutRequest.ACTION_UNDO: Steer.UNDO,
}


def rollout_to_proto(rollout: Rollout, project: str) -> rollout_pb2.Rollout:
    """Return the message of a rollout of a project's deployment."""
    return rollout_pb2.Rollout(
        name=resource_of(rollout, project),
        deployment=rollout.deployment,
        revision=rollout.revision,
        stable_revision=rollout.stable,
        state=rollout.state,
        stage=rollout.stage.value,
        since=time_to_proto(rollout.since),
        reason=rollout.reason,
        plane=rollout.plane,
        pool=rollout.pool,
        planes_done=rollout.done,
        broken_revisions=rollout.broken,
    )


def resource_of(rollout: Rollout, project: str) -> str:
    """Return the resource name of a rollout."""
    return f"{full_name(project, 'deployments', rollout.deployment)}{_TAIL}"


def check_rollout_name(name: str) -> tuple[str, str]:
    """Return the project and deployment of `projects/PROJECT/deployments/NAME/rollout`."""
    if not name.endswith(_TAIL):
        raise InvalidInput(
            "name must look like projects/PROJECT/deployments/NAME/rollout", field="name"
        )
    return validation.check_owned_name(name.removesuffix(_TAIL), "deployments")


def check_steer(request: pb.SteerRolloutRequest) -> Steer:
    """Return what is to be done to a rollout."""
    steer = _STEERS.get(request.action)
    if steer is None:
        raise InvalidInput(
            "action must be ACTION_PAUSE, ACTION_RESUME or ACTION_UNDO", field="action"
        )
    return steer
