"""A Ray cluster in memory behind the runtime's connection: nodes that come, go and fall silent.

What a node's launcher keeps is a record for each replica; their ports are not listened on.
"""

import asyncio
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from typing import Any

from skerry.plumbing.errors import Unavailable
from skerry.plumbing.processes import ProcessRecord
from skerry.plumbing.software import software_version
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.values import (
    CREATED,
    Bundle,
    Fault,
    LaunchPlace,
    NodeWord,
    Rank,
    RayLook,
    RayNode,
    group_state,
)
from workload_plane.replicas.records import ReplicaRecord

BOOT = "another-machine"


@dataclass
class FakeNode:
    """One machine: what runs there outlives its raylet."""

    name: str
    raylet: str = "1"
    alive: bool = True
    silent: bool = False
    replicas: dict[str, ReplicaRecord] = field(default_factory=dict)


class FakeRayCluster:
    """Answers what the bridge would; `log` is what was asked of launchers and groups."""

    def __init__(self, *names: str, accelerators: int = 4) -> None:
        self.nodes = {name: FakeNode(name) for name in names}
        self.accelerators = accelerators
        self.groups: dict[str, Counter[str]] = {}
        self.log: list[str] = []
        self.fault = ""
        self.changed: Callable[[], None] = lambda: None
        self.start_fault: Fault | None = None
        self.hanging: set[str] = set()  # nodes on which a start is never answered
        self.ranks: dict[str, tuple[Rank, ...]] = {}  # by placement group
        self.rank_fault: Fault | None = None  # what keeps ranks from ending
        self.device_faults: dict[str, Fault] = {}  # by node: why an accelerator is not free
        self.places: dict[str, LaunchPlace] = {}  # by node, as last told
        self._serial = 100

    def restart(self) -> None:
        """Begin a new cluster on the same machines: it knows of nothing that runs there."""
        self.groups.clear()
        for node in self.nodes.values():
            node.raylet += "x"

    async def run(self) -> None:
        """See RayConnection."""

    def doubt(self, why: str) -> None:
        """See RayConnection."""
        self.fault = why

    async def ask(self, verb: str, *arguments: object, seconds: float) -> Any:
        """See RayConnection."""
        del seconds
        if self.fault:
            raise Unavailable(self.fault)
        if verb == "call" and arguments[0].node in self.hanging and arguments[1] == "start":  # type: ignore[attr-defined]
            await asyncio.Event().wait()
        value = getattr(self, f"_{verb}")(*arguments)
        if isinstance(value, Fault):
            raise value.error()
        return value

    def _look(self) -> RayLook:
        nodes = tuple(
            RayNode(
                node_id=f"{node.name}-{node.raylet}",
                alive=node.alive,
                address="127.0.0.9",
                hostname=node.name,
                labels={"skerry.io/pool": "gpu", "skerry.io/node": node.name},
                resources={"GPU": float(self.accelerators)},
            )
            for node in self.nodes.values()
        )
        alive = {node.node_id for node in nodes if node.alive}
        groups = {name: group_state(CREATED, held, alive) for name, held in self.groups.items()}
        return RayLook(nodes=nodes, groups=groups)

    def _words(self, places: list[LaunchPlace]) -> dict[str, NodeWord | Fault]:
        self.places |= {place.node: place for place in places}
        return {place.node: self._word(self.nodes[place.node]) for place in places}

    def _word(self, node: FakeNode) -> NodeWord | Fault:
        if node.silent:
            return Fault(kind="Unavailable", message=f"the launcher of {node.name} is silent")
        replicas = tuple(LiveReplica(record=one, alive=True) for one in node.replicas.values())
        return NodeWord(boot_id=BOOT, software=software_version(), replicas=replicas)

    def _call(
        self, place: LaunchPlace, method: str, arguments: tuple[Any, ...], seconds: float
    ) -> object:
        del seconds
        node = self.nodes[place.node]
        if node.silent or not node.alive:
            return Fault(kind="Unavailable", message=f"the launcher of {node.name} is silent")
        if method == "start":
            return self._start(node, arguments[0])
        if method == "check_devices":
            return self.device_faults.get(node.name)
        if method == "processes":
            return tuple(
                ProcessRecord(pid=pid, start_time=1.0, name="rank", boot_id=BOOT)
                for pid in arguments[0]
            )
        if method == "see_out":
            self.log.append(f"see out {len(arguments[0])} on {node.name}")
            return self.rank_fault
        self.log.append(f"end {arguments[0].name} on {node.name}")
        node.replicas.pop(arguments[0].name, None)
        return ""

    def _start(self, node: FakeNode, order: ReplicaOrder) -> ReplicaRecord | Fault:
        self._serial += 2
        record = ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            nodes=order.nodes,
            accelerators=order.accelerators,
            devices=order.pool_devices[: order.accelerators],
            pid=self._serial,
            engine_pid=self._serial + 1,
            boot_id=BOOT,
            host="127.0.0.9",
            http_port=1,
        )
        node.replicas[order.name] = record
        self.log.append(f"start {order.name} on {node.name}")
        return self.start_fault or record

    def _reserve(self, name: str, bundles: tuple[Bundle, ...]) -> str:
        if name in self.groups:
            return group_state(CREATED, self.groups[name], {one.node_id for one in bundles})
        wanted = Counter[str]()
        for bundle in bundles:
            wanted[bundle.node_id] += int(bundle.resources["GPU"])
        held = sum(self.groups.values(), Counter[str]())
        if any(held[node] + count > self.accelerators for node, count in wanted.items()):
            return "PENDING"
        self.groups[name] = wanted
        self.log.append(f"reserve {name}")
        return CREATED

    def _ranks(self, name: str) -> tuple[Rank, ...]:
        return self.ranks.get(name, ()) if name in self.groups else ()

    def _release(self, name: str) -> None:
        self.groups.pop(name, None)


def engine_died(record: ReplicaRecord) -> ReplicaRecord:
    """Return the record after its host has restarted the engine."""
    return replace(record, engine_pid=record.engine_pid + 1000, restarts=record.restarts + 1)
