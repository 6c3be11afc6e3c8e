"""`skerry reservation|accelerator-kind|base-model|cloud|region set` and `skerry price`.

The small print of supply; `get.py` shows it.
"""

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from datetime import datetime
from typing import TYPE_CHECKING, Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of

if TYPE_CHECKING:
    from skerry.cli.session import Session

reservations = typer.Typer(help="Capacity that is paid for a time.", no_args_is_help=True)
accelerators = typer.Typer(help="Kinds of accelerators.", no_args_is_help=True)
models = typer.Typer(help="Base models by their source.", no_args_is_help=True)
clouds = typer.Typer(help="Clouds, and sites of one's own.", no_args_is_help=True)
regions = typer.Typer(help="Regions, and how far users are.", no_args_is_help=True)
prices = typer.Typer(help="What pools cost by time.", no_args_is_help=True)

Name = Annotated[str, typer.Argument(help="Its name.")]
Pool = Annotated[str, typer.Argument(help="The pool, PLANE--POOL.")]
Text = Annotated[str, typer.Option("--description", help="For people.")]


@reservations.command("set")
def set_reservation(
    context: typer.Context,
    name: Name,
    pool: Annotated[str, typer.Option("--pool", help="The pool, PLANE--POOL.")],
    price: Annotated[float, typer.Option("--price", help="USD per accelerator-hour.")],
    start: Annotated[str, typer.Option("--from", help="Time, e.g. 2026-12-01T00:00Z.")],
    end: Annotated[str, typer.Option("--to", help="Time, no longer part of it.")],
    description: Text = "",
) -> None:
    """Reserve a pool for a time, or change a reservation."""
    from skerry.client.catalogue_calls import RESERVATIONS
    from skerry.fleet.catalogue import Reservation

    with _value():
        value = Reservation(
            name=name,
            pool=pool,
            price_per_accelerator_hour=price,
            start_time=read_time(start, "--from"),
            end_time=read_time(end, "--to"),
            description=description,
        )
    _set(session_of(context), RESERVATIONS, value, "reservations")


@accelerators.command("set")
def set_accelerator(
    context: typer.Context,
    name: Name,
    vendor: Annotated[str, typer.Option("--vendor", help="Who makes it.")] = "",
    memory_gib: Annotated[float, typer.Option("--memory-gib", help="Of one, in GiB.")] = 0.0,
    description: Text = "",
) -> None:
    """Describe a kind of accelerator, or change what is said of it."""
    from skerry.client.catalogue_calls import ACCELERATOR_KINDS
    from skerry.fleet.catalogue import AcceleratorKind

    with _value():
        value = AcceleratorKind(
            name=name,
            vendor=vendor,
            memory_bytes=_bytes(memory_gib, "--memory-gib"),
            description=description,
        )
    _set(session_of(context), ACCELERATOR_KINDS, value, "accelerator-kinds")


@models.command("set")
def set_model(
    context: typer.Context,
    name: Name,
    uri: Annotated[str, typer.Option("--uri", help="Where its weights are, SCHEME://...")],
    sha256: Annotated[str, typer.Option("--sha256", help="Of the weights, in hex.")] = "",
    weights_gib: Annotated[float, typer.Option("--weights-gib", help="In GiB.")] = 0.0,
    description: Text = "",
) -> None:
    """Register a base model, or change what is said of it."""
    from skerry.client.catalogue_calls import BASE_MODELS
    from skerry.fleet.catalogue import RegisteredModel

    with _value():
        value = RegisteredModel(
            name=name,
            uri=uri,
            sha256=sha256,
            weight_bytes=_bytes(weights_gib, "--weights-gib"),
            description=description,
        )
    _set(session_of(context), BASE_MODELS, value, "base-models")


@clouds.command("set")
def set_cloud(context: typer.Context, name: Name, description: Text = "") -> None:
    """Register a cloud, or change what is said of it."""
    from skerry.client.catalogue_calls import CLOUDS
    from skerry.fleet.catalogue import Cloud

    with _value():
        value = Cloud(name=name, description=description)
    _set(session_of(context), CLOUDS, value, "clouds")


