"""Safety and liveness of convergence, for any plane and any history of failures."""

import dataclasses
from collections.abc import Mapping
from itertools import count
from types import MappingProxyType

from hypothesis import given, settings
from hypothesis import strategies as st

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import Assignment, Candidate, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, ReplicaState
from skerry.fleet.placement import Envelope
from tests.properties.examples import examples
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    ReviveReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.condition import DRAIN_SECONDS_MAX
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica, after_failure

NOW = 10_000.0
POOL = "here--cpu"
NAMES = ("a", "b", "c")
ROUNDS_MAX = 60


@st.composite
def replicas(draw: st.DrawFn, index: int) -> SeenReplica:
    state = draw(st.sampled_from(ReplicaState))
    ready = state in (ReplicaState.READY, ReplicaState.DRAINING)
    return SeenReplica(
        name=f"replica-{index}",
        deployment=draw(st.sampled_from((*NAMES, "stranger"))),
        revision=draw(st.integers(1, 3)),
        pool=POOL,
        state=state,
        alive=state is not ReplicaState.FAILED and draw(st.booleans()),
        busy=draw(st.integers(0, 9)) == 0,
        routable=ready and draw(st.booleans()),
        started_at=NOW - draw(st.integers(0, 2_000)),
        ready_at=NOW - draw(st.integers(0, 100)) if ready else None,
        unhealthy_since=NOW - draw(st.integers(0, 30)) if ready and draw(st.booleans()) else None,
        draining_since=NOW - 1 if state is ReplicaState.DRAINING else None,
        in_flight=draw(st.sampled_from((None, 0, 3))),
    )


@st.composite
def planes(draw: st.DrawFn) -> Observed:
    count = draw(st.integers(0, 8))
    pool = SeenPool(name=POOL, accelerator="cpu", accelerators=draw(st.integers(0, 12)))
    return Observed(replicas=tuple(draw(replicas(index)) for index in range(count)), pools=(pool,))


