"""`skerry changes`: who changed what, the newest last; `skerry watch` follows it."""

from itertools import islice
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.catalogue import read_time
from skerry.cli.questions import check_output
from skerry.cli.session import session_of

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from datetime import datetime

    from skerry.client.rows import ChangeRow

# Looked through for those that are asked for: 4 s of the control plane, a piece at a time.
SEARCHED_MAX = 100_000


def changes(
    context: typer.Context,
    number: Annotated[int | None, typer.Argument(min=1, help="Only this one, whole.")] = None,
    count: Annotated[int, typer.Option("--count", min=1, max=10_000, help="How many.")] = 50,
    subject: Annotated[
        str, typer.Option("--subject", help="Part of what was changed, e.g. planes/onprem-fra.")
    ] = "",
    kind: Annotated[str, typer.Option("--kind", help="Begin of its kind, e.g. plane.")] = "",
    actor: Annotated[str, typer.Option("--actor", help="Begin of who, e.g. user:.")] = "",
    since: Annotated[
        str, typer.Option("--since", help="Time, e.g. 2026-12-01T00:00Z; the oldest shown.")
    ] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show who changed what and why, the newest last."""
    from skerry.cli.render import COLUMNS, render_json, render_table
    from skerry.client.operator_calls import PAGE_ROWS

    check_output(output)
    session = session_of(context)
    oldest = read_time(since, "--since") if since else None
    with session.operator() as client:
        if number is not None:
            typer.echo(render_json(client.get_change(number)))
            return
        passes = passes_of(subject, kind, actor)
        above = 0
        if passes and (latest := client.latest_changes(1)):
            above = max(latest[0].sequence - SEARCHED_MAX, 0)
        newest = client.iter_newest_changes(min(count, PAGE_ROWS), passes, above)
        found = tuple(islice(_until(newest, oldest), count))[::-1]
    if above and len(found) < count:
        told = f"of the newest {SEARCHED_MAX:,} changes; `skerry get changes --filter` asks for all"
        typer.echo(told, err=True)
    if output == "json":
        typer.echo(render_json(found))
    elif found:
        session.console().print(render_table(COLUMNS["changes"], found))
    else:
        session.console().print("no changes")


def passes_of(subject: str, kind: str, actor: str) -> str:
    """Return the filter of changes of such a subject, kind and actor; empty: of all."""
    conditions = [f'subject = "*{_quoted(subject)}*"'] if subject else []
    for field, begin in (("kind", kind), ("actor", actor)):
        if begin:
            conditions.append(f'{field} = "{_quoted(begin)}*"')
    return " AND ".join(conditions)


def _quoted(text: str) -> str:
    return text.replace("\\", "\\\\").replace('"', '\\"')


def _until(newest: "Iterable[ChangeRow]", oldest: "datetime | None") -> "Iterator[ChangeRow]":
    for change in newest:
        if oldest is not None and change.time < oldest:
            return
        yield change
