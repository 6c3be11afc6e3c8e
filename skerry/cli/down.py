"""`skerry down`: end everything of a data directory, replicas included, supervisor or not."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from skerry.cli.session import session_of
from skerry.plumbing.errors import Unavailable

if TYPE_CHECKING:
    from skerry.cli.supervisor.layout import DataDirectory
    from skerry.plumbing.clock import Clock

# After its answer a supervisor has only its own exit left.
_EXIT_SECONDS_MAX = 5.0
_LOOK_SECONDS = 0.05


def down(
    context: typer.Context,
    data_dir: Annotated[
        Path | None, typer.Option("--data-dir", help="Where the fleet lives; default ~/.skerry.")
    ] = None,
) -> None:
    """Stop the fleet of a data directory; its desired state and its database stay."""
    import asyncio

    from skerry.cli.up import resolve_directory
    from skerry.plumbing.clock import SystemClock

    directory = resolve_directory(data_dir)
    ended = asyncio.run(stop_directory(directory, SystemClock()))
    console = session_of(context).console()
    console.print(f"stopped {ended} processes" if ended else "nothing runs")


async def stop_directory(directory: "DataDirectory", clock: "Clock") -> int:
    """End all processes of the directory and return how many; 0 when nothing runs."""
    from skerry.cli.supervisor.control_socket import ask
    from skerry.cli.supervisor.processes_file import read_living_processes
    from skerry.cli.supervisor.stopping import stop_fleet, write_stopped_fleet

    if not directory.root.is_dir():
        return 0
    ended = 0
    try:
        reply = await ask(directory.socket, {"verb": "down"})
        ended = int(reply["ended"])
        await _until_unlocked(directory, clock)
    except (Unavailable, FileNotFoundError):
        await _end_deaf_supervisor(directory, clock)
    # Also after a supervisor's own work: what it did not know of must not stay either.
    ended += await stop_fleet(directory, read_living_processes(directory.processes), clock)
    write_stopped_fleet(directory)
    return ended


async def _until_unlocked(directory: "DataDirectory", clock: "Clock") -> None:
    from skerry.plumbing.errors import Conflict
    from skerry.plumbing.files import lock_file

    deadline = clock.monotonic() + _EXIT_SECONDS_MAX
    while clock.monotonic() < deadline:
        try:
            with lock_file(directory.lock):
                return
        except Conflict:
            await clock.sleep(_LOOK_SECONDS)


async def _end_deaf_supervisor(directory: "DataDirectory", clock: "Clock") -> None:
    """End a supervisor that holds the lock but does not answer: it would start things again."""
    from skerry.plumbing.errors import Conflict, NotFound
    from skerry.plumbing.files import lock_file
    from skerry.plumbing.processes import record_of, terminate

    try:
        with lock_file(directory.lock):
            return
    except Conflict as held:
        try:
            supervisor = record_of(int(held.hints.get("pid", "")))
        except (ValueError, NotFound):
            return
    await terminate(supervisor, clock, _EXIT_SECONDS_MAX)
