"""The engine as a process of this host: prepared, started, and read when it fails."""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing import files
from skerry.plumbing.bounded_log import FILE_MODE, bound_log
from skerry.plumbing.confined import spawn_confined
from skerry.plumbing.errors import Infeasible, NotFound
from skerry.plumbing.ports import check_port_free, free_port
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engine_user import EngineUser
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import (
    EngineLaunch,
    EngineProcess,
    LaunchParameters,
    UnsupportedTechnique,
    worker_ports_wanted,
)
from workload_plane.replica_host.engine_access import as_user, open_ways
from workload_plane.replica_host.environment import for_engine
from workload_plane.replica_host.installed import check_installed
from workload_plane.replica_host.marks import environment_of
from workload_plane.replica_host.spec import ReplicaSpec

MAIN = "engine"  # the name of the process that answers; its log is `engine.log`
# Past this the newest half becomes `.1` and the file begins anew: at most 12 MiB for the host and
# for each process of its engine, and what they wrote between two looks.
LOG_BYTES_MAX = 8 * 1024 * 1024
_OLDER_BYTES_MAX = LOG_BYTES_MAX // 2
_TAIL_BYTES_MAX = 4 * 1024
_TAIL_LINES = 12
# A table's row and a report carry them; the whole is in the log.
_LAST_LINES = 4
_LAST_CHARS_MAX = 600


def prepare(
    spec: ReplicaSpec,
    python: str,
    disk_path: Path | None = None,
    user: EngineUser | None = None,
) -> EngineLaunch:
    """Return how the engine is started, with its files written and what it needs checked.

    `disk_path` is the replica's own directory for prefixes, made already; `user` is as whom it is
    started. Raises Infeasible, NotFound, Conflict or Denied with the remedy.
    """
    parameters = LaunchParameters(
        model_path=spec.model_path,
        served_name=spec.served_name,
        host=spec.host,
        http_port=spec.http_port,
        config_dir=str(spec.config_dir),
        python=python,
        accelerators=spec.accelerators,
        draft_model_path=spec.draft_model_path,
        nodes=spec.nodes,
        worker_ports=_worker_ports(spec),
        disk_path=None if disk_path is None else str(disk_path),
    )
    try:
        launch = render(spec.engine, parameters)
    except UnsupportedTechnique as error:
        raise Infeasible(f"{spec.engine.name} cannot run this: {error}") from None
    if launch.model_is_file and not Path(spec.model_path).is_file():
        raise NotFound(
            f"base model {spec.model_path} does not exist; put the file there or correct the"
            " deployment's base model URI"
        )
    ports = (spec.http_port, spec.grpc_port, spec.health_port)
    for port in ports:
        check_port_free(spec.host, port)
    for process in launch.processes(spec.http_port):
        check_port_free(process.host or spec.host, process.port)
    check_installed(spec.engine, launch.argv[0], os.environ)
    for directory in (spec.config_dir, spec.log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    for name, content in launch.files:
        files.write_atomically(spec.config_dir / name, content.encode())
    if user is not None:
        open_ways(spec, user, launch.argv[0], disk_path)
    return launch


def _worker_ports(spec: ReplicaSpec) -> tuple[int, ...]:
    if spec.worker_ports:
        return spec.worker_ports
    wanted = worker_ports_wanted(spec.engine)  # nobody chose: a spec that was written by hand
    own = {spec.http_port, spec.grpc_port, spec.health_port}
    ports: set[int] = set()
    while len(ports) < wanted:
        ports |= {free_port(spec.host)} - own
    return tuple(sorted(ports))


def start(
    spec: ReplicaSpec,
    process: EngineProcess,
    held: Sequence[int] = (),
    user: EngineUser | None = None,
) -> ProcessRecord:
    """Start a process of the engine as a child that dies with this one; raises NotFound.

    It inherits the descriptors that are `held`, its accelerators' locks, and runs as the `user`.
    Call it from the main thread, before anything starts another one.
    """
    log = log_path(spec, process.name)
    log.touch(mode=FILE_MODE)
    return spawn_confined(
        process.argv,
        env={
            **for_engine(os.environ, spec.engine_environment, user),
            **environment_of(spec),
            **dict(process.environment),
        },
        cwd=None if user is None else user.home,
        stdout_path=log,
        held=held,
        user=as_user(user),
    )


def log_path(spec: ReplicaSpec, name: str = MAIN) -> Path:
    """Return where the output of a process of the engine goes."""
    return spec.log_dir / f"{name}.log"


def tail(spec: ReplicaSpec, name: str = MAIN) -> str:
    """Return the last lines that the process wrote, empty when there are none."""
    try:
        with log_path(spec, name).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])


def last_words(spec: ReplicaSpec, name: str = MAIN) -> str:
    """Return the last few lines that the process wrote as one, for a message."""
    lines = [line.strip() for line in tail(spec, name).splitlines() if line.strip()]
    return " | ".join(lines[-_LAST_LINES:])[-_LAST_CHARS_MAX:]


def host_log_path(spec: ReplicaSpec) -> Path:
    """Return where whoever starts the host has its output: beside the folder of the engine's."""
    return spec.log_dir.with_name(f"{spec.log_dir.name}.log")


async def trim_log(path: Path) -> None:
    """Make room in a log when it is too large; what is newest stays."""
    with contextlib.suppress(OSError):  # the file is gone, or cannot be cut
        await asyncio.to_thread(bound_log, path, LOG_BYTES_MAX, kept_bytes_max=_OLDER_BYTES_MAX)
