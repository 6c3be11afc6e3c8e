"""What the operator API promises, over a real server."""

import asyncio
from dataclasses import replace
from typing import Any

import grpc
import pytest
from google.protobuf.field_mask_pb2 import FieldMask

from control_plane.api.watch import WATCHERS_MAX, ChangeWatch
from control_plane.store.deployments import apply_deployment
from control_plane.store.desired import put_desired
from control_plane.store.placements import Decision, record_decision, replace_placements
from control_plane.store.planes import set_condition
from control_plane.store.plans import Proposal, put_in_force
from control_plane.store.values import Told
from skerry.api.common.v1 import deployment_pb2 as spec_pb
from skerry.api.operator.v1 import deployment_pb2 as operator_deployment_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1 import plane_pb2, pool_pb2
from skerry.api.plane.v1 import plane_service_pb2
from skerry.fleet.generation import Version
from skerry.fleet.observation import (
    FAULT_CHARACTERS_MAX,
    GATEWAY_FAULTS_MAX,
    PlaneCondition,
    PlaneState,
    ReplicaState,
)
from skerry.fleet.placement import Envelope, Placement
from skerry.plumbing.errors import Exhausted
from skerry.wire.deployments import deployment_to_proto
from skerry.wire.observations import report_from_proto, report_to_proto
from tests.builders import a_deployment, a_replica, a_report
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

PARENT = "projects/default"
DEMO = f"{PARENT}/deployments/demo"
POOL = f"{PARENT}/pools/onprem-fra--cpu"
Outcome = pb.ApplyDeploymentResponse


def a_spec(name: str = "demo", **fields: Any) -> spec_pb.DeploymentSpec:
    return deployment_to_proto(a_deployment(name, **fields))


async def apply(fleet: Operator, spec: spec_pb.DeploymentSpec, **fields: Any) -> Any:
    request = pb.ApplyDeploymentRequest(parent=PARENT, spec=spec, **fields)
    return await fleet.stub.ApplyDeployment(request, metadata=(("x-skerry-actor", "user:ana"),))


async def test_applying_is_recorded_with_its_actor_and_wakes_the_loop(fleet: Operator) -> None:
    first = await apply(fleet, a_spec(), request_id="r-1")
    again = await apply(fleet, a_spec(), request_id="r-1")
    unchanged = await apply(fleet, a_spec())
    updated = await apply(fleet, a_spec(replicas=5), etag=first.deployment.etag)
    assert first.outcome == again.outcome == Outcome.OUTCOME_CREATED
    assert unchanged.outcome == Outcome.OUTCOME_UNCHANGED
    assert updated.outcome == Outcome.OUTCOME_UPDATED
    assert first.deployment.name == DEMO
    assert first.deployment.spec.revision.number == 1
    assert fleet.reconciler.woken
    log = await fleet.stub.ListChanges(pb.ListChangesRequest(parent=PARENT, newest_first=True))
    newest = log.changes[0]
    assert (newest.actor, newest.kind, newest.subject) == ("user:ana", "deployment.applied", DEMO)
    assert newest.time.ToDatetime() == START.replace(tzinfo=None)


async def test_parts_left_out_of_a_spec_get_the_fleets_defaults(fleet: Operator) -> None:
    spec = a_spec()
    for part in ("scaling", "policy", "project"):
        spec.ClearField(part)
    spec.revision.ClearField("objective")
    spec.revision.base_model.served_name = ""
    applied = await apply(fleet, spec)
    assert applied.deployment.spec.scaling.target_utilization == 0.7
    assert applied.deployment.spec.policy.priority == 1
    assert applied.deployment.spec.revision.base_model.served_name == "demo"


