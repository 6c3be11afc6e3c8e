"""How answers of the last minutes went, as counts between bounds, so that planes' add up. Pure.

A plane counts its own and tells them beside its load; the operator API adds those of planes up.
The bounds are a part of the wire: other ones need another field.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass, fields
from itertools import accumulate

WINDOW_SECONDS = 300.0
# What is slower than the last bound is counted past it.
FIRST_TOKEN_SECONDS = (0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)
INTERVAL_SECONDS = (
    *(0.005, 0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.075),
    *(0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.5),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class RecentAnswers:
    """What one plane, or several together, counted over `seconds`, the last five minutes at most.

    `judged` were held against the objective, `good` met it. `first_tokens` and `intervals` are how
    many came within each bound and after the one before; none at all where nothing was told. They
    are no whole numbers: an engine's own bounds are others.
    """

    seconds: float
    judged: float = 0.0
    good: float = 0.0
    first_tokens: tuple[float, ...] = ()
    intervals: tuple[float, ...] = ()

    def __post_init__(self) -> None:
        """Refuse what nobody can have counted."""
        numbers = (self.seconds, self.judged, self.good, *self.first_tokens, *self.intervals)
        if not all(math.isfinite(one) and one >= 0.0 for one in numbers):
            raise ValueError("answers are counted by finite numbers from 0 on")
        for name, bounds in _BOUNDS.items():
            if len(getattr(self, name)) not in (0, len(bounds) + 1):
                raise ValueError(f"{name} must be none or {len(bounds) + 1} counts")

    @property
    def attainment(self) -> float | None:
        """Return the share that met the objective, None where none was held against it."""
        return min(1.0, self.good / self.judged) if self.judged > 0.0 else None


_BOUNDS = {"first_tokens": FIRST_TOKEN_SECONDS, "intervals": INTERVAL_SECONDS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Quantiles:
    """Seconds below which half of them were, 95 % and 99 %; at the last bound: that or longer."""

    p50_seconds: float
    p95_seconds: float
    p99_seconds: float


def added(several: Sequence[RecentAnswers]) -> RecentAnswers:
    """Return the answers of several planes as one's, over the longest of their times."""
    assert several, "there is none of nothing"
    return RecentAnswers(
        seconds=max(one.seconds for one in several),
        judged=math.fsum(one.judged for one in several),
        good=math.fsum(one.good for one in several),
        **{name: _sums([getattr(one, name) for one in several]) for name in _BOUNDS},
    )


def first_token_quantiles(answers: RecentAnswers) -> Quantiles | None:
    """Return how long first tokens took, None where none was counted."""
    return _quantiles(FIRST_TOKEN_SECONDS, answers.first_tokens)


def interval_quantiles(answers: RecentAnswers) -> Quantiles | None:
    """Return how long it took from one token to the next, None where none was counted."""
    return _quantiles(INTERVAL_SECONDS, answers.intervals)


def _sums(told: Sequence[tuple[float, ...]]) -> tuple[float, ...]:
    return tuple(map(math.fsum, zip(*(one for one in told if one), strict=True)))


def _quantiles(bounds: Sequence[float], counts: Sequence[float]) -> Quantiles | None:
    total = math.fsum(counts)
    if total <= 0.0:
        return None
    below = list(accumulate(counts))
    found = (_quantile(share * total, bounds, below) for share in (0.5, 0.95, 0.99))
    return Quantiles(**dict(zip((one.name for one in fields(Quantiles)), found, strict=True)))


def _quantile(wanted: float, bounds: Sequence[float], below: Sequence[float]) -> float:
    """Return the bound below which so many were; between two they are taken for evenly spread."""
    low, before = 0.0, 0.0
    for bound, count in zip(bounds, below, strict=False):
        if count >= wanted and count > before:
            return low + (bound - low) * (wanted - before) / (count - before)
        low, before = bound, count
    return bounds[-1]
