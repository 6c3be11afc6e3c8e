"""What a process imports it waits for at every start: nothing heavy that it has no use for.

A plane starts four processes of ours, each of which somebody waits for after a crash.
"""

import asyncio
import sys
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
SECONDS_MAX = 120.0
# Of others' packages, those that take a tenth of a second to seconds, and what tests alone need.
SOLVING = {"numba", "numpy", "ortools"}
STORING = {"alembic", "psycopg", "sqlalchemy"}
NEVER = {"hypothesis", "matplotlib", "openai", "pandas", "pytest", "ray", "torch"}
PLANE = {*SOLVING, *STORING, *NEVER, "connectrpc", "pydantic", "rich", "typer"}
MUST_NOT: dict[str, set[str]] = {
    "control_plane.main": {*SOLVING, *NEVER, "rich", "typer"},
    "scheduler.child": {*STORING, *NEVER, "aiohttp", "grpc"},
    "skerry.cli.main": {*SOLVING, *STORING, *NEVER, "aiohttp", "grpc", "pydantic"},
    "skerry.cli.supervisor.__main__": {*PLANE, "aiohttp"},
    "workload_plane.front.main": {*PLANE, "aiohttp", "psutil"},
    "workload_plane.main": PLANE,
    "workload_plane.picker.main": PLANE,
    "workload_plane.relay.main": {*PLANE, "aiohttp"},
    "workload_plane.replica_host.main": {*PLANE, "cryptography"},
    "workload_plane.simulated.server": {*PLANE, "cryptography"},
}
LOOK = "import importlib, sys; importlib.import_module(sys.argv[1]); print(*sys.modules)"


async def imported(entry: str) -> set[str]:
    """Return the top-level packages that a new process has after importing that module."""
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", LOOK, entry),
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    async with asyncio.timeout(SECONDS_MAX):
        told, _ = await child.communicate()
    assert child.returncode == 0, entry
    return {name.partition(".")[0] for name in told.decode().split()}


async def test_no_process_imports_what_it_has_no_use_for() -> None:
    found = await asyncio.gather(*map(imported, MUST_NOT))
    needless = {
        entry: sorted(packages & MUST_NOT[entry])
        for entry, packages in zip(MUST_NOT, found, strict=True)
    }
    assert not any(needless.values()), needless
