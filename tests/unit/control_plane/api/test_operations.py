"""Drains are followed to their end, failovers name who is lost, moves are made once."""

from dataclasses import replace
from typing import Any

import grpc
import pytest

from control_plane.store.changes import list_changes
from control_plane.store.cordons import list_cordons
from control_plane.store.deployments import apply_deployment
from control_plane.store.planes import list_planes, record_report, set_condition
from skerry.api.operator.v1 import catalogue_service_pb2, node_pb2
from skerry.api.operator.v1 import operations_service_pb2 as pb
from skerry.api.operator.v1 import operator_service_pb2 as operator_pb
from skerry.fleet.node import Node
from skerry.fleet.observation import Observation, PlaneCondition, PlaneState
from tests.builders import a_deployment, a_replica
from tests.fakes.clock import START
from tests.unit.control_plane.api.conftest import Operator

FRA = "projects/default/planes/onprem-fra"
NODE = "projects/default/nodes/onprem-fra--rack-1"
DRAINING = pb.DrainResponse.STATE_DRAINING
DRAINED = pb.DrainResponse.STATE_DRAINED


async def refused(call: Any) -> grpc.aio.AioRpcError:
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        async for _ in call if hasattr(call, "__aiter__") else _one(call):
            pass
    return caught.value


async def _one(call: Any) -> Any:
    yield await call


def report(fleet: Operator, *, replicas: int, node: str = "rack-1") -> None:
    """Have onprem-fra report so many replicas, on one of its two nodes."""
    nodes = tuple(Node(name=name, pool="cpu", accelerators=4) for name in ("rack-1", "rack-2"))
    running = tuple(
        a_replica(name=f"demo-{n}", pool="onprem-fra--cpu", nodes=(node,)) for n in range(replicas)
    )
    held = fleet.live.reports["onprem-fra"].report
    told = replace(held, replicas=running, nodes=nodes, features=("node-cordons.v1",))
    fleet.live.reports["onprem-fra"] = Observation(report=told, received_at=START)
    fleet.see()


async def test_a_drain_is_told_until_nothing_is_left(fleet: Operator) -> None:
    report(fleet, replicas=2)
    call = fleet.operations.Drain(pb.DrainRequest(name=FRA, request_id="d-1"))
    first = await call.read()
    assert (first.state, first.replicas_left) == (DRAINING, 2)
    assert first.deployments[0].deployment == "demo"
    assert first.HasField("start_time")
    report(fleet, replicas=1)
    await fleet.clock.wait_for_sleepers(1)
    fleet.clock.advance(1.0)
    assert (await call.read()).replicas_left == 1
    report(fleet, replicas=0)
    await fleet.clock.wait_for_sleepers(1)
    fleet.clock.advance(1.0)
    last = await call.read()
    assert (last.state, last.replicas_left) == (DRAINED, 0)
    assert await call.read() is grpc.aio.EOF
    cordons = await fleet.database.run_read(list_cordons)
    assert [(c.part.name, c.draining) for c in cordons] == [("onprem-fra", True)]


async def test_a_drain_goes_on_without_its_caller_and_is_followed_again(fleet: Operator) -> None:
    report(fleet, replicas=1)
    call = fleet.operations.Drain(pb.DrainRequest(name=FRA, request_id="d-1"))
    await call.read()
    call.cancel()
    again = fleet.operations.Drain(pb.DrainRequest(name=FRA, request_id="d-1"))
    assert (await again.read()).replicas_left == 1
    again.cancel()
    changes = await fleet.database.run_read(list_changes, 0, 100)
    assert [c.kind for c in changes].count("domain.draining") == 1


async def test_uncordon_ends_a_drain(fleet: Operator) -> None:
    report(fleet, replicas=1)
    call = fleet.operations.Drain(pb.DrainRequest(name=FRA))
    await call.read()
    await fleet.catalogue.Uncordon(catalogue_service_pb2.UncordonRequest(name=FRA))
    last = await call.read()
    assert last.state == pb.DrainResponse.STATE_ENDED
    assert await call.read() is grpc.aio.EOF


