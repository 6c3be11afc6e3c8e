"""Two tenants of one fleet: of the other one nothing is there, whatever is asked, and how.

Methods are read from descriptors; a new one is tried without a word here.
"""

import asyncio
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import FieldDescriptor, MethodDescriptor

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.access.matrix import MATRIX, Scope
from control_plane.api.serving import operator_services
from control_plane.store.api_keys import KeyRecord, create_api_key
from control_plane.store.changes import last_sequence
from control_plane.store.deployments import apply_deployment
from control_plane.store.placements import Decision, record_decision, replace_placements
from control_plane.store.planes import record_report
from control_plane.store.projects import create_project
from control_plane.store.rollouts import put_rollouts
from control_plane.store.service_tokens import create_service_token
from skerry.api.common.v1 import deployment_pb2
from skerry.api.operator.v1 import deployment_pb2 as resource_pb2
from skerry.api.operator.v1 import operator_service_pb2 as pb
from skerry.api.operator.v1 import projects_pb2
from skerry.fleet.access import Grant, Role, ServiceToken
from skerry.fleet.api_key import KeyTerms
from skerry.fleet.observation import Observation
from skerry.fleet.placement import Placement
from skerry.fleet.project import Project
from skerry.fleet.rollout import Rollout, Stage
from skerry.fleet.service_token import digest_of_token, token_text
from skerry.wire.deployments import deployment_to_proto
from tests.builders import a_deployment, a_replica, a_report
from tests.fakes.clock import START
from tests.unit.control_plane.api.access.credentials import BOOTSTRAP, SECRET, bearer, written
from tests.unit.control_plane.api.conftest import Operator, running_operator
from tests.unit.control_plane.api.test_every_method import filled

pytestmark = pytest.mark.integration

POOL = "onprem-fra--cpu"
SECONDS_MAX = 10.0
STREAM_SECONDS = 0.2
NUMBER = {"int": 0, "float": 0.0}
METHODS = [method for service in operator_services() for method in service.methods]
NOT_FOUND = grpc.StatusCode.NOT_FOUND


@dataclass(frozen=True, kw_only=True)
class Tenant:
    """What one project owns, under words that stand in nothing else."""

    project: str
    word: str  # its deployment's name, and in all its other names
    token: str = ""

    @property
    def names(self) -> tuple[bytes, bytes]:
        return self.project.encode(), self.word.encode()


RED, BLUE = Tenant(project="crimson", word="squid"), Tenant(project="indigo", word="otter")


@dataclass
class Shared:
    """A fleet of two tenants, each of which owns one of everything that can be owned."""

    operator: Operator
    tenants: tuple[Tenant, Tenant]

    async def call(
        self, method: MethodDescriptor, request: bytes, token: str
    ) -> tuple[grpc.StatusCode, bytes, str]:
        """Return code, response and error's text of a call."""
        path = f"/{method.containing_service.full_name}/{method.name}"
        told = b""
        try:
            if method.server_streaming:
                stream: Any = self.operator.channel.unary_stream(path)
                async for part in stream(request, timeout=STREAM_SECONDS, metadata=bearer(token)):
                    told += part
            else:
                unary: Any = self.operator.channel.unary_unary(path)
                told = await unary(request, timeout=SECONDS_MAX, metadata=bearer(token))
        except grpc.aio.AioRpcError as error:
            return error.code(), told, error.details() or ""
        return grpc.StatusCode.OK, told, ""


async def own(at: Operator, tenant: Tenant, number: int) -> Tenant:
    """Give a tenant one of everything, and return it with the token of its admin."""
    run, word = at.database.run, tenant.word
    project = Project(name=tenant.project, creator="user:ana", created_at=START)
    await run(create_project, at.write(), project, "")
    write = replace(at.write(), project=tenant.project)
    deployment = a_deployment(word, project=tenant.project)
    await run(apply_deployment, write, deployment, "", "")
    key = KeyRecord(
        name=f"{word}-key",
        terms=KeyTerms(deployments=(word,)),
        creator="user:ana",
        created_at=START,
    )
    await run(create_api_key, write, key, bytes([number]) * 32, "")
    text = token_text(f"{word}-token", SECRET)
    token = ServiceToken(
        name=f"{word}-token",
        grant=Grant(role=Role.ADMIN, projects=(tenant.project,)),
        creator="user:ana",
        created_at=START,
    )
    await run(create_service_token, write, token, digest_of_token(text), "")
    return replace(tenant, token=text)


