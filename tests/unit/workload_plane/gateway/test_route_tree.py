"""A route table as a tree leads where the list led, and holds each model's routes once."""

import json
from dataclasses import replace
from typing import Any

import pytest

from tests.unit.workload_plane.gateway.gateway_builders import a_model, a_replica, a_topology
from workload_plane.gateway.route_tree import MODEL_STATE, peer_tree
from workload_plane.gateway.routes import build_routes


def matcher(*models: Any, table: int = 0) -> Any:
    return build_routes(a_topology(*models))[table]["virtual_hosts"][0]["matcher"]


def branches(on_match: Any) -> dict[str, list[Any]]:
    tree = on_match["matcher"]["matcher_tree"]
    return {
        name: entry["action"]["typed_config"]["routes"]
        for name, entry in tree["exact_match_map"]["map"].items()
    }


def clusters(routes: list[Any]) -> set[str]:
    return {route["route"]["cluster"] for route in routes if "route" in route}


def test_a_body_meets_only_the_routes_of_the_model_that_it_names() -> None:
    *_, openai, generate = matcher(a_model("chat"), a_model("plain"))["matcher_list"]["matchers"]
    found = branches(openai["on_match"])
    assert {name: clusters(routes) for name, routes in found.items()} == {
        "chat": {"http/chat"},
        "plain": {"http/plain"},
    }
    source = openai["on_match"]["matcher"]["matcher_tree"]["input"]
    assert source["typed_config"]["key"] == MODEL_STATE
    messages = branches(generate["on_match"])
    assert clusters(messages['["chat"]']) == {"grpc/chat", "front"}
    by_header = branches(generate["on_match"]["matcher"]["on_no_match"])
    assert clusters(by_header["plain"]) == {"grpc/plain", "front"}


def test_a_branch_keeps_the_conditions_of_its_routes() -> None:
    *_, openai, _ = matcher(a_model("chat"))["matcher_list"]["matchers"]
    *own, last = branches(openai["on_match"])["chat"]
    assert all("dynamic_metadata" in route["match"] for route in own)
    assert last["direct_response"]["status"] == 400


def test_models_make_a_table_larger_by_their_own_routes_only() -> None:
    def size(count: int) -> int:
        models = [a_model(f"m{number:03}", a_replica("r1")) for number in range(count)]
        return len(
            json.dumps([table["virtual_hosts"][0] for table in build_routes(a_topology(*models))])
        )

    first, second, third = size(60), size(120), size(180)
    # The list of names in an error ends at fifty.
    assert third - second == pytest.approx(second - first, rel=0.05)


def test_adapters_have_branches_of_their_own_that_do_not_name_each_other() -> None:
    adapters = tuple(f"chat-{number}" for number in range(200))
    model = replace(a_model("chat"), adapters=adapters)
    found = branches(matcher(model)["matcher_list"]["matchers"][-2]["on_match"])
    assert set(found) == {"chat", *adapters}
    assert "chat-7" not in json.dumps(found["chat-8"][:-1])
    assert clusters(found["chat-8"]) == {"http/chat"}


def test_a_name_that_is_printed_otherwise_in_a_list_is_still_found() -> None:
    *_, generate = matcher(a_model("odd", served_name='a"<b'), a_model("chat"))["matcher_list"][
        "matchers"
    ]
    assert set(branches(generate["on_match"])) == {'["chat"]'}
    left = json.dumps(generate["on_match"]["matcher"]["on_no_match"])
    assert "grpc/odd" in left
    assert "list_match" in left


def test_a_plane_that_serves_nothing_has_tables_all_the_same() -> None:
    public, peer = (table["virtual_hosts"][0] for table in build_routes(a_topology()))
    assert public["matcher"]["matcher_list"]["matchers"]
    assert peer["routes"] == peer_tree(peer["routes"])["routes"]


def test_a_forwarded_request_is_found_by_its_deployment() -> None:
    found = branches({"matcher": matcher(a_model("chat"), a_model("plain"), table=1)})
    assert clusters(found["chat"]) == {"local-http/chat", "local-grpc/chat"}
    assert all(
        any(r["match"].get("path") == "/skerry/alive" for r in routes) for routes in found.values()
    )
