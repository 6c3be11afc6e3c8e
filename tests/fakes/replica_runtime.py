"""A replica runtime in memory; same contract as `local` (tests/contract/test_replica_runtime.py).

Tests let replicas die with `crash` and read what was done in `log`.
"""

import asyncio
import dataclasses

from skerry.fleet.observation import ReplicaState
from skerry.plumbing.errors import Conflict, Exhausted, Unavailable
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.records import ReplicaRecord


class FakeReplicaRuntime:
    """Replicas that are nothing but records; `stuck` ones do not end, `unreadable` ones are
    listed as a guess, and on `silent` nodes a start does not end before they are `heard`."""

    def __init__(self) -> None:
        """Begin with no replica."""
        self.records: dict[str, ReplicaRecord] = {}
        self.dead: dict[str, str] = {}
        self.stuck: set[str] = set()
        self.unreadable: set[str] = set()
        self.silent: set[str] = set()
        self.heard = asyncio.Event()
        self.log: list[str] = []
        self._crashed = asyncio.Event()
        self._serial = 1_000

    def crash(self, name: str, fault: str = "its engine is gone") -> None:
        """Let the replica's processes end by themselves."""
        self.dead[name] = fault
        self._crashed.set()

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        """See ReplicaRuntime."""
        if order.name in self.records:
            raise Conflict(f"replica {order.name} exists already")
        if self.silent.intersection(order.nodes):
            await self.heard.wait()
        self._serial += 10
        record = dataclasses.replace(
            self._record(order),
            devices=self._devices(order),
            pid=self._serial,
            engine_pid=self._serial + 1,
            boot_id="fake",
            http_port=self._serial,
            grpc_port=self._serial + 1,
            health_port=self._serial + 2,
        )
        self.records[order.name] = record
        self.log.append(f"start {order.name}")
        return record

    async def list(self) -> tuple[LiveReplica, ...]:
        """See ReplicaRuntime."""
        return tuple(self._live(self.records[name]) for name in sorted(self.records))

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """See ReplicaRuntime."""
        return names - self.records.keys()

    async def mark(
        self, name: str, state: ReplicaState, message: str = "", start_seconds: float | None = None
    ) -> None:
        """See ReplicaRuntime."""
        if name in self.records:
            record = self.records[name]
            self.records[name] = dataclasses.replace(
                record,
                state=state,
                message=message,
                start_seconds=record.start_seconds if start_seconds is None else start_seconds,
            )

    async def stop(self, record: ReplicaRecord, grace_seconds: float) -> None:
        """See ReplicaRuntime."""
        del grace_seconds
        self._check_ends(record)
        self.records.pop(record.name, None)
        self._crashed.set()
        self.log.append(f"stop {record.name}")

    async def kill(self, record: ReplicaRecord, reason: str) -> None:
        """See ReplicaRuntime."""
        self._check_ends(record)
        self.records[record.name] = dataclasses.replace(
            record, state=ReplicaState.FAILED, message=reason, pid=0, engine_pid=0
        )
        self.log.append(f"kill {record.name}")

    async def refuse(self, order: ReplicaOrder, reason: str) -> ReplicaRecord:
        """See ReplicaRuntime."""
        if order.name in self.records:
            raise Conflict(f"replica {order.name} exists already; it is not refused")
        record = dataclasses.replace(self._record(order), state=ReplicaState.FAILED, message=reason)
        self.records[order.name] = record
        return record

    async def forget(self, name: str) -> None:
        """See ReplicaRuntime."""
        record = self.records.get(name)
        if record is not None and self._live(record).alive:
            raise Conflict(f"replica {name} lives; stop it before it is forgotten")
        self.records.pop(name, None)

    async def wait_for_exit(self, record: ReplicaRecord) -> None:
        """See ReplicaRuntime."""
        while record.name in self.records and record.name not in self.dead:
            self._crashed.clear()
            await self._crashed.wait()

    def _check_ends(self, record: ReplicaRecord) -> None:
        if record.name in self.stuck:
            raise Unavailable(f"replica {record.name} is not gone: process {record.pid} lives")

    def _live(self, record: ReplicaRecord) -> LiveReplica:
        if record.state is ReplicaState.FAILED and not record.pid:
            return LiveReplica(record=record, alive=False, fault=record.message)
        fault = self.dead.get(record.name, "")
        if record.name in self.unreadable and not fault:
            return LiveReplica(record=record, alive=True, fault="unreadable", known=False)
        return LiveReplica(record=record, alive=not fault, fault=fault)

    def _record(self, order: ReplicaOrder) -> ReplicaRecord:
        return ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            served_name=order.served_name,
            accelerators=order.accelerators,
            nodes=order.nodes,
            host_memory_bytes=order.host_memory_bytes,
            restarts=order.restarts,
            failures=order.failures,
        )

    def _devices(self, order: ReplicaOrder) -> tuple[int, ...]:
        held = {
            device
            for record in self.records.values()
            if record.pool == order.pool and record.state is not ReplicaState.FAILED
            for device in record.devices
        }
        free = [device for device in order.pool_devices if device not in held]
        if order.pool_devices and len(free) < order.accelerators:
            raise Exhausted(f"pool {order.pool} has {len(free)} free accelerators")
        return tuple(free[: order.accelerators])
