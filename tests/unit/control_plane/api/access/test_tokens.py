"""Service tokens through the client: made, used, ended; their secrets are nowhere."""

import logging
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from control_plane.access_settings import OperatorAccessSettings
from control_plane.api.access import rates
from control_plane.api.access.door import RECHECK_SECONDS
from control_plane.api.access.rates import CALLS_PER_SECOND
from control_plane.store.backup import write_backup
from skerry.client.context import Context
from skerry.client.operator import AsyncOperatorClient
from skerry.client.retrying import DEFAULT_RETRIES, NO_RETRIES, RetryPolicy
from skerry.fleet.access import EVERY_PROJECT, Grant, Role
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import (
    AlreadyExists,
    Denied,
    Exhausted,
    InvalidInput,
    NotFound,
    Unauthenticated,
)
from skerry.plumbing.ids import SystemIds
from tests.fakes.clock import START
from tests.unit.control_plane.api.access.credentials import BOOTSTRAP, bearer, written
from tests.unit.control_plane.api.conftest import Operator, running_operator

pytestmark = pytest.mark.integration

VIEWER = Grant(role=Role.VIEWER, projects=("default",))


@dataclass
class Guarded:
    """An API that asks for credentials, and how to talk to it."""

    operator: Operator
    folder: Path

    def client(
        self,
        token: str = BOOTSTRAP,
        actor: str = "user:ana",
        retries: RetryPolicy = DEFAULT_RETRIES,
    ) -> AsyncOperatorClient:
        """A client that shows this token."""
        context = Context(endpoints=(self.operator.address,), token=token)
        return AsyncOperatorClient(context, SystemIds(SystemClock()), actor, retries=retries)


@pytest.fixture
async def guarded(tmp_path: Path, empty_store: Path) -> AsyncIterator[Guarded]:
    access = OperatorAccessSettings(required=True, bootstrap_token_file=written(tmp_path))
    async with running_operator(tmp_path, empty_store, access) as operator:
        yield Guarded(operator, tmp_path)


async def test_a_token_is_good_from_its_making_to_its_revoking(guarded: Guarded) -> None:
    async with guarded.client() as admin:
        made = await admin.create_service_token("ci", VIEWER)
        async with guarded.client(made.text) as program:
            await program.list_planes()
            rows = await admin.list_service_tokens()
            assert [(row.name, row.role, row.creator) for row in rows] == [
                ("ci", "viewer", "token:bootstrap")
            ]
            assert rows[0].last_used_at == START
            with pytest.raises(Denied, match="needs role operator"):
                await program.cordon("planes/x", cordoned=True)
            await admin.revoke_service_token("ci")
            with pytest.raises(Unauthenticated, match="revoked"):
                await program.list_planes()
        with pytest.raises(NotFound):
            await admin.revoke_service_token("ci")


async def test_a_token_ends_when_its_time_is_over(guarded: Guarded) -> None:
    ends = START + timedelta(hours=1)
    async with guarded.client() as admin:
        made = await admin.create_service_token("ci", VIEWER, ends)
        async with guarded.client(made.text) as program:
            await program.list_planes()
            guarded.operator.clock.advance(3_600.0)
            with pytest.raises(Unauthenticated, match="has expired"):
                await program.list_planes()
        with pytest.raises(InvalidInput, match="ended already"):
            await admin.create_service_token("late", VIEWER, ends)


async def test_a_stream_ends_with_its_credential(guarded: Guarded) -> None:
    async with guarded.client() as admin:
        made = await admin.create_service_token("ci", VIEWER)
        async with guarded.client(made.text) as program:
            watch = program.watch(0)
            while (await anext(watch)).kind != "token.created":
                pass
            guarded.operator.clock.advance(RECHECK_SECONDS)
            await admin.revoke_service_token("ci")
            with pytest.raises(Unauthenticated, match="revoked"):
                await anext(watch)


