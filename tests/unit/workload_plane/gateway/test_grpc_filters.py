"""Filters of gRPC are built for gRPC alone, and for every request of it that needs them."""

from dataclasses import replace
from typing import Any

from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.grpc_filters import TRAILER_FILTER
from workload_plane.gateway.resources import Snapshot, build_snapshot
from workload_plane.gateway.topology import RelayPorts
from workload_plane.gateway.wire import GENERATE_PATH, GRPC_METADATA


def built(**fields: Any) -> Snapshot:
    topology = replace(a_topology(a_model("chat")), **fields)
    return build_snapshot(topology, "/gateway", DESCRIPTOR_SET)


def test_they_are_off_until_a_route_turns_them_on() -> None:
    for listener in built().listeners:
        (chain,) = listener["filter_chains"]
        filters = chain["filters"][0]["typed_config"]["http_filters"]
        of_grpc = [one for one in filters if one["name"] in (TRAILER_FILTER, GRPC_METADATA)]
        assert of_grpc
        assert all(one["disabled"] for one in of_grpc)


def test_no_request_over_http_has_them_and_every_one_over_grpc_has() -> None:
    for table in built().routes:
        for route in flat_routes(table):
            on = route.get("typed_per_filter_config", {}).keys()
            assert (TRAILER_FILTER in on) == ("grpc" in route["match"])
            reads = route["match"].get("path") == GENERATE_PATH and "grpc" in route["match"]
            assert (GRPC_METADATA in on) == reads


def test_a_message_is_read_whether_or_not_there_is_a_front() -> None:
    """The route before the body is read decides, and it names no model."""
    for front in (a_topology().front, None):
        (public,) = [one for one in built(front=front).routes if one["name"] == "public"]
        unread = [
            route
            for route in flat_routes(public)
            if route["match"].get("path") == GENERATE_PATH
            and not route["match"].get("headers")
            and not route["match"].get("dynamic_metadata")
        ]
        assert unread
        assert all(GRPC_METADATA in route["typed_per_filter_config"] for route in unread)


def test_a_message_is_read_where_the_relay_asks_too() -> None:
    relay = RelayPorts(http_port=7100, grpc_port=7101, inner_port=7102)
    (inner,) = [one for one in built(relay=relay).routes if one["name"] == "inner"]
    unread = [
        route
        for route in flat_routes(inner)
        if route["match"] == {"path": GENERATE_PATH, "grpc": {}}
    ]
    assert [GRPC_METADATA in route["typed_per_filter_config"] for route in unread] == [True]
