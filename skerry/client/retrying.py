"""Which failed call is made again, where and when: decisions only, no clock and no chance.

`skerry.client.steering` keeps the state of a client and asks here after every failure. A round
is one attempt at each control plane; the first round costs no pause and no budget, since each of
its attempts is the only one that its control plane sees of the call.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from enum import StrEnum

from skerry.plumbing.errors import (
    DeadlineExceeded,
    Exhausted,
    NotLeading,
    SkerryError,
    Unavailable,
)
from skerry.plumbing.tasks import Backoff

# With the windows below the last round begins 7.75 to 9.75 s after the first failure: within a
# read's 10 s. A control plane that is started anew answers after 3.5 to 6 s on a busy machine, a
# standby, which also says how long to wait, leads within 5 s. Three retries of a budget are left.
ROUNDS_MAX = 8
# How long the windows are in which the rounds begin, each anywhere in its own. Were each pause
# drawn by itself, a run of short ones would spend the budget at once: 1 to 2 of 8 calls did not
# live through a kill. gRPC itself tries to connect every 2 s; longer pauses would only be slower.
WINDOW = Backoff(initial_seconds=0.25, max_seconds=2.0)
# A connection in the same region is not made in less, and an answer takes longer: an attempt with
# less time left would only turn a clear error into a missed deadline.
ATTEMPT_SECONDS_MIN = 0.1
# In tenths of a retry, as whole numbers: 0.1 ten times over is less than 1. The figures are those
# of gRPC's retryThrottling: a client that gets no answers soon asks once for each call, and one in
# ten answers may be had by asking again for as long as that goes on.
BUDGET_TENTHS_MAX = 100
RETRY_TENTHS = 10
SUCCESS_TENTHS = 1
# Nobody is refused so late: who was told nothing for so long asked somebody who hangs. A connection
# is given 2 s, and a keepalive too.
SILENCE_SECONDS_MIN = 1.5
LEADER = "leader"  # the hint of NotLeading: HOST:PORT


class Answerable(StrEnum):
    """Where a call that failed so may yet have an answer."""

    ELSEWHERE = "elsewhere"  # at another control plane at once, or here after a pause
    LATER = "later"  # here, once the time has passed that was told
    NEVER = "never"


class GiveUp(StrEnum):
    """Why a call is not made again."""

    KIND = "the same call would fail the same way"
    EFFECT = "it may have taken effect, and carries no request_id"
    ROUNDS = "it was tried often enough"
    BUDGET = "too many calls before it had no answer"
    TIME = "its time is over"


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryBudget:
    """How many retries a client may yet make; answers give them back."""

    tenths: int = BUDGET_TENTHS_MAX

    def __post_init__(self) -> None:
        """Refuse a debt, and more than is ever saved up."""
        if not 0 <= self.tenths <= BUDGET_TENTHS_MAX:
            raise ValueError(f"0 <= {self.tenths} <= {BUDGET_TENTHS_MAX}?")

    @property
    def allows_retry(self) -> bool:
        """Say whether one more retry is left."""
        return self.tenths >= RETRY_TENTHS

    def after_retry(self) -> "RetryBudget":
        """Return what is left after one more retry."""
        return RetryBudget(tenths=self.tenths - RETRY_TENTHS)

    def after_success(self) -> "RetryBudget":
        """Return what there is after one more answer."""
        return RetryBudget(tenths=min(BUDGET_TENTHS_MAX, self.tenths + SUCCESS_TENTHS))


@dataclass(frozen=True, slots=True, kw_only=True)
class Course:
    """How far one call has come: the attempt that is made now, and what came before it."""

    endpoints: tuple[str, ...]
    deadline: float  # of the whole call, in the monotonic clock's seconds
    is_repeatable: bool
    at: int  # index of the endpoint that is asked now
    asked: frozenset[int] = frozenset()  # earlier in this round
    round: int = 0
    attempts: int = 1
    # The longest pause that was asked for, and who was said to lead, in this round.
    retry_after_seconds: float = 0.0
    leader: int | None = None
    # What was left of this round's window when the round began: the next one begins after it.
    window_seconds: float = 0.0
    asked_at: float = 0.0  # when the attempt that is made now begins
    silent: frozenset[int] = frozenset()  # who hung a moment ago

    def __post_init__(self) -> None:
        """Refuse endpoints that do not exist, and asking one twice in a round."""
        if not 0 <= self.at < len(self.endpoints) or self.at in self.asked:
            raise ValueError(f"endpoint {self.at} of {len(self.endpoints)}, after {self.asked}?")

    @property
    def endpoint(self) -> str:
        """Return the endpoint that is asked now."""
        return self.endpoints[self.at]


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """The next attempt of a call, the pause before it, and the budget it leaves."""

    course: Course
    pause_seconds: float
    budget: RetryBudget


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How often and how patiently a client asks again."""

    rounds_max: int = ROUNDS_MAX
    window: Backoff = WINDOW

    def __post_init__(self) -> None:
        """Refuse a policy that would not even ask once."""
        if self.rounds_max < 1:
            raise ValueError(f"rounds_max {self.rounds_max} is below 1")

    def after_failure(
        self, course: Course, error: SkerryError, budget: RetryBudget, now: float, random: float
    ) -> Step | GiveUp:
        """Return the next attempt after one that failed with `error`, or why there is none."""
        answerable = where_answerable(error)
        if answerable is Answerable.NEVER:
            return GiveUp.KIND
        # Only of NotLeading it is sure that nothing was done.
        if not course.is_repeatable and not isinstance(error, NotLeading):
            return GiveUp.EFFECT
        course = _noted(course, error)
        has_rounds = course.round + 1 < self.rounds_max and budget.allows_retry
        fresh = _fresh(course, has_rounds) if answerable is Answerable.ELSEWHERE else None
        if fresh is not None:
            course = replace(
                course, at=fresh, asked=course.asked | {course.at}, attempts=course.attempts + 1
            )
            return _in_time(Step(course=course, pause_seconds=0.0, budget=budget), now)
        if course.round + 1 >= self.rounds_max:
            return GiveUp.ROUNDS
        if not budget.allows_retry:
            return GiveUp.BUDGET
        length, wait = (self.window.delay(course.round, part) for part in (1.0, random))
        # On top of what was told: otherwise all who were told the same would come back together.
        pause = course.retry_after_seconds + course.window_seconds + wait
        begun = Course(
            endpoints=course.endpoints,
            deadline=course.deadline,
            is_repeatable=course.is_repeatable,
            at=_first(course, answerable),
            silent=course.silent,
            round=course.round + 1,
            attempts=course.attempts + 1,
            window_seconds=length - wait,
        )
        return _in_time(Step(course=begun, pause_seconds=pause, budget=budget.after_retry()), now)


