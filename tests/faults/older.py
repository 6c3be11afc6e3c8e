"""A fleet that an older release started: its tree from the project's history, its own processes.

Until releases are tagged, an older one is a commit whose tree passed all tests at its time.
"""

import asyncio
import contextlib
import io
import os
import subprocess
import sys
import tarfile
from collections.abc import AsyncIterator
from pathlib import Path

import aiohttp
import pytest

from skerry.cli.down import stop_directory
from skerry.cli.supervisor.layout import DataDirectory, read_layout
from skerry.cli.supervisor.restarts import Role
from skerry.cli.supervisor.settings_files import fleet_context
from skerry.client.operator import AsyncOperatorClient
from skerry.plumbing.ids import SystemIds
from skerry.plumbing.processes import ProcessRecord
from tests.faults.fleet import CLOCK, PLANES, FaultFleet, a_deployment

ROOT = Path(__file__).resolve().parents[2]
# The newest before this one, and the one before that, which had neither picker nor relay.
OLDER_RELEASES = {"N-1": "276fd2b", "N-2": "35d27a8"}
WITHOUT_HELPERS = ("N-2",)
_UP_SECONDS_MAX = 240.0  # its scheduler compiles its loops first
_ARCHIVE_SECONDS_MAX = 60.0
_MAIN = "from skerry.cli.main import main; main()"


def extract(release: str, folder: Path) -> Path:
    """Write an older release's tree below the folder; skips loudly where history lacks it."""
    archive = subprocess.run(
        ["git", "-C", str(ROOT), "archive", OLDER_RELEASES[release]],
        capture_output=True,
        timeout=_ARCHIVE_SECONDS_MAX,
        check=False,
    )
    if archive.returncode:
        pytest.skip(f"NO UPGRADE IS TESTED HERE: {archive.stderr.decode().strip()}")
    tree = folder / release
    with tarfile.open(fileobj=io.BytesIO(archive.stdout)) as files:
        files.extractall(tree, filter="data")
    return tree


async def _up(tree: Path, root: Path) -> None:
    told = ("up", "--planes", str(PLANES), "--engine", "simulated", "--detach")
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _MAIN, *told, "--data-dir", str(root)),
        cwd=tree,
        env={**os.environ, "PYTHONPATH": str(tree), "HOME": str(root.parent)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        start_new_session=True,
    )
    async with asyncio.timeout(_UP_SECONDS_MAX):
        said, _ = await process.communicate()
    assert process.returncode == 0, said.decode()


def is_of(process: ProcessRecord, tree: Path) -> bool:
    """Say whether a process runs an older tree's code, by what it finds first on its path."""
    environment = Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0")
    found = (e.partition(b"=")[2] for e in environment if e.startswith(b"PYTHONPATH="))
    first = next(found, b"")
    return first.split(b":")[0] == str(tree).encode()


@contextlib.asynccontextmanager
async def an_older_fleet(tree: Path, root: Path) -> AsyncIterator[FaultFleet]:
    """Yield a fleet that an older release started and placed; nothing of it is left at the end."""
    directory = DataDirectory(root)
    try:
        await _up(tree, root)
        layout = read_layout(directory)
        context = fleet_context(directory, layout)
        async with (
            AsyncOperatorClient(context, SystemIds(CLOCK), "user:test") as operator,
            aiohttp.ClientSession() as http,
        ):
            fleet = FaultFleet(directory, layout, operator, http)
            fleet.continuation = tree.name not in WITHOUT_HELPERS
            if not fleet.continuation:
                fleet.roles = (Role.AGENT, Role.FRONT, Role.GATEWAY)
            await operator.apply(a_deployment(continuation=fleet.continuation))
            await fleet.settle()
            yield fleet
    finally:
        await stop_directory(directory, CLOCK)
