"""`skerry load`: open-loop load on several gateways, with a ledger of every request."""

import asyncio
import contextlib
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import EXIT_FAILED, Session, UsageFault, session_of, usage

if TYPE_CHECKING:
    from skerry.client.gateways import RequestKind
    from skerry.client.load_plan import LoadPlan
    from skerry.client.load_summary import LoadSummary

_MIX_HELP = "Weights, e.g. chat-stream=2,completion=1,generate=1,chat=1."
_TRACE_HELP = "Requests of a .csv, .jsonl or .parquet trace instead of a rate."


def load(
    context: typer.Context,
    rate: Annotated[float, typer.Option("--rate", help="Requests per second.")] = 4.0,
    seconds: Annotated[
        float | None, typer.Option("--seconds", help="How long to send; 10, or the whole trace.")
    ] = None,
    gateway: Annotated[
        list[str] | None, typer.Option("--gateway", help="HOST:PORT; repeatable.")
    ] = None,
    model: Annotated[str | None, typer.Option("--model", help="Served name.")] = None,
    report: Annotated[
        Path | None, typer.Option("--report", help="Write one JSON line per request here.")
    ] = None,
    mix: Annotated[str | None, typer.Option("--mix", help=_MIX_HELP)] = None,
    max_tokens: Annotated[int, typer.Option("--max-tokens", min=1, max=100_000)] = 32,
    seed: Annotated[int, typer.Option("--seed", help="The same seed sends the same.")] = 1,
    arrivals: Annotated[
        str, typer.Option("--arrivals", help="poisson or constant, at --rate.")
    ] = "poisson",
    trace: Annotated[Path | None, typer.Option("--trace", help=_TRACE_HELP)] = None,
    speed: Annotated[float, typer.Option("--speed", help="Of the trace's time.")] = 1.0,
    spread: Annotated[
        str, typer.Option("--spread", help="even: begin at each gateway in turn; or nearest.")
    ] = "even",
    in_flight: Annotated[
        int, typer.Option("--in-flight", help="Requests at once; what is more is shed.")
    ] = 1024,
    deadline: Annotated[
        float, typer.Option("--deadline", help="Seconds of one request, all attempts.")
    ] = 120.0,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Send requests at planned times, whatever the answers do; exit 1 unless all were answered."""
    from skerry.cli.questions import check_output
    from skerry.client.load_plan import DEFAULT_MIX, Arrivals, LoadPlan, Spread

    check_output(output)
    with usage():
        plan = LoadPlan(
            model=model or "",
            rate_per_second=rate,
            seconds=_how_long(seconds, trace),
            seed=seed,
            mix=parse_mix(mix) if mix else DEFAULT_MIX,
            max_tokens=max_tokens,
            arrivals=_choice(Arrivals, "--arrivals", arrivals),
            trace=_read(trace),
            speed=speed,
            spread=_choice(Spread, "--spread", spread),
            in_flight_max=in_flight,
            deadline_seconds=deadline,
        )
    session = session_of(context)
    summary = asyncio.run(_load(session, plan, tuple(gateway or ()), report))
    _print(session, summary, output)
    if not summary.is_clean:
        raise typer.Exit(EXIT_FAILED)


def parse_mix(text: str) -> "tuple[tuple[RequestKind, float], ...]":
    """Return the weights of `KIND=WEIGHT,...`; UsageFault lists the kinds."""
    from skerry.client.gateways import RequestKind

    pairs = []
    for part in text.split(","):
        kind, _, weight = part.partition("=")
        try:
            pairs.append((RequestKind(kind.strip()), float(weight)))
        except ValueError:
            kinds = ", ".join(RequestKind)
            raise UsageFault(f"--mix {part!r} must be KIND=WEIGHT; kinds: {kinds}") from None
    return tuple(pairs)


async def _load(
    session: Session, plan: "LoadPlan", named: tuple[str, ...], report: Path | None
) -> "LoadSummary":
    import dataclasses

    from skerry.cli.known_gateways import api_key, known_gateways, pick_model
    from skerry.client.inference import connect
    from skerry.client.load import run_load
    from skerry.client.load_ledger import Ledger, ledger_file
    from skerry.client.load_summary import summarise
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds
    from skerry.plumbing.tasks import stop_on_signals

    clock = SystemClock()
    stop = asyncio.Event()
    gateways = await asyncio.to_thread(known_gateways, session, named)
    key = await asyncio.to_thread(api_key, session, named)
    with contextlib.ExitStack() as stack:
        sink = stack.enter_context(ledger_file(report)) if report is not None else None
        async with connect(gateways, clock, SystemIds(clock), api_key=key) as client:
            model = await pick_model(client, plan.model or None, key)
            stop_on_signals(stop)  # the first Ctrl-C ends the sending, and the figures are shown
            ledger = Ledger(clock, sink)
            await run_load(dataclasses.replace(plan, model=model), client, ledger, clock, stop)
    return summarise(ledger.records)


def _how_long(seconds: float | None, trace: Path | None) -> float:
    from skerry.client.load_plan import SECONDS_MAX

    return seconds if seconds is not None else SECONDS_MAX if trace is not None else 10.0


def _read(trace: Path | None) -> Any:
    from skerry.client.load_trace import read_trace

    return () if trace is None else read_trace(trace)


def _choice(kind: Any, option: str, text: str) -> Any:
    try:
        return kind(text)
    except ValueError:
        raise UsageFault(f"{option} {text!r} must be one of {', '.join(kind)}") from None


def _print(session: Session, summary: "LoadSummary", output: str) -> None:
    import dataclasses
    import json

    if output == "json":
        typer.echo(json.dumps(dataclasses.asdict(summary)))
        return
    console = session.console()
    for field in dataclasses.fields(summary):
        value = getattr(summary, field.name)
        if isinstance(value, float):
            value = f"{value:.3f}"
        elif isinstance(value, dict):
            value = ", ".join(f"{name} {count}" for name, count in sorted(value.items()))
        console.print(f"{field.name:<22}{'-' if value in (None, '') else value}")
