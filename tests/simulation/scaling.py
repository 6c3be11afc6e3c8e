"""A plane's own loop of autoscaling in the simulated world: the product's, asked and heard here.

What is here and not the product's is I/O: when it turns, what its picker and its replicas' hosts
answer. Its memory ends with the agent, as the product's does.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, cast

from skerry.fleet.autoscaling.load import GAP_SECONDS_MAX
from skerry.fleet.autoscaling.told import LoadReport
from skerry.fleet.desired import DesiredState
from skerry.fleet.observation import ReplicaState, Unknown
from tests.simulation.timeline import Process, SimClock, Timeline
from tests.simulation.users import SLOTS, Gateway
from workload_plane.autoscale.loop import (
    CHANGED_SECONDS_MIN,
    AutoscaleLoop,
    AutoscaleParts,
    HostSource,
    PickerSource,
)
from workload_plane.autoscale_settings import PERIOD_SECONDS
from workload_plane.converge.seen import SeenPool, SeenReplica
from workload_plane.picker.counts import Counters
from workload_plane.replica_host.load import EngineLoad
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import ReplicaRecord

Wanted = Mapping[tuple[str, str], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalerParts:
    """What the loop of a plane looks at."""

    state: Callable[[], DesiredState | Unknown]
    replicas: Callable[[], Sequence[SeenReplica]]
    pools: Callable[[], Sequence[SeenPool]]
    is_heard: Callable[[], bool]
    moved: Callable[[], None]  # another number is wanted
    tell: Callable[[LoadReport], None]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of the loop: what was wanted before and is now, by which state, and who was heard.

    `running` is what starts or serves, by deployment and pool, as the turn found it.
    """

    state: DesiredState
    before: Wanted
    after: Wanted
    running: Wanted
    is_heard: bool


@dataclass(slots=True)
class SimScaler:
    """The loop of one plane, and what those that it asks answer."""

    process: Process
    clock: SimClock
    gateway: Gateway
    parts: ScalerParts
    silent_hosts: set[str] = field(default_factory=set)  # replicas that do not answer
    are_hosts_silent: bool = False
    on_turn: list[Callable[[Turn], None]] = field(default_factory=list)
    answered_at: float | None = None  # by the picker and all hosts
    counted_at: float | None = None  # by the picker alone
    counted_since: float | None = None  # without a gap
    run: int = 0
    _loop: AutoscaleLoop | None = None
    _due_at: float | None = None
    _turned_at: float = 0.0

    @property
    def wanted(self) -> Wanted:
        """Return what the loop wants by deployment and pool."""
        return self._loop.wanted if self._loop is not None else {}

    @property
    def _timeline(self) -> Timeline:
        return self.process.timeline

    def boot(self) -> None:
        """Begin with nothing remembered."""
        parts = AutoscaleParts(
            desired=self.parts.state,
            replicas=self._live,
            pools=self.parts.pools,
            is_heard=self.parts.is_heard,
            picker=cast(PickerSource, self),
            hosts=cast(HostSource, self),
            clock=self.clock,
        )
        self._loop = AutoscaleLoop(parts, asyncio.Event(), asyncio.Event())
        cast(Any, self._loop)._ask = self._ask  # both at once takes an event loop
        self.answered_at = self.counted_at = self.counted_since = self._due_at = None
        self._turn_in(0.1)

    def changed(self) -> None:
        """Turn early: another state is in force."""
        since = self._timeline.now - self._turned_at
        self._turn_in(max(0.05, CHANGED_SECONDS_MIN - since))

    def _turn_in(self, seconds: float) -> None:
        due = self._timeline.now + seconds
        if self._due_at is not None and self._due_at <= due:
            return
        self._due_at = due

        def turn() -> None:
            if self._due_at == due:
                self._due_at = None
                self._turn()

        self.process.after(seconds, turn)

    def _turn(self) -> None:
        loop, state = self._loop, self.parts.state()
        assert loop is not None
        self._turned_at = self._timeline.now
        before, report = loop.wanted, loop.report
        running = self._running()
        is_heard = self.parts.is_heard()
        self.process.spawn(loop.turn(), _raise)
        if not isinstance(state, Unknown):
            turn = Turn(state, before, loop.wanted, running, is_heard)
            for told in self.on_turn:
                told(turn)
        if loop.wanted != before:
            self.parts.moved()
        if loop.report is not report and loop.report.loads:
            self.parts.tell(loop.report)
        self._turn_in(PERIOD_SECONDS)

    def _running(self) -> dict[tuple[str, str], int]:
        found: dict[tuple[str, str], int] = {}
        for one in self.parts.replicas():
            if one.state in (ReplicaState.STARTING, ReplicaState.READY):
                found[one.deployment, one.pool] = found.get((one.deployment, one.pool), 0) + 1
        return found

    def _live(self) -> Sequence[LiveReplica]:
        return [LiveReplica(record=_record(one), alive=one.alive) for one in self.parts.replicas()]

    async def _ask(
        self, records: Sequence[ReplicaRecord]
    ) -> tuple[Counters | None, Mapping[str, EngineLoad | None]]:
        """Answer for the picker and for the hosts of replicas, as far as they do."""
        counters = self.gateway.counters()
        silent = self.silent_hosts
        loads = {
            one.name: None
            if self.are_hosts_silent or one.name in silent
            else EngineLoad(running_requests=SLOTS, queued_requests=0)
            for one in records
        }
        if counters is not None:
            now = self._timeline.now
            # What the same picker counted in a shorter silence is known once it is over.
            gap = self.counted_at is None or now - self.counted_at > GAP_SECONDS_MAX
            if gap or self.run != counters.run:
                self.counted_since = now
            self.counted_at, self.run = now, counters.run
            if all(loads.values()):
                self.answered_at = now
        return counters, loads


def _raise(error: BaseException | None) -> None:
    if error is not None:
        raise error


def _record(one: SeenReplica) -> ReplicaRecord:
    return ReplicaRecord(
        name=one.name,
        deployment=one.deployment,
        revision=one.revision,
        pool=one.pool,
        state=one.state if one.alive else ReplicaState.FAILED,
        nodes=one.nodes,
    )
