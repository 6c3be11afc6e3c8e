"""Every method of the port by every role, over a real server; methods are read from descriptors.

A new method is tried without a word here.
"""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
from google.protobuf.descriptor import MethodDescriptor
from google.protobuf.message import Message
from grpc_health.v1 import health_pb2, health_pb2_grpc
from grpc_reflection.v1alpha import reflection_pb2, reflection_pb2_grpc

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.access.issuer_keys import IssuerKeys
from control_plane.api.access.matrix import MATRIX, Scope
from control_plane.api.serving import operator_services
from control_plane.store.deployments import apply_deployment
from control_plane.store.service_tokens import create_service_token
from skerry.fleet.access import INCLUDES, Grant, Role, ServiceToken
from skerry.fleet.service_token import digest_of_token, token_text
from skerry.plumbing.tasks import beside
from tests.builders import a_deployment
from tests.fakes.clock import START, FakeClock
from tests.unit.control_plane.api.access.credentials import (
    BOOTSTRAP,
    OIDC,
    SECRET,
    a_jwt,
    bearer,
    jwks,
    written,
)
from tests.unit.control_plane.api.conftest import Operator, running_operator
from tests.unit.control_plane.api.test_every_method import filled

pytestmark = pytest.mark.integration

SECONDS_MAX = 10.0
STREAM_SECONDS = 0.2
NUMBER = {"int": 0, "float": 0.0}
CLOSED = (grpc.StatusCode.UNAUTHENTICATED, grpc.StatusCode.PERMISSION_DENIED)
METHODS = [method for service in operator_services() for method in service.methods]


@dataclass
class Guarded:
    """An API that asks for credentials."""

    operator: Operator

    async def give(self, name: str, grant: Grant, **told: Any) -> str:
        """Register a token and return it."""
        text = token_text(name, SECRET)
        token = ServiceToken(name=name, grant=grant, creator="user:ana", created_at=START, **told)
        at = self.operator
        await at.database.run(create_service_token, at.write(), token, digest_of_token(text), "")
        self.operator.clock.advance(2.0)  # the door looks again after a second
        return text

    async def call(
        self, method: MethodDescriptor, request: bytes, metadata: Any = ()
    ) -> tuple[grpc.StatusCode, str]:
        """Return code and text of a call."""
        path = path_of(method)
        try:
            if method.server_streaming:
                stream: Any = self.operator.channel.unary_stream(path)
                async for _ in stream(request, timeout=STREAM_SECONDS, metadata=metadata):
                    break
            else:
                unary: Any = self.operator.channel.unary_unary(path)
                await unary(request, timeout=SECONDS_MAX, metadata=metadata)
        except grpc.aio.AioRpcError as error:
            return error.code(), error.details() or ""
        return grpc.StatusCode.OK, ""


@pytest.fixture
async def guarded(tmp_path: Path, empty_store: Path) -> AsyncIterator[Guarded]:
    async def fetch() -> bytes:
        return jwks()

    keys = IssuerKeys(fetch, OIDC.algorithms, FakeClock())
    access = OperatorAccessSettings(
        required=True, bootstrap_token_file=written(tmp_path), oidc=OIDC
    )
    async with beside(keys.keep_fresh()):
        async with running_operator(tmp_path, empty_store, access, keys) as operator:
            yield Guarded(operator)


def path_of(method: MethodDescriptor) -> str:
    return f"/{method.containing_service.full_name}/{method.name}"


def about(method: MethodDescriptor, project: str, plane: str = "fra") -> Message:
    """A request in which every name is of this project, and of this plane."""
    message = filled(method.input_type, f"projects/{project}/planes/{plane}", NUMBER)
    for field in ("pool", "from_pool", "to_pool"):
        if field in message.DESCRIPTOR.fields_by_name:
            setattr(message, field, f"{plane}--cpu")
    return message


@pytest.mark.parametrize(
    "metadata",
    [
        (),
        (("x-skerry-actor", "user:root"),),
        bearer(token_text("bootstrap", "x" * 43)),
        bearer(token_text("nobody", SECRET)),
        bearer("skt_"),
        bearer("x" * 7_000),
        bearer("a.b.c"),
        (("authorization", BOOTSTRAP),),
        (("authorization", f"Basic {BOOTSTRAP}"),),
        (*bearer(BOOTSTRAP), *bearer(BOOTSTRAP)),
    ],
)
async def test_without_a_credential_every_method_is_closed(guarded: Guarded, metadata: Any) -> None:
    for method in METHODS:
        guarded.operator.clock.advance(1.0)  # not so often that it is not looked at
        code, text = await guarded.call(method, b"", metadata)
        assert code is grpc.StatusCode.UNAUTHENTICATED, f"{method.name}: {code} {text}"
        assert SECRET not in text


async def test_what_comes_from_nobody_is_not_even_decoded(guarded: Guarded) -> None:
    for method in METHODS:
        code, _ = await guarded.call(method, b"\xff" * 64)
        assert code is grpc.StatusCode.UNAUTHENTICATED, method.name
        code, _ = await guarded.call(method, b"\xff" * 64, bearer(BOOTSTRAP))
        assert code is grpc.StatusCode.INVALID_ARGUMENT, method.name


