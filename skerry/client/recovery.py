"""A recovery: calls and rows; `operator_methods` makes methods of the clients of it."""

from dataclasses import dataclass
from datetime import UTC, datetime

from skerry.api.operator.v1 import recovery_pb2
from skerry.client.operator_calls import WRITE_SECONDS_MAX, Call


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveringPlaneRow:
    """What was heard of a plane; versions as EPOCH.GENERATION."""

    plane: str
    heard: bool
    held_version: str
    known_version: str
    replicas: int
    note: str


@dataclass(frozen=True, slots=True, kw_only=True)
class DifferenceRow:
    """How planes and database differ; a conflict is for a person, the rest is adopted."""

    subject: str
    is_conflict: bool
    message: str
    outcome: str


@dataclass(frozen=True, slots=True, kw_only=True)
class QuarantinedRow:
    """Replicas of a deployment or revision that nobody described."""

    plane: str
    deployment: str
    revision: int
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class RecoveryRow:
    """How far a recovery is; `etag` names what was looked at."""

    is_recovering: bool
    reason: str
    planes: tuple[RecoveringPlaneRow, ...]
    differences: tuple[DifferenceRow, ...]
    quarantined: tuple[QuarantinedRow, ...]
    waits_for: tuple[str, ...]
    next_epoch: int
    etag: str
    started_at: datetime | None = None

    @property
    def conflicts(self) -> tuple[DifferenceRow, ...]:
        """Return what a person must decide."""
        return tuple(one for one in self.differences if one.is_conflict)


def get_recovery(project: str) -> Call[RecoveryRow]:
    """Return the call for how a recovery goes."""
    request = recovery_pb2.GetRecoveryRequest(name=_name(project))
    return Call(method="GetRecovery", request=request, read=_row)


def approve_recovery(project: str, request_id: str, etag: str) -> Call[RecoveryRow]:
    """Return the call that ends a recovery as it stands."""
    request = recovery_pb2.ApproveRecoveryRequest(
        name=_name(project), request_id=request_id, etag=etag
    )
    return Call(method="ApproveRecovery", request=request, read=_row, seconds_max=WRITE_SECONDS_MAX)


def _name(project: str) -> str:
    return f"projects/{project}/recovery"


def _row(message: recovery_pb2.Recovery) -> RecoveryRow:
    conflict = recovery_pb2.RecoveryDifference.RESOLUTION_CONFLICT
    started = message.start_time if message.HasField("start_time") else None
    return RecoveryRow(
        is_recovering=message.state == recovery_pb2.Recovery.STATE_RECOVERING,
        reason=message.reason,
        planes=tuple(
            RecoveringPlaneRow(
                plane=one.plane,
                heard=one.heard,
                held_version=one.held_version,
                known_version=one.known_version,
                replicas=one.replicas,
                note=one.note,
            )
            for one in message.planes
        ),
        differences=tuple(
            DifferenceRow(
                subject="/".join(one.subject.split("/")[2:]),
                is_conflict=one.resolution == conflict,
                message=one.message,
                outcome=one.outcome,
            )
            for one in message.differences
        ),
        quarantined=tuple(
            QuarantinedRow(
                plane=one.plane,
                deployment=one.deployment,
                revision=one.revision,
                replicas=one.replicas,
            )
            for one in message.quarantined
        ),
        waits_for=tuple(message.waits_for),
        next_epoch=message.next_epoch,
        etag=message.etag,
        started_at=started.ToDatetime(tzinfo=UTC) if started else None,
    )
