"""The state file: what a host leaves on disk so that an agent can find and adopt it.

Written atomically by the host at every change of state, read by the agent.
"""

import json
import os
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.plumbing import files, processes
from skerry.plumbing.errors import Corrupt, InvalidInput, NotFound
from skerry.plumbing.processes import ProcessRecord
from workload_plane.replica_host.lifecycle import HostState
from workload_plane.replica_host.spec import ReplicaSpec

FORMAT = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Counts:
    """How often this host started its engine again; `failures`: ends in a row before this start."""

    restarts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRecord:
    """A replica's processes, addresses (`host:port`) and state; `message` says what to do.

    `host` is the replica host's process, `engine` its child; None before it was started and while
    the next one is waited for. `restarts` and `failures`, those in a row before the present
    start, count those before this host too; a host of a release before tells no `failures`. `note`
    is what to know of a replica that is well.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    state: HostState
    host: ProcessRecord
    engine: ProcessRecord | None
    http: str
    grpc: str
    health: str
    message: str = ""
    restarts: int = 0
    failures: int | None = None
    note: str = ""


def record_of(
    spec: ReplicaSpec,
    state: HostState,
    engine: ProcessRecord | None,
    message: str,
    counts: Counts,
    note: str = "",
) -> ReplicaRecord:
    """Return the state file's content for this process and its engine."""
    return ReplicaRecord(
        name=spec.name,
        deployment=spec.deployment,
        revision=spec.revision,
        pool=spec.pool,
        state=state,
        host=processes.record_of(os.getpid(), name="skerry-replica"),
        engine=engine,
        http=f"{spec.host}:{spec.http_port}",
        grpc=f"{spec.host}:{spec.grpc_port}",
        health=f"{spec.host}:{spec.health_port}",
        message=message,
        restarts=spec.restarts + counts.restarts,
        failures=counts.failures,
        note=note,
    )


def write_record(path: Path, record: ReplicaRecord) -> None:
    """Replace the state file."""
    values = {
        "format": FORMAT,
        "name": record.name,
        "deployment": record.deployment,
        "revision": record.revision,
        "pool": record.pool,
        "state": record.state.value,
        "message": record.message,
        "restarts": record.restarts,
        "failures": record.failures,
        "note": record.note,
        "host": record.host.to_json(),
        "engine": record.engine.to_json() if record.engine else None,
        "http": record.http,
        "grpc": record.grpc,
        "health": record.health,
    }
    files.write_atomically(path, json.dumps(values, indent=2).encode())


def read_record(path: Path) -> ReplicaRecord:
    """Return the state file's record; raises NotFound or Corrupt."""
    try:
        values = json.loads(path.read_bytes())
        return _from_json(values)
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist: no replica host wrote it yet") from None
    except (ValueError, KeyError, TypeError, InvalidInput) as error:
        raise Corrupt(f"{path} is no replica's state file: {error}") from None


def _optional(value: Any) -> int | None:
    return None if value is None else int(value)


def _from_json(values: Mapping[str, Any]) -> ReplicaRecord:
    if values["format"] != FORMAT:
        raise ValueError(f"format {values['format']!r} is not {FORMAT}")
    engine = values["engine"]
    return ReplicaRecord(
        name=values["name"],
        deployment=values["deployment"],
        revision=int(values["revision"]),
        pool=values["pool"],
        state=HostState(values["state"]),
        host=ProcessRecord.from_json(values["host"]),
        engine=ProcessRecord.from_json(engine) if engine else None,
        http=values["http"],
        grpc=values["grpc"],
        health=values["health"],
        message=values["message"],
        restarts=int(values.get("restarts", 0)),  # hosts of earlier releases made none
        failures=_optional(values.get("failures")),
        note=str(values.get("note", "")),
    )
