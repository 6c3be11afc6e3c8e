"""The replica runtime: whoever starts, lists and ends replicas. One contract suite for all.

`converge` calls it; `local` runs replicas as processes of this host.
"""

from dataclasses import dataclass
from typing import Protocol

from skerry.fleet.engine import EngineSpec
from skerry.fleet.observation import ReplicaState
from workload_plane.replicas.records import ReplicaRecord


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaOrder:
    """What is to be started; `model_path` is empty where the engine needs no weights.

    `accelerators` are taken from `pool_devices`, the numbers of the devices of its `nodes`, or of
    the whole pool where nodes are not listed; an empty `pool_devices` (pools of CPUs) leaves them
    unnumbered. `restarts` were made of it before, `failures` of them in a row at last.
    """

    name: str
    deployment: str
    revision: int
    pool: str
    served_name: str
    engine: EngineSpec
    model_path: str = ""
    accelerators: int = 1
    pool_devices: tuple[int, ...] = ()
    nodes: tuple[str, ...] = ()
    host_memory_bytes: int = 0
    restarts: int = 0
    failures: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class LiveReplica:
    """A record with what its processes are doing now; `fault` says why it is not alive.

    `known` is False while the record cannot be read and a process of the replica lives: what the
    record here says is a guess, which accelerators it holds is not known, and nothing may be
    done to it but `stop`. `given_up`: it is not alive because its own host said so.
    """

    record: ReplicaRecord
    alive: bool
    fault: str = ""
    known: bool = True
    given_up: bool = False


class ReplicaRuntime(Protocol):
    """Starts, lists and ends replicas; what it started outlives it and is found again."""

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        """Return the record of the replica, now STARTING; a repeat of a name raises Conflict.

        Raises Exhausted when no device is free, Unavailable when it cannot be started here.
        """
        ...

    async def list(self) -> tuple[LiveReplica, ...]:
        """Return every replica with a record, alive or not, by name.

        Also those whose record cannot be read, until their processes are confirmed gone.
        """
        ...

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """Return those that are certainly no more: there is no record and no process of them."""
        ...

    async def mark(
        self, name: str, state: ReplicaState, message: str = "", start_seconds: float | None = None
    ) -> None:
        """Set a record's state and message, and its start's time when told; gone stays gone."""
        ...

    async def stop(self, record: ReplicaRecord, grace_seconds: float) -> None:
        """End the replica in order, by force after the grace, and remove its record.

        Raises Unavailable when something of it does not end; the record stays then.
        """
        ...

    async def kill(self, record: ReplicaRecord, reason: str) -> None:
        """End the replica by force; its record stays, FAILED with the reason.

        Returns once its processes are gone and its ports free; raises Unavailable otherwise.
        """
        ...

    async def refuse(self, order: ReplicaOrder, reason: str) -> ReplicaRecord:
        """Record as FAILED a replica that cannot be started, so that people see why.

        Raises Conflict where there is one of that name: what may live is not to be hidden.
        """
        ...

    async def forget(self, name: str) -> None:
        """Remove the record of a replica that does not live; raises Conflict if it does."""
        ...

    async def wait_for_exit(self, record: ReplicaRecord) -> None:
        """Return when a process of the replica ends; at once when one is gone already."""
        ...
