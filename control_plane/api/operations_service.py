"""skerry.api.operator.v1.OperationsService: drains, failovers and moves of a running fleet.

`main.py` adds it beside OperatorService, behind the same interceptor. Reconciliation does the work;
what is asked for here is kept by the store, so it goes on without the caller.
"""

import asyncio
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

from google.protobuf.empty_pb2 import Empty

from control_plane.api import convert, projects, validation
from control_plane.api.drills import check_drill
from control_plane.api.listing import listed
from control_plane.api.ports import Live, Mover, Watcher
from control_plane.api.rollouts import (
    check_rollout_name,
    check_steer,
    rollout_to_proto,
)
from control_plane.api.service_levels import deployments_asked, level_to_proto
from control_plane.api.times import time_to_proto
from control_plane.api.views import FleetView, FleetViews
from control_plane.api.writing import RETRY_SECONDS, Writing
from control_plane.reconcile.draining import (
    DrainProgress,
    Running,
    is_known,
    progress_of,
    running_of,
)
from control_plane.reconcile.relocation import MoveProposal, Relocation
from control_plane.reconcile.snapshot import Seen
from control_plane.store.cold_starts import list_cold_starts
from control_plane.store.cordons import find_cordon, set_cordon
from control_plane.store.drills import record_drill
from control_plane.store.engine import Database
from control_plane.store.nodes import get_node
from control_plane.store.planes import declare_lost
from control_plane.store.requests import Asked, answered
from control_plane.store.rollouts import get_rollout, list_rollouts, steer_rollout
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.api.operator.v1 import placement_pb2, rollout_pb2, service_level_pb2
from skerry.api.operator.v1.operations_service_pb2_grpc import OperationsServiceServicer
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.cordon import LOOKS, Cordon, CordonState, Part, Scope, planes_in
from skerry.fleet.deployment import REPLICAS_MAX
from skerry.fleet.names import DEFAULT_PROJECT
from skerry.fleet.observation import HEARD, PlaneCondition, PlaneState
from skerry.fleet.rollout import Rollout
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Exhausted, Infeasible, InvalidInput, NotFound, Unavailable
from skerry.plumbing.tasks import first_of

# Each one followed goes once a second through what runs, counted by place.
FOLLOWERS_MAX = 20
LOOK_SECONDS = 1.0
MOVED_MAX = REPLICAS_MAX


@dataclass(frozen=True, slots=True, kw_only=True)
class Works:
    """What operations need of the control plane."""

    database: Database
    writing: Writing
    views: FleetViews
    live: Live
    mover: Mover
    watcher: Watcher
    clock: Clock


