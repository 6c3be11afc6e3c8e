"""The fleet as stored and as reported -> the operator API's messages."""

from dataclasses import dataclass, replace
from typing import Any, cast

from google.protobuf.json_format import ParseDict

from control_plane.api import answers, outlook
from control_plane.api.granted import placement_name
from control_plane.api.listing import item_of
from control_plane.api.pagination import Page
from control_plane.api.ports import Live, PlannedChange
from control_plane.api.scaling_explaining import shortage_of
from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView, Message
from control_plane.autoscale.targets import wanted_of
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
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.deployment import Deployment
from skerry.fleet.names import DEFAULT_PROJECT, full_name
from skerry.fleet.observation import ObservedReplica, PeerView, PlaneState
from skerry.fleet.placement import Placement
from skerry.fleet.pool import PoolTerms
from skerry.wire.deployments import deployment_to_proto, envelope_to_proto, revision_to_proto
from skerry.wire.observations import PEER_VERDICTS, replica_to_proto
from skerry.wire.supply import (
    gateway_to_proto,
    identity_to_proto,
    pool_shape_to_proto,
    version_to_proto,
)

PLANE_STATES = {
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
    if condition is None:
        message.state = PLANE_STATES[PlaneState.SUSPECT]
        message.reason = "has joined; it is judged with the next look at the fleet"
    else:
        message.state = PLANE_STATES[condition.state]
        message.reason = condition.reason
        message.state_time.CopyFrom(time_to_proto(condition.since))
        for seen in condition.witnesses:
            add_witness(message.witnesses, seen)
    # A later leader pushes the same generation under its own epoch without storing it again.
    stored_version = view.store.desired[name].version if name in view.store.desired else None
    if desired := live.pushed(name) or stored_version:
        message.desired.CopyFrom(version_to_proto(desired))
    if name in view.observations:
        report = view.observations[name].report
        message.held.CopyFrom(version_to_proto(report.held))
        message.gateway_faults.extend(report.gateway_faults)
    return message


def add_witness(witnesses: Any, seen: PeerView) -> None:
    """Add the message of what a witness says."""
    witness = witnesses.add(plane=seen.plane, verdict=PEER_VERDICTS[seen.verdict])
    witness.discounted = seen.discounted
    if seen.since is not None:
        witness.since_time.CopyFrom(time_to_proto(seen.since))
    if seen.served_until is not None:
        witness.served_until_time.CopyFrom(time_to_proto(seen.served_until))


def pool_to_proto(view: FleetView, stored: StoredPool) -> pool_pb2.Pool:
    """Return a reported pool with its terms and how much of it is taken."""
    pool = stored.pool
    return pool_pb2.Pool(
        name=full_name(DEFAULT_PROJECT, "pools", pool.name),
        plane=pool.plane.name,
        shape=pool_shape_to_proto(pool.shape),
        terms=terms_to_proto(pool.terms),
        effective_terms=terms_to_proto(view.pools[pool.name].pool.terms),
        accelerators_placed=view.accelerators_placed.get(pool.name, 0),
        etag=stored.etag,
    )


def waiting_pool_to_proto(terms: StoredTerms) -> pool_pb2.Pool:
    """Return the terms of a pool that its plane has not reported yet: without a shape."""
    return pool_pb2.Pool(
        name=full_name(DEFAULT_PROJECT, "pools", terms.pool),
        plane=terms.pool.rpartition("--")[0],
        terms=terms_to_proto(terms.terms),
        etag=terms.etag,
    )


def deployment_to_resource(
    view: FleetView, stored: StoredDeployment
) -> operator_deployment_pb2.Deployment:
    """Return a deployment with what is placed and ready of it; shared, so not to be changed."""
    deployment = stored.deployment
    # A list of a thousand takes 60 ms to make, and less than one when it was made before.
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
        create_time=time_to_proto(stored.created_at),
        update_time=time_to_proto(stored.updated_at),
    )
    index.messages[name] = Message(
        stored=stored, told=index.told, ready=ready, made=message, item=item_of(message)
    )
    return message


def deployments_to_list(view: FleetView, page: Page[operator_deployment_pb2.Deployment]) -> bytes:
    """Return the response that lists deployments made of this view, encoded."""
    # Copied into a response and encoded, a thousand would hold up every other call for 5 ms.
    messages = view.index.messages
    items = [messages[made.spec.name].item for made in page.items]
    rest = operator_service_pb2.ListDeploymentsResponse(next_page_token=page.next_token)
    return b"".join((*items, rest.SerializeToString()))


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
    message.create_time.CopyFrom(time_to_proto(stored.created_at))
    return message


def outcome_to_proto(
    outcome: ApplyOutcome,
) -> operator_service_pb2.ApplyDeploymentResponse.Outcome:
    """Return what an apply did."""
    return _OUTCOMES[outcome]


