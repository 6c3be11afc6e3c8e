"""Asking again: bounded in time, in number and by the budget, and never where it could do harm."""

from dataclasses import replace

import pytest
from hypothesis import given
from hypothesis import strategies as st

from skerry.client.operator_calls import READ_SECONDS_MAX
from skerry.client.retrying import (
    ATTEMPT_SECONDS_MIN,
    BUDGET_TENTHS_MAX,
    LEADER,
    NO_RETRIES,
    RETRY_TENTHS,
    Course,
    GiveUp,
    RetryBudget,
    RetryPolicy,
    Step,
    is_silence,
)
from skerry.plumbing.errors import (
    AlreadyExists,
    Conflict,
    Corrupt,
    DeadlineExceeded,
    Denied,
    Exhausted,
    Infeasible,
    InvalidInput,
    NotFound,
    NotLeading,
    OutOfRange,
    SkerryError,
    StaleGeneration,
    Unauthenticated,
    Unavailable,
)
from skerry.plumbing.tasks import Backoff

NOW = 1_000.0
FULL = RetryBudget()
ENDPOINTS = ("a:1", "b:2", "c:3")
FINAL = (
    SkerryError,
    NotFound,
    AlreadyExists,
    Conflict,
    StaleGeneration,
    Infeasible,
    DeadlineExceeded,
    InvalidInput,
    OutOfRange,
    Denied,
    Unauthenticated,
    Corrupt,
)

waits = st.none() | st.floats(0, 5)
passing = st.one_of(
    st.builds(lambda wait: Unavailable("x", retry_after_seconds=wait), waits),
    st.builds(
        lambda wait, leader: NotLeading("x", retry_after_seconds=wait, hints={LEADER: leader}),
        waits,
        st.sampled_from((*ENDPOINTS, "elsewhere:9", "")),
    ),
    st.builds(lambda wait: Exhausted("x", retry_after_seconds=wait), st.floats(0, 5)),
)
chances = st.floats(0, 1, exclude_max=True)
policies = st.builds(
    RetryPolicy,
    rounds_max=st.integers(1, 8),
    window=st.builds(Backoff, initial_seconds=st.floats(0.01, 1), max_seconds=st.floats(1, 5)),
)


def a_course(
    count: int = 3, seconds: float = 60.0, *, at: int = 0, is_repeatable: bool = True
) -> Course:
    return Course(
        endpoints=ENDPOINTS[:count], deadline=NOW + seconds, is_repeatable=is_repeatable, at=at
    )


def decided(course: Course, error: SkerryError, budget: RetryBudget = FULL) -> Step | GiveUp:
    return RetryPolicy().after_failure(course, error, budget, NOW, 0.5)


def stepped(course: Course, error: SkerryError) -> Step:
    step = decided(course, error)
    assert isinstance(step, Step)
    return step


@given(
    policy=policies,
    course=st.builds(a_course, st.integers(1, 3), st.floats(0.1, 60)),
    tenths=st.integers(0, BUDGET_TENTHS_MAX),
    failures=st.lists(st.tuples(passing, chances, st.floats(0, 3)), min_size=30, max_size=30),
)
def test_however_calls_fail_asking_again_is_bounded_in_time_number_and_budget(
    policy: RetryPolicy,
    course: Course,
    tenths: int,
    failures: list[tuple[SkerryError, float, float]],
) -> None:
    budget, now = RetryBudget(tenths=tenths), NOW
    asked_at: dict[int, float] = {}  # when each may be asked again, by what it told
    for error, chance, seconds in failures:
        now += seconds  # how long the attempt took
        asked_at[course.at] = now + (error.retry_after_seconds or 0.0)
        step = policy.after_failure(course, error, budget, now, chance)
        if isinstance(step, GiveUp):
            break
        now += step.pause_seconds
        assert now + ATTEMPT_SECONDS_MIN <= course.deadline
        assert now >= asked_at.get(step.course.at, NOW) - 1e-9, "it said when to come back"
        is_new_round = step.course.round > course.round
        assert budget.tenths - step.budget.tenths == (RETRY_TENTHS if is_new_round else 0)
        assert is_new_round or step.pause_seconds == 0.0
        assert step.course.attempts == course.attempts + 1
        assert step.course.deadline == course.deadline
        course, budget = step.course, step.budget
    else:
        pytest.fail("it went on without end")
    assert course.attempts <= policy.rounds_max * len(course.endpoints)


