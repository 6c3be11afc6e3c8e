"""skerry.api.operator.v1.OperatorService: each method validates, calls the store, and converts.

`main.py` adds it to a grpc.aio server with `skerry.plumbing.rpc.ErrorInterceptor`, which turns
what is raised here into statuses.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty

from control_plane.api import answers, applying, convert, hypotheses, projects, updating, validation
from control_plane.api.auditing import records_page, verified_piece
from control_plane.api.control_planes import control_plane_to_proto
from control_plane.api.listing import listed
from control_plane.api.long_lists import changes_page, plans_page
from control_plane.api.nodes import nodes_to_proto
from control_plane.api.plane_explaining import explanation_to_proto, freeze_told
from control_plane.api.ports import EngineCheck, Live, PlannedChange, Questions, Reconciler
from control_plane.api.residency import residency_proof
from control_plane.api.scaling_explaining import check_decisions, scaling_to_proto
from control_plane.api.views import FleetView, FleetViews
from control_plane.api.watch import ChangeWatch
from control_plane.api.writing import Writing
from control_plane.store import pools
from control_plane.store.changes import get_change
from control_plane.store.cold_starts import list_cold_starts
from control_plane.store.control_planes import list_control_planes
from control_plane.store.deployments import (
    Creation,
    apply_deployment,
    get_revision,
    list_revisions,
    mark_deleting,
    rollback_deployment,
    update_deployment,
)
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.intents import apply_wanted, preview_wanted
from control_plane.store.nodes import get_node, list_nodes
from control_plane.store.plans import get_plan, settle_plan
from control_plane.store.scalings import list_scaling_records
from control_plane.store.values import AppliedDeployment, StoredDeployment
from control_plane.store.verdicts import list_verdicts
from skerry.api.operator.v1 import (
    change_pb2,
    control_plane_pb2,
    deployment_pb2,
    node_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
    question_pb2,
)
from skerry.api.operator.v1 import (
    operator_service_pb2 as pb,
)
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceServicer
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.deployment import Deployment
from skerry.fleet.observation import ObservedReplica
from skerry.fleet.project import ANY_PROJECT
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    FieldViolation,
    InvalidInput,
    NotFound,
)

Item = TypeVar("Item")

CURRENT_PLAN = "current"
REVISIONS_MAX = 2**31  # no revision has a higher number


def _no_refusals(deployment: Deployment) -> tuple[FieldViolation, ...]:
    return ()


class OperatorService(OperatorServiceServicer):
    """The operator API of one control plane."""

    def __init__(
        self,
        *,
        database: Database,
        clock: Clock,
        reconciler: Reconciler,
        live: Live,
        questions: Questions,
        check_engine: EngineCheck = _no_refusals,
    ) -> None:
        """Serve this store; the reconciler is woken by every change."""
        self._database = database
        self._clock = clock
        self._reconciler = reconciler
        self._writing = Writing(reconciler, clock)
        self._live = live
        self._questions = questions
        self._check_engine = check_engine
        self._watch = ChangeWatch(database, clock)
        self._views = FleetViews(database, live, clock)

    @property
    def views(self) -> FleetViews:
        """Return the views that every service of this control plane looks through."""
        return self._views

    async def ListPlanes(self, request: pb.ListPlanesRequest, context: Any) -> Any:
        """Return a page of planes, by name."""
        validation.check_parent(request.parent)
        view = await self._view()
        page = listed(
            request,
            view.store.planes,
            lambda stored: stored.identity.name,
            lambda stored: convert.plane_to_proto(view, stored, self._live),
            plane_pb2.Plane,
        )
        return pb.ListPlanesResponse(
            planes=page.items,
            next_page_token=page.next_token,
            freeze=freeze_told(self._reconciler.seen),
        )

    async def GetPlane(self, request: pb.GetPlaneRequest, context: Any) -> plane_pb2.Plane:
        """Return one plane."""
        name = validation.check_full_name(request.name, "planes")
        view = await self._view()
        if stored := view.planes.get(name):
            return convert.plane_to_proto(view, stored, self._live)
        raise NotFound(f"plane {name!r} has not reported; `skerry get planes` lists those that did")

    async def ListControlPlanes(self, request: pb.ListControlPlanesRequest, context: Any) -> Any:
        """Return a page of control planes, by name."""
        validation.check_parent(request.parent)
        page = listed(
            request,
            await self._database.run_read(list_control_planes),
            lambda stored: stored.told.name,
            control_plane_to_proto,
            control_plane_pb2.ControlPlane,
        )
        return pb.ListControlPlanesResponse(
            control_planes=page.items, next_page_token=page.next_token
        )

    async def ExplainPlane(self, request: pb.ExplainPlaneRequest, context: Any) -> Any:
        """Return why a plane is judged as it is, by which evidence, and what happened before."""
        plane = await self.GetPlane(pb.GetPlaneRequest(name=request.name), context)
        name = validation.check_full_name(request.name, "planes")
        history = await self._database.run_read(list_verdicts, name)
        now = self._reconciler
        return explanation_to_proto(plane, name, now.seen, history, now.held_back)

    async def ExplainScaling(self, request: pb.ExplainScalingRequest, context: Any) -> Any:
        """Return why a deployment has as many replicas as it has, by which decisions."""
        most = check_decisions(request.decisions_max)
        wanted = projects.deployment_at(await self._view(), request.name).deployment
        records = await self._database.run_read(list_scaling_records, wanted.name, most)
        return scaling_to_proto(wanted, records, self._live, most)

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> Any:
        """Return a page of pools, by their fleet-wide ids; without a shape where terms wait."""
        validation.check_parent(request.parent)
        view = await self._view()
        waiting = await self._database.run_read(pools.list_waiting_terms)
        # What was reported since the view was made is listed once.
        known = {terms.pool: terms for terms in waiting if terms.pool not in view.set_pools}
        page = listed(
            request,
            sorted((*view.set_pools, *known)),
            str,
            lambda name: (
                convert.waiting_pool_to_proto(known[name])
                if name in known
                else convert.pool_to_proto(view, view.set_pools[name])
            ),
            pool_pb2.Pool,
        )
        return pb.ListPoolsResponse(pools=page.items, next_page_token=page.next_token)

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> pool_pb2.Pool:
        """Return one pool; without a shape while only its terms are known."""
        return await self._pool(validation.check_pool_name(request.name))

    async def UpdatePool(self, request: pb.UpdatePoolRequest, context: Any) -> pool_pb2.Pool:
        """Set the operator's terms of a pool, all of them or those that are masked."""
        name = validation.check_pool_name(request.name)
        if not request.HasField("terms"):
            raise InvalidInput("say the pool's terms", field="terms")
        etag, request_id = _opaque(request)
        with self._writing.done():
            write = self._writing.context(context)
            if request.update_mask.paths:
                asked = updating.asked_terms(request, name)
                merge = updating.merging_terms(request)
                await self._database.run(pools.update_terms, write, asked, merge, request_id)
            else:
                terms = validation.terms_of(request.terms)
                await self._database.run(pools.set_terms, write, name, terms, etag, request_id)
        return await self._pool(name)

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> Any:
        """Return a page of the nodes that planes report, by their fleet-wide ids."""
        validation.check_parent(request.parent)
        view, found = await self._view(), await self._database.run_read(list_nodes)
        messages = tuple(nodes_to_proto(view, found))
        page = listed(request, messages, _name, _itself, node_pb2.Node)
        return pb.ListNodesResponse(nodes=page.items, next_page_token=page.next_token)

    async def GetNode(self, request: pb.GetNodeRequest, context: Any) -> node_pb2.Node:
        """Return one node."""
        name = validation.check_in_collection(request.name, "nodes")
        stored = await self._database.run_read(get_node, name)
        return next(nodes_to_proto(await self._view(), (stored,)))

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Any) -> Any:
        """Return a page of deployments, by name."""
        project = validation.check_owner(request.parent)
        view = await self._view()
        page = listed(
            request,
            projects.owned(view, project, view.store.deployments, _deployment_name),
            _deployment_name,
            lambda stored: convert.deployment_to_resource(view, stored),
            deployment_pb2.Deployment,
        )
        return convert.deployments_to_list(view, page)

    async def GetDeployment(
        self, request: pb.GetDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        """Return one deployment."""
        view = await self._view()
        return convert.deployment_to_resource(view, projects.deployment_at(view, request.name))

    async def ApplyDeployment(self, request: pb.ApplyDeploymentRequest, context: Any) -> Any:
        """Create the deployment or give it a new revision."""
        applied = await self._applied(request, Creation.ALLOWED, context)
        return pb.ApplyDeploymentResponse(
            deployment=convert.deployment_to_resource(await self._view(), applied.stored),
            outcome=convert.outcome_to_proto(applied.outcome),
        )

    async def Apply(self, request: pb.ApplyRequest, context: Any) -> pb.ApplyResponse:
        """Apply deployments and other intents in one transaction, or say what that would do."""
        project = validation.check_owner(request.parent)
        if request.intents:  # of what the fleet shares
            validation.check_parent(request.parent)
        request_id = validation.check_opaque(request.request_id, "request_id")
        view = await self._view()
        projects.check_one(view, project)
        wanted = applying.wanted_of(request, project, view.store, self._check_engine)
        if request.validate_only:
            now = self._clock.now()
            return applying.applied_to_proto(
                view, await self._database.run_read(preview_wanted, wanted, now)
            )
        with self._writing.done():
            write = self._writing.context(context, project)
            done = await self._database.run(apply_wanted, write, wanted, request_id)
        return applying.applied_to_proto(await self._view(), done)

    async def CreateDeployment(
        self, request: pb.CreateDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        """Create a deployment of a name that is free."""
        spec = validation.named_spec(request.deployment.spec, request.deployment_id)
        asked = pb.ApplyDeploymentRequest(
            parent=request.parent, spec=spec, request_id=request.request_id
        )
        return await self._apply(asked, Creation.ONLY, context)

    async def UpdateDeployment(
        self, request: pb.UpdateDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        """Change a deployment, whole or the masked fields of its spec."""
        if request.update_mask.paths:
            return await self._update_some(request, context)
        told = request.deployment
        _, name = validation.check_owned_name(told.name, "deployments")
        asked = pb.ApplyDeploymentRequest(
            parent=told.name.rpartition("/deployments/")[0],
            spec=validation.named_spec(told.spec, name),
            etag=told.etag,
            request_id=request.request_id,
        )
        may = Creation.ALLOWED if request.allow_missing else Creation.NEVER
        return await self._apply(asked, may, context)

    async def ListRevisions(self, request: pb.ListRevisionsRequest, context: Any) -> Any:
        """Return a page of a deployment's revisions, the newest first unless ordered."""
        now = projects.deployment_at(await self._view(), request.parent, "parent")
        name = now.deployment.name
        found = await self._database.run_read(list_revisions, name)
        page = listed(
            request,
            found,
            lambda stored: _newest_first(stored.revision),
            lambda stored: convert.revision_to_resource(name, stored, now),
            deployment_pb2.DeploymentRevision,
            lambda message: _newest_first(message.revision),
        )
        return pb.ListRevisionsResponse(revisions=page.items, next_page_token=page.next_token)

    async def GetRevision(
        self, request: pb.GetRevisionRequest, context: Any
    ) -> deployment_pb2.DeploymentRevision:
        """Return one revision of a deployment."""
        project, name, number = validation.check_revision_name(request.name)
        now = projects.find_deployment(await self._view(), project, name)
        found = await self._database.run_read(get_revision, name, number)
        return convert.revision_to_resource(name, found, now)

    async def RollbackDeployment(
        self, request: pb.RollbackDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        """Make an earlier revision the present one."""
        project, name = validation.check_owned_name(request.name, "deployments")
        if request.revision < 0:
            raise InvalidInput(f"revision {request.revision} is negative", field="revision")
        etag, request_id = _opaque(request)
        with self._writing.done():
            write = await self._owner(context, project, name)
            stored = await self._database.run(
                rollback_deployment, write, name, request.revision, etag, request_id
            )
        return convert.deployment_to_resource(await self._view(), stored)

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, context: Any) -> Empty:
        """Ask for a deployment's end; it is drained, then removed."""
        project, name = validation.check_owned_name(request.name, "deployments")
        etag, request_id = _opaque(request)
        with self._writing.done():
            write = await self._owner(context, project, name)
            await self._database.run(mark_deleting, write, name, etag, request_id)
        return Empty()

    async def PlanDeployment(
        self, request: pb.PlanDeploymentRequest, context: Any
    ) -> placement_pb2.Plan:
        """Return what applying would do, or without a spec what placing anew would do."""
        if request.HasField("spec"):
            wanted, view = await self._wanted(request)
            projects.check_name_free(view, wanted)
            change = await self._reconciler.plan(wanted)
            own = projects.narrowed(view, change, wanted.project, wanted)
            return await self._planned(view, own, wanted)
        validation.check_parent(request.parent)  # it is about the whole fleet
        change = await self._reconciler.plan(None)
        return await self._planned(await self._view(), change, None)

    async def GetPlan(self, request: pb.GetPlanRequest, context: Any) -> placement_pb2.Plan:
        """Return the decision in force, or another plan by its number."""
        view = await self._view()
        if not request.name.endswith(f"/plans/{CURRENT_PLAN}"):
            number = validation.check_numbered(request.name, "plans")
            stored = await self._database.run_read(get_plan, number)
            return convert.stored_plan_to_proto(view, stored, await self._starts())
        validation.check_full_name(request.name, "plans")
        if view.store.decision is None:
            raise NotFound("nothing was decided yet; apply a deployment, or wait for the planes")
        starts = await self._starts()
        return await asyncio.to_thread(convert.decision_to_proto, view, view.store.decision, starts)

    async def ListPlans(self, request: pb.ListPlansRequest, context: Any) -> Any:
        """Return a page of the plans that are kept, the newest first unless ordered."""
        validation.check_parent(request.parent)
        page = await plans_page(self._database, await self._view(), request)
        return pb.ListPlansResponse(plans=page.items, next_page_token=page.next_token)

    async def ApprovePlan(self, request: pb.ApprovePlanRequest, context: Any) -> placement_pb2.Plan:
        """Put a plan in force that waits."""
        return await self._settle(request, context, approved=True)

    async def RejectPlan(self, request: pb.RejectPlanRequest, context: Any) -> placement_pb2.Plan:
        """Leave things as they are."""
        return await self._settle(request, context, approved=False)

    async def _settle(self, request: Any, context: Any, *, approved: bool) -> placement_pb2.Plan:
        number = validation.check_numbered(request.name, "plans")
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._writing.done():
            write = self._writing.context(context)
            stored = await self._database.run(settle_plan, write, number, approved, request_id)
        return convert.stored_plan_to_proto(await self._view(), stored, await self._starts())

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> question_pb2.Explanation:
        """Return why a deployment is where it is, or is or is not on a pool."""
        pool = validation.check_pool_id(request.pool, "pool") if request.pool else None
        view = await self._view()
        asked = projects.deployment_at(view, request.name).deployment
        return await projects.explained(view, asked, self._questions.explain(asked.name, pool))

    async def WhatIf(self, request: pb.WhatIfRequest, context: Any) -> question_pb2.Consequences:
        """Return what losses, prices, demand or new pools would do."""
        validation.check_parent(request.parent)
        changes = hypotheses.changes_of(request.changes)
        return answers.consequences_to_proto(await self._questions.what_if(changes))

    async def Survive(self, request: pb.SurviveRequest, context: Any) -> question_pb2.LossMatrix:
        """Return what the loss of each plane, region and cloud would leave."""
        validation.check_parent(request.parent)
        domains = hypotheses.domains_of(request.domains)
        return answers.losses_to_proto(await self._questions.survive(domains))

    async def ListPlacements(self, request: pb.ListPlacementsRequest, context: Any) -> Any:
        """Return a page of placements, by name."""
        project = validation.check_owner(request.parent)
        view = await self._view()
        granted = view.granted.placements.items()
        page = listed(
            request,
            projects.owned(view, project, granted, lambda named: named[1].deployment),
            _first,
            lambda named: convert.placement_to_proto(view, named[1]),
            placement_pb2.Placement,
        )
        return pb.ListPlacementsResponse(placements=page.items, next_page_token=page.next_token)

    async def GetPlacement(
        self, request: pb.GetPlacementRequest, context: Any
    ) -> placement_pb2.Placement:
        """Return one placement."""
        project, short = validation.check_owned_in(request.name, "placements")
        view = await self._view()
        if placement := projects.find_placement(view, project, short):
            return convert.placement_to_proto(view, placement)
        raise NotFound(f"placement {short!r} does not exist; `skerry get placements` lists them")

    async def GetReplica(
        self, request: pb.GetReplicaRequest, context: Any
    ) -> placement_pb2.Replica:
        """Return one replica that a plane reports."""
        project, short = validation.check_owned_in(request.name, "replicas")
        view = await self._view()
        for plane, replica in view.replicas():
            owner = view.project_of(replica.deployment)
            if replica.name == short and projects.is_in(project, owner):
                return convert.replica_to_resource(view, plane, replica)
        raise NotFound(f"replica {short!r} is not reported; `skerry get replicas` lists them")

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> Any:
        """Return a page of the replicas that planes report, by plane and name."""
        project = validation.check_owner(request.parent)
        view = await self._view()
        page = listed(
            request,
            projects.owned(view, project, view.replicas(), lambda found: found[1].deployment),
            _plane_and_name,
            lambda found: convert.replica_to_resource(view, *found),
            placement_pb2.Replica,
        )
        return pb.ListReplicasResponse(replicas=page.items, next_page_token=page.next_token)

    async def ListChanges(self, request: pb.ListChangesRequest, context: Any) -> Any:
        """Return a page of the change log, from either end."""
        project = projects.check_project(await self._view(), validation.check_owner(request.parent))
        page = await changes_page(self._database, request, project)
        return pb.ListChangesResponse(changes=page.items, next_page_token=page.next_token)

    async def GetChange(self, request: pb.GetChangeRequest, context: Any) -> change_pb2.Change:
        """Return one change with what it did."""
        project, sequence = validation.check_owned_number(request.name, "changes")
        projects.check_project(await self._view(), project)
        return convert.change_to_proto(await self._database.run_read(get_change, sequence, project))

    async def WatchChanges(
        self, request: pb.WatchChangesRequest, context: Any
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """Stream every change above a sequence, without end."""
        project = projects.check_project(await self._view(), validation.check_owner(request.parent))
        follow = self._watch.follow(validation.check_sequence(request.from_sequence), project)
        async with contextlib.aclosing(follow) as changes:
            async for change in changes:
                yield pb.WatchChangesResponse(change=convert.change_to_proto(change))

    async def ListChangeRecords(self, request: pb.ListChangeRecordsRequest, context: Any) -> Any:
        """Return a page of the change log with what chains it, oldest first."""
        validation.check_parent(request.parent)
        return await records_page(self._database, request)

    async def VerifyChanges(self, request: pb.VerifyChangesRequest, context: Any) -> Any:
        """Verify the next piece of the change log; a fault is an answer."""
        validation.check_parent(request.parent)
        return await verified_piece(self._database, request)

    async def GetResidencyProof(self, request: pb.GetResidencyProofRequest, context: Any) -> Any:
        """Judge whether requests left their zones; that some did, or might have, is an answer."""
        validation.check_parent(request.parent)
        return await residency_proof(self._database, request, self._clock.now())

    async def _view(self) -> FleetView:
        return await self._views.now()

    async def _planned(
        self, view: FleetView, change: PlannedChange, applied: Deployment | None
    ) -> placement_pb2.Plan:
        starts = await self._starts()
        # Of 100,000 placements it takes two seconds, which the heartbeats of planes don't have.
        return await asyncio.to_thread(convert.plan_to_proto, view, change, applied, starts)

    async def _starts(self) -> ColdStarts:
        return await self._database.run_read(list_cold_starts)

    async def _apply(
        self, request: pb.ApplyDeploymentRequest, may: Creation, context: Any
    ) -> deployment_pb2.Deployment:
        applied = await self._applied(request, may, context)
        return convert.deployment_to_resource(await self._view(), applied.stored)

    async def _applied(
        self, request: pb.ApplyDeploymentRequest, may: Creation, context: Any
    ) -> AppliedDeployment:
        wanted, _ = await self._wanted(request)
        etag, request_id = _opaque(request)
        with self._writing.done():
            write = self._writing.context(context, wanted.project)
            return await self._database.run(apply_deployment, write, wanted, etag, request_id, may)

    async def _update_some(
        self, request: pb.UpdateDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        asked = updating.asked_of(request)
        request_id = validation.check_opaque(request.request_id, "request_id")
        view = await self._view()
        project = projects.owner_of(view, request.deployment.name)
        merge = updating.merging(request, project, view.store, self._check_engine)
        with self._writing.done():
            write = self._writing.context(context, project)
            done = await self._database.run(update_deployment, write, asked, merge, request_id)
        return convert.deployment_to_resource(await self._view(), done.stored)

    async def _wanted(
        self, request: pb.ApplyDeploymentRequest | pb.PlanDeploymentRequest
    ) -> tuple[Deployment, FleetView]:
        view = await self._view()
        project = projects.check_one(view, validation.check_owner(request.parent))
        wanted = validation.deployment_of(request.spec, project, view.store, self._check_engine)
        return wanted, view

    async def _owner(self, context: Any, project: str, name: str) -> WriteContext:
        """Return the context of a write to a deployment; NotFound where it is another's."""
        if project == ANY_PROJECT:
            view = await self._view()
            project = projects.find_deployment(view, project, name).deployment.project
        return self._writing.context(context, project)

    async def _pool(self, name: str) -> pool_pb2.Pool:
        view = await self._view()
        if stored := view.set_pools.get(name):
            return convert.pool_to_proto(view, stored)
        if terms := await self._database.run_read(pools.get_terms, name):
            return convert.waiting_pool_to_proto(terms)
        raise NotFound(f"pool {name!r} was not reported; `skerry get pools` lists those that were")


def _newest_first(revision: Any) -> str:
    return f"{REVISIONS_MAX - revision.number:010d}"


def _name(message: Any) -> str:
    return str(message.name)


def _first(item: tuple[str, Any]) -> str:
    return item[0]


def _deployment_name(stored: StoredDeployment) -> str:
    return stored.deployment.name


def _plane_and_name(found: tuple[str, ObservedReplica]) -> str:
    return f"{found[0]} {found[1].name}"


def _itself(message: Any) -> Any:
    return message


def _opaque(request: Any) -> tuple[str, str]:
    return (
        validation.check_opaque(request.etag, "etag"),
        validation.check_opaque(request.request_id, "request_id"),
    )
