"""Looks at everything once: records, processes, health, and what the gateway says. I/O.

The loop calls `look` on each wake; what comes out is the whole truth that `plan` decides on.
"""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Protocol

import aiohttp

from skerry.fleet.names import pool_name
from skerry.fleet.pool import PoolShape
from skerry.plumbing import logs
from workload_plane.converge.memory import ReplicaMemory, after_look, first_sight, next_state
from workload_plane.converge.seen import (
    Observed,
    SeenPool,
    SeenReplica,
    StartBackoff,
    after_failure,
)
from workload_plane.replicas.port import LiveReplica, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

# A healthy host answers in a millisecond; on a machine that is short of CPU, in a few hundred.
HEALTH_SECONDS_MAX = 1.0


@dataclass(frozen=True, slots=True, kw_only=True)
class GatewayView:
    """What the gateway last said: replicas it routes to, and requests in flight by replica.

    `known` is False when it did not answer: then nothing is routable and nothing is drained.
    """

    known: bool = False
    routable: frozenset[str] = frozenset()
    in_flight: Mapping[str, int] = field(default_factory=dict)


class HealthProbe(Protocol):
    """Asks a replica's host whether it serves."""

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        """Return whether it answered in time that it is ready."""
        ...


class HttpHealthProbe:
    """The probe over HTTP, one short GET of /health each."""

    def __init__(self, session: aiohttp.ClientSession, host: str) -> None:
        """Use the session of the agent; replicas listen on `host`."""
        self._session = session
        self._host = host

    async def is_healthy(self, record: ReplicaRecord) -> bool:
        """Return whether /health answered 200 within a second."""
        if not record.health_port:
            return False
        url = f"http://{self._host}:{record.health_port}/health"
        try:
            async with asyncio.timeout(HEALTH_SECONDS_MAX):
                async with self._session.get(url) as response:
                    return response.status == 200
        except (aiohttp.ClientError, TimeoutError, OSError):
            return False


@dataclass(slots=True)
class Memory:
    """What the loop keeps between looks: moments, failed starts, actions under way."""

    replicas: dict[str, ReplicaMemory] = field(default_factory=dict)
    backoffs: dict[tuple[str, int], StartBackoff] = field(default_factory=dict)
    busy: set[str] = field(default_factory=set)

    def failed(self, deployment: str, revision: int, name: str, now: float) -> None:
        """Remember that a replica of the revision failed, for the backoff of the next start."""
        key = (deployment, revision)
        before = self.backoffs.get(key, StartBackoff(deployment=deployment, revision=revision))
        known = self.replicas.get(name)
        ready_at = known.ready_at if known is not None else None
        sound = None if ready_at is None else now - ready_at
        self.backoffs[key] = after_failure(before, sound, now)


def seen_pools(plane: str, shapes: tuple[PoolShape, ...]) -> tuple[SeenPool, ...]:
    """Return the plane's pools by their fleet-wide ids."""
    return tuple(
        SeenPool(
            name=pool_name(plane, shape.name),
            accelerator=shape.accelerator,
            accelerators=shape.accelerators,
        )
        for shape in shapes
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """One look: what `plan` needs, and the records as the report and the gateway need them."""

    observed: Observed
    live: tuple[LiveReplica, ...]


async def look(
    runtime: ReplicaRuntime,
    probe: HealthProbe,
    gateway: GatewayView,
    memory: Memory,
    pools: tuple[SeenPool, ...],
    now: float,
) -> Look:
    """Return what is there now, with STARTING replicas that answer marked READY on the way."""
    live = await runtime.list()
    healthy = await _probe_all(probe, [one.record for one in live if _is_asked(one, memory)])
    seen: list[SeenReplica] = []
    shown: list[LiveReplica] = []
    for one in live:
        record = one.record
        answer = healthy.get(record.name)
        state = next_state(record.state, answer)
        if state is not record.state:
            await runtime.mark(record.name, state)
            _log.info("replica.ready", replica=record.name, deployment=record.deployment)
            one = replace(one, record=replace(record, state=state, message=""))
        before = memory.replicas.get(record.name) or first_sight(record.state, now)
        memory.replicas[record.name] = after_look(before, state, answer, now)
        seen.append(_seen(one, memory, gateway))
        shown.append(one)
    names = {one.record.name for one in live}
    for gone in set(memory.replicas) - names:
        del memory.replicas[gone]
    backoffs = tuple(memory.backoffs[key] for key in sorted(memory.backoffs))
    observed = Observed(replicas=tuple(seen), pools=pools, backoffs=backoffs)
    return Look(observed=observed, live=tuple(shown))


def _is_asked(one: LiveReplica, memory: Memory) -> bool:
    return one.alive and one.record.name not in memory.busy


async def _probe_all(probe: HealthProbe, records: list[ReplicaRecord]) -> dict[str, bool]:
    answers = await asyncio.gather(*(probe.is_healthy(record) for record in records))
    return {record.name: answer for record, answer in zip(records, answers, strict=True)}


def _seen(one: LiveReplica, memory: Memory, gateway: GatewayView) -> SeenReplica:
    record, moments = one.record, memory.replicas[one.record.name]
    return SeenReplica(
        name=record.name,
        deployment=record.deployment,
        revision=record.revision,
        pool=record.pool,
        state=record.state,
        accelerators=record.accelerators,
        alive=one.alive,
        busy=record.name in memory.busy,
        routable=record.name in gateway.routable,
        started_at=moments.started_at,
        ready_at=moments.ready_at,
        unhealthy_since=moments.unhealthy_since,
        draining_since=moments.draining_since,
        in_flight=gateway.in_flight.get(record.name, 0) if gateway.known else None,
        restarts=record.restarts,
        fault=one.fault,
    )
