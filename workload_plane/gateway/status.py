"""What the gateway says of itself: versions taken up, health of every host, requests in flight.

`read_status` does the I/O against Envoy's admin; `parse_status` is pure. The agent reads about
twice a second and passes the peers' health to `peers.witness_views`.
"""

import asyncio
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import aiohttp

from workload_plane.gateway.clusters import (
    GRPC,
    HTTP,
    KINDS,
    LOCAL_GRPC,
    LOCAL_HTTP,
    PEER,
    endpoints_file,
    split_cluster_name,
)
from workload_plane.gateway.order import CLUSTERS, LISTENERS, ROUTES_FOLDER, SECRETS_FOLDER
from workload_plane.gateway.wire import Json
from workload_plane.picker.wire import WAITING_ROOM

# The admin answers in about a millisecond; one that does not within a second is unknown.
_ADMIN_SECONDS = 1.0
# 1,000 deployments on 10 replicas each are 40,000 hosts of about 1.5 KiB.
_ADMIN_BYTES_MAX = 64 * 1024 * 1024
_STATS_FILTER = (
    r"^(server\.(state|uptime)"
    r"|(listener_manager\.lds|cluster_manager\.cds|http\.\w+\.rds\.\w+|cluster\.[a-z-]+/[^.]+"
    r"|sds\.\w+)\.(version_text|update_rejected|update_failure))$"
)
_SERVER_LIVE = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class HostHealth:
    """One host of one cluster; `healthy` is None until the first health check ended."""

    name: str
    address: str
    priority: int
    healthy: bool | None
    active_requests: int


@dataclass(frozen=True, slots=True, kw_only=True)
class InFlight:
    """Requests of one deployment under way now: to replicas here (by whom) and to peers."""

    here_from_clients: int = 0
    here_from_peers: int = 0
    at_peers: int = 0

    @property
    def here(self) -> int:
        """Return what this plane's replicas are working on."""
        return self.here_from_clients + self.here_from_peers


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerHealth:
    """What the health checks say of a peer; None is not known (yet)."""

    reachable: bool | None = None
    serving: bool | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayStatus:
    """One look at the gateway.

    `versions` and `rejected` are by file as in `PublishResult.versions`; `rejected` counts since
    Envoy started, `uptime_seconds` ago.
    """

    live: bool
    versions: Mapping[str, str]
    rejected: Mapping[str, int]
    in_flight: Mapping[str, InFlight]
    hosts: Mapping[str, tuple[HostHealth, ...]]
    peers: Mapping[str, PeerHealth]
    uptime_seconds: int | None = None


async def read_status(
    session: aiohttp.ClientSession, admin_port: int, *, admin_host: str = "127.0.0.1"
) -> GatewayStatus | None:
    """Return the gateway's status, None when its admin does not answer: unknown, not empty."""
    admin = f"http://{admin_host}:{admin_port}"
    try:
        async with asyncio.timeout(_ADMIN_SECONDS):
            stats = await _get(session, f"{admin}/stats?format=json&filter={_quoted_filter()}")
            clusters = await _get(session, f"{admin}/clusters?format=json")
        return parse_status(stats, clusters)
    except (aiohttp.ClientError, TimeoutError, ValueError):
        return None


def parse_status(stats: Json, clusters: Json) -> GatewayStatus:
    """Return the status from the admin's `/stats` and `/clusters`, both as JSON.

    Raises ValueError for anything else: what is not understood is unknown, not empty.
    """
    if "stats" not in stats or "cluster_statuses" not in clusters:
        raise ValueError("not the answers of an Envoy admin")
    values = {entry["name"]: entry["value"] for entry in stats["stats"] if "name" in entry}
    hosts = {
        cluster["name"]: tuple(_host(host) for host in cluster.get("host_statuses", ()))
        for cluster in clusters["cluster_statuses"]
    }
    return GatewayStatus(
        live=values.get("server.state") == _SERVER_LIVE,
        versions=_versions(values),
        rejected=_rejected(values),
        in_flight=_in_flight(hosts),
        hosts=hosts,
        peers=_peers(hosts),
        uptime_seconds=_uptime(values),
    )


def unconfirmed(status: GatewayStatus, published: Mapping[str, str]) -> tuple[str, ...]:
    """Return the published files whose version Envoy has not taken up."""
    return tuple(
        path for path, version in sorted(published.items()) if status.versions.get(path) != version
    )


