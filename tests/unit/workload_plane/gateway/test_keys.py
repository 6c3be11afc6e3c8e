"""What Envoy is told of API keys: digests, never keys; and nothing where none is asked for."""

import json
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from skerry.fleet.api_key import ApiKey, KeyTerms
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from tests.unit.workload_plane.gateway.test_routing import (
    HOSTS,
    SETTINGS,
    assigned,
    desired,
)
from workload_plane.gateway.keys import (
    ALLOW_FILTER,
    FIND_FILTER,
    KEY_FILTERS,
    RATE_FILTER,
    fill_of,
    retry_after_seconds,
)
from workload_plane.gateway.known_keys import KEYS_FILE, KnownKeys
from workload_plane.gateway.resources import build_snapshot
from workload_plane.gateway.routing import build_topology, empty_topology
from workload_plane.gateway.topology import GatewayTopology, RelayPorts

KEY = ApiKey(
    name="team-a",
    digest=bytes(range(32)),
    terms=KeyTerms(deployments=("m",), requests_per_minute=60),
    expires_at=datetime(2030, 1, 1, tzinfo=UTC),
)
EVERY = ApiKey(name="every", digest=bytes(32), terms=KeyTerms(deployments=("*",)))
TOPOLOGY = a_topology(a_model("m", a_replica("m-1")), a_model("other", a_replica("o-1")))


def asked(*keys: ApiKey) -> GatewayTopology:
    return replace(TOPOLOGY, api_keys=keys)


def filters_of(topology: GatewayTopology, listener: str = "public") -> list[str]:
    snapshot = build_snapshot(topology, "/g", DESCRIPTOR_SET)
    (one,) = (found for found in snapshot.listeners if found["name"] == listener)
    connection = one["filter_chains"][0]["filters"][0]["typed_config"]
    return [str(found["name"]) for found in connection["http_filters"]]


def public_host(topology: GatewayTopology) -> Any:
    return build_snapshot(topology, "/g", DESCRIPTOR_SET).routes[0]["virtual_hosts"][0]


def test_where_no_key_is_asked_for_nothing_of_keys_is_there() -> None:
    text = json.dumps(build_snapshot(TOPOLOGY, "/g", DESCRIPTOR_SET).routes)
    assert "skerry.key" not in text
    assert not KEY_FILTERS & set(filters_of(TOPOLOGY))


def test_the_key_is_looked_at_before_a_body_is_read_and_the_deployment_after() -> None:
    names = filters_of(asked(KEY))
    assert names[1:3] == [FIND_FILTER, RATE_FILTER]
    assert names.index("envoy.filters.http.json_to_metadata") == 3
    assert names.index("envoy.filters.http.set_filter_state") < names.index(ALLOW_FILTER)


def test_neither_peers_nor_the_relay_are_asked_for_a_key() -> None:
    relay = RelayPorts(http_port=9301, grpc_port=9302, inner_port=9303)
    topology = replace(asked(KEY), relay=relay)
    for listener in ("peer", "inner"):
        assert not KEY_FILTERS & set(filters_of(topology, listener))


def test_the_files_hold_digests_and_what_a_key_may() -> None:
    script = public_host(asked(KEY, EVERY))["typed_per_filter_config"][FIND_FILTER]
    text = script["source_code"]["inline_string"]
    assert f"['{KEY.digest.hex()}']" in text
    assert "sk-" not in text
    assert "ends=1893456000" in text
    assert "@" not in text, "every name was filled in"


def test_a_name_that_looks_like_a_part_of_the_script_stays_a_name() -> None:
    model = a_model("m", served_name='@KEYS@"]] \\ü')
    topology = replace(a_topology(model), api_keys=(KEY,))
    script = public_host(topology)["typed_per_filter_config"][FIND_FILTER]
    text = script["source_code"]["inline_string"]
    assert "@KEYS@\\034]] \\092\\195\\188" in text
    assert text.count(KEY.digest.hex()) == 1


def test_every_route_of_a_deployment_asks_for_a_key_that_is_for_it() -> None:
    def is_for(route: Any) -> set[str]:
        settings = route.get("typed_per_filter_config", {}).get(ALLOW_FILTER)
        if settings is None or "rbac" not in settings:
            return set()
        found = settings["rbac"]["rules"]["policies"]["keys"]["principals"]
        values = (one["sourced_metadata"]["metadata_matcher"]["value"] for one in found)
        return {value["list_match"]["one_of"]["string_match"]["exact"] for value in values}

    for route in flat_routes(build_snapshot(asked(KEY), "/g", DESCRIPTOR_SET).routes[0]):
        if route.get("route", {}).get("cluster", "").endswith("/m"):
            assert is_for(route) == {"m", "*"}, route["match"]
        elif route.get("route"):
            assert is_for(route) in ({"other", "*"}, {"*"}, set()), route["match"]


