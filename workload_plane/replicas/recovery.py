"""What can still be told of a replica whose record cannot be read: from its files and processes.

The local runtime asks here. A damaged record is no word that the replica is gone: only the
kernel's table of processes says that.
"""

import dataclasses
import os
import re
from collections.abc import Collection
from itertools import pairwise
from pathlib import Path

import psutil

from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Corrupt, NotFound
from skerry.plumbing.processes import ProcessRecord, children, record_of
from workload_plane.replica_host import state as host_state
from workload_plane.replica_host.lifecycle import RESTARTS, HostState
from workload_plane.replicas.records import ReplicaRecord, read_record, record_path

HOST_NAME = "skerry-replica"
_NAME = re.compile(r"(?P<deployment>.+)-r(?P<revision>\d{1,9})-[0-9a-z]+")


def directory_of(replicas_dir: Path, name: str) -> Path:
    """Return where a replica's own files are: spec, the host's state, the record's copy."""
    return replicas_dir / name


def spec_path(replicas_dir: Path, name: str) -> Path:
    """Return the spec's file; the host's command line names it."""
    return directory_of(replicas_dir, name) / "spec.json"


def state_path(replicas_dir: Path, name: str) -> Path:
    """Return the file that the replica host writes."""
    return directory_of(replicas_dir, name) / "state.json"


def copy_of_record(replicas_dir: Path, name: str) -> ReplicaRecord | None:
    """Return the record as it was when the replica was started, None without a good copy.

    It holds all that never changes; the processes are told by the host's state file.
    """
    try:
        return read_record(record_path(directory_of(replicas_dir, name), name))
    except (OSError, Corrupt):
        return None


def unknown_record(name: str, told: host_state.ReplicaRecord | None, fault: str) -> ReplicaRecord:
    """Return what the host's state file says, or the name alone; the pool is "" if not known.

    The accelerators it holds are not known: nobody but this replica may count on any of them.
    """
    if told is None:
        match = _NAME.fullmatch(name)
        return ReplicaRecord(
            name=name,
            deployment=match["deployment"] if match else "",
            revision=int(match["revision"]) if match else 0,
            pool="",
            message=fault,
        )
    return ReplicaRecord(
        name=name,
        deployment=told.deployment,
        revision=told.revision,
        pool=told.pool,
        pid=told.host.pid,
        start_time=told.host.start_time,
        engine_pid=told.engine.pid if told.engine is not None else 0,
        engine_start_time=told.engine.start_time if told.engine is not None else 0.0,
        boot_id=told.host.boot_id,
        http_port=_port(told.http),
        grpc_port=_port(told.grpc),
        health_port=_port(told.health),
        state=ReplicaState.READY if told.state is HostState.READY else ReplicaState.STARTING,
        message=fault,
    )


def with_told(record: ReplicaRecord, told: host_state.ReplicaRecord) -> ReplicaRecord:
    """Return the record with what its host last wrote: processes, restarts, a state gone back."""
    engine = told.engine
    if engine is None and told.state in RESTARTS:
        pid, start_time = 0, 0.0
    elif engine is None:  # killed before the start of the engine was written
        pid, start_time = record.engine_pid, record.engine_start_time
    else:
        pid, start_time = engine.pid, engine.start_time
    current = dataclasses.replace(
        record,
        pid=told.host.pid,
        start_time=told.host.start_time,
        boot_id=told.host.boot_id,
        engine_pid=pid,
        engine_start_time=start_time,
        restarts=max(record.restarts, told.restarts),
        failures=record.failures if told.failures is None else told.failures,
    )
    if told.state in RESTARTS and record.state in (ReplicaState.READY, ReplicaState.STARTING):
        # Nothing is served until the next engine has loaded, which may take as long as the first.
        return dataclasses.replace(current, state=ReplicaState.STARTING, message=told.message)
    if current.state is ReplicaState.READY and told.note and not current.message:
        return dataclasses.replace(current, message=told.note)
    return current


def find_hosts(spec_paths: Collection[Path]) -> dict[Path, ProcessRecord]:
    """Return the living replica hosts of these specs; looks at every process of the machine.

    A host has its spec right after `--spec`, and leads a session: somebody's editor or `grep` on
    the same file is none, and is not to be taken, or killed, for one.
    """
    wanted = {str(path): path for path in spec_paths}
    found: dict[Path, ProcessRecord] = {}
    for process in psutil.process_iter(["pid", "cmdline"]):
        for before, word in pairwise(process.info["cmdline"] or ()):
            if before != "--spec" or word not in wanted or not _leads(process.info["pid"]):
                continue
            try:
                found[wanted[word]] = record_of(process.info["pid"], HOST_NAME)
            except NotFound:
                continue
    return found


def _leads(pid: int) -> bool:
    try:
        return os.getsid(pid) == pid
    except OSError:
        return False  # it has just ended


def descendants(record: ReplicaRecord) -> tuple[ProcessRecord, ...]:
    """Return what lives below the replica's host, also an engine that no file names."""
    host = record.host_process
    return children(host) if host is not None else ()


def _port(address: str) -> int:
    port = address.rpartition(":")[2]
    return int(port) if port.isdigit() else 0
