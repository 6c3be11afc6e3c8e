"""skerry.api.operator.v1.OperatorService: each method validates, calls the store, and converts.

`main.py` adds it to a grpc.aio server with `skerry.plumbing.rpc.ErrorInterceptor`, which turns
what is raised here into statuses.
"""

import contextlib
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from typing import Any, TypeVar

from google.protobuf.empty_pb2 import Empty

from control_plane.api import answers, convert, hypotheses, validation
from control_plane.api.auth import actor_of
from control_plane.api.pagination import Page, page_of, sequence_after, size_of, token_of
from control_plane.api.ports import EngineCheck, Live, Questions, Reconciler
from control_plane.api.watch import ChangeWatch
from control_plane.store import pools
from control_plane.store.changes import list_changes
from control_plane.store.deployments import apply_deployment, mark_deleting
from control_plane.store.engine import Database
from control_plane.store.leadership import WriteContext
from control_plane.store.snapshot import load
from skerry.api.operator.v1 import (
    deployment_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
    question_pb2,
)
from skerry.api.operator.v1 import (
    operator_service_pb2 as pb,
)
from skerry.api.operator.v1.operator_service_pb2_grpc import OperatorServiceServicer
from skerry.fleet.deployment import Deployment
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import (
    FieldViolation,
    InvalidInput,
    NotFound,
    StaleGeneration,
    Unavailable,
)

Item = TypeVar("Item")

