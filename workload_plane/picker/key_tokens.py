"""How many tokens each API key may use at this gateway, a minute and a day or month. PURE.

`authz` asks before it picks, `picker` charges with a ticket and settles when the request ended.
What a request will cost is known after it: it is charged its prompt and as much of an answer as
the deployment's answers had lately, and later what it is known, or taken, to have cost. So a key
may go below nothing by what one estimate was short of, and waits until that is made up for. Time
passes by a clock that nobody sets; days and months are the wall clock's, and counts of a period
stay while the clock is elsewhere.
"""

import math
from collections.abc import Iterable, Mapping
from datetime import datetime
from enum import StrEnum
from typing import NamedTuple

from skerry.fleet.api_key import BUDGET_TOKENS_MAX
from skerry.fleet.token_budget import BudgetPeriod, KeySpent, period_at, seconds_left

# Of one key: the present day or month, and two others that a clock which was set may come back to.
PERIODS_KEPT = 3
# Revoked keys are forgotten beyond this many: as many as there may be, four times over.
KEYS_KEPT = 4_000
_MINUTE_SECONDS = 60.0


class TokenBounds(NamedTuple):
    """What picker.json tells of a key: 0 is no bound."""

    per_minute: int = 0
    budget: int = 0
    period: BudgetPeriod = BudgetPeriod.MONTH


class Charge(NamedTuple):
    """What a request is taken to cost: its prompt, and with an answer all of it.

    `is_resumed`: its prompt was counted with a stream that broke.
    """

    prompt: float
    tokens: float
    period: str = ""
    is_resumed: bool = False


class Bound(StrEnum):
    """Which bound refused a request."""

    RATE = "rate"
    BUDGET = "budget"


class Refusal(NamedTuple):
    """Why a key may have no request now, and after how many seconds it may."""

    bound: Bound
    seconds: float


class Standing(NamedTuple):
    """A key's tokens a minute: how many there are, are left, and seconds until all are there."""

    limit: int
    left: float
    seconds: float


class TokenBucket:
    """A minute's worth of tokens, filled evenly; what was used beyond it has to be made up for."""

    __slots__ = ("_at", "_left", "per_minute")

    def __init__(self, per_minute: int, now: float) -> None:
        """Begin full; `now` is monotonic seconds, here and below."""
        assert per_minute > 0
        self.per_minute = per_minute
        self._left, self._at = float(per_minute), now

    def left(self, now: float) -> float:
        """Return what is there, below 0 where more was used; an earlier `now` changes nothing."""
        passed = max(0.0, now - self._at)
        self._at = max(self._at, now)
        filled = self._left + passed * self.per_minute / _MINUTE_SECONDS
        self._left = min(float(self.per_minute), filled)
        return self._left

    def wait_seconds(self, tokens: float, now: float) -> float:
        """Return after how long a request may come, 0 for now.

        One that costs more than a minute's worth comes once the bucket is full.
        """
        lacking = min(max(1.0, tokens), self.per_minute) - self.left(now)
        return max(0.0, lacking * _MINUTE_SECONDS / self.per_minute)

    def take(self, tokens: float, now: float) -> None:
        """Take tokens out; negative ones go back in, up to a full bucket."""
        self._left = min(float(self.per_minute), self.left(now) - tokens)


