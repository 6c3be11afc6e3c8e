"""`skerry simulate TRACE -f FILE`: the operator's own load through the autoscaler, with no fleet.

The policies are those that run in production, the clock is virtual, and others' published rules
stand beside them. Needs the packages of a control plane (NumPy, Numba).
"""

import base64
import html
import io
import json
import math
import re
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import UsageFault, session_of
from skerry.plumbing.errors import InvalidInput

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.fleet.autoscaling.factors import ScalingFactors
    from skerry.fleet.coefficients import Coefficients
    from skerry.fleet.deployment import Deployment
    from skerry.replay.arrivals import Arrivals
    from skerry.replay.world import FleetModel, Outcome, RegionFleet

_REGION = re.compile(r"(?P<name>[^=@]+)(=(?P<floor>\d+)\.\.(?P<ceiling>\d+))?(@(?P<price>[\d.]+))?")
_HEADS = ("POLICY", "IN TIME", "REPLICA-HOURS", "DOLLARS", "CHANGES", "REVERSALS", "PEAK")
_REGION_HELP = "NAME[=FLOOR..CEILING][@DOLLARS an hour]; repeatable. Without: those of the trace."
_BEGINS_HELP = "When the first request came, e.g. 2026-03-02T08:00+01:00: schedules go by it."
_COST_HELP = "Seconds, as `skerry profile` fits them: PROMPT_TOKEN,ITERATION,DECODED_TOKEN."
_PLOT_HELP = "Write the plot here: a .png, or a .html with the table that needs nothing else."
_PLOTS = (".png", ".html")
_BOUNDS_HELP = "Also the fixed fleet and the plan that hindsight would have had; takes long."


def simulate(
    context: typer.Context,
    trace: Annotated[Path, typer.Argument(help="Requests: .csv, .jsonl or .parquet.")],
    file: Annotated[list[str], typer.Option("-f", "--file", help="A deployment file.")],
    region: Annotated[list[str] | None, typer.Option("--region", help=_REGION_HELP)] = None,
    policy: Annotated[
        list[str] | None, typer.Option("--policy", help="Only this one; repeatable.")
    ] = None,
    bounds: Annotated[bool, typer.Option("--bounds", help=_BOUNDS_HELP)] = False,
    copies: Annotated[int, typer.Option("--copies", help="Times the load.")] = 1,
    costs: Annotated[str | None, typer.Option("--costs", help=_COST_HELP)] = None,
    cold_start: Annotated[
        float, typer.Option("--cold-start", help="Seconds until a replica serves.")
    ] = 120.0,
    spill_at: Annotated[
        int, typer.Option("--spill-at", help="In flight before a peer is asked; 0 is never.")
    ] = 6,
    begins: Annotated[str | None, typer.Option("--begins", help=_BEGINS_HELP)] = None,
    peer_delay: Annotated[float, typer.Option("--peer-delay", help="Seconds to a peer.")] = 0.1,
    objective: Annotated[float, typer.Option("--objective", help="Part to be in time.")] = 0.99,
    plot: Annotated[Path | None, typer.Option("--plot", help=_PLOT_HELP)] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Replay a trace under the autoscaler and others' rules: replica-hours, cost, SLO, changes."""
    check_output(output)
    deployment = _deployment(file)
    if not 0.0 < objective < 1.0:
        raise UsageFault("--objective must lie between 0 and 1, e.g. 0.99")
    if plot is not None:
        _check_plot(plot)
    _check_packages()
    from skerry.replay.arrivals import read_arrivals, repeated, spread_over

    arrivals = repeated(read_arrivals(trace), copies)
    regions = read_regions(region or (), arrivals.names, deployment)
    if len(arrivals.names) == 1 and len(regions) > 1:
        arrivals = spread_over(arrivals, [one.name for one in regions])
    arrivals = _in_order(arrivals, regions)
    try:
        from skerry.replay.world import BEGAN, FleetModel

        fleet = FleetModel(
            regions=regions,
            coefficients=read_costs(costs),
            batch=deployment.revision.engine.concurrent_requests,
            cold_start_seconds=cold_start,
            ttft_seconds=deployment.revision.objective.ttft_seconds,
            tpot_seconds=deployment.revision.objective.tpot_seconds,
            spill_at=spill_at,
            peer_seconds=peer_delay,
            began=BEGAN if begins is None else read_moment(begins),
        )
    except ValueError as error:
        raise InvalidInput(str(error)) from None
    found = tuple(_outcomes(fleet, deployment, arrivals, policy or ()))
    if bounds:
        found += tuple(_bounds(fleet, arrivals, objective))
    if plot is not None:
        _draw(plot, found, f"{deployment.name}: {_summary(arrivals)}")
    if output == "json":
        typer.echo(json.dumps([one.figures() for one in found], indent=1))
    else:
        _print(session_of(context).console(), found, arrivals)


def read_moment(told: str) -> datetime:
    """Return a moment as ISO 8601 has it, UTC where it names no time zone."""
    try:
        moment = datetime.fromisoformat(told)
    except ValueError:
        raise UsageFault(
            f"--begins {told!r} must be a moment, e.g. 2026-03-02T08:00+01:00"
        ) from None
    return moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC)


