"""What the gateway is told for a topology."""

import json
from typing import Any

import pytest

from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.resources import Snapshot, build_bootstrap, build_snapshot
from workload_plane.gateway.topology import GatewayTopology


def snapshot_of(topology: GatewayTopology) -> Snapshot:
    return build_snapshot(topology, "/gateway", DESCRIPTOR_SET)


def endpoints(snapshot: Snapshot, cluster: str) -> Any:
    return next(e for e in snapshot.endpoints if e["cluster_name"] == cluster)


def cluster(snapshot: Snapshot, name: str) -> Any:
    return next(c for c in snapshot.clusters if c["name"] == name)


def routes(snapshot: Snapshot, table: str) -> list[Any]:
    found = next(t for t in snapshot.routes if t["name"] == table)
    return flat_routes(found)


def priorities(assignment: Any) -> list[tuple[int, list[str]]]:
    return [
        (locality["priority"], [h["endpoint"]["hostname"] for h in locality["lb_endpoints"]])
        for locality in assignment["endpoints"]
    ]


def test_replicas_here_come_first_then_peers_by_distance() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("c", "b"))))
    for kind in ("http", "grpc"):
        assert priorities(endpoints(snapshot, f"{kind}/chat")) == [
            (0, ["r1"]),
            (1, ["b"]),
            (2, ["c"]),
        ]


def test_priority_zero_stays_when_no_replica_is_here() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", peers=("b",))))
    assert priorities(endpoints(snapshot, "http/chat")) == [(0, []), (1, ["b"])]


@pytest.mark.parametrize("kind", ["local-http", "local-grpc"])
def test_what_peers_may_use_holds_no_peer(kind: str) -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("b", "c"))))
    assert priorities(endpoints(snapshot, f"{kind}/chat")) == [(0, ["r1"])]
    assert "transport_socket_matches" not in cluster(snapshot, f"{kind}/chat")


def test_what_a_peer_asks_in_vain_is_tried_again_and_no_answer_for_its_client() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"))))
    missed, other = [one for one in routes(snapshot, "peer") if one["match"].get("prefix") == "/"]
    named = [{"name": "x-skerry-deployment", "present_match": True}]
    assert missed["match"] == {"prefix": "/", "headers": named}
    assert missed["direct_response"]["status"] == 503
    told = missed["direct_response"]["body_format"]["json_format"]["error"]
    assert (told["type"], told["code"]) == ("server_error", "deployment_not_found")
    assert (other["match"], other["direct_response"]["status"]) == ({"prefix": "/"}, 404)
    assert {json.dumps(codes) for codes in retried(snapshot.routes)} == {"[503]"}


def retried(value: object) -> list[object]:
    """Return every list of status codes after which a request is sent again."""
    if isinstance(value, dict):
        here = [value["retriable_status_codes"]] if "retriable_status_codes" in value else []
        return here + [one for inner in value.values() for one in retried(inner)]
    if isinstance(value, list | tuple):
        return [one for inner in value for one in retried(inner)]
    return []


def test_forwarded_requests_go_to_local_clusters_only_and_are_not_retried() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("b",))))
    actions = [r["route"] for r in routes(snapshot, "peer") if "route" in r]
    assert [action["cluster"] for action in actions] == ["local-grpc/chat", "local-http/chat"]
    assert all("retry_policy" not in action for action in actions)


def test_streams_are_bounded_by_pauses_and_whole_answers_by_the_deadline() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"))))
    streamed, whole = [r["route"] for r in routes(snapshot, "public") if "route" in r][:2]
    assert streamed["timeout"] == "0.000s"
    assert streamed["retry_policy"]["per_try_idle_timeout"] == "6.000s"
    assert whole["timeout"] == "120.000s"
    assert "per_try_idle_timeout" not in whole["retry_policy"]
    assert streamed["retry_policy"]["num_retries"] == whole["retry_policy"]["num_retries"] == 1


