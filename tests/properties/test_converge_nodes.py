"""Safety and liveness of nodes, cordons and draining, for any plane and any crashes."""

import dataclasses
from collections import Counter
from collections.abc import Iterator

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import Version
from skerry.fleet.node import NodeCordon
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from tests.properties.examples import examples
from tests.properties.test_converge_plan import NOW, POOL, applied, later
from workload_plane.converge.actions import StartReplica
from workload_plane.converge.condition import DRAIN_SECONDS_MAX
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica

PER_NODE = 4
SIZES = {"a": 1, "b": 3, "c": 6}  # c takes two whole nodes
NODES_TAKEN = {"a": 1, "b": 1, "c": 2}
ROUNDS_MAX = 50


def a_pool(nodes: int) -> SeenPool:
    return SeenPool(
        name=POOL,
        accelerator="cpu",
        accelerators=nodes * PER_NODE,
        nodes=tuple(f"n{number}" for number in range(nodes)),
        accelerators_per_node=PER_NODE,
    )


def loads(observed: Observed) -> Counter[str]:
    """Return how many accelerators the replicas hold that tell their nodes, by node."""
    held: Counter[str] = Counter()
    for replica in observed.replicas:
        if replica.state is not ReplicaState.FAILED:
            for node in replica.nodes:
                held[node] += replica.accelerators if len(replica.nodes) == 1 else PER_NODE
    return held


def held_in_all(observed: Observed) -> int:
    """Return how many accelerators are held in the pool, with those that tell no node."""
    untold = sum(
        replica.accelerators
        for replica in observed.replicas
        if replica.state is not ReplicaState.FAILED and not replica.nodes
    )
    return untold + sum(loads(observed).values())


@st.composite
def planes(draw: st.DrawFn, *, told: bool = False, revision_max: int = 2) -> Observed:
    """Draw a plane on whose nodes everything has room; `told`: every replica says where."""
    seen = Observed(pools=(a_pool(draw(st.integers(1, 5))),))
    pool = seen.pools[0]
    for index in range(draw(st.integers(0, 7))):
        name = draw(st.sampled_from(sorted(SIZES)))
        held = loads(seen)
        if SIZES[name] > PER_NODE:
            free = [node for node in pool.nodes if not held[node]]
            nodes = tuple(draw(st.permutations(free))[:2])
        else:
            free = [node for node in pool.nodes if held[node] + SIZES[name] <= PER_NODE]
            nodes = (draw(st.sampled_from(free)),) if free else ()
        if len(nodes) < NODES_TAKEN[name]:
            continue
        if not told and draw(st.integers(0, 3)) == 0:
            nodes = ()
        state = draw(st.sampled_from((ReplicaState.READY, ReplicaState.READY, *ReplicaState)))
        replica = SeenReplica(
            name=f"replica-{index}",
            deployment=name,
            revision=draw(st.integers(1, revision_max)),
            pool=POOL,
            state=state,
            accelerators=SIZES[name],
            nodes=nodes,
            alive=state is not ReplicaState.FAILED,
            routable=state is ReplicaState.READY,
            started_at=NOW - draw(st.integers(0, 100)),
            ready_at=NOW - 1 if state is ReplicaState.READY else None,
            draining_since=NOW - 1 if state is ReplicaState.DRAINING else None,
        )
        more = dataclasses.replace(seen, replicas=(*seen.replicas, replica))
        if held_in_all(more) <= pool.accelerators:
            seen = more
    return seen


