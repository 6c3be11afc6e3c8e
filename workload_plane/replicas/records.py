"""Replica records: one JSON file each, so that any process can tell what runs here.

The replica runtime writes them, the agent adopts by them after a restart, and the supervisor of
`skerry up` reads them for fleet.json.
"""

import json
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import TypeVar

from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Corrupt
from skerry.plumbing.files import write_atomically
from skerry.plumbing.processes import ProcessRecord

# Engines know no users and ask for no key: nobody but this host's gateway may reach them.
LOOPBACK = "127.0.0.1"
RECORD_BYTES_MAX = 64 * 1024  # a record is under 1 KiB, its message at most a few
MESSAGE_CHARS_MAX = 2_000
SUFFIX = ".json"

Item = TypeVar("Item", int, str)


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaRecord:
    """One replica on disk. `pid` is its host's process, zero when there is none (any more).

    Start times are in clock ticks since the boot named by `boot_id`; `started_at` is wall time
    in ISO 8601. `pool` is the fleet-wide id; `devices` are the accelerators' numbers here; `nodes`
    by the plane's own names, empty in a record of a release before them. `start_seconds` is the
    time from the start to the first answer, 0 while it is not known. `restarts` are all there ever
    were, `failures` those in a row, without serving soundly between them. `host` is the address
    on which it listens: loopback, but for replicas on other nodes of the plane. `worker_ports` are
    of the engine's processes beside the one that answers, where prefill and decode are apart.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    served_name: str = ""
    accelerators: int = 1
    devices: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    host_memory_bytes: int = 0
    pid: int = 0
    start_time: float = 0.0
    engine_pid: int = 0
    engine_start_time: float = 0.0
    boot_id: str = ""
    host: str = LOOPBACK
    http_port: int = 0
    grpc_port: int = 0
    health_port: int = 0
    worker_ports: tuple[int, ...] = ()
    state: ReplicaState = ReplicaState.STARTING
    restarts: int = 0
    failures: int = 0
    started_at: str = ""
    start_seconds: float = 0.0
    message: str = ""

    @property
    def host_process(self) -> ProcessRecord | None:
        """Return the host's process as it can be signalled, None when there is none."""
        return self._process(self.pid, self.start_time, "skerry-replica")

    @property
    def engine_process(self) -> ProcessRecord | None:
        """Return the engine's process, None when none was recorded."""
        return self._process(self.engine_pid, self.engine_start_time, "engine")

    @property
    def ports(self) -> tuple[int, ...]:
        """Return the ports the replica listens on."""
        own = (self.http_port, self.grpc_port, self.health_port)
        return (*(port for port in own if port), *self.worker_ports)

    def _process(self, pid: int, start_time: float, name: str) -> ProcessRecord | None:
        if pid <= 1 or not self.boot_id:
            return None
        return ProcessRecord(pid=pid, start_time=start_time, name=name, boot_id=self.boot_id)


@dataclass(frozen=True, slots=True, kw_only=True)
class UnreadableRecord:
    """A record's file that is there and cannot be read: its replica may well live."""

    name: str
    fault: str


def record_path(replicas_dir: Path, name: str) -> Path:
    """Return where the record of a replica is."""
    return replicas_dir / f"{name}{SUFFIX}"


def write_record(replicas_dir: Path, record: ReplicaRecord) -> None:
    """Write the record atomically; raises OSError with the old one in place."""
    values = asdict(record)
    values["message"] = record.message[:MESSAGE_CHARS_MAX]
    data = json.dumps(values, indent=1, sort_keys=True).encode() + b"\n"
    write_atomically(record_path(replicas_dir, record.name), data)


def read_record(path: Path) -> ReplicaRecord:
    """Return the record in a file; raises Corrupt when it is none, FileNotFoundError if gone."""
    try:
        if path.stat().st_size > RECORD_BYTES_MAX:
            raise Corrupt(f"{path} is larger than a replica record can be")
        record = _parse(json.loads(path.read_bytes()))
    except FileNotFoundError:
        raise
    except (OSError, ValueError, TypeError, KeyError) as error:
        raise Corrupt(f"{path} is not a replica record: {error}") from None
    if record.name != path.stem:
        raise Corrupt(f"{path} is the record of {record.name}")
    return record


def read_all(replicas_dir: Path) -> tuple[ReplicaRecord | UnreadableRecord, ...]:
    """Return what every record's file of a plane says, by name, also those that say nothing."""
    found: list[ReplicaRecord | UnreadableRecord] = []
    for path in sorted(replicas_dir.glob(f"*{SUFFIX}")):
        try:
            found.append(read_record(path))
        except FileNotFoundError:
            continue  # removed between the listing and the reading
        except Corrupt as error:
            found.append(UnreadableRecord(name=path.stem, fault=str(error)))
    return tuple(found)


def read_records(replicas_dir: Path) -> tuple[ReplicaRecord, ...]:
    """Return the readable records of a plane by name; the agent rebuilds and tells the others."""
    return tuple(one for one in read_all(replicas_dir) if isinstance(one, ReplicaRecord))


def _parse(values: object) -> ReplicaRecord:
    if not isinstance(values, dict):
        raise ValueError("not a JSON object")
    # A later release's fields are left out; a missing one of ours takes its default.
    known = {field.name: field for field in fields(ReplicaRecord)}
    given = {key: value for key, value in values.items() if key in known}
    given["state"] = ReplicaState(str(given.get("state", ReplicaState.STARTING)))
    given["devices"] = _list_of(int, "devices", given.get("devices", ()))
    given["worker_ports"] = _list_of(int, "worker_ports", given.get("worker_ports", ()))
    given["nodes"] = _list_of(str, "nodes", given.get("nodes", ()))
    for key, value in given.items():
        kind = known[key].type
        if kind is int and (not isinstance(value, int) or isinstance(value, bool)):
            raise ValueError(f"{key} is {value!r}, not a number")
        if kind is float and type(value) not in (int, float):
            raise ValueError(f"{key} is {value!r}, not a number")
        if kind is str and not isinstance(value, str):
            raise ValueError(f"{key} is {value!r}, not text")
    return ReplicaRecord(**given)


def _list_of(kind: type[Item], key: str, value: object) -> tuple[Item, ...]:
    if not isinstance(value, list | tuple) or not all(type(item) is kind for item in value):
        raise ValueError(f"{key} is {value!r}, not a list of {kind.__name__}")
    return tuple(value)
