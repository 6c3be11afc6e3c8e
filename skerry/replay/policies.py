"""Skerry's own policies as the replay asks them: the code of `skerry.fleet.autoscaling`, no copy.

Also those that are no autoscaler: a fixed number, and hindsight.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import timedelta

from skerry.fleet.autoscaling.decision import Bounds, ScalingDecision
from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.autoscaling.fleetwide import FleetDecision, FleetScaler, PlaneShare
from skerry.fleet.autoscaling.local import LocalScaler
from skerry.fleet.autoscaling.tuning import DEFAULT_TUNING, Tuning
from skerry.replay.world import FleetModel, RegionSeen

FLEET_SECONDS = 30.0  # between two turns of the global loop
# A target that is older came from a control plane that is not heard: two periods and 10 s, as
# `control_plane.link.freshness` has it.
TARGET_SECONDS_MAX = 2 * FLEET_SECONDS + 10.0


class Silo:
    """The local loop in each region, with no control plane."""

    def __init__(
        self,
        fleet: FleetModel,
        factors: ScalingFactors,
        *,
        tuning: Tuning = DEFAULT_TUNING,
        name: str = "token-work, local loop",
    ) -> None:
        """Begin with a loop for each region."""
        self.name = name
        self._fleet = fleet
        # As planes are granted no more than the maximum between them.
        self._all = max(1, factors.max_replicas, sum(one.ceiling for one in fleet.regions))
        self.scalers = [LocalScaler(factors, tuning) for _ in fleet.regions]
        self.decisions: list[ScalingDecision] = []

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return what each loop decides alone."""
        self.decisions = self.decide(now, seen, [None for _ in seen])
        return [decision.target for decision in self.decisions]

    def decide(
        self,
        now: float,
        seen: Sequence[RegionSeen],
        granted: Sequence[int | None],
    ) -> list[ScalingDecision]:
        """Return each loop's decision with the fleet's target, if there is one."""
        fleet, when = self._fleet, self._fleet.began + timedelta(seconds=now)
        decisions = []
        for scaler, region, one, target in zip(
            self.scalers, fleet.regions, seen, granted, strict=True
        ):
            scaler.observe(one.reading)
            scheduled = 0
            if target is None:  # which has the schedule's floor in it
                scheduled = scaler.factors.scheduled_share(when, region.ceiling / self._all)
            bounds = Bounds(
                floor=region.floor,
                ceiling=region.ceiling,
                target=target,
                scheduled=min(scheduled, region.ceiling),
            )
            decisions.append(
                scaler.decide(now, one.counts, bounds, fleet.engine, fleet.cold_start_seconds)
            )
        return decisions


@dataclass(frozen=True, slots=True)
class Away:
    """From when to when there is no control plane."""

    since: float
    until: float


class TwoLevel:
    """The global loop on the sum every half minute, and local loops that follow its targets."""

    def __init__(
        self,
        fleet: FleetModel,
        factors: ScalingFactors,
        *,
        away: Away | None = None,
        name: str = "two levels, pooled",
    ) -> None:
        """Begin with no target."""
        self.name = name
        self._fleet = fleet
        self._silo = Silo(fleet, factors)
        self._scaler = FleetScaler(factors)
        self._away = away
        self._decided_at: float | None = None
        self.decision: FleetDecision | None = None

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return what the local loops do with the last targets, as long as those are fresh."""
        away = self._away is not None and self._away.since <= now < self._away.until
        if not away:
            for region, one in zip(self._fleet.regions, seen, strict=True):
                self._scaler.observe(region.name, one.reading)
            if self._decided_at is None or now - self._decided_at >= FLEET_SECONDS:
                self._decide(now, seen)
        fresh = self._decided_at is not None and now - self._decided_at <= TARGET_SECONDS_MAX
        granted = [
            self.decision.targets[region.name] if fresh and self.decision is not None else None
            for region in self._fleet.regions
        ]
        return [one.target for one in self._silo.decide(now, seen, granted)]

    def _decide(self, now: float, seen: Sequence[RegionSeen]) -> None:
        fleet = self._fleet
        shares = [
            PlaneShare(
                plane=region.name,
                running=one.counts.running,
                floor=region.floor,
                ceiling=region.ceiling,
                engine=fleet.engine,
                price_per_hour=region.price_per_hour,
            )
            for region, one in zip(fleet.regions, seen, strict=True)
        ]
        when = fleet.began + timedelta(seconds=now)
        self.decision = self._scaler.decide(now, when, shares, fleet.cold_start_seconds)
        self._decided_at = now


class Fixed:
    """The same number of replicas all day."""

    def __init__(self, replicas: Sequence[int], name: str = "static") -> None:
        """Keep the numbers by region."""
        self.name = name
        self._replicas = tuple(replicas)

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return them."""
        return self._replicas


class Planned:
    """Numbers that are known beforehand, by the second: what hindsight would have done."""

    def __init__(self, plan: Sequence[Sequence[int]], tick_seconds: float, name: str) -> None:
        """Keep a row of numbers by region for each tick."""
        self.name = name
        self._plan = plan
        self._tick_seconds = tick_seconds

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return the row of the moment, the last one afterwards."""
        return self._plan[min(int(now / self._tick_seconds), len(self._plan) - 1)]