DEFAULT_RETRIES = RetryPolicy()
# One sweep over the endpoints and nothing after it, for callers that look again by themselves.
NO_RETRIES = RetryPolicy(rounds_max=1)


def where_answerable(error: SkerryError) -> Answerable:
    """Return where the same call may have an answer; first match wins."""
    # After a deadline the call may have taken effect or may yet: asking again only adds load.
    if isinstance(error, DeadlineExceeded):
        return Answerable.NEVER
    if isinstance(error, Unavailable):
        return Answerable.ELSEWHERE
    # A rate or a queue says when there is room again; a size or a quota does not.
    if isinstance(error, Exhausted) and error.retry_after_seconds is not None:
        return Answerable.LATER
    return Answerable.NEVER


def is_silence(error: SkerryError, seconds: float) -> bool:
    """Say whether an attempt that failed after so long was not answered at all: somebody hangs.

    A missed deadline does not say it: it is shorter than a hard question may take.
    """
    tells = (
        isinstance(error, NotLeading | DeadlineExceeded) or error.retry_after_seconds is not None
    )
    return isinstance(error, Unavailable) and not tells and seconds >= SILENCE_SECONDS_MIN


def leader_named(endpoints: Sequence[str], error: SkerryError) -> int | None:
    """Return the index of the endpoint that a failure says leads, None where it is none of them."""
    named = error.hints.get(LEADER, "") if isinstance(error, NotLeading) else ""
    # Nobody may send us to an address that the operator did not give us.
    return endpoints.index(named) if named in endpoints else None


def _noted(course: Course, error: SkerryError) -> Course:
    """Return the course with what the failure tells about waiting and the leader."""
    told = max(0.0, error.retry_after_seconds or 0.0)
    named = leader_named(course.endpoints, error)
    leader = course.leader if named is None else named
    waits = max(course.retry_after_seconds, told)
    return replace(course, retry_after_seconds=waits, leader=leader)


def in_order(count: int, at: int, leader: int | None) -> tuple[int, ...]:
    """Return all endpoints: the leader, if one is named, then in turn from the one behind `at`."""
    turns = tuple((at + step) % count for step in range(1, count + 1))
    return turns if leader is None else tuple(dict.fromkeys((leader, *turns)))


def _fresh(course: Course, has_rounds: bool) -> int | None:
    """Return the endpoint to ask next in this round, None where the round is over.

    The leader, else the next one in turn; who hangs last, or with other rounds to come not in this.
    """
    asked = course.asked | {course.at}
    left = [at for at in _order(course) if at not in asked]
    others = [at for at in left if at not in course.silent]
    # Where nobody asked so far was any better, there is no reason to leave them out.
    if has_rounds and not asked <= course.silent:
        left = others
    return next(iter(others or left), None)


def _first(course: Course, answerable: Answerable) -> int:
    """Return the endpoint that the next round begins with."""
    if answerable is Answerable.LATER:
        return course.at
    order = _order(course)
    return next((at for at in order if at not in course.silent), order[0])


def _order(course: Course) -> tuple[int, ...]:
    return in_order(len(course.endpoints), course.at, course.leader)


def _in_time(step: Step, now: float) -> Step | GiveUp:
    starts = now + step.pause_seconds
    if starts + ATTEMPT_SECONDS_MIN > step.course.deadline:
        return GiveUp.TIME
    return replace(step, course=replace(step.course, asked_at=starts))
