"""`skerry plane invite|join|revoke ...`: which planes belong to the fleet."""

import asyncio
import json
from datetime import timedelta
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.questions import check_output
from skerry.cli.session import UsageFault, session_of
from skerry.cli.shown_once import minute_of, seconds_of, write_secret

if TYPE_CHECKING:
    from skerry.cli.render import Columns
    from skerry.fleet.joining import JoinToken

app = typer.Typer(help="Which planes belong to the fleet.", no_args_is_help=True)

_Output = Annotated[str, typer.Option("-o", "--output", help="table or json.")]
_Name = Annotated[str, typer.Argument(help="The plane's name.")]


@app.command("invite")
def invite(
    context: typer.Context,
    name: _Name,
    expires: Annotated[
        str, typer.Option("--expires", help="After which time, e.g. 1h; at most 7d.")
    ] = "1h",
    replace: Annotated[
        bool, typer.Option("--replace", help="In place of a plane that is there: it is put out.")
    ] = False,
    out: Annotated[
        Path | None, typer.Option("--out", help="Write the token into this file, mode 0600.")
    ] = None,
) -> None:
    """Make a join token and show it, this once; the control plane keeps only a digest of it."""
    from skerry.fleet.names import InvalidName, check_part
    from skerry.plumbing.clock import SystemClock

    session = session_of(context)
    life = timedelta(seconds=seconds_of(expires))
    try:
        check_part(name, "plane")
    except InvalidName as error:
        raise UsageFault(str(error)) from None
    with session.operator() as client:
        made = client.create_plane_invite(name, SystemClock().now() + life, replace=replace)
    where = f"--control-plane {made.join_address} --data-dir DIR"
    if out is None:
        typer.echo(made.token)
        typer.echo(
            "this is shown once, and opens the fleet to who has it first; then, there:", err=True
        )
        typer.echo(f"skerry plane join --token-file FILE {where}", err=True)
        return
    write_secret(out, made.token)
    session.console().print(f"{name}: written to {out}", soft_wrap=True)
    session.console().print(f"skerry plane join --token-file {out} {where}", soft_wrap=True)


@app.command("invites")
def invites(context: typer.Context, output: _Output = "table") -> None:
    """Show the invites there are, used and ended ones too; never their tokens."""
    from skerry.cli.render import render_json, render_table

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        rows = client.list_plane_invites()
    if output == "json":
        typer.echo(render_json(rows))
        return
    columns: Columns = (
        ("PLANE", lambda row: row.plane),
        ("ENDS", lambda row: minute_of(row.expires_at)),
        ("USED", lambda row: minute_of(row.used_at)),
        ("REPLACES", lambda row: "yes" if row.replaces else "no"),
        ("BY", lambda row: row.creator),
    )
    session.console().print(render_table(columns, rows))


@app.command("withdraw")
def withdraw(context: typer.Context, name: _Name) -> None:
    """Withdraw a plane's invite: its token opens nothing from now on."""
    session = session_of(context)
    with session.operator() as client:
        client.delete_plane_invite(name)
    session.console().print(f"{name}: no invite any more")


@app.command("identities")
def identities(context: typer.Context, output: _Output = "table") -> None:
    """Show what proves each plane that joined by invitation, and those that were revoked."""
    from skerry.cli.render import render_json, render_table

    check_output(output)
    session = session_of(context)
    with session.operator() as client:
        rows = client.list_plane_identities()
    if output == "json":
        typer.echo(render_json(rows))
        return
    columns: Columns = (
        ("PLANE", lambda row: row.plane),
        ("KEY", lambda row: row.key_sha256[:16] or "none of ours"),
        ("JOINED", lambda row: minute_of(row.joined_at)),
        ("CERTIFICATE ENDS", lambda row: minute_of(row.expires_at)),
        ("REVOKED", lambda row: minute_of(row.revoked_at)),
    )
    session.console().print(render_table(columns, rows))


@app.command("revoke")
def revoke(context: typer.Context, name: _Name) -> None:
    """Put a plane out: no certificate lets it in any more, until it is invited anew."""
    session = session_of(context)
    with session.operator() as client:
        client.revoke_plane(name)
    session.console().print(f"{name}: revoked")


@app.command("join")
def join(
    context: typer.Context,
    data_dir: Annotated[Path, typer.Option("--data-dir", help="The plane's data directory.")],
    control_plane: Annotated[
        list[str], typer.Option("--control-plane", help="HOST:PORT of a join port; repeatable.")
    ],
    token: Annotated[
        str, typer.Argument(help="The join token; others on the host can see an argument.")
    ] = "",
    token_file: Annotated[
        Path | None, typer.Option("--token-file", help="A file with the token in it.")
    ] = None,
) -> None:
    """Make this plane's key, prove the token, and write the certificates that its agent uses."""
    from skerry.client.enrolment import Door, identity_files
    from skerry.client.enrolment import join as join_by
    from workload_plane.settings import CONTROL_PLANE_SERVER_NAME

    taken = _token_of(token, token_file)
    for address in control_plane:
        host, _, port = address.rpartition(":")
        if not host or not port.isdigit():
            raise UsageFault(f"--control-plane must be HOST:PORT, not {address[:80]!r}")
    files = identity_files(data_dir.absolute())
    door = Door(addresses=control_plane, server_name=CONTROL_PLANE_SERVER_NAME)
    ends = asyncio.run(join_by(door, taken, files))
    section = {
        "tls": {"ca": str(files.ca), "certificate": str(files.cert), "key": str(files.key)},
        "join_addresses": control_plane,
    }
    console = session_of(context).console()
    console.print(f"{taken.plane}: joined; its certificate ends {minute_of(ends)}")
    console.print("in the agent's settings, which then renews it by itself:")
    typer.echo(json.dumps(section, indent=1))


def _token_of(token: str, token_file: Path | None) -> "JoinToken":
    from skerry.fleet.joining import CHARACTERS_MAX, parse_token

    if bool(token) == (token_file is not None):
        raise UsageFault("give the token, or --token-file FILE with it")
    if token_file is not None:
        with token_file.open("r", encoding="ascii", errors="replace") as file:
            token = file.read(CHARACTERS_MAX + 2)
    try:
        return parse_token(token.strip())
    except ValueError as error:
        raise UsageFault(str(error)) from None
