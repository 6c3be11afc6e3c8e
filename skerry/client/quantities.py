"""Amounts as people write them in a deployment file: `512MiB`, `16GiB`, `60s`, `15m`, `1h30m`.

The manifest's schema reads them, its rendering writes them.
"""

import re

BYTES_MAX = 2**63 - 1  # what the wire's int64 holds
DURATION_SECONDS_MAX = 10 * 365 * 86_400.0  # ten years: longer is a typing error

_BYTES = re.compile(r"([0-9]+(?:\.[0-9]+)?)\s*([kKMGTP]i?)?B?")
_DURATION = re.compile(r"(?:[0-9]+(?:\.[0-9]+)?(?:ms|s|m|h|d))+")
_DURATION_PART = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
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
_SECONDS = {"ms": 0.001, "s": 1.0, "m": 60.0, "h": 3_600.0, "d": 86_400.0}


def parse_bytes(value: object) -> int:
    """Return the bytes of `16GiB`, `500MB` or a plain whole number; ValueError otherwise."""
    if isinstance(value, int) and not isinstance(value, bool):
        amount = value
    elif isinstance(value, str) and len(value) <= _CHARS_MAX and (m := _BYTES.fullmatch(value)):
        amount = round(float(m[1]) * _BYTE_UNITS[m[2] or ""])
    else:
        raise ValueError("must be an amount of memory such as 512MiB or 16GiB")
    if not 0 <= amount <= BYTES_MAX:
        raise ValueError(f"must be between 0 and {BYTES_MAX} bytes")
    return amount


def parse_duration(value: object) -> float:
    """Return the seconds of `60s`, `15m`, `1h30m` or `200ms`; ValueError otherwise."""
    if not isinstance(value, str) or len(value) > _CHARS_MAX or not _DURATION.fullmatch(value):
        raise ValueError("must be a time with its unit, such as 200ms, 60s, 15m or 1h30m")
    seconds = sum(float(n) * _SECONDS[unit] for n, unit in _DURATION_PART.findall(value))
    if seconds > DURATION_SECONDS_MAX:
        raise ValueError("must be at most ten years")
    return seconds


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
    return f"{seconds:.9f}".rstrip("0") + "s"