async def _get(session: aiohttp.ClientSession, url: str) -> Json:
    async with session.get(url) as response:
        response.raise_for_status()
        if (response.content_length or 0) > _ADMIN_BYTES_MAX:
            raise ValueError(f"the admin's answer is larger than {_ADMIN_BYTES_MAX} bytes")
        body = await response.json(content_type=None)
    if not isinstance(body, dict):
        raise ValueError("the admin's answer is no JSON object")
    return body


def _quoted_filter() -> str:
    return quote(_STATS_FILTER, safe="")


def _versions(values: Mapping[str, Any]) -> dict[str, str]:
    return {
        path: str(value)
        for name, value in values.items()
        if name.endswith(".version_text")
        and (path := _file_of(name.removesuffix(".version_text"))) is not None
    }


def _uptime(values: Mapping[str, Any]) -> int | None:
    uptime = values.get("server.uptime")
    return None if uptime is None else int(uptime)


def _rejected(values: Mapping[str, Any]) -> dict[str, int]:
    rejected: dict[str, int] = {}
    for name, value in values.items():
        scope, _, counter = name.rpartition(".")
        path = _file_of(scope)
        if counter in ("update_rejected", "update_failure") and value and path is not None:
            rejected[path] = rejected.get(path, 0) + int(value)
    return rejected


def _file_of(scope: str) -> str | None:
    """Return the file that a subscription's statistics are about."""
    if scope == "listener_manager.lds":
        return LISTENERS
    if scope == "cluster_manager.cds":
        return CLUSTERS
    if scope.startswith("http."):
        return f"{ROUTES_FOLDER}/{scope.rpartition('.')[2]}.json"
    if scope.startswith("sds."):
        return f"{SECRETS_FOLDER}/{scope.removeprefix('sds.')}.json"
    split = split_cluster_name(scope.removeprefix("cluster."))
    if split is not None and split[0] in KINDS:
        return endpoints_file(scope.removeprefix("cluster."))
    return None


def _host(host: Json) -> HostHealth:
    address = host.get("address", {}).get("socket_address", {})
    health = host.get("health_status", {})
    return HostHealth(
        name=host.get("hostname", ""),
        address=f"{address.get('address', '')}:{address.get('port_value', 0)}",
        priority=int(host.get("priority", 0)),
        healthy=_is_healthy(health),
        active_requests=_statistic(host.get("stats", ()), "rq_active"),
    )


def _is_healthy(health: Json) -> bool | None:
    if health.get("pending_active_hc"):
        return None
    return not health.get("failed_active_health_check") and health.get(
        "eds_health_status", "HEALTHY"
    ) in ("HEALTHY", "UNKNOWN")


def _statistic(statistics: Iterable[Json], name: str) -> int:
    return next((int(s.get("value", 0)) for s in statistics if s.get("name") == name), 0)


def _in_flight(hosts: Mapping[str, tuple[HostHealth, ...]]) -> dict[str, InFlight]:
    result: dict[str, InFlight] = {}
    for name, members in hosts.items():
        split = split_cluster_name(name)
        if split is None or split[0] not in KINDS:
            continue
        kind, deployment = split
        before = result.get(deployment, InFlight())
        local = sum(host.active_requests for host in members if host.priority == 0)
        remote = sum(
            host.active_requests
            for host in members
            if host.priority > 0 and host.name != WAITING_ROOM
        )
        forwarded = kind in (LOCAL_HTTP, LOCAL_GRPC)
        result[deployment] = InFlight(
            here_from_clients=before.here_from_clients + (0 if forwarded else local),
            here_from_peers=before.here_from_peers + (local if forwarded else 0),
            at_peers=before.at_peers + remote,
        )
    return result


def _peers(hosts: Mapping[str, tuple[HostHealth, ...]]) -> dict[str, PeerHealth]:
    serving: dict[str, set[bool | None]] = {}
    reachable: dict[str, bool | None] = {}
    for name, members in hosts.items():
        kind, _, rest = name.partition("/")
        if kind == PEER:
            reachable[rest] = members[0].healthy if members else None
        elif kind in (HTTP, GRPC):
            for host in members:
                if host.priority > 0:
                    serving.setdefault(host.name, set()).add(host.healthy)
    return {
        plane: PeerHealth(reachable=state, serving=_any(serving.get(plane, set())))
        for plane, state in reachable.items()
    }


def _any(states: set[bool | None]) -> bool | None:
    """Return True when one is, None when none is known, else False."""
    if True in states:
        return True
    return False if False in states else None