async def test_who_calls_too_often_is_told_when_to_come_again_and_nobody_else(
    guarded: Guarded, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with guarded.client() as admin:
        looping = await admin.create_service_token("loop", VIEWER)
        other = await admin.create_service_token("other", VIEWER)
    monkeypatch.setattr(rates, "CALLS_AT_ONCE", 3)
    async with (
        guarded.client(looping.text, retries=NO_RETRIES) as program,
        guarded.client(other.text, retries=NO_RETRIES) as colleague,
    ):
        for _ in range(3):
            await program.list_planes()
        with pytest.raises(Exhausted, match="token:loop calls more than 200 times a second"):
            await program.list_planes()
        await colleague.list_planes()
        guarded.operator.clock.advance(1.0 / CALLS_PER_SECOND)
        await program.list_planes()


async def test_a_name_that_is_used_again_is_another_token(guarded: Guarded) -> None:
    async with guarded.client() as admin:
        first = await admin.create_service_token("ci", VIEWER)
        with pytest.raises(AlreadyExists):
            await admin.create_service_token("ci", VIEWER)
        await admin.revoke_service_token("ci")
        second = await admin.create_service_token("ci", VIEWER)
        async with guarded.client(first.text) as old, guarded.client(second.text) as new:
            await new.list_planes()
            with pytest.raises(Unauthenticated):
                await old.list_planes()


async def test_changes_are_the_credentials_and_no_other_name_can_be_claimed(
    guarded: Guarded,
) -> None:
    async with guarded.client() as admin:
        crew = Grant(role=Role.OPERATOR, projects=("default",))
        made = await admin.create_service_token("crew", crew)
        async with guarded.client(made.text, actor="user:somebody-else") as program:
            await program.set_price("fra--cpu", START, 1.0)
        (change,) = await admin.latest_changes(1, 'kind = "price.*"')
        assert change.actor == "token:crew"
    from skerry.api.operator.v1 import operator_service_pb2 as pb

    metadata = (*bearer(made.text), ("x-skerry-actor", "user:root"))
    request = pb.ApprovePlanRequest(name="projects/default/plans/1")
    import grpc

    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await guarded.operator.stub.ApprovePlan(request, metadata=metadata)
    assert refused.value.code() is grpc.StatusCode.PERMISSION_DENIED


async def test_nobody_gives_more_than_they_have_nor_ends_what_reaches_further(
    guarded: Guarded,
) -> None:
    everywhere = Grant(role=Role.ADMIN, projects=(EVERY_PROJECT,))
    here = Grant(role=Role.ADMIN, projects=("default",))
    async with guarded.client() as root:
        await root.create_service_token("all", everywhere)
        made = await root.create_service_token("here", here)
        async with guarded.client(made.text) as admin:
            await admin.create_service_token("see", VIEWER)
            for more in (everywhere, Grant(role=Role.VIEWER, projects=("default", "other"))):
                with pytest.raises(Denied, match="nobody gives more"):
                    await admin.create_service_token("more", more)
            assert [row.name for row in await admin.list_service_tokens()] == ["here", "see"]
            with pytest.raises(NotFound):
                await admin.revoke_service_token("all")
            await admin.revoke_service_token("see")


@pytest.mark.parametrize(
    ("told", "field"),
    [
        ({"service_token_id": "bootstrap"}, "service_token_id"),
        ({"service_token_id": "A"}, "service_token_id"),
        ({"token_sha256": b"short"}, "token_sha256"),
        ({"service_token": {"role": "root", "projects": ["*"]}}, "service_token.role"),
        ({"service_token": {"role": "admin"}}, "service_token"),
        ({"service_token": {"role": "plane", "projects": ["*"]}}, "service_token"),
    ],
)
async def test_a_bad_token_is_refused_at_its_field(
    operator: Operator, told: dict[str, Any], field: str
) -> None:
    import grpc

    from skerry.api.operator.v1 import access_pb2 as pb
    from skerry.api.operator.v1.access_pb2_grpc import AccessServiceStub
    from skerry.plumbing.rpc import from_rpc_error

    good = {
        "parent": "projects/default",
        "service_token_id": "ci",
        "service_token": {"role": "viewer", "projects": ["default"]},
        "token_sha256": bytes(32),
    }
    stub: Any = AccessServiceStub(operator.channel)
    with pytest.raises(grpc.aio.AioRpcError) as refused:
        await stub.CreateServiceToken(pb.CreateServiceTokenRequest(**{**good, **told}))
    assert from_rpc_error(refused.value).field == field


async def test_a_secret_is_in_no_log_no_list_no_change_no_database_and_no_backup(
    guarded: Guarded, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    caplog.set_level(logging.DEBUG)
    async with guarded.client() as admin:
        made = await admin.create_service_token("canary", VIEWER)
        secret = made.text.rpartition("_")[2]
        async with guarded.client(made.text) as program:
            await program.list_planes()
        for wrong in (f"{made.text}x", made.text.replace("canary", "kanary"), f"{secret}.a.b"):
            async with guarded.client(wrong) as nobody:
                with pytest.raises(Unauthenticated) as refused:
                    await nobody.list_planes()
                assert secret not in str(refused.value)
        told = [repr(await admin.list_service_tokens()), repr(made)]
        told += [repr(await admin.get_change(c.sequence)) for c in await admin.latest_changes(9)]
    backup = guarded.folder / "backup"
    write_backup(f"sqlite:///{guarded.folder / 'skerry.db'}", backup, START)
    told += [*capfd.readouterr(), caplog.text]
    assert not [text for text in told if secret in text]
    files = [
        path
        for path in guarded.folder.rglob("*")
        if path.is_file() and path.name != "operator.token"
    ]
    assert {"skerry.db", "backup"} <= {path.name for path in files}
    for path in files:
        assert secret.encode() not in unpacked(path), path
    assert BOOTSTRAP.encode() not in b"".join(unpacked(path) for path in files)


def unpacked(path: Path) -> bytes:
    import gzip

    data = path.read_bytes()
    return gzip.decompress(data) if data[:2] == b"\x1f\x8b" else data
