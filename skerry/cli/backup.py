"""`skerry backup` and `skerry restore`: the capacity database as one file, and back.

They speak to the database itself, so they work while no control plane does.
"""

import os
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import UsageFault, session_of, user_name

if TYPE_CHECKING:
    from control_plane.store.backup import Backup

# An address may carry a password, which a command line would show to everybody on the host.
DATABASE_VARIABLE = "SKERRY_DATABASE_URL"

File = Annotated[Path, typer.Argument(help="The backup.")]
Settings = Annotated[
    Path | None,
    typer.Option("--settings", help="The control plane's settings; else $SKERRY_DATABASE_URL."),
]
DataDirectory = Annotated[
    Path | None, typer.Option("--data-dir", help="Else a fleet of `skerry up`; default ~/.skerry.")
]


def backup(
    context: typer.Context,
    file: File,
    verify: Annotated[
        bool,
        typer.Option("--verify", help="Take none: restore FILE into a scratch database, read it."),
    ] = False,
    settings: Settings = None,
    data_dir: DataDirectory = None,
) -> None:
    """Back the database up into FILE, as of one moment; the control plane goes on."""
    from control_plane.store.backup import verify_backup, write_backup
    from skerry.plumbing.clock import SystemClock

    console = session_of(context).console()
    if verify:
        found = verify_backup(file)
        console.print(f"{file} is sound: {_told(found.backup)}; {found.changes} changes verified")
        if found.unprotected:
            console.print(f"  {found.unprotected} of them by a release that did not chain them")
        return
    taken = write_backup(database_url(settings, data_dir), file, SystemClock().now())
    console.print(f"{file}: {_told(taken)}")


def restore(
    context: typer.Context,
    file: File,
    force: Annotated[
        bool, typer.Option("--force", help="Replace what the database has, all of it.")
    ] = False,
    settings: Settings = None,
    data_dir: DataDirectory = None,
) -> None:
    """Restore FILE into the database, whole or not at all; no control plane may lead meanwhile.

    The next control plane recovers what planes hold beyond it: `skerry recover status`.
    """
    from control_plane.leading.sole import sole_control_plane
    from control_plane.store.backup import Restoring, restore_backup
    from skerry.plumbing.clock import SystemClock

    url = database_url(settings, data_dir)
    restoring = Restoring(
        url=url, actor=f"user:{user_name()}", now=SystemClock().now(), force=force
    )
    with sole_control_plane(url):
        found = restore_backup(file, restoring)
    console = session_of(context).console()
    console.print(f"restored {file}: {_told(found.backup)}")
    console.print("the next control plane takes in what planes hold: `skerry recover status`")


def database_url(settings: Path | None, data_dir: Path | None) -> str:
    """Return the database's address; UsageFault says where it is looked for."""
    from control_plane.settings import read_settings
    from skerry.cli.up import resolve_directory
    from skerry.plumbing.secret_references import resolved

    if settings is None and data_dir is None and (told := os.environ.get(DATABASE_VARIABLE)):
        return resolved(told, os.environ)
    path = settings or resolve_directory(data_dir).control_plane / "settings.json"
    if not path.is_file():
        raise UsageFault(
            f"{path} does not exist; name the control plane's settings with --settings, its data"
            f" directory with --data-dir, or its database in {DATABASE_VARIABLE}"
        )
    # Of its secrets only this one is asked for.
    return resolved(read_settings(path).database_url, os.environ)


def _told(backup: "Backup") -> str:
    header, rows = backup.header, sum(backup.rows.values())
    return (
        f"{rows} rows of {header.taken_at:%Y-%m-%d %H:%M:%S} UTC, schema {header.schema}, epoch"
        f" {header.epoch}, change {header.sequence}, from {header.dialect} by {header.software}"
    )
