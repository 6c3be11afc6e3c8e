"""Beside every drill: puts back what it broke, should it be killed before it could.

`python -m skerry.cli.drills.guard DIR`, in a session of its own: a Ctrl-C does not reach it, and
it ends with the drill.
"""

import argparse
import asyncio
import sys
from collections.abc import Sequence
from pathlib import Path

from skerry.cli.drills.unfinished import put_back, read_unfinished
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.parts import process_environment
from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.processes import ProcessRecord, spawn, wait_until_gone

# A supervisor that is itself being started anew answers within seconds, and what it refuses to
# start now it may start once it has seen it dead.
GUARD_SECONDS_MAX = 120.0
# The supervisor must have seen what died before it can be asked to start it.
SETTLE_SECONDS = 2.0
ATTEMPT_PAUSE_SECONDS = 2.0


def start_guard(directory: DataDirectory) -> ProcessRecord:
    """Start the guard of the drill that the directory's record is of."""
    return spawn(
        [sys.executable, "-m", "skerry.cli.drills.guard", str(directory.root)],
        env=process_environment(),
        cwd=directory.root,
        stdout_path=directory.supervisor_log,
    )


async def keep_guard(directory: DataDirectory, clock: Clock) -> None:
    """Wait for the drill's process to end; put back what is still recorded then."""
    watched = read_unfinished(directory)
    if watched is None:
        return
    await wait_until_gone(watched.runner)
    await clock.sleep(SETTLE_SECONDS)
    deadline = clock.monotonic() + GUARD_SECONDS_MAX
    while True:
        try:
            left = read_unfinished(directory)
            if left is not None and left.runner == watched.runner:
                await put_back(directory, left)
            return
        except (SkerryError, OSError) as error:
            if clock.monotonic() >= deadline:
                print(f"drill {watched.drill} is not put back: {error}", file=sys.stderr)
                return
        await clock.sleep(ATTEMPT_PAUSE_SECONDS)


def main(argv: Sequence[str] | None = None) -> None:
    """Guard the drill of the directory named in the arguments."""
    parser = argparse.ArgumentParser(prog="skerry-drill-guard")
    parser.add_argument("directory", type=Path)
    options = parser.parse_args(argv)
    asyncio.run(keep_guard(DataDirectory(options.directory), SystemClock()))


if __name__ == "__main__":
    main()
