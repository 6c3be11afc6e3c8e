"""A client remembers who answered, says what it tried, and goes on behind the last change."""

import pytest

from skerry.client import operator_calls as calls
from skerry.client.retrying import LEADER, NO_RETRIES, RetryPolicy
from skerry.client.steering import SILENT_SECONDS, WATCH_PAUSE, WATCH_TRIES_MAX, Steering
from skerry.plumbing.errors import (
    DeadlineExceeded,
    Exhausted,
    InvalidInput,
    NotLeading,
    OutOfRange,
    SkerryError,
    Unavailable,
)
from skerry.plumbing.ids import SystemIds
from tests.builders import a_deployment
from tests.fakes.clock import FakeClock

READ = calls.get_plane("default", "a")
WRITE = calls.apply_deployment("default", a_deployment("a"), "id-1")


@pytest.fixture
def clock() -> FakeClock:
    """Time that stands still."""
    return FakeClock()


def a_steering(clock: FakeClock, *endpoints: str, policy: RetryPolicy = NO_RETRIES) -> Steering:
    return Steering(endpoints or ("a:1", "b:2"), policy, clock, SystemIds(clock))


def test_who_answered_last_is_asked_first(clock: FakeClock) -> None:
    steering = a_steering(clock)
    course, pause = steering.failed(steering.begin(WRITE), WRITE, NotLeading("not I"))
    assert (course.endpoint, pause) == ("b:2", 0.0)
    steering.answered(course)
    assert steering.begin(READ).endpoint == "b:2"


def test_who_does_not_answer_is_not_asked_first_again(clock: FakeClock) -> None:
    steering = a_steering(clock)
    course = steering.begin(READ)
    others = steering.begin(READ)  # another thread's, at the same time
    steering.failed(course, READ, Unavailable("gone"))
    steering.failed(others, READ, Unavailable("gone"))
    assert steering.begin(READ).endpoint == "b:2"


def test_one_that_hung_is_asked_last_for_a_while_and_then_as_before(clock: FakeClock) -> None:
    steering = a_steering(clock, policy=RetryPolicy())
    course = steering.begin(WRITE)
    clock.advance(2.0)  # as long as one connection try
    course, _ = steering.failed(course, WRITE, Unavailable("no connection"))
    assert course.endpoint == "b:2"
    named = NotLeading("not I", hints={LEADER: "a:1"})
    course, pause = steering.failed(course, WRITE, named)
    assert course.endpoint == "b:2", "the standby that is about to lead, not the one that hangs"
    assert pause > 0.0
    assert steering.begin(READ).endpoint == "b:2"
    clock.advance(SILENT_SECONDS)
    course, _ = steering.failed(course, WRITE, named)
    assert course.endpoint == "a:1"


def test_after_a_missed_deadline_the_next_call_begins_elsewhere(clock: FakeClock) -> None:
    steering = a_steering(clock)
    with pytest.raises(DeadlineExceeded):
        steering.failed(steering.begin(READ), READ, DeadlineExceeded("x"))
    assert steering.begin(READ).endpoint == "b:2"
    course, _ = steering.failed(steering.begin(READ), READ, NotLeading("not I"))
    assert course.endpoint == "a:1", "it may only have been a hard question"


def hang(steering: Steering, clock: FakeClock) -> None:
    """Have the first attempt of a call find nobody in the time of a connection try."""
    course = steering.begin(READ)
    clock.advance(2.0)
    steering.failed(course, READ, Unavailable("no connection"))


def test_who_answers_again_hangs_no_more(clock: FakeClock) -> None:
    steering = a_steering(clock)
    hang(steering, clock)
    course, _ = steering.failed(steering.begin(READ), READ, Unavailable("refused"))
    assert course.endpoint == "a:1", "hanging or not, there is no other"
    steering.answered(course)
    assert steering.begin(READ).endpoint == "a:1"


def test_a_watch_does_not_go_to_a_leader_that_hangs(clock: FakeClock) -> None:
    steering = a_steering(clock, "a:1", "b:2", "c:3")
    watch = steering.watch(0)
    hang(steering, clock)
    watch.at = 1
    watch.broke(NotLeading("not I", hints={LEADER: "a:1"}))
    assert watch.at == 2