def test_a_draining_replica_is_marked_and_does_not_push_requests_to_peers() -> None:
    model = a_model("chat", a_replica("r1"), a_replica("r2", port=9100, draining=True))
    assignment = endpoints(snapshot_of(a_topology(model)), "http/chat")
    hosts = assignment["endpoints"][0]["lb_endpoints"]
    assert [host.get("health_status") for host in hosts] == [None, "DRAINING"]
    # Half of the hosts at this factor count as 140 %, not as 70 %.
    assert assignment["policy"]["overprovisioning_factor"] == 280


def test_health_is_asked_at_the_health_port_and_of_peers_per_deployment() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("b",))))
    local, peer = (
        locality["lb_endpoints"][0]["endpoint"]["health_check_config"]
        for locality in endpoints(snapshot, "grpc/chat")["endpoints"]
    )
    assert local == {"port_value": 9002}
    assert peer == {"hostname": "chat"}


@pytest.mark.parametrize("name", ["http/chat", "grpc/chat", "local-grpc/chat", "peer/b"])
def test_what_a_silent_network_never_took_is_given_up_within_ten_seconds(name: str) -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("b",))))
    (bound,) = cluster(snapshot, name)["upstream_bind_config"]["socket_options"]
    assert (bound["level"], bound["name"]) == (6, 18)  # TCP_USER_TIMEOUT, in ms
    assert bound["int_value"] < 10_000


def test_every_peer_has_a_witness() -> None:
    names = {c["name"] for c in snapshot_of(a_topology()).clusters}
    assert names == {"peer/b", "peer/c", "front"}


def test_without_tls_there_is_no_listener_for_peers() -> None:
    snapshot = snapshot_of(a_topology(a_model("chat", a_replica("r1")), tls=None))
    assert [listener["name"] for listener in snapshot.listeners] == ["public"]
    assert [table["name"] for table in snapshot.routes] == ["public"]
    assert snapshot.secrets == ()


def test_the_public_listener_does_not_change_with_what_is_served() -> None:
    before = snapshot_of(a_topology())
    after = snapshot_of(a_topology(a_model("chat", a_replica("r1"), peers=("b",))))
    assert before.listeners[0] == after.listeners[0]


def test_a_model_name_cannot_break_out_of_the_answers() -> None:
    name = 'a"b%c/d'
    snapshot = snapshot_of(a_topology(a_model("chat", served_name=name)))
    bodies = [
        json.loads(r["direct_response"]["body"]["inline_string"])
        for r in routes(snapshot, "public")
        if r["match"].get("path", "").startswith("/v1/models") and "body" in r["direct_response"]
    ]
    assert bodies[0]["data"][0]["id"] == name
    formats = [
        r["direct_response"]["body_format"]["json_format"]["error"]["message"]
        for r in routes(snapshot, "public")
        if "json_format" in r.get("direct_response", {}).get("body_format", {})
    ]
    assert any('a"b%%c/d' in message for message in formats)


def test_the_same_topology_gives_the_same_resources() -> None:
    topology = a_topology(a_model("chat", a_replica("r1"), peers=("b", "c")))
    assert snapshot_of(topology) == snapshot_of(topology)


def test_the_admin_listens_on_loopback_only() -> None:
    admin = build_bootstrap(a_topology(), "/gateway")["admin"]["address"]["socket_address"]
    assert admin == {"address": "127.0.0.1", "port_value": 9901}


def test_the_admin_shows_what_the_plane_asks_for_and_nothing_there_ends_envoy() -> None:
    allowed = build_bootstrap(a_topology(), "/gateway")["admin"]["allow_paths"]
    exact = {one["exact"] for one in allowed if "exact" in one}
    prefixes = tuple(one["prefix"] for one in allowed if "prefix" in one)
    assert all(prefix.endswith("?") for prefix in prefixes)
    for path in ("/quitquitquit", "/runtime_modify?a=b", "/logging?level=trace", "/"):
        assert path not in exact
        assert not path.startswith(prefixes)
    for path in ("/config_dump", "/config_dump?include_eds", "/drain_listeners"):
        assert path not in exact
        assert not path.startswith(prefixes)
