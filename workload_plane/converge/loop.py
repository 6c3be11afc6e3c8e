"""The convergence loop: wake, look, plan, apply, and again; it needs no link and never ends.

Wakes when the desired state changes, a process of a replica ends, an action ends, and each second.
"""

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Protocol

from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import DesiredState
from skerry.fleet.engine import EngineName
from skerry.fleet.observation import ReplicaState, Unknown
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.tasks import first_of
from workload_plane.converge.actions import Action, StartReplica
from workload_plane.converge.apply import Applier
from workload_plane.converge.demand import Demand
from workload_plane.converge.discover import GatewayView, Look, Memory, ReplicaProbe, look
from workload_plane.converge.plan import Wait, decide
from workload_plane.converge.seen import SeenPool
from workload_plane.models.cache import ModelCache
from workload_plane.models.local_checks import LocalChecks
from workload_plane.models.wanted import (
    local_uris,
    model_uris,
    wanted_locally,
    wanted_models,
)
from workload_plane.replicas.port import LiveReplica, ReplicaRuntime
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

TICK_SECONDS = 1.0  # what no event tells (a hang, a drain's end) is noticed within it
STARTING_TICK_SECONDS = 0.2  # while a replica comes up: nothing tells that either
TURN_SECONDS_MIN = 0.05  # a storm of events costs at most twenty looks a second


class DesiredSource(Protocol):
    """Where the desired state in force is read."""

    @property
    def state(self) -> DesiredState | Unknown:
        """Return what is desired, UNKNOWN when nothing is known."""
        ...


