"""What counts as a failure of a revision, and what becomes of its place."""

from dataclasses import replace
from typing import Any

from control_plane.reconcile.rollout import CRASH_LOOP_FAILURES, FAILURES_MAX
from control_plane.reconcile.rollout_facts import facts_of
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.observation import ObservedReplica, PlaneState, ReplicaState
from skerry.fleet.rollout import Halt, OnFailure, Stage, resumed
from tests.builders import a_replica
from tests.unit.control_plane.reconcile.rollout_world import POLICY, Behaviour, serving

POISON = Behaviour(fails_at_start=True)
PAUSES = replace(POLICY, on_failure=OnFailure.PAUSE)


def failures(*replicas: ObservedReplica) -> int:
    """How often revision 1 failed in a row at a plane that shows these replicas."""
    world = serving({"fra": 1})
    snapshot: Snapshot = world.snapshot()
    (view,) = snapshot.planes
    assert view.link.report is not None
    report = replace(view.link.report, replicas=replicas)
    view = replace(view, link=replace(view.link, report=report))
    assert view.condition is not None
    assert view.condition.state is PlaneState.CONNECTED
    snapshot = replace(snapshot, planes=(view,))
    (facts,) = facts_of(snapshot, {"fra": view.condition})
    return facts.planes[0].failures(1)


def a_start(**fields: Any) -> ObservedReplica:
    return replace(a_replica("demo", "fra--cpu"), state=ReplicaState.STARTING, **fields)


def test_what_restarted_often_in_its_life_and_starts_once_more_has_not_failed_often() -> None:
    assert failures(a_start(restarts=30, failures=0)) == 0
    assert failures(a_start(restarts=30, failures=1)) == 1 < FAILURES_MAX


def test_what_ends_again_and_again_counts_each_end() -> None:
    assert failures(a_start(restarts=3, failures=3)) == CRASH_LOOP_FAILURES
    gone = replace(a_start(restarts=2, failures=2), state=ReplicaState.FAILED)
    assert failures(gone) == CRASH_LOOP_FAILURES


def test_of_a_plane_that_does_not_tell_all_its_restarts_count() -> None:
    assert failures(a_start(restarts=2)) == 2


def test_a_rollout_that_pauses_for_a_failure_leaves_the_revision_before_whole() -> None:
    world = serving({"fra": 3}, policy=PAUSES, accelerators=3)
    world.apply(2, POISON)
    world.run(100)
    assert (world.stage, world.halt) == (Stage.CANARY, Halt.FAILURE)
    assert world.ready_of(1) == {"fra": 3}
    harmed = len(world.planes["fra"].harmed)
    world.run(100)
    assert len(world.planes["fra"].harmed) == harmed, "it is not started again"


def test_resumed_after_that_it_is_tried_again() -> None:
    world = serving({"fra": 3}, policy=PAUSES, accelerators=3)
    world.apply(2, POISON)
    world.run(100)
    world.behaviours[2] = Behaviour()
    assert world.rollout is not None
    world.rollout = resumed(world.rollout, world.snapshot().now)
    world.run_until(Stage.COMPLETE)
    assert world.ready_of(2) == {"fra": 3}
