"""Amounts and times as people write them in files: `512MiB`, `60s`, `1h30m`, RFC 3339.

The manifest's schema reads them, its rendering writes them; what is written reads back as exactly
the same amount.
"""

import re
from datetime import datetime
from decimal import Decimal

from skerry.fleet.token_budget import BudgetPeriod

BYTES_MAX = 2**63 - 1  # what the wire's int64 holds
DURATION_SECONDS_MAX = 10 * 365 * 86_400.0  # ten years: longer is a typing error

_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGTP]i?)?B?")
_TIME = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}T[0-9]{2}:[0-9]{2}:[0-9]{2}(\.[0-9]{1,6})?(Z|[+-][0-9]{2}:[0-9]{2})"
)
_NUMBER = r"[0-9]+(?:\.[0-9]+)?(?:e-[0-9]{1,3})?"
_DURATION = re.compile(rf"(?:{_NUMBER}(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(rf"({_NUMBER})(ms|s|m|h|d)")
_BUDGET = re.compile(r"([0-9]+(?:\.[0-9]+)?)([kMG]?)(?:/(day|month))?")
_CHARS_MAX = 64  # no amount needs more; the pattern's work stays bounded
_BYTE_UNITS = {
    "": 1,
    "k": 10**3,
    "K": 10**3,
    "M": 10**6,
    "G": 10**9,
    "T": 10**12,
    "P": 10**15,
    "ki": 2**10,
    "Ki": 2**10,
    "Mi": 2**20,
    "Gi": 2**30,
    "Ti": 2**40,
    "Pi": 2**50,
}
_SECONDS = {"s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def parse_bytes(value: object) -> int:
    """Return the bytes of `16GiB`, `500MB` or a plain whole number; ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        amount = value
    elif isinstance(value, str) and len(value) <= _CHARS_MAX and (m := _BYTES.fullmatch(value)):
        amount = round(Decimal(m[1]) * _BYTE_UNITS[m[2] or ""])
    else:
        raise ValueError("must be an amount of memory such as 512MiB or 16GiB")
    if not 0 <= amount <= BYTES_MAX:
        raise ValueError(f"must be between 0 and {BYTES_MAX} bytes")
    return amount


def parse_budget(text: str) -> tuple[int, BudgetPeriod]:
    """Return the tokens and the period of `10M/month`, `500k/day` or `250000` (a month's).

    ValueError otherwise, and for no tokens at all.
    """
    found = _BUDGET.fullmatch(text) if len(text) <= _CHARS_MAX else None
    tokens = int(Decimal(found[1]) * _BYTE_UNITS[found[2]]) if found else 0
    if found is None or tokens < 1:
        raise ValueError("a budget must be an amount of tokens such as 10M/month or 500k/day")
    return tokens, BudgetPeriod(found[3] or "month")


def parse_duration(value: object) -> float:
    """Return the seconds of `60s`, `15m`, `1h30m` or `200ms`; ValueError otherwise."""
    if not isinstance(value, str) or len(value) > _CHARS_MAX or not _DURATION.fullmatch(value):
        raise ValueError("must be a time with its unit, such as 200ms, 60s, 15m or 1h30m")
    # Divided, for 9 * 0.001 is not 0.009.
    seconds = sum(
        float(n) / 1000 if unit == "ms" else float(n) * _SECONDS[unit]
        for n, unit in _DURATION_PART.findall(value)
    )
    if seconds > DURATION_SECONDS_MAX:
        raise ValueError("must be at most ten years")
    return seconds


def parse_time(value: object) -> datetime:
    """Return a moment of RFC 3339 with its zone, `2026-12-01T00:00:00Z`; ValueError otherwise."""
    if isinstance(value, str) and _TIME.fullmatch(value):
        try:
            return datetime.fromisoformat(value)
        except ValueError:
            pass  # the thirteenth month
    raise ValueError(
        "must be a time with its zone, such as 2026-12-01T00:00:00Z or 2026-12-01T09:00:00+01:00"
    )


def format_bytes(amount: int) -> str:
    """Return the amount in the largest binary unit that divides it, e.g. `512MiB`."""
    for unit in ("Pi", "Ti", "Gi", "Mi", "Ki"):
        if amount and amount % _BYTE_UNITS[unit] == 0:
            return f"{amount // _BYTE_UNITS[unit]}{unit}B"
    return f"{amount}B"


def format_duration(seconds: float) -> str:
    """Return the time in the largest unit that divides it, e.g. `15m` or `200ms`."""
    for unit in ("d", "h", "m", "s"):
        if seconds and seconds % _SECONDS[unit] == 0:
            return f"{int(seconds // _SECONDS[unit])}{unit}"
    milliseconds = seconds * 1000
    if round(milliseconds) / 1000 == seconds:
        return f"{round(milliseconds)}ms"
    text = f"{Decimal(repr(seconds)):f}s"
    # The API takes any number: written out, one of 1e-100 would be longer than is read again.
    return text if len(text) <= _CHARS_MAX else f"{seconds!r}s"
