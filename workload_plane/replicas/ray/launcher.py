"""The launcher: an actor on each node that starts, lists and ends the replicas of that node.

It is the local runtime of its node behind Ray. Replicas are no children of it, so that it may be
killed, restarted, and lost with its raylet, while they serve on.
"""

import asyncio
import contextlib
import os
from collections.abc import Sequence
from pathlib import Path

from skerry.plumbing.clock import Clock, SystemClock
from skerry.plumbing.errors import NotFound, SkerryError
from skerry.plumbing.processes import (
    ProcessRecord,
    record_of,
    terminate,
    wait_until_gone,
)
from skerry.plumbing.software import software_version
from skerry.plumbing.tasks import first_of
from workload_plane.replica_host.device_locks import take_devices
from workload_plane.replica_host.environment import without_credentials
from workload_plane.replicas.apart import spawn_apart, without_ray
from workload_plane.replicas.local import LocalPlace, LocalRuntime
from workload_plane.replicas.port import ReplicaOrder
from workload_plane.replicas.ray.values import Fault, LaunchPlace, NodeWord, group_name
from workload_plane.replicas.records import ReplicaRecord

# Of a replica over many nodes: its engine's ranks are started by Ray, so it has to find it.
_FOR_RANKS = ("RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH", "RAY_ENABLE_WINDOWS_OR_OSX_CLUSTER")
# On its path Python loads workload_plane.replicas.ray.in_group.sitecustomize by itself.
_IN_GROUP = Path(__file__).with_name("in_group")
# Ray ends what worked in a group that is removed; one that is in a call of its driver takes longer.
SEE_OUT_SECONDS = 5.0


class Launcher:
    """The replicas of one node; every answer is a value or a Fault, never an exception."""

    def __init__(self, place: LaunchPlace) -> None:
        """Adopt what runs on the node."""
        self._runtime = node_runtime(place)
        self._locks_dir = place.device_locks_dir

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

    async def check_devices(self, devices: Sequence[int]) -> Fault | None:
        """Return why accelerators of this node are not free, None when nobody has them locked."""
        if not self._locks_dir:
            return None
        try:
            for descriptor in take_devices(Path(self._locks_dir), devices):
                os.close(descriptor)
        except (SkerryError, OSError) as error:
            return Fault.of(error)
        return None

    async def processes(self, pids: Sequence[int]) -> tuple[ProcessRecord, ...]:
        """Return the records of those processes of this node that live."""
        found = []
        for pid in pids:
            with contextlib.suppress(NotFound):
                found.append(record_of(pid, "rank"))
        return tuple(found)

    async def see_out(self, processes: Sequence[ProcessRecord]) -> Fault | None:
        """Return once the processes are gone, by force if they take too long; or why they stay."""
        try:
            await see_out(processes, SystemClock())
        except (SkerryError, OSError) as error:
            return Fault.of(error)
        return None

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
            await runtime.stop(record, grace_seconds)  # harmless when nothing of it is here
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


async def see_out(processes: Sequence[ProcessRecord], clock: Clock) -> None:
    """Wait a moment for processes that end by themselves; raises Unavailable if one stays."""

    async def all_gone() -> None:
        await asyncio.gather(*(wait_until_gone(process) for process in processes))

    await first_of(all_gone(), clock.sleep(SEE_OUT_SECONDS))
    for process in processes:
        await terminate(process, clock, 0.0)


def node_runtime(place: LaunchPlace, *, tidies: bool = True) -> LocalRuntime:
    """Return the runtime of one node's replicas; only the launcher's own one `tidies`."""

    def start_host(argv: Sequence[str], log: Path, order: ReplicaOrder) -> ProcessRecord:
        env = without_credentials(without_ray(os.environ))
        if len(order.nodes) > 1:
            env |= {key: os.environ[key] for key in _FOR_RANKS if key in os.environ}
            env["RAY_ADDRESS"] = place.head_address
            env["SKERRY_RAY_PLACEMENT_GROUP"] = group_name(place.plane, order.name)
            env["PYTHONPATH"] = os.pathsep.join(
                (str(_IN_GROUP), *filter(None, [env.get("PYTHONPATH")]))
            )
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
            device_locks_dir=Path(place.device_locks_dir) if place.device_locks_dir else None,
            prefix_disk_dir=Path(place.prefix_disk_dir) if place.prefix_disk_dir else None,
            engine_user=place.engine_user,
            engine_environment=place.engine_environment,
            trace_endpoint=place.trace_endpoint,
        ),
        SystemClock(),
    )