class OperationsService(OperationsServiceServicer):
    """What operators do to a running fleet."""

    def __init__(self, works: Works) -> None:
        """Serve this control plane's fleet."""
        self._works = works
        self._followers = 0
        self._counted: tuple[Seen, tuple[Running, ...]] | None = None

    async def Drain(
        self, request: pb.DrainRequest, context: Any
    ) -> AsyncIterator[pb.DrainResponse]:
        """Begin a drain and stream how far it is, until nothing is left or it is ended."""
        part = validation.check_part(request.name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        held = await self._works.database.run_read(find_cordon, part)
        if part.scope is Scope.NODE and held is None:
            await self._works.database.run_read(get_node, part.name)
        elif held is None and not is_known(part, self._seen().snapshot):
            raise NotFound(
                f"nothing that planes reported lies in {part.scope.value} {part.name!r};"
                f" name a {part.scope.value} as {LOOKS[part.scope]}",
                field="name",
            )
        if request.validate_only:
            yield await self._progress(part, held, pb.DrainResponse.STATE_NOT_STARTED)
            return
        if self._followers >= FOLLOWERS_MAX:
            raise Exhausted(
                f"{FOLLOWERS_MAX} drains are followed, as many as may be; follow one less",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._followers += 1
        try:
            with self._works.writing.done():
                write = self._works.writing.context(context)
                draining = CordonState.DRAINING
                await self._works.database.run(set_cordon, write, part, draining, request_id)
            async for told in self._follow(part):
                yield told
        finally:
            self._followers -= 1

    async def Failover(self, request: pb.FailoverRequest, context: Any) -> pb.FailoverResponse:
        """Declare planes lost that are not heard, so that what was there is placed elsewhere."""
        part = validation.check_part(request.name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        if part.scope in (Scope.NODE, Scope.POOL):
            raise InvalidInput(
                f"a {part.scope.value} is not declared lost; `skerry drain` empties it",
                field="name",
            )
        body = f"{part.resource} {request.even_if_serving}"
        asked = Asked(request_id=request_id, kind="failover", body=body)
        if not request.validate_only and (earlier := await self._answered(asked, context)):
            return pb.FailoverResponse.FromString(earlier)
        answer = self._failover_of(part, even_if_serving=request.even_if_serving)
        if not request.validate_only:
            asked = replace(asked, answer=answer.SerializeToString())
            with self._works.writing.done():
                write = self._works.writing.context(context)
                names = tuple(answer.planes)
                done = await self._works.database.run(declare_lost, write, names, asked)
            if not done and (earlier := await self._answered(asked, context)):
                return pb.FailoverResponse.FromString(earlier)
        return answer

    async def MoveReplica(self, request: pb.MoveReplicaRequest, context: Any) -> placement_pb2.Plan:
        """Move replicas of a deployment from one pool to another, new before old."""
        works = self._works
        move = _relocation_of(request)
        owner = await self._owner(*validation.check_owned_name(request.name, "deployments"))
        request_id = validation.check_opaque(request.request_id, "request_id")
        asked = Asked(request_id=request_id, kind="move", body=repr(move))
        if not request.validate_only and (earlier := await self._answered(asked, context, owner)):
            return placement_pb2.Plan.FromString(earlier)
        try:
            told = await works.mover.propose_move(move)
        except Infeasible as error:
            raise projects.infeasible(await works.views.now(), owner, error) from None
        starts = await works.database.run_read(list_cold_starts)
        # Of 100,000 placements it takes two seconds, which the heartbeats of planes don't have.
        message = await asyncio.to_thread(
            _shown, await works.views.now(), told, move.deployment, starts
        )
        if request.validate_only:
            return message
        asked = replace(asked, answer=message.SerializeToString())
        with works.writing.done():
            write = works.writing.context(context, owner)
            done = await works.mover.put_moved(write, told, asked)
        if not done and (earlier := await self._answered(asked, context, owner)):
            return placement_pb2.Plan.FromString(earlier)
        return message

    async def ListRollouts(self, request: pb.ListRolloutsRequest, context: Any) -> Any:
        """Return a page of how far each deployment's newest revision is."""
        project = validation.check_owner(request.parent)
        view = await self._works.views.now()
        found = await self._works.database.run_read(list_rollouts)
        page = listed(
            request,
            projects.owned(view, project, found, _deployment_of),
            _deployment_of,
            lambda one: rollout_to_proto(one, view.project_of(one.deployment)),
            rollout_pb2.Rollout,
        )
        return pb.ListRolloutsResponse(rollouts=page.items, next_page_token=page.next_token)

    async def GetRollout(self, request: pb.GetRolloutRequest, context: Any) -> rollout_pb2.Rollout:
        """Return the rollout of one deployment."""
        project, name = check_rollout_name(request.name)
        owner = await self._owner(project, name)
        return rollout_to_proto(await self._works.database.run_read(get_rollout, name), owner)

    async def SteerRollout(
        self, request: pb.SteerRolloutRequest, context: Any
    ) -> rollout_pb2.Rollout:
        """Pause, resume or undo a rollout."""
        (project, name), steer = check_rollout_name(request.name), check_steer(request)
        owner = await self._owner(project, name)
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._works.writing.done():
            write = self._works.writing.context(context, owner)
            done = await self._works.database.run(steer_rollout, write, name, steer, request_id)
        return rollout_to_proto(done, owner)

    async def RecordDrill(self, request: pb.RecordDrillRequest, context: Any) -> Empty:
        """Write what a drill came to into the change log."""
        validation.check_parent(request.parent)
        drill = check_drill(request)
        request_id = validation.check_opaque(request.request_id, "request_id")
        with self._works.writing.done():
            write = self._works.writing.context(context)
            await self._works.database.run(record_drill, write, drill, request_id)
        return Empty()

    async def ListServiceLevels(self, request: pb.ListServiceLevelsRequest, context: Any) -> Any:
        """Return a page of how each deployment's answers of the last minutes went."""
        project = validation.check_owner(request.parent)
        view, live = await self._works.views.now(), self._works.live
        heard = live.loads().keys()
        page = listed(
            request,
            projects.owned(view, project, deployments_asked(request, view), str),
            str,
            lambda name: level_to_proto(view, live, heard, name),
            service_level_pb2.ServiceLevel,
        )
        return pb.ListServiceLevelsResponse(
            service_levels=page.items, next_page_token=page.next_token
        )

    async def _owner(self, project: str, name: str) -> str:
        """Return whose a deployment is; NotFound where it is none of that project's."""
        view = await self._works.views.now()
        return projects.find_deployment(view, project, name).deployment.project

    async def _answered(
        self, asked: Asked, context: Any, project: str = DEFAULT_PROJECT
    ) -> bytes | None:
        """Return what the same call was answered before, if it has an id."""
        if not asked.request_id:
            return None
        write = self._works.writing.context(context, project)
        return await self._works.database.run_read(answered, write, asked)

    def _failover_of(self, part: Part, *, even_if_serving: bool) -> pb.FailoverResponse:
        """Return which planes a failover of a part declares lost; raises where it may not."""
        seen = self._seen()
        names = planes_in(part, [plane.identity for plane in seen.snapshot.planes])
        if not names:
            raise NotFound(
                f"no plane that reported lies in {part.scope.value} {part.name!r};"
                " `skerry get planes` lists them",
                field="name",
            )
        found = _sorted_out(names, seen.conditions)
        if found.heard and part.scope is Scope.PLANE:
            raise Infeasible(
                f"plane {part.name} is heard; `skerry drain plane/{part.name}` empties it without"
                " a loss",
                field="name",
            )
        if found.serving and not even_if_serving:
            raise Infeasible(
                f"other planes see {', '.join(found.serving)} serving: more replicas than"
                " max_replicas could run; say even_if_serving (`--even-if-serving`) to do it all"
                " the same",
                field="even_if_serving",
            )
        return pb.FailoverResponse(
            planes=sorted((*found.silent, *found.serving)),
            heard=found.heard,
            lost_before=found.lost,
        )

    async def _follow(self, part: Part) -> AsyncIterator[pb.DrainResponse]:
        """Yield every new state of a drain, the last one when it is over or ended."""
        works, before = self._works, None
        while True:
            committed = works.database.next_commit()
            cordon = await works.database.run_read(find_cordon, part)
            if cordon is None or not cordon.draining:
                yield await self._progress(part, cordon, pb.DrainResponse.STATE_ENDED)
                return
            told = await self._progress(part, cordon, pb.DrainResponse.STATE_DRAINING)
            if told != before:
                yield told
                before = told
            if told.state == pb.DrainResponse.STATE_DRAINED:
                return
            # Planes' reports commit nothing: what they say is looked up.
            await first_of(committed.wait(), works.clock.sleep(LOOK_SECONDS))

    async def _progress(self, part: Part, cordon: Cordon | None, state: Any) -> pb.DrainResponse:
        seen = self._seen()
        view = await self._works.views.now()
        kept = view.store.decision.kept if view.store.decision else ()
        if self._counted is None or self._counted[0] is not seen:
            # Of 100,000 replicas it takes 0.1 s: once a look for all who follow, off the loop.
            self._counted = (seen, await asyncio.to_thread(running_of, seen.snapshot))
        running = self._counted[1]
        found = progress_of(part, running, seen.snapshot, seen.conditions, kept)
        draining = state == pb.DrainResponse.STATE_DRAINING
        # A look from before the drain began knows nothing of how it went.
        is_new = cordon is not None and seen.snapshot.now >= cordon.since
        if draining and is_new and found.is_over:
            state = pb.DrainResponse.STATE_DRAINED
        message = _progress_to_proto(found, state)
        if cordon is not None and cordon.draining:
            message.start_time.CopyFrom(time_to_proto(cordon.since))
        return message

    def _seen(self) -> Seen:
        seen = self._works.watcher.seen
        if seen is None:
            raise Unavailable(
                "this control plane has not looked at the fleet yet; ask again",
                retry_after_seconds=RETRY_SECONDS,
            )
        return seen


def _deployment_of(rollout: Rollout) -> str:
    return rollout.deployment


def _shown(
    view: FleetView, told: MoveProposal, deployment: str, starts: ColdStarts
) -> placement_pb2.Plan:
    """Return a move's plan with what it does to its deployment; all else stays as it is."""
    own = projects.narrowed(view, told, view.project_of(deployment))
    whole = convert.plan_to_proto(view, own, None, starts)
    placements = [row for row in whole.placements if row.deployment == deployment]
    deployments = [row for row in whole.deployments if row.deployment == deployment]
    whole.ClearField("placements")
    whole.ClearField("deployments")
    whole.placements.extend(placements)
    whole.deployments.extend(deployments)
    return whole


@dataclass(frozen=True, slots=True, kw_only=True)
class _Sorted:
    """Planes by what a failover means for them, each by name."""

    heard: tuple[str, ...]
    lost: tuple[str, ...]
    serving: tuple[str, ...]
    silent: tuple[str, ...]


def _sorted_out(names: tuple[str, ...], conditions: Mapping[str, PlaneCondition]) -> _Sorted:
    state = {name: conditions[name].state if name in conditions else None for name in names}
    return _Sorted(
        heard=tuple(name for name in names if state[name] in HEARD),
        lost=tuple(name for name in names if state[name] is PlaneState.LOST),
        serving=tuple(name for name in names if state[name] is PlaneState.DISCONNECTED),
        silent=tuple(name for name in names if state[name] in (None, PlaneState.SUSPECT)),
    )


def _relocation_of(request: pb.MoveReplicaRequest) -> Relocation:
    replicas = request.replicas or 1
    if not 1 <= replicas <= MOVED_MAX:
        raise InvalidInput(f"replicas {replicas} must be 1..{MOVED_MAX}", field="replicas")
    move = Relocation(
        deployment=validation.check_owned_name(request.name, "deployments")[1],
        from_pool=validation.check_pool_id(request.from_pool, "from_pool"),
        to_pool=validation.check_pool_id(request.to_pool, "to_pool"),
        replicas=replicas,
    )
    if move.from_pool == move.to_pool:
        raise InvalidInput("from_pool and to_pool are the same; name another pool", field="to_pool")
    return move


def _progress_to_proto(found: DrainProgress, state: Any) -> pb.DrainResponse:
    return pb.DrainResponse(
        state=state,
        replicas_left=found.replicas_left,
        deployments=[
            pb.DrainingDeployment(
                deployment=one.deployment,
                replicas_left=one.left,
                replicas_wanted=one.wanted,
                replicas_ready_elsewhere=one.ready_elsewhere,
            )
            for one in found.left
        ],
        waits_for=found.waits_for,
    )
