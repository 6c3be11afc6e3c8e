"""A new revision reaches one replica of one plane first, then plane by plane, or nobody."""

from dataclasses import replace

import pytest

from control_plane.reconcile.rollout import (
    AWAY_SECONDS_MAX,
    CRASH_LOOP_FAILURES,
    FIRST_SECONDS_MAX,
    MENDED_SECONDS,
)
from skerry.fleet.desired import FEATURES, ROLLOUTS
from skerry.fleet.observation import PlaneState
from skerry.fleet.rollout import Halt, OnFailure, Stage, paused, resumed
from tests.unit.control_plane.reconcile.rollout_world import POLICY, Behaviour, World, serving

THREE = {"aws": 2, "fra": 3, "gcp": 1}
POISON = Behaviour(fails_at_start=True)


def stages(world: World) -> list[Stage]:
    """The stages the rollout went through, without those that only changed the plane."""
    seen = [rollout.stage for _, rollout in world.log]
    return [one for index, one in enumerate(seen) if index == 0 or seen[index - 1] is not one]


def test_a_first_revision_starts_one_replica_and_then_the_others() -> None:
    world = World(THREE)
    world.run(2)
    assert sum(plane.live() for plane in world.planes.values()) == 1
    world.run(10)
    assert world.ready_of(1) == THREE
    assert stages(world) == [Stage.FIRST, Stage.COMPLETE]


def test_a_first_revision_that_cannot_start_harms_one_replica_and_says_why() -> None:
    world = World(THREE)
    world.apply(1, POISON)
    world.run(120)
    assert sorted(len(plane.harmed) > 0 for plane in world.planes.values()) == [False, False, True]
    assert max(plane.live() for plane in world.planes.values()) <= 1
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.halt) == ("broken", Halt.FAILURE)
    assert "exit 1" in world.rollout.reason


def test_a_broken_first_revision_goes_on_by_itself_once_it_can_start() -> None:
    world = World(THREE)
    world.apply(1, POISON)
    world.run(60)
    world.behaviours[1] = Behaviour()
    world.run(60)
    assert world.ready_of(1) == THREE
    assert world.rollout is not None
    assert world.rollout.state == "complete"


def test_a_slow_first_replica_holds_the_others_up_for_a_bounded_time() -> None:
    world = World(THREE)
    world.apply(1, Behaviour(load_seconds=900.0))
    world.run(FIRST_SECONDS_MAX - 5)
    assert sum(plane.live() for plane in world.planes.values()) == 1
    world.run(10)
    assert sum(plane.live() for plane in world.planes.values()) == 6


def test_a_new_revision_reaches_one_replica_first_and_soaks_before_any_other() -> None:
    world = serving(THREE)
    world.apply(2)
    world.run_until(Stage.SOAKING)
    began = world.seconds
    assert sum(plane.live(2) for plane in world.planes.values()) == 1
    assert world.planes["fra"].live(2) == 1  # it loses the smallest part of its service
    while world.stage is Stage.SOAKING:
        assert sum(plane.live(2) for plane in world.planes.values()) == 1
        world.step()
    assert world.seconds - began >= POLICY.soak_seconds
    world.run_until(Stage.COMPLETE)
    world.run(10)
    assert world.ready_of(2) == THREE
    assert world.ready_of(1) == dict.fromkeys(THREE, 0)


def test_a_clock_that_is_set_back_prolongs_no_soak() -> None:
    world = serving(THREE)
    world.run(7_200)
    world.apply(2)
    world.run_until(Stage.SOAKING)
    world.seconds -= 3_600
    world.run_until(Stage.COMPLETE, 300)


def test_an_untried_revision_is_not_complete_because_its_only_plane_is_lost() -> None:
    world = serving({"aws": 2})
    world.apply(2)
    world.run_until(Stage.CANARY)
    world.planes["aws"].state = PlaneState.LOST
    world.run(20)
    assert world.stage is Stage.CANARY


def test_planes_follow_one_after_another_and_nothing_is_missing_at_any_time() -> None:
    world = serving(THREE)
    world.apply(2)
    while world.stage is not Stage.COMPLETE or world.rollout.revision != 2:  # type: ignore[union-attr]
        world.step()
        mixed = [p for p in world.planes.values() if p.live(1) and p.live(2)]
        assert len(mixed) <= 1
        assert world.ready >= sum(THREE.values())
    assert stages(world)[2:] == [Stage.CANARY, Stage.SOAKING, Stage.ROLLING, Stage.COMPLETE]


