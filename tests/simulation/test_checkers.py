"""What the checkers of planes excuse, and no longer than that."""

from dataclasses import replace

import pytest

from control_plane.store.fencing import WriteContext
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.fleet.observation import Unknown
from tests.builders import T0
from tests.simulation.breaches import RACE_SECONDS, Broken
from tests.simulation.checkers import I10EnvelopesBound
from tests.simulation.plane import SimPlane
from tests.simulation.run import SETTLE_SECONDS
from tests.simulation.schedule import Setting
from tests.simulation.world import World


def a_world() -> tuple[World, I10EnvelopesBound]:
    """Return a world in order, of one deployment of 3 to 4 replicas, watched from the start."""
    made = World(Setting(fleet="two", noise=1, seconds=20.0))
    checker = I10EnvelopesBound(made)
    while made.timeline.step(SETTLE_SECONDS):
        pass
    return made, checker


def tell_more(world: World, plane: SimPlane) -> DesiredState:
    """Have the database tell a plane that it may run two more; return what it was told."""
    held = plane.holder.state
    assert not isinstance(held, Unknown)
    (assignment,) = held.assignments
    (envelope,) = assignment.envelopes
    more = replace(envelope, ceiling=envelope.ceiling + 2)
    version = Version(epoch=held.version.epoch, generation=held.version.generation + 1)
    told = replace(held, version=version, assignments=(replace(assignment, envelopes=(more,)),))
    know(world, told)
    return told


def know(world: World, told: DesiredState) -> None:
    """Have the database know that a plane was told this."""
    rows = world.store.rows
    before = rows.desired[told.plane]
    after = replace(before, version=told.version, envelopes=told.envelopes)
    rows.desired[told.plane] = after
    write = WriteContext(epoch=rows.epoch, actor="cp0", now=T0)
    world.store.note(write, "desired.adopted", told.plane, (before, after))


def take_up(plane: SimPlane, told: DesiredState) -> None:
    plane.holder.state = told
    for accepted in plane.holder.on_accept:
        accepted(told)


def test_room_beyond_the_maximum_on_the_planes_disks_is_found() -> None:
    world, _ = a_world()
    plane = next(iter(world.planes.values()))
    with pytest.raises(Broken, match="more replicas on the planes' disks"):
        take_up(plane, tell_more(world, plane))


def test_what_a_restored_database_forgot_is_counted_once_it_is_known_again() -> None:
    world, _ = a_world()
    plane = next(iter(world.planes.values()))
    backup = world.store.backup()
    world.timeline.now += 1.0
    told = tell_more(world, plane)
    world.store.restore(backup, "an older backup")
    take_up(plane, told)  # its disk was still writing that
    world.timeline.now += RACE_SECONDS + 1.0
    take_up(plane, told)  # nobody can count with it yet
    know(world, told)
    take_up(plane, told)  # and what follows from it is under way
    world.timeline.now += RACE_SECONDS + 1.0
    with pytest.raises(Broken, match="more replicas on the planes' disks"):
        take_up(plane, told)


def test_a_restore_excuses_nothing_that_the_database_remembers() -> None:
    world, _ = a_world()
    plane = next(iter(world.planes.values()))
    told = tell_more(world, plane)
    world.store.restore(world.store.backup(), "the newest backup")
    with pytest.raises(Broken, match="more replicas on the planes' disks"):
        take_up(plane, told)
