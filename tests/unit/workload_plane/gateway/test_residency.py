"""A plane outside of a deployment's residency zones has nothing to do with its requests."""

import dataclasses
import json
from typing import Any

import pytest

from skerry.fleet.deployment import PlacementPolicy
from skerry.fleet.desired import Assignment
from skerry.fleet.observation import ReplicaState
from skerry.fleet.routing import Routing
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    flat_routes,
)
from tests.unit.workload_plane.gateway.test_routing import (
    HOSTS,
    SETTINGS,
    assigned,
    desired,
    live,
)
from workload_plane.gateway.consistent import (
    check_references,
    check_shrink,
    keep_unexplained,
    told_helpers,
)
from workload_plane.gateway.picker_file import build_picker_file
from workload_plane.gateway.relay_file import build_relay_file
from workload_plane.gateway.resources import build_snapshot
from workload_plane.gateway.routing import build_endpoints, build_topology
from workload_plane.gateway.topology import GatewayTopology, RelayPorts

READY = live("demo-r1-a", ReplicaState.READY)
NONE: frozenset[str] = frozenset()


def kept_to(*zones: str, name: str = "demo") -> Assignment:
    """Return the assignment of a continued deployment whose requests stay in these zones."""
    deployment = dataclasses.replace(
        assigned().deployment,
        name=name,
        policy=PlacementPolicy(residency_zones=zones),
        routing=Routing(continuation=True),
    )
    return assigned(deployment=deployment)


def in_zones(*zones: str) -> Any:
    identity = dataclasses.replace(SETTINGS.identity, residency_zones=zones)
    return dataclasses.replace(SETTINGS, identity=identity)


def topology(assignment: Assignment, settings: Any = SETTINGS) -> GatewayTopology:
    built = build_topology(settings, desired(assignment), (READY,), HOSTS)
    relay = RelayPorts(http_port=9301, grpc_port=9302, inner_port=9303)
    return dataclasses.replace(built, relay=relay, picker_directory="/p", picks=True)


@pytest.mark.parametrize(
    ("own", "allowed", "is_out"),
    [
        (("us",), ("eu",), True),
        ((), ("eu",), True),  # not known: outside
        (("de", "eu"), ("eu",), False),
        (("us",), (), False),
        ((), (), False),
    ],
)
def test_a_plane_outside_the_zones_or_of_unknown_ones_is_out(
    own: tuple[str, ...], allowed: tuple[str, ...], is_out: bool
) -> None:
    (model,) = topology(kept_to(*allowed), in_zones(*own)).models
    assert model.outside_of == (allowed if is_out else ())
    assert model.listed is not is_out
    assert bool(model.peers) is not is_out
    assert [replica.draining for replica in model.replicas] == [is_out]


def test_no_route_and_no_filter_leads_anywhere_and_every_way_in_says_why() -> None:
    snapshot = build_snapshot(topology(kept_to("eu")), "/files", DESCRIPTOR_SET)
    check_references(snapshot)
    for table in snapshot.routes:
        for route in flat_routes(table):
            assert "/demo" not in str(route.get("route", ""))
            assert "ext_authz" not in str(route)
    (public,) = [flat_routes(t) for t in snapshot.routes if t["name"] == "public"]
    refused = [route for route in public if "residency zones eu" in str(route)]
    statuses = [route["direct_response"]["status"] for route in refused if "grpc" not in str(route)]
    assert statuses == [403, 403, 403]  # streams, whole answers, the model's own entry
    grpc = [route for route in refused if "grpc" in route["match"]]
    assert len(grpc) == 3  # Generate by its message, by x-model, and the engines' own service
    for route in refused:
        told = {h["header"]["key"]: h["header"]["value"] for h in route["response_headers_to_add"]}
        assert told["x-skerry-refusal"] == "residency"
        assert "grpc" not in route["match"] or told["grpc-status"] == "7"
    assert "health_check.demo" not in json.dumps(snapshot.listeners)


def test_nothing_of_it_waits_or_is_relayed_and_what_is_under_way_can_end() -> None:
    snapshot = build_snapshot(topology(kept_to("eu")), "/files", DESCRIPTOR_SET)
    assert "relayed-http/demo" not in json.dumps(snapshot.clusters)
    by_name = {entry["cluster_name"]: entry for entry in snapshot.endpoints}
    (here,) = by_name["http/demo"]["endpoints"]
    (host,) = here["lb_endpoints"]
    assert host["health_status"] == "DRAINING"


def test_neither_picker_nor_relay_nor_front_is_told_of_it() -> None:
    out, inside = kept_to("eu"), kept_to("us")
    assert build_picker_file(topology(out))["deployments"] == []
    assert build_relay_file(SETTINGS, desired(out), (READY,)) is None
    assert build_relay_file(SETTINGS, desired(inside), (READY,)) is not None
    assert build_endpoints(SETTINGS, desired(out), (READY,))["models"] == []


def test_it_is_not_listed_and_not_offered_to_who_asks_for_an_unknown_model() -> None:
    snapshot = build_snapshot(topology(kept_to("eu")), "/files", DESCRIPTOR_SET)
    text = json.dumps(snapshot.routes)
    assert '"data\\":[]' in text
    assert "no model is served here yet" in text


def test_a_name_is_its_own_who_may_be_asked_by_it_here() -> None:
    """Two deployments share a served name, one for each side: each plane serves its own."""
    both = dataclasses.replace(
        desired(kept_to("eu", name="a-eu")),
        assignments=(kept_to("eu", name="a-eu"), kept_to("us", name="b-us")),
    )
    for zone, deployment in (("us", "b-us"), ("eu", "a-eu")):
        (model,) = build_topology(in_zones(zone), both, (), HOSTS).models
        assert (model.deployment, model.outside_of) == (deployment, ())


def test_zones_that_are_tightened_need_no_tombstone() -> None:
    tight = topology(kept_to("eu"))
    before = build_snapshot(topology(kept_to()), "/files", DESCRIPTOR_SET)
    after = build_snapshot(tight, "/files", DESCRIPTOR_SET)
    assert keep_unexplained(tight, before, NONE) == (tight, ())
    check_shrink(before, after, told_helpers(tight, before, NONE))
    check_shrink(after, before, NONE)


def test_a_model_that_is_kept_out_cannot_be_open_as_well() -> None:
    with pytest.raises(ValueError, match="kept out of this plane"):
        dataclasses.replace(a_model("chat", a_replica("r1")), outside_of=("eu",))
