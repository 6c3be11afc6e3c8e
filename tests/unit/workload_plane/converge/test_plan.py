"""What the plan does in each situation, one promise a test; time is a number."""

import dataclasses

from skerry.fleet.deployment import BaseModel, Deployment, ResourceShape, Revision
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.generation import Version
from skerry.fleet.observation import UNKNOWN, ReplicaState
from skerry.fleet.placement import Envelope
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.condition import (
    DRAIN_SECONDS_MAX,
    DRAIN_SECONDS_MIN,
    HUNG_SECONDS_MAX,
    START_SECONDS_MAX,
)
from workload_plane.converge.plan import plan
from workload_plane.converge.seen import Observed, SeenPool, SeenReplica, StartBackoff
from workload_plane.engines import sglang, trtllm, vllm

NOW = 1_000.0
POOL = "here--cpu"


def a_deployment(name: str = "demo", revision: int = 1, accelerators: int = 1) -> Deployment:
    return Deployment(
        name=name,
        revision=Revision(
            number=revision,
            base_model=BaseModel(uri="simulated://tiny", served_name=name),
            engine=EngineSpec(name=EngineName.SIMULATED),
            shapes=(ResourceShape(accelerator="cpu", accelerators=accelerators),),
        ),
    )


def wants(
    target: int, deployment: Deployment | None = None, tombstone: bool = False
) -> DesiredState:
    deployment = deployment or a_deployment()
    envelope = Envelope(
        deployment=deployment.name, pool=POOL, floor=0, target=target, ceiling=target
    )
    assignment = Assignment(deployment=deployment, envelopes=(envelope,), tombstone=tombstone)
    return DesiredState(
        plane="here", version=Version(epoch=1, generation=1), assignments=(assignment,)
    )


def a_replica(name: str = "demo-r1-a", **values: object) -> SeenReplica:
    defaults = SeenReplica(
        name=name,
        deployment="demo",
        revision=1,
        pool=POOL,
        state=ReplicaState.READY,
        routable=True,
        started_at=NOW - 100,
        ready_at=NOW - 90,
    )
    return dataclasses.replace(defaults, **values)  # type: ignore[arg-type]


def sees(
    *replicas: SeenReplica, accelerators: int = 8, backoffs: tuple[StartBackoff, ...] = ()
) -> Observed:
    pool = SeenPool(name=POOL, accelerator="cpu", accelerators=accelerators)
    return Observed(replicas=replicas, pools=(pool,), backoffs=backoffs)


def start(revision: int = 1, **values: object) -> StartReplica:
    first = StartReplica(deployment="demo", revision=revision, pool=POOL)
    return dataclasses.replace(first, **values)  # type: ignore[arg-type]


def kinds(actions: tuple[Action, ...]) -> list[type]:
    return [type(action) for action in actions]


def test_nothing_known_to_be_desired_does_nothing() -> None:
    assert plan(UNKNOWN, sees(a_replica(alive=False)), NOW) == ()


def test_missing_replicas_are_started() -> None:
    assert plan(wants(2), sees(), NOW) == (start(), start())


def test_what_is_there_as_desired_is_left_alone() -> None:
    assert plan(wants(1), sees(a_replica()), NOW) == ()


def test_a_deployment_that_is_not_named_is_kept() -> None:
    stranger = a_replica(name="other-r1-a", deployment="other")
    assert plan(wants(0), sees(stranger), NOW) == ()


def test_surplus_replicas_are_drained_youngest_first() -> None:
    young = a_replica(name="demo-r1-b", started_at=NOW - 1)
    (action,) = plan(wants(1), sees(young, a_replica()), NOW)
    assert action == DrainReplica(name="demo-r1-b", reason="the target is 1")


def test_a_replica_that_never_served_is_stopped_without_a_drain() -> None:
    coming = a_replica(state=ReplicaState.STARTING, ready_at=None, routable=False)
    assert kinds(plan(wants(0), sees(coming), NOW)) == [StopReplica]


def test_a_tombstone_drains_all() -> None:
    actions = plan(wants(2, tombstone=True), sees(a_replica(), a_replica(name="demo-r1-b")), NOW)
    assert kinds(actions) == [DrainReplica, DrainReplica]


def test_a_drain_waits_for_requests_in_flight_but_not_for_ever() -> None:
    def after(seconds: float, in_flight: int | None) -> list[type]:
        replica = a_replica(
            state=ReplicaState.DRAINING, draining_since=NOW - seconds, in_flight=in_flight
        )
        return kinds(plan(wants(0), sees(replica), NOW))

    assert after(DRAIN_SECONDS_MIN / 2, 0) == []
    assert after(DRAIN_SECONDS_MIN + 1, 1) == []
    assert after(DRAIN_SECONDS_MIN + 1, None) == []
    assert after(DRAIN_SECONDS_MIN + 1, 0) == [StopReplica]
    assert after(DRAIN_SECONDS_MAX + 1, 1) == [StopReplica]


def test_a_dead_replica_is_fenced_before_its_replacement_starts() -> None:
    dead = a_replica(alive=False, fault="its engine is gone")
    fence = FenceReplica(name="demo-r1-a", reason="its engine is gone")
    assert plan(wants(1), sees(dead), NOW) == (fence,)
    assert plan(wants(1), sees(dataclasses.replace(dead, busy=True)), NOW) == ()
    failed = dataclasses.replace(dead, state=ReplicaState.FAILED)
    assert plan(wants(1), sees(failed), NOW) == (
        start(restarts=1, failures=1, replaces="demo-r1-a"),
    )


