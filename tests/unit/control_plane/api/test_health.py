"""grpc.health.v1 says that a control plane serves while it leads, and never a moment longer."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from grpc_health.v1 import health_pb2, health_pb2_grpc

from control_plane.api.health import (
    LOOK_SECONDS,
    READS,
    HealthService,
    Role,
    Standing,
    follow_leadership,
    status_of,
    why_not_ready,
)
from control_plane.store.leadership import take_leadership
from skerry.plumbing.errors import StaleGeneration
from skerry.plumbing.rpc import ErrorInterceptor
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

pytestmark = pytest.mark.integration

SERVING = health_pb2.HealthCheckResponse.SERVING
NOT_SERVING = health_pb2.HealthCheckResponse.NOT_SERVING
UNKNOWN = health_pb2.HealthCheckResponse.SERVICE_UNKNOWN
SECONDS_MAX = 10.0


@pytest.fixture
def standing() -> Standing:
    return Standing(Role.LEADING)


@pytest.fixture
async def stub(standing: Standing) -> AsyncIterator[Any]:
    server = grpc.aio.server(interceptors=(ErrorInterceptor(),))
    service = HealthService(standing, ("a.Service",))
    health_pb2_grpc.add_HealthServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        yield stub
    await server.stop(0)


def asking(service: str) -> health_pb2.HealthCheckRequest:
    return health_pb2.HealthCheckRequest(service=service)


@pytest.mark.parametrize(
    ("role", "service", "status"),
    [
        (Role.LEADING, "", SERVING),
        (Role.LEADING, "a.Service", SERVING),
        (Role.LEADING, READS, SERVING),
        (Role.STANDING_BY, "", NOT_SERVING),
        (Role.STANDING_BY, "a.Service", NOT_SERVING),
        (Role.STANDING_BY, READS, SERVING),
        (Role.STOPPING, "", NOT_SERVING),
        (Role.STOPPING, READS, NOT_SERVING),
    ],
)
def test_a_standby_serves_reads_alone_and_who_stops_serves_nothing(
    role: Role, service: str, status: int
) -> None:
    assert status_of(role, service) == status


def test_only_a_leader_that_has_decided_is_ready() -> None:
    assert why_not_ready(Role.LEADING, True) == ""
    assert "first reconcile turn" in why_not_ready(Role.LEADING, False)
    assert "standing by" in why_not_ready(Role.STANDING_BY, True)
    assert "stopping" in why_not_ready(Role.STOPPING, True)


async def test_check_follows_the_role_and_stopping_is_for_good(
    standing: Standing, stub: Any
) -> None:
    assert (await stub.Check(asking("a.Service"))).status == SERVING
    standing.become(Role.STANDING_BY)
    assert (await stub.Check(asking("a.Service"))).status == NOT_SERVING
    standing.become(Role.LEADING)
    assert (await stub.Check(asking(""))).status == SERVING
    standing.become(Role.STOPPING)
    standing.become(Role.LEADING)
    assert (await stub.Check(asking(""))).status == NOT_SERVING


async def test_a_name_that_is_no_service_is_not_found(stub: Any) -> None:
    with pytest.raises(grpc.aio.AioRpcError, match=r"a\.Service") as refused:
        await stub.Check(asking("b.Service"))
    assert refused.value.code() is grpc.StatusCode.NOT_FOUND
    assert (await stub.Watch(asking("b.Service")).read()).status == UNKNOWN


async def test_every_watch_hears_of_a_change_also_after_another_watch_ended(
    standing: Standing, stub: Any
) -> None:
    first, second = stub.Watch(asking("")), stub.Watch(asking(""))
    assert [(await watch.read()).status for watch in (first, second)] == [SERVING, SERVING]
    first.cancel()
    async with asyncio.timeout(SECONDS_MAX):
        # Its cancellation has reached the server once a later watch is answered.
        assert (await stub.Watch(asking("")).read()).status == SERVING
        standing.become(Role.STANDING_BY)
        assert (await second.read()).status == NOT_SERVING
        standing.become(Role.LEADING)
        assert (await second.read()).status == SERVING


async def test_a_deposed_leader_hears_it_and_says_so_before_it_ends(operator: Operator) -> None:
    standing, clock = Standing(Role.LEADING), operator.clock
    epoch = operator.reconciler.epoch
    changed = standing.next_change()
    async with asyncio.TaskGroup() as group:
        following = follow_leadership(standing, operator.database, epoch, clock)
        task = group.create_task(_outcome(following))
        await clock.run_for(LOOK_SECONDS * 2)
        assert not changed.is_set()
        await operator.database.run(take_leadership, "cp-2", START)
        while not task.done():
            await clock.run_for(LOOK_SECONDS)
    assert isinstance(task.result(), StaleGeneration)
    assert standing.role is Role.STANDING_BY


async def _outcome(coroutine: Any) -> BaseException | None:
    try:
        await coroutine
    except StaleGeneration as error:
        return error
    return None
