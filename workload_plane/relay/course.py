"""How often, how long and how soon a stream is tried again: PURE, one course for each stream.

The relay asks after every break; what to send is `openai_continuation`'s and `generate`'s.
"""

from dataclasses import dataclass

from skerry.plumbing.tasks import Backoff
from skerry.wire.continuation.refusals import Reason, Refusal

# A stream of an hour sees a few rolling replacements; more is a plane that falls apart.
CONTINUATIONS_MAX = 8
# An engine restarts within it; a client that hears nothing for longer has given up.
SEARCH_SECONDS_MAX = 60.0
# Two engines lost by one request, with next to nothing between: the request may be the cause.
LOSSES_MAX = 2
# A prompt that kills does so before the first token or soon after it.
PROGRESS_TOKENS_MIN = 16
# Replicas that die together are all seen dead after it; a user reads on for longer.
BACKOFF = Backoff(initial_seconds=0.1, max_seconds=2.0)
BACKOFF_SECONDS_MIN = 0.05


@dataclass(frozen=True, slots=True, kw_only=True)
class TryAgain:
    """Ask again after so long."""

    seconds: float


def hindrance(step: object, again: TryAgain | Reason) -> Refusal | None:
    """Return why a stream is not continued: the request's own reason first, then its course's."""
    if isinstance(step, Refusal):
        return step
    return Refusal(reason=again) if isinstance(again, Reason) else None


class Course:
    """Counts what happened to one stream; `tokens` are what the client was told at the moment."""

    __slots__ = ("_attempts", "_began_at_tokens", "_broke_at", "_losses", "continuations")

    def __init__(self) -> None:
        """Begin with the first attempt under way."""
        self._began_at_tokens = 0
        self._losses = 0
        self._attempts = 0
        self._broke_at: float | None = None
        self.continuations = 0

    def accept(self, tokens: int) -> None:
        """Note that an engine has taken the request."""
        if self._broke_at is not None:
            self.continuations += 1
        self._broke_at = None
        self._attempts = 0
        self._began_at_tokens = tokens

    def lose(self, tokens: int, *, now: float, random: float) -> TryAgain | Reason:
        """Say what follows when an engine was lost over the request, answering already or not."""
        has_progress = tokens - self._began_at_tokens >= PROGRESS_TOKENS_MIN
        self._losses = 1 if has_progress else self._losses + 1
        self._began_at_tokens = tokens
        if self._losses >= LOSSES_MAX:
            return Reason.SUSPECT
        if self.continuations >= CONTINUATIONS_MAX:
            return Reason.TOO_OFTEN
        self.search(now=now)
        return self._again(0.0, random)

    def search(self, *, now: float) -> None:
        """Begin to look for somebody who goes on, unless that is being done."""
        if self._broke_at is None:
            self._broke_at = now

    def turn_away(self, retry_after: float, *, now: float, random: float) -> TryAgain | Reason:
        """Say what follows when nobody took the continued request."""
        assert self._broke_at is not None, "a first request's refusal is the client's to hear"
        self._attempts += 1
        again = self._again(retry_after, random)
        if now + again.seconds > self._broke_at + SEARCH_SECONDS_MAX:
            return Reason.NOWHERE
        return again

    def _again(self, retry_after: float, random: float) -> TryAgain:
        delay = BACKOFF_SECONDS_MIN + BACKOFF.delay(self._attempts, random)
        return TryAgain(seconds=max(retry_after, delay))
