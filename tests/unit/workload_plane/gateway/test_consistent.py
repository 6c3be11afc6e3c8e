"""What may not reach Envoy: dangling references, and sets that shrink without being told to."""

import json
from dataclasses import replace

import pytest

from skerry.plumbing.errors import Conflict, InvalidInput
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
    flat_routes,
)
from workload_plane.gateway.consistent import (
    check_references,
    check_shrink,
    keep_unexplained,
    told_helpers,
)
from workload_plane.gateway.resources import Snapshot, build_snapshot
from workload_plane.gateway.topology import ServedModel

NONE: frozenset[str] = frozenset()


def a_snapshot(*models: ServedModel) -> Snapshot:
    return build_snapshot(a_topology(*models), "/gateway", DESCRIPTOR_SET)


def models(*names: str) -> tuple[ServedModel, ...]:
    return tuple(a_model(name, a_replica(f"{name}-1")) for name in names)


def test_what_the_builders_make_fits_together() -> None:
    check_references(a_snapshot(a_model("chat", a_replica("r1"), peers=("b", "c"))))


@pytest.mark.parametrize(
    ("part", "words"),
    [
        ("clusters", "unknown cluster 'http/chat'"),
        ("endpoints", "unknown endpoints 'local-grpc/chat'"),
        ("routes", "unknown route table 'public'"),
        ("secrets", "unknown secret 'identity'"),
    ],
)
def test_a_reference_to_nothing_is_refused_by_its_name(part: str, words: str) -> None:
    snapshot = a_snapshot(*models("chat"))
    broken = {
        "clusters": replace(snapshot, clusters=()),
        "endpoints": replace(snapshot, endpoints=()),
        "routes": replace(snapshot, routes=()),
        "secrets": replace(snapshot, secrets=()),
    }[part]
    with pytest.raises(InvalidInput, match=words):
        check_references(broken)


def test_a_name_given_twice_is_refused() -> None:
    snapshot = a_snapshot(*models("chat"))
    with pytest.raises(InvalidInput, match="cluster 'http/chat' given twice"):
        check_references(replace(snapshot, clusters=snapshot.clusters * 2))


def test_an_empty_set_never_replaces_a_full_one() -> None:
    with pytest.raises(Conflict, match="refusing to drop 1 of 1 deployments"):
        check_shrink(a_snapshot(*models("chat")), a_snapshot(), NONE)


def test_more_than_half_may_not_vanish_at_once() -> None:
    before = a_snapshot(*models("one", "two", "three"))
    with pytest.raises(Conflict, match="three, two"):
        check_shrink(before, a_snapshot(*models("one")), NONE)


def test_half_may_go() -> None:
    check_shrink(a_snapshot(*models("one", "two")), a_snapshot(*models("one")), NONE)


def test_everything_may_go_that_is_named() -> None:
    gone = frozenset({"one", "two", "one-1", "two-1"})
    check_shrink(a_snapshot(*models("one", "two")), a_snapshot(), gone)


def test_the_last_replica_does_not_vanish_by_itself() -> None:
    before, after = a_snapshot(a_model("chat", a_replica("r1"))), a_snapshot(a_model("chat"))
    words = "replicas of deployment 'chat' from the gateway without tombstones: r1"
    with pytest.raises(Conflict, match=words):
        check_shrink(before, after, NONE)
    check_shrink(before, after, frozenset({"r1"}))


def replicas(name: str, *numbers: int) -> ServedModel:
    return a_model(name, *(a_replica(f"{name}-{n}", port=9000 + 10 * n) for n in numbers))


def test_one_deployment_does_not_vanish_among_many_that_stay() -> None:
    full = replicas("full", 1, 2, 3, 4, 5)
    before = a_snapshot(replicas("small", 6), full)
    with pytest.raises(Conflict, match="1 of 1 replicas of deployment 'small'"):
        check_shrink(before, a_snapshot(replicas("small"), full), NONE)
    before = a_snapshot(replicas("small", 6, 7, 8), full)
    with pytest.raises(Conflict, match="small-7, small-8"):
        check_shrink(before, a_snapshot(replicas("small", 6), full), NONE)
    check_shrink(before, a_snapshot(replicas("small", 6, 7), full), NONE)


def test_a_deployment_may_be_scaled_down_by_replicas_that_are_known_to_be_gone() -> None:
    before, after = a_snapshot(replicas("chat", 1, 2, 3)), a_snapshot(replicas("chat", 1))
    check_shrink(before, after, frozenset({"chat-2", "chat-3"}))
    check_shrink(before, a_snapshot(replicas("chat")), frozenset({"chat-1", "chat-2", "chat-3"}))


def test_replicas_of_another_deployment_make_up_for_none() -> None:
    before = a_snapshot(replicas("one", 1, 2), replicas("two", 3))
    after = a_snapshot(replicas("one"), replicas("two", 3, 4, 5))
    with pytest.raises(Conflict, match="deployment 'one'"):
        check_shrink(before, after, NONE)


def test_a_deleted_deployments_replicas_go_with_it() -> None:
    before = a_snapshot(replicas("one", 1), replicas("two", 2))
    check_shrink(before, a_snapshot(replicas("one"), replicas("two", 2)), frozenset({"one"}))


