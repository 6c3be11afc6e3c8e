"""The loop: ask what came in, decide, and have the plane converge to it; it needs no link.

Every few seconds, and when the desired state changes. What it decided stays until it decides
again: where nobody can say what came in, nothing is taken away.
"""

import asyncio
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from skerry.fleet.autoscaling.told import LOADS_MAX, DeploymentLoad, LoadReport, told
from skerry.fleet.autoscaling.work import Engine, engine_of
from skerry.fleet.coefficients import Coefficients
from skerry.fleet.desired import Assignment, DesiredState
from skerry.fleet.engine import EngineName
from skerry.fleet.observation import ReplicaState, Unknown
from skerry.fleet.profile import configuration_digest
from skerry.fleet.token_budget import KeySpent
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.tasks import first_of
from workload_plane.autoscale import instruments
from workload_plane.autoscale.history import DecisionHistory
from workload_plane.autoscale.learning import EngineKind, Learners
from workload_plane.autoscale.scaler import DeploymentScaler, Moment, mean_engine
from workload_plane.autoscale.signals import Asked, DeploymentSignals, Goal, Readings
from workload_plane.autoscale_settings import PERIOD_SECONDS
from workload_plane.converge.seen import SeenPool
from workload_plane.gateway.abilities import serves_trtllm
from workload_plane.picker.counts import Counters
from workload_plane.replica_host.load import EngineLoad
from workload_plane.replicas.port import LiveReplica
from workload_plane.replicas.records import ReplicaRecord

_log = logs.get_logger(__name__)

CHANGED_SECONDS_MIN = 0.5  # a storm of changes costs two rounds a second

Wanted = Mapping[tuple[str, str], int]  # replicas by deployment and pool


class PickerSource(Protocol):
    """Whoever knows what came in."""

    async def ask(self) -> Counters | None:
        """Return what was counted, None without an answer."""
        ...


class HostSource(Protocol):
    """Whoever knows what replicas do."""

    async def ask(self, records: Sequence[ReplicaRecord]) -> Mapping[str, EngineLoad | None]:
        """Return each replica's load by name, None of one that did not answer."""
        ...


@dataclass(frozen=True, slots=True, kw_only=True)
class AutoscaleParts:
    """All that the loop works with; `picker` None: the gateway balances by itself."""

    desired: Callable[[], DesiredState | Unknown]
    replicas: Callable[[], Sequence[LiveReplica] | None]
    pools: Callable[[], Sequence[SeenPool]]
    is_heard: Callable[[], bool]
    picker: PickerSource | None
    hosts: HostSource
    clock: Clock
    period_seconds: float = PERIOD_SECONDS
    engine_override: EngineName | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class _Seen:
    """A deployment's replicas here, what those that serve told, and what pools are made of."""

    replicas: Sequence[ReplicaRecord]
    loads: Mapping[str, EngineLoad | None]
    accelerators: Mapping[str, str]

    def kinds(self, one: Assignment) -> list[str]:
        """Return the kinds of accelerator that the deployment has envelopes on."""
        found = {self.accelerators.get(envelope.pool, "") for envelope in one.envelopes}
        return sorted(found - {""})

    def on(self, accelerator: str) -> list[ReplicaRecord]:
        """Return the replicas on a kind of accelerator."""
        return [one for one in self.replicas if self.accelerators.get(one.pool) == accelerator]


@dataclass(slots=True)
class _Scaled:
    """One deployment of the loop: what it counts, and what decides, where there are envelopes."""

    signals: DeploymentSignals
    scaler: DeploymentScaler | None = None
    told: int | None = None


