"""What a plane says of itself: its nodes, and of each replica where it is and how it started."""

import dataclasses

from skerry.fleet.generation import NEVER
from skerry.fleet.node import Node
from skerry.fleet.observation import ReplicaState
from skerry.wire.observations import replica_from_proto, replica_to_proto
from tests.unit.workload_plane.test_settings import GOOD
from workload_plane.link.report import build_report
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.settings import parse_settings

RECORD = ReplicaRecord(
    name="demo-r1-aaaaaa",
    deployment="demo",
    revision=1,
    pool="here--cpu",
    nodes=("cpu-1",),
    state=ReplicaState.READY,
    start_seconds=42.5,
    restarts=9,
    failures=1,
)


def test_a_report_names_the_nodes_and_what_runs_on_them() -> None:
    report = build_report(parse_settings(GOOD), NEVER, [RECORD], (), "skerry")
    assert report.nodes == (Node(name="cpu-1", pool="cpu", accelerators=4),)
    (replica,) = report.replicas
    assert (replica.nodes, replica.start_seconds) == (("cpu-1",), 42.5)
    assert (replica.restarts, replica.failures) == (9, 1)


def test_failures_in_a_row_go_over_the_wire_and_their_absence_does_too() -> None:
    (replica,) = build_report(parse_settings(GOOD), NEVER, [RECORD], (), "skerry").replicas
    for failures in (None, 0, 3):
        told = dataclasses.replace(replica, failures=failures)
        assert replica_from_proto(replica_to_proto(told)) == told


def test_a_plane_that_lists_no_nodes_reports_none() -> None:
    settings = dataclasses.replace(parse_settings(GOOD), nodes=())
    assert build_report(settings, NEVER, [], (), "skerry").nodes == ()


def test_others_are_told_the_advertised_host_and_never_what_stands_for_all_addresses() -> None:
    gateway = {**GOOD["gateway"], "host": "0.0.0.0", "advertised_host": "lb.example.net"}
    settings = parse_settings({**GOOD, "gateway": gateway})
    told = build_report(settings, NEVER, [], (), "skerry").gateway
    assert (told.http, told.grpc) == ("lb.example.net:1", "lb.example.net:1")
    assert told.peer == "lb.example.net:2"


def test_a_gateway_that_no_peer_can_reach_tells_peers_no_address() -> None:
    settings = parse_settings(GOOD)
    hidden = dataclasses.replace(
        settings, gateway=dataclasses.replace(settings.gateway, peer_reachable=False)
    )
    assert build_report(hidden, NEVER, [], (), "skerry").gateway.peer == ""
