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
from workload_plane.converge.actions import (
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    StopReplica,
)
from workload_plane.converge.grants import CANDIDATE_FAILURES_MAX
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


def test_nobody_goes_for_a_candidate_whose_place_another_took_while_too_few_serve() -> None:
    stranger = a_replica("other-r1-x", deployment="other")
    gone = new(state=ReplicaState.FAILED, alive=False, routable=False)
    decision = decide(wants(2, 1), sees(OLD[0], stranger, gone, accelerators=2), NOW)
    drained = [one.name for one in decision.actions if isinstance(one, DrainReplica)]
    assert OLD[0].name not in drained


def test_one_that_serves_alone_of_two_stays_when_a_candidate_comes_with_the_second() -> None:
    decision = decide(wants(2, 1), sees(OLD[0], accelerators=1), NOW)
    assert decision.actions == ()
    assert "1 of 2 serve" in decision.waits[0].reason


def test_nobody_goes_for_a_candidate_while_others_leave_the_pool_anyway() -> None:
    leaves = a_replica(
        "other-r1-x",
        deployment="other",
        state=ReplicaState.DRAINING,
        draining_since=NOW,
        in_flight=1,
    )
    decision = decide(wants(2, 1), sees(*OLD[:2], leaves, accelerators=3), NOW)
    assert not any(isinstance(one, DrainReplica | StopReplica) for one in decision.actions)


def test_the_only_one_that_starts_is_not_ended_for_a_candidate() -> None:
    """Of two none serves: the earlier revision is what may soon, the candidate nobody has tried."""
    starting = a_replica("demo-r1-a", state=ReplicaState.STARTING, routable=False, ready_at=None)
    stranger = a_replica("other-r1-x", deployment="other")
    decision = decide(wants(2, 1), sees(starting, stranger, accelerators=2), NOW)
    assert not any(isinstance(one, DrainReplica | StopReplica) for one in decision.actions)


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


def a_failed(**values: object) -> SeenReplica:
    """A replica of the candidate that failed as often in a row as one may."""
    told = {"state": ReplicaState.FAILED, "alive": False, "routable": False, "ready_at": None}
    return a_replica(
        "demo-r2-a",
        revision=2,
        **{**told, "failures": CANDIDATE_FAILURES_MAX - 1, "fault": "exit 1", **values},
    )


def test_a_candidate_that_failed_too_often_gives_its_place_back() -> None:
    decision = decide(wants(3, 1), sees(*OLD[:2], a_failed(), accelerators=3), NOW)
    assert decision.actions == (start(1),)
    (wait,) = decision.waits
    assert "revision 2 failed 2 times in a row" in wait.reason
    assert plan(wants(3, 1), sees(*OLD, a_failed(), accelerators=3), NOW) == ()


def test_it_is_not_started_again_where_there_is_room_beside_what_serves() -> None:
    assert plan(wants(3, 1), sees(*OLD, a_failed(), accelerators=8), NOW + 3_600) == ()


def test_a_candidate_whose_engine_dies_again_and_again_is_fenced_and_its_record_stays() -> None:
    starting = a_failed(
        state=ReplicaState.STARTING, alive=True, failures=CANDIDATE_FAILURES_MAX, fault="exit 9"
    )
    (action,) = plan(wants(3, 1), sees(*OLD[:2], starting, accelerators=3), NOW)
    assert action == FenceReplica(name="demo-r2-a", reason="it failed 2 times in a row: exit 9")


def test_of_a_candidate_that_failed_what_serves_goes_on() -> None:
    serving = new("demo-r2-b")
    assert plan(wants(3, 2), sees(*OLD[:1], serving, a_failed()), NOW) == (start(1),)
    assert plan(wants(3, 2), sees(*OLD[:2], serving, a_failed()), NOW) == ()


def test_once_told_of_none_the_plane_forgets_it_and_told_again_it_tries_again() -> None:
    assert plan(wants(3, 0), sees(*OLD, a_failed(), accelerators=3), NOW) == (
        ForgetReplica(name="demo-r2-a"),
    )
    (action,) = plan(wants(3, 1), sees(*OLD, accelerators=3), NOW)
    assert isinstance(action, DrainReplica)


def test_where_the_revision_before_cannot_run_the_candidate_is_tried_on() -> None:
    desired = wants(3, 1)
    (assignment,) = desired.assignments
    revision = assignment.deployment.revision
    shape = dataclasses.replace(revision.shapes[0], accelerator="h100")
    elsewhere = dataclasses.replace(revision, shapes=(shape,))
    deployment = dataclasses.replace(assignment.deployment, revision=elsewhere)
    moved = dataclasses.replace(assignment, deployment=deployment)
    desired = dataclasses.replace(desired, assignments=(moved,))
    (action,) = plan(desired, sees(a_failed(), accelerators=3), NOW)
    assert action == start(2, failures=2, restarts=1, replaces="demo-r2-a")
