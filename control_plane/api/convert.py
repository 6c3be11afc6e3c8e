"""The fleet as stored and as reported -> the operator API's messages."""

from dataclasses import dataclass, replace
from datetime import datetime
from typing import cast

from google.protobuf.json_format import ParseDict
from google.protobuf.timestamp_pb2 import Timestamp

from control_plane.api import answers
from control_plane.api.ports import Live, PlannedChange
from control_plane.api.views import FleetView, Message
from control_plane.reconcile.decision import plan_of
from control_plane.store.values import (
    ApplyOutcome,
    Change,
    Decision,
    StoredDeployment,
    StoredPlan,
    StoredPlane,
    StoredPool,
    StoredRevision,
    StoredTerms,
)
from scheduler.plan import PlacementPlan
from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import (
    change_pb2,
    operator_service_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
)
from skerry.api.operator.v1 import (
    deployment_pb2 as operator_deployment_pb2,
)
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.observation import PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import PoolTerms
from skerry.wire.deployments import deployment_to_proto, revision_to_proto
from skerry.wire.observations import PEER_VERDICTS, replica_to_proto
from skerry.wire.supply import (
    gateway_to_proto,
    identity_to_proto,
    pool_shape_to_proto,
    version_to_proto,
)

_STATES = {
    PlaneState.CONNECTED: plane_pb2.Plane.STATE_CONNECTED,
    PlaneState.DISCONNECTED: plane_pb2.Plane.STATE_DISCONNECTED,
    PlaneState.SUSPECT: plane_pb2.Plane.STATE_SUSPECT,
    PlaneState.LOST: plane_pb2.Plane.STATE_LOST,
    PlaneState.RECOVERING: plane_pb2.Plane.STATE_RECOVERING,
}
_OUTCOMES = {
    ApplyOutcome.CREATED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_CREATED,
    ApplyOutcome.UPDATED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_UPDATED,
    ApplyOutcome.UNCHANGED: operator_service_pb2.ApplyDeploymentResponse.OUTCOME_UNCHANGED,
}


def plane_to_proto(view: FleetView, stored: StoredPlane, live: Live) -> plane_pb2.Plane:
    """Return a plane with its condition, what it was told and what it holds."""
    name = stored.identity.name
    message = plane_pb2.Plane(
        name=full_name(DEFAULT_PROJECT, "planes", name),
        identity=identity_to_proto(stored.identity),
        gateway=gateway_to_proto(stored.gateway),
        nack=live.view(name).nack,
    )
    # The store keeps the evidence of the last change of state; the loop has today's.
    condition = live.conditions().get(stored.identity.name, stored.condition)
    if condition is not None:
        message.state = _STATES[condition.state]
        message.reason = condition.reason
        message.state_time.CopyFrom(_time(condition.since))
        for seen in condition.witnesses:
            message.witnesses.add(plane=seen.plane, verdict=PEER_VERDICTS[seen.verdict])
    # A later leader pushes the same generation under its own epoch without storing it again.
    stored_version = view.store.desired[name].version if name in view.store.desired else None
    if desired := live.pushed(name) or stored_version:
        message.desired.CopyFrom(version_to_proto(desired))
    if name in view.observations:
        message.held.CopyFrom(version_to_proto(view.observations[name].report.held))
    return message


def pool_to_proto(view: FleetView, stored: StoredPool) -> pool_pb2.Pool:
    """Return a reported pool with its terms and how much of it is taken."""
    pool = stored.pool
    return pool_pb2.Pool(
        name=full_name(DEFAULT_PROJECT, "pools", pool.name),
        plane=pool.plane.name,
        shape=pool_shape_to_proto(pool.shape),
        terms=_terms_to_proto(pool.terms),
        effective_terms=_terms_to_proto(view.pools[pool.name].pool.terms),
        accelerators_placed=view.accelerators_placed.get(pool.name, 0),
        etag=stored.etag,
    )


def waiting_pool_to_proto(terms: StoredTerms) -> pool_pb2.Pool:
    """Return the terms of a pool that its plane has not reported yet: without a shape."""
    return pool_pb2.Pool(
        name=full_name(DEFAULT_PROJECT, "pools", terms.pool),
        plane=terms.pool.rpartition("--")[0],
        terms=_terms_to_proto(terms.terms),
        etag=terms.etag,
    )