async def test_a_deployment_shows_what_is_placed_ready_and_pending(fleet: Operator) -> None:
    await fleet.stub.UpdatePool(
        pb.UpdatePoolRequest(name=POOL, terms=terms(price_per_accelerator_hour=0.25))
    )
    await apply(fleet, a_spec(replicas=5))
    placed = (Placement(deployment="demo", pool="onprem-fra--cpu", count=4, reason="cheapest"),)
    await fleet.database.run(replace_placements, fleet.write(), placed, "4 placed")
    decision = Decision(
        cost_per_hour=1.0,
        solver="exact",
        optimal=True,
        solve_seconds=0.1,
        unplaced=(("demo", 1, "no room"),),
    )
    await fleet.database.run(record_decision, fleet.write(), decision)
    replicas = (a_replica(), a_replica(name="demo-r1-b", state=ReplicaState.STARTING))
    hear(fleet, "onprem-fra", replicas=replicas)
    shown = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    status = shown.status
    assert (status.replicas_placed, status.replicas_ready, status.replicas_wanted) == (4, 1, 5)
    assert status.cost_per_hour == pytest.approx(1.0)
    assert list(status.pending) == ["1 replicas: no room"]
    pool = await fleet.stub.GetPool(pb.GetPoolRequest(name=POOL))
    assert pool.accelerators_placed == 4


async def test_replicas_of_a_lost_plane_do_not_count_as_ready(fleet: Operator) -> None:
    await apply(fleet, a_spec())
    hear(fleet, "onprem-fra", replicas=(a_replica(),))
    lost = PlaneCondition(state=PlaneState.LOST, since=START, reason="witnesses agree")
    await fleet.database.run(set_condition, fleet.write(), "onprem-fra", lost, PlaneState.CONNECTED)
    shown = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    assert shown.status.replicas_ready == 0


async def tell(operator: Operator, payload: bytes, *envelopes: Envelope, held: int = 0) -> None:
    told = Told(payload=payload, digest=str(held).encode(), envelopes=envelopes)
    await operator.database.run(put_desired, operator.write(), "onprem-fra", told, held)


async def test_envelopes_are_those_kept_beside_the_desired_state_told_last(
    fleet: Operator,
) -> None:
    await apply(fleet, a_spec())
    placed = (Placement(deployment="demo", pool="onprem-fra--cpu", count=2, reason="near"),)
    await fleet.database.run(replace_placements, fleet.write(), placed, "2 placed")
    request = pb.GetPlacementRequest(name=f"{PARENT}/placements/demo--onprem-fra--cpu")
    assert not (await fleet.stub.GetPlacement(request)).HasField("envelope")
    for held, target in enumerate((1, 2)):
        envelope = Envelope(
            deployment="demo", pool="onprem-fra--cpu", floor=1, target=target, ceiling=3
        )
        await tell(fleet, b"\xff not to be read", envelope, held=held)
        shown = (await fleet.stub.GetPlacement(request)).envelope
        assert (shown.floor, shown.target, shown.ceiling) == (1, target, 3)
    other = Envelope(deployment="other", pool="onprem-fra--cpu", floor=0, target=0, ceiling=1)
    await tell(fleet, b"\xff not to be read", other, held=2)
    assert not (await fleet.stub.GetPlacement(request)).HasField("envelope")
    listed = await fleet.stub.ListPlacements(pb.ListPlacementsRequest(parent=PARENT))
    assert [(p.deployment, p.reason) for p in listed.placements] == [
        ("demo", "near"),
        ("other", "being drained"),
    ]


async def test_a_desired_state_that_cannot_be_read_hides_its_envelopes_and_nothing_else(
    fleet: Operator,
) -> None:
    await tell(fleet, b"\xff\xff")
    assert (
        await fleet.stub.ListPlacements(pb.ListPlacementsRequest(parent=PARENT))
    ).placements == []
    assert len((await fleet.stub.ListPlanes(pb.ListPlanesRequest(parent=PARENT))).planes) == 2


async def test_placements_show_what_a_plane_is_still_granted(fleet: Operator) -> None:
    await apply(fleet, a_spec())
    placed = (Placement(deployment="demo", pool="onprem-fra--cpu", count=2, reason="near"),)
    await fleet.database.run(replace_placements, fleet.write(), placed, "2 placed")
    told = plane_service_pb2.Desired()
    assignment = told.assignments.add()
    for pool, ceiling in (("onprem-fra--cpu", 3), ("gcp-x--cpu", 1)):
        assignment.envelopes.add(deployment="demo", pool=pool, ceiling=ceiling)
    payload = told.SerializeToString()
    await tell(fleet, payload)  # an older release keeps no envelopes beside it
    listed = await fleet.stub.ListPlacements(pb.ListPlacementsRequest(parent=PARENT))
    rows = [(p.plane, p.replicas, p.envelope.ceiling, p.reason) for p in listed.placements]
    assert rows == [("gcp-x", 0, 1, "being drained"), ("onprem-fra", 2, 3, "near")]
    assert listed.placements[1].name == f"{PARENT}/placements/demo--onprem-fra--cpu"


