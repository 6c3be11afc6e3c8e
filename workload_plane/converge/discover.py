"""Looks at everything once: records, processes, health, and what the gateway says. I/O.

The loop calls `look` on each wake; what comes out is the whole truth that `plan` decides on.
"""

import asyncio
from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import aiohttp

from skerry.fleet.names import pool_name
from skerry.fleet.observation import ReplicaState
from skerry.fleet.pool import PoolShape
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError
from workload_plane.converge.memory import (
    ReplicaMemory,
    after_look,
    first_sight,
    next_state,
    restarted,
    start_seconds,
    started,
)
from workload_plane.converge.nodes import nodes_held
from workload_plane.converge.seen import (
    Observed,
    SeenPool,
    SeenReplica,
    StartBackoff,
    after_failure,
)
from workload_plane.replicas.port import LiveReplica, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord
from workload_plane.replicas.supply import Supply

_log = logs.get_logger(__name__)

# A healthy host answers in a millisecond; on a machine that is short of CPU, in a few hundred.
HEALTH_SECONDS_MAX = 1.0
_CPU = "cpu"  # the kind of pools whose accelerators have no numbers


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """What the gateway last said: replicas it routes to, and requests in flight by replica.

    `known` is False when it did not answer: then nothing is routable and nothing is drained.
    """

    known: bool = False
    routable: frozenset[str] = frozenset()
    in_flight: Mapping[str, int] = field(default_factory=dict)


class ReplicaProbe(Protocol):
    """Asks a replica's host whether it serves, and how much."""

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        """Return whether it answered in time that it is ready."""
        ...

    async def in_flight(self, record: ReplicaRecord) -> int | None:
        """Return how many requests its engine works on or has queued, None when not told."""
        ...


class HttpProbe:
    """The probe over HTTP: short GETs of the host's /health and /load."""

    def __init__(self, session: aiohttp.ClientSession) -> None:
        """Use the session of the agent."""
        self._session = session

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        """Return whether /health answered 200 within a second."""
        if not record.health_port:
            return False
        url = f"http://{record.host}:{record.health_port}/health"
        try:
            async with asyncio.timeout(HEALTH_SECONDS_MAX):
                async with self._session.get(url) as response:
                    return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False

    async def in_flight(self, record: ReplicaRecord) -> int | None:
        """Return the sum of running and queued requests of /load, None without an answer."""
        url = f"http://{record.host}:{record.health_port}/load"
        try:
            async with asyncio.timeout(HEALTH_SECONDS_MAX):
                async with self._session.get(url) as response:
                    told = await response.json()
                    running, queued = told["running_requests"], told["queued_requests"]
                    return max(int(running) + int(queued or 0), int(told["grpc_requests"]))
        except (aiohttp.ClientError, TimeoutError, OSError, ValueError, TypeError, KeyError):
            return None


@dataclass(slots=True)
class Memory:
    """What the loop keeps between looks: moments, failed starts, actions under way."""

    replicas: dict[str, ReplicaMemory] = field(default_factory=dict)
    backoffs: dict[tuple[str, int], StartBackoff] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)
    # Whose start is under way, as it will be: their places are taken from the moment it began.
    begun: dict[str, ReplicaRecord] = field(default_factory=dict)
    seen_alive: set[str] = field(default_factory=set)
    given_up: set[str] = field(default_factory=set)  # by their own hosts

    def nothing_is_under_way(self) -> None:
        """Take all that had begun for ended; the next look shows what became of it."""
        self.busy.clear()
        self.begun.clear()

    def forget_others(self, deployments: Collection[str]) -> None:
        """Drop what is remembered of failed starts of deployments that exist no more."""
        for key in [key for key in self.backoffs if key[0] not in deployments]:
            del self.backoffs[key]

    def starting(self, name: str, now: float) -> None:
        """Remember when this agent started a replica, to measure how long it takes."""
        self.replicas[name] = started(now)

    def failed(self, deployment: str, revision: int, name: str, now: float) -> None:
        """Remember that a replica of the revision failed, for the backoff of the next start.

        One that this agent never saw alive died with the machine, not of its revision.
        """
        if name not in self.seen_alive:
            return
        key = (deployment, revision)
        before = self.backoffs.get(key, StartBackoff(deployment=deployment, revision=revision))
        known = self.replicas.get(name)
        ready_at = known.ready_at if known is not None else None
        sound = None if ready_at is None else now - ready_at
        given_up = name in self.given_up
        self.backoffs[key] = after_failure(before, sound, now, given_up=given_up)