def test_in_full_pools_at_most_one_replica_is_missing_at_any_time() -> None:
    world = serving({"aws": 3, "fra": 3}, accelerators=3)
    world.apply(2)
    while world.stage is not Stage.COMPLETE or world.rollout.revision != 2:  # type: ignore[union-attr]
        world.step()
        assert world.ready >= 5
        assert world.seconds < 500


def test_a_poison_revision_harms_one_replica_of_one_plane_and_the_old_ones_stay() -> None:
    world = serving(THREE)
    world.apply(2, POISON)
    for _ in range(120):
        world.step()
        assert world.ready_of(1) == THREE
        assert sum(plane.live(2) for plane in world.planes.values()) <= 1
    assert sum(bool(plane.harmed) for plane in world.planes.values()) == 1
    assert world.stage is Stage.ROLLED_BACK
    assert world.rollout is not None
    assert world.rollout.broken == (2,)
    assert "exit 1" in world.rollout.reason


def test_a_revision_that_dies_while_it_soaks_is_rolled_back() -> None:
    world = serving(THREE)
    world.apply(2, Behaviour(serves_seconds=5.0))
    world.run(200)
    assert world.stage is Stage.ROLLED_BACK
    assert world.ready_of(1) == THREE
    assert sum(bool(plane.harmed) for plane in world.planes.values()) == 1


def test_a_revision_that_is_not_ready_in_time_is_rolled_back() -> None:
    world = serving(THREE, policy=replace(POLICY, ready_seconds_max=30.0))
    world.apply(2, Behaviour(load_seconds=1e6))
    world.run(60)
    assert world.stage is Stage.ROLLED_BACK
    assert world.rollout is not None
    assert "not READY" in world.rollout.reason


def test_a_revision_that_fails_on_a_later_plane_goes_back_everywhere() -> None:
    world = serving(THREE)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    while world.rollout is None or "fra" not in world.rollout.done:
        world.step()
    world.behaviours[2] = POISON
    world.run(120)
    assert world.stage is Stage.ROLLED_BACK
    assert world.ready_of(1) == THREE
    assert world.ready_of(2) == dict.fromkeys(THREE, 0)


def test_with_on_failure_pause_it_stops_and_waits_for_an_operator() -> None:
    world = serving(THREE, policy=replace(POLICY, on_failure=OnFailure.PAUSE))
    world.apply(2, POISON)
    world.run(100)
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.stage) == ("paused", Stage.CANARY)
    assert world.ready_of(1) == THREE


def test_an_older_release_of_the_plane_is_told_nothing_that_it_does_not_know() -> None:
    world = serving(THREE)
    for plane in world.planes.values():
        plane.features = tuple(one for one in FEATURES if one != ROLLOUTS)
    world.apply(2, POISON)
    world.run(60)
    assert world.stage is Stage.ROLLED_BACK
    assert sum(bool(plane.harmed) for plane in world.planes.values()) == 1
    world.apply(3)
    world.run_until(Stage.COMPLETE)
    world.run(10)
    assert world.ready_of(3) == THREE


def test_a_newer_revision_supersedes_one_that_is_under_way() -> None:
    world = serving(THREE)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    while world.rollout is None or "fra" not in world.rollout.done:
        world.step()
    world.apply(3)
    world.run(2)
    assert world.planes["fra"].live(1) == 0  # what was reached does not go back in between
    assert world.rollout.revision == 3
    while world.stage is not Stage.COMPLETE:
        world.step()
        assert world.ready >= sum(THREE.values())
    world.run(10)
    assert world.ready_of(3) == THREE


def test_going_back_to_what_served_takes_effect_everywhere_at_once() -> None:
    world = serving(THREE)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    world.run(8)
    world.apply(1)
    world.run(1)
    assert world.stage is Stage.COMPLETE
    world.run(30)
    assert world.ready_of(1) == THREE


def test_an_operator_pauses_and_resumes() -> None:
    world = serving(THREE)
    world.apply(2)
    world.run_until(Stage.SOAKING)
    assert world.rollout is not None
    world.rollout = paused(world.rollout, "paused by user:root")
    world.run(100)
    assert world.ready_of(2) == {"aws": 0, "fra": 1, "gcp": 0}
    world.rollout = resumed(world.rollout, world.snapshot().now)
    world.run(150)
    assert world.ready_of(2) == THREE


