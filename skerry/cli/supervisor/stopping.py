"""Ending a fleet: agents first, so that nobody starts again what is ended next.

The supervisor does it on `down`; `skerry down` does it itself when no supervisor runs.
"""

import asyncio
import json
from collections.abc import Iterable, Mapping
from pathlib import Path

from skerry.cli.supervisor.fleet_file import render_fleet
from skerry.cli.supervisor.layout import DataDirectory, read_layout
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.cli.supervisor.running import replica_processes
from skerry.plumbing.clock import Clock
from skerry.plumbing.files import write_atomically
from skerry.plumbing.processes import ProcessRecord, kill_group, terminate
from workload_plane.replicas.ray.process_file import read_process_file

# An agent or a gateway has nothing to save that is not on disk already.
PART_GRACE_SECONDS = 3.0
# skerry-replica ends its engine first, and that lets go of its memory.
REPLICA_GRACE_SECONDS = 6.0
RAY_GRACE_SECONDS = 5.0
# A record may be written while its plane is being ended; the second look finds it.
_REPLICA_ROUNDS_MAX = 3


async def stop_fleet(
    directory: DataDirectory, processes: Mapping[PartKey, ProcessRecord], clock: Clock
) -> int:
    """End everything of the data directory and return how many processes that were."""
    ended = await end_all(_of(processes, Role.AGENT), clock, PART_GRACE_SECONDS)
    ended += await stop_replicas(plane_directories(directory), clock)
    ended += await end_all(_of_ray(plane_directories(directory)), clock, RAY_GRACE_SECONDS)
    rest = [record for key, record in processes.items() if key.role is not Role.AGENT]
    return ended + await end_all(rest, clock, PART_GRACE_SECONDS)


def write_stopped_fleet(directory: DataDirectory) -> None:
    """Say in fleet.json that nothing runs any more; for when no supervisor is left to say it."""
    if not directory.layout.is_file():
        return
    fleet = render_fleet(read_layout(directory), {}, {}, None)
    write_atomically(directory.fleet, json.dumps(fleet, indent=1).encode() + b"\n")


async def stop_replicas(planes: Iterable[Path], clock: Clock) -> int:
    """End the replicas of the planes, hosts and engines, and return how many processes."""
    folders = tuple(planes)
    ended = 0
    for _ in range(_REPLICA_ROUNDS_MAX):
        found = [process for folder in folders for process in replica_processes(folder)]
        if not found:
            break
        ended += await end_all(found, clock, REPLICA_GRACE_SECONDS)
    return ended


async def end_all(records: Iterable[ProcessRecord], clock: Clock, grace_seconds: float) -> int:
    """End the processes side by side, with whatever is left of their sessions."""
    ended = tuple(records)
    async with asyncio.TaskGroup() as group:
        for record in ended:
            group.create_task(_end(record, clock, grace_seconds))
    return len(ended)


def plane_directories(directory: DataDirectory) -> tuple[Path, ...]:
    """Return the folders of all planes that ever were in the data directory."""
    planes = directory.root / "planes"
    return tuple(sorted(p for p in planes.iterdir() if p.is_dir())) if planes.is_dir() else ()


async def _end(record: ProcessRecord, clock: Clock, grace_seconds: float) -> None:
    await terminate(record, clock, grace_seconds)
    kill_group(record)


def _of_ray(planes: Iterable[Path]) -> tuple[ProcessRecord, ...]:
    """Return the Ray nodes that the planes' agents started on this host."""
    files = (read_process_file(plane / "ray" / "processes.json") for plane in planes)
    return tuple(record for processes in files for record in processes.values())


def _of(processes: Mapping[PartKey, ProcessRecord], role: Role) -> tuple[ProcessRecord, ...]:
    return tuple(record for key, record in processes.items() if key.role is role)
