"""What a client remembers between its calls: who answered last, and its budget for retries.

Both clients of the operator API have one `Steering`; threads share it. What is done with a
failure is decided in `skerry.client.retrying`.
"""

import threading
from collections.abc import Sequence
from dataclasses import replace
from typing import Any

from skerry.client.operator_calls import Call
from skerry.client.retrying import (
    Answerable,
    Course,
    GiveUp,
    RetryBudget,
    RetryPolicy,
    in_order,
    is_silence,
    leader_named,
    where_answerable,
)
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import DeadlineExceeded, SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from skerry.plumbing.tasks import Backoff

_log = logs.get_logger(__name__)

# Together about half a minute: a control plane's standby takes over in seconds.
WATCH_TRIES_MAX = 12
WATCH_PAUSE = Backoff(initial_seconds=0.2, max_seconds=5.0)
# Who hung is asked after all others for so long: a standby of a leader that hangs leads within it,
# and who was only slow is itself again.
SILENT_SECONDS = 5.0
_CAUSE_CHARACTERS_MAX = 200


class Steering:
    """Steers every call of one client to the control plane that answers."""

    def __init__(
        self, endpoints: Sequence[str], policy: RetryPolicy, clock: Clock, ids: IdSource
    ) -> None:
        """Begin with the first endpoint and a full budget."""
        self.endpoints = tuple(endpoints)
        self._policy = policy
        self._clock = clock
        self._ids = ids
        self._lock = threading.Lock()
        self._preferred = 0
        self._silent_until: dict[int, float] = {}
        self._budget = RetryBudget()

    @property
    def preferred(self) -> int:
        """Return the index of the endpoint that is asked first; Unavailable where there is none."""
        if not self.endpoints:
            raise _nobody_answers(self.endpoints, "no endpoint is configured")
        return self._preferred

    def begin(self, call: Call[Any]) -> Course:
        """Return the first attempt of a call."""
        now, at = self._clock.monotonic(), self.preferred
        silent = self._silent(now)
        turns = ((at + step) % len(self.endpoints) for step in range(len(self.endpoints)))
        return Course(
            endpoints=self.endpoints,
            deadline=now + call.seconds_max,
            is_repeatable=call.is_repeatable,
            at=next((turn for turn in turns if turn not in silent), at),
            asked_at=now,
            silent=silent,
        )

    def seconds_left(self, course: Course) -> float:
        """Return how long the attempt that is made now may take."""
        return max(0.0, course.deadline - self._clock.monotonic())

    def answered(self, course: Course) -> None:
        """Remember who answered."""
        with self._lock:
            self._preferred = course.at
            self._silent_until.pop(course.at, None)
            self._budget = self._budget.after_success()

    def failed(self, course: Course, call: Call[Any], error: SkerryError) -> tuple[Course, float]:
        """Return the next attempt and the seconds to wait before it, or raise what is final."""
        now = self._clock.monotonic()
        with self._lock:
            if is_silence(error, now - course.asked_at):
                self._silent_until[course.at] = now + SILENT_SECONDS
            is_elsewhere = where_answerable(error) is Answerable.ELSEWHERE
            if is_elsewhere or isinstance(error, DeadlineExceeded):
                self._turn_from(course.at)
            course = replace(course, silent=self._silent(now))
            step = self._policy.after_failure(course, error, self._budget, now, self._ids.random())
            if not isinstance(step, GiveUp):
                self._budget = step.budget
                if step.pause_seconds:
                    _log.info(
                        "operator-api.asked-again",
                        method=call.method,
                        endpoint=step.course.endpoint,
                        attempt=step.course.attempts,
                        after_seconds=round(step.pause_seconds, 3),
                        error=_in_short(error),
                    )
                return step.course, step.pause_seconds
        raise _final(course, call, error, step)

    def watch(self, from_sequence: int) -> "Resumption":
        """Return where a watch begins."""
        return Resumption(self, self._clock, self._ids, from_sequence)

    def watch_failed(self, at: int) -> None:
        """Have the next call ask somebody else first."""
        with self._lock:
            self._turn_from(at)

    def elsewhere(self, at: int, leader: int | None) -> int:
        """Return where a watch goes on that broke at `at`: at the leader, or at the next one.

        Who hangs is passed over while there are others.
        """
        silent = self._silent(self._clock.monotonic())
        order = in_order(len(self.endpoints), at, leader)
        return next((one for one in order if one not in silent), order[0])

    def _silent(self, now: float) -> frozenset[int]:
        # A copy: other threads' calls end meanwhile.
        return frozenset(at for at, until in tuple(self._silent_until.items()) if now < until)

    def _turn_from(self, at: int) -> None:
        if self._preferred == at:
            self._preferred = (at + 1) % len(self.endpoints)


