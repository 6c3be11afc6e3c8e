"""`skerry key create|list|revoke`: what users show to gateways."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import UsageFault, session_of
from skerry.cli.shown_once import check_credential_name, end_of, minute_of, show_or_write

if TYPE_CHECKING:
    from skerry.cli.render import Columns
    from skerry.client.api_keys import ApiKeyRow
    from skerry.fleet.api_key import KeyTerms

app = typer.Typer(help="API keys of users for the gateways.", no_args_is_help=True)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, e.g. team-a.")],
    deployments: Annotated[
        str, typer.Option("--deployments", help="For which, A,B; '*': every one of the project.")
    ],
    rpm: Annotated[
        int, typer.Option("--rpm", help="Requests a minute, at each gateway; 0: no bound.")
    ] = 0,
    concurrency: Annotated[
        int, typer.Option("--concurrency", help="Requests at once, at each gateway; 0: no bound.")
    ] = 0,
    tpm: Annotated[
        int, typer.Option("--tpm", help="Tokens a minute, at each gateway; 0: no bound.")
    ] = 0,
    budget: Annotated[
        str,
        typer.Option(
            "--budget", help="Tokens a month or a day, at each gateway, e.g. 10M/month, 500k/day."
        ),
    ] = "",
    expires: Annotated[
        str, typer.Option("--expires", help="After which time, e.g. 90d; or never.")
    ] = "never",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it into this file, mode 0600.")
    ] = None,
) -> None:
    """Make a key and show it, this once; everybody else keeps only a digest of it."""
    from skerry.plumbing.clock import SystemClock

    session = session_of(context)
    ends = end_of(expires, SystemClock().now())
    terms = _terms_of(deployments, budget, rpm=rpm, concurrency=concurrency, tpm=tpm)
    check_credential_name(name, "key")
    with session.operator() as client:
        made = client.create_api_key(name, terms, ends)
    if show_or_write(made.text, out):
        session.console().print(f"{name}: written to {out}; SKERRY_API_KEY=$(cat {out}) uses it")


@app.command("list")
def list_keys(
    context: typer.Context,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show the keys there are and what each may; never their secrets."""
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        rows = client.list_api_keys()
    if output == "json":
        typer.echo(render_json(rows))
    else:
        session.console().print(_table(rows))


@app.command("revoke")
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The key's name.")],
) -> None:
    """Take a key back: gateways refuse it as soon as they hear of it."""
    session = session_of(context)
    with session.operator() as client:
        client.revoke_api_key(name)
    session.console().print(f"{name}: revoked")


def _terms_of(deployments: str, budget: str, *, rpm: int, concurrency: int, tpm: int) -> "KeyTerms":
    from skerry.client.quantities import parse_budget
    from skerry.fleet.api_key import KeyTerms
    from skerry.fleet.token_budget import BudgetPeriod

    names = tuple(name.strip() for name in deployments.split(",") if name.strip())
    try:
        tokens, period = parse_budget(budget) if budget else (0, BudgetPeriod.MONTH)
        return KeyTerms(
            deployments=names,
            requests_per_minute=rpm,
            concurrent_requests=concurrency,
            tokens_per_minute=tpm,
            budget_tokens=tokens,
            budget_period=period,
        )
    except ValueError as error:
        options = "--deployments, --rpm, --tpm, --budget, --concurrency"
        raise UsageFault(f"{error} ({options})") from None


def _table(rows: "tuple[ApiKeyRow, ...]") -> object:
    from skerry.cli.render import render_table

    columns: Columns = (
        ("NAME", lambda row: row.name),
        ("DEPLOYMENTS", lambda row: ", ".join(row.deployments)),
        ("REQUESTS/MIN", lambda row: row.requests_per_minute or "-"),
        ("AT ONCE", lambda row: row.concurrent_requests or "-"),
        ("TOKENS/MIN", lambda row: row.tokens_per_minute or "-"),
        ("BUDGET", _budget),
        ("SPENT", _spent),
        ("EXPIRES", lambda row: minute_of(row.expires_at)),
        ("BY", lambda row: row.creator),
    )
    return render_table(columns, rows)


def _budget(row: "ApiKeyRow") -> str:
    return f"{row.budget_tokens}/{row.budget_period}" if row.budget_tokens else "-"


def _spent(row: "ApiKeyRow") -> object:
    return row.spent_tokens if row.tokens_per_minute or row.budget_tokens else "-"
