"""Envoy's admin answers, captured from a real one whose local replica `a1` had been killed."""

import json
from pathlib import Path
from typing import Any

import pytest

from workload_plane.gateway.status import (
    GatewayStatus,
    InFlight,
    PeerHealth,
    parse_status,
    unconfirmed,
)

HERE = Path(__file__).parent


def captured(name: str) -> Any:
    return json.loads((HERE / name).read_text())


@pytest.fixture
def status() -> GatewayStatus:
    return parse_status(captured("admin_stats.json"), captured("admin_clusters.json"))


def test_versions_are_told_by_file(status: GatewayStatus) -> None:
    assert status.live
    assert set(status.versions) == {
        "listeners/listeners.json",
        "clusters/clusters.json",
        "routes/public.json",
        "routes/peer.json",
        "secrets/identity.json",
        "secrets/authority.json",
        *(f"endpoints/d1/{kind}.json" for kind in ("http", "grpc", "local-http", "local-grpc")),
    }


def test_a_refused_file_is_named(status: GatewayStatus) -> None:
    assert status.rejected == {"clusters/clusters.json": 2}


def test_what_envoy_has_not_taken_up_is_named(status: GatewayStatus) -> None:
    assert unconfirmed(status, status.versions) == ()
    published = {**status.versions, "routes/public.json": "newer", "endpoints/d9/http.json": "1"}
    assert unconfirmed(status, published) == ("endpoints/d9/http.json", "routes/public.json")


def test_health_is_told_by_host(status: GatewayStatus) -> None:
    local, peer = status.hosts["http/d1"]
    assert (local.name, local.priority, local.healthy) == ("a1", 0, False)
    assert (peer.name, peer.priority, peer.healthy) == ("b", 1, True)


def test_requests_in_flight_are_told_by_where_they_run(status: GatewayStatus) -> None:
    assert status.in_flight["d1"] == InFlight(here_from_clients=2, at_peers=5)
    assert status.in_flight["d1"].here == 2


def test_a_peer_is_reachable_and_serving_when_its_checks_pass(status: GatewayStatus) -> None:
    assert status.peers == {"b": PeerHealth(reachable=True, serving=True)}


def test_before_the_first_check_nothing_is_known() -> None:
    clusters = captured("admin_clusters.json")
    for cluster in clusters["cluster_statuses"]:
        for host in cluster["host_statuses"]:
            host["health_status"] = {"failed_active_health_check": True, "pending_active_hc": True}
    status = parse_status({"stats": []}, clusters)
    assert status.peers == {"b": PeerHealth(reachable=None, serving=None)}
    assert not status.live


def test_an_answer_that_is_not_understood_is_not_mistaken_for_emptiness() -> None:
    with pytest.raises(ValueError, match="not the answers"):
        parse_status({}, {})