def read_regions(
    told: Sequence[str], names: Sequence[str], deployment: "Deployment"
) -> "tuple[RegionFleet, ...]":
    """Return the regions that were named, else the trace's, with the deployment's bounds."""
    from skerry.replay.world import REPLICAS_OF_REGION_MAX, RegionFleet

    scaling = deployment.scaling
    texts = list(told) or list(names)
    found = []
    for text in texts:
        parsed = _REGION.fullmatch(text)
        if parsed is None:
            raise UsageFault(f"--region {text!r} must be NAME[=FLOOR..CEILING][@DOLLARS]")
        floor = parsed["floor"] or math.ceil(scaling.min_replicas / len(texts))
        ceiling = parsed["ceiling"] or min(scaling.max_replicas, REPLICAS_OF_REGION_MAX)
        try:
            found.append(
                RegionFleet(
                    name=parsed["name"],
                    floor=int(floor),
                    ceiling=int(ceiling),
                    price_per_hour=float(parsed["price"] or 0.0),
                )
            )
        except ValueError as error:
            raise UsageFault(f"--region {text!r}: {error}") from None
    return tuple(found)


def read_costs(told: str | None) -> "Coefficients":
    """Return the coefficients of `PROMPT_TOKEN,ITERATION,DECODED_TOKEN`, else the reference's."""
    from skerry.replay.catalogue import REFERENCE

    if told is None:
        return REFERENCE
    try:
        prefill, iteration, decode = (float(part) for part in told.split(","))
        return replace(
            REFERENCE,
            prefill_seconds_per_token=prefill,
            iteration_seconds=iteration,
            decode_seconds_per_token=decode,
        )
    except ValueError as error:
        raise UsageFault(f"--costs {told!r} must be three numbers: {error}") from None


def _check_packages() -> None:
    try:
        import numba  # noqa: F401
    except ImportError:
        raise InvalidInput(
            "the replay needs NumPy and Numba; install skerry[control] into this environment"
        ) from None


def _deployment(files: Sequence[str]) -> "Deployment":
    from skerry.cli.files import read_deployments

    found = read_deployments(files)
    if len(found) != 1:
        names = ", ".join(one.name for _, one in found)
        raise UsageFault(f"a replay is of one deployment; these files say {len(found)}: {names}")
    return found[0][1]


def _in_order(arrivals: "Arrivals", regions: "Sequence[RegionFleet]") -> "Arrivals":
    """Return the arrivals with regions numbered as the fleet has them."""
    import numpy as np

    names = [one.name for one in regions]
    if len(arrivals.names) == 1 and len(names) == 1:
        return arrivals
    missing = [name for name in arrivals.names if name not in names]
    if missing:
        raise UsageFault(f"the trace has requests of {', '.join(missing)}; name them by --region")
    order = np.array([names.index(name) for name in arrivals.names], dtype=np.int64)
    return replace(arrivals, region=order[arrivals.region], names=tuple(names))


def _outcomes(
    fleet: "FleetModel", deployment: "Deployment", arrivals: "Arrivals", named: Sequence[str]
) -> "Iterator[Outcome]":
    from skerry.replay.catalogue import LOCAL, POLICIES, POOLED, Wanted, request_seconds
    from skerry.replay.world import run

    unknown = [name for name in named if name not in POLICIES]
    if unknown:
        raise UsageFault(f"--policy {unknown[0]!r} must be one of: {', '.join(POLICIES)}")
    alone = replace(fleet, spill_at=0)
    cost = request_seconds(arrivals, fleet)
    warm = [max(1, region.floor) for region in fleet.regions]
    ours = _factors(deployment)
    others = replace(ours, concurrency_target=_in_flight_target(deployment, ours))
    for name in named or POLICIES:
        # Others' rules are silos; ours is shown as both.
        world = fleet if name == POOLED else alone
        factors = ours if name in (POOLED, LOCAL) else others
        wanted = Wanted(fleet=world, factors=factors, request_seconds=cost)
        yield run(world, arrivals, POLICIES[name](wanted), warm)


def _bounds(fleet: "FleetModel", arrivals: "Arrivals", objective: float) -> "Iterator[Outcome]":
    from skerry.replay.hindsight import pooled_hindsight, static_hindsight

    yield static_hindsight(replace(fleet, spill_at=0), arrivals, objective, pooled=False)
    yield pooled_hindsight(fleet, arrivals, objective)


