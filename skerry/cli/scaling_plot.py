"""A deployment's scaling as a picture: an HTML file that needs nothing, or a PNG by matplotlib."""

import html
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from skerry.plumbing.errors import InvalidInput

if TYPE_CHECKING:
    from skerry.client.scaling import ScalingExplanation
    from skerry.fleet.autoscaling.scaled import FleetRecord

WIDTH, HEIGHT, MARGIN = 960, 320, 44
TICKS_MAX = 8


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """A line of the plot: what it shows, its colour, and its value in each decision."""

    name: str
    colour: str
    value: "Callable[[FleetRecord], float]"


LINES = (
    Line(name="needed", colour="#c2410c", value=lambda one: one.wanted),
    Line(name="target", colour="#1d4ed8", value=lambda one: one.total),
    Line(name="running", colour="#15803d", value=lambda one: one.running),
    Line(name="busy", colour="#6b7280", value=lambda one: one.need.work if one.need else 0.0),
)


def draw(path: Path, found: "ScalingExplanation") -> None:
    """Write the plot; InvalidInput without decisions, or without matplotlib for a PNG."""
    shown = tuple(reversed(found.decisions))
    if len(shown) < 2:
        raise InvalidInput(
            f"{len(shown)} decisions of {found.deployment!r} are kept, too few for a plot; the"
            " global loop makes one every half minute"
        )
    if path.suffix.lower() == ".html":
        path.write_text(html_of(found, shown), encoding="utf-8")
    else:
        _draw_png(path, found, shown)


def html_of(found: "ScalingExplanation", shown: "Sequence[FleetRecord]") -> str:
    """Return a page with the plot as SVG and the decisions as its table, oldest first."""
    rows = "\n".join(
        f"<tr><td>{one.decided_at.isoformat(timespec='seconds')}</td><td>{one.running}</td>"
        f"<td>{one.total}</td><td>{one.wanted}</td><td>{one.unmet}</td>"
        f"<td>{html.escape(one.sentence)}</td></tr>"
        for one in reversed(shown)
    )
    title = html.escape(f"{found.deployment}: replicas")
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{title}</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{text-align:left;padding:2px 12px 2px 0}}
svg{{max-width:100%}}</style></head><body>
<h1>{title}</h1><p>{html.escape(found.sentence)}</p>
{_svg(shown)}
<table><tr><th>when</th><th>running</th><th>target</th><th>needed</th><th>unmet</th><th>why</th></tr>
{rows}
</table></body></html>
"""


def _svg(shown: "Sequence[FleetRecord]") -> str:
    began, ended = shown[0].decided_at.timestamp(), shown[-1].decided_at.timestamp()
    seconds = max(1.0, ended - began)
    most = max(1.0, *(line.value(one) for line in LINES for one in shown))

    def x_of(one: "FleetRecord") -> float:
        share = (one.decided_at.timestamp() - began) / seconds
        return MARGIN + share * (WIDTH - 2 * MARGIN)

    def y_of(value: float) -> float:
        return HEIGHT - MARGIN - value / most * (HEIGHT - 2 * MARGIN)

    parts = []
    for number in range(TICKS_MAX + 1):
        value = most * number / TICKS_MAX
        y = y_of(value)
        parts.append(
            f'<line x1="{MARGIN}" x2="{WIDTH - MARGIN}" y1="{y:.1f}" y2="{y:.1f}"'
            f' stroke="#e5e7eb"/><text x="4" y="{y + 4:.1f}" font-size="11">{value:.1f}</text>'
        )
    for one in (shown[0], shown[-1]):
        told = one.decided_at.strftime("%Y-%m-%d %H:%M UTC")
        anchor = "start" if one is shown[0] else "end"
        parts.append(
            f'<text x="{x_of(one):.1f}" y="{HEIGHT - 10}" font-size="11"'
            f' text-anchor="{anchor}">{told}</text>'
        )
    for index, line in enumerate(LINES):
        points = _steps([(x_of(one), y_of(line.value(one))) for one in shown])
        parts.append(
            f'<polyline fill="none" stroke="{line.colour}" stroke-width="2" points="{points}"/>'
            f'<text x="{MARGIN + 90 * index}" y="18" font-size="13" fill="{line.colour}">'
            f"{line.name}</text>"
        )
    return f'<svg viewBox="0 0 {WIDTH} {HEIGHT}" role="img">{"".join(parts)}</svg>'


def _steps(points: Sequence[tuple[float, float]]) -> str:
    """Return points such that each value holds until the next."""
    found = [points[0]]
    for x, y in points[1:]:
        found += [(x, found[-1][1]), (x, y)]
    return " ".join(f"{x:.1f},{y:.1f}" for x, y in found)


def _draw_png(path: Path, found: "ScalingExplanation", shown: "Sequence[FleetRecord]") -> None:
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

    figure, axes = plt.subplots(figsize=(10.0, 4.0))
    moments = date2num([one.decided_at for one in shown])  # type: ignore[no-untyped-call]
    axes.xaxis_date()
    for line in LINES:
        values = [line.value(one) for one in shown]
        axes.step(moments, values, where="post", label=line.name, color=line.colour)
    axes.set(title=f"{found.deployment}: replicas", ylabel="replicas")
    axes.set_ylim(bottom=0)
    axes.legend(fontsize=8)
    axes.grid(alpha=0.3)
    figure.autofmt_xdate()
    figure.tight_layout()
    figure.savefig(path, dpi=110, metadata={"Software": ""}, format="png")
    plt.close(figure)
