"""What may not reach Envoy: dangling references, and sets that shrink without being told to."""

from dataclasses import replace

import pytest

from skerry.plumbing.errors import Conflict, InvalidInput
from tests.unit.workload_plane.gateway.gateway_builders import (
    DESCRIPTOR_SET,
    a_model,
    a_replica,
    a_topology,
)
from workload_plane.gateway.consistent import check_references, check_shrink
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
    with pytest.raises(Conflict, match="replicas from the gateway without tombstones: r1"):
        check_shrink(before, after, NONE)
    check_shrink(before, after, frozenset({"r1"}))


def test_a_replica_may_be_replaced_by_another() -> None:
    before = a_snapshot(a_model("chat", a_replica("r1")))
    check_shrink(before, a_snapshot(a_model("chat", a_replica("r2"))), NONE)


def test_peers_do_not_vanish_by_themselves() -> None:
    lonely = replace(a_topology(), peers=())
    after = build_snapshot(lonely, "/gateway", DESCRIPTOR_SET)
    with pytest.raises(Conflict, match="2 of 2 peers"):
        check_shrink(a_snapshot(), after, NONE)