# A standby takes over within seconds; clients know the other control planes and try those too.
RETRY_SECONDS = 2.0
CURRENT_PLAN = "current"


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
        self._live = live
        self._questions = questions
        self._check_engine = check_engine
        self._watch = ChangeWatch(database, clock)

    async def ListPlanes(self, request: pb.ListPlanesRequest, context: Any) -> Any:
        """Return a page of planes, by name."""
        validation.check_parent(request.parent)
        view = await self._view()
        page = _page(request, view.store.planes, lambda stored: stored.identity.name)
        planes = [convert.plane_to_proto(view, stored, self._live) for stored in page.items]
        return pb.ListPlanesResponse(planes=planes, next_page_token=page.next_token)

    async def GetPlane(self, request: pb.GetPlaneRequest, context: Any) -> plane_pb2.Plane:
        """Return one plane."""
        name = validation.check_full_name(request.name, "planes")
        view = await self._view()
        for stored in view.store.planes:
            if stored.identity.name == name:
                return convert.plane_to_proto(view, stored, self._live)
        raise NotFound(f"plane {name!r} has not reported; `skerry get planes` lists those that did")

    async def ListPools(self, request: pb.ListPoolsRequest, context: Any) -> Any:
        """Return a page of reported pools, by their fleet-wide ids."""
        validation.check_parent(request.parent)
        view = await self._view()
        page = _page(request, view.store.pools, lambda stored: stored.pool.name)
        found = [convert.pool_to_proto(view, stored) for stored in page.items]
        return pb.ListPoolsResponse(pools=found, next_page_token=page.next_token)

    async def GetPool(self, request: pb.GetPoolRequest, context: Any) -> pool_pb2.Pool:
        """Return one pool; without a shape while only its terms are known."""
        return await self._pool(validation.check_pool_name(request.name))

    async def UpdatePool(self, request: pb.UpdatePoolRequest, context: Any) -> pool_pb2.Pool:
        """Set the operator's terms of a pool."""
        name = validation.check_pool_name(request.name)
        if not request.HasField("terms"):
            raise InvalidInput("say the pool's terms", field="terms")
        terms = validation.terms_of(request.terms)
        etag, request_id = _opaque(request)
        with self._writing():
            await self._database.run(
                pools.set_terms, self._write(context), name, terms, etag, request_id
            )
        return await self._pool(name)

    async def ListDeployments(self, request: pb.ListDeploymentsRequest, context: Any) -> Any:
        """Return a page of deployments, by name."""
        validation.check_parent(request.parent)
        view = await self._view()
        page = _page(request, view.store.deployments, lambda stored: stored.deployment.name)
        found = [convert.deployment_to_resource(view, stored) for stored in page.items]
        return pb.ListDeploymentsResponse(deployments=found, next_page_token=page.next_token)

    async def GetDeployment(
        self, request: pb.GetDeploymentRequest, context: Any
    ) -> deployment_pb2.Deployment:
        """Return one deployment."""
        name = validation.check_full_name(request.name, "deployments")
        view = await self._view()
        for stored in view.store.deployments:
            if stored.deployment.name == name:
                return convert.deployment_to_resource(view, stored)
        raise NotFound(f"deployment {name!r} does not exist; `skerry get deployments` lists them")

    async def ApplyDeployment(self, request: pb.ApplyDeploymentRequest, context: Any) -> Any:
        """Create the deployment or give it a new revision."""
        wanted, _ = await self._wanted(request)
        etag, request_id = _opaque(request)
        with self._writing():
            applied = await self._database.run(
                apply_deployment, self._write(context), wanted, etag, request_id
            )
        return pb.ApplyDeploymentResponse(
            deployment=convert.deployment_to_resource(await self._view(), applied.stored),
            outcome=convert.outcome_to_proto(applied.outcome),
        )

    async def DeleteDeployment(self, request: pb.DeleteDeploymentRequest, context: Any) -> Empty:
        """Ask for a deployment's end; it is drained, then removed."""
        name = validation.check_full_name(request.name, "deployments")
        etag, request_id = _opaque(request)
        with self._writing():
            await self._database.run(mark_deleting, self._write(context), name, etag, request_id)
        return Empty()

    async def PlanDeployment(
        self, request: pb.PlanDeploymentRequest, context: Any
    ) -> placement_pb2.Plan:
        """Return what applying would do, or without a spec what placing anew would do."""
        if request.HasField("spec"):
            wanted, view = await self._wanted(request)
            return convert.plan_to_proto(view, await self._reconciler.plan(wanted), wanted)
        validation.check_parent(request.parent)
        change = await self._reconciler.plan(None)
        return convert.plan_to_proto(await self._view(), change, None)

    async def GetPlan(self, request: pb.GetPlanRequest, context: Any) -> placement_pb2.Plan:
        """Return the decision in force."""
        if validation.check_full_name(request.name, "plans") != CURRENT_PLAN:
            raise NotFound(f"there is one plan, {CURRENT_PLAN!r}: the decision in force")
        view = await self._view()
        if view.store.decision is None:
            raise NotFound("nothing was decided yet; apply a deployment, or wait for the planes")
        return convert.decision_to_proto(view, view.store.decision)

    async def Explain(self, request: pb.ExplainRequest, context: Any) -> question_pb2.Explanation:
        """Return why a deployment is where it is, or is or is not on a pool."""
        name = validation.check_full_name(request.name, "deployments")
        pool = validation.check_pool_id(request.pool, "pool") if request.pool else None
        return answers.explanation_to_proto(await self._questions.explain(name, pool))

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
        validation.check_parent(request.parent)
        placements = convert.placements_to_proto(await self._view())
        page = _page(request, placements, lambda placement: placement.name)
        return pb.ListPlacementsResponse(placements=page.items, next_page_token=page.next_token)

    async def ListReplicas(self, request: pb.ListReplicasRequest, context: Any) -> Any:
        """Return a page of the replicas that planes report, by plane and name."""
        validation.check_parent(request.parent)
        replicas = convert.replicas_to_proto(await self._view())
        page = _page(request, replicas, lambda replica: f"{replica.plane} {replica.name}")
        return pb.ListReplicasResponse(replicas=page.items, next_page_token=page.next_token)

    async def ListChanges(self, request: pb.ListChangesRequest, context: Any) -> Any:
        """Return a page of the change log, from either end."""
        validation.check_parent(request.parent)
        above = validation.check_sequence(request.from_sequence)
        newest = request.newest_first
        listing = f"ListChanges {request.parent} {above} {newest}"
        start, size = sequence_after(listing, request.page_token), size_of(request.page_size)
        low, high = (above, start) if newest else (start or above, None)
        found = await self._database.run_read(list_changes, low, size + 1, newest, high)
        more = token_of(listing, str(found[size - 1].sequence)) if len(found) > size else ""
        changes = [convert.change_to_proto(change) for change in found[:size]]
        return pb.ListChangesResponse(changes=changes, next_page_token=more)

    async def WatchChanges(
        self, request: pb.WatchChangesRequest, context: Any
    ) -> AsyncIterator[pb.WatchChangesResponse]:
        """Stream every change above a sequence, without end."""
        validation.check_parent(request.parent)
        follow = self._watch.follow(validation.check_sequence(request.from_sequence))
        async with contextlib.aclosing(follow) as changes:
            async for change in changes:
                yield pb.WatchChangesResponse(change=convert.change_to_proto(change))

    async def _view(self) -> convert.FleetView:
        store = await self._database.run_read(load)
        return convert.view_of(store, self._live.observations(), self._clock.now())

    async def _wanted(
        self, request: pb.ApplyDeploymentRequest | pb.PlanDeploymentRequest
    ) -> tuple[Deployment, convert.FleetView]:
        project = validation.check_parent(request.parent)
        view = await self._view()
        wanted = validation.deployment_of(request.spec, project, view.store, self._check_engine)
        return wanted, view

    async def _pool(self, name: str) -> pool_pb2.Pool:
        view = await self._view()
        if stored := view.pools.get(name):
            return convert.pool_to_proto(view, stored)
        if terms := await self._database.run_read(pools.get_terms, name):
            return convert.waiting_pool_to_proto(terms)
        raise NotFound(f"pool {name!r} was not reported; `skerry get pools` lists those that were")

    def _write(self, context: Any) -> WriteContext:
        if not self._reconciler.epoch:
            raise _not_leading()
        return WriteContext(
            epoch=self._reconciler.epoch, actor=actor_of(context), now=self._clock.now()
        )

    @contextlib.contextmanager
    def _writing(self) -> Iterator[None]:
        """Wake the loop after a write; a deposed leader's caller is sent to the one that leads."""
        try:
            yield
        except StaleGeneration:
            raise _not_leading() from None
        self._reconciler.wake()


def _page(request: Any, items: Sequence[Item], key: Callable[[Item], str]) -> Page[Item]:
    listing = f"{type(request).__name__} {request.parent}"
    return page_of(items, key, listing, request.page_size, request.page_token)


def _opaque(request: Any) -> tuple[str, str]:
    return (
        validation.check_opaque(request.etag, "etag"),
        validation.check_opaque(request.request_id, "request_id"),
    )


def _not_leading() -> Unavailable:
    return Unavailable(
        "this control plane does not lead; send the call to another one",
        retry_after_seconds=RETRY_SECONDS,
    )
