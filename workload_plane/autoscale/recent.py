"""How answers of the last minutes went, from growing counts of picker and engines. PURE.

A late answer is one that either end saw late: the engine knows nothing of the waiting room, and a
first byte may be the answer's head, before the first token.
"""

from bisect import bisect_left
from collections import deque
from collections.abc import Iterable, Sequence
from itertools import accumulate, pairwise

from skerry.fleet.answers import (
    FIRST_TOKEN_SECONDS,
    INTERVAL_SECONDS,
    WINDOW_SECONDS,
    RecentAnswers,
)
from workload_plane.autoscale.growth import EngineGrowth, within

# Sums of so many moments of the window are kept; its beginning is wrong by one part at most.
_PARTS = 20
_FIRSTS, _INTERVALS = len(FIRST_TOKEN_SECONDS) + 1, len(INTERVAL_SECONDS) + 1
Counts = Sequence[float]


class RecentWindow:
    """Sums of one deployment's answers, and what they were some minutes ago."""

    def __init__(self) -> None:
        """Begin with none."""
        self._firsts = [0.0] * _FIRSTS
        self._intervals = [0.0] * _INTERVALS
        self._kept: deque[tuple[float, tuple[float, ...]]] = deque()

    def take(self, first_bytes: Counts, growth: Iterable[EngineGrowth]) -> None:
        """Add what a look saw; `first_bytes` are how many came between the picker's bounds."""
        engines = tuple(growth)
        for place, count in enumerate(_first_tokens(first_bytes, engines)):
            self._firsts[place] += count
        for place, count in enumerate(_intervals(engines)):
            self._intervals[place] += count

    def view(self, at: float, judged: float, good: float) -> RecentAnswers | None:
        """Return what grew within the window, None where no answer did.

        `judged` and `good` are sums since the agent began, as of now.
        """
        now = (judged, good, *self._firsts, *self._intervals)
        if not self._kept or at < self._kept[-1][0]:
            self._kept = deque([(at, now)])
        elif at - self._kept[-1][0] >= WINDOW_SECONDS / _PARTS:
            self._kept.append((at, now))
        while len(self._kept) > 1 and self._kept[1][0] <= at - WINDOW_SECONDS:
            self._kept.popleft()
        began, before = self._kept[0]
        grown = tuple(max(0.0, end - start) for start, end in zip(before, now, strict=True))
        firsts, intervals = grown[2 : 2 + _FIRSTS], grown[2 + _FIRSTS :]
        if not any(grown):
            return None
        return RecentAnswers(
            seconds=min(WINDOW_SECONDS, at - began),
            judged=grown[0],
            good=min(grown[:2]),
            first_tokens=firsts if any(firsts) else (),
            intervals=intervals if any(intervals) else (),
        )


def _first_tokens(first_bytes: Counts, engines: Sequence[EngineGrowth]) -> Counts:
    told = [first_bytes] if any(first_bytes) else []
    firsts = [one.first_token_buckets for one in engines if one.first_token_buckets]
    if firsts:
        spread = [sum(within(one, bound)[1] for one in firsts) for bound in FIRST_TOKEN_SECONDS]
        total = sum(one[-1][1] for one in firsts)
        told.append(_between([*spread, total]))
    told = [one for one in told if sum(one) > 0.0]
    if not told:
        return ()
    total = max(sum(one) for one in told)
    shares = [[below / sum(one) for below in accumulate(one)] for one in told]
    return _between([total * min(several) for several in zip(*shares, strict=True)])


def _intervals(engines: Sequence[EngineGrowth]) -> Counts:
    """Return them by histograms; of an engine without one its mean stands for all of a look."""
    counts = [0.0] * _INTERVALS
    for one in engines:
        if one.interval_buckets:
            below = [within(one.interval_buckets, bound)[1] for bound in INTERVAL_SECONDS]
            for place, count in enumerate(_between([*below, one.interval_buckets[-1][1]])):
                counts[place] += count
        elif one.interval_seconds is not None:
            counts[bisect_left(INTERVAL_SECONDS, one.interval_seconds)] += one.token_intervals
    return counts


def _between(below: Sequence[float]) -> list[float]:
    """Return how many came between two bounds, from how many came below each."""
    return [max(0.0, now - before) for before, now in pairwise((0.0, *below))]