def test_a_plane_that_is_away_keeps_what_it_runs_while_the_others_go_on() -> None:
    world = serving(THREE)
    world.planes["gcp"].state = PlaneState.SUSPECT
    world.apply(2)
    world.run(300)
    assert world.ready_of(2) == {"aws": 2, "fra": 3, "gcp": 0}
    assert world.planes["gcp"].ready(1) == 1
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.done) == ("rolling", ("aws", "fra"))
    assert "all planes that are heard are done; gcp will have its turn" in world.rollout.reason
    written = len(world.log)
    world.run(100)
    assert len(world.log) == written, "it waits without a write"
    world.planes["gcp"].state = PlaneState.CONNECTED
    world.run(60)
    assert world.stage is Stage.COMPLETE
    assert world.ready_of(2) == THREE


def test_the_first_replica_is_judged_only_while_its_plane_is_heard_and_nobody_else_tries_it() -> (
    None
):
    world = serving(THREE)
    world.apply(2, Behaviour(load_seconds=30.0))
    world.run(5)
    world.planes["fra"].state = PlaneState.DISCONNECTED
    world.run(10 * AWAY_SECONDS_MAX)
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.halt) == ("paused", Halt.AWAY)
    assert "fra, which is under way, is disconnected" in world.rollout.reason
    assert (world.planes["aws"].live(2), world.planes["gcp"].live(2)) == (0, 0)
    world.planes["fra"].state = PlaneState.CONNECTED
    world.run_until(Stage.SOAKING, 10)
    began = world.seconds
    world.run_until(Stage.ROLLING)
    assert world.seconds - began >= POLICY.soak_seconds
    world.run_until(Stage.COMPLETE)


def test_a_plane_under_way_that_falls_silent_is_waited_for_until_it_is_judged() -> None:
    world = serving({"aws": 4, "fra": 5, "gcp": 3})
    world.apply(2)
    while world.rollout is None or world.rollout.plane != "gcp":
        world.step()
    world.run(3)
    world.planes["gcp"].state = PlaneState.SUSPECT
    world.run(AWAY_SECONDS_MAX - 5)
    assert world.halt is Halt.AWAY
    assert world.planes["aws"].live(2) == 0
    world.run(200)
    assert (world.planes["aws"].ready(2), world.stage) == (4, Stage.ROLLING)
    # It goes on with what it was told, and nothing of it goes back when it is heard again.
    old = world.planes["gcp"].live(1)
    world.planes["gcp"].state = PlaneState.CONNECTED
    while world.stage is not Stage.COMPLETE:
        world.step()
        assert world.planes["gcp"].live(1) <= old
    assert world.ready_of(2) == {"aws": 4, "fra": 5, "gcp": 3}


@pytest.mark.parametrize("stage", [Stage.CANARY, Stage.SOAKING, Stage.ROLLING])
def test_a_plane_under_way_that_is_lost_does_not_hold_the_others_up_for_ever(stage: Stage) -> None:
    world = serving({"aws": 2, "fra": 3, "gcp": 2})
    world.apply(2)
    world.run_until(stage)
    world.run(2)
    assert world.rollout is not None
    assert world.rollout.plane == "fra"
    world.planes["fra"].state = PlaneState.LOST
    world.targets = {"aws": 4, "fra": 0, "gcp": 3}
    world.run(300)
    assert world.stage is Stage.COMPLETE
    assert (world.planes["aws"].ready(2), world.planes["gcp"].ready(2)) == (4, 3)


def test_while_a_lost_plane_is_replaced_the_surge_is_given_back() -> None:
    world = serving(THREE)
    world.apply(2, Behaviour(load_seconds=30.0))
    world.run(5)
    assert world.planes["fra"].live() == 4
    world.behaviours[1] = Behaviour(load_seconds=60.0)
    world.planes["gcp"].state = PlaneState.LOST
    world.targets = {"aws": 3, "fra": 3, "gcp": 0}
    world.run(20)
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.halt) == ("paused", Halt.AWAY)
    assert "gcp is replaced first" in world.rollout.reason
    assert world.planes["fra"].live() == 3
    world.run(300)
    assert world.stage is Stage.COMPLETE
    assert world.ready_of(2) == {"aws": 3, "fra": 3, "gcp": 0}


def test_a_region_lost_meanwhile_is_replaced_first_and_then_the_rollout_goes_on() -> None:
    world = serving({"aws": 2, "fra": 3, "gcp": 2})
    world.apply(2)
    world.run_until(Stage.ROLLING)
    world.planes["gcp"].state = PlaneState.LOST
    world.targets = {"aws": 3, "fra": 4, "gcp": 0}
    for _second in range(100):
        world.step()
        if world.halt is Halt.NONE:
            break
        assert world.planes["aws"].live() + world.planes["fra"].live() <= 7 + 1
        assert world.planes["aws"].ready() + world.planes["fra"].ready() >= 5
    assert _second > 2, "it waited for what replaces the region"
    world.run(200)
    assert world.stage is Stage.COMPLETE
    assert world.planes["aws"].ready(2) == 3
    assert world.planes["fra"].ready(2) == 4


