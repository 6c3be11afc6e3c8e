"""What replicas hold in Ray: a placement group each, from before a start until its end is seen.

Ray believes free what no group holds: what runs here is reserved again when Ray has forgotten it,
and a group of a replica that is no more is released.
"""

from collections.abc import Collection, Mapping

from skerry.plumbing import logs
from skerry.plumbing.errors import Exhausted, SkerryError, Unavailable
from skerry.plumbing.processes import ProcessRecord
from workload_plane.replicas.ray.cluster import Cluster
from workload_plane.replicas.ray.values import CREATED, GROUP_PREFIX, group_name
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

SEE_OUT_SECONDS_MAX = 30.0  # SIGKILL takes milliseconds, a driver that holds a process seconds


class Reservations:
    """The placement groups of one plane's replicas."""

    def __init__(self, plane: str, cluster: Cluster) -> None:
        """Know of none that the cluster's last look has not told."""
        self._plane = plane
        self._cluster = cluster
        self._fresh: set[str] = set()  # since the last look began

    def begin_look(self) -> frozenset[str]:
        """Return what is reserved already, for `end_look`: the look shows it."""
        return frozenset(self._fresh)

    def end_look(self, before: frozenset[str]) -> None:
        """Trust the look for what was reserved before it began."""
        self._fresh -= before

    def has(self, name: str) -> bool:
        """Return whether Ray holds a replica's accelerators, as far as is known."""
        held = self._cluster.groups.get(group_name(self._plane, name)) == CREATED
        return held or name in self._fresh

    async def reserve(self, record: ReplicaRecord) -> None:
        """Hold the replica's accelerators; raises Exhausted when they are not free."""
        name = group_name(self._plane, record.name)
        each = max(1, record.accelerators // max(1, len(record.nodes)))
        state = await self._cluster.reserve(name, record.nodes, each)
        if state != CREATED:
            await self._cluster.release(name)
            raise Exhausted(
                f"Ray has no {each} accelerators free on node {', '.join(record.nodes)}: somebody"
                " else uses this cluster"
            )
        self._fresh.add(record.name)

    async def reserve_again(self, record: ReplicaRecord) -> None:
        """Hold what a restarted Ray believes free, if it can be had; the next look tries again."""
        try:
            await self.reserve(record)
        except SkerryError as error:
            _log.info("ray.not-reserved", replica=record.name, error=str(error))
            return
        _log.info("ray.reserved-again", replica=record.name, nodes=",".join(record.nodes))

    async def release(self, name: str) -> None:
        """Give the replica's accelerators back to Ray."""
        await self._cluster.release(group_name(self._plane, name))

    async def release_others(self, names: Collection[str]) -> None:
        """Release the plane's groups of all replicas but the named ones."""
        prefix = f"{GROUP_PREFIX}{self._plane}/"
        for group in self._cluster.groups:
            name = group.removeprefix(prefix)
            if group.startswith(prefix) and name not in names:
                await self._release_orphan(group, name)

    async def ranks(self, record: ReplicaRecord) -> dict[str, tuple[ProcessRecord, ...]]:
        """Return by node the ranks of a replica that Ray started; none of one on a single node.

        While Ray is gone nobody knows them; it ends them itself within about a minute.
        """
        if len(record.nodes) <= 1 or self._cluster.stopped:
            return {}
        try:
            return await self._cluster.ranks(group_name(self._plane, record.name))
        except Unavailable as error:
            raise Unavailable(
                f"replica {record.name} is not gone: its ranks cannot be told: {error}"
            ) from None

    async def see_out(self, name: str, ranks: Mapping[str, tuple[ProcessRecord, ...]]) -> None:
        """Return once the ranks are gone: until then nobody else is to have their accelerators."""
        for node, processes in ranks.items():
            try:
                await self._cluster.call(node, "see_out", (processes,), SEE_OUT_SECONDS_MAX)
            except Unavailable as error:
                raise Unavailable(
                    f"replica {name} is not gone: its ranks on node {node}: {error}"
                ) from None

    async def _release_orphan(self, group: str, name: str) -> None:
        try:
            ranks = await self._cluster.ranks(group)
            await self._cluster.release(group)
            await self.see_out(name, ranks)
        except SkerryError as error:
            _log.warning("ray.not-released", group=group, error=str(error))  # the next look does it
