"""What the agent knows of the plane's Ray cluster: nodes, what their launchers say, what is held.

A look never raises and never blocks for long: without an answer the last one stands, and `stopped`
says why nothing may start. Nodes of the agent's own machine are looked at directly then.
"""

import asyncio
import os
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

from skerry.fleet.pool import PoolShape
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, Unavailable
from skerry.plumbing.processes import ProcessRecord, record_of
from skerry.plumbing.software import software_version
from workload_plane.engine_user import EngineUser
from workload_plane.replicas.local import HostCommand, LocalRuntime, host_command
from workload_plane.replicas.ray.launcher import end_and_forget, node_runtime
from workload_plane.replicas.ray.memory import read_nodes, write_nodes
from workload_plane.replicas.ray.nodes import KnownNode, merge_nodes, place_nodes, supply_of
from workload_plane.replicas.ray.settings import RaySettings
from workload_plane.replicas.ray.values import (
    Fault,
    LaunchPlace,
    NodeWord,
    Rank,
    RayLook,
    bundles_of,
)
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.supply import Supply

_log = logs.get_logger(__name__)

LOOK_SECONDS_MAX = 4.0  # a head on a quiet machine answers in 20 ms
WORDS_SECONDS_MAX = 8.0  # also the start of a launcher: 5 s when the machine is busy
DOUBTS_MAX = 3  # looks in a row without an answer, then the bridge is started anew
RESERVE_SECONDS = 15.0
END_SECONDS = 30.0  # on top of the grace: fences and port checks of the node's runtime


@dataclass(frozen=True, slots=True, kw_only=True)
class RayPlace:
    """Whose cluster it is, and where replicas of its nodes keep their files."""

    plane: str
    shapes: tuple[PoolShape, ...]
    settings: RaySettings
    replicas_dir: Path
    logs_dir: Path
    command: HostCommand = host_command
    device_locks_dir: Path | None = None
    prefix_disk_dir: Path | None = None
    engine_user: EngineUser | None = None
    engine_environment: tuple[str, ...] = ()
    trace_endpoint: str = ""


class RayConnection(Protocol):
    """What asks Ray: the bridge, or a test's own; `fault` says why nobody answers, if so."""

    fault: str
    changed: Callable[[], None]

    async def run(self) -> None:
        """Keep it up, for ever."""
        ...

    async def ask(self, verb: str, *arguments: object, seconds: float) -> Any:
        """Return the answer; raises what was raised there, and Unavailable after the time."""
        ...

    def doubt(self, why: str) -> None:
        """Begin anew: Ray does not answer."""
        ...