def test_a_replica_may_be_replaced_by_another() -> None:
    before = a_snapshot(a_model("chat", a_replica("r1")))
    check_shrink(before, a_snapshot(a_model("chat", a_replica("r2"))), NONE)


def test_peers_do_not_vanish_by_themselves() -> None:
    lonely = replace(a_topology(), peers=())
    after = build_snapshot(lonely, "/gateway", DESCRIPTOR_SET)
    with pytest.raises(Conflict, match="2 of 2 peers"):
        check_shrink(a_snapshot(), after, NONE)


def helped(name: str, *peers: str, untold: tuple[str, ...] = ()) -> ServedModel:
    return replace(a_model(name, a_replica(f"{name}-1"), peers=peers), untold_peers=untold)


def test_no_more_than_half_of_all_helping_peers_vanish_at_once() -> None:
    before = a_snapshot(helped("one", "b", "c"), helped("two", "b", "c"))
    with pytest.raises(Conflict, match=r"3 of 4 helping peers .*: b for one, b for two, c for"):
        check_shrink(before, a_snapshot(helped("one"), helped("two", "c")), NONE)
    check_shrink(before, a_snapshot(helped("one"), helped("two", "b", "c")), NONE)
    check_shrink(before, a_snapshot(helped("one"), helped("two")), frozenset({"one", "two"}))
    check_shrink(before, a_snapshot(helped("one"), helped("two")), frozenset({"b", "c"}))


def test_where_nobody_is_named_that_serves_the_peers_stay_and_replicas_are_new() -> None:
    before = a_snapshot(helped("one", "b", "c"), helped("two", "b"))
    new = a_topology(helped("one", untold=("b", "c")), helped("two", untold=("b", "c")))
    kept, (fault,) = keep_unexplained(new, before, NONE)
    assert [model.peers for model in kept.models] == [("b", "c"), ("b",)]
    assert "refusing to drop 3 of 3 helping peers" in fault
    told = told_helpers(kept, before, NONE)
    check_shrink(before, build_snapshot(kept, "/gateway", DESCRIPTOR_SET), told)


def test_who_is_named_as_serving_elsewhere_and_whom_residency_keeps_out_goes() -> None:
    before = a_snapshot(helped("one", "b", "c"))
    for untold in ((), ("c",)):  # told; or b lies in no zone of it any more
        new = a_topology(helped("one", untold=untold))
        kept, faults = keep_unexplained(new, before, NONE)
        assert "b" not in kept.models[0].peers
        assert bool(faults) is bool(untold)


def test_a_few_peers_may_stop_helping_without_a_word() -> None:
    before = a_snapshot(helped("one", "b", "c"), helped("two", "b"), helped("three", "b", "c"))
    new = a_topology(
        helped("one", "b", "c"), helped("two", untold=("b",)), helped("three", "b", "c")
    )
    assert keep_unexplained(new, before, NONE) == (new, ())


def test_what_vanished_unexplained_is_kept_as_it_was_and_the_rest_is_new() -> None:
    before = a_snapshot(replicas("small", 6, 7), replicas("full", 1))
    new = a_topology(replicas("small"), replicas("full", 1, 2))
    kept, (fault,) = keep_unexplained(new, before, frozenset({"small-7"}))
    assert kept == a_topology(replicas("small", 6), replicas("full", 1, 2))
    assert "replicas of deployment 'small'" in fault
    check_shrink(before, build_snapshot(kept, "/gateway", DESCRIPTOR_SET), frozenset({"small-7"}))


def test_what_is_explained_is_left_as_it_is() -> None:
    before, new = a_snapshot(replicas("chat", 1, 2)), a_topology(replicas("chat", 3))
    assert keep_unexplained(new, before, frozenset({"chat-1", "chat-2"})) == (new, ())


def test_where_another_replica_listens_now_the_one_before_is_not_kept() -> None:
    before = a_snapshot(replicas("old", 1))
    new = a_topology(replicas("old"), a_model("new", a_replica("new-1", port=9010)))
    assert keep_unexplained(new, before, NONE) == (new, ())
    check_shrink(before, build_snapshot(new, "/gateway", DESCRIPTOR_SET), NONE)


def test_an_answer_that_is_more_than_envoy_takes_reaches_no_envoy() -> None:
    whole = a_snapshot(*models("chat"))
    tables = tuple({**table, "max_direct_response_body_size_bytes": 30} for table in whole.routes)
    with pytest.raises(InvalidInput, match=r"'public' has an answer of .* bytes, above 30"):
        check_references(replace(whole, routes=tables))


def test_a_list_of_very_many_models_is_cut_and_says_so() -> None:
    many = replace(a_model("chat"), adapters=tuple(f"{n:05}-{'x' * 4_000}" for n in range(400)))
    found = a_snapshot(many)
    check_references(found)
    (told,) = (
        json.loads(route["direct_response"]["body"]["inline_string"])
        for route in flat_routes(found.routes[0])
        if route["match"].get("path") == "/v1/models"
    )
    assert told["has_more"]
    assert 200 < len(told["data"]) < 400
