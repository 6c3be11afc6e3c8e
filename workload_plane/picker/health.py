"""What the gateway itself says of its hosts: health, and requests at each, ticketed or not.

Envoy's `/clusters` is asked several times a second. `override_host` ignores health, so the picker
must know it; and the requests of before its own start, or that it was not asked about, are in
`rq_active` alone.
"""

import json
from collections.abc import Callable, Mapping
from typing import Any

import aiohttp

from skerry.plumbing.clock import Clock
from workload_plane.gateway.clusters import GRPC, HTTP, KINDS, split_cluster_name
from workload_plane.picker.deployments import Seen

# `override_host` goes on with a hung replica until this has seen what Envoy's health checks have:
# with a look a second requests went there for 3 s. An answer about ten replicas takes 1 ms.
POLL_SECONDS = 0.15
# While requests wait for a replica's first health check, each look that is late is felt.
WAITING_POLL_SECONDS = 0.1
# A large plane's answer takes milliseconds to read, in which nothing is picked: 2 % at most.
_BUSY_SHARE_MAX = 0.02
_ADMIN_SECONDS_MAX = 1.0
_ADMIN_BYTES_MAX = 64 * 1024 * 1024

SeenByHost = Mapping[str, Seen]


def parse_clusters(data: bytes) -> dict[str, dict[str, Seen]]:
    """Return what is seen by deployment and host; raises ValueError for anything else.

    Each cluster reads its endpoints from a file of its own: a host that only one of HTTP's and
    gRPC's names yet is as if not judged yet, or requests would be sent where there is no such host.
    """
    try:
        return _clusters_in(json.loads(data))
    except (KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise ValueError(f"not the clusters of an Envoy admin: {error!r}") from None


def _clusters_in(values: Any) -> dict[str, dict[str, Seen]]:
    found: dict[str, dict[str, Seen]] = {}
    named: dict[str, dict[str, set[str]]] = {HTTP: {}, GRPC: {}}
    for cluster in values["cluster_statuses"]:
        split = split_cluster_name(cluster["name"])
        if split is None or split[0] not in KINDS:
            continue
        kind, deployment = split
        hosts = found.setdefault(deployment, {})
        for host in cluster.get("host_statuses", ()):
            name = host.get("hostname", "")
            if not name or (kind not in (HTTP, GRPC) and host.get("priority")):
                continue
            hosts[name] = _merge(hosts.get(name), _seen(host))
            if kind in named:
                named[kind].setdefault(deployment, set()).add(name)
    nobody: set[str] = set()
    for deployment, hosts in found.items():
        in_both = named[HTTP].get(deployment, nobody) & named[GRPC].get(deployment, nobody)
        for name in hosts.keys() - in_both:
            hosts[name] = _merge(hosts[name], Seen(None, 0))
    return found


class GatewayHealth:
    """Asks Envoy's admin page for ever."""

    def __init__(self, session: aiohttp.ClientSession, admin_port: int, clock: Clock) -> None:
        """Ask at the port on this host."""
        self._session = session
        self._url = f"http://127.0.0.1:{admin_port}/clusters?format=json"
        self._clock = clock

    async def follow(
        self,
        on_look: Callable[[dict[str, dict[str, Seen]] | None], None],
        is_waiting: Callable[[], bool],
    ) -> None:
        """Hand on every look; None when the gateway does not answer."""
        while True:
            data = await self._ask()
            began = self._clock.monotonic()
            try:
                seen = parse_clusters(data) if data is not None else None
            except ValueError:
                seen = None
            on_look(seen)
            busy = self._clock.monotonic() - began
            pause = WAITING_POLL_SECONDS if is_waiting() else POLL_SECONDS
            await self._clock.sleep(max(pause, busy / _BUSY_SHARE_MAX))

    async def _ask(self) -> bytes | None:
        timeout = aiohttp.ClientTimeout(total=_ADMIN_SECONDS_MAX)
        try:
            async with self._session.get(self._url, timeout=timeout) as answer:
                if answer.status != 200 or (answer.content_length or 0) > _ADMIN_BYTES_MAX:
                    return None
                return await answer.read()
        except (aiohttp.ClientError, TimeoutError, OSError):
            return None


def _seen(host: Mapping[str, Any]) -> Seen:
    health = host.get("health_status", {})
    active = next(
        (int(s.get("value", 0)) for s in host.get("stats", ()) if s.get("name") == "rq_active"), 0
    )
    ejected = bool(health.get("failed_outlier_check"))
    if health.get("pending_active_hc"):
        return Seen(None, active, ejected)
    failed = health.get("failed_active_health_check")
    eds = health.get("eds_health_status", "HEALTHY")
    return Seen(not failed and eds in ("HEALTHY", "UNKNOWN"), active, ejected)


def _merge(before: Seen | None, new: Seen) -> Seen:
    """Return the worse health of two clusters' views, and the requests of both."""
    if before is None:
        return new
    states = (before.healthy, new.healthy)
    healthy = False if False in states else None if None in states else True
    return Seen(healthy, before.active + new.active, before.ejected or new.ejected)
