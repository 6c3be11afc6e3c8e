"""How much the counters of engines and of the picker grew since the last look. PURE.

Counters begin at 0 again with their process; what is seen for the first time has grown by nothing.
"""

import math
from collections.abc import Mapping
from dataclasses import dataclass

from workload_plane.replica_host.load import Buckets, EngineLoad


def grown(before: float | None, now: float | None) -> float:
    """Return by how much a counter grew; one that fell began anew, an unknown one did not grow."""
    if now is None or before is None:
        return 0.0
    return now - before if now >= before else now


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineGrowth:
    """What one replica's engine did between two looks `seconds` apart.

    `prompt_tokens` are without what its cache had. `was_queued`: requests waited at either end, so
    that times to the first token say nothing of the prompt.
    """

    seconds: float
    prompt_tokens: float
    generated_tokens: float
    first_tokens: float
    first_token_seconds: float
    token_intervals: float
    token_interval_seconds: float
    was_queued: bool = False
    first_token_buckets: Buckets = ()
    interval_buckets: Buckets = ()

    @property
    def interval_seconds(self) -> float | None:
        """Return the mean time between two tokens of an answer, None where none was told."""
        if self.token_intervals < 1.0 or self.token_interval_seconds <= 0.0:
            return None
        return self.token_interval_seconds / self.token_intervals

    def first_within(self, seconds: float) -> tuple[float, float] | None:
        """Return how many first tokens came, and how many of them within so long; None: untold."""
        return within(self.first_token_buckets, seconds) if self.first_token_buckets else None


def within(buckets: Buckets, seconds: float) -> tuple[float, float]:
    """Return how many a histogram has, and how many of them took so long at most.

    Between two of its bounds they are taken for evenly spread.
    """
    total, below, before = buckets[-1][1], 0.0, 0.0
    for bound, count in buckets:
        if bound >= seconds:
            part = (seconds - before) / (bound - before) if bound < math.inf else 0.0
            return total, below + (count - below) * part
        below, before = count, bound
    return total, total


class EngineCounters:
    """The last look at each replica of a deployment."""

    def __init__(self) -> None:
        """Begin with nothing seen."""
        self._last: dict[str, tuple[float, EngineLoad]] = {}

    def take(self, at: float, loads: Mapping[str, EngineLoad | None]) -> dict[str, EngineGrowth]:
        """Return what each that answered did since it answered last; forget those not named."""
        for name in self._last.keys() - loads.keys():
            del self._last[name]
        found: dict[str, EngineGrowth] = {}
        for name, load in loads.items():
            if load is None or not load.answered:
                continue
            before, self._last[name] = self._last.get(name), (at, load)
            if before is not None and at > before[0]:
                found[name] = _growth(at - before[0], before[1], load)
        return found


def _growth(seconds: float, before: EngineLoad, now: EngineLoad) -> EngineGrowth:
    cached = grown(before.cached_prompt_tokens, now.cached_prompt_tokens)
    return EngineGrowth(
        seconds=seconds,
        prompt_tokens=max(0.0, grown(before.prompt_tokens, now.prompt_tokens) - cached),
        generated_tokens=grown(before.generated_tokens, now.generated_tokens),
        first_tokens=grown(before.first_tokens, now.first_tokens),
        first_token_seconds=grown(before.first_token_seconds, now.first_token_seconds),
        token_intervals=grown(before.token_intervals, now.token_intervals),
        token_interval_seconds=grown(before.token_interval_seconds, now.token_interval_seconds),
        was_queued=bool(before.queued_requests or now.queued_requests),
        first_token_buckets=_bucket_growth(before.first_token_buckets, now.first_token_buckets),
        interval_buckets=_bucket_growth(before.token_interval_buckets, now.token_interval_buckets),
    )


def _bucket_growth(before: Buckets | None, now: Buckets | None) -> Buckets:
    if before is None or now is None:
        return ()
    if [bound for bound, _ in before] != [bound for bound, _ in now] or now[-1][1] < before[-1][1]:
        return now  # the engine began anew
    grown_by = ((bound, count - old) for (bound, count), (_, old) in zip(now, before, strict=True))
    return tuple((bound, max(0.0, count)) for bound, count in grown_by)