def test_a_fleet_of_one_project_is_asked_nothing_of_projects() -> None:
    text = json.dumps(build_snapshot(asked(KEY, EVERY), "/g", DESCRIPTOR_SET).routes)
    assert "foreign" not in text
    assert "*/" not in text


def test_a_key_of_a_project_is_for_the_models_of_that_and_of_no_other() -> None:
    mine = replace(a_model("m", a_replica("m-1")), project="red")
    other = replace(a_model("other", a_replica("o-1")), project="blue")
    told = KeyTerms(deployments=("other",))  # for planes of earlier releases, and wrong
    red = replace(EVERY, terms=told, project="red", every_of_project=True)
    topology = replace(a_topology(mine, other), api_keys=(red,))
    routes = flat_routes(build_snapshot(topology, "/g", DESCRIPTOR_SET).routes[0])
    for name, project in (("m", "red"), ("other", "blue")):
        (rbac, *_) = (
            route["typed_per_filter_config"][ALLOW_FILTER]["rbac"]
            for route in routes
            if route.get("route", {}).get("cluster", "").endswith(f"/{name}")
        )
        assert rbac["rules"]["action"] == "DENY", "whoever is not found to be one of these"
        policies = rbac["rules"]["policies"]
        assert sorted(policies)[0] == "foreign", "Envoy takes the first by name"
        assert f'"{project}"' in json.dumps(policies["foreign"])
        listed = json.dumps(policies["keys"])
        assert all(f'"{one}"' in listed for one in (name, "*", f"*/{project}"))
        for policy in policies.values():
            (principal,) = policy["principals"]
            assert list(principal) == ["not_id"]
    script = public_host(topology)["typed_per_filter_config"][FIND_FILTER]
    text = script["source_code"]["inline_string"]
    scope = text.partition("local SCOPES = ")[2].partition("\n")[0]
    assert scope.startswith('{{project="red",deployments={"*/red"},served="served: m"')
    assert "other" not in scope


def test_only_who_asks_whether_it_lives_is_asked_nothing() -> None:
    routes = flat_routes(build_snapshot(asked(KEY), "/g", DESCRIPTOR_SET).routes[0])
    free = [
        route["match"]["path"]
        for route in routes
        if route.get("typed_per_filter_config", {}).get(FIND_FILTER, {}).get("disabled")
    ]
    assert sorted(free) == ["/grpc.health.v1.Health/Check", "/health"]


@pytest.mark.parametrize("rpm", [1, 7, 60, 1_200, 1_201, 7_000, 10_000_000])
def test_a_bucket_fills_at_the_keys_rate_and_not_faster_than_envoy_takes(rpm: int) -> None:
    at_once, seconds = fill_of(rpm)
    assert seconds >= 0.05
    assert at_once / seconds == pytest.approx(rpm / 60)
    assert retry_after_seconds(rpm) == max(1, -(-60 // rpm))


def test_a_key_without_a_rate_has_no_bucket() -> None:
    buckets = public_host(asked(KEY, EVERY))["typed_per_filter_config"][RATE_FILTER]
    assert [one["entries"][0]["value"] for one in buckets["descriptors"]] == ["team-a"]
    assert RATE_FILTER not in public_host(asked(EVERY))["typed_per_filter_config"]


def test_a_plane_that_asks_for_keys_lets_nobody_in_before_it_heard_of_any() -> None:
    closed = replace(SETTINGS, gateway=replace(SETTINGS.gateway, require_keys=True))
    assert empty_topology(closed, HOSTS).api_keys == ()
    assert empty_topology(SETTINGS, HOSTS).api_keys is None
    told = replace(desired(assigned()), api_keys=(KEY,))
    assert build_topology(closed, told, (), HOSTS).api_keys == (KEY,)
    assert build_topology(SETTINGS, told, (), HOSTS).api_keys is None


def test_no_word_of_keys_takes_none_away_also_after_a_restart(tmp_path: Path) -> None:
    unsaid = DesiredState(plane="a", version=Version(epoch=1, generation=1))
    assert KnownKeys(tmp_path).with_keys(unsaid).api_keys is None
    told = replace(unsaid, api_keys=(KEY,))
    keys = KnownKeys(tmp_path)
    assert keys.with_keys(told) == told
    assert keys.with_keys(unsaid) == told
    assert KnownKeys(tmp_path).with_keys(unsaid) == told
    assert (tmp_path / KEYS_FILE).stat().st_mode & 0o077 == 0
    none = replace(unsaid, api_keys=())
    assert keys.with_keys(none) == none
    assert KnownKeys(tmp_path).with_keys(unsaid) == none
    (tmp_path / KEYS_FILE).write_bytes(b"\xff")
    assert KnownKeys(tmp_path).with_keys(unsaid).api_keys is None
