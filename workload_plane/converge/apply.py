"""Carries out the actions of a plan. I/O; what takes long runs beside the loop.

A replica with an action under way is `busy` until it ends, so that no plan touches it twice.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable, Mapping, MutableMapping
from dataclasses import dataclass, replace
from pathlib import Path
from weakref import WeakValueDictionary

from skerry.fleet.deployment import Deployment
from skerry.fleet.engine import EngineName, EngineSpec
from skerry.fleet.observation import ReplicaState
from skerry.fleet.spanning import why_on_one_node
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import Conflict, Infeasible, SkerryError, Unavailable
from skerry.plumbing.ids import IdSource
from workload_plane.converge.actions import (
    Action,
    DrainReplica,
    FenceReplica,
    ForgetReplica,
    ReviveReplica,
    StartReplica,
    StopReplica,
)
from workload_plane.converge.discover import Memory
from workload_plane.converge.nodes import devices_of
from workload_plane.converge.plan import Wait
from workload_plane.converge.seen import SeenPool
from workload_plane.models.cache import ModelCache
from workload_plane.models.checkpoint import refuse_other_weights
from workload_plane.models.local_checks import LocalChecks
from workload_plane.models.selection import GGUF
from workload_plane.models.sources import resolve
from workload_plane.models.uris import is_remote
from workload_plane.models.wanted import model_uris
from workload_plane.replica_host.ending import STOP_SECONDS_MAX
from workload_plane.replicas.port import ReplicaOrder, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

SHORT_ID_CHARS = 6  # of base 32: a billion names for each deployment and revision
# One for each node, which would only share its disk; of nodes that do not answer, so many. Half of
# what the bridge to Ray answers at once: fences and looks need the rest.
STARTS_AT_ONCE_MAX = 16
_CPU = "cpu"


@dataclass(frozen=True, slots=True, kw_only=True)
class StartTerms:
    """What starting a replica takes: model directories, the engine to use instead, pools.

    Without `models` only base models of the model directories can be run. `spreads`: the runtime
    places a replica's ranks on several nodes.
    """

    model_dirs: tuple[Path, ...]
    engine_override: EngineName | None
    pools: Callable[[], tuple[SeenPool, ...]]
    models: ModelCache | None = None
    spreads: bool = False
    local_checks: LocalChecks | None = None


def check_spans(order: ReplicaOrder, *, spreads: bool) -> None:
    """Raise Infeasible for a replica over several nodes that is to be on one, with the remedy.

    On the first node alone it would fail for want of accelerators, again and again. `spreads`: the
    runtime places ranks on other nodes.
    """
    if len(order.nodes) <= 1:
        return
    reason = why_on_one_node(order.engine)
    if reason is None and not spreads:
        reason = (
            "this plane runs replicas as processes of one host: say a shape that fits one node,"
            " with smaller parallel degrees, or give the plane the runtime ray"
        )
    if reason is not None:
        raise Infeasible(f"it would be spread over {len(order.nodes)} nodes, and {reason}")


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
        self._starts = asyncio.Semaphore(STARTS_AT_ONCE_MAX)
        self._node_turns: MutableMapping[str, asyncio.Lock] = WeakValueDictionary()
        self._awaiting: dict[tuple[str, int, str], list[ReplicaRecord]] = {}
        self._awaited: dict[tuple[str, int, str], list[ReplicaRecord]] = {}  # until this turn

    def awaiting(self, waits: Iterable[Wait]) -> tuple[ReplicaRecord, ...]:
        """Return the replicas that wait for a base model, as people are to see them.

        Nothing of them is there yet; each is started under the name it is shown with.
        """
        self._awaited, self._awaiting = self._awaiting, {}
        shown: list[ReplicaRecord] = []
        for wait in waits:
            if not wait.replicas:
                continue
            key = (wait.deployment, wait.revision, wait.pool)
            known = self._awaited.get(key, [])[: wait.replicas]
            known += [self._new_record(wait) for _ in range(wait.replicas - len(known))]
            places = [*wait.places, *[()] * (wait.replicas - len(wait.places))]
            self._awaiting[key] = [
                replace(record, message=wait.reason, nodes=nodes)
                for record, nodes in zip(known, places, strict=True)
            ]
            shown += self._awaiting[key]
        return tuple(shown)

    def _new_record(self, wait: Wait) -> ReplicaRecord:
        return ReplicaRecord(
            name=self._new_name(wait.deployment, wait.revision),
            deployment=wait.deployment,
            revision=wait.revision,
            pool=wait.pool,
            started_at=self._clock.now().isoformat(timespec="milliseconds"),
        )

    def _new_name(self, deployment: str, revision: int) -> str:
        return replica_name(deployment, revision, self._ids.new_id()[-SHORT_ID_CHARS:])

    def _name_for(self, action: StartReplica) -> str:
        known = self._awaited.get((action.deployment, action.revision, action.pool))
        return known.pop(0).name if known else self._new_name(action.deployment, action.revision)

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
                    order = self._order(action, deployments[action.deployment])
                    start = self._start(order, action, deployments[action.deployment])
                    self._memory.begun[order.name] = self._record_of(order)
                    self._begin(tasks, order.name, start)
                case DrainReplica():
                    await self._runtime.mark(action.name, ReplicaState.DRAINING, action.reason)
                case ReviveReplica():
                    await self._runtime.mark(action.name, ReplicaState.READY)
                case ForgetReplica():
                    await self._runtime.forget(action.name)
                case StopReplica():
                    record = records[action.name]
                    self._begin(tasks, record.name, self._runtime.stop(record, STOP_SECONDS_MAX))
                case FenceReplica():
                    record = records[action.name]
                    self._memory.failed(
                        record.deployment, record.revision, record.name, self._clock.monotonic()
                    )
                    self._begin(tasks, record.name, self._runtime.kill(record, action.reason))
        except (SkerryError, OSError) as error:
            _log.warning("action.failed", action=action.describe(), error=str(error))
            return False
        return True

    def _begin(
        self, tasks: asyncio.TaskGroup, name: str, work: Coroutine[None, None, None]
    ) -> None:
        self._memory.busy.add(name)
        tasks.create_task(self._finish(name, work))

    async def _finish(self, name: str, work: Coroutine[None, None, None]) -> None:
        try:
            await work
            self._wake.set()  # what failed is tried again with the next tick, and no sooner
        except (SkerryError, OSError) as error:
            _log.warning("action.not-ended", replica=name, error=str(error))
        except Exception:
            _log.exception("action.not-ended", replica=name)
        finally:
            self._memory.busy.discard(name)
            self._memory.begun.pop(name, None)

    def _order(self, action: StartReplica, deployment: Deployment) -> ReplicaOrder:
        revision = deployment.revision
        pool = next(pool for pool in self._terms.pools() if pool.name == action.pool)
        shape = revision.shape_on(pool.accelerator)
        assert shape is not None, "plan starts nothing where it cannot run"
        return ReplicaOrder(
            name=self._name_for(action),
            deployment=action.deployment,
            revision=action.revision,
            pool=action.pool,
            served_name=revision.base_model.served_name,
            engine=engine_to_run(revision.engine, self._terms.engine_override),
            accelerators=shape.accelerators,
            # The kernel shares CPUs out by itself; everything else is held device by device.
            pool_devices=() if pool.accelerator == _CPU else devices_of(pool, action.nodes),
            nodes=action.nodes,
            host_memory_bytes=shape.host_memory_bytes,
            restarts=action.restarts,
            failures=action.failures,
        )

    def _record_of(self, order: ReplicaOrder) -> ReplicaRecord:
        return ReplicaRecord(
            name=order.name,
            deployment=order.deployment,
            revision=order.revision,
            pool=order.pool,
            served_name=order.served_name,
            accelerators=order.accelerators,
            nodes=order.nodes,
            host_memory_bytes=order.host_memory_bytes,
            restarts=order.restarts,
            failures=order.failures,
            started_at=self._clock.now().isoformat(timespec="milliseconds"),
            message="being started",
        )

    async def _start(
        self, order: ReplicaOrder, action: StartReplica, deployment: Deployment
    ) -> None:
        """Start the replica, or record why it cannot be; beside the loop, for it may take long."""
        if action.replaces is not None:
            await self._runtime.forget(action.replaces)
        try:
            check_spans(order, spreads=self._terms.spreads)
            ready = await self._with_models(order, deployment)
            turn = self._node_turns.setdefault(
                order.nodes[0] if order.nodes else "", asyncio.Lock()
            )
            async with turn, self._starts:
                began = self._clock.monotonic()
                record = await self._runtime.start(ready)
        except (SkerryError, OSError) as error:
            if isinstance(error, Conflict):
                raise
            if isinstance(error, (Unavailable, OSError)):
                # A full disk or a node that takes nothing is the plane's trouble and says nothing
                # of the revision: it is not one failure more in a row.
                order = replace(order, failures=max(0, order.failures - 1))
            await self._refuse(order, str(error))
            return
        self._memory.seen_alive.add(record.name)
        self._memory.starting(record.name, began)
        nodes = ",".join(record.nodes)
        _log.info("replica.started", replica=record.name, pid=record.pid, nodes=nodes)

    async def _refuse(self, order: ReplicaOrder, reason: str) -> None:
        now = self._clock.monotonic()
        self._memory.seen_alive.add(order.name)
        self._memory.failed(order.deployment, order.revision, order.name, now)
        await self._runtime.refuse(order, reason)
        _log.warning("replica.refused", replica=order.name, reason=reason)

    async def _with_models(self, order: ReplicaOrder, deployment: Deployment) -> ReplicaOrder:
        """Return the order with the files of its base models, which stay while it runs."""
        if order.engine.name is EngineName.SIMULATED:
            return order
        revision = deployment.revision
        if self._terms.models is not None:
            held = model_uris(revision, self._terms.engine_override)
            await self._terms.models.hold(order.name, held)
        engine = order.engine
        path = self._model_path(revision.base_model.uri)
        if engine.name is EngineName.LLAMACPP and path and not path.endswith(GGUF):
            raise Infeasible(
                f"base model {revision.base_model.uri} is no GGUF file, and llamacpp reads nothing"
                " else: name one"
            )
        refuse_other_weights(engine, self._weights(revision.base_model.uri))
        return replace(order, model_path=path, engine=self._with_files(engine))

    def _with_files(self, engine: EngineSpec) -> EngineSpec:
        """Return the engine with draft model and adapters where they lie here."""
        speculative, lora = engine.speculative, engine.lora
        if speculative is not None and speculative.draft_model_uri:
            draft = self._model_path(speculative.draft_model_uri)
            engine = replace(engine, speculative=replace(speculative, draft_model_uri=draft))
        if lora is not None:
            adapters = tuple(
                replace(one, uri=f"file://{self._model_path(one.uri)}") for one in lora.adapters
            )
            engine = replace(engine, lora=replace(lora, adapters=adapters))
        return engine

    def _weights(self, uri: str) -> str | None:
        """Return what the base model says of its weights, as it was read beside the loop."""
        if self._terms.models is not None and is_remote(uri):
            return self._terms.models.weights(uri)
        checks = self._terms.local_checks
        return checks.weights(uri) if checks else None

    def _model_path(self, uri: str) -> str:
        if self._terms.models is not None and is_remote(uri):
            return str(self._terms.models.path(uri))
        checks = self._terms.local_checks
        path = checks.path(uri) if checks else resolve(uri, self._terms.model_dirs).path
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
