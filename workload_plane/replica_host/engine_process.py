"""The engine as a process of this host: prepared, started, and read when it fails."""

import asyncio
import os
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing import files, processes
from skerry.plumbing.errors import Infeasible, NotFound
from skerry.plumbing.ports import check_port_free, free_port
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import (
    EngineLaunch,
    EngineProcess,
    LaunchParameters,
    UnsupportedTechnique,
)
from workload_plane.replica_host.spec import ReplicaSpec

MAIN = "engine"  # the name of the process that answers; its log is `engine.log`
_OLDER_SUFFIX = ".1"
_LOG_MODE = 0o600  # prompts may stand in it
# Past this the newest half becomes `.1` and the file begins anew: at most 12 MiB for each replica,
# and what it wrote between two looks.
LOG_BYTES_MAX = 8 * 1024 * 1024
_OLDER_BYTES_MAX = LOG_BYTES_MAX // 2
_TAIL_BYTES_MAX = 4 * 1024
_TAIL_LINES = 12
# A table's row and a report carry them; the whole is in the log.
_LAST_LINES = 4
_LAST_CHARS_MAX = 600


def prepare(spec: ReplicaSpec, python: str) -> EngineLaunch:
    """Return how the engine is started, with its files written and what it needs checked.

    Raises Infeasible, NotFound or Conflict with the remedy.
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
        worker_ports=_worker_ports(spec),
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
    for port in (*ports, *(worker.port for worker in launch.workers)):
        check_port_free(spec.host, port)
    for directory in (spec.config_dir, spec.log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    for name, content in launch.files:
        files.write_atomically(spec.config_dir / name, content.encode())
    return launch


def _worker_ports(spec: ReplicaSpec) -> tuple[int, ...]:
    if spec.worker_ports:
        return spec.worker_ports
    apart = spec.engine.disaggregation  # nobody chose: a spec that was written by hand
    own = {spec.http_port, spec.grpc_port, spec.health_port}
    ports: set[int] = set()
    while len(ports) < (apart.servers if apart is not None else 0):
        ports |= {free_port(spec.host)} - own
    return tuple(sorted(ports))


def start(spec: ReplicaSpec, process: EngineProcess, held: Sequence[int] = ()) -> ProcessRecord:
    """Start a process of the engine as a child that dies with this one; raises NotFound.

    It inherits the descriptors that are `held`, its accelerators' locks. Call it from the main
    thread, before anything starts another one.
    """
    log = log_path(spec, process.name)
    log.touch(mode=_LOG_MODE)
    return processes.spawn(
        process.argv,
        env={**os.environ, **dict(process.environment)},
        cwd=None,
        stdout_path=log,
        die_with_parent=True,
        pass_fds=held,
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


async def trim_log(spec: ReplicaSpec, name: str = MAIN) -> None:
    """Make room in a process's log when it is too large; what is newest stays.

    The engine appends to the same file meanwhile, so a line written at that very moment may be
    lost. A pipe through this process would lose none, and would stop an engine whose host hangs.
    """
    path = log_path(spec, name)
    try:
        if path.stat().st_size > LOG_BYTES_MAX:
            await asyncio.to_thread(_begin_anew, path)
    except OSError:
        return  # the file is gone, or nothing of it could be kept


def _begin_anew(path: Path) -> None:
    try:
        with path.open("rb") as file:
            file.seek(-_OLDER_BYTES_MAX, os.SEEK_END)
            kept = file.read()
        whole_lines = kept[kept.find(b"\n") + 1 :]
        older = path.with_name(f"{path.name}{_OLDER_SUFFIX}")
        files.write_atomically(older, whole_lines, mode=_LOG_MODE)
    finally:
        os.truncate(path, 0)  # also with the disk full, which it else keeps so
