"""`describe`: one thing with what is around it, all that is around it, and nothing else."""

from datetime import UTC, datetime
from typing import Any

import pytest
from google.protobuf.timestamp_pb2 import Timestamp

from skerry.api.operator.v1 import (
    catalogue_service_pb2,
    deployment_pb2,
    node_pb2,
    operator_service_pb2,
    placement_pb2,
    plane_pb2,
    pool_pb2,
)
from skerry.plumbing.errors import NotFound
from skerry.wire.deployments import deployment_to_proto, revision_to_proto
from skerry.wire.observations import replica_to_proto
from skerry.wire.supply import gateway_to_proto, identity_to_proto, pool_shape_to_proto
from tests.builders import a_deployment, a_replica, a_report, a_shape, an_identity
from tests.unit.skerry.cli.conftest import OperatorApi

PROJECT = "projects/default"
PLANE, POOL, NODE = "onprem-fra", "onprem-fra--cpu", "onprem-fra--rack-1"


def at(hour: int) -> Timestamp:
    """An hour of the first day of 2030."""
    moment = Timestamp()
    moment.FromDatetime(datetime(2030, 1, 1, hour, tzinfo=UTC))
    return moment


def a_plane(name: str = PLANE, **fields: Any) -> plane_pb2.Plane:
    return plane_pb2.Plane(
        name=f"{PROJECT}/planes/{name}",
        identity=identity_to_proto(an_identity(name)),
        gateway=gateway_to_proto(a_report(name).gateway),
        state=plane_pb2.Plane.STATE_CONNECTED,
        reason="stream up",
        **fields,
    )


def a_pool(plane: str = PLANE, **fields: Any) -> pool_pb2.Pool:
    name = f"{PROJECT}/pools/{plane}--cpu"
    return pool_pb2.Pool(name=name, plane=plane, shape=pool_shape_to_proto(a_shape()), **fields)


def a_node(plane: str = PLANE, **fields: Any) -> node_pb2.Node:
    return node_pb2.Node(
        name=f"{PROJECT}/nodes/{plane}--rack-1",
        plane=plane,
        pool=f"{plane}--cpu",
        state=node_pb2.Node.STATE_READY,
        accelerators=4,
        **fields,
    )


def a_told_deployment(name: str = "demo", *pending: str) -> deployment_pb2.Deployment:
    status = deployment_pb2.DeploymentStatus(replicas_wanted=3, pending=pending)
    spec = deployment_to_proto(a_deployment(name))
    return deployment_pb2.Deployment(name=f"{PROJECT}/deployments/{name}", spec=spec, status=status)


def a_told_replica(name: str, plane: str = PLANE, **fields: Any) -> placement_pb2.Replica:
    seen = a_replica(name=name, pool=f"{plane}--cpu", **fields)
    return placement_pb2.Replica(plane=plane, observed=replica_to_proto(seen))


def a_placement(deployment: str = "demo", plane: str = PLANE) -> placement_pb2.Placement:
    return placement_pb2.Placement(
        name=f"{PROJECT}/placements/{deployment}--{plane}--cpu",
        deployment=deployment,
        plane=plane,
        pool=f"{plane}--cpu",
        replicas=2,
        reason=f"cheapest for {deployment}",
    )


def answer_with_changes(api: OperatorApi, *subjects: str) -> None:
    """Have the log end with a change of each subject, the newest last."""
    told = operator_service_pb2.ListChangesResponse()
    for sequence, subject in reversed(list(enumerate(subjects, 1))):
        told.changes.add(sequence=sequence, subject=f"{PROJECT}/{subject}", summary=f"c{sequence}.")
    api.answers["ListChanges"] = told


def sections(text: str) -> dict[str, list[str]]:
    """Return the lines under each title; a title stands at the margin and is one or two words."""
    found: dict[str, list[str]] = {}
    for line in text.splitlines():
        if line and not line.startswith(" ") and len(line.split()) <= 2:
            found[line.strip()] = []
        else:
            found[next(reversed(found))].append(line)
    return found


def described(api: OperatorApi, capsys: pytest.CaptureFixture[str], *what: str) -> dict[str, Any]:
    assert api.run("describe", *what) == 0, capsys.readouterr().err
    return sections(capsys.readouterr().out)


ALONE = {
    "plane": (PLANE, "GetPlane", a_plane()),
    "pool": (POOL, "GetPool", a_pool()),
    "node": (NODE, "GetNode", a_node()),
    "deployment": ("demo", "GetDeployment", a_told_deployment()),
}
AROUND = {
    "plane": ["cordons", "pools", "nodes", "placements", "replicas", "changes"],
    "pool": ["nodes", "placements", "prices", "reservations", "changes"],
    "node": ["replicas", "changes"],
    "deployment": ["placements", "replicas", "revisions", "changes"],
}


