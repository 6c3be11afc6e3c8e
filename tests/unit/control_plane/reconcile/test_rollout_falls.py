"""A revision that takes whole planes down reaches a second one, and no third."""

from collections.abc import Collection
from dataclasses import replace
from datetime import timedelta

import pytest

from control_plane.reconcile.rollout import AWAY_SECONDS_MAX, next_rollout
from control_plane.reconcile.rollout_facts import Facts, facts_of
from skerry.fleet.observation import PlaneState
from skerry.fleet.rollout import Halt, Rollout, Stage, resumed
from tests.builders import T0
from tests.unit.control_plane.reconcile.rollout_world import POLICY, Behaviour, World, serving

FOUR = {"aws": 3, "fra": 4, "gcp": 2, "oci": 5}
LOST, SUSPECT, CONNECTED = PlaneState.LOST, PlaneState.SUSPECT, PlaneState.CONNECTED
JUDGED_SECONDS = 12  # from a plane's end to its verdict


def under_way(world: World) -> Rollout:
    assert world.rollout is not None
    return world.rollout


def step(world: World, poison: int, downs: dict[str, float], state: PlaneState = LOST) -> None:
    """Let a second pass in which planes with a live replica of the poison go down.

    They are silent first, and in their last state once they were judged.
    """
    world.step()
    for name, plane in world.planes.items():
        if name not in downs and plane.live(poison):
            downs[name] = world.seconds
            plane.state = SUSPECT
        elif name in downs and world.seconds - downs[name] >= JUDGED_SECONDS:
            plane.state = state
            world.targets[name] = 0 if state is LOST else world.targets[name]


def harmed_by(world: World, poison: int, seconds: int, state: PlaneState = LOST) -> Collection[str]:
    downs: dict[str, float] = {}
    for _ in range(seconds):
        step(world, poison, downs, state)
    return downs


def test_a_revision_that_ends_the_plane_of_its_first_replica_is_tried_on_one_other_alone() -> None:
    world = serving(FOUR)
    world.apply(2, Behaviour(load_seconds=60.0))
    downs = harmed_by(world, 2, 1000)
    assert len(downs) == 2
    rollout = under_way(world)
    assert (rollout.state, rollout.stage, rollout.halt) == ("broken", Stage.CANARY, Halt.FAILURE)
    assert set(rollout.fallen) == set(downs)
    assert all(name in rollout.reason for name in downs)
    assert "`skerry rollout undo demo` goes back to revision 1" in rollout.reason
    assert "`skerry rollout resume demo`" in rollout.reason


def test_one_such_loss_alone_pauses_it_and_it_goes_on() -> None:
    world = serving(FOUR)
    world.apply(2)
    while not (first := under_way(world).plane):
        world.step()
    world.planes[first].state = LOST
    world.targets[first] = 0
    world.run(2)
    assert under_way(world).fallen == (first,)
    assert f"{first} went down with it, and another one would halt it" in under_way(world).reason
    world.run_until(Stage.COMPLETE)
    assert under_way(world).fallen == ()


def test_so_does_one_that_took_all_of_the_first_plane_and_then_of_the_next() -> None:
    """Its first replica soaks well: planes go down once all of theirs run it."""
    world = serving(FOUR)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    downs: dict[str, float] = {}
    for _ in range(2000):
        world.step()
        for name, plane in world.planes.items():
            if name not in downs and plane.ready(2) == world.targets[name] and plane.ready(2):
                downs[name] = world.seconds
                plane.state = SUSPECT
            elif name in downs and world.seconds - downs[name] == JUDGED_SECONDS:
                plane.state = LOST
                world.targets[name] = 0
    assert len(downs) == 2
    assert (under_way(world).halt, under_way(world).stage) == (Halt.FAILURE, Stage.ROLLING)
    left = [plane for name, plane in world.planes.items() if name not in downs]
    assert all(plane.live(2) == 0 for plane in left)


def test_planes_that_are_done_count_for_as_long_as_the_soak_and_no_longer() -> None:
    def lost_after(seconds: float) -> Rollout:
        world = serving({"aws": 2, "fra": 3, "gcp": 1, "oci": 7})
        world.apply(2)
        while len(under_way(world).done) < 2 or not under_way(world).plane:
            world.step()
        world.behaviours[2] = Behaviour(load_seconds=1e4)  # oci does not come to be done
        world.run(seconds)
        for name in under_way(world).done[:2]:
            world.planes[name].state = LOST
            world.targets[name] = 0
        world.run(3)
        return under_way(world)

    assert lost_after(2).halt is Halt.FAILURE
    assert lost_after(POLICY.soak_seconds + 60.0).halt is not Halt.FAILURE