class Resumption:
    """Where a watch goes on after its stream broke: behind the last change that it yielded."""

    def __init__(self, steering: Steering, clock: Clock, ids: IdSource, from_sequence: int) -> None:
        """Begin above that sequence, at the endpoint that answers calls."""
        self._steering = steering
        self._clock = clock
        self._ids = ids
        self._failures = 0
        self._began = 0.0
        self.sequence = from_sequence
        self.at = steering.preferred

    def opened(self) -> None:
        """Note when this stream began."""
        self._began = self._clock.monotonic()

    def saw(self, sequence: int) -> bool:
        """Note a change and say whether it is one that was not yielded yet."""
        is_new = sequence > self.sequence
        self.sequence = max(sequence, self.sequence)
        self._failures = 0
        return is_new

    def broke(self, error: SkerryError) -> float:
        """Return the seconds to wait before going on elsewhere, or raise what is final."""
        if where_answerable(error) is Answerable.NEVER:
            raise error
        # One that lived for a while was answered; a quiet fleet's stream may be cut by a proxy.
        lived = self._clock.monotonic() - self._began > WATCH_PAUSE.max_seconds
        self._failures = 1 if lived else self._failures + 1
        if self._failures >= WATCH_TRIES_MAX:
            raise _nobody_answers(self._steering.endpoints, _in_short(error)) from error
        if where_answerable(error) is Answerable.ELSEWHERE:
            endpoints = self._steering.endpoints
            self._steering.watch_failed(self.at)
            leader = leader_named(endpoints, error)
            self.at = self._steering.elsewhere(self.at, leader)
            if self._failures < len(endpoints):
                return 0.0  # each of them is asked once at once, as with calls
        told = error.retry_after_seconds or 0.0
        return told + WATCH_PAUSE.delay(self._failures, self._ids.random())


def closed() -> Unavailable:
    """Return the error of a call through a client that was closed."""
    return Unavailable("this client is closed; make a new one")


def _final(course: Course, call: Call[Any], error: SkerryError, why: GiveUp) -> SkerryError:
    if isinstance(error, DeadlineExceeded):
        return DeadlineExceeded(
            f"{call.method} was not answered by {course.endpoint} within its"
            f" {call.seconds_max:g} s; a write may have taken effect all the same: look first,"
            f" then ask again ({error.message})"
        )
    if why is GiveUp.KIND or not isinstance(error, Unavailable):
        return error
    made = "1 attempt" if course.attempts == 1 else f"{course.attempts} attempts"
    cause = f"{_in_short(error)} ({made}; {why})"
    return _nobody_answers(course.endpoints, cause, error)


def _in_short(error: SkerryError) -> str:
    return error.message.partition("\n")[0][:_CAUSE_CHARACTERS_MAX]


def _nobody_answers(
    endpoints: Sequence[str], cause: str, error: SkerryError | None = None
) -> Unavailable:
    where = ", ".join(endpoints)
    kind = type(error) if isinstance(error, Unavailable) else Unavailable
    return kind(
        f"no control plane answers at {where}: {cause};"
        " serving goes on without it; check that it runs, or give --endpoint",
        retry_after_seconds=error.retry_after_seconds if error else None,
        hints=error.hints if error else {},
    )
