"""`skerry scaling pause|resume NAME` and `skerry explain scaling NAME`: scaling, for people.

An explanation is a sentence, a table and a plot: lines of bars, or a PNG or HTML file.
"""

from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.render import Columns, render_json, render_table
from skerry.cli.session import UsageFault, session_of

if TYPE_CHECKING:
    from collections.abc import Sequence

    from rich.console import Console

    from skerry.client.scaling import PlaneScalingRow, ScalingExplanation
    from skerry.fleet.autoscaling.scaled import FleetRecord, ShareRecord
    from skerry.fleet.autoscaling.told import ToldDecision
    from skerry.fleet.coefficients import Coefficients

app = typer.Typer(
    help="Let the number of replicas stay as it is, or follow load again.", no_args_is_help=True
)

NameArgument = Annotated[str, typer.Argument(help="The deployment.")]
PLOTS = (".png", ".html")
ROWS_SHOWN_MAX = 15  # decisions; `-o json` and plots have all that were asked for
OWN_ROWS_SHOWN_MAX = 10  # of what planes decided by themselves, over all of them
OWN_BARS_SHOWN_MAX = 8  # planes with a line of bars
BARS_MAX = 60
BARS = " ▁▂▃▄▅▆▇█"
_NEVER = datetime.min.replace(tzinfo=UTC)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Own:
    """A plane's own decision, as a row."""

    plane: str
    decision: "ToldDecision"


_DECISIONS: Columns = (
    ("WHEN", lambda r: r.decided_at.astimezone().strftime("%Y-%m-%d %H:%M:%S")),
    ("RUNNING", lambda r: r.running),
    ("TARGET", lambda r: r.total),
    ("USD/H", lambda r: "-" if r.dollars_per_hour is None else f"{r.dollars_per_hour:,.2f}"),
    ("NEEDED", lambda r: r.wanted),
    ("UNMET", lambda r: r.unmet or "-"),
    ("BUSY", lambda r: f"{r.need.work:.2f}" if r.need else "-"),
    ("RESERVE", lambda r: f"{r.need.reserve:.2f}" if r.need else "-"),
    ("QUEUE", lambda r: f"{r.need.queue:.2f}" if r.need else "-"),
    ("FILL TO", lambda r: f"{r.need.utilization:.0%}" if r.need else "-"),
    ("BECAUSE", lambda r: r.because),
)
_OWN: Columns = (
    ("PLANE", lambda r: r.plane),
    ("DECIDED BY ITSELF", lambda r: _moment(r.decision)),
    ("READY", lambda r: r.decision.ready),
    ("STARTING", lambda r: r.decision.starting or "-"),
    ("TARGET", lambda r: r.decision.target),
    ("NEEDED", lambda r: r.decision.need.replicas if r.decision.need else "-"),
    ("IN FLIGHT", lambda r: _in_flight(r.decision)),
    ("BECAUSE", lambda r: r.decision.because),
)
_SHARES: Columns = (
    ("PLANE", lambda r: r.plane),
    ("RUNNING", lambda r: r.running),
    ("FLOOR/TARGET/CEILING", lambda r: _bounds(r)),
    ("USD/H EACH", lambda r: f"{r.price_per_hour:.3f}"),
    ("HEARD", lambda r: "yes" if r.heard else "no"),
)


@app.command("pause")
def pause(context: typer.Context, name: NameArgument) -> None:
    """Keep a deployment's number of replicas as it is, whatever its load; `resume` ends it."""
    session = session_of(context)
    with session.operator() as client:
        row = client.pause_scaling(name)
    session.console().print(
        f"{name}: paused at {row.replicas_ready} ready replicas; `skerry scaling resume {name}`"
    )


@app.command("resume")
def resume(context: typer.Context, name: NameArgument) -> None:
    """Let a deployment's number of replicas follow its load again."""
    session = session_of(context)
    with session.operator() as client:
        row = client.resume_scaling(name)
    scaling = row.deployment.scaling
    told = f"{scaling.min_replicas} to {scaling.max_replicas} replicas"
    session.console().print(f"{name}: follows its load again, {told}")