def _factors(deployment: "Deployment") -> "ScalingFactors":
    from skerry.fleet.autoscaling.factors import factors_of

    try:
        return factors_of(deployment.scaling)
    except ValueError as error:
        raise InvalidInput(f"deployment {deployment.name!r}: scaling: {error}") from None


def _in_flight_target(deployment: "Deployment", factors: "ScalingFactors") -> float:
    """Return how many requests in flight others' rules are to fill a replica with.

    Where the file has the default, which is one, that is what the engine takes at once: by one
    they would buy a replica for each request, and ours would look good for nothing.
    """
    from skerry.fleet.autoscaling.concurrency import fallback_target
    from skerry.fleet.scaling import Scaling

    named = factors.concurrency_target
    if named != Scaling().concurrency_target:
        return named
    return fallback_target(named, float(deployment.revision.engine.concurrent_requests))


def _print(console: "Console", found: "Sequence[Outcome]", arrivals: "Arrivals") -> None:
    from rich.table import Table

    table = Table(box=None, pad_edge=False)
    for head in _HEADS:
        table.add_column(head, justify="left" if head == "POLICY" else "right")
    for one in found:
        table.add_row(*_row(one))
    console.print(table)
    console.print(_summary(arrivals))


def _row(one: "Outcome") -> tuple[str, ...]:
    return (
        one.policy,
        f"{one.attainment:.2%}",
        f"{one.replica_hours:,.1f}",
        f"{one.dollars:,.0f}" if one.dollars else "-",
        str(one.target_changes),
        str(one.reversals),
        str(one.peak_replicas),
    )


def _summary(arrivals: "Arrivals") -> str:
    hours = arrivals.seconds / 3_600.0
    return f"{len(arrivals.at):,} requests in {hours:.2f} h of {', '.join(arrivals.names)}"


def _check_plot(path: Path) -> None:
    """Refuse what can't be drawn before the replay, which may take minutes."""
    if path.suffix.lower() not in _PLOTS:
        raise UsageFault(f"--plot {path}: name a file that ends in {' or '.join(_PLOTS)}")
    try:
        import matplotlib  # noqa: F401
    except ImportError:
        raise InvalidInput(
            "--plot needs matplotlib, which is no part of Skerry; install it into this environment"
        ) from None


def _draw(path: Path, found: "Sequence[Outcome]", title: str) -> None:
    picture = _picture(found)
    if path.suffix.lower() == ".html":
        path.write_text(_page(picture, found, title), encoding="utf-8")
    else:
        path.write_bytes(picture)


def _page(picture: bytes, found: "Sequence[Outcome]", title: str) -> str:
    """Return a page that needs no other file: the picture in it, and the table."""
    heads = "".join(f"<th>{head}</th>" for head in _HEADS)
    rows = "\n".join(
        f"<tr>{''.join(f'<td>{html.escape(cell)}</td>' for cell in _row(one))}</tr>"
        for one in found
    )
    told = html.escape(title)
    return f"""<!doctype html>
<html lang="en"><head><meta charset="utf-8"><title>{told}</title>
<style>body{{font:14px sans-serif;margin:2em}}td,th{{text-align:right;padding:2px 12px 2px 0}}
td:first-child,th:first-child{{text-align:left}}img{{max-width:100%}}</style></head><body>
<h1>{told}</h1>
<img alt="replicas and late answers over time"
 src="data:image/png;base64,{base64.b64encode(picture).decode()}">
<table><tr>{heads}</tr>
{rows}
</table></body></html>
"""


def _picture(found: "Sequence[Outcome]") -> bytes:
    """Return a PNG of replicas and late answers over time."""
    import matplotlib

    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    figure, (above, below) = plt.subplots(2, 1, figsize=(10.0, 7.0), sharex=True)
    for one in found:
        hours = [at / 3_600.0 for at in one.series.at]
        above.step(hours, [sum(each) for each in one.series.replicas], label=one.policy)
        missed = [
            judged - good for judged, good in zip(one.series.judged, one.series.good, strict=True)
        ]
        below.plot(hours, missed, label=one.policy)
    above.set(ylabel="paid replicas, all regions")
    below.set(ylabel="answers too late, so far", xlabel="hour")
    above.legend(fontsize=8)
    for axes in (above, below):
        axes.grid(alpha=0.3)
        axes.set_ylim(bottom=0)
    figure.tight_layout()
    written = io.BytesIO()
    figure.savefig(written, dpi=110, metadata={"Software": ""}, format="png")
    plt.close(figure)
    return written.getvalue()