async def test_reflection_is_for_who_showed_a_credential_and_health_for_all(
    guarded: Guarded,
) -> None:
    health: Any = health_pb2_grpc.HealthStub(guarded.operator.channel)
    answer = await health.Check(health_pb2.HealthCheckRequest())
    assert answer.status == health_pb2.HealthCheckResponse.SERVING
    stub: Any = reflection_pb2_grpc.ServerReflectionStub(guarded.operator.channel)
    asked = [reflection_pb2.ServerReflectionRequest(list_services="")]
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        async for _ in stub.ServerReflectionInfo(iter(asked)):
            pass
    assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    text = await guarded.give("see", Grant(role=Role.VIEWER, projects=("default",)))
    told = [a async for a in stub.ServerReflectionInfo(iter(asked), metadata=bearer(text))]
    assert len(told[0].list_services_response.service) > 4


@pytest.mark.parametrize("role", list(Role))
async def test_every_method_is_open_to_the_roles_of_its_line_and_to_no_other(
    guarded: Guarded, role: Role
) -> None:
    planes = ("fra",) if role is Role.PLANE else ()
    everywhere = await guarded.give("all", Grant(role=role, projects=("*",), planes=planes))
    here = await guarded.give("here", Grant(role=role, projects=("default",), planes=planes))
    for method in METHODS:
        entry = MATRIX[path_of(method)]
        may = entry.role in INCLUDES[role] and (not planes or entry.scope is Scope.PLANE)
        for text, wide in ((everywhere, True), (here, False)):
            request = about(method, "default").SerializeToString()
            code, said = await guarded.call(method, request, bearer(text))
            is_open = may and (wide or entry.scope is not Scope.FLEET)
            assert (code in CLOSED) != is_open, f"{method.name} as {role}: {code} {said}"
            assert code not in (grpc.StatusCode.UNKNOWN, grpc.StatusCode.INTERNAL)


@pytest.mark.parametrize("role", [role for role in Role if role is not Role.PLANE])
async def test_things_of_another_project_are_not_there_for_any_method(
    guarded: Guarded, role: Role
) -> None:
    """The names of two tenants are swapped in every request; what is there is not told."""
    at = guarded.operator
    await at.database.run(apply_deployment, at.write(), a_deployment(), "", "")
    ours = await guarded.give("ours", Grant(role=role, projects=("default",)))
    theirs = await guarded.give("theirs", Grant(role=role, projects=("other",)))
    for method in METHODS:
        entry = MATRIX[path_of(method)]
        may = entry.role in INCLUDES[role] and entry.scope is not Scope.FLEET
        for text, project in ((ours, "other"), (theirs, "default")):
            request = about(method, project).SerializeToString()
            code, said = await guarded.call(method, request, bearer(text))
            if entry.scope is Scope.OWN:  # names none: what it answers, `test_tenants` looks at
                continue
            wanted = grpc.StatusCode.NOT_FOUND if may else grpc.StatusCode.PERMISSION_DENIED
            assert code is wanted, f"{method.name}: {code} {said}"
            code, _ = await guarded.call(method, b"", bearer(text))
            wanted = grpc.StatusCode.INVALID_ARGUMENT if may else wanted
            assert code is wanted, method.name


async def test_things_of_another_plane_are_not_there(guarded: Guarded) -> None:
    grant = Grant(role=Role.OPERATOR, projects=("default",), planes=("fra",))
    text = await guarded.give("fra-crew", grant)
    for method in METHODS:
        request = about(method, "default", "gcp").SerializeToString()
        code, said = await guarded.call(method, request, bearer(text))
        entry = MATRIX[path_of(method)]
        may = entry.scope is Scope.PLANE and entry.role in INCLUDES[Role.OPERATOR]
        wanted = grpc.StatusCode.NOT_FOUND if may else grpc.StatusCode.PERMISSION_DENIED
        assert code is wanted, f"{method.name}: {code} {said}"


async def test_an_issuers_token_is_let_in_with_what_its_groups_may(guarded: Guarded) -> None:
    stub = guarded.operator.stub
    request = operator_request("ListPlanes")
    await stub.ListPlanes(request, metadata=bearer(a_jwt()))
    for token in (a_jwt(kid="unknown"), a_jwt(aud="other"), a_jwt(exp=1)):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListPlanes(request, metadata=bearer(token))
        assert refused.value.code() is grpc.StatusCode.UNAUTHENTICATED
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.ListPlanes(request, metadata=bearer(a_jwt(groups=[])))
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_who_fails_often_is_not_looked_at_but_a_right_token_still_is(
    guarded: Guarded,
) -> None:
    stub, request = guarded.operator.stub, operator_request("ListPlanes")
    codes = []
    for _ in range(25):
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await stub.ListPlanes(request, metadata=bearer(a_jwt(aud="other")))
        codes.append(refused.value.code())
    assert codes[0] is grpc.StatusCode.UNAUTHENTICATED
    assert codes[-1] is grpc.StatusCode.RESOURCE_EXHAUSTED
    await stub.ListPlanes(request, metadata=bearer(BOOTSTRAP))
    guarded.operator.clock.advance(60.0)
    await stub.ListPlanes(request, metadata=bearer(a_jwt()))


def operator_request(method: str) -> Any:
    from skerry.api.operator.v1 import operator_service_pb2 as pb

    return getattr(pb, f"{method}Request")(parent="projects/default")


async def test_all_of_it_is_open_where_nobody_is_asked(operator: Operator) -> None:
    open_to_all = Guarded(operator)
    found = await asyncio.gather(
        *(
            open_to_all.call(method, about(method, "default").SerializeToString())
            for method in METHODS
        )
    )
    assert not [code for code, _ in found if code in CLOSED]
    # But who shows a credential there is held to it.
    code, _ = await open_to_all.call(METHODS[0], b"", bearer(token_text("nobody", SECRET)))
    assert code is grpc.StatusCode.UNAUTHENTICATED