class AutoscaleLoop:
    """Decides how many replicas of each deployment the plane is to run."""

    def __init__(self, parts: AutoscaleParts, wake: asyncio.Event, changed: asyncio.Event) -> None:
        """Set `wake` when another number is wanted; decide early once `changed` is set."""
        self._parts = parts
        self._wake = wake
        self._changed = changed
        self._scaled: dict[str, _Scaled] = {}
        self._learners = Learners()
        self.wanted: Wanted = {}  # what is not in it is not decided yet
        self.report = LoadReport()
        self.history = DecisionHistory()

    async def run(self) -> None:
        """Decide for ever; a failed turn is logged, and what was decided stays."""
        clock = self._parts.clock
        while True:
            try:
                await self.turn()
            except Exception:
                _log.exception("scaling.failed")
            await clock.sleep(CHANGED_SECONDS_MIN)
            left = max(0.0, self._parts.period_seconds - CHANGED_SECONDS_MIN)
            await first_of(clock.sleep(left), self._changed.wait())
            self._changed.clear()

    async def turn(self) -> None:
        """Ask, decide and tell once."""
        parts = self._parts
        desired, live = parts.desired(), parts.replicas()
        if isinstance(desired, Unknown) or live is None:
            return
        counted = [one for one in desired.assignments if _is_counted(one) or _is_watched(one)]
        self._forget_others({one.deployment.name for one in counted})
        if not counted:
            self.wanted, self.report = {}, LoadReport(spent=await self._spent(desired))
            return
        there: dict[str, list[ReplicaRecord]] = {one.deployment.name: [] for one in counted}
        asked: list[ReplicaRecord] = []
        for replica in live:
            if replica.record.deployment not in there:
                continue
            # Of one whose record can't be read the number counts all the same; nobody asks it.
            there[replica.record.deployment].append(replica.record)
            if replica.known and replica.record.state is ReplicaState.READY:
                asked.append(replica.record)
        counters, loads = await self._ask(asked)
        moment = Moment(
            now=parts.clock.monotonic(), when=parts.clock.now(), is_heard=parts.is_heard()
        )
        wanted: dict[tuple[str, str], int] = {}
        reported: list[DeploymentLoad] = []
        accelerators = {pool.name: pool.accelerator for pool in parts.pools()}
        for one in counted:
            name = one.deployment.name
            found = {one.name: loads[one.name] for one in there[name] if one.name in loads}
            seen = _Seen(replicas=there[name], loads=found, accelerators=accelerators)
            try:
                shared, told_load = self._scale(one, counters, seen, moment)
            except Exception:
                # What one deployment's numbers trip over must not keep the others from scaling.
                _log.exception("scaling.failed", deployment=name)
                wanted |= {key: count for key, count in self.wanted.items() if key[0] == name}
                continue
            wanted |= shared
            if told_load is not None:
                reported.append(told_load)
        self._learners.keep(
            {
                _kind(one, accelerator, parts.engine_override)
                for one in counted
                for accelerator in set(accelerators.values())
            }
        )
        if wanted != self.wanted:
            self._wake.set()
        # What scales goes first: where there are too many, the others are not told.
        reported.sort(key=lambda one: one.decision is None and one.reading is None)
        for load in reported[:LOADS_MAX]:
            if load.decision is not None:
                self.history.note(load.deployment, load.decision, moment.now)
        self.wanted, self.report = (
            wanted,
            LoadReport(
                loads=tuple(reported[:LOADS_MAX]), spent=() if counters is None else counters.spent
            ),
        )

    def describe(self) -> dict[str, object]:
        """Return the last decisions, for the agent's status file."""
        return {
            load.deployment: {"target": load.decision.target, "decision": load.decision.sentence}
            for load in self.report.loads
            if load.decision is not None
        }

    async def _spent(self, desired: DesiredState) -> tuple[KeySpent, ...]:
        """Return what API keys used where nothing scales: all that the picker is asked for."""
        picker = self._parts.picker
        if picker is None or not any(key.terms.counts_tokens for key in desired.api_keys or ()):
            return ()
        counters = await picker.ask()
        return () if counters is None else counters.spent

    async def _ask(
        self, records: Sequence[ReplicaRecord]
    ) -> tuple[Counters | None, Mapping[str, EngineLoad | None]]:
        picker = self._parts.picker
        if picker is None:
            return None, await self._parts.hosts.ask(records)
        counters, loads = await asyncio.gather(picker.ask(), self._parts.hosts.ask(records))
        return counters, loads

    def _scale(
        self, one: Assignment, counters: Counters | None, seen: _Seen, moment: Moment
    ) -> tuple[Mapping[tuple[str, str], int], DeploymentLoad | None]:
        """Return how many replicas of one deployment each pool is to run, and what is told."""
        readings = self._look(one, counters, seen, moment.now)
        if not _is_counted(one):
            self._forget_decision(one.deployment.name)
            recent = self._scaled[one.deployment.name].signals.recent(moment.now)
            name = one.deployment.name
            told_load = DeploymentLoad(deployment=name, answers=recent)
            return {}, told_load if recent is not None else None
        costs = self._costs(one, seen)
        shared: Mapping[tuple[str, str], int] = {}
        if one.scaling is not None and one.envelopes:
            if serves_trtllm(one.deployment.revision, self._engine_name(one)):
                costs = {}  # the gateway asks nobody about its requests: what is in flight counts
            shared = self._decide(one, seen, costs, moment)
        else:
            self._forget_decision(one.deployment.name)
        return shared, self._told(one, readings, costs, moment)

    def _engine_name(self, one: Assignment) -> EngineName:
        return self._parts.engine_override or one.deployment.revision.engine.name

    def _look(
        self, one: Assignment, counters: Counters | None, seen: _Seen, now: float
    ) -> Readings | None:
        """Return what came in since the last look, and let the scaler know."""
        name = one.deployment.name
        scaled = self._scaled.setdefault(name, _Scaled(signals=DeploymentSignals()))
        objective = one.deployment.revision.objective
        goal = Goal(ttft_seconds=objective.ttft_seconds, tpot_seconds=objective.tpot_seconds)
        if self._parts.picker is None:
            readings, run = scaled.signals.take_engines(now, seen.loads, goal), 0
        else:
            counted = counters.deployments.get(name) if counters is not None else None
            run = counters.run if counters is not None else 0
            asked = Asked(run=run, counters=counted) if counted is not None else None
            readings = scaled.signals.take(now, asked, seen.loads, goal)
        if scaled.scaler is None and one.scaling is not None and one.envelopes:
            scaled.scaler = DeploymentScaler(one)
        if readings is not None:
            instruments.show_readings(name, readings)
            if scaled.scaler is not None:
                scaled.scaler.observe(readings.local, run, whole=readings.whole)
        return readings

    def _costs(self, one: Assignment, seen: _Seen) -> dict[str, Coefficients | None]:
        """Return what tokens cost on each kind of accelerator here, with what was just seen."""
        name, revision = one.deployment.name, one.deployment.revision
        growth = self._scaled[name].signals.growth
        costs: dict[str, Coefficients | None] = {}
        for accelerator in seen.kinds(one):
            learner = self._learners.of(_kind(one, accelerator, self._parts.engine_override))
            for record in seen.on(accelerator):
                if record.revision == revision.number and record.name in growth:
                    learner.learn(growth[record.name])
            prior = _prior(one, accelerator, self._parts.engine_override)
            costs[accelerator] = learner.current(prior)
            instruments.show_costs(name, accelerator, costs[accelerator])
        return costs

    def _decide(
        self,
        one: Assignment,
        seen: _Seen,
        costs: Mapping[str, Coefficients | None],
        moment: Moment,
    ) -> dict[tuple[str, str], int]:
        name = one.deployment.name
        scaled = self._scaled[name]
        scaler = scaled.scaler
        assert scaler is not None, "`_look` has made it"
        shared = scaler.decide(one, seen.replicas, _engine(one, seen, costs), moment)
        decision, before = scaler.decision, scaled.told
        assert decision is not None, "it was just made"
        instruments.show_decision(name, decision, before)
        if before is not None and decision.target != before:
            _log.info(
                "scaling.decided",
                deployment=name,
                before=before,
                target=decision.target,
                because=decision.because.value,
                told=decision.describe(),
            )
        scaled.told = decision.target
        return {(name, pool): count for pool, count in shared.items()}

    def _forget_decision(self, name: str) -> None:
        """Have no decision of what nothing is decided of here: it would be told as made now."""
        scaled = self._scaled[name]
        if scaled.scaler is not None:
            scaled.scaler = scaled.told = None
            instruments.forget_decisions({name})

    def _told(
        self,
        one: Assignment,
        readings: Readings | None,
        costs: Mapping[str, Coefficients | None],
        moment: Moment,
    ) -> DeploymentLoad:
        scaler = self._scaled[one.deployment.name].scaler
        decision = scaler.decision if scaler is not None else None
        return DeploymentLoad(
            deployment=one.deployment.name,
            reading=readings.fleet if readings is not None else None,
            decision=told(decision, moment.when) if decision is not None else None,
            coefficients=tuple(
                cost
                for accelerator, cost in sorted(costs.items())
                if cost is not None and self._is_own(one, accelerator)
            ),
            answers=self._scaled[one.deployment.name].signals.recent(moment.now),
        )

    def _is_own(self, one: Assignment, accelerator: str) -> bool:
        """Say whether what a kind costs was measured here, rather than by a profile."""
        override = self._parts.engine_override
        learner = self._learners.of(_kind(one, accelerator, override))
        return learner.outweighs_profile or _prior(one, accelerator, override) is None

    def _forget_others(self, names: set[str]) -> None:
        self.history.keep(names)
        gone = self._scaled.keys() - names
        if gone:
            instruments.forget(gone)
        for name in gone:
            del self._scaled[name]