def placement_to_proto(view: FleetView, placement: Placement) -> placement_pb2.Placement:
    """Return a placement with its envelope and what is ready of it."""
    key = placement.deployment, placement.pool
    stored, envelope = view.pools.get(placement.pool), view.granted.envelopes.get(key)
    plane = stored.pool.plane.name if stored else placement.pool.rpartition("--")[0]
    return placement_pb2.Placement(
        name=placement_name(view.project_of(placement.deployment), *key),
        deployment=placement.deployment,
        plane=plane,
        pool=placement.pool,
        replicas=placement.count,
        cost_per_hour=view.cost_per_hour(placement),
        reason=placement.reason,
        envelope=None if envelope is None else envelope_to_proto(envelope),
        replicas_ready=view.ready.get(key, 0),
    )


def replica_to_resource(
    view: FleetView, plane: str, replica: ObservedReplica
) -> placement_pb2.Replica:
    """Return a replica that a plane reported, with the age of the report."""
    received_at = view.observations[plane].received_at
    return placement_pb2.Replica(
        name=full_name(view.project_of(replica.deployment), "replicas", replica.name),
        plane=plane,
        observed=replica_to_proto(replica),
        report_age_seconds=max((view.now - received_at).total_seconds(), 0.0),
    )


def change_to_proto(change: Change) -> change_pb2.Change:
    """Return a committed change; with what it did where that was read."""
    message = change_pb2.Change(
        name=full_name(change.project, "changes", str(change.sequence)),
        sequence=change.sequence,
        time=time_to_proto(change.time),
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
    view: FleetView, change: PlannedChange, applied: Deployment | None, starts: ColdStarts
) -> placement_pb2.Plan:
    """Return what a plan would do, pool by pool and as a whole; costs in USD per hour."""
    message = _plan_to_proto(view, change, applied)
    message.deployments.extend(outlook.planned_deployments(view, change, applied, starts))
    return message


def decision_to_proto(
    view: FleetView, decision: Decision, starts: ColdStarts
) -> placement_pb2.Plan:
    """Return the decision in force as a plan that changes nothing any more."""
    plan = plan_of(decision, view.store.placements)
    held = _Held(plan=plan, before=plan.placements, solve_seconds=decision.solve_seconds)
    return plan_to_proto(view, held, None, starts)


def stored_plan_to_proto(
    view: FleetView, stored: StoredPlan, starts: ColdStarts
) -> placement_pb2.Plan:
    """Return a plan by number with what it left out, and what it would place where it waits."""
    plan = plan_of(stored.decision, stored.placements)
    before = view.store.placements if stored.placements else ()
    told = _Held(plan=plan, before=before, solve_seconds=stored.decision.solve_seconds)
    message = _plan_to_proto(view, told, None)
    if stored.placements:  # of a plan that was settled it is not kept what it placed
        message.deployments.extend(outlook.planned_deployments(view, told, None, starts))
    return _numbered(message, stored)


def listed_plan_to_proto(view: FleetView, stored: StoredPlan) -> placement_pb2.Plan:
    """Return a plan by number without what it places and rejects."""
    plan = replace(plan_of(stored.decision, ()), rejections=())
    told = _Held(plan=plan, before=(), solve_seconds=stored.decision.solve_seconds)
    return _numbered(_plan_to_proto(view, told, None), stored)


def _plan_to_proto(
    view: FleetView, change: PlannedChange, applied: Deployment | None
) -> placement_pb2.Plan:
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


def _numbered(message: placement_pb2.Plan, stored: StoredPlan) -> placement_pb2.Plan:
    message.name = full_name(DEFAULT_PROJECT, "plans", str(stored.number))
    message.state, message.inputs = stored.state.value, stored.inputs
    message.summary = stored.summary
    message.decide_time.CopyFrom(time_to_proto(stored.decided_at))
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
    name, scaling = stored.deployment.name, stored.deployment.scaling
    scaled = view.index.scaled.get(name) if scaling.scales else None
    short, dollars = shortage_of(scaled)
    mine = view.placements.get(name, ())
    left_out = view.unplaced.get(name, ())
    placed = sum(p.count for p in mine)
    wanted = placed + sum(replicas for _, replicas, _ in left_out)
    if scaling.scales:
        wanted = wanted_of(stored.deployment, scaled, wanted)
    return operator_deployment_pb2.DeploymentStatus(
        replicas_placed=placed,
        replicas_ready=view.ready_of.get(name, 0),
        replicas_wanted=0 if stored.deleting else max(wanted, scaling.min_replicas),
        cost_per_hour=sum(view.cost_per_hour(p) for p in mine),
        deleting=stored.deleting,
        pending=[f"{replicas} replicas: {reason}" for _, replicas, reason in left_out],
        replicas_needed=scaled.wanted if scaled is not None else None,
        replicas_short=short,
        short_dollars_per_hour=dollars,
    )


def terms_to_proto(terms: PoolTerms) -> pool_pb2.PoolTerms:
    """Return the message of a pool's terms."""
    return pool_pb2.PoolTerms(
        capacity_class=terms.capacity_class.value,
        price_per_accelerator_hour=terms.price_per_accelerator_hour,
        cordoned=terms.cordoned,
    )