@st.composite
def desires(draw: st.DrawFn, *, revision_max: int = 2) -> DesiredState:
    """Draw what is wanted of every deployment, with cordons of nodes that may not exist."""
    assignments = []
    for name in sorted(SIZES):
        target = draw(st.integers(0, 3))
        envelope = Envelope(deployment=name, pool=POOL, floor=0, target=target, ceiling=target)
        revision = Revision(
            number=draw(st.integers(1, revision_max)),
            base_model=BaseModel(uri="simulated://x", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu", accelerators=SIZES[name]),),
        )
        assignments.append(
            Assignment(deployment=Deployment(name=name, revision=revision), envelopes=(envelope,))
        )
    cordoned = draw(st.sets(st.integers(0, 6), max_size=4))
    return DesiredState(
        plane="here",
        version=Version(epoch=1, generation=1),
        assignments=tuple(assignments),
        node_cordons=tuple(
            NodeCordon(node=f"n{number}", draining=draw(st.booleans()))
            for number in sorted(cordoned)
        ),
    )


def turns(desired: DesiredState, observed: Observed) -> Iterator[Observed]:
    """Yield the plane after each turn, with all that takes time done between two."""
    now = NOW
    for _ in range(ROUNDS_MAX):
        actions = plan(desired, observed, now)
        observed = applied(observed, actions, now, SIZES)
        yield observed
        now += DRAIN_SECONDS_MAX + 1
        observed = later(observed, now)
        yield observed


@given(desired=desires(), observed=planes())
def test_a_plan_applied_leaves_nothing_to_do_at_the_same_moment(
    desired: DesiredState, observed: Observed
) -> None:
    for _ in range(4):
        actions = plan(desired, observed, NOW)
        if not actions:
            return
        observed = applied(observed, actions, NOW, SIZES)
    assert plan(desired, observed, NOW) == ()


@given(desired=desires(), observed=planes(), data=st.data())
def test_no_accelerator_of_a_node_is_given_twice_whatever_crashes(
    desired: DesiredState, observed: Observed, data: st.DataObject
) -> None:
    now = NOW
    for _ in range(8):
        observed = applied(observed, plan(desired, observed, now), now, SIZES)
        assert all(load <= PER_NODE for load in loads(observed).values())
        assert held_in_all(observed) <= observed.pools[0].accelerators
        now += data.draw(st.sampled_from((1.0, DRAIN_SECONDS_MAX + 1)))
        observed = later(observed, now)
        crashed = data.draw(st.sets(st.sampled_from([r.name for r in observed.replicas] or [""])))
        observed = dataclasses.replace(
            observed,
            replicas=tuple(
                dataclasses.replace(replica, alive=replica.alive and replica.name not in crashed)
                for replica in observed.replicas
            ),
        )


@given(desired=desires(), observed=planes())
def test_nothing_starts_on_a_cordoned_node_and_what_starts_has_its_nodes(
    desired: DesiredState, observed: Observed
) -> None:
    closed = {cordon.node for cordon in desired.node_cordons}
    for action in plan(desired, observed, NOW):
        if isinstance(action, StartReplica):
            assert closed.isdisjoint(action.nodes)
            assert len(set(action.nodes)) == NODES_TAKEN[action.deployment]


@given(desired=desires(revision_max=1), observed=planes(revision_max=1))
def test_draining_never_reduces_what_serves(desired: DesiredState, observed: Observed) -> None:
    def serving(name: str, seen: Observed) -> int:
        return sum(r.deployment == name and r.is_serving and r.alive for r in seen.replicas)

    targets = {a.deployment.name: a.envelopes[0].target for a in desired.assignments}
    least = {name: min(target, serving(name, observed)) for name, target in targets.items()}
    for seen in turns(desired, observed):
        for name in targets:
            assert serving(name, seen) >= least[name]


@given(desired=desires(), observed=planes())
def test_a_plane_with_cordoned_nodes_comes_to_rest(
    desired: DesiredState, observed: Observed
) -> None:
    *_, last = turns(desired, observed)
    now = NOW + ROUNDS_MAX * (DRAIN_SECONDS_MAX + 1)
    assert plan(desired, last, now) == ()
    targets = {a.deployment.name: a.envelopes[0].target for a in desired.assignments}
    for name, target in targets.items():
        assert sum(r.deployment == name for r in last.replicas) <= target + 1


@settings(max_examples=examples(60))
@given(desired=desires(), observed=planes(told=True))
def test_a_draining_node_becomes_empty_when_there_is_room_elsewhere(
    desired: DesiredState, observed: Observed
) -> None:
    wanted = sum(a.envelopes[0].target + 1 for a in desired.assignments)
    room = 7 + 2 * (wanted + len(observed.replicas))  # nodes from n7 on are never cordoned
    observed = dataclasses.replace(observed, pools=(a_pool(room),))
    *_, last = turns(desired, observed)
    draining = {cordon.node for cordon in desired.node_cordons if cordon.draining}
    assert not any(draining.intersection(replica.nodes) for replica in last.replicas)
    for assignment in desired.assignments:
        mine = [r for r in last.replicas if r.deployment == assignment.deployment.name]
        assert len(mine) == assignment.envelopes[0].target
        assert {r.revision for r in mine} <= {assignment.deployment.revision.number}
