"""Where replicas go, and what cordons and draining of nodes do, one promise a test."""

import dataclasses

from skerry.fleet.deployment import ResourceShape
from skerry.fleet.desired import DesiredState
from skerry.fleet.node import NodeCordon
from skerry.fleet.observation import ReplicaState
from skerry.fleet.pool import PoolShape
from tests.unit.workload_plane.converge.test_plan import (
    NOW,
    POOL,
    a_deployment,
    a_replica,
    kinds,
    start,
    wants,
)
from workload_plane.converge.actions import DrainReplica, StartReplica, StopReplica
from workload_plane.converge.discover import seen_pools
from workload_plane.converge.nodes import PoolRoom, devices_of, nodes_held
from workload_plane.converge.plan import Wait, decide, plan
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica
from workload_plane.replicas.supply import Supply


def a_pool(*nodes: str, per_node: int = 4, memory: int = 100) -> SeenPool:
    return SeenPool(
        name=POOL,
        accelerator="cpu",
        accelerators=per_node * len(nodes),
        nodes=nodes,
        accelerators_per_node=per_node,
        host_memory_bytes=memory,
    )


def sees(*replicas: SeenReplica, pool: SeenPool | None = None) -> Observed:
    return Observed(replicas=replicas, pools=(pool or a_pool("n1", "n2", "n3"),))


def on(node: str, name: str = "demo-r1-a", **values: object) -> SeenReplica:
    return a_replica(name=name, nodes=(node,), **values)


def cordons(desired: DesiredState, *cordoned: str, draining: tuple[str, ...] = ()) -> DesiredState:
    return dataclasses.replace(
        desired,
        node_cordons=(
            *(NodeCordon(node=node) for node in cordoned),
            *(NodeCordon(node=node, draining=True) for node in draining),
        ),
    )


def shape(accelerators: int = 1, memory: int = 0) -> ResourceShape:
    return ResourceShape(accelerator="cpu", accelerators=accelerators, host_memory_bytes=memory)


def test_a_replica_goes_to_the_fullest_node_with_room() -> None:
    seen = (
        on("n1", accelerators=1, deployment="x"),
        on("n2", "b", accelerators=2, deployment="x"),
        on("n3", "c", accelerators=4, deployment="x"),
    )
    assert plan(wants(1), sees(*seen), NOW) == (start(nodes=("n2",)),)
    two = plan(wants(2, a_deployment(accelerators=2)), sees(*seen), NOW)
    assert [action.nodes for action in two if isinstance(action, StartReplica)] == [
        ("n2",),
        ("n1",),
    ]


def test_a_replica_larger_than_a_node_takes_whole_empty_ones() -> None:
    desired = wants(2, a_deployment(accelerators=6))
    seen = sees(on("n2", deployment="x"), pool=a_pool("n1", "n2", "n3", "n4"))
    assert plan(desired, seen, NOW) == (start(nodes=("n1", "n3")),)
    # A part of a whole node is nobody's: the two that are not used stay free.
    large = a_replica(accelerators=6, nodes=("n1", "n3"))
    room = PoolRoom(a_pool("n1", "n3"), (large,))
    assert room.take(shape()) is None


def test_host_memory_is_a_limit_as_accelerators_are() -> None:
    room = PoolRoom(a_pool("n1", "n2"), (on("n1", host_memory_bytes=60),))
    assert room.take(shape(memory=41)) == ("n2",)
    assert room.take(shape(memory=40)) == ("n1",)
    assert room.take(shape(memory=60)) is None
    assert "host memory" in room.why_full(shape(memory=60))
    assert PoolRoom(a_pool("n1", "n2"), ()).take(shape(8, memory=201)) is None


