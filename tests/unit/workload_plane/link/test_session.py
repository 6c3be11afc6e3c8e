"""The session's table, the judgement of heartbeats, and the pauses between connections."""

import pytest

from workload_plane.link.session import (
    IllegalTransition,
    Judgement,
    Pulse,
    SessionEvent,
    SessionState,
    Terms,
    accepts_pushes,
    advance,
    heard,
    heartbeat_sent,
    judge,
    quiet_until,
    reconnect_delay,
    targets_hold,
    terms_of,
    told_delay,
)

TERMS = Terms(period_seconds=1.0, timeout_seconds=3.0)


def test_a_session_goes_from_hello_to_linked_and_back() -> None:
    state = advance(SessionState.IDLE, SessionEvent.DIALLED)
    state = advance(state, SessionEvent.WELCOMED)
    assert accepts_pushes(state)
    muted = advance(state, SessionEvent.UNANSWERED)
    assert not accepts_pushes(muted)
    assert accepts_pushes(advance(muted, SessionEvent.ANSWERED))
    assert advance(muted, SessionEvent.LOST) is SessionState.IDLE


def test_pushes_before_the_welcome_are_not_accepted() -> None:
    assert not accepts_pushes(SessionState.GREETING)


def test_targets_are_followed_while_linked_unless_the_control_plane_calls_them_old() -> None:
    assert targets_hold(SessionState.LINKED, True)
    assert targets_hold(SessionState.LINKED, None), "one of an earlier release says nothing"
    assert not targets_hold(SessionState.LINKED, False)
    for state in (SessionState.IDLE, SessionState.GREETING, SessionState.MUTED):
        assert not targets_hold(state, True)


def test_a_second_welcome_is_refused_by_name() -> None:
    with pytest.raises(IllegalTransition, match="WELCOMED cannot happen to a LINKED"):
        advance(SessionState.LINKED, SessionEvent.WELCOMED)


def test_a_silent_peer_is_lost_after_the_timeout() -> None:
    pulse = Pulse(heard_at=10.0)
    assert judge(pulse, TERMS, 13.0) is Judgement.ALIVE
    assert judge(pulse, TERMS, 13.1) is Judgement.LOST


def test_a_peer_that_does_not_hear_us_is_noticed_and_then_lost() -> None:
    pulse = Pulse(heard_at=10.0)
    for now in range(10, 17):
        pulse = heard(heartbeat_sent(pulse, float(now)), float(now), 0)
    assert judge(pulse, TERMS, 12.9) is Judgement.ALIVE
    assert judge(pulse, TERMS, 13.5) is Judgement.UNANSWERED
    assert judge(pulse, TERMS, 16.5) is Judgement.LOST


def test_answered_heartbeats_keep_the_session_alive_for_ever() -> None:
    pulse = Pulse(heard_at=0.0)
    for now in range(1, 500):
        pulse = heartbeat_sent(pulse, float(now))
        pulse = heard(pulse, now + 0.5, pulse.sent)
        assert judge(pulse, TERMS, now + 0.9) is Judgement.ALIVE
    assert pulse.unanswered_since is None


def test_an_old_or_invented_echo_proves_nothing() -> None:
    pulse = heartbeat_sent(heartbeat_sent(Pulse(heard_at=0.0), 1.0), 2.0)
    answered = heard(pulse, 2.5, 2)
    assert heard(answered, 3.0, 1).echoed == 2
    assert heard(pulse, 3.0, 99).echoed == 2


def test_the_control_planes_terms_are_followed_within_reason() -> None:
    assert terms_of(0, 0) == Terms()
    assert terms_of(2_000, 6_000) == Terms(period_seconds=2.0, timeout_seconds=6.0)
    assert terms_of(1_000, 10).timeout_seconds == 2.0
    assert terms_of(10**9, 1).period_seconds == 30.0


def test_first_returns_are_quick_and_later_ones_spread_by_the_size_of_the_fleet() -> None:
    assert [reconnect_delay(0, 0.0), reconnect_delay(2, 0.999)] == [0.2, pytest.approx(1.0, 0.01)]
    assert reconnect_delay(50, 0.999, planes=3) < 2.0
    assert 25.0 < reconnect_delay(50, 0.999, planes=100_000) < 30.0
    assert reconnect_delay(50, 0.0, planes=100_000) == 0.2


def test_a_large_fleet_spreads_its_return_from_the_first_try_on() -> None:
    delays = [reconnect_delay(0, n / 1_000, planes=4_500) for n in range(1_000)]
    assert max(delays) > 29.9
    busiest = max(sum(second <= d < second + 1 for d in delays) for second in range(30))
    assert busiest <= 35  # of 1,000 in a second: evenly spread
    assert reconnect_delay(1, 0.999, planes=600) < 4.0


def test_who_is_told_when_to_come_again_comes_then_and_not_before() -> None:
    assert told_delay(4.0, 0.0) == 4.0
    assert 4.0 < told_delay(4.0, 0.999) <= 4.4
    assert told_delay(10**9, 0.0) == 60.0
    assert told_delay(0.0, 0.0) == 0.2


def test_the_next_look_is_when_silence_would_change_the_judgement() -> None:
    pulse = heartbeat_sent(Pulse(heard_at=10.0), 10.5)
    assert quiet_until(pulse, TERMS, 11.0) == 13.0
    late = heard(pulse, 13.0, 0)
    assert quiet_until(late, TERMS, 13.0) == 13.5  # muted then
    assert quiet_until(late, TERMS, 13.6) == 16.0  # silent, before its heartbeats are given up
    talking = heard(late, 15.0, 0)
    assert quiet_until(talking, TERMS, 15.0) == 16.5