async def test_a_plane_shows_its_condition_versions_and_refusal(fleet: Operator) -> None:
    await tell(fleet, b"")
    fleet.live.nacks["onprem-fra"] = "unknown feature"
    plane = await fleet.stub.GetPlane(pb.GetPlaneRequest(name=f"{PARENT}/planes/onprem-fra"))
    assert plane.state == plane_pb2.Plane.STATE_CONNECTED
    assert (plane.reason, plane.nack) == ("stream up", "unknown feature")
    assert (plane.desired.epoch, plane.desired.generation) == (1, 1)
    fleet.live.versions["onprem-fra"] = Version(epoch=2, generation=1)
    plane = await fleet.stub.GetPlane(pb.GetPlaneRequest(name=f"{PARENT}/planes/onprem-fra"))
    assert plane.desired.epoch == 2, "a later leader pushes it under its own epoch"
    assert plane.identity.region == "fra"


async def test_what_is_wrong_with_a_planes_gateway_is_shown_with_the_plane(
    fleet: Operator,
) -> None:
    faults = ("gateway: not taken up: clusters/clusters.json", "gateway: not published: too few")
    told = report_to_proto(a_report(gateway_faults=(*faults, "x" * 10_000, *("y",) * 100)))
    hear(fleet, "onprem-fra", gateway_faults=report_from_proto(told).gateway_faults)
    plane = await fleet.stub.GetPlane(pb.GetPlaneRequest(name=f"{PARENT}/planes/onprem-fra"))
    assert tuple(plane.gateway_faults[:2]) == faults
    # Whatever a plane sends, it is a few lines.
    assert len(plane.gateway_faults) == GATEWAY_FAULTS_MAX
    assert max(map(len, plane.gateway_faults)) == FAULT_CHARACTERS_MAX


async def test_replicas_are_listed_with_the_age_of_their_report(fleet: Operator) -> None:
    hear(fleet, "onprem-fra", replicas=(a_replica(name="b"), a_replica(name="a")))
    fleet.clock.advance(2.5)
    listed = await fleet.stub.ListReplicas(pb.ListReplicasRequest(parent=PARENT))
    assert [(r.plane, r.observed.name) for r in listed.replicas] == [
        ("onprem-fra", "a"),
        ("onprem-fra", "b"),
    ]
    assert listed.replicas[0].report_age_seconds == pytest.approx(2.5)


async def test_terms_can_be_set_before_the_plane_is_there(operator: Operator) -> None:
    waiting = await operator.stub.UpdatePool(pb.UpdatePoolRequest(name=POOL, terms=terms()))
    assert not waiting.HasField("shape")
    assert waiting.plane == "onprem-fra"
    assert waiting.terms.cordoned
    assert waiting == await operator.stub.GetPool(pb.GetPoolRequest(name=POOL))


async def test_a_plan_shows_both_sides_and_changes_nothing(fleet: Operator) -> None:
    request = pb.PlanDeploymentRequest(parent=PARENT, spec=a_spec())
    plan = await fleet.stub.PlanDeployment(request)
    rows = [(p.pool, p.replicas_before, p.replicas_after) for p in plan.placements]
    assert rows == [("gcp-x--cpu", 2, 0), ("onprem-fra--cpu", 0, 1)]
    assert (plan.solver, plan.optimal, plan.solve_seconds) == ("exact", True, 0.25)
    assert fleet.reconciler.asked == [a_deployment()]
    listed = await fleet.stub.ListDeployments(pb.ListDeploymentsRequest(parent=PARENT))
    assert not listed.deployments
    await fleet.stub.PlanDeployment(pb.PlanDeploymentRequest(parent=PARENT))
    assert fleet.reconciler.asked[1] is None


async def test_deleting_marks_and_a_repeat_is_one_effect(fleet: Operator) -> None:
    await apply(fleet, a_spec())
    for _ in range(2):
        await fleet.stub.DeleteDeployment(pb.DeleteDeploymentRequest(name=DEMO, request_id="d"))
    shown = await fleet.stub.GetDeployment(pb.GetDeploymentRequest(name=DEMO))
    assert shown.status.replicas_wanted == 0
    log = await fleet.stub.ListChanges(pb.ListChangesRequest(parent=PARENT))
    assert [c.kind for c in log.changes].count("deployment.deleting") == 1