def test_what_lacks_replicas_comes_before_a_move_and_the_large_before_the_small() -> None:
    small, large = a_deployment("a"), a_deployment("b", accelerators=4)
    desired = wants(4, small)
    desired = dataclasses.replace(
        desired, assignments=(*desired.assignments, *wants(1, large).assignments)
    )
    starts = plan(desired, sees(pool=a_pool("n1", "n2")), NOW)
    assert [(s.deployment, s.nodes) for s in starts if isinstance(s, StartReplica)] == [
        ("b", ("n1",)),
        *[("a", ("n2",))] * 4,
    ]
    moving = on("n1", deployment="b", accelerators=4)
    desired = cordons(
        dataclasses.replace(
            desired, assignments=(*wants(1, small).assignments, *wants(1, large).assignments)
        ),
        draining=("n1",),
    )
    actions = plan(desired, sees(moving, pool=a_pool("n1", "n2")), NOW)
    assert actions == (StartReplica(deployment="a", revision=1, pool=POOL, nodes=("n2",)),)


def test_a_replica_without_nodes_counts_where_it_fits_first() -> None:
    old = a_replica(accelerators=3)
    room = PoolRoom(a_pool("n1", "n2"), (old,))
    assert room.take(shape(2)) == ("n2",)
    assert room.take(shape(3)) is None
    # It may be anywhere: an open node is not taken for free because of a cordoned one.
    assert PoolRoom(a_pool("n1", "n2"), (old,), closed=("n1",)).take(shape(2)) is None
    # One that fits nowhere, and one larger than a node, still hold all that they hold.
    halves = (on("n1", accelerators=2), on("n2", "b", accelerators=2))
    room = PoolRoom(a_pool("n1", "n2"), (*halves, a_replica("c", accelerators=3)))
    assert room.take(shape(2)) is None
    assert room.take(shape(1)) == ("n2",)
    assert room.take(shape(1)) is None
    assert PoolRoom(a_pool("n1", "n2"), (a_replica(accelerators=6),)).take(shape()) is None


def test_nodes_that_the_pool_no_longer_has_are_as_good_as_none() -> None:
    renamed = on("gone", accelerators=3)
    assert PoolRoom(a_pool("n1"), (renamed,)).take(shape(2)) is None


def test_a_pool_without_listed_nodes_is_bound_as_a_whole() -> None:
    pool = SeenPool(name=POOL, accelerator="cpu", accelerators=8, accelerators_per_node=4)
    desired = cordons(wants(3, a_deployment(accelerators=3)), "n1", draining=("n2",))
    assert plan(desired, sees(pool=pool), NOW) == (start(), start())


def test_a_cordoned_node_takes_nothing_new_and_keeps_what_it_has() -> None:
    seen = sees(on("n1"), pool=a_pool("n1", "n2"))
    assert plan(cordons(wants(1), "n1"), seen, NOW) == ()
    assert plan(cordons(wants(2), "n1"), seen, NOW) == (start(nodes=("n2",)),)
    full = decide(cordons(wants(2), "n1", "n2"), seen, NOW)
    assert full.actions == ()
    assert [wait.draining for wait in full.waits] == [()]
    assert "2 of its 2 nodes are cordoned" in full.waits[0].reason


def test_cordons_of_nodes_that_the_plane_does_not_have_are_ignored() -> None:
    desired = cordons(wants(1), "nowhere", draining=("elsewhere",))
    assert plan(desired, sees(on("n1")), NOW) == ()


def test_a_replica_on_a_draining_node_goes_once_another_serves_elsewhere() -> None:
    desired = cordons(wants(1), draining=("n1",))
    leaving = on("n1")
    assert plan(desired, sees(leaving), NOW) == (start(nodes=("n2",)),)
    coming = on("n2", "demo-r1-b", state=ReplicaState.STARTING, routable=False, ready_at=None)
    assert plan(desired, sees(leaving, coming), NOW) == ()
    unrouted = on("n2", "demo-r1-b", routable=False)
    assert plan(desired, sees(leaving, unrouted), NOW) == ()
    (drain,) = plan(desired, sees(leaving, on("n2", "demo-r1-b")), NOW)
    assert drain == DrainReplica(name="demo-r1-a", reason="node n1 is to be emptied")


def test_a_draining_node_is_emptied_one_replica_of_a_deployment_at_a_time() -> None:
    desired = cordons(wants(3), draining=("n1",))
    leaving = tuple(on("n1", f"demo-r1-{letter}") for letter in "abc")
    assert plan(desired, sees(*leaving), NOW) == (start(nodes=("n2",)),)
    moved = on("n2", "demo-r1-d")
    # The next one starts while the first lets go of its requests.
    assert kinds(plan(desired, sees(*leaving, moved), NOW)) == [DrainReplica, StartReplica]


