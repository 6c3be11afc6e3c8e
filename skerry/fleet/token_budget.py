"""How many tokens an API key may use of a day or a month, and which day or month it is.

Days and months are UTC's: planes on different continents count the same ones.
"""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from enum import StrEnum

# As many keys as a control plane keeps.
KEYS_TOLD_MAX = 1_000


class BudgetPeriod(StrEnum):
    """After which time a budget begins anew."""

    DAY = "day"
    MONTH = "month"


def period_at(period: BudgetPeriod, when: datetime) -> str:
    """Return the name of the day or month of that moment: `2026-11-27`, or `2026-11`."""
    day = when.astimezone(UTC).date().isoformat()
    return day if period is BudgetPeriod.DAY else day[:7]


def seconds_left(period: BudgetPeriod, when: datetime) -> float:
    """Return how many seconds the day or month of that moment goes on."""
    here = when.astimezone(UTC)
    begun = here.replace(hour=0, minute=0, second=0, microsecond=0)
    if period is BudgetPeriod.MONTH:
        # Four days after the 28th are in the next month, whichever it is.
        later = begun.replace(day=28) + timedelta(days=4)
        return (later.replace(day=1) - here).total_seconds()
    return (begun + timedelta(days=1) - here).total_seconds()


@dataclass(frozen=True, slots=True, kw_only=True)
class KeySpent:
    """The tokens that a key used at one plane in the day or month of that name."""

    key: str
    period: str
    tokens: int
