"""How each supervised process is started: its command line, its log, what must be there first.

The only module here that knows the programs.
"""

import os
import sys
from pathlib import Path

import skerry
from skerry.cli.supervisor.layout import DataDirectory
from skerry.cli.supervisor.log_files import begin_log
from skerry.cli.supervisor.restarts import PartKey, Role
from skerry.plumbing.processes import ProcessRecord, spawn
from workload_plane.gateway.envoy import envoy_argv
from workload_plane.gateway.files import BOOTSTRAP, load_published, repair
from workload_plane.settings import RELAY_FILE

_MODULES = {
    Role.CONTROL_PLANE: "control_plane.main",
    Role.AGENT: "workload_plane.main",
    Role.FRONT: "workload_plane.front.main",
    Role.PICKER: "workload_plane.picker.main",
    Role.RELAY: "workload_plane.relay.main",
}


def start_part(directory: DataDirectory, key: PartKey) -> ProcessRecord | None:
    """Start a process in its own session; None when it cannot be started yet.

    A gateway waits for its first files, a relay for a deployment whose streams it is to continue;
    the agent writes both.
    """
    home = part_directory(directory, key)
    if key.role is Role.GATEWAY:
        gateway_directory = home / "gateway"
        if not _can_start_gateway(gateway_directory):
            return None
        argv = envoy_argv(gateway_directory)
    elif key.role is Role.RELAY and not (home / RELAY_FILE).is_file():
        return None
    else:
        settings = home / "settings.json"
        argv = [sys.executable, "-m", _MODULES[key.role], "--settings", str(settings)]
    log = part_log(directory, key)
    log.parent.mkdir(parents=True, exist_ok=True)
    begin_log(log)
    return spawn(argv, env=process_environment(), cwd=home, stdout_path=log)


def process_environment() -> dict[str, str]:
    """Return the environment of every process: ours, with this tree first on the import path.

    A checkout that is not installed works too, and one that is gets no other version's code.
    """
    tree = str(Path(skerry.__file__).resolve().parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{tree}{os.pathsep}{path}" if path else tree}


def _can_start_gateway(gateway_directory: Path) -> bool:
    """Repair the gateway's files and say whether they are all there, the bootstrap last."""
    if not gateway_directory.is_dir():
        return False
    repair(gateway_directory)
    has_files = load_published(gateway_directory) is not None
    return has_files and (gateway_directory / BOOTSTRAP).is_file()


def part_directory(directory: DataDirectory, key: PartKey) -> Path:
    """Return the folder of the process's settings and state."""
    if key.role is Role.CONTROL_PLANE:
        return directory.control_plane_of(str(key))
    return directory.plane(key.plane)


def part_log(directory: DataDirectory, key: PartKey) -> Path:
    """Return the file that the process's output is appended to."""
    if key.role is Role.CONTROL_PLANE:
        return directory.control_plane_of(str(key)) / "log"
    return directory.plane(key.plane) / "logs" / f"{key.role}.log"