@st.composite
def desires(draw: st.DrawFn) -> DesiredState:
    assignments = []
    for name in draw(st.sets(st.sampled_from(NAMES))):
        target = draw(st.integers(0, 4))
        envelope = Envelope(deployment=name, pool=POOL, floor=0, target=target, ceiling=target)
        number = draw(st.integers(1, 3))
        revision = Revision(
            number=number,
            base_model=BaseModel(uri="simulated://x", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu"),),
        )
        tried = draw(st.sampled_from((0, 0, 1, 2)))
        candidate = Candidate(
            revision=dataclasses.replace(revision, number=number % 3 + 1), replicas=((POOL, tried),)
        )
        assignments.append(
            Assignment(
                deployment=Deployment(name=name, revision=revision),
                envelopes=(envelope,),
                tombstone=draw(st.integers(0, 9)) == 0,
                candidate=candidate if tried else None,
            )
        )
    return DesiredState(
        plane="here",
        version=Version(epoch=1, generation=1),
        assignments=tuple(sorted(assignments, key=lambda a: a.deployment.name)),
    )


def applied(
    observed: Observed,
    actions: tuple[Action, ...],
    now: float,
    sizes: Mapping[str, int] = MappingProxyType({}),
) -> Observed:
    """Return the plane after the actions, each done at once and in full.

    `sizes` are the accelerators of one replica by deployment, where it is not one.
    """
    seen = {replica.name: replica for replica in observed.replicas}
    backoffs = {(b.deployment, b.revision): b for b in observed.backoffs}
    for action in actions:
        match action:
            case StartReplica():
                if action.replaces is not None:
                    del seen[action.replaces]
                # A plane never gives a name twice, nor does this: the second would be the first.
                name = next(n for i in count() if (n := f"new-{now}-{i}") not in seen)
                seen[name] = SeenReplica(
                    name=name,
                    deployment=action.deployment,
                    revision=action.revision,
                    pool=action.pool,
                    state=ReplicaState.STARTING,
                    accelerators=sizes.get(action.deployment, 1),
                    nodes=action.nodes,
                    started_at=now,
                    restarts=action.restarts,
                    failures=action.failures,
                )
            case DrainReplica():
                seen[action.name] = dataclasses.replace(
                    seen[action.name], state=ReplicaState.DRAINING, draining_since=now
                )
            case ReviveReplica():
                seen[action.name] = dataclasses.replace(
                    seen[action.name], state=ReplicaState.READY, draining_since=None
                )
            case FenceReplica():
                replica = seen[action.name]
                before = observed.backoff(replica.deployment, replica.revision)
                key = (replica.deployment, replica.revision)
                backoffs[key] = after_failure(backoffs.get(key, before), None, now)
                seen[action.name] = dataclasses.replace(
                    replica, state=ReplicaState.FAILED, alive=False
                )
            case StopReplica() | ForgetReplica():
                del seen[action.name]
    return Observed(
        replicas=tuple(seen.values()), pools=observed.pools, backoffs=tuple(backoffs.values())
    )


def later(observed: Observed, now: float) -> Observed:
    """Return the plane after quiet time: what lives is ready, what hung answers again."""
    return dataclasses.replace(
        observed,
        replicas=tuple(
            dataclasses.replace(
                replica,
                busy=False,
                state=ReplicaState.READY
                if replica.state is ReplicaState.STARTING and replica.alive
                else replica.state,
                ready_at=replica.ready_at or now,
                routable=True,
                unhealthy_since=None,
                in_flight=0,
            )
            for replica in observed.replicas
        ),
    )


@given(observed=planes())
def test_nothing_is_done_while_nothing_is_known_to_be_desired(observed: Observed) -> None:
    assert plan(UNKNOWN, observed, NOW) == ()


@given(desired=desires(), observed=planes())
def test_a_plan_applied_leaves_nothing_to_do_at_the_same_moment(
    desired: DesiredState, observed: Observed
) -> None:
    for _ in range(4):  # a fence may free the way for a start, a start for nothing more
        actions = plan(desired, observed, NOW)
        if not actions:
            return
        observed = applied(observed, actions, NOW)
    assert plan(desired, observed, NOW) == ()


@given(desired=desires(), observed=planes())
def test_starts_never_take_more_accelerators_than_are_free(
    desired: DesiredState, observed: Observed
) -> None:
    used = sum(replica.state is not ReplicaState.FAILED for replica in observed.replicas)
    starts = sum(isinstance(a, StartReplica) for a in plan(desired, observed, NOW))
    assert starts <= max(0, observed.pools[0].accelerators - used)


@given(desired=desires(), observed=planes())
def test_nobody_that_serves_is_ended_without_a_drain_and_no_busy_one_is_touched(
    desired: DesiredState, observed: Observed
) -> None:
    seen = {replica.name: replica for replica in observed.replicas}
    for action in plan(desired, observed, NOW):
        if isinstance(action, StartReplica):
            continue
        replica = seen[action.name]
        assert not replica.busy
        if isinstance(action, StopReplica):
            assert not (replica.is_serving and replica.alive)
        if isinstance(action, FenceReplica):
            assert not (replica.is_serving and replica.alive)


@given(desired=desires(), observed=planes())
def test_what_is_not_named_and_lives_is_kept(desired: DesiredState, observed: Observed) -> None:
    named = {assignment.deployment.name for assignment in desired.assignments}
    stopped = {a.name for a in plan(desired, observed, NOW) if isinstance(a, DrainReplica)}
    for replica in observed.replicas:
        if replica.deployment not in named:
            assert replica.name not in stopped


@given(desired=desires(), observed=planes())
def test_a_rollout_never_takes_more_serving_replicas_than_the_target_can_spare(
    desired: DesiredState, observed: Observed
) -> None:
    drained = {a.name: a for a in plan(desired, observed, NOW) if isinstance(a, DrainReplica)}
    for assignment in desired.assignments:
        if assignment.tombstone:
            continue
        mine = [
            r
            for r in observed.replicas
            if r.deployment == assignment.deployment.name
            and r.is_serving
            and r.alive
            and not r.busy
        ]
        left = [r for r in mine if r.name not in drained]
        for_room = sum("no place" in drained[r.name].reason for r in mine if r.name in drained)
        target = assignment.envelopes[0].target
        assert len(left) + for_room >= min(len(mine), target)


@settings(max_examples=examples(60))
@given(desired=desires(), observed=planes())
def test_with_the_failures_over_the_plane_becomes_as_desired_and_rests(
    desired: DesiredState, observed: Observed
) -> None:
    now = NOW
    strangers = sum(
        r.deployment not in {a.deployment.name for a in desired.assignments} and r.alive
        for r in observed.replicas
    )
    wanted = sum(a.envelopes[0].target for a in desired.assignments if not a.tombstone)
    room = max(20, strangers + wanted)
    pool = dataclasses.replace(observed.pools[0], accelerators=room)
    observed = dataclasses.replace(observed, pools=(pool,))
    for _ in range(ROUNDS_MAX):
        actions = plan(desired, observed, now)
        observed = applied(observed, actions, now)
        now += DRAIN_SECONDS_MAX + 1
        observed = later(observed, now)
    assert plan(desired, observed, now) == ()
    for assignment in desired.assignments:
        mine = [r for r in observed.replicas if r.deployment == assignment.deployment.name]
        target = 0 if assignment.tombstone else assignment.envelopes[0].target
        assert len(mine) == target
        revisions = [r.revision for r in mine]
        own, candidate = assignment.deployment.revision.number, assignment.candidate
        tried = min(candidate.replicas[0][1], target) if candidate is not None else 0
        assert revisions.count(own) == target - tried
        if candidate is not None:
            assert revisions.count(candidate.revision.number) == tried