async def test_what_a_drain_would_empty_is_shown_and_nothing_begun(fleet: Operator) -> None:
    report(fleet, replicas=2)
    call = fleet.operations.Drain(pb.DrainRequest(name=FRA, validate_only=True))
    told = [message async for message in call]
    assert [(m.state, m.replicas_left) for m in told] == [(pb.DrainResponse.STATE_NOT_STARTED, 2)]
    assert await fleet.database.run_read(list_cordons) == ()


async def test_a_node_is_drained_by_its_own_replicas(fleet: Operator) -> None:
    report(fleet, replicas=2, node="rack-2")
    told = fleet.live.reports["onprem-fra"].report
    await fleet.database.run(record_report, fleet.write(), told)
    call = fleet.operations.Drain(pb.DrainRequest(name=NODE, validate_only=True))
    assert [m.replicas_left async for m in call] == [0]
    other = NODE.replace("rack-1", "rack-2")
    call = fleet.operations.Drain(pb.DrainRequest(name=other, validate_only=True))
    assert [m.replicas_left async for m in call] == [2]


@pytest.mark.parametrize(
    "name",
    [
        "projects/default/planes/nowhere",
        "projects/default/nodes/onprem-fra--rack-9",
        "projects/default/regions/aws/nowhere",
    ],
)
async def test_what_nobody_reported_is_not_drained(fleet: Operator, name: str) -> None:
    error = await refused(fleet.operations.Drain(pb.DrainRequest(name=name)))
    assert error.code() is grpc.StatusCode.NOT_FOUND


async def test_a_silent_plane_is_declared_lost(fleet: Operator) -> None:
    suspect = PlaneCondition(state=PlaneState.SUSPECT, since=START)
    await fleet.database.run(
        set_condition, fleet.write(), "onprem-fra", suspect, PlaneState.CONNECTED
    )
    fleet.see(onprem_fra=PlaneState.SUSPECT)
    asked = pb.FailoverRequest(name=FRA, validate_only=True)
    assert (await fleet.operations.Failover(asked)).planes == ["onprem-fra"]
    stored = await fleet.database.run_read(list_planes)
    assert {p.condition.state for p in stored if p.condition} != {PlaneState.LOST}
    request = pb.FailoverRequest(name="projects/default/clouds/onprem", request_id="f-1")
    told = await fleet.operations.Failover(request)
    assert (told.planes, told.heard) == (["onprem-fra"], [])
    stored = await fleet.database.run_read(list_planes)
    states = {p.identity.name: p.condition.state for p in stored if p.condition}
    assert states == {"gcp-x": PlaneState.CONNECTED, "onprem-fra": PlaneState.LOST}
    assert fleet.reconciler.woken