class Cluster:
    """The nodes of the plane and how to reach them; looked at by one caller at a time."""

    def __init__(self, place: RayPlace, connection: RayConnection, clock: Clock) -> None:
        """Begin with the nodes as they were last seen."""
        self._place = place
        self._connection = connection
        self._clock = clock
        self._boot_id = record_of(os.getpid()).boot_id
        self._direct: dict[str, LocalRuntime] = {}
        self._doubts = 0
        self.nodes = read_nodes(place.settings.nodes_path, clock.monotonic())
        self._written = _lasting(self.nodes)
        self.groups: Mapping[str, str] = {}
        self.words: dict[str, NodeWord] = {}
        self.silent: dict[str, str] = {}
        self.closed: dict[str, str] = {}
        self.stopped = connection.fault

    @property
    def supply(self) -> Supply:
        """Return what the plane has to run replicas on."""
        return supply_of(
            self._place.shapes, self.nodes, self.closed, self.stopped, self._clock.monotonic()
        )

    async def look(self, held: Collection[str]) -> None:
        """Look at everything once; `held` are the nodes of replicas not known to be gone."""
        try:
            seen: RayLook = await self._connection.ask("look", seconds=LOOK_SECONDS_MAX)
            now = self._clock.monotonic()
            settings = self._place.settings
            known = {node.node_id for node in self.nodes.values() if not node.stray}
            placed = place_nodes(settings.pools, self._place.shapes, seen.nodes, now, known)
            self.nodes = merge_nodes(self.nodes, placed, held, now)
            self.groups = seen.groups
            words, silent = await self._listen()
            self.stopped, self._doubts = "", 0
        except (SkerryError, OSError) as error:
            words, silent = {}, {name: str(error) for name in self.nodes}
            self._doubt(str(error))
        await self._look_directly(words, silent)
        self.words, self.silent = words, silent
        self._remember_boots()
        await self._write_nodes()

    async def call(
        self, node: str, method: str, arguments: tuple[object, ...], seconds: float
    ) -> object:
        """Return what a node's launcher answers; raises what it says, or Unavailable."""
        known = self.nodes.get(node)
        if known is None or not known.node_id:
            raise Unavailable(f"node {node} cannot be asked: Ray does not list it")
        return await self._connection.ask(
            "call", self._launch_place(known), method, arguments, seconds, seconds=seconds + 2.0
        )

    async def end(self, node: str, record: ReplicaRecord, grace_seconds: float) -> str:
        """End a replica on its node and return its last words; raises Unavailable."""
        seconds = grace_seconds + END_SECONDS
        direct = self.direct(node)
        reachable = bool(self.nodes[node].node_id) if node in self.nodes else False
        if direct is not None and (self.stopped or not reachable or node in self.silent):
            words = await end_and_forget(direct, record, grace_seconds)
            if isinstance(words, Fault):
                raise words.error()
            return words
        return str(await self.call(node, "end", (record, grace_seconds), seconds))

    async def reserve(self, name: str, nodes: Collection[str], each: int) -> str:
        """Return the state of the replica's placement group, made unless it is there."""
        known = [self.nodes[node] for node in nodes if node in self.nodes]
        if len(known) < len(nodes) or not all(node.node_id for node in known):
            raise Unavailable(f"node {', '.join(nodes)} is not in Ray")
        pool = next(one for one in self._place.settings.pools if one.name == known[0].pool)
        ids = tuple(node.node_id for node in known)
        bundles = bundles_of(ids, pool.resource, each)
        return str(await self._connection.ask("reserve", name, bundles, seconds=RESERVE_SECONDS))

    async def ranks(self, name: str) -> dict[str, tuple[ProcessRecord, ...]]:
        """Return by node the processes of Ray's that work in a placement group."""
        found: Sequence[Rank] = await self._connection.ask("ranks", name, seconds=LOOK_SECONDS_MAX)
        told: dict[str, tuple[ProcessRecord, ...]] = {}
        for node in self.nodes.values():
            pids = [rank.pid for rank in found if node.node_id and rank.node_id == node.node_id]
            if pids:
                answer = await self.call(node.name, "processes", (pids,), LOOK_SECONDS_MAX)
                assert isinstance(answer, tuple)
                told[node.name] = answer
        return told

    async def release(self, name: str) -> None:
        """Give the replica's accelerators back to Ray; without Ray nothing holds them."""
        try:
            await self._connection.ask("release", name, seconds=LOOK_SECONDS_MAX)
        except SkerryError as error:
            _log.info("ray.not-released", group=name, error=str(error))  # the next look does it

    def direct(self, node: str) -> LocalRuntime | None:
        """Return the runtime of a node of this very machine, None for any other."""
        known = self.nodes.get(node)
        if known is None or known.boot_id != self._boot_id:
            return None
        if node not in self._direct:
            self._direct[node] = node_runtime(self._launch_place(known), tidies=False)
        return self._direct[node]

    def _launch_place(self, node: KnownNode) -> LaunchPlace:
        home = self._place.replicas_dir.parent / "nodes" / node.name
        return LaunchPlace(
            plane=self._place.plane,
            node=node.name,
            node_id=node.node_id,
            replicas_dir=str(home / "replicas"),
            # Of its own: a folder that nodes share would lose the logs of one to the other.
            logs_dir=str(home / "logs"),
            host=node.address,
            head_address=self._place.settings.head_address,
            command=self._place.command,
            device_locks_dir=str(self._place.device_locks_dir or ""),
            prefix_disk_dir=str(self._place.prefix_disk_dir or ""),
            engine_user=self._place.engine_user,
            engine_environment=self._place.engine_environment,
            trace_endpoint=self._place.trace_endpoint,
        )

    async def _listen(self) -> tuple[dict[str, NodeWord], dict[str, str]]:
        heard = [node for node in self.nodes.values() if node.node_id and not node.stray]
        places = [self._launch_place(node) for node in heard]
        silent = {
            node.name: node.fault
            for node in self.nodes.values()
            if not node.node_id and not node.stray
        }
        answers = (
            await self._connection.ask("words", places, seconds=WORDS_SECONDS_MAX) if places else {}
        )
        words = {name: word for name, word in answers.items() if isinstance(word, NodeWord)}
        silent |= {name: word.message for name, word in answers.items() if isinstance(word, Fault)}
        return words, silent

    async def _look_directly(self, words: dict[str, NodeWord], silent: dict[str, str]) -> None:
        for name in list(silent):
            direct = self.direct(name)
            if direct is None:
                continue
            try:
                replicas = await direct.list()
            except (SkerryError, OSError) as error:
                silent[name] = str(error)
                continue
            words[name] = NodeWord(
                boot_id=self._boot_id, software=software_version(), replicas=replicas
            )

    async def _write_nodes(self) -> None:
        wanted = _lasting(self.nodes)
        if wanted == self._written:
            return
        try:
            await asyncio.to_thread(write_nodes, self._place.settings.nodes_path, self.nodes)
        except OSError as error:  # the disk is full: the next look writes it
            _log.warning("ray.nodes-not-written", error=str(error))
            return
        self._written = wanted

    def _remember_boots(self) -> None:
        for name, word in self.words.items():
            if name in self.nodes and self.nodes[name].boot_id != word.boot_id:
                self.nodes[name] = replace(self.nodes[name], boot_id=word.boot_id)

    def _doubt(self, why: str) -> None:
        self.stopped = self._connection.fault or why
        self._doubts += 1
        if self._doubts >= DOUBTS_MAX and not self._connection.fault:
            self._doubts = 0
            self._connection.doubt(why)


def _lasting(nodes: Mapping[str, KnownNode]) -> dict[str, tuple[str, str, str]]:
    return {name: (node.pool, node.address, node.boot_id) for name, node in nodes.items()}
