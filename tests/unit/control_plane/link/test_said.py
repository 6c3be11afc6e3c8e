"""What was heard of a plane before its newest report, by our own monotonic clock."""

import math
from dataclasses import replace

from control_plane.link.registry import Registry
from control_plane.reconcile.snapshot import Told
from skerry.fleet.observation import PeerVerdict, PeerView, PlaneReport, ReplicaState
from tests.builders import a_replica, a_report
from tests.fakes.clock import FakeClock

SERVING, GONE = PeerVerdict.SERVING, PeerVerdict.UNREACHABLE
UNKNOWN, REACHABLE = PeerVerdict.UNKNOWN, PeerVerdict.REACHABLE


class Heard:
    """A registry that hears one plane, a message each second."""

    def __init__(self, told_at_seconds: float | None = None) -> None:
        self.clock = FakeClock()
        self.registry = Registry(self.clock, lambda: None)
        self.told_at_seconds = told_at_seconds

    def report(self, verdict: PeerVerdict, *states: ReplicaState) -> PlaneReport:
        replicas = tuple(a_replica(state=state, name=f"r{n}") for n, state in enumerate(states))
        peers = (PeerView(plane="fra", verdict=verdict),)
        report = a_report("aws", peers=peers, replicas=replicas)
        return replace(report, told_at_seconds=self.told_at_seconds)

    def say(self, verdict: PeerVerdict, *states: ReplicaState) -> None:
        report = self.report(verdict, *states)
        if not self.registry.view("aws").connected:
            self.registry.open(report, "agent", 3.0, stream_number=1)
        else:
            self.registry.hear("aws")
            self.registry.observe(report)

    def beat(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1.0)
            self.registry.hear("aws")

    def end(self) -> None:
        outbox = self.registry._planes["aws"].outbox
        assert outbox is not None
        self.registry.close("aws", outbox)

    def told(self) -> Told | None:
        return self.registry.view("aws").told.get("fra")


def test_replicas_are_missing_since_the_first_report_without_a_ready_one() -> None:
    heard = Heard()
    heard.say(SERVING, ReplicaState.READY, ReplicaState.STARTING)
    heard.beat(60)
    assert heard.registry.view("aws").unready_seconds is None
    heard.say(SERVING, ReplicaState.FAILED, ReplicaState.STARTING)
    heard.beat(5)
    heard.say(SERVING, ReplicaState.STARTING)
    heard.beat(5)
    assert heard.registry.view("aws").unready_seconds == 10.0
    heard.say(SERVING, ReplicaState.READY)
    assert heard.registry.view("aws").unready_seconds is None


def test_a_plane_that_comes_without_any_had_them_until_then_for_all_that_is_known() -> None:
    heard = Heard()
    heard.say(SERVING)
    heard.beat(7)
    assert heard.registry.view("aws").unready_seconds == 7.0


def test_of_a_witness_that_tells_no_ages_the_last_word_that_it_sees_a_peer_serve_is_kept() -> None:
    heard = Heard()
    heard.say(SERVING)
    heard.beat(60)
    assert heard.told() is None
    heard.clock.advance(1.0)
    heard.say(UNKNOWN)
    assert heard.told() == Told(served_seconds=1.0, denied_seconds=0.0)
    heard.beat(5)
    heard.say(GONE)
    heard.beat(5)
    assert heard.told() == Told(served_seconds=11.0, denied_seconds=10.0, unreachable_seconds=5.0)
    heard.say(REACHABLE)
    assert heard.told() == Told(served_seconds=11.0, denied_seconds=10.0)
    heard.say(SERVING)
    assert heard.told() is None


def test_what_it_saw_while_it_was_silent_itself_may_have_ended_at_once() -> None:
    heard = Heard()
    heard.say(SERVING)
    heard.beat(10)
    heard.end()
    heard.clock.advance(3600.0)
    heard.say(GONE)
    told = Told(served_seconds=3600.0, denied_seconds=0.0, unreachable_seconds=math.inf)
    assert heard.told() == told


def test_what_was_never_heard_to_serve_is_not_known_to_have_ended() -> None:
    heard = Heard()
    heard.say(GONE)
    heard.beat(10)
    assert heard.told() == Told(unreachable_seconds=math.inf)
    heard.say(GONE, ReplicaState.READY)
    assert heard.told() == Told(unreachable_seconds=math.inf)


def test_what_it_says_again_after_a_silence_may_have_been_otherwise_meanwhile() -> None:
    heard = Heard()
    heard.say(SERVING, ReplicaState.READY)
    heard.beat(10)
    heard.say(GONE)
    heard.beat(10)
    heard.end()
    heard.clock.advance(60.0)
    heard.say(GONE)
    heard.beat(1)
    assert heard.registry.view("aws").unready_seconds == 1.0
    assert heard.told() == Told(
        served_seconds=71.0, denied_seconds=71.0, unreachable_seconds=math.inf
    )


def test_a_peer_that_is_named_no_more_is_forgotten() -> None:
    heard = Heard()
    heard.say(SERVING)
    heard.say(GONE)
    heard.registry.observe(replace(heard.report(GONE), peers=()))
    heard.say(GONE)
    assert heard.told() == Told(unreachable_seconds=0.0)
