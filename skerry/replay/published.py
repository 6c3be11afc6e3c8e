"""Autoscalers of others, written anew from what is published of them, each a silo per region.

Requests in flight per replica are what most of them go by; `per_replica` is the one number that an
operator sets. What they do with replicas that are starting is as published: most do not look.
"""

import math
from collections import deque
from collections.abc import Callable, Sequence
from typing import Protocol

from skerry.fleet.autoscaling.load import LoadView, LoadWindow
from skerry.fleet.autoscaling.work import Engine, estimate
from skerry.replay.world import FleetModel, RegionSeen

TOLERANCE = 1e-9


class Scaler(Protocol):
    """One region's autoscaler."""

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return how many replicas it wants."""
        ...


class Siloed:
    """A published autoscaler for each region, inside the region's bounds."""

    def __init__(self, fleet: FleetModel, make: Callable[[], Scaler], name: str) -> None:
        """Begin with one each."""
        self.name = name
        self._fleet = fleet
        self._scalers = [make() for _ in fleet.regions]

    def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
        """Return what each wants, bounded."""
        return [
            min(max(scaler.target(now, one), region.floor), region.ceiling)
            for scaler, region, one in zip(self._scalers, self._fleet.regions, seen, strict=True)
        ]


class _Means:
    """Means of a gauge over the last seconds."""

    def __init__(self, keep_seconds: float) -> None:
        self._keep = keep_seconds
        self._values: deque[tuple[float, float]] = deque()

    def note(self, now: float, value: float) -> None:
        self._values.append((now, value))
        while self._values[0][0] <= now - self._keep:
            self._values.popleft()

    def mean(self, now: float, seconds: float) -> float:
        values = [value for at, value in self._values if at > now - seconds]
        return sum(values) / len(values)


class _Sustained:
    """Changes a number once more, or less, was wanted for long enough without a break."""

    def __init__(self, up_seconds: float, down_seconds: float) -> None:
        self._up, self._down = up_seconds, down_seconds
        self._way = 0
        self._since = 0.0

    def next(self, now: float, current: int, wanted: int) -> int:
        way = (wanted > current) - (wanted < current)
        if way != self._way:
            self._way, self._since = way, now
        delay = self._up if way > 0 else self._down
        if way and now - self._since >= delay:
            self._way = 0
            return wanted
        return current


class KnativeKpa:
    """Knative's KPA: 60 s stable, 6 s panic, which only goes up; half goes at once at most."""

    stable_seconds, panic_seconds, panic_threshold, down_rate_max = 60.0, 6.0, 2.0, 2.0

    def __init__(self, per_replica: float) -> None:
        """Take the target of requests in flight per replica, utilisation already taken off."""
        self._per_replica = per_replica
        self._means = _Means(self.stable_seconds)
        self._panic_since: float | None = None
        self._panic_most = 0

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return the stable number, or the panic's while it lasts."""
        self._means.note(now, seen.reading.in_flight)
        ready = max(1, seen.counts.ready)
        least = math.floor(ready / self.down_rate_max)
        stable = self._wanted(now, self.stable_seconds, least)
        panic = self._wanted(now, self.panic_seconds, least)
        if panic / ready >= self.panic_threshold:
            self._panic_since = now
        elif self._panic_since is not None and now - self._panic_since > self.stable_seconds:
            self._panic_since, self._panic_most = None, 0
        if self._panic_since is None:
            return stable
        self._panic_most = max(self._panic_most, panic, ready)
        return self._panic_most

    def _wanted(self, now: float, seconds: float, least: int) -> int:
        mean = self._means.mean(now, seconds)
        return max(least, math.ceil(mean / self._per_replica - TOLERANCE))