async def test_a_plane_that_is_heard_is_drained_not_declared_lost(fleet: Operator) -> None:
    error = await refused(fleet.operations.Failover(pb.FailoverRequest(name=FRA)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "skerry drain plane/onprem-fra" in str(error.details())


async def test_a_plane_that_peers_see_serving_is_lost_only_by_a_second_word(
    fleet: Operator,
) -> None:
    cut_off = PlaneCondition(state=PlaneState.DISCONNECTED, since=START)
    await fleet.database.run(
        set_condition, fleet.write(), "onprem-fra", cut_off, PlaneState.CONNECTED
    )
    fleet.see(onprem_fra=PlaneState.DISCONNECTED)
    error = await refused(fleet.operations.Failover(pb.FailoverRequest(name=FRA)))
    assert error.code() is grpc.StatusCode.FAILED_PRECONDITION
    assert "--even-if-serving" in str(error.details())
    request = pb.FailoverRequest(name=FRA, even_if_serving=True)
    assert (await fleet.operations.Failover(request)).planes == ["onprem-fra"]


async def test_a_pool_is_not_declared_lost(fleet: Operator) -> None:
    request = pb.FailoverRequest(name="projects/default/pools/onprem-fra--cpu")
    error = await refused(fleet.operations.Failover(request))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


def a_move(**fields: Any) -> pb.MoveReplicaRequest:
    request = pb.MoveReplicaRequest(
        name="projects/default/deployments/demo",
        from_pool="gcp-x--cpu",
        to_pool="onprem-fra--cpu",
    )
    for field, value in fields.items():
        setattr(request, field, value)
    return request


async def test_a_move_is_shown_made_once_and_answered_the_same_again(fleet: Operator) -> None:
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
    shown = await fleet.operations.MoveReplica(a_move(validate_only=True))
    assert [(p.pool, p.replicas_after) for p in shown.placements] == [("onprem-fra--cpu", 1)]
    assert "placements.decided" not in await kinds(fleet)
    done = await fleet.operations.MoveReplica(a_move(request_id="m-1"))
    again = await fleet.operations.MoveReplica(a_move(request_id="m-1"))
    assert done == again
    assert (await kinds(fleet)).count("placements.decided") == 1
    assert len(fleet.reconciler.moves) == 2, "the repeat asked nobody"
    error = await refused(fleet.operations.MoveReplica(a_move(request_id="m-1", replicas=2)))
    assert error.code() is grpc.StatusCode.INVALID_ARGUMENT


@pytest.mark.parametrize(
    ("fields", "code", "told"),
    [
        ({"replicas": -1}, grpc.StatusCode.INVALID_ARGUMENT, "replicas"),
        ({"to_pool": "gcp-x--cpu"}, grpc.StatusCode.INVALID_ARGUMENT, "the same"),
        ({"to_pool": "nonsense"}, grpc.StatusCode.INVALID_ARGUMENT, "PLANE--POOL"),
        ({"to_pool": "full--cpu"}, grpc.StatusCode.FAILED_PRECONDITION, "cordoned"),
    ],
)
async def test_a_move_that_cannot_be_says_why(
    fleet: Operator, fields: dict[str, Any], code: grpc.StatusCode, told: str
) -> None:
    await fleet.database.run(apply_deployment, fleet.write(), a_deployment(), "", "")
    error = await refused(fleet.operations.MoveReplica(a_move(**fields)))
    assert error.code() is code
    assert told in str(error.details())


async def kinds(fleet: Operator) -> list[str]:
    return [c.kind for c in await fleet.database.run_read(list_changes, 0, 100)]


async def test_nodes_are_listed_with_what_runs_there(fleet: Operator) -> None:
    report(fleet, replicas=3)
    told = fleet.live.reports["onprem-fra"].report
    await fleet.database.run(record_report, fleet.write(), told)
    await fleet.catalogue.Cordon(catalogue_service_pb2.CordonRequest(name=NODE))
    fleet.clock.advance(1.0)
    request = operator_pb.ListNodesRequest(parent="projects/default")
    nodes = (await fleet.stub.ListNodes(request)).nodes
    assert [n.name.rpartition("/")[2] for n in nodes] == [
        "onprem-fra--rack-1",
        "onprem-fra--rack-2",
    ]
    first = nodes[0]
    assert first.state == node_pb2.Node.STATE_READY
    assert (first.pool, first.accelerators, first.accelerators_used) == ("onprem-fra--cpu", 4, 3)
    assert list(first.replicas) == ["demo-0", "demo-1", "demo-2"]
    assert (first.cordoned, first.draining, nodes[1].cordoned) == (True, False, False)
    assert await fleet.stub.GetNode(operator_pb.GetNodeRequest(name=NODE)) == first
    request.filter = "cordoned = true"
    assert len((await fleet.stub.ListNodes(request)).nodes) == 1
    error = await refused(fleet.stub.GetNode(operator_pb.GetNodeRequest(name=NODE + "0")))
    assert error.code() is grpc.StatusCode.NOT_FOUND
