"""`skerry watch`: changes as they are committed, one line each."""

import json
from typing import Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import session_of


def watch(
    context: typer.Context,
    from_sequence: Annotated[
        int | None,
        typer.Option("--from", min=0, help="Begin after this number; default: what comes now."),
    ] = None,
    count: Annotated[
        int | None, typer.Option("--count", min=1, help="End after so many changes.")
    ] = None,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Follow the change log until interrupted; a broken connection is taken up where it was."""
    from skerry.cli.render import render_json
    from skerry.plumbing.logs import escape_controls

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        start = from_sequence
        if start is None:
            newest = client.latest_changes(1)
            start = newest[-1].sequence if newest else 0
        for number, change in enumerate(client.watch(start), 1):
            if output == "json":
                # One line each: who reads it is a program that waits for the next.
                typer.echo(json.dumps(json.loads(render_json(change))))
            else:
                time = change.time.astimezone().strftime("%H:%M:%S")
                why = f" ({change.reason})" if change.reason else ""
                line = f"{change.sequence} {time} {change.actor} {change.kind} {change.subject}"
                typer.echo(escape_controls(f"{line}: {change.summary}{why}"))
            if number == count:
                return
