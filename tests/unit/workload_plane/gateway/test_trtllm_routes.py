"""A model of `trtllm.TrtllmService` has one way in, and every other one is told of it."""

from dataclasses import replace
from typing import Any

from skerry.fleet.routing import Routing
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.consistent import check_references
from workload_plane.gateway.resources import build_snapshot
from workload_plane.gateway.topology import GatewayTopology, RelayPorts
from workload_plane.gateway.wire import TRTLLM_PREFIX

TOKENS = replace(a_model("tokens", a_replica("r1")), serves_trtllm=True)
PLAIN = a_model("plain", a_replica("r2", port=9100))
RELAY = RelayPorts(http_port=9301, grpc_port=9302, inner_port=9303)


def public_routes(topology: GatewayTopology) -> list[Any]:
    snapshot = build_snapshot(topology, "/files", DESCRIPTOR_SET)
    check_references(snapshot)
    (routes,) = [flat_routes(t) for t in snapshot.routes if t["name"] == "public"]
    assert isinstance(routes, list)
    return routes


def of_model(routes: list[Any], name: str) -> list[Any]:
    return [route for route in routes if f"'{name}'" in str(route["match"])]


def test_only_the_service_itself_leads_to_a_replica() -> None:
    own = of_model(public_routes(a_topology(TOKENS, PLAIN)), "tokens")
    (passed,) = [route for route in own if "route" in route]
    assert passed["match"]["prefix"] == TRTLLM_PREFIX
    assert passed["route"]["cluster"] == "grpc/tokens"
    assert len(own) == 5
    assert all("protocol: trtllm" in str(one["direct_response"]) for one in own if one != passed)


def test_neither_picker_nor_relay_has_to_do_with_it() -> None:
    continued = replace(TOKENS, routing=Routing(continuation=True))
    topology = replace(a_topology(continued, PLAIN), relay=RELAY, picker_directory="/p", picks=True)
    for route in of_model(public_routes(topology), "tokens"):
        assert "relay" not in str(route)
        assert "ext_authz" not in str(route)


def test_without_such_a_model_the_service_is_not_there_and_with_one_others_are_not_found() -> None:
    def statuses(*models: Any) -> list[str]:
        routes = public_routes(a_topology(*models))
        return [
            route["response_headers_to_add"][0]["header"]["value"]
            for route in routes
            if route["match"].get("prefix") == TRTLLM_PREFIX and "route" not in route
        ]

    assert statuses(PLAIN) == ["12"]
    assert statuses(PLAIN, TOKENS) == ["3", "5"]
