"""Protobuf messages of the operator API to the client's rows.

Only `skerry.client.operator_calls` reads answers through it.
"""

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from google.protobuf.json_format import MessageToDict
from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import (
    change_pb2,
    deployment_pb2,
    operator_service_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
)
from skerry.client import rows
from skerry.client.answer_rows import level_rows, move_rows, shed_rows, unplaced_rows
from skerry.fleet.observation import PeerView, PlaneState
from skerry.fleet.pool import CapacityClass, PoolTerms
from skerry.wire.deployments import (
    deployment_from_proto,
    envelope_from_proto,
    revision_from_proto,
)
from skerry.wire.enums import from_number
from skerry.wire.observations import PEER_VERDICTS, replica_from_proto
from skerry.wire.supply import (
    gateway_from_proto,
    identity_from_proto,
    pool_shape_from_proto,
    version_from_proto,
)

PLANE_STATES = {
    PlaneState.CONNECTED: plane_pb2.Plane.STATE_CONNECTED,
    PlaneState.DISCONNECTED: plane_pb2.Plane.STATE_DISCONNECTED,
    PlaneState.SUSPECT: plane_pb2.Plane.STATE_SUSPECT,
    PlaneState.LOST: plane_pb2.Plane.STATE_LOST,
    PlaneState.RECOVERING: plane_pb2.Plane.STATE_RECOVERING,
}
OUTCOMES = {
    rows.ApplyOutcome.CREATED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_CREATED,
    rows.ApplyOutcome.UPDATED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_UPDATED,
    rows.ApplyOutcome.UNCHANGED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_UNCHANGED,
}


def plane_row(message: plane_pb2.Plane) -> rows.PlaneRow:
    """Return the row of a plane."""
    return rows.PlaneRow(
        identity=identity_from_proto(message.identity),
        gateway=gateway_from_proto(message.gateway),
        state=from_number(PLANE_STATES, message.state, "plane state"),
        reason=message.reason,
        since=_time(message.state_time) if message.HasField("state_time") else None,
        desired=version_from_proto(message.desired),
        held=version_from_proto(message.held),
        witnesses=tuple(witness_of(witness) for witness in message.witnesses),
        nack=message.nack,
        gateway_faults=tuple(message.gateway_faults),
    )


def witness_of(message: plane_pb2.Witness) -> PeerView:
    """Return what a witness says of a plane."""
    served = message.HasField("served_until_time")
    return PeerView(
        plane=short_name(message.plane),
        verdict=from_number(PEER_VERDICTS, message.verdict, "peer verdict"),
        since=_time(message.since_time) if message.HasField("since_time") else None,
        served_until=_time(message.served_until_time) if served else None,
        discounted=message.discounted,
    )


def pool_row(message: pool_pb2.Pool) -> rows.PoolRow:
    """Return the row of a pool; a price that is not told stays None."""
    return rows.PoolRow(
        name=short_name(message.name),
        plane=short_name(message.plane),
        shape=pool_shape_from_proto(message.shape) if message.HasField("shape") else None,
        terms=pool_terms(message.terms),
        accelerators_placed=message.accelerators_placed,
        etag=message.etag,
    )


def pool_terms(terms: pool_pb2.PoolTerms) -> PoolTerms:
    """Return a pool's terms; a price that is not told stays None."""
    told = terms.HasField("price_per_accelerator_hour")
    return PoolTerms(
        capacity_class=CapacityClass(terms.capacity_class or CapacityClass.ON_DEMAND),
        price_per_accelerator_hour=terms.price_per_accelerator_hour if told else None,
        cordoned=terms.cordoned,
    )


def terms_message(terms: PoolTerms) -> pool_pb2.PoolTerms:
    """Return the message of a pool's terms."""
    return pool_pb2.PoolTerms(
        capacity_class=terms.capacity_class.value,
        price_per_accelerator_hour=terms.price_per_accelerator_hour,
        cordoned=terms.cordoned,
    )


def deployment_row(message: deployment_pb2.Deployment) -> rows.DeploymentRow:
    """Return the row of a deployment."""
    return rows.DeploymentRow(
        deployment=deployment_from_proto(message.spec),
        replicas_wanted=message.status.replicas_wanted,
        replicas_placed=message.status.replicas_placed,
        replicas_ready=message.status.replicas_ready,
        cost_per_hour=message.status.cost_per_hour,
        pending=tuple(message.status.pending),
        etag=message.etag,
        deleting=message.status.deleting,
        replicas_needed=_optional(message.status, "replicas_needed"),
        replicas_short=message.status.replicas_short,
        short_dollars_per_hour=_optional(message.status, "short_dollars_per_hour"),
    )


def applied_rows(message: operator_service_pb2.ApplyResponse) -> tuple[rows.AppliedRow, ...]:
    """Return the rows of what applying several deployments did, or would do."""
    return tuple(
        rows.AppliedRow(
            deployment=deployment_row(item.deployment),
            outcome=from_number(OUTCOMES, item.outcome, "outcome"),
            diffs=diff_rows(item.diffs),
        )
        for item in message.deployments
    )


def diff_rows(diffs: Iterable[operator_service_pb2.FieldDiff]) -> tuple[rows.FieldDiffRow, ...]:
    """Return the rows of fields with another value."""
    return tuple(rows.FieldDiffRow(path=d.path, before=d.before, after=d.after) for d in diffs)


