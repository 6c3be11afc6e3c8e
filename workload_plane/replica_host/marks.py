"""What a replica's processes have in their environment, so that each is known for one of them.

The replica host gives it to its engine, whose children inherit it: also one that takes a session of
its own, outlives engine and host, and has closed the locks that it was given.
"""

import os
from collections.abc import Callable, Collection, Mapping, Sequence
from pathlib import Path

from skerry.plumbing.process_marks import KEEPS_ENVIRONMENT, find_marked, left_behind
from skerry.plumbing.processes import ProcessRecord
from workload_plane.replica_host.spec import ReplicaSpec

REPLICA_VARIABLE = "SKERRY_REPLICA"
DEVICES_VARIABLE = "SKERRY_DEVICES"


def mark_of(state_file: Path) -> str:
    """Return a replica's mark: the path of its host's state file, which no other replica has."""
    return os.path.abspath(state_file)


def environment_of(spec: ReplicaSpec) -> dict[str, str]:
    """Return the variables that mark the engine of a replica, and with them all it starts."""
    marks = {REPLICA_VARIABLE: mark_of(spec.state_file), KEEPS_ENVIRONMENT: "1"}
    if spec.device_locks_dir is not None and spec.locks_devices and spec.accelerators:
        numbers = ",".join(str(device) for device in spec.accelerators)
        marks[DEVICES_VARIABLE] = f"{numbers} {os.path.abspath(spec.device_locks_dir)}"
    return marks


def left_of(state_files: Mapping[str, Path]) -> dict[str, tuple[ProcessRecord, ...]]:
    """Return what lives of the engines of these replicas, by their names; looks at each process."""
    names = {mark_of(path): name for name, path in state_files.items()}
    return {names[mark]: found for mark, found in left_behind(REPLICA_VARIABLE, names).items()}


def left_of_marks(marks: Collection[str]) -> frozenset[str]:
    """Return which of the marks a living process has."""
    return frozenset(left_behind(REPLICA_VARIABLE, marks))


def left_below(directory: Path) -> tuple[ProcessRecord, ...]:
    """Return the living processes of engines of replicas whose files are below the directory."""
    root = os.path.abspath(directory) + os.sep
    return tuple(find_marked(REPLICA_VARIABLE, lambda mark: mark.startswith(root)))


def left_on_devices(locks_dir: Path, devices: Sequence[int]) -> Mapping[ProcessRecord, int]:
    """Return the living processes of engines that were given one of the devices, and which."""
    wanted = set(devices)
    found = find_marked(DEVICES_VARIABLE, _holds(os.path.abspath(locks_dir), wanted))
    return {record: min(wanted & _numbers(value)) for record, value in found.items()}


def _holds(locks_dir: str, devices: set[int]) -> Callable[[str], bool]:
    def holds(value: str) -> bool:
        return value.partition(" ")[2] == locks_dir and not devices.isdisjoint(_numbers(value))

    return holds


def _numbers(value: str) -> set[int]:
    return {int(one) for one in value.partition(" ")[0].split(",") if one.isdigit()}
