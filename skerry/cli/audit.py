"""`skerry audit`: is the change log as it was recorded, a copy to keep, and where requests went."""

from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.catalogue import read_time
from skerry.cli.questions import check_output
from skerry.cli.session import EXIT_FAILED, Session, UsageFault, session_of
from skerry.plumbing.errors import OutOfRange, SkerryError

if TYPE_CHECKING:
    from rich.console import Console

    from skerry.client.audit import VerifiedRow
    from skerry.fleet.change_chain import Noted

RECORDS_AT_ONCE = 500  # written together, and then on the disk for good

app = typer.Typer(
    help="The audit: of the change log, and of where requests went.", no_args_is_help=True
)


@app.command()
def verify(
    context: typer.Context,
    file: Annotated[
        Path | None,
        typer.Argument(help="An export, verified here; else the control plane verifies its log."),
    ] = None,
    expect: Annotated[
        str,
        typer.Option("--expect", help="SEQUENCE:DIGEST, noted earlier: it must be so still."),
    ] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Verify that no change was altered or removed since it was recorded; exit 1 if one was."""
    from skerry.cli.render import render_json

    check_output(output)
    session, noted = session_of(context), _noted(expect)
    row = _of_file(file, noted) if file else _of_control_plane(session, noted)
    if output == "json":
        typer.echo(render_json(row))
    elif not row.fault:
        _show(session.console(), row, file, noted)
    if row.fault:
        where = str(file) if file else "the change log"
        typer.echo(f"error: {where} is broken: {row.fault}", err=True)
        raise typer.Exit(EXIT_FAILED)


@app.command()
def export(
    context: typer.Context,
    file: Annotated[
        Path, typer.Option("-o", "--output", help="JSON lines; one that is there goes on.")
    ],
    since: Annotated[
        str, typer.Option("--since", help="Of a new file: time, e.g. 2026-12-01T00:00Z.")
    ] = "",
) -> None:
    """Write all changes with their digests into FILE, or add those that it has not yet."""
    from skerry.client.audit_file import open_export

    oldest = read_time(since, "--since") if since else None
    session = session_of(context)
    with open_export(file) as written, session.operator() as client:
        before = written.read.found
        records = client.iter_change_records(before.sequence, None if before.checked else oldest)
        try:
            while batch := list(islice(records, RECORDS_AT_ONCE)):
                written.append(batch)
        except OutOfRange as error:
            if not before.checked:
                raise
            raise SkerryError(
                f"{file} ends at change {before.sequence} and can't go on: {error.message}. Keep"
                " it, and export into another file"
            ) from None
        written.finish()
        read = written.read
    console = session.console()
    if read.is_empty:
        console.print("no changes; no file was written")
        return
    console.print(
        f"{file}: {read.found.checked} changes, {read.after + 1} to {read.found.sequence},"
        f" {read.found.checked - before.checked} of them new"
    )
    _show_newest(console, str(read.newest or ""))


@app.command()
def residency(
    context: typer.Context,
    since: Annotated[str, typer.Option("--since", help="Time, e.g. 2026-12-01T00:00Z.")],
    until: Annotated[
        str, typer.Option("--until", help="Time; else twelve minutes ago: by then all have told.")
    ] = "",
    deployment: Annotated[str, typer.Option("--deployment", help="One; else all with zones.")] = "",
    output: Annotated[str, typer.Option("-o", "--output", help="table or json.")] = "table",
) -> None:
    """Prove that no request left the zones of its deployment; exit 1 if one did, or may have."""
    from skerry.cli.render import render_json
    from skerry.cli.residency import show_proof

    check_output(output)
    start, end = read_time(since, "--since"), read_time(until, "--until") if until else None
    session = session_of(context)
    with session.operator() as client:
        row = client.prove_residency(start, end, deployment)
    if output == "json":
        typer.echo(render_json({"proven": row.proven, "proof": row}))
    else:
        show_proof(session.console(), row)
    if not row.proven:
        typer.echo("error: it is not proven that none left", err=True)
        raise typer.Exit(EXIT_FAILED)


def _noted(text: str) -> "Noted | None":
    from skerry.fleet.change_chain import InvalidNote, read_noted

    if not text:
        return None
    try:
        return read_noted(text)
    except InvalidNote as fault:
        raise UsageFault(f"--expect {fault}") from None


def _of_control_plane(session: Session, noted: "Noted | None") -> "VerifiedRow":
    with session.operator() as client:
        (*_, row) = client.iter_verified_changes(noted)
    return row


def _of_file(file: Path, noted: "Noted | None") -> "VerifiedRow":
    from skerry.client.audit import VerifiedRow
    from skerry.client.audit_file import verify_export

    read = verify_export(file, noted)
    found = read.found
    return VerifiedRow(
        sequence=found.sequence,
        digest=found.digest.hex() if found.digest else "",
        checked=found.checked,
        unprotected=found.unprotected,
        last_unprotected=found.last_unprotected,
        fault=found.fault,
        newest=found.sequence,
        compacted_to=read.after,
    )


def _show(console: "Console", row: "VerifiedRow", file: Path | None, noted: "Noted | None") -> None:
    told = f"checked {row.checked} changes, {row.compacted_to + 1} to {row.sequence}"
    console.print(f"{told}: none was altered, none is missing")
    if row.compacted_to and file is None:
        console.print(f"compacted up to {row.compacted_to}: the changes before were forgotten")
    if row.unprotected:
        console.print(
            f"{row.unprotected} are unprotected: a release without the chain recorded them, the"
            f" newest is {row.last_unprotected}"
        )
    if noted is not None:
        console.print(f"change {noted.sequence} has the digest that was noted")
    _show_newest(console, f"{row.sequence}:{row.digest}" if row.digest else "")


def _show_newest(console: "Console", newest: str) -> None:
    if newest:
        console.print(f"newest {newest}")
        console.print("note it elsewhere: `skerry audit verify --expect` finds a log written anew")