def test_a_shrinking_target_takes_the_replicas_of_draining_nodes_first() -> None:
    desired = cordons(wants(1), draining=("n1",))
    oldest = on("n1", started_at=NOW - 1_000)
    young = on("n2", "demo-r1-b", started_at=NOW - 1)
    (drain,) = plan(desired, sees(oldest, young), NOW)
    assert drain == DrainReplica(name="demo-r1-a", reason="node n1 is to be emptied")
    # Of two that are old alike, too.
    desired = cordons(wants(1, a_deployment(revision=2)), draining=("n1",))
    drains = [a for a in plan(desired, sees(oldest, young), NOW) if isinstance(a, DrainReplica)]
    assert [action.name for action in drains] == ["demo-r1-a"]


def test_what_serves_on_a_draining_node_outlasts_what_does_not_serve_elsewhere() -> None:
    desired = cordons(wants(1, a_deployment(revision=2)), draining=("n1",))
    idle = on("n2", "demo-r1-b", routable=False, started_at=NOW - 1_000)
    drains = [a for a in plan(desired, sees(on("n1"), idle), NOW) if isinstance(a, DrainReplica)]
    assert [action.name for action in drains] == ["demo-r1-b"]


def test_a_replica_that_is_partly_on_a_draining_node_is_not_ended_to_make_its_own_room() -> None:
    desired = cordons(wants(1, a_deployment(accelerators=6)), draining=("n1",))
    large = a_replica(accelerators=6, nodes=("n1", "n2"))
    decision = decide(desired, sees(large), NOW)
    assert decision.actions == ()
    assert [wait.draining for wait in decision.waits] == [("n1",)]


def test_without_room_elsewhere_a_draining_node_stays_in_use_and_says_why() -> None:
    desired = cordons(wants(2), "n3", draining=("n1",))
    full = on("n2", "x", deployment="x", accelerators=4)
    leaving = (on("n1"), on("n1", "demo-r1-b"))
    decision = decide(desired, sees(*leaving, full), NOW)
    assert decision.actions == ()
    assert decision.waits == (
        Wait(
            deployment="demo",
            pool=POOL,
            reason=(
                f"pool {POOL} has no node with room for 1 accelerator, 0 free in all; 2 of"
                " its 3 nodes are cordoned: what serves on node n1 stays"
            ),
            draining=("n1",),
        ),
    )
    # One whose record cannot be read may hold any accelerators: that is a reason, too.
    unknown = on("n2", "y", deployment="y", known=False, state=ReplicaState.STARTING)
    (wait,) = decide(desired, sees(*leaving, unknown), NOW).waits
    assert "is not known" in wait.reason
    assert wait.draining == ("n1",)


def test_a_dead_replica_of_a_draining_node_comes_back_elsewhere() -> None:
    desired = cordons(wants(1), draining=("n1",))
    failed = on("n1", state=ReplicaState.FAILED, alive=False)
    again = start(restarts=1, failures=1, replaces="demo-r1-a", nodes=("n2",))
    assert plan(desired, sees(failed), NOW) == (again,)


def test_a_starting_replica_of_a_draining_node_is_stopped_once_another_serves() -> None:
    desired = cordons(wants(1), draining=("n1",))
    coming = on("n1", state=ReplicaState.STARTING, routable=False, ready_at=None)
    assert plan(desired, sees(coming), NOW) == (start(nodes=("n2",)),)
    assert kinds(plan(desired, sees(coming, on("n2", "demo-r1-b")), NOW)) == [StopReplica]


def test_what_an_uncordoned_node_holds_is_wanted_again() -> None:
    seen = sees(on("n1"), on("n2", "demo-r1-b"))
    assert plan(wants(2), seen, NOW) == ()


