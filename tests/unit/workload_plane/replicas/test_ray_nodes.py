"""Ray's nodes become the plane's: by label, by name, and not lost for a moment's silence."""

from skerry.fleet.pool import PoolShape
from workload_plane.converge.discover import seen_pools
from workload_plane.replicas.ray.nodes import (
    FORGET_SECONDS,
    GRACE_SECONDS,
    KnownNode,
    merge_nodes,
    place_nodes,
    supply_of,
)
from workload_plane.replicas.ray.settings import RayPool
from workload_plane.replicas.ray.values import RayNode

SHAPES = (
    PoolShape(
        name="h100",
        accelerator="H100-80G",
        accelerator_memory_bytes=1,
        nodes=0,
        accelerators_per_node=8,
        host_memory_bytes=1,
    ),
)
POOLS = (RayPool(name="h100", labels={"skerry.io/pool": "h100"}, resource="GPU"),)


def _node(
    node_id: str = "a1", name: str | None = "rack-7", gpus: float = 8.0, **values: object
) -> RayNode:
    labels = {"skerry.io/pool": "h100"} | ({"skerry.io/node": name} if name else {})
    return RayNode(
        node_id=node_id,
        alive=bool(values.get("alive", True)),
        address="10.0.0.7",
        hostname=str(values.get("hostname", "Host_7.example")),
        labels=labels,
        resources={"GPU": gpus},
    )


def _placed(*nodes: RayNode, now: float = 0.0) -> dict[str, KnownNode]:
    return {node.name: node for node in place_nodes(POOLS, SHAPES, nodes, now)}


def test_a_node_is_named_by_its_label_or_else_by_its_host() -> None:
    assert list(_placed(_node())) == ["rack-7"]
    assert list(_placed(_node(name=None))) == ["host-7-example"]
    assert list(_placed(_node(name=None, hostname="7up"))) == ["n-7up"]


def test_nodes_without_the_labels_of_a_pool_are_none_of_ours() -> None:
    stranger = RayNode(node_id="b", alive=True, address="10.0.0.8", hostname="x")
    assert _placed(stranger) == {}
    assert _placed(_node(alive=False)) == {}


def test_a_node_with_too_few_accelerators_or_a_taken_name_is_unfit_and_says_why() -> None:
    assert "has 7 GPU" in _placed(_node(gpus=7))["rack-7"].fault
    both = _placed(_node("a1"), _node("b2"))
    assert both["rack-7"].fault == ""
    assert "another node is named rack-7" in both["rack-7-xb2"].fault
    assert "label skerry.io/node" in _placed(_node(name="Rack 7"))["n-xa1"].fault


def test_a_raylet_that_is_back_before_ray_has_dropped_the_old_one_is_a_stray_for_that_long() -> (
    None
):
    both = _placed(_node("a1"), _node("b2"))
    assert [node.stray for node in both.values()] == [False, True]
    merged = merge_nodes(both, place_nodes(POOLS, SHAPES, (_node("b2"),), 1.0), frozenset(), 1.0)
    assert {name: node.node_id for name, node in merged.items()} == {"rack-7": "b2"}


def test_a_machines_next_raylet_has_its_name_once_ray_tells_the_end_of_the_one_before() -> None:
    both = (_node("a-new"), _node("b-old"))
    placed = place_nodes(POOLS, SHAPES, both, 1.0, {"b-old"})
    assert {node.node_id: node.stray for node in placed} == {"a-new": True, "b-old": False}
    later = place_nodes(POOLS, SHAPES, both[:1], 2.0, {"b-old"})
    assert [(node.name, node.node_id, node.stray) for node in later] == [("rack-7", "a-new", False)]


def test_a_node_that_is_away_takes_nothing_at_once_and_is_told_unfit_after_a_while() -> None:
    known = _placed(_node(), now=100.0)
    away = merge_nodes(known, (), frozenset(), now=101.0)
    soon = supply_of(SHAPES, away, {}, "", now=101.0)
    assert (soon.nodes[0].ready, soon.shapes[0].nodes) == (True, 1)
    assert soon.closed == {"rack-7"}
    later = supply_of(SHAPES, away, {}, "", now=101.0 + GRACE_SECONDS)
    assert (later.nodes[0].ready, later.shapes[0].nodes) == (False, 0)
    assert "Ray does not list it" in later.nodes[0].message


def test_a_node_is_forgotten_in_the_end_but_not_while_it_holds_replicas() -> None:
    known = _placed(_node(), now=0.0)
    assert merge_nodes(known, (), frozenset(), now=FORGET_SECONDS + 1) == {}
    assert "rack-7" in merge_nodes(known, (), frozenset({"rack-7"}), now=FORGET_SECONDS + 1)


def test_while_ray_is_gone_its_nodes_stand_as_last_seen_and_nothing_starts() -> None:
    known = merge_nodes(_placed(_node(), now=0.0), (), frozenset(), now=1.0)
    supply = supply_of(SHAPES, known, {}, "Ray's head does not answer", now=10_000.0)
    assert (supply.nodes[0].ready, supply.shapes[0].nodes) == (True, 1)
    (pool,) = seen_pools("here", supply)
    assert pool.stopped == "Ray's head does not answer"
    assert pool.unfit == {"rack-7"}


def test_a_machine_that_comes_back_under_another_address_is_not_taken_for_the_same_boot() -> None:
    before = {"rack-7": KnownNode(name="rack-7", pool="h100", address="10.9.9.9", boot_id="old")}
    placed = place_nodes(POOLS, SHAPES, (_node(),), 1.0)
    assert merge_nodes(before, placed, frozenset(), 1.0)["rack-7"].boot_id == ""