@given(
    error=st.sampled_from(FINAL),
    wait=waits,
    count=st.integers(1, 3),
    is_repeatable=st.booleans(),
)
def test_what_would_fail_again_or_may_have_happened_is_not_asked_again(
    error: type[SkerryError], wait: float | None, count: int, is_repeatable: bool
) -> None:
    course = a_course(count, is_repeatable=is_repeatable)
    assert decided(course, error("x", retry_after_seconds=wait)) is GiveUp.KIND


def test_a_limit_that_does_not_say_when_is_final() -> None:
    assert decided(a_course(), Exhausted("too long")) is GiveUp.KIND


@given(error=passing)
def test_what_may_not_happen_twice_is_asked_again_only_where_nothing_was_done(
    error: SkerryError,
) -> None:
    step = decided(a_course(is_repeatable=False), error)
    assert (step is GiveUp.EFFECT) == (not isinstance(error, NotLeading))


def test_every_control_plane_is_asked_once_at_once_whatever_the_budget() -> None:
    course, asked = a_course(at=1), [1]
    for _ in range(2):
        step = decided(course, Unavailable("x", retry_after_seconds=9.0), RetryBudget(tenths=0))
        assert isinstance(step, Step)
        assert step.pause_seconds == 0.0
        course = step.course
        asked.append(course.at)
    assert asked == [1, 2, 0]
    assert decided(course, Unavailable("x"), RetryBudget(tenths=0)) is GiveUp.BUDGET


def test_the_leader_that_is_named_is_asked_next_at_once() -> None:
    step = stepped(a_course(), NotLeading("x", hints={LEADER: "c:3"}, retry_after_seconds=2.0))
    assert (step.course.endpoint, step.pause_seconds) == ("c:3", 0.0)
    assert step.budget == RetryBudget()


def test_nobody_sends_a_client_to_an_address_it_was_not_given() -> None:
    step = stepped(a_course(), NotLeading("x", hints={LEADER: "evil:666"}))
    assert step.course.endpoint == "b:2"


def test_a_leader_that_did_not_answer_is_the_first_of_the_next_round() -> None:
    course = stepped(a_course(2), Unavailable("x")).course
    step = stepped(course, NotLeading("x", hints={LEADER: "a:1"}, retry_after_seconds=2.0))
    assert (step.course.endpoint, step.course.round) == ("a:1", 1)
    assert step.pause_seconds >= 2.0


def test_a_leader_that_hangs_is_not_asked_again_before_the_others() -> None:
    named = NotLeading("x", hints={LEADER: "a:1"})
    hung = replace(a_course(at=1), silent=frozenset({0}))
    step = stepped(hung, named)
    assert (step.course.endpoint, step.course.round) == ("c:3", 0)
    again = stepped(replace(step.course, silent=frozenset({0})), named)
    assert (again.course.endpoint, again.course.round) == ("b:2", 1), "a:1 is left out of the round"


def test_one_that_hangs_is_the_last_where_there_is_no_other_round() -> None:
    hung = replace(a_course(2, at=1), silent=frozenset({0}))
    for policy, budget in ((NO_RETRIES, FULL), (RetryPolicy(), RetryBudget(tenths=0))):
        step = policy.after_failure(hung, NotLeading("x"), budget, NOW, 0.5)
        assert isinstance(step, Step)
        assert (step.course.endpoint, step.course.round) == ("a:1", 0)


