"""The way to the relay and back: only for what is continued, and never the only way."""

from dataclasses import replace
from typing import Any

import pytest

from skerry.fleet.routing import Routing
from skerry.plumbing.errors import InvalidInput
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.consistent import check_references
from workload_plane.gateway.resources import Snapshot, build_snapshot
from workload_plane.gateway.topology import GatewayTopology, RelayPorts

PORTS = RelayPorts(http_port=9301, grpc_port=9302, inner_port=9303)


def a_continued(**changes: Any) -> GatewayTopology:
    chat = replace(a_model("chat", a_replica("r1")), routing=Routing(continuation=True))
    plain = a_model("plain", a_replica("r2", port=9100))
    return replace(a_topology(chat, plain), relay=PORTS, **changes)


def snapshot(topology: GatewayTopology) -> Snapshot:
    return build_snapshot(topology, "/files", DESCRIPTOR_SET)


def routes_of(found: Snapshot, table: str) -> list[Any]:
    (routes,) = [flat_routes(t) for t in found.routes if t["name"] == table]
    return [route for route in routes if "route" in route]


def clusters_of(found: Snapshot, table: str) -> set[str]:
    return {route["route"]["cluster"] for route in routes_of(found, table)}


def test_streams_of_a_continued_deployment_alone_lead_to_the_relay() -> None:
    found = snapshot(a_continued())
    relayed = {name for name in clusters_of(found, "public") if name.startswith("relayed-")}
    assert relayed == {"relayed-http/chat", "relayed-grpc/chat"}
    check_references(found)
    for route in routes_of(found, "public"):
        if route["route"]["cluster"] == "relayed-http/chat":
            paths = [entry["path"][0]["key"] for entry in route["match"]["dynamic_metadata"]]
            assert "stream" in paths


def test_nothing_of_the_relays_own_table_leads_to_the_relay() -> None:
    found = snapshot(a_continued())
    assert not [name for name in clusters_of(found, "inner") if "relay" in name]
    assert clusters_of(found, "inner") == {"http/chat", "grpc/chat", "http/plain", "grpc/plain"}


def test_the_relay_is_only_the_first_of_two_ways() -> None:
    clusters = {cluster["name"]: cluster for cluster in snapshot(a_continued()).clusters}
    for kind in ("http", "grpc"):
        led = clusters[f"relayed-{kind}/chat"]["cluster_type"]["typed_config"]["clusters"]
        assert led == [f"relay-{kind}", f"{kind}/chat"]
        health = clusters[f"relay-{kind}"]["health_checks"][0]
        assert health["http_health_check"]["path"] == "/health"


def test_the_relay_has_longer_to_find_a_replica_than_the_gateway_waits_for_one() -> None:
    found = snapshot(a_continued())
    public = {r["route"]["cluster"]: r["route"] for r in routes_of(found, "public")}
    inner = routes_of(found, "inner")[0]["route"]
    idle = float(inner["retry_policy"]["per_try_idle_timeout"][:-1])
    relayed = public["relayed-http/chat"]
    assert float(relayed["retry_policy"]["per_try_idle_timeout"][:-1]) >= 2 * idle + 60
    assert "retriable-status-codes" not in relayed["retry_policy"]["retry_on"]


def test_the_inner_listener_has_the_public_ones_filters_on_loopback() -> None:
    listeners = {listener["name"]: listener for listener in snapshot(a_continued()).listeners}
    (public,), (inner,) = (listeners[name]["filter_chains"] for name in ("public", "inner"))
    address = listeners["inner"]["address"]["socket_address"]
    assert address == {"address": "127.0.0.1", "port_value": PORTS.inner_port}
    of = [chain["filters"][0]["typed_config"] for chain in (public, inner)]
    assert of[0]["http_filters"] == of[1]["http_filters"]
    assert of[1]["rds"]["route_config_name"] == "inner"
    assert not of[1]["use_remote_address"]