@pytest.fixture
async def shared(tmp_path: Path, empty_store: Path) -> AsyncIterator[Shared]:
    access = OperatorAccessSettings(required=True, bootstrap_token_file=written(tmp_path))
    async with running_operator(tmp_path, empty_store, access) as at:
        words = (RED.word, BLUE.word)
        report = a_report(replicas=tuple(a_replica(word) for word in words))
        await at.database.run(record_report, at.write(), report)
        at.live.reports["onprem-fra"] = Observation(report=report, received_at=START)
        tenants = await own(at, RED, 1), await own(at, BLUE, 2)
        placed = tuple(Placement(deployment=word, pool=POOL, count=1) for word in sorted(words))
        await at.database.run(replace_placements, at.write(), placed, "placed")
        decision = Decision(
            cost_per_hour=1.0,
            solver="exact",
            optimal=True,
            solve_seconds=0.1,
            unplaced=tuple((word, 1, "no room") for word in words),
        )
        await at.database.run(record_decision, at.write(), decision)
        stages = [
            (
                Rollout(deployment=word, revision=1, stable=1, stage=Stage.COMPLETE, since=START),
                None,
            )
            for word in words
        ]
        await at.database.run(put_rollouts, at.write(), stages)
        at.clock.advance(2.0)  # the door looks again after a second
        yield Shared(operator=at, tenants=tenants)


def guesses(own: Tenant, other: Tenant, changes: int) -> Iterator[str]:
    """Yield what a tenant may try: names of the other's things, in its own project."""
    parent, word = f"projects/{own.project}", other.word
    deployment = f"{parent}/deployments/{word}"
    yield parent
    yield from (deployment, f"{deployment}/rollout", f"{deployment}/revisions/1")
    yield from (f"{parent}/placements/{word}--{POOL}", f"{parent}/replicas/{word}-r1-aaaa")
    yield from (f"{parent}/apiKeys/{word}-key", f"{parent}/serviceTokens/{word}-token")
    yield from (f"{parent}/changes/{number}" for number in range(1, changes + 1))


def asking(method: MethodDescriptor, own: Tenant, text: str) -> Any:
    """Return a request with that name in every field, of the tenant's own project."""
    message: Any = filled(method.input_type, text, NUMBER)
    fields = message.DESCRIPTOR.fields_by_name
    if "parent" in fields and not text.endswith(("/rollout", "/revisions/1")):
        is_of_deployment = method.name == "ListRevisions"
        message.parent = text if is_of_deployment else f"projects/{own.project}"
    for field in ("filter", "order_by", "page_token", "etag", "project"):
        if field in fields:
            message.ClearField(field)
    return message


async def test_no_method_tells_a_tenant_of_the_other_or_changes_what_that_one_has(
    shared: Shared,
) -> None:
    changes = await shared.operator.database.run_read(last_sequence)
    before = await seen_by_all(shared)
    for own_one, other in (shared.tenants, shared.tenants[::-1]):
        for method in METHODS:
            if method.name.startswith(("Create", "Revoke")) and "Key" not in method.name:
                continue  # of credentials: its own would be made and gone with the first guess
            for guess in guesses(own_one, other, changes):
                request = asking(method, own_one, guess).SerializeToString()
                code, told, said = await shared.call(method, request, own_one.token)
                what = f"{method.name} {guess}: {code} {said} {told!r}"
                assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL), what
                assert not any(name in told for name in other.names), what
                assert other.project not in said, what
                if f"/{other.word}" in guess and "name" in method.input_type.fields_by_name:
                    assert told == b"", what
                if method.server_streaming:
                    break  # it takes none of the guesses, and is listened to for a while
    assert await seen_by_all(shared) == before


async def seen_by_all(shared: Shared) -> tuple[str, ...]:
    """Return what there is of tenants' things, as who sees everything sees it."""
    stub, every = shared.operator.stub, "projects/-"
    told = bearer(BOOTSTRAP)
    found = []
    for method, request in (
        (stub.ListDeployments, pb.ListDeploymentsRequest(parent=every)),
        (stub.ListPlacements, pb.ListPlacementsRequest(parent=every)),
        (stub.ListReplicas, pb.ListReplicasRequest(parent=every)),
    ):
        text = str(await method(request, metadata=told))
        assert all(tenant.word in text and tenant.project in text for tenant in shared.tenants)
        found.append(text)
    return tuple(found)


async def test_lists_of_what_the_fleet_shares_are_closed_to_a_tenant(shared: Shared) -> None:
    (red, _) = shared.tenants
    owned = {
        *("ListDeployments", "ListPlacements", "ListReplicas", "ListChanges", "ListRollouts"),
        *("ListServiceTokens", "ListApiKeys", "ListServiceLevels"),
    }
    for method in METHODS:
        entry = MATRIX[f"/{method.containing_service.full_name}/{method.name}"]
        if not method.name.startswith("List") or entry.scope is Scope.OWN:
            continue
        message: Any = filled(method.input_type, "", NUMBER)
        name = f"projects/{red.project}"
        if method.name == "ListRevisions":
            name += f"/deployments/{red.word}"
        message.parent = name
        code, _, said = await shared.call(method, message.SerializeToString(), red.token)
        is_own = method.name in owned or method.name == "ListRevisions"
        wanted = grpc.StatusCode.OK if is_own else NOT_FOUND
        assert code is wanted, f"{method.name}: {code} {said}"


