"""What can be placed on: nodes that are drained do not count, what runs on a cordoned one does."""

from dataclasses import replace

import pytest

from control_plane.reconcile.draining import is_known, progress_of, running_of
from control_plane.reconcile.failover import judge
from control_plane.reconcile.plan import desired_state
from control_plane.reconcile.snapshot import Snapshot
from control_plane.reconcile.supply import Supply, supply_of, used_by_node
from skerry.fleet.cordon import Cordon, Cordons, Part, Scope, planes_in
from skerry.fleet.desired import FEATURES, FEATURES_NEEDED, NODE_CORDONS
from skerry.fleet.names import InvalidName
from skerry.fleet.node import Node, NodeCordon
from skerry.fleet.observation import PlaneState, ReplicaState
from skerry.wire.desired import desired_from_proto, desired_to_proto
from tests.builders import (
    T0,
    a_demand,
    a_deployment,
    a_plane_view,
    a_pool,
    a_replica,
    a_report,
    a_shape,
    a_snapshot,
)


def a_cordon(scope: Scope, name: str, *, draining: bool = False) -> Cordon:
    return Cordon(
        part=Part(scope=scope, name=name), actor="user:x", reason="", since=T0, draining=draining
    )


def three_nodes(
    *running: str,
    cordons: tuple[Cordon, ...] = (),
    state: PlaneState = PlaneState.CONNECTED,
    unfit: tuple[str, ...] = (),
) -> Snapshot:
    """`fra` has nodes a, b and c of four accelerators; replicas of `demo` run where told."""
    nodes = tuple(
        Node(name=name, pool="cpu", accelerators=4, ready=name not in unfit) for name in "abc"
    )
    replicas = tuple(
        a_replica(name=f"demo-{n}", pool="fra--cpu", nodes=(node,))
        for n, node in enumerate(running)
    )
    shape = a_shape(nodes=3 - len(unfit))
    report = a_report("fra", pools=(shape,), nodes=nodes, replicas=replicas, features=FEATURES)
    view = a_plane_view("fra", report=report, connected=state is PlaneState.CONNECTED)
    if state is not PlaneState.CONNECTED:
        view = replace(view, link=replace(view.link, silent_seconds=5.0))
    return a_snapshot(view, demands=(a_demand(a_deployment()),), cordons=cordons)


def supply(snapshot: Snapshot) -> Supply:
    return supply_of(snapshot, judge(snapshot))


def test_a_drained_node_does_not_count() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--b", draining=True),)
    found = supply(three_nodes("b", "b", cordons=cordons))
    assert found.pools[0].shape.nodes == 2
    assert found.bars == ()
    assert found.drained == {"fra--cpu"}


def test_an_empty_cordoned_node_does_not_count_and_one_in_use_does() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--a"), a_cordon(Scope.NODE, "fra--b"))
    found = supply(three_nodes("a", "c", cordons=cordons))
    assert found.pools[0].shape.nodes == 2
    assert found.bars == ()
    assert found.drained == frozenset()


def test_nothing_new_goes_where_only_cordoned_nodes_have_room() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--a"),)
    found = supply(three_nodes("a", *"bbbb", *"cccc", cordons=cordons))
    assert found.pools[0].shape.nodes == 3
    assert [(bar.reason, bar.keeps_current) for bar in found.bars] == [
        ("what it has free is cordoned", True)
    ]


def test_a_node_that_is_unfit_is_not_taken_away_twice() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--b", draining=True),)
    found = supply(three_nodes(cordons=cordons, unfit=("b",)))
    assert found.pools[0].shape.nodes == 2


def test_of_a_silent_plane_every_node_counts() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--b", draining=True),)
    found = supply(three_nodes("b", cordons=cordons, state=PlaneState.SUSPECT))
    assert found.pools[0].shape.nodes == 3
    assert [bar.reason for bar in found.bars] == ["plane fra is suspect"]
    assert found.drained == frozenset()


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope.POOL, "fra--cpu"),
        (Scope.PLANE, "fra"),
        (Scope.REGION, "fra/fra"),
        (Scope.CLOUD, "fra"),
    ],
)
def test_a_part_that_is_drained_keeps_nothing(scope: Scope, name: str) -> None:
    found = supply(three_nodes("a", cordons=(a_cordon(scope, name, draining=True),)))
    assert [(bar.reason, bar.keeps_current) for bar in found.bars] == [
        (f"{scope.value} {name} is being drained", False)
    ]
    assert found.drained == {"fra--cpu"}


def test_of_several_cordons_the_one_that_drains_counts() -> None:
    cordons = Cordons(
        (a_cordon(Scope.POOL, "fra--cpu"), a_cordon(Scope.CLOUD, "fra", draining=True))
    )
    found = cordons.of_pool(a_pool("fra"))
    assert found is not None
    assert found.part.scope is Scope.CLOUD