class KeyTokens:
    """The keys with a bound on tokens, and what each used."""

    def __init__(self) -> None:
        """Know no key yet."""
        self._bounds: Mapping[str, TokenBounds] = {}
        self._buckets: dict[str, TokenBucket] = {}
        self._spent: dict[str, dict[str, float]] = {}
        self.refused = dict.fromkeys(Bound, 0)
        self.settled = {"told": 0.0, "estimated": 0.0}

    def update(self, bounds: Mapping[str, TokenBounds], now: float) -> None:
        """Take in which keys are bounded; what a key used stays counted, and its bucket as it is.

        A bucket of another size begins full.
        """
        self._bounds = bounds
        wanted = {name: one.per_minute for name, one in bounds.items() if one.per_minute}
        known = self._buckets
        self._buckets = {
            name: known[name]
            if name in known and known[name].per_minute == per_minute
            else TokenBucket(per_minute, now)
            for name, per_minute in wanted.items()
        }
        if len(self._spent) > KEYS_KEPT:
            self._spent = {name: one for name, one in self._spent.items() if name in bounds}

    def is_counted(self, name: str) -> bool:
        """Say whether a key's tokens are bounded."""
        return name in self._bounds

    def period(self, name: str, when: datetime) -> str:
        """Return the day or month of a key's budget; `when` is the wall clock's."""
        return period_at(self._bounds[name].period, when)

    def refusal(self, name: str, charge: Charge, now: float, when: datetime) -> Refusal | None:
        """Return why a key may not have a request of that cost now, None where it may.

        Nothing is taken. The budget is told first: of both it is the longer wait.
        """
        bounds = self._bounds.get(name)
        if bounds is None:
            return None
        if bounds.budget and self.spent(name, charge.period) >= bounds.budget:
            self.refused[Bound.BUDGET] += 1
            return Refusal(Bound.BUDGET, seconds_left(bounds.period, when))
        bucket = self._buckets.get(name)
        seconds = bucket.wait_seconds(charge.tokens, now) if bucket is not None else 0.0
        if seconds <= 0.0:
            return None
        self.refused[Bound.RATE] += 1
        return Refusal(Bound.RATE, seconds)

    def take(self, name: str, charge: Charge, now: float) -> None:
        """Charge a request that was let in."""
        self._use(name, charge.period, charge.tokens, now)

    def settle(self, name: str, charge: Charge, used: float, now: float) -> None:
        """Put a request's cost in the place of what it was charged, in the period of its charge."""
        self._use(name, charge.period, max(0.0, used) - charge.tokens, now)

    def standing(self, name: str, now: float) -> Standing | None:
        """Return where a key's tokens a minute are, None for one without that bound."""
        bucket = self._buckets.get(name)
        if bucket is None:
            return None
        left = bucket.left(now)
        seconds = (bucket.per_minute - left) * _MINUTE_SECONDS / bucket.per_minute
        return Standing(bucket.per_minute, max(0.0, left), seconds)

    def spent(self, name: str, period: str) -> float:
        """Return the tokens that a key used here in a day or month."""
        return self._spent.get(name, {}).get(period, 0.0)

    def told(self, when: datetime) -> tuple[KeySpent, ...]:
        """Return what each bounded key used of the present day or month, whole tokens."""
        found = []
        for name in sorted(self._bounds):
            if tokens := self.spent(name, period := self.period(name, when)):
                found.append(KeySpent(key=name, period=period, tokens=math.ceil(tokens)))
        return tuple(found)

    def kept(self) -> tuple[KeySpent, ...]:
        """Return all counts, for the file that the next run begins with."""
        return tuple(
            KeySpent(key=name, period=period, tokens=min(math.ceil(tokens), BUDGET_TOKENS_MAX))
            for name, periods in sorted(self._spent.items())
            for period, tokens in sorted(periods.items())
        )

    def restore(self, kept: Iterable[KeySpent]) -> None:
        """Go on from the counts of the run before."""
        for one in kept:
            self._spent.setdefault(one.key, {})[one.period] = float(one.tokens)

    def _use(self, name: str, period: str, tokens: float, now: float) -> None:
        """Count tokens; negative ones are given back, never more than there are."""
        if (bucket := self._buckets.get(name)) is not None:
            bucket.take(tokens, now)
        periods = self._spent.setdefault(name, {})
        if (total := max(0.0, periods.get(period, 0.0) + tokens)) > 0.0:
            periods[period] = total
        else:
            periods.pop(period, None)
        while len(periods) > PERIODS_KEPT:
            del periods[min(one for one in periods if one != period)]
        if not periods:
            del self._spent[name]
