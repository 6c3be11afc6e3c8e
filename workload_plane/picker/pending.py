"""What one replica still has to do, as far as this gateway knows: prompts to read, requests open.

PURE. No byte of an answer passes through the picker, so the end of a prefill is estimated by the
replica's learned pace and corrected by what the access log says.
"""

from collections import OrderedDict

# Before anything was learned: a mid-sized accelerator. An estimate that is wrong by ten times is
# right after some thirty answers.
PACE_TOKENS_PER_SECOND = 4000.0
PACE_MIN, PACE_MAX = 10.0, 1_000_000.0
_PACE_WEIGHT = 0.1
# Below, the time to the first byte is the engine's step and the network, not the prompt.
_SAMPLE_TOKENS_MIN = 256.0
_SAMPLE_SECONDS_MIN = 0.005


class Pace:
    """How many prompt tokens a second an engine reads, learned from times to the first byte."""

    __slots__ = ("tokens_per_second",)

    def __init__(self, tokens_per_second: float = PACE_TOKENS_PER_SECOND) -> None:
        """Begin with a guess."""
        self.tokens_per_second = tokens_per_second

    def learn(self, tokens: float, seconds: float) -> None:
        """Take in that so many tokens, those queued before included, took that long."""
        if tokens < _SAMPLE_TOKENS_MIN or seconds < _SAMPLE_SECONDS_MIN:
            return
        sample = min(PACE_MAX, max(PACE_MIN, tokens / seconds))
        # The mean of times, not of paces: one answer from a warm cache would outweigh ten.
        before = 1.0 / self.tokens_per_second
        self.tokens_per_second = 1.0 / (before + _PACE_WEIGHT * (1.0 / sample - before))


class Pending:
    """The prompts that one replica has not read yet, first come first served.

    `left` are their tokens by ticket, as of the last look.
    """

    __slots__ = ("_at", "_pace", "_tokens", "left")

    def __init__(self, pace: Pace) -> None:
        """Begin with nothing pending."""
        self._pace = pace
        self.left: OrderedDict[int, float] = OrderedDict()
        self._tokens = 0.0
        self._at = 0.0

    def tokens(self, now: float) -> float:
        """Return how many tokens are left to read."""
        if self.left:
            self._drain(now)
        return self._tokens

    def add(self, ticket: int, tokens: float, now: float) -> None:
        """Put a prompt's uncached tokens at the end of the queue."""
        if self.left:
            self._drain(now)
        else:
            self._at = now
        if tokens > 0:
            self.left[ticket] = tokens
            self._tokens += tokens

    def remove(self, ticket: int) -> None:
        """Take out what is left of a prompt: its answer began, or never will."""
        left = self.left.pop(ticket, 0.0)
        self._tokens = self._tokens - left if self.left else 0.0

    def _drain(self, now: float) -> None:
        budget = (now - self._at) * self._pace.tokens_per_second
        self._at = now
        waiting = self.left
        while waiting and budget > 0:
            ticket = next(iter(waiting))
            left = waiting[ticket]
            if left > budget:
                waiting[ticket] = left - budget
                self._tokens -= budget
                return
            budget -= left
            self._tokens -= left
            del waiting[ticket]
        if not waiting:
            self._tokens = 0.0  # what rounding left
