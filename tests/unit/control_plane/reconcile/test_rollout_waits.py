"""Whoever waits for a rollout is told what for: which plane, and what it answered."""

from dataclasses import replace

from control_plane.reconcile.rollout import next_rollout
from control_plane.reconcile.rollout_facts import Facts, facts_of
from control_plane.reconcile.snapshot import Snapshot
from skerry.fleet.rollout import REASON_CHARACTERS_MAX, Stage
from tests.unit.control_plane.reconcile.rollout_world import POLICY, Behaviour, World, serving

NACK = "this release does not know the feature 'x'; upgrade the plane"


def refused(world: World, plane: str) -> Facts:
    """What is seen while the plane refuses what it was last told."""
    snapshot: Snapshot = world.snapshot()
    planes = tuple(
        replace(view, link=replace(view.link, nack=NACK)) if view.name == plane else view
        for view in snapshot.planes
    )
    (facts,) = facts_of(replace(snapshot, planes=planes), world.conditions)
    return facts


def reason(world: World, facts: Facts) -> str:
    return next_rollout(world.rollout, facts).reason


def test_a_plane_that_refuses_the_candidate_is_named_with_what_it_answered() -> None:
    world = serving({"aws": 1, "fra": 2})
    world.apply(2)
    while world.rollout is None or world.rollout.plane != "fra":
        world.step()
    assert world.stage is Stage.CANARY
    world.planes["fra"].replicas = {
        name: one for name, one in world.planes["fra"].replicas.items() if one.revision == 1
    }
    assert reason(world, refused(world, "fra")) == f"fra refuses what it is told: {NACK}"


def test_so_is_one_that_refuses_to_replace_its_replicas() -> None:
    world = serving({"aws": 1, "fra": 2, "gcp": 3})
    world.apply(2)
    world.run_until(Stage.ROLLING)
    while world.rollout is None or world.rollout.plane != "aws":
        world.step()
    assert reason(world, refused(world, "aws")) == f"aws refuses what it is told: {NACK}"


def test_one_that_is_done_and_lacks_replicas_for_it_is_named_too() -> None:
    world = serving({"aws": 1, "fra": 2, "gcp": 3})
    world.apply(2)
    world.run_until(Stage.ROLLING)
    while world.rollout is None or "gcp" not in world.rollout.done:
        world.step()
    world.targets["gcp"] += 1
    world.rollout = replace(world.rollout, plane="")
    told = reason(world, refused(world, "gcp"))
    assert told.startswith("others follow once gcp has its replicas: gcp refuses what it is told")
    assert NACK in told


def test_a_plane_without_room_for_the_candidate_is_named_with_what_it_takes() -> None:
    pace = replace(POLICY, max_unavailable=0)
    world = serving({"fra": 3}, policy=pace, accelerators=3)
    world.apply(2, Behaviour())
    world.run(30)
    assert (world.stage, world.planes["fra"].live(2)) == (Stage.CANARY, 0)
    assert world.rollout is not None
    assert "fra has no room for it: a replica takes 1 of fra--cpu" in world.rollout.reason
    written = len(world.log)
    world.run(60)
    assert len(world.log) == written, "it says so once"


def test_so_is_one_without_room_to_replace_the_rest() -> None:
    pace = replace(POLICY, max_unavailable=0)
    world = serving({"fra": 3}, policy=pace, accelerators=4)
    world.apply(2)
    world.run_until(Stage.SOAKING)
    world.run(5)
    world.planes["fra"].accelerators = 3
    world.run_until(Stage.ROLLING)
    world.run(60)
    assert world.rollout is not None
    assert world.stage is Stage.ROLLING
    assert "fra has no room for it: a replica takes 1 of fra--cpu" in world.rollout.reason


def test_what_is_refused_for_long_is_told_as_far_as_there_is_room() -> None:
    world = serving({"fra": 2})
    world.apply(2)
    while world.rollout is None or not world.rollout.plane:
        world.step()
    facts = refused(world, "fra")
    plane = replace(facts.planes[0], replicas=(), refused="y" * 2_000)
    assert len(reason(world, replace(facts, planes=(plane,)))) == REASON_CHARACTERS_MAX
