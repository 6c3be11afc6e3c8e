"""Recovery over the operator API: what is shown, what is refused meanwhile, and what ends it."""

from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import grpc
import pytest

from control_plane.api.recovery_service import RecoveryService
from control_plane.api.writing import Writing
from control_plane.link.telling import HeldStates
from control_plane.recovery.door import RecoveryDoor
from control_plane.recovery.run import Recovery
from control_plane.store.deployments import list_deployments
from skerry.api.operator.v1 import recovery_pb2 as pb
from skerry.api.operator.v1 import recovery_pb2_grpc
from skerry.cli.recover import print_recovery
from skerry.client.recovery import get_recovery
from skerry.fleet.desired import FEATURES
from skerry.plumbing.rpc import CHANNEL_OPTIONS, SERVER_OPTIONS, ErrorInterceptor
from skerry.wire.desired import desired_to_proto
from tests.builders import a_deployment, a_plane_view, a_replica, a_report, a_snapshot
from tests.unit.control_plane.api.conftest import Operator
from tests.unit.control_plane.recovery.worlds import a_held_state, a_version

pytestmark = pytest.mark.integration
NAME = "projects/default/recovery"


class Served:
    """A recovery behind a server of its own, with the door that keeps others out."""

    def __init__(self, operator: Operator) -> None:
        self.operator = operator
        self.held = HeldStates(operator.reconciler.wake, operator.clock)
        self.recovery = Recovery(operator.database, self.held, operator.clock)
        self.stub: Any = None

    async def look(self) -> None:
        """Have a turn of the loop ask: one plane holds more, and runs a stray."""
        state = a_held_state("fra", a_deployment())
        strays = a_replica(pool="fra--cpu"), a_replica("stray", "fra--cpu", revision=3)
        report = a_report("fra", held=a_version(), features=FEATURES, replicas=strays)
        snapshot = a_snapshot(a_plane_view("fra", report=report))
        await self.recovery.holds(snapshot, self.operator.reconciler.epoch)
        if self.held.takes_turn("fra"):
            self.held.take("fra", desired_to_proto(state))
            await self.recovery.holds(snapshot, self.operator.reconciler.epoch)


@pytest.fixture
async def served(operator: Operator, tmp_path: Path) -> AsyncIterator[Served]:
    served = Served(operator)
    writing = Writing(operator.reconciler, operator.clock)
    doors = (ErrorInterceptor(), RecoveryDoor(lambda: served.recovery.is_under_way))
    server = grpc.aio.server(interceptors=doors, options=SERVER_OPTIONS)
    service = RecoveryService(served.recovery, writing)
    recovery_pb2_grpc.add_RecoveryServiceServicer_to_server(service, server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=CHANNEL_OPTIONS) as channel:
        served.stub = recovery_pb2_grpc.RecoveryServiceStub(channel)
        yield served
    await server.stop(0)


async def code_of(call: Any) -> grpc.StatusCode:
    with pytest.raises(grpc.aio.AioRpcError) as error:
        await call
    return error.value.code()


async def test_with_nothing_to_recover_that_is_what_is_said(served: Served) -> None:
    answer = await served.stub.GetRecovery(pb.GetRecoveryRequest(name=NAME))
    assert answer == pb.Recovery(name=NAME, state=pb.Recovery.STATE_NONE)
    approved = await served.stub.ApproveRecovery(pb.ApproveRecoveryRequest(name=NAME))
    assert approved.state == pb.Recovery.STATE_NONE


@pytest.mark.parametrize(
    "name", ["", "recovery", "projects/default/recoveries", "projects/x/recovery"]
)
async def test_another_name_is_refused(served: Served, name: str) -> None:
    code = await code_of(served.stub.GetRecovery(pb.GetRecoveryRequest(name=name)))
    assert code in (grpc.StatusCode.INVALID_ARGUMENT, grpc.StatusCode.NOT_FOUND)


async def test_a_recovery_is_shown_approved_once_and_what_planes_hold_is_there(
    served: Served,
) -> None:
    await served.look()
    shown = await served.stub.GetRecovery(pb.GetRecoveryRequest(name=NAME))
    assert shown.state == pb.Recovery.STATE_RECOVERING
    assert [(one.deployment, one.revision) for one in shown.quarantined] == [("stray", 3)]
    assert shown.next_epoch > a_version().epoch
    request = pb.ApproveRecoveryRequest(name=NAME, etag="other", request_id="r-1")
    assert await code_of(served.stub.ApproveRecovery(request)) is grpc.StatusCode.ABORTED
    request.etag = shown.etag
    ended = await served.stub.ApproveRecovery(request)
    assert ended.state == pb.Recovery.STATE_NONE
    stored = await served.operator.database.run_read(list_deployments)
    assert [one.deployment for one in stored] == [a_deployment()]
    # Its epoch ended with it: the next one goes on, above what the plane holds.
    assert served.recovery.has_ended_epoch


async def test_a_recovery_is_printed_with_what_comes_of_each_difference(
    served: Served, capsys: pytest.CaptureFixture[str]
) -> None:
    from rich.console import Console

    await served.look()
    call = get_recovery("default")
    row = call.read(await served.stub.GetRecovery(call.request))
    print_recovery(Console(width=1_000), row)
    printed = capsys.readouterr().out
    assert "recovering, read-only: plane fra holds version 4.9" in printed
    assert "CONFLICT deployments/stray" in printed
    assert "quarantined: 1 of stray revision 3 on fra" in printed
    print_recovery(Console(width=1_000), replace(row, is_recovering=False, quarantined=()))
    assert "nothing to recover" in capsys.readouterr().out


async def test_a_standby_sends_callers_to_the_leader(served: Served) -> None:
    served.operator.reconciler.epoch = 0
    call = served.stub.GetRecovery(pb.GetRecoveryRequest(name=NAME))
    assert await code_of(call) is grpc.StatusCode.UNAVAILABLE


class _Details:
    """What an interceptor is told of a call."""

    def __init__(self, method: str) -> None:
        self.method = method
        self.invocation_metadata = None


@pytest.mark.parametrize(
    ("method", "passes"),
    [
        ("/skerry.api.operator.v1.OperatorService/ApplyDeployment", False),
        ("/skerry.api.operator.v1.OperationsService/Failover", False),
        ("/skerry.api.operator.v1.OperatorService/ListPlanes", True),
        ("/skerry.api.operator.v1.OperatorService/VerifyChanges", True),
        ("/skerry.api.operator.v1.RecoveryService/ApproveRecovery", True),
        ("/grpc.health.v1.Health/Check", True),
    ],
)
async def test_only_reads_and_the_approval_pass_meanwhile(method: str, passes: bool) -> None:
    handler: Any = grpc.unary_unary_rpc_method_handler(lambda request, context: None)

    async def found(_: Any) -> Any:
        return handler

    details: Any = _Details(method)
    shut = await RecoveryDoor(lambda: True).intercept_service(found, details)
    assert (shut is handler) is passes
    assert await RecoveryDoor(lambda: False).intercept_service(found, details) is handler