def test_a_revision_that_begins_to_crash_everywhere_is_started_nowhere_else() -> None:
    world = serving(THREE)
    world.behaviours[1] = POISON
    for plane in world.planes.values():
        plane.replicas = {name: replace(one, alive=False) for name, one in plane.replicas.items()}
    world.planes["new"] = type(world.planes["aws"])(name="new")
    world.run(60)
    assert world.rollout is not None
    assert (world.rollout.state, world.rollout.stage) == ("broken", Stage.COMPLETE)
    world.targets = {"aws": 0, "fra": 3, "gcp": 1, "new": 2}
    world.run(60)
    assert world.planes["new"].replicas == {}
    world.behaviours[1] = Behaviour()
    world.run(60 + MENDED_SECONDS)
    assert world.rollout.state == "complete"
    assert world.ready_of(1) == {"aws": 0, "fra": 3, "gcp": 1, "new": 2}
    assert CRASH_LOOP_FAILURES > 1


def test_a_replica_that_crash_loops_on_one_plane_alone_is_that_planes_fault() -> None:
    world = serving(THREE)
    bad = world.planes["gcp"]
    for _ in range(40):
        bad.replicas = {name: replace(one, alive=False) for name, one in bad.replicas.items()}
        world.step()
    assert world.rollout is not None
    assert world.rollout.state == "complete"


def test_a_deployment_of_which_nothing_runs_is_rolled_out_at_once() -> None:
    world = serving(THREE)
    world.targets = dict.fromkeys(THREE, 0)
    for plane in world.planes.values():
        plane.replicas = {}
    world.run(3)
    world.apply(2)
    world.run(3)
    assert world.stage is Stage.COMPLETE


def test_a_plane_that_is_away_does_not_hide_that_the_revision_fails_elsewhere() -> None:
    world = serving({"aws": 1, "fra": 2, "gcp": 3})
    world.apply(2)
    world.run_until(Stage.ROLLING)
    world.run(20)
    world.planes["gcp"].state = PlaneState.SUSPECT
    world.behaviours[2] = POISON
    for plane in world.planes.values():
        plane.replicas = {
            name: replace(one, alive=one.revision != 2) for name, one in plane.replicas.items()
        }
    world.run(60)
    assert world.stage is Stage.ROLLED_BACK
    assert world.ready_of(1)["fra"] == 2


def test_a_lost_plane_does_not_make_a_rollout_in_full_pools_begin_again_and_again() -> None:
    world = serving({"aws": 2, "fra": 2, "gcp": 2}, accelerators=2)
    world.planes["gcp"].state = PlaneState.LOST
    world.targets["gcp"] = 0
    world.run(5)
    world.apply(2)
    world.run(300)
    assert (world.planes["aws"].ready(2), world.planes["fra"].ready(2)) == (2, 2)
    assert world.stage is Stage.COMPLETE
    assert len(world.log) < 20


def test_what_mends_a_revision_that_serves_nowhere_goes_out_though_a_plane_is_lost() -> None:
    world = serving(THREE)
    world.behaviours[1] = POISON
    for plane in world.planes.values():
        plane.replicas = {name: replace(one, alive=False) for name, one in plane.replicas.items()}
    world.planes["gcp"].state = PlaneState.LOST
    world.run(60)
    assert world.halt is Halt.FAILURE
    world.apply(2)
    world.run(300)
    assert world.planes["fra"].ready(2) == THREE["fra"]


def test_a_broken_revision_is_tried_once_elsewhere_when_its_only_plane_is_lost() -> None:
    world = serving({"aws": 2, "fra": 0})
    plane = world.planes["aws"]
    world.behaviours[1] = POISON
    plane.replicas = {name: replace(one, alive=False) for name, one in plane.replicas.items()}
    world.run(60)
    assert world.halt is Halt.FAILURE
    plane.state = PlaneState.LOST
    world.targets = {"aws": 0, "fra": 2}
    world.run(5)
    assert world.planes["fra"].live() <= 1
    world.behaviours[1] = Behaviour()
    world.run(60 + MENDED_SECONDS)
    assert world.planes["fra"].ready(1) == 2