def deployment_to_resource(
    view: FleetView, stored: StoredDeployment
) -> operator_deployment_pb2.Deployment:
    """Return a deployment with what is placed and ready of it; shared, so not to be changed."""
    deployment = stored.deployment
    # A list of a thousand takes 100 ms to make, and 5 ms to send when it was made before.
    index, name = view.index, deployment.name
    ready = view.ready_of.get(name, 0)
    held = index.messages.get(name)
    if held is not None and held.stored is not stored:
        held = None
    if held is not None and held.told is index.told and held.ready == ready:
        return cast(operator_deployment_pb2.Deployment, held.made)
    message = operator_deployment_pb2.Deployment(
        name=full_name(deployment.project, "deployments", name),
        spec=held.made.spec if held is not None else deployment_to_proto(deployment),
        status=_status_to_proto(view, stored),
        etag=stored.etag,
        create_time=_time(stored.created_at),
        update_time=_time(stored.updated_at),
    )
    index.messages[name] = Message(stored=stored, told=index.told, ready=ready, made=message)
    return message


def revision_to_resource(
    name: str, stored: StoredRevision, now: StoredDeployment | None
) -> operator_deployment_pb2.DeploymentRevision:
    """Return a revision of a deployment, and whether it is the present one."""
    number = stored.revision.number
    project = now.deployment.project if now else DEFAULT_PROJECT
    message = operator_deployment_pb2.DeploymentRevision(
        name=f"{full_name(project, 'deployments', name)}/revisions/{number}",
        revision=revision_to_proto(stored.revision),
        current=now is not None and now.deployment.revision.number == number,
    )
    message.create_time.CopyFrom(_time(stored.created_at))
    return message


def outcome_to_proto(
    outcome: ApplyOutcome,
) -> operator_service_pb2.ApplyDeploymentResponse.Outcome:
    """Return what an apply did."""
    return _OUTCOMES[outcome]


def placements_to_proto(view: FleetView) -> tuple[placement_pb2.Placement, ...]:
    """Return every placement, and what planes are still granted beside them during a move."""
    granted = _granted(view)
    decided = {(p.deployment, p.pool): p for p in view.store.placements}
    moving = {
        key: Placement(deployment=key[0], pool=key[1], count=0, reason="being drained")
        for key, envelope in granted.items()
        if envelope.ceiling > 0
    }
    rows = sorted((moving | decided).items())
    return tuple(_placement_to_proto(view, p, granted.get(key)) for key, p in rows)


def replicas_to_proto(view: FleetView) -> tuple[placement_pb2.Replica, ...]:
    """Return every replica of every plane heard, with the age of the report."""
    return tuple(
        placement_pb2.Replica(
            name=full_name(DEFAULT_PROJECT, "replicas", replica.name),
            plane=plane,
            observed=replica_to_proto(replica),
            report_age_seconds=max((view.now - observation.received_at).total_seconds(), 0.0),
        )
        for plane, observation in sorted(view.observations.items())
        for replica in sorted(observation.report.replicas, key=lambda r: r.name)
    )


def change_to_proto(change: Change) -> change_pb2.Change:
    """Return a committed change; with what it did where that was read."""
    message = change_pb2.Change(
        name=full_name(change.project, "changes", str(change.sequence)),
        sequence=change.sequence,
        time=_time(change.time),
        actor=change.actor,
        kind=change.kind,
        subject=change.subject,
        summary=change.summary,
        epoch=change.epoch,
        reason=change.reason,
    )
    if change.before is not None:
        ParseDict(change.before, message.before)
    if change.after is not None:
        ParseDict(change.after, message.after)
    return message


def plan_to_proto(
    view: FleetView, change: PlannedChange, applied: Deployment | None
) -> placement_pb2.Plan:
    """Return what a plan would do, pool by pool; costs in USD per hour."""
    plan = change.plan
    before = {(p.deployment, p.pool): p for p in change.before}
    after = {(p.deployment, p.pool): p for p in plan.placements}
    message = placement_pb2.Plan(
        cost_per_hour_before=sum(view.cost_per_hour(p) for p in change.before),
        cost_per_hour_after=plan.cost_per_hour,
        solver=plan.solver,
        solve_seconds=change.solve_seconds,
        optimal=plan.optimal,
        solver_reason=plan.solver_reason,
    )
    for key in sorted(before.keys() | after.keys()):
        placement = after.get(key) or Placement(
            deployment=key[0], pool=key[1], count=0, reason="the plan has no replica here"
        )
        candidate = applied if applied and applied.name == key[0] else None
        message.placements.add(
            deployment=key[0],
            pool=key[1],
            replicas_before=before[key].count if key in before else 0,
            replicas_after=placement.count,
            cost_per_hour=view.cost_per_hour(placement, candidate),
            reason=placement.reason,
        )
    answers.add_decision(message, plan)
    return message


