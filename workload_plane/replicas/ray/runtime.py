"""The replica runtime `ray`: replicas on the nodes of a Ray cluster, recorded by the agent.

Each node's replicas are kept by the local runtime there; here are the plane's records of all of
them, the accelerators they hold in Ray, and what to do while a node or Ray itself is gone.
"""

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path

from skerry.fleet.engine import EngineName
from skerry.fleet.observation import ReplicaState
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, SkerryError, Unavailable
from skerry.plumbing.files import clean_temporaries
from skerry.plumbing.ids import IdSource
from skerry.plumbing.ports import is_listening
from skerry.plumbing.processes import is_alive, wait_until_gone
from skerry.plumbing.tasks import first_of
from workload_plane.replicas.port import LiveReplica, ReplicaOrder
from workload_plane.replicas.ray.cluster import Cluster, RayConnection, RayPlace
from workload_plane.replicas.ray.connection import Connection
from workload_plane.replicas.ray.memory import read_fenced, write_fenced
from workload_plane.replicas.ray.merging import (
    STARTING_FAULT,
    adopted,
    judge,
    node_order,
    nodes_wanted,
)
from workload_plane.replicas.ray.nodes import lost_node
from workload_plane.replicas.ray.own_nodes import HUNG_SECONDS_MAX, OwnNodes
from workload_plane.replicas.ray.reservations import Reservations
from workload_plane.replicas.record_store import RecordStore
from workload_plane.replicas.records import (
    ReplicaRecord,
    UnreadableRecord,
    record_path,
)
from workload_plane.replicas.recovery import unknown_record
from workload_plane.replicas.supply import Supply

_log = logs.get_logger(__name__)

LIST_SECONDS_MAX = 2.0  # the loop's other work waits no longer for a look; the last one stands
START_SECONDS_MAX = 60.0  # a host is forked in a second; a node that swaps takes longer
OPEN_SECONDS_MAX = 10.0  # a launcher that missed one look answers the next
CALL_SECONDS_MAX = 10.0  # of a launcher's small answers
SEE_OUT_SECONDS_MAX = 30.0  # SIGKILL takes milliseconds, a driver that holds a process seconds
_WATCH_SECONDS = 1.0
_HANG_LOOK_SECONDS = 5.0
ENDED_REMEMBERED_MAX = 10_000