def test_the_relay_hears_at_once_that_a_stream_broke_and_with_whom() -> None:
    found = snapshot(a_continued())
    listeners = {listener["name"]: listener for listener in found.listeners}
    (chain,) = listeners["inner"]["filter_chains"]
    assert chain["filters"][0]["typed_config"]["delayed_close_timeout"] == "0.000s"
    told = {t["name"]: str(t["virtual_hosts"][0]["response_headers_to_add"]) for t in found.routes}
    assert {name: "x-skerry-tried" in headers for name, headers in told.items()} == {
        "public": False,
        "inner": True,
        "peer": False,
    }


def test_a_stream_asked_for_again_is_retried_only_where_it_reached_nobody() -> None:
    routes = routes_of(snapshot(a_continued()), "inner")
    resumed = [r for r in routes if "x-skerry-resumed" in str(r["match"].get("headers"))]
    assert {route["route"]["cluster"] for route in resumed} == clusters_of(
        snapshot(a_continued()), "inner"
    )
    for route in resumed:
        asked_on = route["route"]["retry_policy"]["retry_on"].split(",")
        assert not {"reset", "unavailable", "retriable-status-codes"} & set(asked_on)
        headers = [h for h in route["match"]["headers"] if h["name"] != "x-skerry-resumed"]
        match = {**route["match"], "headers": headers}
        twins = [r for r in routes if {"headers": [], **r["match"]} == match]
        assert [routes.index(route) < routes.index(twin) for twin in twins] == [True]
    others = [r for r in routes if r not in resumed and "per_try_idle" in str(r["route"])]
    assert all("reset" in r["route"]["retry_policy"]["retry_on"] for r in others)


def test_the_relays_own_mark_passes_the_inner_listener_alone() -> None:
    listeners = {listener["name"]: listener for listener in snapshot(a_continued()).listeners}
    chains = {name: str(listeners[name]["filter_chains"]) for name in ("public", "inner")}
    assert "'prefix': 'x-skerry-'" in chains["public"]
    assert "'prefix': 'x-skerry-'" not in chains["inner"]
    assert "'prefix': 'x-envoy-'" in chains["inner"]


def test_a_drain_closes_every_listener_but_the_relays() -> None:
    found = {x["name"]: x["traffic_direction"] for x in snapshot(a_continued()).listeners}
    assert found == {"public": "INBOUND", "peer": "INBOUND", "inner": "OUTBOUND"}


def test_a_relay_that_hangs_is_found_out_within_seconds() -> None:
    for cluster in snapshot(a_continued()).clusters:
        if cluster["name"] in ("relay-http", "relay-grpc"):
            (check,) = cluster["health_checks"]
            once = sum(float(check[name][:-1]) for name in ("interval", "timeout"))
            assert once * check["unhealthy_threshold"] <= 2.5


def test_a_relayed_stream_is_asked_for_at_the_picker_once() -> None:
    found = snapshot(a_continued(picks=True, picker_directory="/data/picker"))
    for route in routes_of(found, "public"):
        if route["route"]["cluster"] == "front":
            continue
        is_relayed = route["route"]["cluster"].startswith("relayed-")
        asks = "envoy.filters.http.ext_authz" in route["typed_per_filter_config"]
        assert asks != is_relayed
    for route in routes_of(found, "inner"):
        assert "envoy.filters.http.ext_authz" in route["typed_per_filter_config"]


def test_without_a_relay_nothing_is_different() -> None:
    topology = a_continued()
    without = snapshot(replace(topology, relay=None))
    assert {table["name"] for table in without.routes} == {"public", "peer"}
    assert not [c["name"] for c in without.clusters if "relay" in c["name"]]
    assert {listener["name"] for listener in without.listeners} == {"public", "peer"}


def test_a_led_cluster_that_is_missing_is_refused() -> None:
    found = snapshot(a_continued())
    clusters = tuple(c for c in found.clusters if c["name"] != "relay-grpc")
    with pytest.raises(InvalidInput, match="relay-grpc"):
        check_references(replace(found, clusters=clusters))
