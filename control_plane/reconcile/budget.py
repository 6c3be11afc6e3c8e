"""How many healthy replicas may still be moved now: so many a minute, over all causes. Pure.

Losses and drains that operators asked for are no moves: what they take away is replaced at once.
The loop counts by it, from what the store kept of the plans before.
"""

from collections import Counter
from collections.abc import Collection, Iterable
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from control_plane.reconcile.policy import ReconcilePolicy
from scheduler.problem import PoolBar
from skerry.fleet.placement import Placement

WINDOW_SECONDS = 60.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Moved:
    """How many healthy replicas a plan moved, and when it was put in force."""

    at: datetime
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Budget:
    """What is left of a minute's moves; `freed_seconds` until more is, None while all of it is."""

    per_minute: int
    left: int
    freed_seconds: float | None = None

    def describe(self) -> str:
        """Return what the budget holds back, as people read it; empty while all of it is left."""
        if self.left >= self.per_minute:
            return ""
        return (
            f"{self.per_minute - self.left} of {self.per_minute} moves of this minute are made"
            " (scheduler.moves_per_minute_max): further ones wait"
        )


def budget_of(moved: Iterable[Moved], per_minute: int, now: datetime) -> Budget:
    """Return what may still be moved at `now`."""
    within = recent(moved, now)
    left = max(0, per_minute - sum(one.replicas for one in within))
    if not within:
        return Budget(per_minute=per_minute, left=left)
    over = min(one.at for one in within) + timedelta(seconds=WINDOW_SECONDS)
    freed = min(WINDOW_SECONDS, max(0.0, (over - now).total_seconds()))
    return Budget(per_minute=per_minute, left=left, freed_seconds=freed)


def recent(moved: Iterable[Moved], now: datetime) -> tuple[Moved, ...]:
    """Return the moves of the minute before `now`; none of them is later, whatever clocks do."""
    begin = now - timedelta(seconds=WINDOW_SECONDS)
    return tuple(
        replace(one, at=min(one.at, now)) for one in moved if one.at > begin and one.replicas
    )


def bounded(policy: ReconcilePolicy, budget: Budget) -> ReconcilePolicy:
    """Return the policy under which the next plan moves no more than is left."""
    given = policy.moves_max
    return replace(policy, moves_max=budget.left if given is None else min(given, budget.left))


def moves_between(
    before: Iterable[Placement], after: Iterable[Placement], bars: Collection[PoolBar]
) -> int:
    """Return how many replicas stop where they might stay while their deployment starts others.

    Counted by replicas, not by accelerators; a pool whose replicas are gone, or are being drained,
    is no healthy one.
    """
    gone = {bar.pool for bar in bars if not bar.keeps_current}
    held, wanted = _counts(before), _counts(after)
    stops: Counter[str] = Counter()
    starts: Counter[str] = Counter()
    for key in held.keys() | wanted.keys():
        more = wanted[key] - held[key]
        if more > 0:
            starts[key[0]] += more
        elif key[1] not in gone:
            stops[key[0]] -= more
    return sum(min(stopped, starts[name]) for name, stopped in stops.items())


def _counts(placements: Iterable[Placement]) -> Counter[tuple[str, str]]:
    counts: Counter[tuple[str, str]] = Counter()
    for placed in placements:
        counts[placed.deployment, placed.pool] += placed.count
    return counts