def explain_scaling(
    context: typer.Context,
    name: NameArgument,
    decisions: Annotated[
        int, typer.Option("--decisions", help="How many, the newest; 120 are an hour.", min=1)
    ] = 120,
    plot: Annotated[
        Path | None, typer.Option("--plot", help="Write a plot to this .png or .html.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Say why a deployment has as many replicas as it has: a sentence, the decisions, a plot."""
    check_output(output)
    if plot is not None and plot.suffix.lower() not in PLOTS:
        raise UsageFault(f"--plot {plot} must end in {' or '.join(PLOTS)}")
    session = session_of(context)
    with session.operator() as client:
        found = client.explain_scaling(name, decisions)
    if output == "json":
        typer.echo(render_json(found))
    else:
        print_scaling(session.console(), found)
    if plot is not None:
        from skerry.cli.scaling_plot import draw

        draw(plot, found)


def print_scaling(console: "Console", found: "ScalingExplanation") -> None:
    """Print a sentence, what planes say, the newest decisions and a line of bars."""
    paused = ", paused" if found.paused else ""
    bounds = f"{found.min_replicas} to {found.max_replicas} replicas by {found.strategy}{paused}"
    console.print(f"{found.deployment} ({bounds}): {found.sentence}", markup=False)
    for row in found.planes:
        console.print(f"  {row.plane}: {_said(row)}", markup=False, style="dim")
        for cost in row.costs:
            console.print(f"    measured on {cost_told(cost)}", markup=False, style="dim")
    _print_own(console, found.planes)
    if not found.decisions:
        return
    if found.decisions[0].shares:
        console.print(render_table(_SHARES, found.decisions[0].shares))
    console.print(render_table(_DECISIONS, found.decisions[:ROWS_SHOWN_MAX]))
    if (more := len(found.decisions) - ROWS_SHOWN_MAX) > 0:
        console.print(f"  and {more} before", style="dim")
    for line in spark_lines(found.decisions):
        console.print(line, markup=False)


def _said(row: "PlaneScalingRow") -> str:
    if row.decision is not None:
        return row.decision.sentence
    if not row.decisions:
        return "has not decided yet"
    last, now = row.decisions[0], "decides nothing now" if row.counts else "is not heard"
    return f"{now}; at {_moment(last)} it decided: {last.sentence}"


def cost_told(cost: "Coefficients") -> str:
    """Return what tokens cost on a kind of accelerator, in milliseconds."""
    prompt, decode = cost.prefill_seconds_per_token * 1e3, cost.decode_seconds_per_token * 1e3
    iteration = cost.iteration_seconds * 1e3
    return (
        f"{cost.accelerator}: {prompt:.3g} ms a token of prompts,"
        f" {iteration:.3g} ms an iteration and {decode:.3g} ms a token in it"
    )


def _print_own(console: "Console", planes: "Sequence[PlaneScalingRow]") -> None:
    """Print what planes decided by themselves lately, and the targets of each as a line of bars."""
    own = [_Own(plane=row.plane, decision=one) for row in planes for one in row.decisions]
    if not own:
        return
    own.sort(key=lambda one: (one.decision.decided_at or _NEVER, one.plane), reverse=True)
    console.print(render_table(_OWN, own[:OWN_ROWS_SHOWN_MAX]))
    if (more := len(own) - OWN_ROWS_SHOWN_MAX) > 0:
        console.print(f"  and {more} before, of {len(planes)} planes", style="dim")
    for row in planes[:OWN_BARS_SHOWN_MAX]:
        targets = [one.target for one in reversed(row.decisions[:BARS_MAX])]
        if len(targets) > 1:
            bars = _bars(targets, max(1, *targets))
            console.print(f"{row.plane} {bars} {targets[-1]}", markup=False)


def _moment(decision: "ToldDecision") -> str:
    at = decision.decided_at
    return at.astimezone().strftime("%Y-%m-%d %H:%M:%S") if at is not None else "-"


def spark_lines(decisions: "Sequence[FleetRecord]") -> tuple[str, ...]:
    """Return needed and target replicas as bars over time, the newest right; decisions come so."""
    shown = tuple(reversed(decisions[:BARS_MAX]))
    if len(shown) < 2:
        return ()
    most = max(1, *(max(one.wanted, one.total) for one in shown))
    since, until = (one.decided_at.astimezone().strftime("%H:%M") for one in (shown[0], shown[-1]))
    wanted, total = [one.wanted for one in shown], [one.total for one in shown]
    span = f"({since} to {until}, full is {most})"
    return (
        f"needed {_bars(wanted, most)} {wanted[-1]}",
        f"target {_bars(total, most)} {total[-1]}  {span}",
    )


def _in_flight(decision: "ToldDecision") -> str:
    return "-" if decision.concurrency is None else f"{decision.concurrency:.2f}"


def _bounds(share: "ShareRecord") -> str:
    target = "own" if share.target is None else share.target
    return f"{share.floor}/{target}/{share.ceiling}"


def _bars(values: "Sequence[int]", most: int) -> str:
    top = len(BARS) - 1
    return "".join(BARS[-(-value * top // most)] for value in values)