def test_every_attempt_gets_what_is_left_of_the_call(clock: FakeClock) -> None:
    steering = a_steering(clock)
    course = steering.begin(READ)
    assert steering.seconds_left(course) == calls.READ_SECONDS_MAX
    clock.advance(4.0)
    course, _ = steering.failed(course, READ, Unavailable("gone"))
    assert steering.seconds_left(course) == calls.READ_SECONDS_MAX - 4.0
    clock.advance(60.0)
    assert steering.seconds_left(course) == 0.0


def test_what_is_final_comes_out_as_it_was_told(clock: FakeClock) -> None:
    steering = a_steering(clock)
    for error in (InvalidInput("wrong", field="name"), Exhausted("too long")):
        with pytest.raises(SkerryError) as caught:
            steering.failed(steering.begin(WRITE), WRITE, error)
        assert caught.value is error


def test_a_missed_deadline_says_of_what_and_that_it_may_have_happened(clock: FakeClock) -> None:
    steering = a_steering(clock)
    told = "ApplyDeployment was not answered by a:1 within its 30 s; a write may have taken effect"
    with pytest.raises(DeadlineExceeded, match=told):
        steering.failed(steering.begin(WRITE), WRITE, DeadlineExceeded("Deadline Exceeded"))


def test_when_nobody_answers_the_error_says_who_was_asked_and_why_no_more(
    clock: FakeClock,
) -> None:
    steering = a_steering(clock)
    course, _ = steering.failed(steering.begin(READ), READ, Unavailable("gone"))
    told = (
        r"no control plane answers at a:1, b:2: refused \(2 attempts; it was tried often enough\);"
        " serving goes on without it"
    )
    with pytest.raises(Unavailable, match=told) as caught:
        steering.failed(course, READ, Unavailable("refused\nand more", retry_after_seconds=1.5))
    assert caught.value.retry_after_seconds == 1.5


def test_when_nobody_leads_the_error_is_still_of_that_kind(clock: FakeClock) -> None:
    steering = a_steering(clock, "a:1")
    with pytest.raises(NotLeading, match="1 attempt;"):
        steering.failed(steering.begin(WRITE), WRITE, NotLeading("not I"))


def test_a_watch_goes_on_elsewhere_behind_the_last_change(clock: FakeClock) -> None:
    watch = a_steering(clock).watch(7)
    watch.opened()
    assert [watch.saw(sequence) for sequence in (8, 9, 9, 8, 10)] == [
        True,
        True,
        False,
        False,
        True,
    ]
    assert watch.at == 0
    assert watch.broke(Unavailable("gone", retry_after_seconds=4.0)) == 0.0
    assert (watch.at, watch.sequence) == (1, 10)
    assert watch.broke(Unavailable("gone", retry_after_seconds=4.0)) >= 4.0, "all were asked"


def test_a_stream_that_writes_goes_to_the_leader_at_once(clock: FakeClock) -> None:
    drain = a_steering(clock, "a:1", "b:2", "c:3").watch(0)
    drain.opened()
    error = NotLeading("not I", hints={LEADER: "c:3"}, retry_after_seconds=2.0)
    assert (drain.broke(error), drain.at) == (0.0, 2)


def test_a_watch_waits_as_long_as_it_is_told(clock: FakeClock) -> None:
    watch = a_steering(clock).watch(0)
    watch.opened()
    assert watch.broke(Exhausted("too many", retry_after_seconds=4.0)) >= 4.0
    assert watch.at == 0, "the limit is that control plane's"


def test_a_watch_ends_where_changes_were_forgotten_or_nobody_answers(clock: FakeClock) -> None:
    with pytest.raises(OutOfRange):
        a_steering(clock).watch(0).broke(OutOfRange("forgotten"))
    watch = a_steering(clock).watch(0)
    watch.opened()
    for _ in range(WATCH_TRIES_MAX - 1):
        watch.broke(Unavailable("gone"))
    with pytest.raises(Unavailable, match="no control plane answers at a:1, b:2: gone"):
        watch.broke(Unavailable("gone"))


def test_a_watch_that_was_answered_or_lived_begins_to_count_anew(clock: FakeClock) -> None:
    watch = a_steering(clock).watch(0)
    for sequence in range(1, 3 * WATCH_TRIES_MAX):
        watch.opened()
        watch.saw(sequence)
        watch.broke(Unavailable("gone"))
    for _ in range(3 * WATCH_TRIES_MAX):
        watch.opened()
        clock.advance(WATCH_PAUSE.max_seconds + 1)
        watch.broke(Unavailable("cut by a proxy"))
