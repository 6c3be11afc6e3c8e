"""How old what a plane said of its peers is, whatever comes between its words and a look."""

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from control_plane.link.registry import Registry
from control_plane.link.service import _told
from skerry.api.plane.v1 import plane_service_pb2 as messages
from skerry.fleet.generation import Version
from skerry.fleet.observation import PeerVerdict, PlaneReport
from skerry.wire.observations import report_from_proto, report_to_proto
from tests.builders import a_report, a_view
from tests.fakes.clock import FakeClock

REPORT = a_report("aws", peers=(a_view("fra", PeerVerdict.UNREACHABLE, 3.0),))


class World:
    def __init__(self) -> None:
        self.clock, self.woken = FakeClock(), 0
        self.registry = Registry(self.clock, self.wake)
        self.registry.open(REPORT, "agent", 3.0, stream_number=1)

    def wake(self) -> None:
        self.woken += 1

    def later(self, report: PlaneReport) -> PlaneReport:
        """Return the report as the plane tells it now, its clock having gone on as ours did."""
        passed = self.clock.monotonic() - 1_000.0
        assert REPORT.told_at_seconds is not None
        return replace(report, told_at_seconds=REPORT.told_at_seconds + passed)

    @property
    def age(self) -> float:
        """Return for how long the witness has not seen `fra` serve, as it is known here."""
        link = self.registry.view("aws")
        assert link.report is not None
        told, age = link.report.told_at_seconds, link.report_age_seconds
        until = link.report.peers[0].served_until_seconds
        assert told is not None
        assert age is not None
        assert until is not None
        return told + age - until


def test_an_age_grows_with_time_however_the_report_is_said_again() -> None:
    world = World()
    assert world.age == pytest.approx(3.0)
    world.clock.advance(10.0)
    world.registry.hear("aws")  # a heartbeat says nothing of peers
    assert world.age == pytest.approx(13.0)
    woken = world.woken
    world.registry.observe(world.later(REPORT))  # nothing new in it
    assert world.age == pytest.approx(13.0)
    assert world.woken == woken
    world.clock.advance(10.0)
    world.registry.acknowledge("aws", Version(epoch=1, generation=7))
    assert world.age == pytest.approx(23.0)
    world.clock.advance(10.0)
    world.registry.observe(world.later(replace(REPORT, newest_epoch=1)))
    assert world.age == pytest.approx(33.0)
    world.clock.step_wall(3600.0)
    assert world.age == pytest.approx(33.0)


def test_what_a_plane_tells_of_its_peers_survives_the_wire() -> None:
    assert REPORT.told_at_seconds is not None
    back = report_from_proto(report_to_proto(REPORT))
    assert back == REPORT
    assert back.told_at_seconds == REPORT.told_at_seconds
    assert back.peers[0].served_until_seconds == REPORT.peers[0].served_until_seconds


@pytest.mark.parametrize("shown", [None, float("nan"), float("inf"), float("-inf")])
def test_a_clock_that_shows_no_time_was_not_told(shown: float | None) -> None:
    message = report_to_proto(REPORT)
    for told, field in (
        (message, "told_seconds"),
        (message.peers[0], "served_until_seconds"),
    ):
        told.ClearField(field)
        if shown is not None:
            setattr(told, field, shown)
    back = report_from_proto(message)
    assert back.told_at_seconds is None
    assert back.peers[0].served_until_seconds is None
    assert back.peers[0].served_until is not None


def told_at(seconds: float, **fields: Any) -> messages.Observed:
    message = report_to_proto(replace(REPORT, **fields))
    message.told_seconds = seconds
    return message


def test_a_report_that_is_said_again_is_known_by_all_but_when_it_was_told() -> None:
    first = told_at(1.0)
    assert _told(first) == _told(told_at(2.0))
    assert first.told_seconds == 1.0
    other = replace(REPORT.peers[0], since=REPORT.peers[0].served_until)
    assert other.since is not None
    moved = replace(other, since=other.since + timedelta(seconds=1))
    assert _told(told_at(1.0, peers=(moved,))) != _told(told_at(1.0, peers=(other,)))