async def test_pages_hold_every_item_once(fleet: Operator) -> None:
    names = [f"d-{number}" for number in range(5)]
    for name in names:
        await apply(fleet, a_spec(name))
    found, token = [], ""
    while True:
        page = await fleet.stub.ListDeployments(
            pb.ListDeploymentsRequest(parent=PARENT, page_size=2, page_token=token)
        )
        found += [d.spec.name for d in page.deployments]
        if not (token := page.next_page_token):
            break
    assert found == names


@pytest.mark.parametrize("filtered", ["", 'spec.name != ""'])
async def test_a_list_shows_each_item_as_get_does_whatever_moved(
    fleet: Operator, filtered: str
) -> None:
    for name in ("d-0", "d-1", "d-2"):
        await apply(fleet, a_spec(name))
    request = pb.ListDeploymentsRequest(parent=PARENT, page_size=2, filter=filtered)
    for plane in ("", "onprem-fra"):
        if plane:
            hear(fleet, plane, replicas=(a_replica(),))
            fleet.clock.advance(1.0)
        page = await fleet.stub.ListDeployments(request)
        assert [d.name for d in page.deployments] == [
            f"{PARENT}/deployments/d-0",
            f"{PARENT}/deployments/d-1",
        ]
        for one in page.deployments:
            get = pb.GetDeploymentRequest(name=one.name)
            assert one == await fleet.stub.GetDeployment(get)
        assert page.next_page_token


@pytest.mark.parametrize("newest_first", [False, True])
async def test_pages_of_changes_have_no_gap(fleet: Operator, newest_first: bool) -> None:
    for number in range(6):
        await apply(fleet, a_spec(f"d-{number}"))
    found, token = [], ""
    while True:
        page = await fleet.stub.ListChanges(
            pb.ListChangesRequest(
                parent=PARENT,
                page_size=2,
                page_token=token,
                from_sequence=1,
                newest_first=newest_first,
            )
        )
        found += [change.sequence for change in page.changes]
        if not (token := page.next_page_token):
            break
    assert found == sorted(range(2, 12), reverse=newest_first)


async def test_a_watch_begins_with_the_past_and_goes_on_with_every_commit(fleet: Operator) -> None:
    watch = fleet.stub.WatchChanges(pb.WatchChangesRequest(parent=PARENT, from_sequence=3))
    async with asyncio.timeout(10):
        past = [(await watch.read()).change.sequence for _ in range(2)]
        await apply(fleet, a_spec())
        new = (await watch.read()).change
    watch.cancel()
    assert past == [4, 5]
    assert (new.sequence, new.kind) == (6, "deployment.applied")


async def test_a_watch_sees_what_another_process_committed(fleet: Operator) -> None:
    watch = fleet.stub.WatchChanges(pb.WatchChangesRequest(parent=PARENT, from_sequence=5))
    await fleet.clock.wait_for_sleepers(1)
    with fleet.database.write() as session:  # not through `run`: nobody here is told
        apply_deployment(session, fleet.write(), a_deployment(), "", "")
    fleet.clock.advance(1.0)
    async with asyncio.timeout(10):
        assert (await watch.read()).change.sequence == 6
    watch.cancel()


async def test_watchers_are_limited_and_a_place_is_given_back(fleet: Operator) -> None:
    watch = ChangeWatch(fleet.database, fleet.clock)
    open_streams = [watch.follow(0) for _ in range(WATCHERS_MAX)]
    for stream in open_streams:
        await anext(stream)
    with pytest.raises(Exhausted, match="end one"):
        await anext(watch.follow(0))
    await open_streams.pop().aclose()
    another = watch.follow(0)
    assert (await anext(another)).sequence == 1
    for stream in (*open_streams, another):
        await stream.aclose()


def terms(**fields: Any) -> pool_pb2.PoolTerms:
    fields.setdefault("cordoned", True)
    return pool_pb2.PoolTerms(capacity_class="reserved", **fields)


def hear(fleet: Operator, plane: str, **fields: Any) -> None:
    fleet.clock.advance(1.0)  # a view is shared for a moment
    observation = fleet.live.reports[plane]
    report = a_report(plane, **fields)
    fleet.live.reports[plane] = replace(observation, report=report, received_at=fleet.clock.now())