@regions.command("set")
def set_region(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="CLOUD/REGION.")],
    latency: Annotated[
        list[str] | None,
        typer.Option(
            "--latency",
            help="CLIENT_REGION=SECONDS one way, e.g. eu-west=0.012. Repeatable; all that holds.",
        ),
    ] = None,
    description: Text = "",
) -> None:
    """Register a region with how far users are from it, or change what is said of it."""
    from skerry.client.catalogue_calls import REGIONS
    from skerry.fleet.catalogue import Region

    with _value():
        value = Region(
            name=name,
            description=description,
            client_latency_seconds=read_latencies(latency or ()),
        )
    _set(session_of(context), REGIONS, value, "regions")


def delete_entry(context: typer.Context, kind: str, name: str) -> None:
    """Delete an entry of the catalogue that nothing uses."""
    from skerry.client.catalogue_calls import LISTED_KINDS

    session = session_of(context)
    with session.operator() as client:
        client.delete_entry(LISTED_KINDS[kind], name)
    session.console().print(f"{kind.removesuffix('s')} {name} deleted")


@prices.command("set")
def set_price(
    context: typer.Context,
    pool: Pool,
    dollars: Annotated[float, typer.Argument(help="USD per accelerator-hour.")],
    start: Annotated[str, typer.Option("--from", help="Time, e.g. 2026-12-01T00:00Z.")],
) -> None:
    """Say what a pool costs from a moment on, until its next price."""
    session = session_of(context)
    with session.operator() as client:
        client.set_price(pool, read_time(start, "--from"), dollars)
    session.console().print(f"pool {pool} costs ${dollars:g}/h an accelerator from {start}")


@prices.command("delete")
def delete_price(
    context: typer.Context,
    pool: Pool,
    start: Annotated[str, typer.Option("--from", help="The time it was set for.")],
) -> None:
    """Forget a price; the one before it goes on."""
    session = session_of(context)
    with session.operator() as client:
        client.delete_price(pool, read_time(start, "--from"))
    session.console().print(f"pool {pool} has no price from {start} any more")


def read_latencies(told: Sequence[str]) -> tuple[tuple[str, float], ...]:
    """Return (client region, seconds) by client region; UsageFault for what is no such pair."""
    found: dict[str, float] = {}
    for text in told:
        client, sign, number = text.rpartition("=")
        try:
            seconds = float(number)
        except ValueError:
            sign = ""
        if not client or not sign:
            raise UsageFault(
                f"--latency {text!r} must look like CLIENT_REGION=SECONDS, e.g. eu-west=0.012"
            )
        if client in found:
            raise UsageFault(f"--latency tells {client!r} twice; tell it once")
        found[client] = seconds
    return tuple(sorted(found.items()))


def read_time(text: str, option: str) -> datetime:
    """Return a time as ISO 8601 has it; UsageFault for one without a zone, or none at all."""
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise UsageFault(
            f"{option} {text!r} must be a time with its zone, e.g. 2026-12-01T00:00Z or"
            " 2026-12-01T09:00+01:00"
        )
    return moment


def _set(session: "Session", kind: Any, value: Any, columns: str) -> None:
    from skerry.cli.render import COLUMNS, render_table

    with session.operator() as client:
        row = client.set_entry(kind, value)
    session.console().print(render_table(COLUMNS[columns], (row,)))


@contextmanager
def _value() -> Iterator[None]:
    """Turn what a value refuses into a fault of the command line."""
    try:
        yield
    except ValueError as error:
        raise UsageFault(str(error)) from None


def _bytes(gib: float, option: str) -> int:
    if not 0.0 <= gib <= 2**20:
        raise UsageFault(f"{option} must be 0..{2**20} GiB")
    return round(gib * 2**30)