def test_what_a_replica_takes_is_that_of_its_deployment_and_several_nodes_are_whole() -> None:
    report = a_report(
        "fra",
        nodes=tuple(Node(name=name, pool="cpu", accelerators=4) for name in "abc"),
        replicas=(
            a_replica(name="one", pool="fra--cpu", nodes=("a",)),
            a_replica(name="large", pool="fra--cpu", nodes=("b", "c")),
            a_replica(name="over", pool="fra--cpu", nodes=("a",), state=ReplicaState.FAILED),
        ),
    )
    assert used_by_node(report, {"demo": a_deployment()}) == {"a": 1, "b": 4, "c": 4}


def test_a_plane_is_told_of_its_cordoned_nodes_if_it_understands() -> None:
    cordons = (a_cordon(Scope.NODE, "fra--b", draining=True), a_cordon(Scope.NODE, "gcp--a"))
    snapshot = three_nodes(cordons=cordons)
    told = desired_state(snapshot, snapshot.planes[0], {}, {})
    assert told.node_cordons == (NodeCordon(node="b", draining=True),)
    assert told.required_features == (*FEATURES_NEEDED, NODE_CORDONS)
    report = snapshot.planes[0].link.report
    assert report is not None
    link = replace(snapshot.planes[0].link, report=replace(report, features=FEATURES_NEEDED))
    older = desired_state(snapshot, replace(snapshot.planes[0], link=link), {}, {})
    assert older.node_cordons == ()
    assert older.required_features == FEATURES_NEEDED


def test_every_plane_is_told_of_those_that_were_revoked() -> None:
    snapshot = replace(three_nodes(), revoked_planes=("gcp",))
    told = desired_state(snapshot, snapshot.planes[0], {}, {})
    assert told.revoked_planes == ("gcp",)
    assert "gcp" not in {peer.plane for peer in told.peers}
    assert desired_from_proto(desired_to_proto(told)) == told


def test_a_drain_of_a_node_is_over_only_once_its_plane_was_told() -> None:
    node = Part(scope=Scope.NODE, name="fra--b")
    snapshot = three_nodes("a", cordons=(a_cordon(Scope.NODE, "fra--b", draining=True),))
    conditions = judge(snapshot)
    assert not progress_of(node, running_of(snapshot), snapshot, conditions, ()).left
    told = replace(
        desired_state(snapshot, snapshot.planes[0], {}, {}),
        version=snapshot.planes[0].link.report.held,  # type: ignore[union-attr]
    )
    untold = replace(snapshot, desired=(replace(told, node_cordons=()),))
    assert not progress_of(node, running_of(untold), untold, conditions, ()).is_over
    told_now = replace(snapshot, desired=(told,))
    assert progress_of(node, running_of(told_now), told_now, conditions, ()).is_over


def test_what_there_is_can_be_drained() -> None:
    snapshot = three_nodes("a")
    parts = [(Scope.POOL, "fra--cpu"), (Scope.REGION, "fra/fra"), (Scope.CLOUD, "fra")]
    assert all(is_known(Part(scope=scope, name=name), snapshot) for scope, name in parts)
    others = [(Scope.POOL, "fra--gpu"), (Scope.PLANE, "gcp")]
    assert not any(is_known(Part(scope=scope, name=name), snapshot) for scope, name in others)


def test_a_replica_that_does_not_tell_its_node_keeps_a_drain_of_one_from_being_over() -> None:
    node = Part(scope=Scope.NODE, name="fra--b")
    snapshot = three_nodes("a")
    report = snapshot.planes[0].link.report
    assert report is not None
    unbound = replace(report.replicas[0], nodes=())
    link = replace(snapshot.planes[0].link, report=replace(report, replicas=(unbound,)))
    snapshot = replace(snapshot, planes=(replace(snapshot.planes[0], link=link),))
    found = progress_of(node, running_of(snapshot), snapshot, judge(snapshot), ())
    assert not found.is_over
    assert found.waits_for[0].startswith("1 replicas of demo on pool fra--cpu do not tell")


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        (Scope.NODE, "fra"),
        (Scope.PLANE, "fra--b"),
        (Scope.REGION, "fra"),
        (Scope.CLOUD, "fra/fra"),
        (Scope.POOL, "fra--"),
        (Scope.POOL, "--cpu"),
        (Scope.POOL, "a--b--c"),
        (Scope.PLANE, "Fra"),
        (Scope.PLANE, ""),
    ],
)
def test_a_name_that_is_not_of_its_scope_is_refused(scope: Scope, name: str) -> None:
    with pytest.raises(InvalidName):
        Part(scope=scope, name=name)


def test_planes_of_a_part_are_named() -> None:
    planes = [a_plane_view(name).identity for name in ("aws-us", "aws-eu", "gcp-us")]
    assert planes_in(Part(scope=Scope.CLOUD, name="aws"), planes) == ("aws-eu", "aws-us")
    assert planes_in(Part(scope=Scope.REGION, name="gcp/us"), planes) == ("gcp-us",)
    assert planes_in(Part(scope=Scope.NODE, name="aws-us--n1"), planes) == ("aws-us",)
