"""`skerry project create|list|delete`: who owns deployments, API keys and service tokens."""

from typing import Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import session_of
from skerry.cli.shown_once import check_credential_name, minute_of

app = typer.Typer(help="Who owns deployments and credentials.", no_args_is_help=True)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, e.g. team-a.")],
) -> None:
    """Make a project; it owns nothing yet."""
    session = session_of(context)
    check_credential_name(name, "project")
    with session.operator() as client:
        made = client.create_project(name)
    session.console().print(f"{made.name}: made; `--project {made.name}` speaks of it")


@app.command("list")
def list_projects(
    context: typer.Context,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show the projects that your credential is for."""
    from skerry.cli.render import Columns, render_json, render_table

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        rows = client.list_projects()
    if output == "json":
        typer.echo(render_json(rows))
        return
    columns: Columns = (
        ("NAME", lambda row: row.name),
        ("DEPLOYMENTS", lambda row: row.deployments),
        ("SINCE", lambda row: minute_of(row.created_at) if row.created_at else "-"),
        ("BY", lambda row: row.creator or "-"),
    )
    session.console().print(render_table(columns, rows))


@app.command("delete")
def delete(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The project's name.")],
) -> None:
    """Forget a project that owns nothing any more."""
    session = session_of(context)
    with session.operator() as client:
        client.delete_project(name)
    session.console().print(f"{name}: deleted")
