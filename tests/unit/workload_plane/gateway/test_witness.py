"""A witness testifies only against what it has seen alive."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from skerry.fleet.observation import PeerVerdict, PeerView
from tests.builders import T0
from workload_plane.gateway.status import GatewayStatus, PeerHealth
from workload_plane.gateway.witness import WARM_SECONDS, Look, Memory, remember, views_of

GONE = PeerHealth(reachable=False, serving=False)
IDLE = PeerHealth(reachable=True, serving=False)
GOOD = PeerHealth(reachable=True, serving=True)
UNCHECKED = PeerHealth()


def a_status(health: PeerHealth, uptime_seconds: int = 600) -> GatewayStatus:
    return GatewayStatus(
        live=True,
        versions={},
        rejected={},
        in_flight={},
        hosts={},
        peers={"fra": health},
        uptime_seconds=uptime_seconds,
    )


def at(second: float) -> Look:
    return Look(at=T0 + timedelta(seconds=second), at_seconds=500.0 + second)


def after(*looks: GatewayStatus | None) -> PeerView:
    """Return what is said of `fra` after these looks, one a second from T0 on."""
    memory: Memory = {}
    for second, status in enumerate(looks):
        memory = remember(memory, status, ("fra",), at(second))
    (view,) = views_of(memory)
    return view


@pytest.mark.parametrize(
    ("seen", "verdict", "is_against"),
    [
        ([GONE, GONE], PeerVerdict.UNKNOWN, False),  # it never answered: it may never have been
        ([UNCHECKED, GONE], PeerVerdict.UNKNOWN, False),
        ([GOOD, GONE], PeerVerdict.UNREACHABLE, True),
        ([IDLE, GONE], PeerVerdict.UNREACHABLE, False),  # it never had a replica to lose
        ([GOOD, UNCHECKED, GONE], PeerVerdict.UNREACHABLE, True),
        ([GOOD, IDLE], PeerVerdict.REACHABLE, True),  # its replicas were seen, and are gone
        ([IDLE, IDLE], PeerVerdict.REACHABLE, False),  # it never had a replica to lose
        ([GOOD, GONE, GOOD], PeerVerdict.SERVING, False),
        ([GOOD, UNCHECKED], PeerVerdict.UNKNOWN, False),
    ],
)
def test_only_what_was_seen_alive_can_be_seen_to_fail(
    seen: Sequence[PeerHealth], verdict: PeerVerdict, is_against: bool
) -> None:
    view = after(*map(a_status, seen))
    assert view.verdict is verdict
    assert view.is_against is is_against


def test_a_view_tells_since_when_it_holds_and_until_when_the_peer_served() -> None:
    looks = [GOOD, GOOD, GONE, GONE]
    assert after(*map(a_status, looks)) == PeerView(
        plane="fra",
        verdict=PeerVerdict.UNREACHABLE,
        since=T0 + timedelta(seconds=2),
        served_until=T0 + timedelta(seconds=1),
        served_until_seconds=501.0,
    )


def test_the_end_of_service_is_dated_by_when_it_was_seen_last() -> None:
    """An agent that hung for an hour must not tell that the peer failed when it came back."""
    memory = remember({}, a_status(GOOD), ("fra",), at(0))
    (view,) = views_of(remember(memory, a_status(GONE), ("fra",), at(3600)))
    assert (view.since, view.served_until) == (T0 + timedelta(hours=1), T0)
    assert view.served_until_seconds == 500.0


def test_what_follows_the_end_of_service_does_not_date_it_anew() -> None:
    told = after(*map(a_status, [GOOD, IDLE, IDLE, GONE]))
    assert (told.since, told.served_until) == (T0 + timedelta(seconds=3), T0)


def test_an_agent_that_starts_anew_testifies_against_nobody() -> None:
    memory = remember({}, a_status(GONE), ("fra",), at(0))
    assert views_of(memory)[0].verdict is PeerVerdict.UNKNOWN


def test_a_gateway_that_just_started_testifies_against_nobody() -> None:
    fresh = [a_status(health, uptime_seconds=WARM_SECONDS - 1) for health in (GONE, IDLE)]
    for status in fresh:
        assert after(a_status(GOOD), status).verdict is PeerVerdict.UNKNOWN
    assert after(a_status(GOOD, uptime_seconds=0)).verdict is PeerVerdict.SERVING


def test_a_gateway_that_does_not_answer_knows_nothing_and_forgets_nothing() -> None:
    silent = after(a_status(GOOD), None)
    assert silent.verdict is PeerVerdict.UNKNOWN
    assert after(a_status(GOOD), None, a_status(GONE)).is_against


def test_a_peer_that_is_not_named_any_more_is_forgotten() -> None:
    memory = remember({}, a_status(GOOD), ("fra",), at(0))
    assert views_of(remember(memory, a_status(GOOD), (), at(1))) == ()