async def test_each_tenant_sees_what_is_its_own(shared: Shared) -> None:
    stub = shared.operator.stub
    for tenant in shared.tenants:
        parent, told = f"projects/{tenant.project}", bearer(tenant.token)
        listed = await stub.ListDeployments(pb.ListDeploymentsRequest(parent=parent), metadata=told)
        assert [one.name for one in listed.deployments] == [f"{parent}/deployments/{tenant.word}"]
        placed = await stub.ListPlacements(pb.ListPlacementsRequest(parent=parent), metadata=told)
        (row,) = placed.placements
        assert row.name == f"{parent}/placements/{tenant.word}--{POOL}"
        assert await stub.GetPlacement(pb.GetPlacementRequest(name=row.name), metadata=told) == row
        running = await stub.ListReplicas(pb.ListReplicasRequest(parent=parent), metadata=told)
        assert [one.observed.deployment for one in running.replicas] == [tenant.word]
        log = await stub.ListChanges(pb.ListChangesRequest(parent=parent), metadata=told)
        assert {one.kind for one in log.changes} == {
            *("deployment.applied", "api-key.created", "token.created", "rollout.complete"),
        }


async def test_a_name_that_another_has_is_taken_and_no_more_is_told(shared: Shared) -> None:
    red, blue = shared.tenants
    spec = deployment_to_proto(a_deployment(blue.word, project=red.project))
    parent = f"projects/{red.project}"
    for request in (
        pb.ApplyDeploymentRequest(parent=parent, spec=spec),
        pb.ApplyDeploymentRequest(parent=parent, spec=_renamed(spec)),
    ):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await shared.operator.stub.ApplyDeployment(request, metadata=bearer(red.token))
        assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
        assert blue.project not in str(refused.value.details())
    plan = pb.PlanDeploymentRequest(parent=parent, spec=spec)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared.operator.stub.PlanDeployment(plan, metadata=bearer(red.token))
    assert refused.value.code() is grpc.StatusCode.ALREADY_EXISTS
    update = pb.UpdateDeploymentRequest(
        deployment=resource_pb2.Deployment(name=f"{parent}/deployments/{blue.word}", spec=spec)
    )
    update.update_mask.paths.append("spec.scaling.max_replicas")
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await shared.operator.stub.UpdateDeployment(update, metadata=bearer(red.token))
    assert refused.value.code() is NOT_FOUND


def _renamed(spec: deployment_pb2.DeploymentSpec) -> deployment_pb2.DeploymentSpec:
    """Return it as a deployment of a name of its own, which would serve as the other one does."""
    other = deployment_pb2.DeploymentSpec()
    other.CopyFrom(spec)
    other.name = "mine"
    return other


async def test_a_watch_hears_of_its_own_project_alone(shared: Shared) -> None:
    red, blue = shared.tenants
    at = shared.operator
    start = await at.database.run_read(last_sequence)
    request = pb.WatchChangesRequest(parent=f"projects/{red.project}", from_sequence=start)
    stream = at.stub.WatchChanges(request, metadata=bearer(red.token), timeout=SECONDS_MAX)
    for tenant in (blue, red):
        write = replace(at.write(), project=tenant.project)
        more = a_deployment(tenant.word, project=tenant.project, replicas=2)
        await at.database.run(apply_deployment, write, more, "", "")
    first = await asyncio.wait_for(anext(aiter(stream)), SECONDS_MAX)
    assert first.change.subject == f"projects/{red.project}/deployments/{red.word}"
    stream.cancel()


async def test_a_project_that_owns_something_stays_and_who_is_for_some_makes_none(
    shared: Shared,
) -> None:
    red, _ = shared.tenants
    projects: Any = shared.operator.channel
    delete = projects.unary_unary("/skerry.api.operator.v1.ProjectService/DeleteProject")
    listed = projects.unary_unary("/skerry.api.operator.v1.ProjectService/ListProjects")
    named = projects_pb2.DeleteProjectRequest(name=f"projects/{red.project}").SerializeToString()
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await delete(named, metadata=bearer(BOOTSTRAP))
    assert refused.value.code() is grpc.StatusCode.FAILED_PRECONDITION
    for what in (red.word, f"{red.word}-key", f"{red.word}-token"):
        assert what in str(refused.value.details())
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await delete(named, metadata=bearer(red.token))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED
    told = projects_pb2.ListProjectsResponse.FromString(
        await listed(b"", metadata=bearer(red.token))
    )
    assert [(one.name, one.deployments) for one in told.projects] == [
        (f"projects/{red.project}", 1)
    ]


def test_no_field_that_names_a_project_has_another_name() -> None:
    """The door reads `project` fields and texts with projects/ in them: a third way is none."""
    for method in METHODS:
        for field in method.input_type.fields:
            if field.type == FieldDescriptor.TYPE_STRING and "project" in field.name:
                assert field.name in ("project", "project_id"), f"{method.name}.{field.name}"
