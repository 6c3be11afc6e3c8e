"""What the checkers of decisions excuse: what nobody can know of yet, and no longer than that."""

from dataclasses import replace

import pytest

from control_plane.store.values import StoredDesired
from skerry.fleet.placement import Envelope, Placement
from tests.simulation.breaches import RACE_SECONDS, Broken
from tests.simulation.decisions import I3I6OldStaysUntilNewIsReady
from tests.simulation.plane import EVERY_NODE, SimPlane
from tests.simulation.run import SETTLE_SECONDS
from tests.simulation.schedule import Setting
from tests.simulation.store import Entry
from tests.simulation.world import World


@pytest.fixture
def world() -> World:
    """Return a world in order: one deployment of three replicas on two planes of four nodes."""
    made = World(Setting(fleet="two", noise=1, seconds=20.0))
    while made.timeline.step(SETTLE_SECONDS):
        pass
    return made


def _with_target(plane: SimPlane, world: World, target: int) -> StoredDesired:
    envelope = Envelope(
        deployment="demo", pool=plane.pool, floor=target, target=target, ceiling=target
    )
    return replace(world.store.rows.desired[plane.name], envelopes=(envelope,))


def test_a_node_that_just_came_back_is_no_room_that_a_decision_could_know(world: World) -> None:
    plane = max(world.planes.values(), key=lambda one: len(one.serving("demo")))
    rows = world.store.rows
    assert rows.decision is not None
    serving = len(plane.serving("demo"))
    used = {node for replica in plane.replicas.values() for node in replica.nodes}
    spare = next(node for node in EVERY_NODE if node not in used)
    # With a node less, another deployment takes the place of one of its replicas.
    rows.decision = replace(rows.decision, unplaced=(("demo", 1, "no room"),))
    guests = len(EVERY_NODE) - 1 - (serving - 1)
    rows.placements = (
        Placement(deployment="demo", pool=plane.pool, count=serving - 1),
        Placement(deployment="guest", pool=plane.pool, count=guests),
    )
    told = _with_target(plane, world, serving), _with_target(plane, world, serving - 1)
    rows.desired[plane.name] = told[1]
    epoch = rows.epoch
    entry = Entry(
        at=world.now, epoch=epoch, leading=epoch, kind="desired.stored", subject=plane.name
    )
    checker = I3I6OldStaysUntilNewIsReady(world)

    plane.lose_node(spare)
    checker.stored(entry, told)  # it gives way: nothing is left of the plane
    plane.regain_node(spare)
    checker.stored(entry, told)  # as far as anybody can know, still so
    world.timeline.now += RACE_SECONDS + 1.0
    with pytest.raises(Broken, match="may end demo while"):
        checker.stored(entry, told)
