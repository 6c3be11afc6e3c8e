"""The demo's hands and eyes: reads fleet.json, kills by pid, asks the operator API, waits.

Every wait is bounded and says what it waited for.
"""

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from typing import Any, TypeVar

import psutil

from skerry.cli.supervisor.fleet_file import read_fleet
from skerry.cli.supervisor.layout import DataDirectory
from skerry.client.operator import AsyncOperatorClient
from skerry.client.rows import PlaneRow
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable

Value = TypeVar("Value")

_LOOK_SECONDS = 0.2
_MEMORY_SECONDS = 3.0
_MIB = 1024 * 1024


@dataclass(frozen=True, slots=True)
class DemoFleet:
    """The fleet under the story."""

    directory: DataDirectory
    client: AsyncOperatorClient
    clock: Clock
    deployment: str

    def fleet(self) -> dict[str, Any]:
        """Return fleet.json as it is now."""
        return read_fleet(self.directory.fleet)

    def plane(self, name: str) -> dict[str, Any]:
        """Return a plane's entry of fleet.json."""
        entry: dict[str, Any] = next(p for p in self.fleet()["planes"] if p["name"] == name)
        return entry

    def replica_pids(self) -> dict[str, int]:
        """Return the host pid of every replica that runs, by name."""
        return {r["name"]: r["pid"] for plane in self.fleet()["planes"] for r in plane["replicas"]}

    async def placements(self) -> dict[str, int]:
        """Return the replicas placed by pool."""
        rows = await self.client.list_placements()
        return {
            row.pool: row.replicas
            for row in rows
            if row.deployment == self.deployment and row.replicas
        }

    async def ready_by_plane(self) -> dict[str, int]:
        """Return the ready replicas by plane, as the control plane sees them."""
        counts: dict[str, int] = {}
        for row in await self.client.list_placements():
            if row.deployment == self.deployment:
                counts[row.plane] = counts.get(row.plane, 0) + row.replicas_ready
        return counts

    async def is_served(self) -> bool:
        """Say whether every placement has all its replicas ready."""
        rows = [r for r in await self.client.list_placements() if r.deployment == self.deployment]
        return bool(rows) and all(row.replicas_ready >= row.replicas for row in rows)

    async def planes(self) -> dict[str, PlaneRow]:
        """Return the planes by name."""
        return {row.name: row for row in await self.client.list_planes()}

    async def loss_reason(self, plane: str) -> str:
        """Return why the control plane last judged the plane lost; empty when it did not."""
        reasons = [
            change.summary
            for change in await self.client.changes_since(0)
            if change.kind == "plane.lost" and change.subject.endswith(f"/{plane}")
        ]
        return reasons[-1] if reasons else ""

    async def until(
        self, what: str, seconds_max: float, look: Callable[[], Awaitable[Value | None]]
    ) -> Value:
        """Look until there is a value and return it; Unavailable names what did not come."""
        deadline = self.clock.monotonic() + seconds_max
        trouble = ""
        while self.clock.monotonic() < deadline:
            try:
                value = await look()
            except (Unavailable, OSError) as error:
                trouble, value = f" ({error})", None
            if value is not None and value is not False:
                return value
            await self.clock.sleep(_LOOK_SECONDS)
        raise SkerryError(
            f"waited {seconds_max:.0f} s in vain until {what}{trouble};"
            f" {await self._as_seen()}; the logs are in {self.directory.root}"
        )

    async def _as_seen(self) -> str:
        """Return what the control plane says of planes and placements, for who asks why."""
        try:
            planes, placements = await self.planes(), await self.placements()
        except SkerryError as error:
            return f"the control plane says nothing ({error})"
        told = [
            f"{row.name} {row.state.value} ({row.reason};"
            f" {', '.join(f'{v.plane}: {v.verdict.value}' for v in row.witnesses) or 'no witness'})"
            for row in planes.values()
        ]
        return f"planes: {', '.join(told)}; placements: {placements}"


def kill(pids: Iterable[int | None]) -> int:
    """Send SIGKILL to the processes that still are; return how many there were."""
    killed = 0
    for pid in pids:
        if not pid or pid <= 1:
            continue
        try:
            os.kill(pid, signal.SIGKILL)
        except ProcessLookupError:
            continue
        killed += 1
    return killed


def pids_of_plane(plane: dict[str, Any]) -> list[int | None]:
    """Return every process of a plane, those first that would start others again."""
    pids = [plane["agent_pid"], plane["gateway_pid"], plane["front_pid"]]
    for replica in plane["replicas"]:
        pids += [replica["pid"], replica["engine_pid"]]
    return pids


class MemoryWatch:
    """Samples the memory of all processes of a fleet; the peak goes into the report."""

    def __init__(self, fleet: DemoFleet) -> None:
        """Watch this fleet."""
        self._fleet = fleet
        self.peak_mib = 0.0

    async def run(self) -> None:
        """Sample until cancelled."""
        while True:
            sample = await asyncio.to_thread(self._sample_mib)
            self.peak_mib = max(self.peak_mib, sample)
            await self._fleet.clock.sleep(_MEMORY_SECONDS)

    def _sample_mib(self) -> float:
        try:
            fleet = self._fleet.fleet()
        except SkerryError:
            return 0.0
        pids = {os.getpid(), fleet["supervisor_pid"], fleet["control_planes"][0]["pid"]}
        for plane in fleet["planes"]:
            pids.update(pids_of_plane(plane))
        return sum(_memory_bytes(pid) for pid in pids if pid) / _MIB


def _memory_bytes(pid: int) -> int:
    """Return the proportional memory of a process: pages shared by several count once."""
    try:
        return int(psutil.Process(pid).memory_full_info().pss)
    except (psutil.Error, OSError):
        return 0