class GatewaySource(Protocol):
    """Where the gateway's last word is read."""

    @property
    def view(self) -> GatewayView:
        """Return what the gateway last said."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class LoopParts:
    """All that the loop works with; the composition root fills it."""

    runtime: ReplicaRuntime
    probe: ReplicaProbe
    desired: DesiredSource
    gateway: GatewaySource
    applier: Applier
    memory: Memory
    pools: Callable[[], tuple[SeenPool, ...]]
    clock: Clock
    models: ModelCache | None = None
    local_checks: LocalChecks | None = None
    demand: Callable[[], Demand] = dict
    wanted: Callable[[], Mapping[tuple[str, str], int] | None] = lambda: None
    engine_override: EngineName | None = None


class ConvergeLoop:
    """Brings the plane to its desired state and keeps it there."""

    def __init__(self, parts: LoopParts, wake: asyncio.Event, changed: asyncio.Event) -> None:
        """Turn on `wake`; set `changed` whenever what was seen differs from the look before."""
        self._parts = parts
        self._wake = wake
        self._changed = changed
        self._watches: dict[tuple[str, int, int], asyncio.Task[None]] = {}
        self.replicas: tuple[LiveReplica, ...] = ()
        self.looked = False
        self.waits: tuple[Wait, ...] = ()
        self.awaiting: tuple[ReplicaRecord, ...] = ()

    async def run(self) -> None:
        """Converge for ever; a failed turn is logged and the next one looks anew."""
        # Those of a run before ended with it, perhaps before they had begun.
        self._watches.clear()
        self._parts.memory.nothing_is_under_way()
        async with asyncio.TaskGroup() as tasks:
            while True:
                again = False
                try:
                    again = await self._turn(tasks)
                except Exception:
                    # Whatever this turn met, the next one starts from the whole truth again, and
                    # nothing that runs may end because its keeper stumbled.
                    _log.exception("converge.failed")
                await self._parts.clock.sleep(TURN_SECONDS_MIN)
                if not again:
                    await first_of(self._parts.clock.sleep(self._pause()), self._wake.wait())
                self._wake.clear()

    async def _turn(self, tasks: asyncio.TaskGroup) -> bool:
        """Look, plan and apply once; return whether there is reason to look again at once."""
        parts = self._parts
        seen = await look(
            parts.runtime, parts.probe, parts.gateway.view, parts.memory, parts.pools(), parts.clock
        )
        self._show(seen)
        self._watch(seen, tasks)
        desired = parts.desired.state
        if not isinstance(desired, Unknown):
            named = {assignment.deployment.name for assignment in desired.assignments}
            parts.memory.forget_others(named | {one.record.deployment for one in seen.live})
        observed = replace(seen.observed, demand=parts.demand(), wanted=parts.wanted())
        if not isinstance(desired, Unknown):
            waits = self._checking(desired) | self._await_models(desired, seen)
            observed = replace(observed, model_waits=waits)
        decision = decide(desired, observed, seen.at_seconds)
        self._tell_waits(decision.waits)
        self._show_awaiting((*parts.applier.awaiting(decision.waits), *seen.begun))
        actions = decision.actions
        if isinstance(desired, Unknown) or not actions:
            return False
        records = {one.record.name: one.record for one in seen.live}
        done = [
            await parts.applier.apply(action, records, _deployments(desired, action), tasks)
            for action in actions
        ]
        return all(done)

    def _show(self, seen: Look) -> None:
        if seen.live != self.replicas or not self.looked:
            self._changed.set()
        self.replicas = seen.live
        self.looked = True

    def _await_models(self, desired: DesiredState, seen: Look) -> dict[tuple[str, int], str]:
        """Say which base models are wanted; return which revisions wait for theirs, and why."""
        models, override = self._parts.models, self._parts.engine_override
        if models is None:
            return {}
        models.want(wanted_models(desired, override))
        # Of one whose record can't be read nobody knows whether it lives: it keeps its own.
        living = {one.record.name for one in seen.live if one.alive or not one.known}
        models.keep_for(frozenset(living | {record.name for record in seen.begun}))
        revisions = [
            (one.deployment.name, revision)
            for one in desired.assignments
            for revision in one.revisions
        ]
        waits = {
            (name, revision.number): models.waits(model_uris(revision, override))
            for name, revision in revisions
        }
        return {key: reason for key, reason in waits.items() if reason}

    def _checking(self, desired: DesiredState) -> dict[tuple[str, int], str]:
        """Have what lies here already looked into; return which revisions wait for that."""
        checks, override = self._parts.local_checks, self._parts.engine_override
        if checks is None:
            return {}
        checks.want(wanted_locally(desired, override))
        waits = {
            (one.deployment.name, revision.number): checks.waits(local_uris(revision, override))
            for one in desired.assignments
            for revision in one.revisions
        }
        return {key: reason for key, reason in waits.items() if reason}

    def _show_awaiting(self, awaiting: tuple[ReplicaRecord, ...]) -> None:
        if awaiting != self.awaiting:
            self._changed.set()
        self.awaiting = awaiting

    def _tell_waits(self, waits: tuple[Wait, ...]) -> None:
        """Log what waits, each once for as long as it does."""
        for wait in waits:
            if wait in self.waits or wait.replicas:
                continue  # of a base model the cache tells when it begins and ends
            told = {"deployment": wait.deployment, "pool": wait.pool, "reason": wait.reason}
            if wait.draining:
                _log.warning("node.not-emptied", nodes=",".join(wait.draining), **told)
            else:
                _log.info("start.waits", **told)
        self.waits = waits

    def _watch(self, seen: Look, tasks: asyncio.TaskGroup) -> None:
        wanted = {_key(one.record): one.record for one in seen.live if one.alive}
        for key in [key for key in self._watches if key not in wanted]:
            self._watches.pop(key).cancel()
        for key, record in wanted.items():
            if key not in self._watches:
                self._watches[key] = tasks.create_task(self._wait_for_exit(record))

    async def _wait_for_exit(self, record: ReplicaRecord) -> None:
        await self._parts.runtime.wait_for_exit(record)
        self._wake.set()

    def _pause(self) -> float:
        starting = any(
            one.known and one.record.state is ReplicaState.STARTING for one in self.replicas
        )
        return STARTING_TICK_SECONDS if starting else TICK_SECONDS


def _deployments(desired: DesiredState, action: Action) -> dict[str, Deployment]:
    """Return the deployments by name, that of a start at the revision which is to start."""
    found = {one.deployment.name: one.deployment for one in desired.assignments}
    if isinstance(action, StartReplica):
        named = (one for one in desired.assignments if one.deployment.name == action.deployment)
        for revision in (one.revision(action.revision) for one in named):
            if revision is not None:
                found[action.deployment] = replace(found[action.deployment], revision=revision)
    return found


def _key(record: ReplicaRecord) -> tuple[str, int, int]:
    return (record.name, record.pid, record.engine_pid)
