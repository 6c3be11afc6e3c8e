"""Entry of the supervisor process: `python -m skerry.cli.supervisor DIR`; `skerry up` starts it.

Holds the directory's lock for its life, so that a second fleet there is refused.
"""

import argparse
import asyncio
import contextlib
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from skerry.cli.supervisor.control_socket import serve
from skerry.cli.supervisor.layout import DataDirectory, read_layout
from skerry.cli.supervisor.open_files import raise_open_files, shortage
from skerry.cli.supervisor.watcher import Supervisor
from skerry.plumbing import logs
from skerry.plumbing.clock import SystemClock
from skerry.plumbing.files import clean_temporaries, lock_file

_log = logs.get_logger(__name__)

# Databases, logs and whatever else we and our children make is for this user alone.
_UMASK = 0o077


async def _run(directory: DataDirectory, *, restart_control_plane: bool) -> None:
    supervisor = Supervisor(
        directory,
        read_layout(directory),
        SystemClock(),
        pid=os.getpid(),
        restart_control_plane=restart_control_plane,
    )
    ended = asyncio.Event()

    async def answer(request: Mapping[str, Any]) -> dict[str, Any]:
        reply = await supervisor.answer(request)
        if request.get("verb") == "down":
            ended.set()
        return reply

    async def down_by_signal() -> None:
        await signalled.wait()
        await supervisor.answer({"verb": "down"})
        ended.set()

    signalled = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, signalled.set)
    async with serve(directory.socket, answer):
        async with asyncio.TaskGroup() as group:
            group.create_task(supervisor.run())
            watcher = group.create_task(down_by_signal())
            await ended.wait()
            watcher.cancel()


def main() -> None:
    """Supervise the fleet of the directory named in the arguments."""
    parser = argparse.ArgumentParser(prog="skerry-supervisor")
    parser.add_argument("directory", type=Path)
    parser.add_argument("--restart-control-plane", action="store_true")
    arguments = parser.parse_args()
    os.umask(_UMASK)
    logs.configure()
    if missing := shortage(raise_open_files()):
        _log.warning("open-files.few", remedy=missing)
    directory = DataDirectory(arguments.directory.resolve())
    with lock_file(directory.lock), contextlib.suppress(KeyboardInterrupt):
        clean_temporaries(directory.root)
        asyncio.run(_run(directory, restart_control_plane=arguments.restart_control_plane))


if __name__ == "__main__":
    main()