def spec_of(**scaling: int) -> Any:
    spec = deployment_to_proto(a_deployment())
    for name, value in scaling.items():
        setattr(spec.scaling, name, value)
    return spec


async def test_a_deployment_is_created_once(fleet: Operator) -> None:
    spec = spec_of()
    request = pb.CreateDeploymentRequest(
        parent=PARENT,
        deployment_id="demo",
        deployment=operator_deployment_pb2.Deployment(spec=spec),
    )
    assert (await fleet.stub.CreateDeployment(request)).name == f"{PARENT}/deployments/demo"
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await fleet.stub.CreateDeployment(request)
    assert error.value.code() is grpc.StatusCode.ALREADY_EXISTS


async def test_a_masked_update_leaves_the_rest_alone(fleet: Operator) -> None:
    await fleet.stub.ApplyDeployment(
        pb.ApplyDeploymentRequest(parent=PARENT, spec=spec_of(max_replicas=5))
    )
    changed = operator_deployment_pb2.Deployment(name=f"{PARENT}/deployments/demo")
    changed.spec.scaling.max_replicas = 7
    changed.spec.policy.priority = 3
    found = await fleet.stub.UpdateDeployment(
        pb.UpdateDeploymentRequest(
            deployment=changed, update_mask=FieldMask(paths=["spec.scaling.max_replicas"])
        )
    )
    assert found.spec.scaling.max_replicas == 7
    assert found.spec.policy.priority == 1
    assert found.spec.revision.number == 1


async def test_what_does_not_exist_is_updated_only_when_allowed(fleet: Operator) -> None:
    told = operator_deployment_pb2.Deployment(name=f"{PARENT}/deployments/demo", spec=spec_of())
    request = pb.UpdateDeploymentRequest(deployment=told)
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await fleet.stub.UpdateDeployment(request)
    assert error.value.code() is grpc.StatusCode.NOT_FOUND
    request.allow_missing = True
    assert (await fleet.stub.UpdateDeployment(request)).name == told.name


@pytest.mark.parametrize("path", ["status", "spec.nothing", "name", "spec..scaling"])
async def test_a_mask_of_no_part_of_the_spec_is_refused(fleet: Operator, path: str) -> None:
    await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec_of()))
    told = operator_deployment_pb2.Deployment(name=f"{PARENT}/deployments/demo")
    request = pb.UpdateDeploymentRequest(deployment=told, update_mask=FieldMask(paths=[path]))
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await fleet.stub.UpdateDeployment(request)
    assert error.value.code() is grpc.StatusCode.INVALID_ARGUMENT


