"""What Envoy is told of the picker, and that nothing is told where it is off."""

import json
from dataclasses import replace
from typing import Any

import pytest

from skerry.fleet.routing import Routing, RoutingPolicy
from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.consistent import check_references
from workload_plane.gateway.resources import Snapshot, build_bootstrap, build_snapshot

MODEL = a_model("chat", a_replica("one"), peers=("b",))
PICKED = replace(a_topology(MODEL), picker_directory="/data/picker", picks=True)
OFF = replace(PICKED, picks=False)


def built(topology: Any) -> Snapshot:
    return build_snapshot(topology, "/files", DESCRIPTOR_SET)


def test_everything_that_is_named_is_there() -> None:
    check_references(built(PICKED))
    check_references(built(OFF))


def test_a_picker_that_is_off_leaves_no_trace_but_the_logs_cluster() -> None:
    text = json.dumps([built(OFF).listeners, built(OFF).routes, built(OFF).clusters])
    for word in ("ext_authz", "override_host", "fluentd", "picker", "x-skerry-held"):
        assert word not in text
    # Envoy takes it from the bootstrap alone, and turning the picker on should need no restart.
    (cluster,) = build_bootstrap(OFF, "/files")["static_resources"]["clusters"]
    assert cluster["name"] == "picker-log"


def test_only_routes_of_models_ask() -> None:
    (host,) = built(PICKED).routes[0]["virtual_hosts"]
    asks = "envoy.filters.http.ext_authz"
    assert host["typed_per_filter_config"][asks]["disabled"] is True
    for route in flat_routes(built(PICKED).routes[0]):
        to_model = route.get("route", {}).get("cluster", "").endswith("/chat")
        assert (asks in route.get("typed_per_filter_config", {})) == to_model


def test_a_missing_answer_lets_the_request_pass() -> None:
    text = json.dumps(built(PICKED).listeners)
    assert text.count('"failure_mode_allow": true') == 2  # clients' and peers' listener
    assert text.count('"allow_partial_message": true') == 2


def test_requests_wait_behind_everybody_who_may_serve_and_never_for_a_peer() -> None:
    by_name = {entry["cluster_name"]: entry for entry in built(PICKED).endpoints}
    for kind in ("http", "grpc"):
        regions = [p["locality"]["region"] for p in by_name[f"{kind}/chat"]["endpoints"]]
        assert regions == ["local", "b", "_waiting-room"]
        assert [p["priority"] for p in by_name[f"{kind}/chat"]["endpoints"]] == [0, 1, 2]
        assert len(by_name[f"local-{kind}/chat"]["endpoints"]) == 1


def test_a_deployment_without_a_queue_has_no_waiting_room() -> None:
    bold = replace(MODEL, routing=Routing(queue_requests_max=0))
    assert "_waiting-room" not in json.dumps(built(replace(PICKED, models=(bold,))).endpoints)


def test_a_picker_needs_a_place_for_its_sockets() -> None:
    with pytest.raises(ValueError, match="directory for its sockets"):
        replace(a_topology(MODEL), picks=True)


def test_a_cluster_that_is_missing_is_told() -> None:
    snapshot = built(PICKED)
    kept = tuple(cluster for cluster in snapshot.clusters if cluster["name"] != "picker")
    with pytest.raises(InvalidInput, match="listener 'public' names unknown cluster 'picker'"):
        check_references(replace(snapshot, clusters=kept))


def test_a_service_that_may_stream_both_ways_is_passed_through_unasked() -> None:
    passed = replace(MODEL, serves_trtllm=True)
    for table in built(replace(PICKED, models=(passed,))).routes:
        for route in flat_routes(table):
            if "trtllm" in str(route["match"]):
                assert "ext_authz" not in str(route)


def test_least_request_is_asked_without_the_body() -> None:
    blind = replace(MODEL, routing=Routing(policy=RoutingPolicy.LEAST_REQUEST))
    for models, count in ((MODEL,), 0), ((blind,), 6):
        text = json.dumps(built(replace(PICKED, models=models)).routes)
        assert text.count('"disable_request_body_buffering": true') == count
