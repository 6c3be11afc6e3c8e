"""What a simulated control plane takes in, as the product's end of a link is to."""

from dataclasses import replace

from tests.simulation import messages as said
from tests.simulation.control import Link, Reign, SimControlPlane
from tests.simulation.network import Stream
from tests.simulation.plane import SimPlane
from tests.simulation.run import SETTLE_SECONDS
from tests.simulation.schedule import Setting
from tests.simulation.world import World


def a_world() -> tuple[World, SimControlPlane, Reign]:
    """Return a world in order, and who leads."""
    world = World(Setting(fleet="two", noise=1, seconds=20.0))
    while world.timeline.step(SETTLE_SECONDS):
        pass
    control = world.leader
    assert control is not None
    assert control.reign is not None
    return world, control, control.reign


def a_stream(world: World, plane: SimPlane, control: SimControlPlane) -> Link:
    """Return a stream of the plane's agent on which nothing was said yet."""
    stream = Stream(world.network, plane.agent, control.process)
    return Link(stream, stream.server)


def a_hello(plane: SimPlane, stream_number: int) -> said.Hello:
    """Return what the plane's agent says first on such a stream."""
    agent_id, report = plane.link.agent_id, plane.report()
    return said.Hello(report=report, agent_id=agent_id, stream_number=stream_number)


def test_what_an_older_stream_brings_late_is_not_taken_in() -> None:
    """A cut path holds up what was said before it; the plane has dialled anew when it comes."""
    world, control, reign = a_world()
    plane, older = world.planes["gcp"], reign.links["gcp"]
    report = plane.report()
    assert report.replicas
    newer = a_stream(world, plane, control)
    control._take(newer, a_hello(plane, plane.link.streams + 1))
    heard_at = reign.registry.heard_at("gcp")
    world.timeline.now += 1.0
    control._take(older, said.Observed(report=replace(report, replicas=())))
    assert reign.registry.view("gcp").report == report
    assert reign.registry.heard_at("gcp") == heard_at
    assert not older.end.open
    assert reign.links["gcp"] is newer


def test_a_late_hello_of_a_stream_that_was_given_up_takes_nobodys_place() -> None:
    """It was under way when the agent gave its stream up, and comes after the next one's."""
    world, control, reign = a_world()
    plane, before = world.planes["gcp"], reign.links["gcp"]
    report, number = plane.report(), plane.link.streams
    newest = a_stream(world, plane, control)
    control._take(newest, a_hello(plane, number + 2))
    late = a_stream(world, plane, control)
    control._take(late, replace(a_hello(plane, number + 1), report=replace(report, replicas=())))
    assert not late.end.open
    assert reign.links["gcp"] is newest
    assert newest is not before
    assert reign.registry.view("gcp").report == report
