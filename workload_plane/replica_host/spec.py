"""What a replica host is told to run: the values, and their JSON file.

The agent writes it with `write_spec` before it starts the host; the host reads it once.
"""

import dataclasses
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.fleet.engine import (
    Disaggregation,
    EngineName,
    EngineSpec,
    Parallelism,
    PrefixCaching,
    Quantisation,
    SpeculativeDecoding,
    SpeculativeMethod,
)
from skerry.fleet.names import check_name
from skerry.plumbing import files
from skerry.plumbing.errors import InvalidInput, NotFound

FORMAT = 1
# Long enough for a stream of a few thousand tokens; the gateway has drained the replica before.
DRAIN_SECONDS_MAX_DEFAULT = 25.0


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaSpec:
    """One replica: what it serves, on which ports, and where its files are.

    `http_port` is the engine's own HTTP server, `health_port` the host's /health and /metrics.
    `accelerators` are device numbers of this node; `tls` is the gateway's business, not ours.
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

    def __post_init__(self) -> None:
        check_name(self.name, "replica")
        ports = (self.http_port, self.grpc_port, self.health_port)
        if len(set(ports)) != len(ports) or not all(0 < port < 65_536 for port in ports):
            raise ValueError(f"need three different ports in 1..65535, not {ports}")
        if not self.served_name:
            raise ValueError("served_name must not be empty")
        if self.drain_seconds_max < 0:
            raise ValueError("drain_seconds_max must not be negative")


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
    return {"format": FORMAT, **values}


def spec_from_json(values: Mapping[str, Any]) -> ReplicaSpec:
    """Return the spec that `spec_to_json` gave; raises KeyError, TypeError or ValueError."""
    known = dict(values)
    if known.pop("format") != FORMAT:
        raise ValueError(f"format {values['format']!r} is not {FORMAT}; it is another release's")
    known["engine"] = engine_from_json(known["engine"])
    known["accelerators"] = tuple(known.get("accelerators", ()))
    for name in ("config_dir", "log_dir", "state_file"):
        known[name] = Path(known[name])
    return ReplicaSpec(**known)


def engine_from_json(values: Mapping[str, Any]) -> EngineSpec:
    """Return the engine's spec from `dataclasses.asdict` of one, defaults for what is missing."""
    known = dict(values)
    known["name"] = EngineName(known["name"])
    if "quantisation" in known:
        known["quantisation"] = Quantisation(**known["quantisation"])
    if "prefix_caching" in known:
        known["prefix_caching"] = PrefixCaching(**known["prefix_caching"])
    if "parallelism" in known:
        known["parallelism"] = Parallelism(**known["parallelism"])
    if known.get("speculative"):
        method = SpeculativeMethod(known["speculative"]["method"])
        known["speculative"] = SpeculativeDecoding(**{**known["speculative"], "method": method})
    if known.get("disaggregation"):
        known["disaggregation"] = Disaggregation(**known["disaggregation"])
    known["options"] = tuple((name, value) for name, value in known.get("options", ()))
    return EngineSpec(**known)