async def test_a_rollback_brings_a_revision_back_under_its_own_number(fleet: Operator) -> None:
    for uri in ("builtin://one", "builtin://two", "builtin://three"):
        spec = spec_of()
        spec.revision.base_model.uri = uri
        await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    name = f"{PARENT}/deployments/demo"
    back = await fleet.stub.RollbackDeployment(pb.RollbackDeploymentRequest(name=name))
    assert (back.spec.revision.number, back.spec.revision.base_model.uri) == (2, "builtin://two")
    first = pb.RollbackDeploymentRequest(name=name, revision=1, request_id="once")
    assert (await fleet.stub.RollbackDeployment(first)).spec.revision.number == 1
    assert (await fleet.stub.RollbackDeployment(first)).spec.revision.number == 1
    found = await fleet.stub.ListRevisions(pb.ListRevisionsRequest(parent=name))
    assert [(r.revision.number, r.current) for r in found.revisions] == [
        (3, False),
        (2, False),
        (1, True),
    ]
    one = await fleet.stub.GetRevision(pb.GetRevisionRequest(name=f"{name}/revisions/3"))
    assert one.revision.base_model.uri == "builtin://three"
    for request in (
        pb.RollbackDeploymentRequest(name=name),
        pb.RollbackDeploymentRequest(name=name, revision=9),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await fleet.stub.RollbackDeployment(request)
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
    spec = spec_of()
    spec.revision.base_model.uri = "builtin://four"
    applied = await fleet.stub.ApplyDeployment(pb.ApplyDeploymentRequest(parent=PARENT, spec=spec))
    assert applied.deployment.spec.revision.number == 4


async def test_lists_are_filtered_and_ordered(fleet: Operator) -> None:
    request = pb.ListPoolsRequest(parent=PARENT, filter="plane = gcp-x")
    assert [p.plane for p in (await fleet.stub.ListPools(request)).pools] == ["gcp-x"]
    planes = pb.ListPlanesRequest(parent=PARENT, order_by="name desc", filter="state = CONNECTED")
    found = [p.identity.name for p in (await fleet.stub.ListPlanes(planes)).planes]
    assert found == ["onprem-fra", "gcp-x"]


async def test_pages_of_plans_hold_every_plan_once_whatever_is_decided_meanwhile(
    fleet: Operator,
) -> None:
    async def decide(replicas: int) -> None:
        decision = Decision(cost_per_hour=1.5, solver="exact", optimal=True, solve_seconds=0.1)
        placed = (Placement(deployment="demo", pool="gcp-x--cpu", count=replicas),)
        nothing = Proposal(decision=decision, placements=(), summary="nothing moves")
        waits = Proposal(decision=decision, placements=placed, summary="demo moves")
        inputs = f"inputs-{replicas}"
        await fleet.database.run(put_in_force, fleet.write(), nothing, (), inputs, waits)

    for replicas in range(1, 6):
        await decide(replicas)
    found: list[str] = []
    token, request = "", pb.ListPlansRequest(parent=PARENT, page_size=2)
    while True:
        request.page_token = token
        page = await fleet.stub.ListPlans(request)
        found += [plan.name.rpartition("/")[2] for plan in page.plans]
        if not (token := page.next_page_token):
            break
        await decide(9)
    assert found == ["5", "4", "3", "2", "1"]


async def test_a_waiting_plan_is_shown_and_approved(fleet: Operator) -> None:
    decision = Decision(cost_per_hour=1.5, solver="exact", optimal=True, solve_seconds=0.1)
    placed = (Placement(deployment="demo", pool="gcp-x--cpu", count=2, reason="cheapest"),)
    nothing = Proposal(decision=decision, placements=(), summary="nothing moves")
    waits = Proposal(decision=decision, placements=placed, summary="demo moves")
    await fleet.database.run(put_in_force, fleet.write(), nothing, (), "inputs", waits)
    found = await fleet.stub.ListPlans(pb.ListPlansRequest(parent=PARENT))
    assert [(p.state, p.summary) for p in found.plans] == [("held", "demo moves")]
    assert not found.plans[0].placements
    whole = await fleet.stub.GetPlan(pb.GetPlanRequest(name=found.plans[0].name))
    assert [(p.pool, p.replicas_after) for p in whole.placements] == [("gcp-x--cpu", 2)]
    approved = await fleet.stub.ApprovePlan(pb.ApprovePlanRequest(name=whole.name))
    assert approved.state == "approved"
    placements = await fleet.stub.ListPlacements(pb.ListPlacementsRequest(parent=PARENT))
    assert [(p.pool, p.replicas) for p in placements.placements] == [("gcp-x--cpu", 2)]
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await fleet.stub.RejectPlan(pb.RejectPlanRequest(name=whole.name))
    assert error.value.code() is grpc.StatusCode.FAILED_PRECONDITION


async def test_one_placement_and_one_replica_are_found_by_name(fleet: Operator) -> None:
    placed = (Placement(deployment="demo", pool="gcp-x--cpu", count=2, reason="cheapest"),)
    await fleet.database.run(replace_placements, fleet.write(), placed, "why")
    hear(fleet, "gcp-x", replicas=(a_replica(name="a"),))
    fleet.clock.advance(1.0)
    name = f"{PARENT}/placements/demo--gcp-x--cpu"
    found = await fleet.stub.GetPlacement(pb.GetPlacementRequest(name=name))
    assert (found.replicas, found.reason) == (2, "cheapest")
    replica = await fleet.stub.GetReplica(pb.GetReplicaRequest(name=f"{PARENT}/replicas/a"))
    assert replica.plane == "gcp-x"
    for call in (
        fleet.stub.GetPlacement(pb.GetPlacementRequest(name=f"{PARENT}/placements/none")),
        fleet.stub.GetReplica(pb.GetReplicaRequest(name=f"{PARENT}/replicas/none")),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as error:
            await call
        assert error.value.code() is grpc.StatusCode.NOT_FOUND
