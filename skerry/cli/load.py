"""`skerry load`: open-loop load on several gateways, with a ledger of every request."""

import asyncio
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import EXIT_FAILED, Session, UsageFault, session_of, usage

if TYPE_CHECKING:
    from skerry.client.gateways import RequestKind
    from skerry.client.load import LoadPlan
    from skerry.client.load_summary import LoadSummary

_MIX_HELP = "Weights, e.g. chat-stream=2,generate=1,chat=1."


def load(
    context: typer.Context,
    rate: Annotated[float, typer.Option("--rate", help="Requests per second.")] = 4.0,
    seconds: Annotated[float, typer.Option("--seconds", help="How long to send.")] = 10.0,
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
) -> None:
    """Send requests at random times, whatever the answers do; exit 1 if one failed."""
    from skerry.client.load import DEFAULT_MIX, LoadPlan

    with usage():
        plan = LoadPlan(
            model=model or "",
            rate_per_second=rate,
            seconds=seconds,
            seed=seed,
            mix=parse_mix(mix) if mix else DEFAULT_MIX,
            max_tokens=max_tokens,
        )
    summary = asyncio.run(_load(session_of(context), plan, tuple(gateway or ()), report))
    if summary.failed:
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

    from skerry.cli.known_gateways import known_gateways, pick_model
    from skerry.client.inference import connect
    from skerry.client.load import Ledger, run_load, write_ledger
    from skerry.client.load_summary import summarise
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.ids import SystemIds
    from skerry.plumbing.tasks import stop_on_signals

    clock = SystemClock()
    stop = asyncio.Event()
    gateways = await asyncio.to_thread(known_gateways, session, named)
    async with connect(gateways, clock, SystemIds(clock)) as client:
        model = await pick_model(client, plan.model or None)
        stop_on_signals(stop)  # the first Ctrl-C ends the sending, and the figures are shown
        ledger = Ledger(clock)
        await run_load(dataclasses.replace(plan, model=model), client, ledger, clock, stop)
    if report is not None:
        await asyncio.to_thread(write_ledger, report, ledger.records)
    summary = summarise(ledger.records)
    _print(session, summary)
    return summary


def _print(session: Session, summary: "LoadSummary") -> None:
    import dataclasses

    console = session.console()
    for field in dataclasses.fields(summary):
        value = getattr(summary, field.name)
        shown = "-" if value is None else f"{value:.3f}" if isinstance(value, float) else value
        console.print(f"{field.name:<22}{shown}")