def test_a_hung_replica_is_fenced_and_a_slow_starter_is_not() -> None:
    hung = a_replica(unhealthy_since=NOW - HUNG_SECONDS_MAX - 1)
    assert kinds(plan(wants(1), sees(hung), NOW)) == [FenceReplica]
    stumbling = a_replica(unhealthy_since=NOW - HUNG_SECONDS_MAX / 2)
    assert plan(wants(1), sees(stumbling), NOW) == ()
    loading = a_replica(state=ReplicaState.STARTING, ready_at=None)
    assert plan(wants(1), sees(loading), NOW) == ()
    late = dataclasses.replace(loading, started_at=NOW - START_SECONDS_MAX - 1)
    assert kinds(plan(wants(1), sees(late), NOW)) == [FenceReplica]


def test_no_start_is_ended_before_its_own_host_would_give_it_up() -> None:
    slowest = max(trtllm._STARTUP_SECONDS_MAX, vllm._STARTUP_SECONDS_MAX)
    assert slowest == sglang._STARTUP_SECONDS_MAX
    loading = a_replica(state=ReplicaState.STARTING, ready_at=None)
    slow = dataclasses.replace(loading, started_at=NOW - slowest - 120)
    assert plan(wants(1), sees(slow), NOW) == ()


def test_an_unreadable_record_holds_its_place_and_its_pool() -> None:
    unknown = a_replica(known=False, alive=True, state=ReplicaState.STARTING)
    assert plan(wants(1), sees(unknown), NOW) == ()
    assert plan(wants(3), sees(unknown), NOW) == ()
    assert plan(wants(0, tombstone=True), sees(unknown), NOW) == ()
    nowhere = dataclasses.replace(unknown, deployment="", pool="")
    assert plan(wants(3), sees(nowhere), NOW) == ()
    # Not even to make room for a new revision is anything ended.
    old = a_replica(name="demo-r1-b")
    assert plan(wants(1, a_deployment(revision=2)), sees(old, nowhere), NOW) == ()
    elsewhere = dataclasses.replace(unknown, pool="here--gpu")
    assert plan(wants(1), sees(elsewhere), NOW) == (start(),)


def test_a_failed_replica_waits_for_its_backoff_and_stays_visible() -> None:
    failed = a_replica(state=ReplicaState.FAILED, alive=False)
    backoff = StartBackoff(deployment="demo", revision=1, failures=1, retry_at=NOW + 1)
    seen = sees(failed, backoffs=(backoff,))
    assert plan(wants(1), seen, NOW) == ()
    assert kinds(plan(wants(1), seen, NOW + 2)) == [StartReplica]


def test_a_failed_replica_that_nothing_replaces_is_forgotten() -> None:
    failed = a_replica(state=ReplicaState.FAILED, alive=False)
    assert plan(wants(0), sees(failed), NOW) == (ForgetReplica(name="demo-r1-a"),)
    stranger = dataclasses.replace(failed, deployment="other")
    assert plan(wants(0), sees(stranger), NOW) == (ForgetReplica(name="demo-r1-a"),)


def test_a_revision_that_keeps_failing_is_tried_one_at_a_time() -> None:
    backoff = StartBackoff(deployment="demo", revision=1, failures=4, retry_at=NOW - 1)
    assert plan(wants(5), sees(backoffs=(backoff,)), NOW) == (start(),)
    coming = a_replica(state=ReplicaState.STARTING, ready_at=None)
    assert plan(wants(5), sees(coming, backoffs=(backoff,)), NOW) == ()


def test_a_backoff_of_one_deployment_or_revision_delays_no_other() -> None:
    strangers = (
        StartBackoff(deployment="other", revision=1, failures=9, retry_at=NOW + 30),
        StartBackoff(deployment="demo", revision=2, failures=9, retry_at=NOW + 30),
    )
    assert plan(wants(1), sees(backoffs=strangers), NOW) == (start(),)


def test_a_new_revision_comes_beside_the_old_and_replaces_it_once_it_is_routed_to() -> None:
    desired = wants(1, a_deployment(revision=2))
    old = a_replica()
    assert plan(desired, sees(old), NOW) == (start(revision=2),)
    new = a_replica(name="demo-r2-a", revision=2, routable=False)
    assert plan(desired, sees(old, new), NOW) == ()
    routed = dataclasses.replace(new, routable=True)
    (action,) = plan(desired, sees(old, routed), NOW)
    assert action == DrainReplica(name="demo-r1-a", reason="revision 2 serves")


def test_a_full_pool_gives_up_one_old_replica_for_the_new_revision() -> None:
    desired = wants(2, a_deployment(revision=2))
    old = (a_replica(), a_replica(name="demo-r1-b"))
    assert kinds(plan(desired, sees(*old, accelerators=2), NOW)) == [DrainReplica]
    leaving = dataclasses.replace(old[0], state=ReplicaState.DRAINING, draining_since=NOW)
    assert plan(desired, sees(leaving, old[1], accelerators=2), NOW) == ()


def test_a_pool_is_never_filled_past_its_accelerators() -> None:
    desired = wants(3, a_deployment(accelerators=2))
    assert kinds(plan(desired, sees(accelerators=5), NOW)) == [StartReplica, StartReplica]


def test_a_pool_of_another_kind_or_another_plane_starts_nothing() -> None:
    elsewhere = Observed(pools=(SeenPool(name=POOL, accelerator="H100-80G", accelerators=8),))
    assert plan(wants(1), elsewhere, NOW) == ()
    assert plan(wants(1), Observed(), NOW) == ()