class KubernetesHpa:
    """HPA on requests in flight: every 15 s, 10 % tolerance, down by the highest of 300 s."""

    period_seconds, tolerance, stabilization_seconds = 15.0, 0.1, 300.0

    def __init__(self, per_replica: float) -> None:
        """Take the target of the average per replica."""
        self._per_replica = per_replica
        self._wanted: deque[tuple[float, int]] = deque()
        self._decided_at = -math.inf
        self._target = 0

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return the last decision, or a new one when it is time."""
        if now - self._decided_at < self.period_seconds:
            return self._target
        self._decided_at = now
        current = max(1, seen.counts.running)
        wanted = self._by_average(seen.reading.in_flight, current, max(1, seen.counts.ready))
        wanted = min(wanted, max(current + 4, 2 * current))
        self._wanted.append((now, wanted))
        while self._wanted[0][0] < now - self.stabilization_seconds:
            self._wanted.popleft()
        self._target = max(wanted, min(current, max(one for _, one in self._wanted)))
        return self._target

    def _by_average(self, flying: float, current: int, ready: int) -> int:
        """Return the count by the average; those that start count as idle when it would go up."""
        average = flying / ready / self._per_replica
        over = current if average > 1.0 else ready
        again = flying / over / self._per_replica
        if abs(again - 1.0) <= self.tolerance or (again > 1.0) != (average > 1.0):
            return current
        wanted = math.ceil(again * over - TOLERANCE)
        return max(wanted, current) if average > 1.0 else min(wanted, current)


class RayServe:
    """Ray Serve's default policy: mean of 30 s, up after 30 s of wanting more, down after 600 s."""

    look_back_seconds, up_seconds, down_seconds = 30.0, 30.0, 600.0

    def __init__(self, per_replica: float) -> None:
        """Take `target_ongoing_requests`."""
        self._per_replica = per_replica
        self._means = _Means(self.look_back_seconds)
        self._sustained = _Sustained(self.up_seconds, self.down_seconds)

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return the number, changed once it was wanted for long enough."""
        self._means.note(now, seen.reading.in_flight)
        current = seen.counts.running
        mean = self._means.mean(now, self.look_back_seconds)
        wanted = max(1, math.ceil(mean / self._per_replica - TOLERANCE))
        return self._sustained.next(now, current, wanted)


class SkyServe:
    """SkyServe's request-rate autoscaler: 60 s of requests, up after 300 s, down after 1200 s."""

    window_seconds, up_seconds, down_seconds = 60.0, 300.0, 1_200.0

    def __init__(self, requests_per_second: float) -> None:
        """Take `target_qps_per_replica`."""
        self._rate = requests_per_second
        self._totals: deque[tuple[float, float]] = deque()
        self._sustained = _Sustained(self.up_seconds, self.down_seconds)

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return the number, changed once it was wanted for long enough."""
        self._totals.append((now, seen.reading.requests_total))
        while self._totals[0][0] < now - self.window_seconds:
            self._totals.popleft()
        come = seen.reading.requests_total - self._totals[0][1]
        current = seen.counts.running
        wanted = max(1, math.ceil(come / self.window_seconds / self._rate - TOLERANCE))
        return self._sustained.next(now, current, wanted)


class DynamoLike:
    """In the manner of Dynamo's planner: a forecast each interval, divided by a profile's capacity.

    The next interval's load is Holt's linear forecast; capacity is the profile's at `utilization`.
    """

    interval_seconds, level_weight, trend_weight = 60.0, 0.7, 0.2

    def __init__(self, engine: Engine, utilization: float) -> None:
        """Take the profile, and how much of it meets the objective."""
        self._engine = engine
        self._utilization = utilization
        self._window = LoadWindow()
        self._decided_at: float | None = None
        self._level: float | None = None
        self._trend = 0.0
        self._target = 1

    def target(self, now: float, seen: RegionSeen) -> int:
        """Return the last interval's decision, or a new one when it is time."""
        self._window.observe(seen.reading)
        view = self._window.view(now)
        if self._decided_at is None:
            self._decided_at, self._target = now, seen.counts.running
        if view is None or now - self._decided_at < self.interval_seconds:
            return self._target
        self._decided_at = now
        self._target = math.ceil(self._forecast(view) / self._utilization - TOLERANCE)
        return self._target

    def _forecast(self, view: LoadView) -> float:
        came = estimate(view, self._engine).short
        if self._level is None:
            self._level = came
        before = self._level
        self._level = self.level_weight * came + (1.0 - self.level_weight) * (before + self._trend)
        self._trend += self.trend_weight * (self._level - before - self._trend)
        return max(0.0, self._level + self._trend)
