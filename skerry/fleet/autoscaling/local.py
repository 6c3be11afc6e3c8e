"""The local loop: one deployment in one plane, inside its envelope, with nobody to ask. Pure.

The plane's agent calls `observe` with what it counted and `decide` with the time, every few
seconds. What is missing or old holds the number; only what was seen for long enough lowers it.
"""

import math
from dataclasses import dataclass, replace

from skerry.fleet.autoscaling.concurrency import ConcurrencyRule, fallback_target
from skerry.fleet.autoscaling.decision import Because, Bounds, ReplicaCounts, ScalingDecision
from skerry.fleet.autoscaling.factors import ScalingFactors, Strategy
from skerry.fleet.autoscaling.load import STALE_SECONDS, LoadReading, LoadView, LoadWindow
from skerry.fleet.autoscaling.need import Need, NeedMemory
from skerry.fleet.autoscaling.tuning import DEFAULT_TUNING, Tuning
from skerry.fleet.autoscaling.utilization import UtilizationTarget
from skerry.fleet.autoscaling.work import Engine, Work, estimate

COLD_START_SECONDS = 120.0  # until one was measured
TOLERANCE = 1e-9  # of a replica: rounding errors take none


@dataclass(frozen=True, slots=True, kw_only=True)
class _Judged:
    """A wish before the bounds, and why."""

    target: int
    because: Because
    need: Need | None = None
    highest: int | None = None
    concurrency: float | None = None
    fallback: bool = False