@pytest.mark.parametrize("kind", list(ALONE))
def test_what_has_nothing_around_it_says_so(
    kind: str, api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    name, method, message = ALONE[kind]
    api.answers[method] = message
    told = described(api, capsys, kind, name)
    assert f"{kind} {name}" in told
    empty = [title for title, lines in told.items() if lines == ["  none"]]
    assert empty == AROUND[kind]
    assert [asked.name for asked in api.asked_of(method)] == [f"{PROJECT}/{kind}s/{name}"]


def test_a_plane_is_described_with_what_is_its_own(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    fault = "gateway: not taken up: clusters/clusters.json"
    api.answers["GetPlane"] = a_plane(state_time=at(1), gateway_faults=[fault])
    api.answers["ListPools"] = operator_service_pb2.ListPoolsResponse(
        pools=[a_pool(), a_pool("aws-x")]
    )
    api.answers["ListNodes"] = operator_service_pb2.ListNodesResponse(
        nodes=[a_node(draining=True), a_node("aws-x")]
    )
    api.answers["ListPlacements"] = operator_service_pb2.ListPlacementsResponse(
        placements=[a_placement(), a_placement(plane="aws-x")]
    )
    api.answers["ListReplicas"] = operator_service_pb2.ListReplicasResponse(
        replicas=[a_told_replica("demo-1"), a_told_replica("demo-2", "aws-x")]
    )
    told = described(api, capsys, "plane", PLANE)
    assert told[f"plane {PLANE}"][2].startswith("  connected since 20")
    assert told[f"plane {PLANE}"][2].endswith(": stream up")
    assert told[f"plane {PLANE}"][3] == f"  {fault}"
    for title in ("pools", "nodes", "placements", "replicas"):
        assert len(told[title]) == 2, "a head and the one row of this plane"
    assert told["nodes"][1].split()[:3] == [NODE, POOL, "draining"]


def test_a_plane_is_described_with_the_cordons_that_close_it_or_a_part_of_it(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    mine = [
        "clouds/onprem",
        "nodes/onprem-fra--rack-1",
        "planes/onprem-fra",
        "pools/onprem-fra--cpu",
        "regions/onprem/fra",
    ]
    others = ["clouds/aws", "nodes/onprem-fra2--rack-1", "planes/onprem", "regions/aws/fra"]
    cordons = catalogue_service_pb2.ListCordonsResponse()
    for name in sorted([*mine, *others]):
        cordons.cordons.add(name=f"{PROJECT}/{name}", actor="user:ada", since=at(1))
    api.answers["GetPlane"] = a_plane()
    api.answers["ListCordons"] = cordons
    told = described(api, capsys, "plane", PLANE)["cordons"]
    assert [line.split()[0] for line in told[1:]] == mine


def test_only_the_last_changes_of_the_thing_itself_are_told(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["GetPlane"] = a_plane()
    answer_with_changes(api, *["planes/onprem-fra"] * 12, "planes/x-onprem-fra", "pools/onprem-fra")
    told = described(api, capsys, "plane", PLANE)["changes"]
    assert [line.split()[-1] for line in told[1:]] == [f"c{n}." for n in range(3, 13)]


def test_a_pool_is_described_with_what_it_costs(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    prices = catalogue_service_pb2.ListPricesResponse()
    reservations = catalogue_service_pb2.ListReservationsResponse()
    for pool in (POOL, "aws-x--cpu"):
        prices.prices.add(pool=pool, valid_from=at(2), price_per_accelerator_hour=0.04)
        reservations.reservations.add(
            name=f"{PROJECT}/reservations/{pool}", pool=pool, start_time=at(1), end_time=at(3)
        )
    api.answers["GetPool"] = a_pool(accelerators_placed=3)
    api.answers["ListPrices"], api.answers["ListReservations"] = prices, reservations
    told = described(api, capsys, "pools", POOL)
    assert "3/4" in told[f"pool {POOL}"][1]
    assert [line.split()[0] for line in told["prices"][1:]] == [POOL]
    assert [line.split()[0] for line in told["reservations"][1:]] == [POOL]


def test_a_node_is_described_with_the_replicas_that_run_there(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["GetNode"] = a_node(accelerators_used=1, replicas=["demo-1"])
    api.answers["ListReplicas"] = operator_service_pb2.ListReplicasResponse(
        replicas=[
            a_told_replica("demo-1", nodes=("rack-1",)),
            a_told_replica("demo-2", nodes=("rack-2",)),
            a_told_replica("demo-1", "aws-x"),
        ]
    )
    told = described(api, capsys, "node", NODE)
    assert "1/4" in told[f"node {NODE}"][1]
    assert [line.split()[:3] for line in told["replicas"][1:]] == [["demo-1", "demo", PLANE]]


def test_a_deployment_is_described_with_its_file_and_what_is_pending(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["GetDeployment"] = a_told_deployment("demo", "1 replicas: \x1b[31mno room")
    api.answers["ListPlacements"] = operator_service_pb2.ListPlacementsResponse(
        placements=[a_placement(), a_placement("other")]
    )
    api.answers["ListReplicas"] = operator_service_pb2.ListReplicasResponse(
        replicas=[a_told_replica("demo-1"), a_told_replica("other-1", deployment="other")]
    )
    api.answers["ListRevisions"] = operator_service_pb2.ListRevisionsResponse(
        revisions=[
            deployment_pb2.DeploymentRevision(
                name=f"{PROJECT}/deployments/demo/revisions/1",
                revision=revision_to_proto(a_deployment().revision),
                create_time=at(1),
                current=True,
            )
        ]
    )
    told = described(api, capsys, "deployment", "demo")
    pending = told["deployment demo"][2]
    assert pending.startswith("  pending: 1 replicas: ")
    assert "\x1b" not in pending
    assert told["deployment demo"][3] == (
        "  routing: prefix_tokens; up to 128 requests wait 30 s at most;"
        " broken streams end with an error"
    )
    assert "  kind: Deployment" in told["file"]
    assert "cheapest for demo" in told["placements"][1]
    for title in ("placements", "replicas", "revisions"):
        assert len(told[title]) == 2, "a head and one row"


def test_a_replica_is_described_with_where_it_runs_and_its_deployment(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    seen = a_told_replica("demo-1", nodes=("rack-1",), start_seconds=2.25, engine_pid=17)
    api.answers["ListReplicas"] = operator_service_pb2.ListReplicasResponse(
        replicas=[a_told_replica("demo-0"), seen]
    )
    api.answers["ListDeployments"] = operator_service_pb2.ListDeploymentsResponse(
        deployments=[a_told_deployment(), a_told_deployment("other")]
    )
    told = described(api, capsys, "replica", "demo-1")
    assert told["replica demo-1"][2:] == [
        "  revision: 1",
        f"  pool: {POOL}",
        "  nodes: rack-1",
        "  gRPC: -",
        "  engine's process: 17",
        "  started in: 2.2 s",
    ]
    assert [line.split()[0] for line in told["deployments"][1:]] == ["demo"]


def test_a_replica_of_nothing_that_is_still_wanted_says_so(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["ListReplicas"] = operator_service_pb2.ListReplicasResponse(
        replicas=[a_told_replica("demo-1")]
    )
    assert described(api, capsys, "replica", "demo-1")["deployments"] == ["  none"]


def test_a_plan_is_described_with_what_it_leaves_out_and_proves(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    plan = placement_pb2.Plan(name=f"{PROJECT}/plans/7", state="applied", decide_time=at(1))
    api.answers["ListPlans"] = operator_service_pb2.ListPlansResponse(plans=[plan])
    whole = placement_pb2.Plan()
    whole.unplaced.add(deployment="demo", replicas=2, reason="no pool has room")
    whole.levels.add(level="cost", value=0.5, bound=0.25, unit="USD/h")
    api.answers["GetPlan"] = whole
    told = described(api, capsys, "plan", "7")
    assert told["plan 7"][2:] == [
        "  demo: 2 have no place: no pool has room",
        "  level cost: 0.5 USD/h, at least 0.25",
    ]
    assert [asked.name for asked in api.asked_of("GetPlan")] == [f"{PROJECT}/plans/7"]


@pytest.mark.parametrize("kind", ["replica", "plan"])
def test_what_does_not_exist_is_told(
    kind: str, api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run("describe", kind, "nowhere") == 1
    assert f"error: {kind} 'nowhere' does not exist; there are 0" in capsys.readouterr().err


def test_a_refusal_comes_before_any_section(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    api.answers["GetPlane"] = a_plane()
    api.answers["ListNodes"] = NotFound("no nodes")
    assert api.run("describe", "plane", PLANE) == 1
    assert capsys.readouterr() == ("", "error: no nodes\n")


def test_a_kind_that_is_not_described_is_wrong_usage(
    api: OperatorApi, capsys: pytest.CaptureFixture[str]
) -> None:
    assert api.run("describe", "cordon", "planes/a") == 2
    assert "take one of plane, pool, node" in capsys.readouterr().err
    assert api.asked == []