def placement_row(message: placement_pb2.Placement) -> rows.PlacementRow:
    """Return the row of a placement."""
    return rows.PlacementRow(
        name=short_name(message.name),
        deployment=short_name(message.deployment),
        plane=short_name(message.plane),
        pool=short_name(message.pool),
        replicas=message.replicas,
        replicas_ready=message.replicas_ready,
        cost_per_hour=message.cost_per_hour,
        reason=message.reason,
        envelope=envelope_from_proto(message.envelope) if message.HasField("envelope") else None,
    )


def replica_row(message: placement_pb2.Replica) -> rows.ReplicaRow:
    """Return the row of a replica."""
    return rows.ReplicaRow(
        plane=short_name(message.plane),
        observed=replica_from_proto(message.observed),
        report_age_seconds=message.report_age_seconds,
    )


def plan_row(message: placement_pb2.Plan) -> rows.PlanRow:
    """Return the row of a plan by number."""
    return rows.PlanRow(
        name=message.name.rpartition("/")[2],
        state=message.state,
        decided_at=_time(message.decide_time),
        cost_per_hour=message.cost_per_hour_after,
        solver=message.solver,
        summary=message.summary,
    )


def revision_row(message: deployment_pb2.DeploymentRevision) -> rows.RevisionRow:
    """Return the row of a deployment's revision."""
    return rows.RevisionRow(
        deployment=message.name.split("/")[3],
        revision=revision_from_proto(message.revision),
        created_at=_time(message.create_time),
        current=message.current,
    )


def change_row(message: change_pb2.Change) -> rows.ChangeRow:
    """Return the row of a change."""
    return rows.ChangeRow(
        sequence=message.sequence,
        time=_time(message.time),
        actor=message.actor,
        kind=message.kind,
        subject=message.subject,
        summary=message.summary,
        epoch=message.epoch,
        reason=message.reason,
        before=MessageToDict(message.before) if message.HasField("before") else None,
        after=MessageToDict(message.after) if message.HasField("after") else None,
    )


def plan_preview(message: placement_pb2.Plan) -> rows.PlanPreview:
    """Return what a plan would do."""
    return rows.PlanPreview(
        placements=tuple(
            rows.PlannedRow(
                deployment=short_name(item.deployment),
                pool=short_name(item.pool),
                replicas_before=item.replicas_before,
                replicas_after=item.replicas_after,
                cost_per_hour=item.cost_per_hour,
                reason=item.reason,
            )
            for item in message.placements
        ),
        rejections=tuple(
            rows.RejectionRow(
                deployment=short_name(item.deployment),
                pool=short_name(item.pool),
                reason=item.reason,
            )
            for item in message.rejections
        ),
        unplaced=unplaced_rows(message.unplaced),
        cost_per_hour_before=message.cost_per_hour_before,
        cost_per_hour_after=message.cost_per_hour_after,
        solver=message.solver,
        solve_seconds=message.solve_seconds,
        optimal=message.optimal,
        shed=shed_rows(message.shed),
        levels=level_rows(message.levels),
        prices=tuple(
            rows.PoolPriceRow(pool=item.pool, dollars_per_hour=item.dollars_per_hour)
            for item in message.prices
        ),
        solver_reason=message.solver_reason,
        deployments=tuple(
            rows.PlannedDeploymentRow(
                deployment=short_name(item.deployment),
                replicas_before=item.replicas_before,
                replicas_after=item.replicas_after,
                replicas_unmet=item.replicas_unmet,
                unmet_reason=item.unmet_reason,
                cost_per_hour_before=item.cost_per_hour_before,
                cost_per_hour_after=item.cost_per_hour_after,
                moves=move_rows(item.moves),
                ready_in_seconds=(
                    item.ready_in_seconds if item.HasField("ready_in_seconds") else None
                ),
                ready_basis=item.ready_basis,
                ready_source=item.ready_source,
                throughput_source=item.throughput_source,
                throughputs=tuple(_throughput_row(one) for one in item.throughputs),
                replicas_short=item.replicas_short,
                short_dollars_per_hour=_optional(item, "short_dollars_per_hour"),
            )
            for item in message.deployments
        ),
    )


def _optional(message: Any, field: str) -> Any:
    return getattr(message, field) if message.HasField(field) else None


def _throughput_row(message: placement_pb2.PlannedThroughput) -> rows.ThroughputRow:
    measured = message.HasField("measure_time")
    return rows.ThroughputRow(
        accelerator=message.accelerator,
        tokens_per_second=(
            message.tokens_per_second if message.HasField("tokens_per_second") else None
        ),
        profile=short_name(message.profile),
        measured_at=_time(message.measure_time) if measured else None,
        measured_tokens_per_second=(
            message.measured_tokens_per_second
            if message.HasField("measured_tokens_per_second")
            else None
        ),
        load_seconds=message.load_seconds,
    )


def short_name(name: str) -> str:
    """Return the last part of a full resource name; a short id stays as it is."""
    return name.rsplit("/", 1)[-1]


def _time(stamp: Timestamp) -> datetime:
    return stamp.ToDatetime(tzinfo=UTC)
