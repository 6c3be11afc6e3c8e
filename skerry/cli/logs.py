"""`skerry logs`: the logs that the processes of this host's fleet write into its data directory."""

import asyncio
from collections import deque
from collections.abc import Iterable
from pathlib import Path
from typing import Annotated

import typer

from skerry.cli.session import UsageFault, session_of
from skerry.plumbing.errors import NotFound

_FOLLOW_SECONDS = 0.3
# What a log that grew too large was before it was begun anew; the replica host keeps one.
_OLDER_SUFFIX = ".1"
_READ_BYTES_MAX = 1024 * 1024  # at once, of a log that grew a lot between two looks


def logs(
    context: typer.Context,
    name: Annotated[
        str, typer.Argument(help="control-plane, supervisor, a plane or a replica.")
    ] = "control-plane",
    follow: Annotated[bool, typer.Option("-f", "--follow", help="Go on as it grows.")] = False,
    lines: Annotated[
        int, typer.Option("-n", "--lines", min=0, max=100_000, help="How many lines of each.")
    ] = 50,
) -> None:
    """Show the last lines of a log."""
    root = session_of(context).context().data_directory
    if root is None:
        raise UsageFault("the context names no data directory; logs are read on the fleet's host")
    paths = log_paths(root, name)
    offsets = {path: print_tail(path, lines, is_named=len(paths) > 1) for path in paths}
    if follow:
        try:
            asyncio.run(_follow(offsets))
        except KeyboardInterrupt:
            return


def log_paths(root: Path, name: str) -> tuple[Path, ...]:
    """Return the log files of a part of the fleet; NotFound lists the parts there are."""
    first = {"control-plane": root / "control-plane" / "log"}
    fixed = first | {path.parent.name: path for path in root.glob("control-plane-*/log")}
    fixed["supervisor"] = root / "supervisor.log"
    planes = sorted(path.name for path in (root / "planes").glob("*") if path.is_dir())
    if name in fixed:
        found: Iterable[Path] = (fixed[name],)
    elif name in planes:
        found = [
            root / "planes" / name / "logs" / f"{part}.log"
            for part in ("agent", "front", "gateway", "picker", "relay")
        ]
    else:
        found = sorted(
            path
            for path in (root / "planes").glob("*/**/*.log")
            if path.stem == name or path.stem.startswith(f"{name}.") or path.parent.name == name
        )
    existing = tuple(path for path in found if path.is_file())
    if not existing:
        known = ", ".join((*fixed, *planes))
        raise NotFound(f"no log of {name!r} in {root}; there are {known}, and those of replicas")
    return existing


def print_tail(path: Path, lines: int, *, is_named: bool) -> int:
    """Print the log's last lines, also those before it was begun anew; return its size."""
    if is_named:
        typer.echo(f"==> {path.name} <==")
    with open(path, "rb") as file:
        shown = deque(file, maxlen=lines)
        older = path.with_name(f"{path.name}{_OLDER_SUFFIX}")
        if len(shown) < lines and older.is_file():
            with open(older, "rb") as before:
                shown.extendleft(reversed(deque(before, maxlen=lines - len(shown))))
        for line in shown:
            typer.echo(line.decode(errors="replace").rstrip("\n"))
        return file.tell()


async def _follow(offsets: dict[Path, int]) -> None:
    from skerry.plumbing.clock import SystemClock

    clock = SystemClock()
    while True:
        for path, offset in offsets.items():
            offsets[path] = _print_from(path, offset)
        await clock.sleep(_FOLLOW_SECONDS)


def _print_from(path: Path, offset: int) -> int:
    try:
        with open(path, "rb") as file:
            size = file.seek(0, 2)
            file.seek(offset if size >= offset else 0)  # a shorter file was begun anew
            data = file.read(_READ_BYTES_MAX)
            if data:
                typer.echo(data.decode(errors="replace"), nl=False)
            return file.tell()
    except FileNotFoundError:
        return 0