def seen_pools(plane: str, supply: Supply) -> tuple[SeenPool, ...]:
    """Return the plane's pools by their fleet-wide ids, with the nodes that the plane lists."""
    pools: list[SeenPool] = []
    first = 0
    for shape in supply.shapes:
        is_numbered = shape.accelerator != _CPU and not supply.discovered
        pools.append(_seen_pool(plane, shape, supply, first if is_numbered else 0))
        # All are on this one host: the next pool's devices come after this one's.
        first += pools[-1].accelerators if is_numbered else 0
    return tuple(pools)


def _seen_pool(plane: str, shape: PoolShape, supply: Supply, first_device: int) -> SeenPool:
    nodes = tuple(node.name for node in supply.nodes if node.pool == shape.name)
    unready = {node.name for node in supply.nodes if not node.ready}
    return SeenPool(
        name=pool_name(plane, shape.name),
        accelerator=shape.accelerator,
        # Also those of nodes that are away: what runs there holds them.
        accelerators=len(nodes) * shape.accelerators_per_node if nodes else shape.accelerators,
        nodes=nodes,
        accelerators_per_node=shape.accelerators_per_node,
        host_memory_bytes=shape.host_memory_bytes,
        unfit=(supply.closed | unready).intersection(nodes),
        stopped=supply.stopped,
        numbered_by_node=supply.discovered,
        first_device=first_device,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: what `plan` needs, and the records as the report and the gateway need them."""

    observed: Observed
    live: tuple[LiveReplica, ...]
    at_seconds: float  # when the answers were there, monotonic: what is decided by them is of then
    begun: tuple[ReplicaRecord, ...] = ()  # whose start is under way and of which nothing is there


async def look(
    runtime: ReplicaRuntime,
    probe: ReplicaProbe,
    gateway: GatewayView,
    memory: Memory,
    pools: tuple[SeenPool, ...],
    clock: Clock,
) -> Look:
    """Return what is there now, with STARTING replicas that answer marked READY on the way."""
    beginning = dict(memory.begun)  # before the look: one that ends meanwhile is in it or here
    live = tuple(_with_nodes(one, pools) for one in await runtime.list())
    busy = memory.busy | beginning.keys()
    asked = [one.record for one in live if one.alive and one.known and one.record.name not in busy]
    healthy = dict(await asyncio.gather(*(_ask_health(probe, record) for record in asked)))
    draining = [record for record in asked if record.state is ReplicaState.DRAINING]
    loads = dict(await asyncio.gather(*(_ask_load(probe, record) for record in draining)))
    now = clock.monotonic()  # of the answers: this process may have been stopped since it asked
    seen: list[SeenReplica] = []
    shown: list[LiveReplica] = []
    for one in live:
        record = one.record
        answer = healthy.get(record.name)
        state = next_state(record.state, answer)
        before = memory.replicas.get(record.name) or first_sight(record.state, now)
        if record.state is ReplicaState.STARTING and before.ready_at is not None:
            before = restarted(now)
        if state is not record.state:
            one = await _mark_ready(runtime, one, start_seconds(before, now))
        memory.replicas[record.name] = after_look(before, state, answer, now)
        begins = record.name in beginning
        sight = _seen(one, memory, gateway, loads.get(record.name))
        seen.append(replace(sight, busy=sight.busy or begins, begins=begins))
        shown.append(one)
    names = {one.record.name for one in live}
    begun = tuple(record for name, record in beginning.items() if name not in names)
    seen += [_beginning(record) for record in begun]
    names |= beginning.keys()
    for gone in set(memory.replicas) - names:
        del memory.replicas[gone]
    memory.seen_alive &= names
    memory.seen_alive |= {one.record.name for one in live if one.alive}
    memory.given_up = {one.record.name for one in live if one.given_up}
    backoffs = tuple(memory.backoffs[key] for key in sorted(memory.backoffs))
    observed = Observed(replicas=tuple(seen), pools=pools, backoffs=backoffs)
    return Look(observed=observed, live=tuple(shown), at_seconds=now, begun=begun)


def _beginning(record: ReplicaRecord) -> SeenReplica:
    """Return a replica of which nothing is there yet: it has its place, and nobody touches it."""
    return SeenReplica(
        name=record.name,
        deployment=record.deployment,
        revision=record.revision,
        pool=record.pool,
        state=ReplicaState.STARTING,
        accelerators=record.accelerators,
        host_memory_bytes=record.host_memory_bytes,
        nodes=record.nodes,
        busy=True,
        begins=True,
        restarts=record.restarts,
        failures=record.failures,
    )


def _with_nodes(one: LiveReplica, pools: tuple[SeenPool, ...]) -> LiveReplica:
    """Return the replica with its nodes as far as they can be told, also of an old record."""
    record = one.record
    pool = next((pool for pool in pools if pool.name == record.pool), None)
    nodes = nodes_held(pool, record.nodes, record.devices) if pool is not None else ()
    return one if nodes == record.nodes else replace(one, record=replace(record, nodes=nodes))


async def _mark_ready(
    runtime: ReplicaRuntime, one: LiveReplica, seconds: float | None
) -> LiveReplica:
    record = one.record
    try:
        await runtime.mark(record.name, ReplicaState.READY, start_seconds=seconds)
    except (SkerryError, OSError) as error:
        # It serves all the same, and so does the rest of the plane; the next look marks it.
        _log.warning("replica.not-marked", replica=record.name, error=str(error))
    took = record.start_seconds if seconds is None else seconds
    _log.info(
        "replica.ready",
        replica=record.name,
        deployment=record.deployment,
        start_seconds=round(took, 3),
    )
    return replace(
        one, record=replace(record, state=ReplicaState.READY, message="", start_seconds=took)
    )


async def _ask_health(probe: ReplicaProbe, record: ReplicaRecord) -> tuple[str, bool]:
    return record.name, await probe.is_healthy(record)


async def _ask_load(probe: ReplicaProbe, record: ReplicaRecord) -> tuple[str, int | None]:
    return record.name, await probe.in_flight(record)


def _in_flight(name: str, gateway: GatewayView, own: int | None) -> int | None:
    """Return the larger of the two counts: each may lag, and too many only costs patience."""
    counts = [own] if own is not None else []
    if gateway.known:
        counts.append(gateway.in_flight.get(name, 0))
    return max(counts, default=None)


def _seen(one: LiveReplica, memory: Memory, gateway: GatewayView, load: int | None) -> SeenReplica:
    record, moments = one.record, memory.replicas[one.record.name]
    return SeenReplica(
        name=record.name,
        deployment=record.deployment,
        revision=record.revision,
        pool=record.pool,
        state=record.state,
        accelerators=record.accelerators,
        host_memory_bytes=record.host_memory_bytes,
        nodes=record.nodes,
        alive=one.alive,
        busy=record.name in memory.busy,
        known=one.known,
        routable=record.name in gateway.routable,
        started_at=moments.started_at,
        ready_at=moments.ready_at,
        unhealthy_since=moments.unhealthy_since,
        draining_since=moments.draining_since,
        in_flight=_in_flight(record.name, gateway, load),
        restarts=record.restarts,
        failures=record.failures,
        fault=one.fault,
    )
