"""What a replica host is told to run: the values, and their JSON file.

The agent writes it with `write_spec` before it starts the host; the host reads it once.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import Enum
from itertools import repeat
from pathlib import Path
from types import UnionType
from typing import Any, Union, get_args, get_origin, get_type_hints

from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.names import check_name
from skerry.plumbing import files
from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.engine_user import EngineUser
from workload_plane.replica_host.restarts import RESTARTS_MAX_DEFAULT

FORMAT = 1
# Long enough for a stream of a few thousand tokens; the gateway has drained the replica before.
DRAIN_SECONDS_MAX_DEFAULT = 25.0
_OPTIONAL_PATHS = ("device_locks_dir", "prefix_disk_dir")


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One replica: what it serves, on which ports, and where its files are.

    `http_port` is the engine's own HTTP server, `health_port` the host's /health and /metrics.
    `accelerators` are device numbers of this node, locked in `device_locks_dir` if there is one;
    `worker_ports` are for the engine's other processes; `tls` is the gateway's business, not ours.
    Below `prefix_disk_dir` an engine that keeps prefixes on disk is given a directory of its own.
    `restarts` were made of this deployment's replica before this host, `failures` of them in a row
    at last; `engine_restarts_max` are
    those that the host makes within its window before it gives up, 0 for none. Over several `nodes`
    this is the first, and `accelerators` are those of this one. The engine runs as `engine_user`,
    or as the host, and is given the variables `engine_environment` beside those that all are.
    Spans go to `trace_endpoint`, "" for nowhere.
    """

    name: str
    deployment: str
    revision: int
    plane: str
    pool: str
    engine: EngineSpec
    model_path: str
    served_name: str
    http_port: int
    grpc_port: int
    health_port: int
    config_dir: Path
    log_dir: Path
    state_file: Path
    host: str = "127.0.0.1"
    accelerators: tuple[int, ...] = ()
    draft_model_path: str | None = None
    drain_seconds_max: float = DRAIN_SECONDS_MAX_DEFAULT
    restarts: int = 0
    failures: int = 0
    engine_restarts_max: int = RESTARTS_MAX_DEFAULT
    worker_ports: tuple[int, ...] = ()
    device_locks_dir: Path | None = None
    prefix_disk_dir: Path | None = None
    nodes: int = 1
    engine_user: EngineUser | None = None
    engine_environment: tuple[str, ...] = ()
    trace_endpoint: str = ""

    def __post_init__(self) -> None:
        check_name(self.name, "replica")
        ports = (self.http_port, self.grpc_port, self.health_port)
        if len(set(ports)) != len(ports) or not all(0 < port < 65_536 for port in ports):
            raise ValueError(f"need three different ports in 1..65535, not {ports}")
        every = {*ports, *self.worker_ports}
        if len(every) != len(ports) + len(self.worker_ports) or max(every) > 65_535:
            raise ValueError(f"the workers' ports {self.worker_ports} must be others than {ports}")
        if not self.served_name:
            raise ValueError("served_name must not be empty")
        if self.drain_seconds_max < 0:
            raise ValueError("drain_seconds_max must not be negative")
        if min(self.restarts, self.failures) < 0 or self.engine_restarts_max < 0:
            raise ValueError("restarts, failures and engine_restarts_max must not be negative")

    @property
    def locks_devices(self) -> bool:
        """Return whether its accelerators are nobody else's: the simulated engine has but numbers.

        Planes with that engine may share a host that has none.
        """
        return self.device_locks_dir is not None and self.engine.name is not EngineName.SIMULATED

    @property
    def aliases(self) -> tuple[str, ...]:
        """Return what the model is called beside its served name: the path of its weights.

        Dynamo's sidecar asks for the model by the folder that it was given, which is the engine's.
        """
        return (self.model_path,) if self.model_path else ()


def write_spec(path: Path, spec: ReplicaSpec) -> None:
    """Write the spec's file atomically."""
    files.write_atomically(path, json.dumps(spec_to_json(spec), indent=2).encode())


def read_spec(path: Path) -> ReplicaSpec:
    """Return the spec in the file; raises NotFound or InvalidInput naming file and field."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; --spec names the replica's JSON file") from None
    except ValueError as error:
        raise InvalidInput(f"{path} is not JSON: {error}") from None
    try:
        return spec_from_json(values)
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        fault = f"field {error} is missing" if isinstance(error, KeyError) else str(error)
        raise InvalidInput(f"{path} is no replica spec: {fault}") from None


def spec_to_json(spec: ReplicaSpec) -> dict[str, object]:
    """Return the spec as plain values."""
    values: dict[str, Any] = dataclasses.asdict(spec)
    for name in ("config_dir", "log_dir", "state_file"):
        values[name] = str(values[name])
    for name in _OPTIONAL_PATHS:
        values[name] = None if values[name] is None else str(values[name])
    values["engine_user"] = None if spec.engine_user is None else spec.engine_user.to_json()
    return {"format": FORMAT, **values}


def spec_from_json(values: Mapping[str, Any]) -> ReplicaSpec:
    """Return the spec that `spec_to_json` gave; raises KeyError, TypeError or ValueError."""
    known = dict(values)
    if known.pop("format") != FORMAT:
        raise ValueError(f"format {values['format']!r} is not {FORMAT}; it is another release's")
    known["engine"] = engine_from_json(known["engine"])
    for name in ("accelerators", "worker_ports", "engine_environment"):
        known[name] = tuple(known.get(name, ()))
    for name in _OPTIONAL_PATHS:
        known[name] = None if known.get(name) is None else Path(known[name])
    for name in ("config_dir", "log_dir", "state_file"):
        known[name] = Path(known[name])
    user = known.get("engine_user")
    known["engine_user"] = None if user is None else EngineUser.from_json(user)
    return ReplicaSpec(**known)


def engine_from_json(values: Mapping[str, Any]) -> EngineSpec:
    """Return the engine's spec from `dataclasses.asdict` of one, defaults for what is missing."""
    engine: EngineSpec = _value_of(EngineSpec, values)
    return engine


def _value_of(kind: Any, value: Any) -> Any:
    """Return the plain value as its declared type: a new technique needs no word here."""
    arguments = get_args(kind)
    if get_origin(kind) in (Union, UnionType):
        wanted = next(one for one in arguments if one is not type(None))
        return None if value is None else _value_of(wanted, value)
    if get_origin(kind) is tuple:
        kinds = repeat(arguments[0]) if arguments[-1] is Ellipsis else arguments
        return tuple(_value_of(one, item) for one, item in zip(kinds, value, strict=False))
    if dataclasses.is_dataclass(kind):
        hints = get_type_hints(kind)
        known = {name: _value_of(hints.get(name), item) for name, item in value.items()}
        return kind(**known)  # type: ignore[operator]
    return kind(value) if isinstance(kind, type) and issubclass(kind, Enum) else value
