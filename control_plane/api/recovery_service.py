"""skerry.api.operator.v1.RecoveryService: how a recovery goes, and a person's word that ends it."""

from typing import Any

from control_plane.api.times import time_to_proto
from control_plane.api.validation import check_opaque, check_parent
from control_plane.api.writing import Writing
from control_plane.recovery.assess import Difference, PlaneSight, Resolution
from control_plane.recovery.run import Recovery, RecoveryStatus
from control_plane.store.requests import Asked
from skerry.api.operator.v1 import recovery_pb2 as pb
from skerry.api.operator.v1.recovery_pb2_grpc import RecoveryServiceServicer
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.plumbing.errors import InvalidInput

COLLECTION = "recovery"  # one of each project
# Of one answer; planes that differ in nothing are the first to be left out.
PLANES_TOLD_MAX = 1_000

_RESOLUTIONS = {
    Resolution.ADOPT: pb.RecoveryDifference.RESOLUTION_ADOPT,
    Resolution.CONFLICT: pb.RecoveryDifference.RESOLUTION_CONFLICT,
}


class RecoveryService(RecoveryServiceServicer):
    """Recovery, for operators."""

    def __init__(self, recovery: Recovery, writing: Writing) -> None:
        """Show and end this control plane's recovery."""
        self._recovery = recovery
        self._writing = writing

    async def GetRecovery(self, request: pb.GetRecoveryRequest, context: Any) -> pb.Recovery:
        """Answer how far it is; NotLeading on a standby, which hears no plane."""
        _check_name(request.name)
        self._writing.context(context)
        return _to_proto(self._recovery.status())

    async def ApproveRecovery(
        self, request: pb.ApproveRecoveryRequest, context: Any
    ) -> pb.Recovery:
        """End the recovery as it stands; where it has ended by itself that is the answer."""
        _check_name(request.name)
        check_opaque(request.request_id, "request_id")
        check_opaque(request.etag, "etag")
        asked = Asked(request_id=request.request_id, kind="approve recovery", body=request.etag)
        with self._writing.done():
            await self._recovery.approve(self._writing.context(context), asked, request.etag)
        return _to_proto(self._recovery.status())


def _check_name(name: str) -> None:
    parent, _, collection = name.rpartition("/")
    if collection != COLLECTION:
        raise InvalidInput(
            f"{name[:120]!r} must look like projects/PROJECT/{COLLECTION}", field="name"
        )
    check_parent(parent)


def _to_proto(status: RecoveryStatus) -> pb.Recovery:
    found = status.found
    state = pb.Recovery.STATE_RECOVERING if status.since else pb.Recovery.STATE_NONE
    planes = sorted(found.planes, key=lambda sight: (not sight.is_ahead, sight.heard, sight.plane))
    return pb.Recovery(
        name=f"projects/{DEFAULT_PROJECT}/{COLLECTION}",
        state=state,
        reason=found.reason,
        start_time=time_to_proto(status.since) if status.since else None,
        planes=[_plane(sight) for sight in planes[:PLANES_TOLD_MAX]],
        differences=[_difference(one) for one in found.differences],
        quarantined=[
            pb.QuarantinedReplicas(
                plane=one.plane,
                deployment=one.deployment,
                revision=one.revision,
                replicas=one.replicas,
            )
            for one in status.quarantined
        ],
        waits_for=found.waits_for,
        next_epoch=status.next_epoch,
        etag=status.etag,
    )


def _plane(sight: PlaneSight) -> pb.RecoveringPlane:
    return pb.RecoveringPlane(
        plane=sight.plane,
        heard=sight.heard,
        held_version=str(sight.held),
        known_version=str(sight.known),
        replicas=sight.replicas,
        note=sight.note,
    )


def _difference(one: Difference) -> pb.RecoveryDifference:
    return pb.RecoveryDifference(
        subject=f"projects/{DEFAULT_PROJECT}/{one.subject}",
        resolution=_RESOLUTIONS[one.resolution],
        message=one.message,
        outcome=one.outcome,
    )
