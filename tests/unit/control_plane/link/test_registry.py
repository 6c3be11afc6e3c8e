"""What the link remembers of planes: all of them at one moment, in order, and whether it moved."""

from collections.abc import Callable
from dataclasses import replace

import pytest

from control_plane.link.convert import encode_desired
from control_plane.link.push import Outbox
from control_plane.link.registry import RENEWED_SECONDS, Registry
from skerry.fleet.desired import DesiredState
from skerry.fleet.generation import Version
from skerry.plumbing.errors import Conflict
from tests.builders import a_report
from tests.fakes.clock import FakeClock

TIMEOUT_SECONDS = 3.0
FIRST = Version(epoch=1, generation=1)


class World:
    def __init__(self, *planes: str) -> None:
        self.clock = FakeClock()
        self.registry = Registry(self.clock, lambda: None)
        self.outboxes = {plane: self.open(plane) for plane in planes}

    def open(self, plane: str, agent_id: str = "agent", stream_number: int = 0) -> Outbox:
        report = a_report(plane)
        return self.registry.open(report, agent_id, TIMEOUT_SECONDS, stream_number=stream_number)

    def is_news(self, act: Callable[[], object]) -> bool:
        before = self.registry.news
        act()
        return self.registry.news > before


def test_planes_are_told_of_in_order_whatever_order_they_came_in() -> None:
    world = World("fra", "aws", "gcp")
    assert list(world.registry.observations()) == ["aws", "fra", "gcp"]
    assert list(world.registry.views()) == ["aws", "fra", "gcp"]
    world.open("azure")
    world.registry.hear("gcp")
    assert list(world.registry.observations()) == ["aws", "azure", "fra", "gcp"]


def test_a_look_at_all_links_is_what_a_look_at_each_is() -> None:
    world = World("fra", "aws")
    world.clock.advance(2.0)
    world.registry.hear("aws")
    world.registry.close("fra", world.outboxes["fra"])
    world.registry.refuse("aws", "too new")
    world.clock.advance(1.0)
    views = world.registry.views()
    assert views == {name: world.registry.view(name) for name in ("aws", "fra")}
    assert (views["aws"].connected, views["aws"].silent_seconds) == (True, 1.0)
    assert (views["fra"].connected, views["fra"].silent_seconds) == (False, 3.0)


def test_whatever_a_judgement_rests_on_but_time_is_news() -> None:
    world = World("fra")
    registry, report = world.registry, a_report("fra")
    assert world.is_news(lambda: registry.observe(replace(report, newest_epoch=4)))
    assert world.is_news(lambda: registry.acknowledge("fra", FIRST, b"digest"))
    assert world.is_news(lambda: registry.refuse("fra", "too new"))
    assert world.is_news(registry.fell_silent)
    assert world.is_news(lambda: registry.close("fra", world.outboxes["fra"]))
    known = registry.observations()["fra"].report
    # The same words on another stream: it is heard again.
    assert world.is_news(lambda: registry.open(known, "agent", TIMEOUT_SECONDS, stream_number=0))


def test_heartbeats_and_words_said_again_are_no_news_but_renew_when_a_plane_was_heard() -> None:
    world = World("fra")
    before = world.registry.observations()["fra"]
    world.clock.advance(RENEWED_SECONDS)
    assert not world.is_news(lambda: world.registry.hear("fra"))
    assert not world.is_news(lambda: world.registry.observe(a_report("fra")))
    after = world.registry.observations()["fra"]
    assert after.received_at > before.received_at
    assert after.report is before.report


def test_a_state_that_is_told_again_is_held_in_the_newer_bytes_and_not_sent_again() -> None:
    world = World("fra")
    payload, _ = encode_desired(DesiredState(plane="fra", version=FIRST))
    again = bytes(bytearray(payload))
    assert again is not payload
    world.registry.push("fra", FIRST, payload)
    assert world.outboxes["fra"].take_state() == (FIRST, payload)
    world.registry.push("fra", FIRST, again)
    outbox = world.open("fra")
    sent = outbox.take_state()
    assert sent is not None
    assert sent[1] is again


@pytest.mark.parametrize("ended", [False, True])
def test_a_stream_that_the_agent_opened_before_its_newest_is_refused(ended: bool) -> None:
    world = World()
    newest = world.open("fra", stream_number=3)
    if ended:  # what is older is given up all the same: the next one will be younger
        world.registry.close("fra", newest)
    world.clock.advance(1.0)
    with pytest.raises(Conflict, match="opened another"):
        world.open("fra", stream_number=2)
    view = world.registry.view("fra")
    assert (view.connected, view.silent_seconds) == (not ended, 1.0)
    assert world.open("fra", stream_number=4) is not newest


def test_a_stream_is_only_older_than_those_of_the_same_run_of_the_agent() -> None:
    world = World()
    world.registry.close("fra", world.open("fra", "run-1", 7))
    restarted = world.open("fra", "run-2", 1)
    assert world.registry.is_of("fra", restarted)


def test_an_agent_that_does_not_number_its_streams_is_taken_as_it_comes() -> None:
    world = World()
    world.open("fra")
    assert world.registry.is_of("fra", world.open("fra"))