def test_what_comes_back_of_those_planes_runs_the_revision_before() -> None:
    world = serving(FOUR)
    world.apply(2, Behaviour(load_seconds=60.0))
    downs = harmed_by(world, 2, 300)
    world.behaviours[2] = Behaviour()
    for name in downs:
        world.planes[name].state = CONNECTED
        world.targets[name] = FOUR[name]
    world.run(60)
    assert under_way(world).halt is Halt.FAILURE, "an operator decides"
    assert all(world.planes[name].live(2) == 0 for name in downs)
    assert all(world.planes[name].ready(1) == FOUR[name] for name in downs)


def test_resumed_by_an_operator_it_goes_on_and_counts_anew() -> None:
    world = serving(FOUR)
    world.apply(2, Behaviour(load_seconds=60.0))
    downs = harmed_by(world, 2, 300)
    world.behaviours[2] = Behaviour()
    for name in downs:
        world.planes[name].state = CONNECTED
        world.targets[name] = FOUR[name]
    world.rollout = resumed(under_way(world), world.snapshot().now)
    world.run_until(Stage.COMPLETE)
    world.run(30)
    assert world.ready_of(2) == FOUR


def test_a_first_revision_takes_down_two_planes_at_most() -> None:
    for state in (LOST, SUSPECT):
        world = World(FOUR)
        world.apply(1, Behaviour(load_seconds=1e4))
        downs = harmed_by(world, 1, 1000, state)
        assert len(downs) == 2
        assert (under_way(world).state, under_way(world).stage) == ("broken", Stage.FIRST)
        assert "apply a revision that works" in under_way(world).reason


@pytest.mark.parametrize(("state", "halted"), [(SUSPECT, True), (PlaneState.DISCONNECTED, False)])
def test_a_plane_that_is_seen_serving_is_not_down(state: PlaneState, halted: bool) -> None:
    world = serving(FOUR)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    for _ in range(2):
        while not under_way(world).plane:
            world.step()
        world.planes[under_way(world).plane].state = state
        world.run(AWAY_SECONDS_MAX + 5)
    assert (under_way(world).halt is Halt.FAILURE) is halted


def test_agents_that_start_anew_are_no_planes_that_went_down() -> None:
    world = serving(FOUR)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    for _ in range(40):
        for plane in world.planes.values():
            plane.state = SUSPECT
        world.run(5)
        for plane in world.planes.values():
            plane.state = CONNECTED
        world.run(5)
    assert under_way(world).state == "complete"


def test_while_all_is_frozen_silence_is_no_revisions_fault() -> None:
    world = serving(FOUR)
    world.apply(2)
    world.run_until(Stage.ROLLING)
    while not under_way(world).plane:
        world.step()
    before = under_way(world)
    for plane in world.planes.values():
        plane.state = SUSPECT
    world.run(2)

    def after(facts: Facts) -> Rollout:
        aside = tuple((name, 2) for name in FOUR if name != before.plane)
        later = replace(facts, now=facts.now + timedelta(seconds=60))
        return next_rollout(replace(under_way(world), elsewhere=aside), later)

    (facts,) = facts_of(world.snapshot(), world.conditions)
    assert facts.silence_is_ours
    assert after(facts).halt is Halt.AWAY
    assert after(replace(facts, silence_is_ours=False)).halt is Halt.FAILURE


def test_a_clock_that_is_set_back_keeps_nobody_waiting_for_a_plane_that_is_away() -> None:
    """Whoever stored it was ahead: what a moment that is still to come says is not waited for."""
    world = serving({"aws": 4, "fra": 5, "gcp": 3})
    world.apply(2)
    while under_way(world).plane != "gcp":
        world.step()
    world.planes["gcp"].state = SUSPECT
    world.step()
    ahead = T0 + timedelta(hours=2)
    world.conditions["gcp"] = replace(world.conditions["gcp"], since=ahead)
    world.rollout = replace(under_way(world), away_at=ahead)
    world.run(AWAY_SECONDS_MAX + 5)
    assert under_way(world).plane != "gcp"
