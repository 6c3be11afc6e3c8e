"""The global loop's I/O: hears what planes counted, has a round decided, stores it.

`reconcile.loop` asks it once a turn; what it answers is what the turn goes by.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Protocol

from control_plane import instruments
from control_plane.autoscale.rounds import Basis, Outcome, Rounds
from control_plane.autoscale.shares import Loads, Scene
from control_plane.autoscale.targets import scaled_envelopes
from control_plane.reconcile.pace import aside
from control_plane.reconcile.plan import measured_costs
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.snapshot import Snapshot
from control_plane.store.cold_starts import list_cold_starts
from control_plane.store.engine import Database
from control_plane.store.fencing import WriteContext
from control_plane.store.scalings import ScalingStep, in_batches, put_scalings
from scheduler.plan import PlacementPlan
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.cold_start import ColdStarts
from skerry.fleet.observation import PlaneCondition
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import SkerryError, StaleGeneration

_log = logs.get_logger(__name__)

# They are thousands of rows and move slowly.
COLD_STARTS_SECONDS = 300.0


class LiveLoads(Protocol):
    """What planes counted; control_plane.link.registry.Registry is the real one."""

    def new_loads(self) -> Loads:
        """Return what planes counted since this was asked last, the newest of each."""

    def loads(self) -> Loads:
        """Return what every plane counted last, of those that told it lately."""


class Autoscaler:
    """What the global loop remembers, and when it decides again."""

    def __init__(
        self,
        database: Database,
        loads: LiveLoads,
        clock: Clock,
        write: Callable[[], WriteContext],
    ) -> None:
        """Begin with nothing heard; the first turn decides, which then holds all as it is."""
        self._database = database
        self._loads = loads
        self._clock = clock
        self._write = write
        self._rounds = Rounds()
        self._due_at: float | None = None
        self._starts: ColdStarts = {}
        self._starts_at: float | None = None
        self._ended_at: float | None = None

    @property
    def ended_at(self) -> float | None:
        """Return when the last round of this term ended with all that it decided stored.

        By the monotonic clock; None: none has.
        """
        return self._ended_at

    def forget(self) -> None:
        """Begin anew with another term: loads of before a gap lower nothing."""
        self._rounds.forget()
        self._loads.new_loads()
        self._due_at = self._ended_at = None

    async def turn(
        self,
        snapshot: Snapshot,
        conditions: Mapping[str, PlaneCondition],
        plan: PlacementPlan | None,
    ) -> Snapshot:
        """Return the snapshot with what the global loop has decided by now, which is stored.

        StaleGeneration when another leader has taken over. What cannot be stored is decided again.
        """
        # Heard in a thread where planes are many: to decode what they told takes half a second.
        await aside(snapshot, self._rounds.hear, snapshot.demands, self._loads.new_loads())
        now = self._clock.monotonic()
        if plan is None or (self._due_at is not None and now < self._due_at):
            return snapshot
        self._due_at = now + snapshot.policy.scaling_period_seconds
        if not any(demand.deployment.scaling.scales for demand in snapshot.demands):
            self._ended_at = now  # nothing was to be decided
            return snapshot
        await self._read_starts(now)
        loads = self._loads.loads()
        outcomes = await aside(snapshot, self._decided, now, snapshot, conditions, plan, loads)
        for name, error in self._rounds.failed.items():
            _log.warning("scaling.held", deployment=name, error=error)
        if any(one.before is None or one.scaled.demand != one.before.demand for one in outcomes):
            self._due_at = now  # there will be other envelopes at once: targets for them, too
        return await self._stored(snapshot, outcomes)

    def _decided(
        self,
        now: float,
        snapshot: Snapshot,
        conditions: Mapping[str, PlaneCondition],
        plan: PlacementPlan,
        loads: Loads,
    ) -> tuple[Outcome, ...]:
        """Return a round's outcomes; of many planes in a thread, with all that it rests on."""
        scene = Scene(
            snapshot=snapshot,
            conditions=conditions,
            envelopes=scaled_envelopes(plan.envelopes, snapshot),
            loads=loads,
            measured=measured_costs(snapshot),
        )
        basis = Basis(
            scene=scene,
            starts=self._starts,
            placed=plan.placements,
            problem=lambda: placement_problem(snapshot, conditions),
        )
        return self._rounds.decide(now, basis)

    async def _read_starts(self, now: float) -> None:
        if self._starts_at is None or now - self._starts_at >= COLD_STARTS_SECONDS:
            self._starts = await self._database.run_read(list_cold_starts)
            self._starts_at = now

    async def _stored(self, snapshot: Snapshot, outcomes: Sequence[Outcome]) -> Snapshot:
        """Store what was decided, and return the snapshot with as much as was stored."""
        held = {one.deployment: one for one in snapshot.scalings}
        _count(held | {one.scaled.deployment: one.scaled for one in outcomes})
        # One deployment that cannot be decided is its own fault; where none can, it is the loop's.
        is_whole = bool(outcomes) or not self._rounds.failed
        steps = [_step(one, held.get(one.scaled.deployment)) for one in outcomes]
        steps = [one for one in steps if one.scaled != one.before or one.record is not None]
        for batch in in_batches(steps):
            try:
                await self._database.run(put_scalings, self._write(), batch)
            except StaleGeneration:
                raise
            except SkerryError as error:
                _log.warning("scaling.not-stored", error=str(error))
                is_whole = False
                continue
            held |= {step.scaled.deployment: step.scaled for step in batch}
            _tell(batch)
        if is_whole:
            self._ended_at = self._clock.monotonic()
        return replace(snapshot, scalings=tuple(held[name] for name in sorted(held)))


def _step(outcome: Outcome, before: Scaled | None) -> ScalingStep:
    """Return what is to be stored of an outcome: figures alone are in its record, and no move."""
    scaled = outcome.scaled
    if before is not None and not scaled.is_moved_from(before):
        scaled = before
    return ScalingStep(scaled=scaled, before=before, record=outcome.record)


def _tell(batch: Sequence[ScalingStep]) -> None:
    for step in batch:
        if step.record is not None:
            instruments.SCALING_DECISIONS.labels(step.record.because).inc()
            if step.scaled != step.before:
                name, told = step.scaled.deployment, step.record.sentence
                _log.info("scaling.moved", deployment=name, told=told)


def _count(newest: Mapping[str, Scaled]) -> None:
    prices = (one.unmet_dollars_per_hour or 0.0 for one in newest.values())
    instruments.SCALING_UNMET.set(sum(one.unmet for one in newest.values()))
    instruments.SCALING_UNMET_COST.set(math.fsum(prices))
