"""The simulated engine's failure modes: when each of them strikes.

Pure, but for the memory that it is told to leak. `workload_plane.simulated.server` does what is
decided here; the options are in docs/operating/simulated.md.
"""

from enum import StrEnum

from workload_plane.simulated.answers import WORDS, Answer, Question, holds_word
from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.latency import draw_error


class Fate(StrEnum):
    """What becomes of a request."""

    SERVE = "serve"
    ERROR = "error"
    FAIL = "fail"


class Faults:
    """Counts what the engine has taken, and says what that leads to."""

    def __init__(self, config: SimulatedConfig) -> None:
        """Refuse nothing yet."""
        self._config = config
        self._leaked: list[bytes] = []
        self._leaked_bytes = 0
        self.requests = 0

    @property
    def leaked_bytes(self) -> int:
        """Return how much memory is held for nothing."""
        return self._leaked_bytes

    @property
    def is_hung(self) -> bool:
        """Return whether nothing at all is answered any more."""
        return _reached(self.requests, self._config.hang_after_requests)

    @property
    def fails_now(self) -> bool:
        """Return whether the process ends on the next request."""
        return _reached(self.requests, self._config.fail_after_requests)

    @property
    def is_unhealthy(self) -> bool:
        """Return whether the health check fails, though requests are served."""
        unhealthy = _reached(self.requests, self._config.unhealthy_after_requests)
        return self._config.unhealthy or unhealthy

    @property
    def slow_factor(self) -> float:
        """Return by how much every time is stretched now."""
        after = self._config.slow_after_requests
        return self._config.slow_factor if not after or self.requests >= after else 1.0

    @property
    def refuses_connections(self) -> bool:
        """Return whether the number of requests is the one after which the port closes."""
        return 0 < self._config.refuse_after_requests == self.requests

    def watches_tokens(self) -> bool:
        """Return whether something happens after a number of tokens."""
        return bool(self._config.fail_after_tokens or self._config.stall_after_tokens)

    def fails_after(self, tokens: int) -> bool:
        """Return whether the process ends now that so many tokens have been generated."""
        return _reached(tokens, self._config.fail_after_tokens)

    def stalls_after(self, tokens: int) -> bool:
        """Return whether no further token is generated after so many."""
        return _reached(tokens, self._config.stall_after_tokens)

    def count(self) -> None:
        """Count a request that is taken, and leak what it leaks."""
        self.requests += 1
        size = self._config.leak_bytes_per_request
        if size and self._leaked_bytes + size <= self._config.leak_bytes_max:
            # Not zeros: those would be one page of the kernel's, however many there are.
            self._leaked.append(b"\x5a" * size)
            self._leaked_bytes += size

    def fate_of(self, question: Question) -> Fate:
        """Say what becomes of a request that was read and counted."""
        word = self._config.fail_on_word
        if word and holds_word(question, word):
            return Fate.FAIL
        return Fate.ERROR if draw_error(self._config, self.requests) else Fate.SERVE

    def fails_at(self, answer: Answer) -> int:
        """Return before which token of the answer the process ends, -1 for none."""
        word = self._config.fail_on_word
        if not word or word not in WORDS:
            return -1
        return answer.words.find(WORDS.index(word))


def _reached(count: int, after: int) -> bool:
    return 0 < after <= count
