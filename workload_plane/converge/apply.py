"""Carries out the actions of a plan. I/O; what takes long runs beside the loop.

A replica with an action under way is `busy` until it ends, so that no plan touches it twice.
"""

import asyncio
from collections.abc import Coroutine, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

from skerry.fleet.deployment import Deployment
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, SkerryError
from skerry.plumbing.ids import IdSource
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.discover import Memory
from workload_plane.converge.seen import SeenPool
from workload_plane.models.sources import resolve
from workload_plane.replicas.port import ReplicaOrder, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

# The host's own drain takes at most 25 s; then its engine gets its grace; then SIGKILL.
STOP_SECONDS_MAX = 40.0
SHORT_ID_CHARS = 6  # of base 32: a billion names for each deployment and revision
_CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTerms:
    """What starting a replica takes: model directories, the engine to use instead, pools."""

    model_dirs: tuple[Path, ...]
    engine_override: EngineName | None
    pools: tuple[SeenPool, ...]


class Applier:
    """Applies actions through the replica runtime; long ones in the agent's task group."""

    def __init__(
        self,
        runtime: ReplicaRuntime,
        memory: Memory,
        terms: StartTerms,
        wake: asyncio.Event,
        clock: Clock,
        ids: IdSource,
    ) -> None:
        """Remember all; `wake` is set whenever an action that took long has ended."""
        self._wake = wake
        self._runtime = runtime
        self._memory = memory
        self._terms = terms
        self._clock = clock
        self._ids = ids

    async def apply(
        self,
        action: Action,
        records: Mapping[str, ReplicaRecord],
        deployments: Mapping[str, Deployment],
        tasks: asyncio.TaskGroup,
    ) -> bool:
        """Do the action, or begin it; return False when it failed, to be planned anew."""
        _log.info("action.applied", action=action.describe())
        try:
            match action:
                case StartReplica():
                    await self._start(action, deployments[action.deployment])
                case DrainReplica():
                    await self._runtime.mark(action.name, ReplicaState.DRAINING, action.reason)
                case ForgetReplica():
                    await self._runtime.forget(action.name)
                case StopReplica():
                    record = records[action.name]
                    self._begin(tasks, record, self._runtime.stop(record, STOP_SECONDS_MAX))
                case FenceReplica():
                    record = records[action.name]
                    self._memory.failed(
                        record.deployment, record.revision, record.name, self._clock.monotonic()
                    )
                    self._begin(tasks, record, self._runtime.kill(record, action.reason))
        except (SkerryError, OSError) as error:
            _log.warning("action.failed", action=action.describe(), error=str(error))
            return False
        return True

    def _begin(
        self, tasks: asyncio.TaskGroup, record: ReplicaRecord, work: Coroutine[None, None, None]
    ) -> None:
        self._memory.busy.add(record.name)
        tasks.create_task(self._finish(record, work))

    async def _finish(self, record: ReplicaRecord, work: Coroutine[None, None, None]) -> None:
        try:
            await work
        except (SkerryError, OSError) as error:
            _log.warning("replica.not-ended", replica=record.name, error=str(error))
        except Exception:
            _log.exception("replica.not-ended", replica=record.name)
        finally:
            self._memory.busy.discard(record.name)
            self._wake.set()

    async def _start(self, action: StartReplica, deployment: Deployment) -> None:
        revision = deployment.revision
        pool = next(pool for pool in self._terms.pools if pool.name == action.pool)
        shape = revision.shape_on(pool.accelerator)
        assert shape is not None, "plan starts nothing where it cannot run"
        short = self._ids.new_id()[-SHORT_ID_CHARS:]
        order = ReplicaOrder(
            name=replica_name(action.deployment, action.revision, short),
            deployment=action.deployment,
            revision=action.revision,
            pool=action.pool,
            served_name=revision.base_model.served_name,
            engine=engine_to_run(revision.engine, self._terms.engine_override),
            accelerators=shape.accelerators,
            # The kernel shares CPUs out by itself; everything else is held device by device.
            pool_devices=() if pool.accelerator == _CPU else tuple(range(pool.accelerators)),
            restarts=action.restarts,
        )
        if action.replaces is not None:
            await self._runtime.forget(action.replaces)
        try:
            ready = replace(order, model_path=self._model_path(order.engine, deployment))
            record = await self._runtime.start(ready)
        except (SkerryError, OSError) as error:
            if isinstance(error, Conflict):
                raise
            await self._refuse(order, str(error))
            return
        self._memory.seen_alive.add(record.name)
        _log.info("replica.started", replica=record.name, pid=record.pid)

    async def _refuse(self, order: ReplicaOrder, reason: str) -> None:
        now = self._clock.monotonic()
        self._memory.seen_alive.add(order.name)
        self._memory.failed(order.deployment, order.revision, order.name, now)
        await self._runtime.refuse(order, reason)
        _log.warning("replica.refused", replica=order.name, reason=reason)

    def _model_path(self, engine: EngineSpec, deployment: Deployment) -> str:
        if engine.name is EngineName.SIMULATED:
            return ""
        uri = deployment.revision.base_model.uri
        path = resolve(uri, self._terms.model_dirs).path
        return str(path) if path is not None else ""


def engine_to_run(engine: EngineSpec, override: EngineName | None) -> EngineSpec:
    """Return the engine's spec, or what the plane runs in its stead: limits kept, options not."""
    if override is None or engine.name is override:
        return engine
    return EngineSpec(
        name=override,
        context_tokens=engine.context_tokens,
        concurrent_requests=engine.concurrent_requests,
    )


def replica_name(deployment: str, revision: int, short_id: str) -> str:
    """Return DEPLOYMENT-rREV-SHORTID, cut so that it stays a DNS label."""
    tail = f"-r{revision}-{short_id}"
    return f"{deployment[: 63 - len(tail)].rstrip('-')}{tail}"