def test_room_for_a_new_revision_is_made_where_it_helps_and_nowhere_else() -> None:
    pool = a_pool("n1", "n2", per_node=2)
    desired = wants(2, a_deployment(revision=2))
    olds = (on("n1", accelerators=2), on("n2", "demo-r1-b", accelerators=2, started_at=NOW))
    (drain,) = plan(desired, sees(*olds, pool=pool), NOW)
    assert isinstance(drain, DrainReplica)
    assert drain.name == "demo-r1-b"
    (drain,) = plan(cordons(desired, "n2"), sees(*olds, pool=pool), NOW)
    assert isinstance(drain, DrainReplica)
    assert drain.name == "demo-r1-a"
    blocked = decide(cordons(desired, "n1", draining=("n2",)), sees(*olds, pool=pool), NOW)
    assert blocked.actions == ()
    assert blocked.waits


def test_a_node_is_cleared_where_the_fewest_have_to_go() -> None:
    pool = a_pool("n1", "n2")
    olds = (
        on("n1", "a", accelerators=2),
        on("n2", "b", accelerators=3),
        on("n1", "c", accelerators=2),
    )
    goes = PoolRoom(pool, olds).in_the_way(shape(4), olds)
    assert goes is not None
    assert goes.name == "b"
    assert PoolRoom(pool, olds).in_the_way(shape(4), olds[:1]) is None
    goes = PoolRoom(pool, olds).in_the_way(shape(8), olds)
    assert goes is not None
    assert goes.name == "b"
    assert PoolRoom(pool, olds).in_the_way(shape(8), olds[1:]) is None
    assert PoolRoom(pool, olds).in_the_way(shape(8, memory=999), olds) is None


def test_devices_are_counted_node_after_node() -> None:
    pool = a_pool("n1", "n2", "n3")
    assert devices_of(pool, ("n3", "n1")) == (0, 1, 2, 3, 8, 9, 10, 11)
    unlisted = SeenPool(name=POOL, accelerator="cpu", accelerators=3)
    assert devices_of(unlisted, ()) == (0, 1, 2)
    later = dataclasses.replace(pool, first_device=4)
    assert devices_of(later, ("n1", "n2")) == (4, 5, 6, 7, 8, 9, 10, 11)
    assert devices_of(dataclasses.replace(unlisted, first_device=4), ()) == (4, 5, 6)


def test_devices_are_numbered_through_all_accelerator_pools_of_a_plane() -> None:
    shapes = [
        PoolShape(
            name=name,
            accelerator=accelerator,
            accelerator_memory_bytes=0,
            nodes=nodes,
            accelerators_per_node=4,
            host_memory_bytes=0,
        )
        for name, accelerator, nodes in (
            ("h100", "H100-80G", 1),
            ("cpu", "cpu", 1),
            ("h100b", "H100-80G", 2),
            ("l4", "L4", 1),
        )
    ]
    pools = seen_pools("here", Supply(shapes=tuple(shapes)))
    assert [devices_of(pool, ())[0] for pool in pools if pool.accelerator != "cpu"] == [0, 4, 12]
    assert pools[1].first_device == 0
    found = seen_pools("here", Supply(shapes=tuple(shapes), discovered=True))
    assert {pool.first_device for pool in found} == {0}  # Ray's nodes count for themselves


def test_where_a_replica_is_its_devices_tell_before_its_record() -> None:
    pool = a_pool("n1", "n2", "n3")
    assert nodes_held(pool, (), (3, 4)) == ("n1", "n2")  # of a release before nodes
    assert nodes_held(pool, ("n2",), (0,)) == ("n1",)  # their order was changed
    assert nodes_held(pool, ("renamed",), (8,)) == ("n3",)
    assert nodes_held(pool, ("n2",), ()) == ("n2",)
    assert nodes_held(pool, ("n2", "gone"), ()) == ()
    assert nodes_held(pool, (), ()) == ()
    assert nodes_held(pool, (), (99,)) == ()
    assert nodes_held(a_pool("only"), (), ()) == ("only",)
    later = dataclasses.replace(pool, first_device=8)
    assert nodes_held(later, (), (12, 13)) == ("n2",)
    assert nodes_held(later, ("n2",), (0, 1)) == ("n2",)  # of a release that began each pool at 0
    unlisted = SeenPool(name=POOL, accelerator="cpu", accelerators=3)
    assert nodes_held(unlisted, ("n1",), (1,)) == ()
