"""fleet.json: what runs in a data directory, for scripts; a contract, kept current.

`render_fleet` is pure; the supervisor writes the file whenever the result changes. A pid is null
when the process is dead and nothing is about to start it again.
"""

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from skerry.cli.supervisor.layout import HOST, Layout
from skerry.cli.supervisor.restarts import PartKey, Role, control_plane_key
from skerry.client.gateways import Gateway
from skerry.plumbing.errors import Corrupt, NotFound


@dataclass(frozen=True, slots=True, kw_only=True)
class RunningReplica:
    """A replica whose host process lives."""

    name: str
    deployment: str
    state: str
    pid: int
    engine_pid: int | None
    http_port: int
    grpc_port: int
    health_port: int


def render_fleet(
    layout: Layout,
    pids: Mapping[PartKey, int | None],
    replicas: Mapping[str, Iterable[RunningReplica]],
    supervisor_pid: int | None,
) -> dict[str, Any]:
    """Return the content of fleet.json; `replicas` by plane."""
    return {
        "supervisor_pid": supervisor_pid,
        "control_planes": [
            {
                "name": one.name,
                "grpc": one.operator_address,
                "http": one.http_address,
                "dashboard": one.dashboard_address,
                "pid": pids.get(control_plane_key(one.name)),
            }
            for one in layout.control_planes
        ],
        "planes": [
            {
                "name": plane.name,
                "cloud": plane.offer.cloud,
                "region": plane.offer.region,
                "gateway_http": f"{HOST}:{plane.ports.public}",
                "gateway_grpc": f"{HOST}:{plane.ports.public}",
                "admin": f"{HOST}:{plane.ports.admin}",
                "agent_pid": pids.get(PartKey(role=Role.AGENT, plane=plane.name)),
                "gateway_pid": pids.get(PartKey(role=Role.GATEWAY, plane=plane.name)),
                "front_pid": pids.get(PartKey(role=Role.FRONT, plane=plane.name)),
                "picker_pid": pids.get(PartKey(role=Role.PICKER, plane=plane.name)),
                "relay_pid": pids.get(PartKey(role=Role.RELAY, plane=plane.name)),
                "replicas": [_replica(replica) for replica in replicas.get(plane.name, ())],
            }
            for plane in layout.planes
        ],
    }


def read_fleet(path: Path) -> dict[str, Any]:
    """Return the content of a fleet.json; NotFound when no fleet was ever started there."""
    try:
        values = json.loads(path.read_bytes())
    except FileNotFoundError:
        raise NotFound(f"{path} does not exist; `skerry up` writes it") from None
    except (OSError, ValueError) as error:
        raise Corrupt(f"{path} cannot be read: {error}") from None
    if not isinstance(values, dict):
        raise Corrupt(f"{path} is not a fleet.json")
    return values


def gateways_of(fleet: Mapping[str, Any]) -> tuple[Gateway, ...]:
    """Return the gateways that a fleet.json names."""
    return tuple(
        Gateway(name=plane["name"], http=plane["gateway_http"], grpc=plane["gateway_grpc"])
        for plane in fleet["planes"]
    )


def _replica(replica: RunningReplica) -> dict[str, Any]:
    return {
        "name": replica.name,
        "deployment": replica.deployment,
        "state": replica.state,
        "pid": replica.pid,
        "engine_pid": replica.engine_pid,
        "http": f"{HOST}:{replica.http_port}" if replica.http_port else "",
        "grpc": f"{HOST}:{replica.grpc_port}" if replica.grpc_port else "",
        "health": f"{HOST}:{replica.health_port}" if replica.health_port else "",
    }