class RayRuntime:
    """Runs replicas on the plane's Ray nodes; the only writer of the plane's records of them."""

    def __init__(
        self, place: RayPlace, connection: RayConnection, own: OwnNodes | None, clock: Clock
    ) -> None:
        """Read what is on disk; connects to nothing before `run`.

        `own` keeps the Ray nodes of this host, None where they are somebody else's.
        """
        self._place = place
        self._clock = clock
        self._connection = connection
        self._cluster = Cluster(place, connection, clock)
        self._held = Reservations(place.plane, self._cluster)
        self._own = own
        self._lock = asyncio.Lock()  # of the records: read, changed and written by one at a time
        self._looking: asyncio.Future[None] | None = None
        self._starting: set[str] = set()
        self._ended: dict[str, None] = {}
        self._fenced = read_fenced(place.settings.fenced_path)
        place.replicas_dir.mkdir(parents=True, exist_ok=True)
        self._records = RecordStore(place.replicas_dir)
        clean_temporaries(place.replicas_dir)

    @property
    def supply(self) -> Supply:
        """Return what the plane has to run replicas on."""
        return self._cluster.supply

    async def run(self, wake: Callable[[], None] = lambda: None) -> None:
        """Keep the connection up, and the head where it is the agent's; never returns.

        Cancelled, it lets go of Ray, which goes on. `wake` is called when Ray comes or goes.
        """
        self._connection.changed = wake
        async with asyncio.TaskGroup() as group:
            group.create_task(self._connection.run())
            if self._own is not None:
                group.create_task(self._own.run())
                group.create_task(self._end_hung_head(self._own))

    async def reach(self) -> None:
        """Keep the connection up without starting a head; never returns."""
        await self._connection.run()

    async def start(self, order: ReplicaOrder) -> ReplicaRecord:
        """See ReplicaRuntime."""
        if self._records.has(order.name):
            raise Conflict(f"replica {order.name} exists already; names are used once")
        nodes = await self._open_nodes(order)
        record = self._record(order, nodes)
        self._starting.add(order.name)
        try:
            async with self._lock:
                await self._records.save(record)
            try:
                await self._held.reserve(record)
                part = node_order(order, nodes)
                await self._check_rank_nodes(part)
                started = await self._cluster.call(nodes[0], "start", (part,), START_SECONDS_MAX)
            except (SkerryError, OSError) as error:
                await self._undo(record, error)
                raise
            assert isinstance(started, ReplicaRecord)
            record = adopted(record, started)
            async with self._lock:
                await self._records.keep(record)  # it runs: a full disk does not undo that
            return record
        finally:
            self._starting.discard(order.name)

    async def list(self) -> tuple[LiveReplica, ...]:
        """See ReplicaRuntime."""
        await self._look()
        async with self._lock:
            live = [await self._judge(found) for found in self._found()]
        return tuple(one for one in live if one is not None)

    async def gone(self, names: frozenset[str]) -> frozenset[str]:
        """See ReplicaRuntime."""
        await self._look()
        there = {found.name for found in self._found()}
        running = {
            one.record.name for word in self._cluster.words.values() for one in word.replicas
        }
        absent = names - there - running
        if self._all_answered():
            return frozenset(absent)
        # What runs on a node that says nothing is not known, but for what was seen to end.
        return frozenset(
            name for name in absent if name in self._ended and name not in self._fenced
        )

    async def mark(
        self, name: str, state: ReplicaState, message: str = "", start_seconds: float | None = None
    ) -> None:
        """See ReplicaRuntime."""
        async with self._lock:
            record = self._records.known(name)
            if record is None:
                return
            seconds = record.start_seconds if start_seconds is None else start_seconds
            changed = dataclasses.replace(
                record, state=state, message=message, start_seconds=seconds
            )
            if changed != record:
                await self._records.keep(changed)

    async def stop(self, record: ReplicaRecord, grace_seconds: float) -> None:
        """See ReplicaRuntime."""
        await self._end(record, max(grace_seconds, 0.1))
        await self._remove(record.name)

    async def kill(self, record: ReplicaRecord, reason: str) -> None:
        """See ReplicaRuntime."""
        words = await self._end(record, 0.0)
        gone = dataclasses.replace(
            self._records.known(record.name) or record,
            state=ReplicaState.FAILED,
            message=words or reason,
            pid=0,
            engine_pid=0,
            start_time=0.0,
            engine_start_time=0.0,
        )
        async with self._lock:
            await self._records.keep(gone)

    async def refuse(self, order: ReplicaOrder, reason: str) -> ReplicaRecord:
        """See ReplicaRuntime."""
        record = dataclasses.replace(
            self._record(order, order.nodes), state=ReplicaState.FAILED, message=reason
        )
        running = {
            one.record.name for word in self._cluster.words.values() for one in word.replicas
        }
        async with self._lock:
            if order.name in running or self._records.has(order.name):
                raise Conflict(f"replica {order.name} exists already; it is not refused")
            await self._records.save(record)
        return record

    async def forget(self, name: str) -> None:
        """See ReplicaRuntime."""
        if any(one.record.name == name and one.alive for one in await self.list()):
            raise Conflict(f"replica {name} lives; stop it before it is forgotten")
        await self._remove(name)

    async def wait_for_exit(self, record: ReplicaRecord) -> None:
        """See ReplicaRuntime."""
        processes = [p for p in (record.host_process, record.engine_process) if p is not None]
        here = [process for process in processes if is_alive(process)]
        if here:
            await first_of(*(wait_until_gone(process) for process in here))
            return
        # On another machine, or not started yet: the loop's looks tell it to everybody.
        while (one := self._judged(record.name)) is not None and one.alive:
            if one.record.pid != record.pid:
                return
            await self._clock.sleep(_WATCH_SECONDS)

    async def _look(self) -> None:
        """Look at the cluster, with whoever else is at it; wait for it for a moment only."""
        if self._looking is None or self._looking.done():
            self._looking = asyncio.ensure_future(self._look_and_settle())  # noqa: TID251
        try:
            async with asyncio.timeout(LIST_SECONDS_MAX):
                await asyncio.shield(self._looking)
        except TimeoutError:
            return

    async def _look_and_settle(self) -> None:
        held = {node for found in self._found() for node in _nodes(found)}
        before = self._held.begin_look()
        await self._cluster.look(held | set(self._fenced.values()))
        self._held.end_look(before)
        try:
            await self._adopt()
            await self._settle()
        except Exception:
            _log.exception("ray.not-settled")  # the next look settles it

    async def _adopt(self) -> None:
        """Give a record to what runs without one, unless it was ended or given up."""
        known = {found.name for found in self._found()}
        for node, word in self._cluster.words.items():
            for one in word.replicas:
                name = one.record.name
                if name in known or name in self._ended or name in self._fenced or not one.alive:
                    continue
                nodes = one.record.nodes or (node,)
                record = dataclasses.replace(
                    one.record, nodes=nodes, accelerators=one.record.accelerators * len(nodes)
                )
                async with self._lock:
                    await self._records.save(record)
                _log.warning("replica.adopted", replica=name, node=node)

    async def _settle(self) -> None:
        """End what was given up with its node, and hold in Ray what replicas hold.

        A restarted Ray believes all accelerators free: until it is told, their nodes are closed.
        """
        cluster = self._cluster
        if cluster.stopped:
            return
        closed = dict(cluster.silent)
        for name, node in list(self._fenced.items()):
            if node in cluster.words:
                await self._end_fenced(name, node)
            if name in self._fenced:
                closed[node] = f"replica {name}, which was given up, is not ended yet"
        everything = self._found()
        records = [found for found in everything if isinstance(found, ReplicaRecord)]
        unreserved: list[ReplicaRecord] = []
        for record in records:
            if record.state is ReplicaState.FAILED or record.name in self._starting:
                continue
            if self._held.has(record.name):
                continue
            unreserved.append(record)
            closed |= dict.fromkeys(record.nodes, f"replica {record.name} is not reserved")
        cluster.closed = closed
        for record in unreserved:
            await self._held.reserve_again(record)
        # A record that cannot be read is still that of a replica.
        await self._held.release_others({found.name for found in everything} | self._starting)

    async def _end_fenced(self, name: str, node: str) -> None:
        word = self._cluster.words[node]
        there = next((one for one in word.replicas if one.record.name == name), None)
        try:
            if there is not None:
                await self._cluster.end(node, there.record, 0.0)
                _log.warning("replica.fenced", replica=name, node=node)
        except SkerryError as error:
            _log.warning("replica.not-fenced", replica=name, node=node, error=str(error))
            return
        del self._fenced[name]
        self._ended[name] = None
        await asyncio.to_thread(write_fenced, self._place.settings.fenced_path, self._fenced)

    async def _check_rank_nodes(self, order: ReplicaOrder) -> None:
        """Raise Conflict if an orphan has an accelerator of a node on which only Ray has ranks.

        The first node's are locked by the replica's own host. The simulated engine has none.
        """
        if order.engine.name is EngineName.SIMULATED or not order.pool_devices:
            return
        for node in order.nodes[1:]:
            await self._cluster.call(node, "check_devices", (order.pool_devices,), CALL_SECONDS_MAX)

    async def _undo(self, record: ReplicaRecord, error: Exception) -> None:
        if isinstance(error, Unavailable):
            # It may have been started all the same: it is ended before its record goes.
            try:
                await self._cluster.end(record.nodes[0], record, 0.0)
            except (SkerryError, OSError):
                await self._give_up(record)
        await self._remove(record.name)

    async def _end(self, record: ReplicaRecord, grace_seconds: float) -> str:
        current = self._records.known(record.name) or record
        if not current.nodes or (current.state is ReplicaState.FAILED and not current.pid):
            return current.message
        node = current.nodes[0]
        ranks = await self._held.ranks(current)
        try:
            words = await self._cluster.end(node, current, grace_seconds)
        except Unavailable as error:
            if not await self._is_lost(current):
                raise Unavailable(
                    f"replica {record.name} is not gone: node {node} cannot be asked: {error}"
                ) from None
            await self._give_up(current)
            words = f"its node {node} is lost"
        await self._held.release(record.name)
        await self._held.see_out(record.name, ranks)
        return words

    async def _is_lost(self, record: ReplicaRecord) -> bool:
        """Say whether Ray answers, does not list the node, and nothing of the replica answers.

        Its accelerators and ports are out of reach with their node, which takes nothing before
        what is left of it there has been ended.
        """
        node = self._cluster.nodes.get(record.nodes[0])
        if self._cluster.stopped or (node is not None and node.node_id):
            return False
        answers = [await is_listening(record.host, port) for port in record.ports]
        return not any(answers)

    async def _give_up(self, record: ReplicaRecord) -> None:
        self._fenced[record.name] = record.nodes[0]
        await asyncio.to_thread(write_fenced, self._place.settings.fenced_path, self._fenced)
        _log.warning("replica.given-up", replica=record.name, node=record.nodes[0])

    async def _open_nodes(self, order: ReplicaOrder) -> tuple[str, ...]:
        """Return the nodes of the order, which take something new; waits for one look or two."""
        deadline = self._clock.monotonic() + OPEN_SECONDS_MAX
        while True:
            await self.list()
            if self._cluster.stopped:
                raise Unavailable(f"{self._cluster.stopped}; nothing new starts until it is back")
            try:
                nodes = nodes_wanted(order, self.supply)
                self._check_open(nodes)
                return nodes
            except Unavailable:
                if self._clock.monotonic() > deadline:
                    raise
            await self._clock.sleep(0.2)

    def _check_open(self, nodes: tuple[str, ...]) -> None:
        supply = self.supply
        known = {node.name: node for node in supply.nodes}
        for name in nodes:
            if name not in self._cluster.nodes:
                raise Unavailable(f"node {name} is not in Ray")
            if name in supply.closed:
                why = known[name].message if name in known else ""
                raise Unavailable(f"node {name} takes nothing new: {why or 'it is not ready'}")

    def _found(self) -> tuple[ReplicaRecord | UnreadableRecord, ...]:
        return tuple(self._records.found().values())

    async def _judge(self, found: ReplicaRecord | UnreadableRecord) -> LiveReplica | None:
        """Return the replica as it is now; its record is written when it says something else."""
        record = found if isinstance(found, ReplicaRecord) else self._records.last(found.name)
        told = self._told(found.name)
        if record is None and told is not None:
            nodes = told.record.nodes
            record = dataclasses.replace(
                told.record, accelerators=told.record.accelerators * max(1, len(nodes))
            )
        if record is None:
            assert isinstance(found, UnreadableRecord)
            if not self._all_answered():
                guess = unknown_record(found.name, None, found.fault)
                return LiveReplica(record=guess, alive=True, fault=found.fault, known=False)
            await self._remove_locked(found.name)
            return None
        live = self._on_all_nodes(judge(record, told, self._why_silent(record), self._starting))
        unwritten = isinstance(found, UnreadableRecord) or self._records.is_unwritten(found.name)
        if unwritten or live.record != record:
            await self._records.keep(live.record)
        self._records.saw(live.record)
        return live

    def _judged(self, name: str) -> LiveReplica | None:
        record = self._records.last(name)
        if record is None:
            return None
        told = self._told(name)
        return self._on_all_nodes(judge(record, told, self._why_silent(record), self._starting))

    def _on_all_nodes(self, live: LiveReplica) -> LiveReplica:
        """Return the replica as dead when a node of its ranks beside the first is lost."""
        cluster = self._cluster
        if not live.alive or cluster.stopped:
            return live
        lost = lost_node(live.record.nodes[1:], cluster.nodes, self._clock.monotonic())
        if not lost:
            return live
        fault = f"node {lost}, which has ranks of it, is lost"
        return dataclasses.replace(live, alive=False, fault=fault)

    def _told(self, name: str) -> LiveReplica | None:
        for word in self._cluster.words.values():
            for one in word.replicas:
                if one.record.name == name:
                    return one
        return None

    def _why_silent(self, record: ReplicaRecord) -> str:
        node = record.nodes[0] if record.nodes else ""
        if node in self._cluster.words:
            return ""
        return self._cluster.silent.get(node) or self._cluster.stopped or STARTING_FAULT

    def _all_answered(self) -> bool:
        cluster = self._cluster
        return not cluster.stopped and not set(cluster.silent) - cluster.words.keys()

    def _record(self, order: ReplicaOrder, nodes: tuple[str, ...]) -> ReplicaRecord:
        return ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            served_name=order.served_name,
            accelerators=order.accelerators,
            nodes=nodes,
            host_memory_bytes=order.host_memory_bytes,
            restarts=order.restarts,
            failures=order.failures,
            started_at=self._clock.now().isoformat(timespec="milliseconds"),
        )

    async def _remove(self, name: str) -> None:
        await self._held.release(name)
        async with self._lock:
            await self._remove_locked(name)

    async def _remove_locked(self, name: str) -> None:
        self._records.drop(name)
        self._ended[name] = None
        while len(self._ended) > ENDED_REMEMBERED_MAX:
            del self._ended[next(iter(self._ended))]
        path: Path = record_path(self._place.replicas_dir, name)
        await asyncio.to_thread(path.unlink, missing_ok=True)

    async def _end_hung_head(self, own: OwnNodes) -> None:
        silent_since: float | None = None
        answered = False  # what never answered is no head that began to hang: a start mends nothing
        while True:
            await self._clock.sleep(_HANG_LOOK_SECONDS)
            now = self._clock.monotonic()
            answered = answered or not self._cluster.stopped
            is_silent = answered and bool(self._cluster.stopped)
            silent_since = (silent_since or now) if is_silent else None
            if silent_since is not None and now - silent_since > HUNG_SECONDS_MAX:
                await own.restart()
                silent_since, answered = None, False


def ray_runtime(place: RayPlace, clock: Clock, ids: IdSource) -> RayRuntime:
    """Return the runtime of a plane, with a bridge, and a head where that is the agent's."""
    settings = place.settings
    own = OwnNodes(settings, place.shapes, clock, ids) if settings.starts_head else None
    connection = Connection(place.plane, settings, place.logs_dir, clock, ids)
    return RayRuntime(place, connection, own, clock)


def _nodes(found: ReplicaRecord | UnreadableRecord) -> tuple[str, ...]:
    return found.nodes if isinstance(found, ReplicaRecord) else ()