def test_when_all_hang_all_are_asked_in_turn() -> None:
    course, asked = replace(a_course(), silent=frozenset({0, 1, 2})), [0]
    for _ in range(3):
        course = stepped(course, Unavailable("x")).course
        course = replace(course, silent=frozenset({0, 1, 2}))
        asked.append(course.at)
    assert asked == [0, 1, 2, 0]


@pytest.mark.parametrize(
    ("error", "seconds", "hangs"),
    [
        (Unavailable("refused"), 0.001, False),
        (Unavailable("no connection in 2 s"), 2.0, True),
        (Unavailable("the database is away", retry_after_seconds=1.0), 9.0, False),
        (NotLeading("not I"), 9.0, False),
        (DeadlineExceeded("a hard question"), 9.0, False),
        (InvalidInput("x"), 9.0, False),
    ],
)
def test_who_says_nothing_for_long_hangs_and_who_answers_or_refuses_does_not(
    error: SkerryError, seconds: float, hangs: bool
) -> None:
    assert is_silence(error, seconds) is hangs


def test_one_that_is_at_its_limit_is_waited_for_and_not_gone_round() -> None:
    step = stepped(a_course(at=1), Exhausted("x", retry_after_seconds=3.0))
    assert (step.course.endpoint, step.course.round) == ("b:2", 1)
    assert step.pause_seconds >= 3.0


@given(chance_list=st.lists(chances, min_size=7, max_size=7))
def test_a_call_lives_through_a_restart_whatever_the_dice_say(chance_list: list[float]) -> None:
    course, budget, now, rounds = a_course(1, seconds=READ_SECONDS_MAX), FULL, NOW, []
    for chance in chance_list:
        step = RetryPolicy().after_failure(course, Unavailable("x"), budget, now, chance)
        assert isinstance(step, Step)
        now += step.pause_seconds
        rounds.append(now - NOW)
        course, budget = step.course, step.budget
    bounds = (0.0, 0.25, 0.75, 1.75, 3.75, 5.75, 7.75, 9.75)
    assert all(bounds[n] <= began + 1e-9 <= bounds[n + 1] + 2e-9 for n, began in enumerate(rounds))
    assert budget.tenths == 3 * RETRY_TENTHS


def test_a_pause_that_outlasts_the_call_is_not_begun() -> None:
    course = a_course(1, seconds=3.0)
    assert decided(course, Unavailable("x", retry_after_seconds=3.0)) is GiveUp.TIME
    assert decided(replace(course, deadline=NOW), Unavailable("x")) is GiveUp.TIME


def test_without_retries_there_is_one_round() -> None:
    step = NO_RETRIES.after_failure(a_course(2), Unavailable("x"), RetryBudget(), NOW, 0.5)
    assert isinstance(step, Step)
    after = NO_RETRIES.after_failure(step.course, Unavailable("x"), RetryBudget(), NOW, 0.5)
    assert after is GiveUp.ROUNDS


@given(events=st.lists(st.booleans(), max_size=400))
def test_retries_never_exceed_a_tenth_of_the_answers_and_what_was_saved_up(
    events: list[bool],
) -> None:
    budget, retries = RetryBudget(), 0
    for is_answer in events:
        if is_answer:
            budget = budget.after_success()
        elif budget.allows_retry:
            budget, retries = budget.after_retry(), retries + 1
    assert retries <= 10 + sum(events) / 10


def test_ten_answers_are_one_retry() -> None:
    budget = RetryBudget(tenths=0)
    for _ in range(10):
        assert not budget.allows_retry
        budget = budget.after_success()
    assert budget.allows_retry


@pytest.mark.parametrize(
    "make",
    [
        lambda: RetryBudget(tenths=-1),
        lambda: RetryBudget(tenths=BUDGET_TENTHS_MAX + 1),
        lambda: RetryPolicy(rounds_max=0),
        lambda: a_course(at=3),
        lambda: replace(a_course(), asked=frozenset({0})),
    ],
)
def test_impossible_values_are_refused(make: type[object]) -> None:
    with pytest.raises(ValueError):
        make()
