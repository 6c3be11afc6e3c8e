"""A frame as two tables; what is not of now is dim and has its age beside it."""

from collections.abc import Iterable
from typing import TYPE_CHECKING

from skerry.cli.fleet_top.frame import DeploymentFigures, Frame, PlaneFigures
from skerry.plumbing.logs import escape_controls

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table

UNKNOWN = "-"
# A look takes part of a second, and intervals are of seconds.
_FRESH_SECONDS = 1.5
_PLANES = ("PLANE", "STATE", "ACCELERATORS", "READY", "")
_DEPLOYMENTS = (
    *("DEPLOYMENT", "READY", "REQUESTS/S", "IN FLIGHT", "WAITING"),
    *("FIRST BYTE P50", "P99", "TOKENS/S", ""),
)


def draw(frame: Frame) -> "RenderableType":
    """Return what is shown; with a fault all of it is of an earlier look than was due."""
    from rich.console import Group
    from rich.text import Text

    lines = [Text(head(frame), style="bold red" if frame.fault else "")]
    is_late = bool(frame.fault)
    planes = _table(
        _PLANES,
        ((_plane_cells(one), is_late or one.age_seconds is not None) for one in frame.planes),
    )
    deployments = _table(
        _DEPLOYMENTS,
        ((_deployment_cells(one), is_late or bool(one.stale_planes)) for one in frame.deployments),
    )
    if frame.unasked:
        lines.append(Text(f"the load of {frame.unasked} further deployments is not asked for"))
    return Group(*lines, planes, Text(""), deployments)


def head(frame: Frame) -> str:
    """Return the first line: when this was so, and why it is not of now where it is not."""
    when = frame.time.astimezone().strftime("%H:%M:%S")
    old = "" if frame.age_seconds < _FRESH_SECONDS else f", {age(frame.age_seconds)} ago"
    fault = f"; no control plane answers: {escape_controls(frame.fault)}" if frame.fault else ""
    return f"as of {when}{old}; rates over {frame.span_seconds:.0f} s{fault}"


def age(seconds: float) -> str:
    """Return an age in one unit."""
    for unit, name in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * unit:
            return f"{seconds / unit:.0f} {name}"
    return f"{seconds:.0f} s"


def _plane_cells(plane: PlaneFigures) -> tuple[str, ...]:
    notes = [] if plane.age_seconds is None else [f"not heard for {age(plane.age_seconds)}"]
    if plane.is_behind:
        notes.append("holds an older state than is desired")
    return (
        plane.name,
        plane.state,
        f"{plane.accelerators_placed}/{plane.accelerators}",
        f"{plane.replicas_ready}/{plane.replicas_desired}",
        "; ".join(notes),
    )


def _deployment_cells(one: DeploymentFigures) -> tuple[str, ...]:
    stale = f"without {', '.join(one.stale_planes)}: not heard" if one.stale_planes else ""
    return (
        one.name,
        f"{one.replicas_ready}/{one.replicas_desired}",
        _number(one.requests_per_second, ".1f"),
        _number(one.in_flight, ".0f"),
        _number(one.waiting, ".0f"),
        _milliseconds(one.first_byte_p50_seconds),
        _milliseconds(one.first_byte_p99_seconds),
        _number(one.tokens_per_second, ",.0f"),
        stale,
    )


def _number(value: float | None, form: str) -> str:
    return UNKNOWN if value is None else format(value, form)


def _milliseconds(seconds: float | None) -> str:
    return UNKNOWN if seconds is None else f"{seconds * 1000:,.0f} ms"


def _table(titles: tuple[str, ...], rows: Iterable[tuple[tuple[str, ...], bool]]) -> "Table":
    """Return the table of rows, each with whether it is of before."""
    from rich.table import Table
    from rich.text import Text

    table = Table(box=None, pad_edge=False)
    for number, title in enumerate(titles):
        table.add_column(title, justify="right" if 2 <= number < len(titles) - 1 else "left")
    for cells, is_old in rows:
        style = "dim" if is_old else ""
        table.add_row(*(Text(escape_controls(cell)) for cell in cells), style=style)
    return table
