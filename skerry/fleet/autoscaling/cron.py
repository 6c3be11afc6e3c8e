"""Moments that come again, in the five fields of cron: minute, hour, day, month, weekday. Pure.

`factors` uses them for floors by the time of day. Numbers, `*`, lists, ranges and steps, of
whatever time zone the moment has.
"""

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta

CHARACTERS_MAX = 200
_RANGES = ((0, 59), (0, 23), (1, 31), (1, 12), (0, 7))  # Sunday is 0 or 7
_NAMES = ("minute", "hour", "day", "month", "weekday")


@dataclass(frozen=True, slots=True, kw_only=True)
class Cron:
    """The minutes that fit; where day and weekday are both told, either is enough, as in cron."""

    minutes: frozenset[int]
    hours: frozenset[int]
    days: frozenset[int]
    months: frozenset[int]
    weekdays: frozenset[int]
    any_day: bool
    any_weekday: bool

    def fits_day(self, when: datetime) -> bool:
        """Say whether some minute of that day fits."""
        if when.month not in self.months:
            return False
        day = when.day in self.days
        weekday = (when.weekday() + 1) % 7 in self.weekdays
        if self.any_day or self.any_weekday:
            return day and weekday
        return day or weekday

    def last_at(self, now: datetime, within: timedelta) -> datetime | None:
        """Return the last minute that fits in `now - within < minute <= now`, None without one."""
        minute = now.replace(second=0, microsecond=0)
        while minute > now - within:
            if not self.fits_day(minute) or minute.hour < min(self.hours):
                minute = minute.replace(hour=0, minute=0) - timedelta(minutes=1)
            elif minute.hour not in self.hours or minute.minute < min(self.minutes):
                minute = minute.replace(minute=0) - timedelta(minutes=1)
            elif minute.minute in self.minutes:
                return minute
            else:
                minute -= timedelta(minutes=1)
        return None


def parse(text: str) -> Cron:
    """Return what five fields say; ValueError names the field that is wrong."""
    fields = text.split()
    if len(text) > CHARACTERS_MAX or len(fields) != len(_NAMES):
        raise ValueError(f"cron {text[:40]!r} must be five fields: {' '.join(_NAMES)}")
    minutes, hours, days, months, weekdays = (
        frozenset(_field(field, name, *limits))
        for field, name, limits in zip(fields, _NAMES, _RANGES, strict=True)
    )
    return Cron(
        minutes=minutes,
        hours=hours,
        days=days,
        months=months,
        weekdays=frozenset(day % 7 for day in weekdays),
        any_day=fields[2].startswith("*"),
        any_weekday=fields[4].startswith("*"),
    )


def _field(text: str, name: str, least: int, most: int) -> Iterator[int]:
    for part in text.split(","):
        span, _, step = part.partition("/")
        first, _, last = span.partition("-")
        try:
            stride = int(step) if step else 1
            low = least if span == "*" else int(first)
            # `5/10` is from 5 on, as cron has it.
            high = most if span == "*" or (step and not last) else int(last or first)
        except ValueError:
            raise ValueError(f"cron: {name} {part[:20]!r} is no number, range or step") from None
        if stride < 1 or not least <= low <= high <= most:
            raise ValueError(f"cron: {name} {part[:20]!r} must lie in {least}-{most}")
        yield from range(low, high + 1, stride)