def decision_to_proto(view: FleetView, decision: Decision) -> placement_pb2.Plan:
    """Return the decision in force as a plan that changes nothing any more."""
    plan = plan_of(decision, view.store.placements)
    held = _Held(plan=plan, before=plan.placements, solve_seconds=decision.solve_seconds)
    return plan_to_proto(view, held, None)


def stored_plan_to_proto(view: FleetView, stored: StoredPlan, *, whole: bool) -> placement_pb2.Plan:
    """Return a plan by number; whole with what it would place where it waits, and what it left."""
    plan = plan_of(stored.decision, stored.placements)
    if not whole:
        plan = replace(plan, placements=(), rejections=())
    before = view.store.placements if whole and stored.placements else ()
    told = _Held(plan=plan, before=before, solve_seconds=stored.decision.solve_seconds)
    message = plan_to_proto(view, told, None)
    message.name = full_name(DEFAULT_PROJECT, "plans", str(stored.number))
    message.state, message.inputs = stored.state.value, stored.inputs
    message.summary = stored.summary
    message.decide_time.CopyFrom(_time(stored.decided_at))
    return message


@dataclass(frozen=True, slots=True, kw_only=True)
class _Held:
    """A plan that was applied, as the change that it no longer is."""

    plan: PlacementPlan
    before: tuple[Placement, ...]
    solve_seconds: float


def _status_to_proto(
    view: FleetView, stored: StoredDeployment
) -> operator_deployment_pb2.DeploymentStatus:
    name = stored.deployment.name
    mine = view.placements.get(name, ())
    left_out = view.unplaced.get(name, ())
    placed = sum(p.count for p in mine)
    wanted = placed + sum(replicas for _, replicas, _ in left_out)
    return operator_deployment_pb2.DeploymentStatus(
        replicas_placed=placed,
        replicas_ready=view.ready_of.get(name, 0),
        replicas_wanted=(
            0 if stored.deleting else max(wanted, stored.deployment.scaling.min_replicas)
        ),
        cost_per_hour=sum(view.cost_per_hour(p) for p in mine),
        pending=[f"{replicas} replicas: {reason}" for _, replicas, reason in left_out],
    )


def _granted(view: FleetView) -> dict[tuple[str, str], deployment_pb2.Envelope]:
    granted = {}
    for stored in view.store.desired.values():
        told = plane_service_pb2.Desired.FromString(stored.payload)
        for assignment in told.assignments:
            for envelope in assignment.envelopes:
                granted[envelope.deployment, envelope.pool] = envelope
    return granted


def _placement_to_proto(
    view: FleetView, placement: Placement, envelope: deployment_pb2.Envelope | None
) -> placement_pb2.Placement:
    stored = view.pools.get(placement.pool)
    plane = stored.pool.plane.name if stored else placement.pool.rpartition("--")[0]
    return placement_pb2.Placement(
        name=full_name(DEFAULT_PROJECT, "placements", f"{placement.deployment}--{placement.pool}"),
        deployment=placement.deployment,
        plane=plane,
        pool=placement.pool,
        replicas=placement.count,
        cost_per_hour=view.cost_per_hour(placement),
        reason=placement.reason,
        envelope=envelope,
        replicas_ready=view.ready.get((placement.deployment, placement.pool), 0),
    )


def _terms_to_proto(terms: PoolTerms) -> pool_pb2.PoolTerms:
    return pool_pb2.PoolTerms(
        capacity_class=terms.capacity_class.value,
        price_per_accelerator_hour=terms.price_per_accelerator_hour,
        cordoned=terms.cordoned,
    )


def _time(moment: datetime) -> Timestamp:
    message = Timestamp()
    message.FromDatetime(moment)
    return message
