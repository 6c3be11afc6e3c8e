"""When a standby may try for leadership, and when a leader's run is over: pure decisions."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from control_plane.leading.outage import OUTAGE_SECONDS_MIN, DatabaseSight
from control_plane.leading.term import (
    LINKS_KEPT_SECONDS,
    LOOK_SECONDS,
    RENEW_AGAIN_SECONDS,
    RENEW_SECONDS,
    TERM_SECONDS,
    Seen,
    Term,
    is_acting,
    should_acquire,
    should_step_down,
    term_from,
)
from control_plane.store.database_clock import IDLE_SECONDS_MAX

TIMES = st.floats(min_value=0, max_value=1e6, allow_nan=False)


@pytest.mark.parametrize(
    ("seconds_left", "tries"), [(None, True), (-0.1, True), (0.0, True), (0.1, False)]
)
def test_a_standby_tries_only_where_nobody_leads_in_time(
    seconds_left: float | None, tries: bool
) -> None:
    assert should_acquire(Seen(epoch=3, seconds_left=seconds_left)) is tries


@given(asked_at=TIMES, later=st.floats(min_value=0, max_value=100, allow_nan=False))
def test_a_leader_never_acts_longer_than_the_database_grants(asked_at: float, later: float) -> None:
    """The database's term begins after the question; ours ends a term after the question."""
    term = term_from(1, asked_at)
    granted_at = asked_at + min(later, TERM_SECONDS)
    assert not is_acting(term, granted_at + TERM_SECONDS)
    assert is_acting(term, asked_at)
    renewed = term.renewed(asked_at + later)
    assert renewed.until == pytest.approx(asked_at + later + TERM_SECONDS)


def test_a_late_answer_to_an_early_renewal_shortens_nothing() -> None:
    term = term_from(1, 10.0).renewed(12.0)
    assert term.renewed(11.0) == term


def test_nobody_acts_without_a_term() -> None:
    assert not is_acting(None, 0.0)
    with pytest.raises(ValueError, match="epoch 0"):
        term_from(0, 0.0)


@given(now=TIMES, epoch=st.integers(min_value=2, max_value=9))
def test_another_epoch_ends_the_run_whatever_the_time(now: float, epoch: int) -> None:
    term = Term(epoch=epoch, until=1e9)
    assert should_step_down(term, epoch + 1, now)
    assert should_step_down(term, epoch - 1, now)
    assert not should_step_down(term, epoch, now)


def test_a_silent_database_ends_the_run_only_once_the_planes_must_be_free() -> None:
    term = Term(epoch=1, until=100.0)
    assert not should_step_down(term, None, 100.0 + LINKS_KEPT_SECONDS - 0.1)
    assert should_step_down(term, None, 100.0 + LINKS_KEPT_SECONDS)
    assert not should_step_down(Term(epoch=1, until=float("inf")), None, 1e9)


def test_a_takeover_fits_into_five_seconds_and_a_term_outlives_two_late_renewals() -> None:
    assert TERM_SECONDS + LOOK_SECONDS < 4.0
    assert 2 * RENEW_SECONDS + RENEW_AGAIN_SECONDS < TERM_SECONDS
    assert IDLE_SECONDS_MAX < TERM_SECONDS  # a paused leader's lock is gone before its term is


def test_an_outage_is_told_from_its_beginning_to_long_after() -> None:
    sight = DatabaseSight()
    sight.note_ok(0.0)
    assert sight.seconds_since_back(5.0) is None
    sight.note_failure(10.0)
    assert sight.seconds_since_back(10.0) is None
    sight.note_failure(12.0)
    assert sight.seconds_since_back(10.0 + OUTAGE_SECONDS_MIN) == 0.0
    sight.note_ok(40.0)
    assert sight.seconds_since_back(45.0) == 5.0


def test_a_hiccup_is_no_outage() -> None:
    sight = DatabaseSight()
    sight.note_failure(10.0)
    sight.note_ok(10.0 + OUTAGE_SECONDS_MIN / 2)
    sight.note_failure(20.0)
    sight.note_ok(20.5)
    assert sight.seconds_since_back(30.0) is None
