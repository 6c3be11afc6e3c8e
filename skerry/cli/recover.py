"""`skerry recover`: what a control plane on a lost or older database takes in, and its end."""

from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import session_of

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.recovery import RecoveryRow

# Of one list; `-o json` has all.
SHOWN_MAX = 50

app = typer.Typer(
    help="A control plane whose database is lost or an older backup.", no_args_is_help=True
)

Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]


@app.command()
def status(context: typer.Context, output: Output = "table") -> None:
    """Show whether it recovers, what differs, what is quarantined and what it waits for."""
    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        row = client.get_recovery()
    _show(session.console(), row, output)


@app.command()
def approve(
    context: typer.Context,
    etag: Annotated[
        str, typer.Option("--etag", help="Only if it is still as `status -o json` showed it.")
    ] = "",
    output: Output = "table",
) -> None:
    """End the recovery as it stands; each conflict is settled as `status` says."""
    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        row = client.approve_recovery(etag)
    _show(session.console(), row, output)


def _show(console: "Console", row: "RecoveryRow", output: str) -> None:
    from skerry.cli.render import render_json

    if output == "json":
        typer.echo(render_json(row))
    else:
        print_recovery(console, row)


def print_recovery(console: "Console", row: "RecoveryRow") -> None:
    """Print a recovery: why, each difference with what comes of it, and what it waits for."""
    if not row.is_recovering:
        console.print("nothing to recover: the database knows what the planes hold")
    else:
        console.print(f"recovering, read-only: {row.reason}")
        if row.next_epoch:
            console.print(f"  the next epoch is {row.next_epoch}, above every one that was seen")
        lines = [
            f"  {'CONFLICT' if one.is_conflict else 'adopt'} {one.subject}: {one.message};"
            f" {one.outcome}"
            for one in sorted(row.differences, key=lambda one: not one.is_conflict)
        ]
        _print_some(console, lines)
        _print_some(console, [f"  waits: {why}" for why in row.waits_for])
        if row.conflicts:
            console.print("`skerry recover approve` ends it with each outcome above")
    lines = [
        f"quarantined: {one.replicas} of {one.deployment} revision {one.revision} on {one.plane}"
        for one in row.quarantined
    ]
    _print_some(console, lines)


def _print_some(console: "Console", lines: list[str]) -> None:
    for line in lines[:SHOWN_MAX]:
        console.print(line)
    if len(lines) > SHOWN_MAX:
        console.print(f"  and {len(lines) - SHOWN_MAX} more; `-o json` has all")
