"""The engine as a process of this host: prepared, started, and read when it fails."""

import os
from pathlib import Path

from skerry.plumbing import files, processes
from skerry.plumbing.errors import Infeasible, NotFound
from skerry.plumbing.ports import check_port_free
from skerry.plumbing.processes import ProcessRecord
from workload_plane.engines.catalogue import render
from workload_plane.engines.port import EngineLaunch, LaunchParameters, UnsupportedTechnique
from workload_plane.replica_host.spec import ReplicaSpec

LOG_FILE = "engine.log"
# Kept once as `.1`: what a crash said is at the end of the file before.
_LOG_BYTES_MAX = 8 * 1024 * 1024
_TAIL_BYTES_MAX = 4 * 1024
_TAIL_LINES = 12


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
    for port in (spec.http_port, spec.grpc_port, spec.health_port):
        check_port_free(spec.host, port)
    for directory in (spec.config_dir, spec.log_dir):
        directory.mkdir(parents=True, exist_ok=True)
    for name, content in launch.files:
        files.write_atomically(spec.config_dir / name, content.encode())
    return launch


def start(spec: ReplicaSpec, launch: EngineLaunch) -> ProcessRecord:
    """Start the engine as a child that dies with this process; raises NotFound.

    Call it from the main thread, before anything starts another one.
    """
    log = log_path(spec)
    if log.exists() and log.stat().st_size > _LOG_BYTES_MAX:
        os.replace(log, log.with_name(f"{LOG_FILE}.1"))
    return processes.spawn(
        launch.argv,
        env={**os.environ, **dict(launch.environment)},
        cwd=None,
        stdout_path=log,
        die_with_parent=True,
    )


def log_path(spec: ReplicaSpec) -> Path:
    """Return where the engine's output goes."""
    return spec.log_dir / LOG_FILE


def tail(spec: ReplicaSpec) -> str:
    """Return the last lines that the engine wrote, empty when there are none."""
    try:
        with log_path(spec).open("rb") as file:
            file.seek(0, os.SEEK_END)
            file.seek(max(0, file.tell() - _TAIL_BYTES_MAX))
            lines = file.read().decode(errors="replace").splitlines()
    except OSError:
        return ""
    return "\n".join(lines[-_TAIL_LINES:])
