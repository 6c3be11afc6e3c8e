"""How often a stream is tried again, and when it is given up."""

from skerry.wire.continuation.refusals import Reason, Refusal
from workload_plane.relay.course import (
    BACKOFF,
    CONTINUATIONS_MAX,
    PROGRESS_TOKENS_MIN,
    SEARCH_SECONDS_MAX,
    Course,
    TryAgain,
    hindrance,
)


def begun() -> Course:
    course = Course()
    course.accept(0)
    return course


def test_a_stream_that_gets_on_is_continued_again_and_again_up_to_a_bound() -> None:
    course, tokens = begun(), 0
    for _ in range(CONTINUATIONS_MAX):
        tokens += PROGRESS_TOKENS_MIN
        assert isinstance(course.lose(tokens, now=0, random=0.5), TryAgain)
        course.accept(tokens)
    assert course.continuations == CONTINUATIONS_MAX
    tokens += PROGRESS_TOKENS_MIN
    assert course.lose(tokens, now=0, random=0.5) is Reason.TOO_OFTEN


def test_a_request_that_lost_two_replicas_with_little_between_is_suspect() -> None:
    course = begun()
    assert isinstance(course.lose(100, now=0, random=0.5), TryAgain)
    course.accept(100)
    assert course.lose(100 + PROGRESS_TOKENS_MIN - 1, now=0, random=0.5) is Reason.SUSPECT


def test_an_engine_that_dies_before_its_answer_begins_counts_as_lost() -> None:
    course = begun()
    assert isinstance(course.lose(100, now=0, random=0.5), TryAgain)
    # No accept between: the second died in the prefill.
    assert course.lose(100, now=1, random=0.5) is Reason.SUSPECT


def test_a_search_that_no_loss_began_has_the_same_bound() -> None:
    course = begun()
    course.search(now=5)
    assert isinstance(course.turn_away(0.0, now=6, random=0.5), TryAgain)
    late = 5 + SEARCH_SECONDS_MAX
    assert course.turn_away(0.0, now=late, random=0.5) is Reason.NOWHERE


def test_a_search_is_not_begun_anew_by_a_loss_within_it() -> None:
    course = begun()
    course.lose(100, now=0, random=0.5)
    course.accept(100)
    course.lose(100 + PROGRESS_TOKENS_MIN, now=50, random=0.5)
    assert isinstance(course.turn_away(0.0, now=100, random=0.5), TryAgain)


def test_progress_clears_a_request_of_suspicion() -> None:
    course = begun()
    assert isinstance(course.lose(0, now=0, random=0.5), TryAgain)
    course.accept(0)
    assert isinstance(course.lose(PROGRESS_TOKENS_MIN, now=0, random=0.5), TryAgain)


def test_a_replica_is_looked_for_with_growing_pauses_until_the_time_is_over() -> None:
    course, now = begun(), 100.0
    again = course.lose(50, now=now, random=1.0)
    pauses = []
    while isinstance(again, TryAgain):
        pauses.append(again.seconds)
        now += again.seconds
        again = course.turn_away(0.0, now=now, random=1.0)
    assert again is Reason.NOWHERE
    assert pauses == sorted(pauses)
    assert max(pauses) <= BACKOFF.max_seconds + 0.1
    assert SEARCH_SECONDS_MAX - 3 < now - 100.0 <= SEARCH_SECONDS_MAX


def test_whoever_says_when_to_come_again_is_not_asked_before() -> None:
    course = begun()
    course.lose(50, now=0, random=0.0)
    assert course.turn_away(7.0, now=1, random=0.0) == TryAgain(seconds=7.0)


def test_the_requests_own_reason_is_told_before_its_courses() -> None:
    seed = Refusal(reason=Reason.SEED)
    assert hindrance(seed, Reason.SUSPECT) == seed
    assert hindrance(object(), Reason.SUSPECT) == Refusal(reason=Reason.SUSPECT)
    assert hindrance(object(), TryAgain(seconds=0)) is None
