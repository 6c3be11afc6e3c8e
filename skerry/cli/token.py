"""`skerry token create|list|revoke`: the credentials of programs."""

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import UsageFault, session_of
from skerry.cli.shown_once import check_credential_name, end_of, minute_of, show_or_write

if TYPE_CHECKING:
    from skerry.cli.render import Columns
    from skerry.client.access import ServiceTokenRow
    from skerry.fleet.access import Grant

app = typer.Typer(help="Credentials of programs for the operator API.", no_args_is_help=True)


@app.command("create")
def create(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="Its name, e.g. ci; the change log has token:NAME.")],
    role: Annotated[str, typer.Option("--role", help="viewer, operator, admin, auditor or plane.")],
    project: Annotated[
        list[str] | None,
        typer.Option("--project", help="Where; default the context's; '*' for every one."),
    ] = None,
    plane: Annotated[
        list[str] | None, typer.Option("--plane", help="Only for what is in this plane.")
    ] = None,
    expires: Annotated[
        str, typer.Option("--expires", help="After which time, e.g. 90d; or never.")
    ] = "90d",
    out: Annotated[
        Path | None, typer.Option("--out", help="Write it into this file, mode 0600.")
    ] = None,
) -> None:
    """Make a token and show it, this once; the control plane keeps only a digest of it."""
    from skerry.plumbing.clock import SystemClock

    session = session_of(context)
    ends = end_of(expires, SystemClock().now())
    projects = tuple(project or (session.context().project,))
    grant = _grant_of(role, projects, tuple(plane or ()))
    check_credential_name(name, "token")
    if project and len(project) == 1 and project[0] != "*":
        session = replace(session, project=project[0])  # that project's own
    with session.operator() as client:
        made = client.create_service_token(name, grant, ends)
    if show_or_write(made.text, out):
        session.console().print(f"{name}: written to {out}; SKERRY_TOKEN_FILE={out} uses it")


@app.command("list")
def list_tokens(
    context: typer.Context,
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Show the tokens there are, what each may do and when it was used; never their secrets."""
    from skerry.cli.render import render_json

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        rows = client.list_service_tokens()
    if output == "json":
        typer.echo(render_json(rows))
    else:
        session.console().print(_table(rows))


@app.command("revoke")
def revoke(
    context: typer.Context,
    name: Annotated[str, typer.Argument(help="The token's name.")],
) -> None:
    """Make a token no credential from now on."""
    session = session_of(context)
    with session.operator() as client:
        client.revoke_service_token(name)
    session.console().print(f"{name}: revoked")


def _grant_of(role: str, projects: tuple[str, ...], planes: tuple[str, ...]) -> "Grant":
    from skerry.fleet.access import Grant, Role

    if role not in list(Role):
        raise UsageFault(f"--role must be one of {', '.join(Role)}, not {role[:40]!r}")
    try:
        return Grant(role=Role(role), projects=projects, planes=planes)
    except ValueError as error:
        raise UsageFault(f"{error} (--project, --plane)") from None


def _table(rows: "tuple[ServiceTokenRow, ...]") -> object:
    from skerry.cli.render import render_table

    columns: Columns = (
        ("NAME", lambda row: row.name),
        ("ROLE", lambda row: row.role),
        ("PROJECTS", lambda row: ", ".join(row.projects)),
        ("PLANES", lambda row: ", ".join(row.planes) or "all"),
        ("EXPIRES", lambda row: minute_of(row.expires_at)),
        ("LAST USED", lambda row: minute_of(row.last_used_at)),
        ("BY", lambda row: row.creator),
    )
    return render_table(columns, rows)
