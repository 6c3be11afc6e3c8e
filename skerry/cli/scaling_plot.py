"""A deployment's scaling as a picture: an HTML file that needs nothing, or a PNG by matplotlib."""

import html
import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import datetime
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.plumbing.errors import InvalidInput

if TYPE_CHECKING:
    from skerry.client.scaling import ScalingExplanation
    from skerry.fleet.autoscaling.scaled import FleetRecord
    from skerry.fleet.autoscaling.told import ToldDecision

WIDTH, HEIGHT, MARGIN = 960, 320, 44
TICKS_MAX = 8
# Planes with a plot of what they decided by themselves; `-o json` has more.
PLANES_DRAWN_MAX = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Point:
    """What lines show at a moment; None is not known."""

    at: datetime
    needed: float | None
    target: float
    running: float
    busy: float | None
    unmet: str
    sentence: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the plot: what it shows, its colour, and its value in each decision."""

    name: str
    colour: str
    value: Callable[[Point], float | None]


LINES = (
    Line(name="needed", colour="#c2410c", value=lambda one: one.needed),
    Line(name="target", colour="#1d4ed8", value=lambda one: one.target),
    Line(name="running", colour="#15803d", value=lambda one: one.running),
    Line(name="busy", colour="#6b7280", value=lambda one: one.busy),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Series:
    """A plot: whose decisions, and what they were over time, the oldest first."""

    title: str
    points: tuple[Point, ...]


def draw(path: Path, found: "ScalingExplanation") -> None:
    """Write the plot; InvalidInput without decisions, or without matplotlib for a PNG."""
    shown = series_of(found)
    if not shown:
        raise InvalidInput(
            f"{len(found.decisions)} decisions of {found.deployment!r} are kept, too few for a"
            " plot; the global loop makes one every half minute"
        )
    if path.suffix.lower() == ".html":
        path.write_text(html_of(found, shown), encoding="utf-8")
    else:
        _draw_png(path, shown)


def series_of(found: "ScalingExplanation") -> tuple[Series, ...]:
    """Return what is to be drawn: the global loop's decisions, then those of planes by name.

    Without series of fewer than two decisions, and of the first planes only.
    """
    whole = tuple(_of_fleet(one) for one in reversed(found.decisions))
    series = [Series(title=f"{found.deployment}: replicas", points=whole)]
    for row in found.planes:
        own = reversed(row.decisions)
        points = tuple(_of_plane(one, one.decided_at) for one in own if one.decided_at is not None)
        series.append(Series(title=f"{row.plane}: replicas, by its own loop", points=points))
    return tuple(one for one in series if len(one.points) > 1)[: PLANES_DRAWN_MAX + 1]


def _of_fleet(one: "FleetRecord") -> Point:
    return Point(
        at=one.decided_at,
        needed=one.wanted,
        target=one.total,
        running=one.running,
        busy=one.need.work if one.need else None,
        unmet=str(one.unmet),
        sentence=one.sentence,
    )


def _of_plane(one: "ToldDecision", at: datetime) -> Point:
    return Point(
        at=at,
        needed=one.need.replicas if one.need else None,
        target=one.target,
        running=one.ready + one.starting,
        busy=one.need.work if one.need else None,
        unmet="-",
        sentence=one.sentence,
    )


def html_of(found: "ScalingExplanation", shown: Sequence[Series]) -> str:
    """Return a page with each plot as SVG, and below it its decisions as a table, newest first."""
    title = html.escape(f"{found.deployment}: replicas")
    sections = "\n".join(map(_section, shown))
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{text-align:left;padding:2px 12px 2px 0}}
svg{{max-width:100%}}</style></head><body>
<h1>{title}</h1><p>{html.escape(found.sentence)}</p>
{sections}
</body></html>
"""


def _section(one: Series) -> str:
    rows = "\n".join(
        f"<tr><td>{point.at.isoformat(timespec='seconds')}</td><td>{point.running}</td>"
        f"<td>{point.target}</td><td>{_known(point.needed)}</td><td>{point.unmet}</td>"
        f"<td>{html.escape(point.sentence)}</td></tr>"
        for point in reversed(one.points)
    )
    return f"""<h2>{html.escape(one.title)}</h2>
{_svg(one.points)}
<table><tr><th>when</th><th>running</th><th>target</th><th>needed</th><th>unmet</th><th>why</th></tr>
{rows}
</table>"""


def _known(value: float | None) -> str:
    return "-" if value is None else f"{value}"


def _svg(shown: Sequence[Point]) -> str:
    began, ended = shown[0].at.timestamp(), shown[-1].at.timestamp()
    seconds = max(1.0, ended - began)
    most = max(1.0, *(line.value(one) or 0.0 for line in LINES for one in shown))

    def x_of(one: Point) -> float:
        share = (one.at.timestamp() - began) / seconds
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    def y_of(value: float) -> float:
        return HEIGHT - MARGIN - value / most * (HEIGHT - 2 * MARGIN)

    def place_of(one: Point, value: float | None) -> tuple[float, float | None]:
        return x_of(one), None if value is None else y_of(value)

    parts = []
    for number in range(TICKS_MAX + 1):
        value = most * number / TICKS_MAX
        y = y_of(value)
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}"'
            f' stroke="#e5e7eb"/><text x="4" y="{y + 4:.1f}" font-size="11">{value:.1f}</text>'
        )
    for one in (shown[0], shown[-1]):
        told = one.at.strftime("%Y-%m-%d %H:%M UTC")
        anchor = "start" if one is shown[0] else "end"
        parts.append(
            f'<text x="{x_of(one):.1f}" y="{HEIGHT - 10}" font-size="11"'
            f' text-anchor="{anchor}">{told}</text>'
        )
    for index, line in enumerate(LINES):
        parts += [
            f'<polyline fill="none" stroke="{line.colour}" stroke-width="2" points="{points}"/>'
            for points in _steps([place_of(one, line.value(one)) for one in shown])
        ]
        parts.append(
            f'<text x="{MARGIN + 90 * index}" y="18" font-size="13" fill="{line.colour}">'
            f"{line.name}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _steps(points: Sequence[tuple[float, float | None]]) -> tuple[str, ...]:
    """Return lines on which each value holds until the next; what is not known breaks them."""
    pieces: list[list[tuple[float, float]]] = [[]]
    for x, y in points:
        piece = pieces[-1]
        if piece:
            piece.append((x, piece[-1][1]))
        if y is not None:
            piece.append((x, y))
        elif piece:
            pieces.append([])
    return tuple(" ".join(f"{x:.1f},{y:.1f}" for x, y in piece) for piece in pieces if piece)


def _draw_png(path: Path, shown: Sequence[Series]) -> None:
    try:
        import matplotlib
    except ImportError:
        raise InvalidInput(
            "a PNG needs matplotlib, which is no part of Skerry; install it into this environment,"
            " or name a .html file"
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt
    from matplotlib.dates import date2num

    size = (10.0, 4.0 * len(shown))
    figure, grid = plt.subplots(len(shown), figsize=size, squeeze=False)
    for axes, one in zip(grid[:, 0], shown, strict=True):
        moments = date2num([point.at for point in one.points])  # type: ignore[no-untyped-call]
        axes.xaxis_date()
        for line in LINES:
            known = [line.value(point) for point in one.points]
            values = [math.nan if value is None else value for value in known]
            axes.step(moments, values, where="post", label=line.name, color=line.colour)
        axes.set(title=one.title, ylabel="replicas")
        axes.set_ylim(bottom=0)
        axes.legend(fontsize=8)
        axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": ""}, format="png")
    plt.close(figure)