def _is_counted(one: Assignment) -> bool:
    """Say whether the plane counts what is asked of a deployment, also where it runs none."""
    if one.tombstone:
        return False
    return one.scaling is not None or (not one.envelopes and one.deployment.scaling.scales)


def _is_watched(one: Assignment) -> bool:
    """Say whether how its answers went is told although nothing of it scales."""
    return not one.tombstone and bool(one.envelopes)


def _kind(one: Assignment, accelerator: str, override: EngineName | None) -> EngineKind:
    revision = one.deployment.revision
    shape = revision.shape_on(accelerator)
    return EngineKind(
        base_model=revision.base_model.uri,
        engine=(override or revision.engine.name).value,
        configuration=configuration_digest(revision.engine),
        accelerator=accelerator,
        accelerators=shape.accelerators if shape is not None else 0,
    )


def _engine(
    one: Assignment, seen: _Seen, costs: Mapping[str, Coefficients | None]
) -> Engine | None:
    """Return what stands for the replicas here, None where the cost of some is not known."""
    revision = one.deployment.revision
    slots, tpot = revision.engine.concurrent_requests, revision.objective.tpot_seconds
    running = (ReplicaState.READY, ReplicaState.STARTING)
    return mean_engine(
        {
            accelerator: (
                engine_of(cost, slots, tpot) if cost is not None else None,
                sum(record.state in running for record in seen.on(accelerator)),
            )
            for accelerator, cost in costs.items()
        }
    )


def _prior(one: Assignment, accelerator: str, override: EngineName | None) -> Coefficients | None:
    """Return what the profile says; another engine in its stead has none."""
    if override not in (None, one.deployment.revision.engine.name):
        return None
    return next((known for known in one.coefficients if known.accelerator == accelerator), None)
