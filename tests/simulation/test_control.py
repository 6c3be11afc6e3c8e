"""What a simulated control plane takes in, as the product's end of a link is to."""

from dataclasses import replace

from tests.simulation import messages as said
from tests.simulation.control import Link
from tests.simulation.network import Stream
from tests.simulation.run import SETTLE_SECONDS
from tests.simulation.schedule import Setting
from tests.simulation.world import World


def test_what_an_older_stream_brings_late_is_not_taken_in() -> None:
    """A cut path holds up what was said before it; the plane has dialled anew when it comes."""
    world = World(Setting(fleet="two", noise=1, seconds=20.0))
    while world.timeline.step(SETTLE_SECONDS):
        pass
    control, plane = world.leader, world.planes["gcp"]
    assert control is not None
    assert control.reign is not None
    reign, report = control.reign, plane.report()
    assert report.replicas
    older = reign.links["gcp"]
    newer = Link(stream := Stream(world.network, plane.agent, control.process), stream.server)
    control._take(newer, said.Hello(report=report, agent_id=plane.link.agent_id))
    heard_at = reign.registry.heard_at("gcp")
    world.timeline.now += 1.0
    control._take(older, said.Observed(report=replace(report, replicas=())))
    assert reign.registry.view("gcp").report == report
    assert reign.registry.heard_at("gcp") == heard_at
    assert not older.end.open
    assert reign.links["gcp"] is newer
