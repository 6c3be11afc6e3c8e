"""Two revisions of one deployment on a plane: so many of the candidate, the rest as it was."""

import dataclasses

from skerry.fleet.desired import Assignment, Candidate, DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import ReplicaState
from skerry.fleet.placement import Envelope
from skerry.fleet.rollout import RolloutPolicy
from tests.unit.workload_plane.converge.test_plan import (
    NOW,
    POOL,
    a_deployment,
    a_replica,
    sees,
    start,
)
from workload_plane.converge.actions import DrainReplica, FenceReplica, StopReplica
from workload_plane.converge.plan import decide, plan
from workload_plane.converge.seen import SeenReplica, StartBackoff

OLD = tuple(a_replica(f"demo-r1-{name}") for name in "abc")


def wants(target: int, tried: int, policy: RolloutPolicy | None = None) -> DesiredState:
    """`demo` at revision 1 with so many replicas of the target at revision 2."""
    deployment = dataclasses.replace(a_deployment(), rollout=policy or RolloutPolicy())
    candidate = Candidate(revision=a_deployment(revision=2).revision, replicas=((POOL, tried),))
    envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=target, ceiling=target)
    assignment = Assignment(
        deployment=deployment, envelopes=(envelope,), candidate=candidate if tried else None
    )
    return DesiredState(
        plane="here", version=Version(epoch=1, generation=1), assignments=(assignment,)
    )


def new(name: str = "demo-r2-a", **values: object) -> SeenReplica:
    """A replica of the candidate."""
    return a_replica(name, revision=2, **values)


def test_the_candidate_starts_beside_what_serves() -> None:
    assert plan(wants(3, 1), sees(*OLD), NOW) == (start(2),)


def test_while_the_candidate_starts_nothing_that_serves_goes() -> None:
    starting = new(state=ReplicaState.STARTING, routable=False, ready_at=None)
    assert plan(wants(3, 1), sees(*OLD, starting), NOW) == ()


def test_once_the_candidate_serves_one_of_the_others_goes() -> None:
    (action,) = plan(wants(3, 1), sees(*OLD, new()), NOW)
    assert isinstance(action, DrainReplica)
    assert action.name in {one.name for one in OLD}
    assert plan(wants(3, 1), sees(*OLD[:2], new()), NOW) == ()


def test_in_a_full_pool_one_goes_first_and_its_place_is_the_candidates() -> None:
    (action,) = plan(wants(3, 1), sees(*OLD, accelerators=3), NOW)
    assert isinstance(action, DrainReplica)
    assert plan(wants(3, 1), sees(*OLD[:2], accelerators=3), NOW) == (start(2),)


def test_in_a_full_pool_where_none_may_be_missing_the_candidate_waits() -> None:
    policy = RolloutPolicy(max_unavailable=0)
    decision = decide(wants(3, 1, policy), sees(*OLD, accelerators=3), NOW)
    assert decision.actions == ()
    (wait,) = decision.waits
    assert "maxUnavailable is 0" in wait.reason


def test_a_candidate_that_fails_takes_no_second_one_with_it() -> None:
    failed = new(alive=False, state=ReplicaState.STARTING, routable=False, ready_at=None)
    (action,) = plan(wants(3, 1), sees(*OLD[:2], failed, accelerators=3), NOW)
    assert isinstance(action, FenceReplica)
    gone = new(state=ReplicaState.FAILED, alive=False, routable=False)
    backoff = StartBackoff(deployment="demo", revision=2, failures=1, retry_at=NOW + 5)
    seen = sees(*OLD[:2], gone, accelerators=3, backoffs=(backoff,))
    assert plan(wants(3, 1), seen, NOW) == ()


def test_a_candidate_taken_back_before_it_served_is_stopped_and_nobody_else() -> None:
    starting = new(state=ReplicaState.STARTING, routable=False, ready_at=None)
    (action,) = plan(wants(3, 0), sees(*OLD, starting), NOW)
    assert isinstance(action, StopReplica)
    assert action.name == "demo-r2-a"


def test_a_candidate_taken_back_serves_until_the_earlier_revision_does_in_its_stead() -> None:
    assert plan(wants(3, 0), sees(*OLD[:2], new()), NOW) == (start(1),)


def test_a_replica_of_the_rest_that_ends_is_replaced_meanwhile() -> None:
    assert plan(wants(3, 1), sees(OLD[0], new()), NOW) == (start(1),)


def test_more_surge_lets_more_of_a_new_revision_start_at_once() -> None:
    deployment = dataclasses.replace(a_deployment(revision=2), rollout=RolloutPolicy(max_surge=3))
    envelope = Envelope(deployment="demo", pool=POOL, floor=0, target=3, ceiling=3)
    whole = dataclasses.replace(
        wants(3, 0), assignments=(Assignment(deployment=deployment, envelopes=(envelope,)),)
    )
    assert plan(whole, sees(*OLD), NOW) == (start(2), start(2), start(2))
