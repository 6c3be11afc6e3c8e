"""The launcher: an actor on each node that starts, lists and ends the replicas of that node.

It is the local runtime of its node behind Ray. Replicas are no children of it, so that it may be
killed, restarted, and lost with its raylet, while they serve on.
"""

import os
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing.clock import SystemClock
from skerry.plumbing.errors import SkerryError
from skerry.plumbing.processes import ProcessRecord, kill_group, record_of, terminate
from workload_plane.link.report import software_version
from workload_plane.replicas.apart import spawn_apart, without_ray
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.ray.values import Fault, LaunchPlace, NodeWord, group_name
from workload_plane.replicas.records import ReplicaRecord

# Of a replica over many nodes: its engine's ranks are started by Ray, so it has to find it.
_FOR_RANKS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH")


class Launcher:
    """The replicas of one node; every answer is a value or a Fault, never an exception."""

    def __init__(self, place: LaunchPlace) -> None:
        """Adopt what runs on the node."""
        self._runtime = node_runtime(place)

    async def word(self) -> NodeWord | Fault:
        """Return what runs on this node."""
        try:
            return NodeWord(
                boot_id=record_of(os.getpid()).boot_id,
                software=software_version(),
                replicas=await self._runtime.list(),
            )
        except (SkerryError, OSError) as error:
            return Fault.of(error)

    async def start(self, order: ReplicaOrder) -> ReplicaRecord | Fault:
        """Start a replica host and return its record."""
        try:
            return await self._runtime.start(order)
        except (SkerryError, OSError) as error:
            return Fault.of(error)

    async def end(self, record: ReplicaRecord, grace_seconds: float) -> str | Fault:
        """End a replica, at once without a grace, and return its host's last words."""
        return await end_and_forget(self._runtime, record, grace_seconds)


async def end_and_forget(
    runtime: LocalRuntime, record: ReplicaRecord, grace_seconds: float
) -> str | Fault:
    """End a replica of a node, at once without a grace; its processes and its record are gone."""
    try:
        known = {one.record.name: one for one in await runtime.list()}
        if record.name not in known:
            await _end_unknown(record, grace_seconds)
            return ""
        own = known[record.name].record
        if grace_seconds > 0:
            await runtime.stop(own, grace_seconds)
            return ""
        await runtime.kill(own, "")
        gone = {one.record.name: one for one in await runtime.list()}
        words = gone[record.name].fault if record.name in gone else ""
        await runtime.forget(record.name)
        return words
    except (SkerryError, OSError) as error:
        return Fault.of(error)


async def _end_unknown(record: ReplicaRecord, grace_seconds: float) -> None:
    """End the processes of a replica that has no record here; harmless when there are none."""
    clock = SystemClock()
    for process in (record.host_process, record.engine_process):
        if process is not None:
            await terminate(process, clock, grace_seconds)
            kill_group(process)


def node_runtime(place: LaunchPlace, *, tidies: bool = True) -> LocalRuntime:
    """Return the runtime of one node's replicas; only the launcher's own one `tidies`."""

    def start_host(argv: Sequence[str], log: Path, order: ReplicaOrder) -> ProcessRecord:
        env = without_ray(os.environ)
        if len(order.nodes) > 1:
            env |= {key: os.environ[key] for key in _FOR_RANKS if key in os.environ}
            env["RAY_ADDRESS"] = place.head_address
            env["SKERRY_RAY_PLACEMENT_GROUP"] = group_name(place.plane, order.name)
        return spawn_apart(argv, env=env, stdout_path=log)

    return LocalRuntime(
        LocalPlace(
            plane=place.plane,
            replicas_dir=Path(place.replicas_dir),
            logs_dir=Path(place.logs_dir),
            host=place.host,
            command=place.command,
            start_host=start_host,
            tidies=tidies,
        ),
        SystemClock(),
    )
