"""Looks at one replica through Envoy's own counts: when it last got a request, when it had none."""

import contextlib
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import aiohttp

from tests.faults.fleet import CLOCK, FaultFleet
from tests.faults.load import Load
from workload_plane.replicas.records import ReplicaRecord

_LOOK_SECONDS = 0.05


@dataclass(slots=True)
class ReplicaWatch:
    """Seconds after the fault: of the last new request to a replica, and of it holding none.

    `last_new` is 0 while there was none, `freed` None before the last has left.
    """

    fleet: FaultFleet
    replica: ReplicaRecord
    last_new: float = 0.0
    freed: float | None = None

    async def keep(
        self, load: Load, seconds: float, is_over: Callable[[], bool] = lambda: False
    ) -> None:
        """Look twenty times a second for so long, or until it is over."""
        before = await self._counts()
        while load.since_fault() < seconds and not is_over():
            await CLOCK.sleep(_LOOK_SECONDS)
            now = await self._counts()
            if now is None:
                # Out of the gateway's list, which it leaves only with nothing under way.
                self.freed = self.freed or load.since_fault()
                continue
            total, active = now
            if before is not None and total > before[0]:
                self.last_new = load.since_fault()
            if active == 0:
                self.freed = self.freed or load.since_fault()
            else:
                self.freed = None
            before = now

    async def _counts(self) -> tuple[int, int] | None:
        """Return (requests ever, requests under way) over all clusters; None when it is in none."""
        port = self.fleet.layout.plane(self.fleet.home).ports.admin
        url = f"http://127.0.0.1:{port}/clusters?format=json"
        with contextlib.suppress(aiohttp.ClientError):
            async with self.fleet.http.get(url) as answer:
                clusters = (await answer.json(content_type=None))["cluster_statuses"]
            ports = {self.replica.http_port, self.replica.grpc_port}
            hosts = [
                host
                for cluster in clusters
                for host in cluster.get("host_statuses", ())
                if _port_of(host) in ports
            ]
            if hosts:
                return _sum(hosts, "rq_total"), _sum(hosts, "rq_active")
        return None


def _port_of(host: dict[str, Any]) -> int:
    return int(host["address"].get("socket_address", {}).get("port_value", 0))


def _sum(hosts: list[dict[str, Any]], name: str) -> int:
    return sum(
        int(stat.get("value", 0))
        for host in hosts
        for stat in host["stats"]
        if stat["name"] == name
    )
