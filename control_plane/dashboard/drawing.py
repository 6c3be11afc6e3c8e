"""Templates and what they call: ages, money, and the geometry of bars and steps.

`site.py` renders with it. What goes into a template is escaped there, whoever wrote it.
"""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

import jinja2

FOLDER = Path(__file__).resolve().parent
STATIC = FOLDER / "static"
_MINUTE, _SHORT, _HOUR, _DAY = 60, 600, 3_600, 86_400


def environment() -> jinja2.Environment:
    """Return the templates, every value in them escaped and a missing one an error."""
    made = jinja2.Environment(
        loader=jinja2.FileSystemLoader(FOLDER / "templates"),
        autoescape=True,
        undefined=jinja2.StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    made.filters["money"] = money
    made.filters["span"] = span
    made.filters["stamp"] = stamp
    made.filters["quick"] = quick
    made.globals["bar"] = bar
    made.globals["digests"] = static_digests()
    return made


def static_digests() -> Mapping[str, str]:
    """Return the static files by name with what their addresses carry: another byte, another one.

    A browser keeps them for ever under their address.
    """
    return {
        path.name: hashlib.sha256(path.read_bytes()).hexdigest()[:12]
        for path in STATIC.iterdir()
        if path.is_file()
    }


def money(dollars: float | None) -> str:
    """Return USD for people, a dash where no price is told."""
    return "–" if dollars is None else f"${dollars:,.2f}"


def span(seconds: float) -> str:
    """Return how long something takes or took, in its largest unit and the next."""
    whole = max(0, round(seconds))
    if whole < _MINUTE:
        return f"{whole} s"
    if whole < _HOUR:
        return f"{whole // _MINUTE} min" + (f" {whole % _MINUTE} s" if whole < _SHORT else "")
    if whole < _DAY:
        return f"{whole // _HOUR} h {whole % _HOUR // _MINUTE} min"
    return f"{whole // _DAY} d {whole % _DAY // _HOUR} h"


def quick(seconds: float, longest: float) -> str:
    """Return a time that is mostly less than a second; one that is no less than `longest` says so.

    Counts end there: how much longer it took is not known.
    """
    told = f"{seconds * 1000:.0f} ms" if seconds < 1.0 else f"{seconds:.2g} s"
    return f"≥ {longest:g} s" if seconds >= longest else told


def stamp(moment: datetime) -> str:
    """Return a moment in UTC, to the second."""
    return moment.strftime("%Y-%m-%d %H:%M:%S")


def bar(
    parts: Iterable[tuple[str, float]], total: float, width: float = 100.0
) -> tuple[tuple[str, float, float], ...]:
    """Return the name, beginning and width of each part of a bar; empty parts are left out."""
    found: list[tuple[str, float, float]] = []
    at = 0.0
    for name, value in parts:
        share = width * value / total if total > 0 else 0.0
        share = min(share, width - at)
        if share > 0:
            found.append((name, round(at, 2), round(share, 2)))
        at += share
    return tuple(found)


def steps(points: Sequence[tuple[float, float]], box: tuple[float, float, float, float]) -> str:
    """Return an SVG path that holds each value until the next; `box` is left, right, top, bottom.

    Points are (0..1, 0..1), from the left and from the bottom.
    """
    left, right, top, bottom = box
    path = ""
    for x, y in points:
        across = round(left + x * (right - left), 1)
        down = round(bottom - y * (bottom - top), 1)
        path += f"H{across}V{down}" if path else f"M{across} {down}"
    return f"{path}H{right}" if path else ""


def frame_values(values: Mapping[str, Any], now: datetime) -> dict[str, Any]:
    """Return a template's values with what every template has: `now`, and how long ago it was."""
    return {**values, "now": now, "ago": lambda then: span((now - then).total_seconds())}