class LocalScaler:
    """What one plane remembers of a deployment's load; the same readings decide the same."""

    def __init__(self, factors: ScalingFactors, tuning: Tuning = DEFAULT_TUNING) -> None:
        """Begin with nothing seen: it takes a scale-down delay of readings to go down."""
        self.factors = factors
        self.tuning = tuning
        # How many requests an engine takes at once, 0 for not known: what a replica is for while
        # nobody knows what tokens cost it.
        self.slots = 0.0
        self.utilization = UtilizationTarget(factors.target_utilization, tuning)
        self._window = LoadWindow(factors.window_seconds)
        self._memory = NeedMemory(tuning)
        self._rule = ConcurrencyRule()
        self._since: float | None = None
        self._went_down_at: float | None = None
        self._doubted_at = -math.inf
        # What a queue asked for beyond the fleet's target, and when it last asked for so much.
        self._asked, self._asked_at = 0, 0.0

    def forget_load(self) -> None:
        """Begin to watch anew, as after a gap: nothing goes for a scale-down delay."""
        self._window = LoadWindow(self.factors.window_seconds)

    def observe(self, reading: LoadReading, *, whole: bool = True) -> None:
        """Take what was counted at a moment; by one that is not `whole` this loop lowers nothing.

        Some replicas did not tell what they do then.
        """
        if not whole:
            self._doubted_at = reading.at
        self._window.observe(reading)

    def view(self, now: float) -> LoadView | None:
        """Return what the last readings say; None where they say nothing about now."""
        return self._window.view(now)

    def decide(
        self,
        now: float,
        counts: ReplicaCounts,
        bounds: Bounds,
        engine: Engine | None,
        cold_start_seconds: float = COLD_START_SECONDS,
    ) -> ScalingDecision:
        """Return how many replicas are wanted now, and why."""
        view = self._window.view(now)
        if self.factors.paused:  # schedules included
            bounds = replace(bounds, scheduled=0)
        wish = self._wish(now, view, counts, bounds, (engine, max(0.0, cold_start_seconds)))
        target, because = bounds.hold(wish.target), wish.because
        # Ready replicas that must stay, whatever is said but the ceiling's.
        target = min(max(target, min(counts.ready, bounds.min_available)), bounds.ceiling)
        if target != wish.target:
            because = Because.BOUNDS
        if target < counts.running:
            self._went_down_at = now
        return ScalingDecision(
            at=now,
            target=target,
            because=because,
            counts=counts,
            bounds=bounds,
            need=wish.need,
            highest=wish.highest,
            concurrency=wish.concurrency,
            fallback=wish.fallback,
        )

    def _wish(
        self,
        now: float,
        view: LoadView | None,
        counts: ReplicaCounts,
        bounds: Bounds,
        costs: tuple[Engine | None, float],
    ) -> _Judged:
        """Return what is wanted before the bounds."""
        engine, cold_start = costs
        if self.factors.paused:
            return _Judged(target=counts.running, because=Because.PAUSED)
        if view is None:
            granted = max(counts.running, bounds.target or 0)
            return _Judged(target=granted, because=Because.SIGNAL_MISSING)
        if view.since != self._since:  # the first readings, or those after a gap
            self._since = view.since
            self._memory.forget()
            self._rule.forget()
        if engine is None or self.factors.strategy is Strategy.CONCURRENCY:
            by_choice = self.factors.strategy is Strategy.CONCURRENCY
            return self._by_concurrency(now, view, counts.running, bounds, not by_choice)
        return self._by_work(now, view, counts.running, bounds, (engine, cold_start))

    def _by_concurrency(
        self, now: float, view: LoadView, running: int, bounds: Bounds, fallback: bool
    ) -> _Judged:
        flying, factors = view.in_flight_window, self.factors
        if fallback:
            each = fallback_target(factors.concurrency_target, self.slots)
            factors = replace(factors, concurrency_target=each)
        wanted = self._rule.wanted(flying, now, factors) + factors.warm_spares
        granted = 0 if fallback else bounds.target or 0  # others' requests, who are full
        target = self._rule.next(running, max(wanted, granted), now, factors)
        because = Because.STEADY
        if target > running:
            because = Because.NEED
        elif target < running:
            because = Because.SURPLUS
        elif max(wanted, granted) < running:
            because = Because.DELAY
        if target == granted > wanted:
            because = Because.GRANTED
        return _Judged(
            target=target,
            because=because,
            highest=running if because is Because.DELAY else None,
            concurrency=flying,
            fallback=fallback,
        )

    def _by_work(
        self,
        now: float,
        view: LoadView,
        running: int,
        bounds: Bounds,
        costs: tuple[Engine, float],
    ) -> _Judged:
        engine, cold_start = costs
        work = estimate(view, engine)
        settled = self._went_down_at is None or not (
            self._went_down_at <= now < self._went_down_at + cold_start
        )
        utilization = self.utilization.follow(view.judged_seen, view.good_seen, now, settled)
        self._memory.learn(work, view.at, cold_start)
        need = self._memory.need(work, utilization, self.factors.warm_spares)
        delay = max(self.factors.delay_seconds, cold_start)
        highest = self._memory.highest(need.replicas, now, delay)
        if bounds.target is not None:
            # It knows the peers that help, so a rise here is no need yet (a day cost 24 % more
            # with it). Alone we only add what a queue here asks for.
            urgent = _urgent(work, self.tuning)
            target = max(bounds.target, self._held(urgent, now, cold_start))
            because = Because.GRANTED if target == bounds.target else Because.NEED
            if because is Because.NEED and urgent < target:
                because, highest = Because.DELAY, max(highest, target)
            return _Judged(target=target, because=because, need=need, highest=highest)
        watched = now - view.since >= delay
        target, because = settle(need, highest, running, watched, self.tuning)
        if target < running and 0.0 <= now - self._doubted_at <= STALE_SECONDS:
            target, because = running, Because.SIGNAL_MISSING
        if because is Because.SURPLUS and self.factors.down_rate < 1.0:
            target, because = self._paced(target, running, now, delay)
        return _Judged(target=target, because=because, need=need, highest=highest)

    def _held(self, urgent: int, now: float, cold_start: float) -> int:
        """Return what a queue asks for, or asked for within the last cold start.

        A queue near the drain time would else have replicas started and given up again.
        """
        if now < self._asked_at:  # a clock set back
            self._asked_at = now
        if urgent >= self._asked or now - self._asked_at >= cold_start:
            self._asked, self._asked_at = urgent, now
        return self._asked

    def _paced(self, target: int, running: int, now: float, delay: float) -> tuple[int, Because]:
        """Return the number after a part of the surplus, once a delay."""
        went = self._went_down_at
        if went is not None and went <= now < went + delay:
            return running, Because.DELAY
        surplus = math.ceil((running - target) * self.factors.down_rate - TOLERANCE)
        return running - surplus, Because.SURPLUS


def settle(
    need: Need, highest: int, running: int, watched: bool, tuning: Tuning
) -> tuple[int, Because]:
    """Return the number for a need: up at once, down to the highest need of the delay.

    `watched` says that the need is known for a whole delay; otherwise nothing goes.
    """
    if need.replicas > running:
        return need.replicas, Because.NEED
    if highest >= running:
        return running, Because.STEADY if need.replicas == running else Because.DELAY
    if not watched:
        return running, Because.DELAY
    # N to N - 1 puts N/(N - 1) of the load on those that are left: they must have the room.
    room = highest
    while room < running and need.exact * (1.0 + tuning.consolidation_margin) > room:
        room += 1
    if room == running:
        return running, Because.CONSOLIDATION
    return room, Because.SURPLUS


def _urgent(work: Work, tuning: Tuning) -> int:
    """Return what a queue needs that would outlast its drain time, with replicas quite full."""
    if work.queued_seconds <= tuning.drain_seconds:
        return 0
    return int(work.short + work.queued_seconds / tuning.drain_seconds)
