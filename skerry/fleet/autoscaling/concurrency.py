"""`strategy: concurrency`: the published rule of the five factors, as it is published. Pure.

Requests in flight are averaged over the window and divided by `concurrency_target *
target_utilization`, rounded up; up at the next decision, one decision a window. Down when that has
been less for a whole scale-down delay: a part of the surplus (half, or `max_scale_down_rate`), and
after each further delay again.
"""

import math

from skerry.fleet.autoscaling.factors import ScalingFactors
from skerry.fleet.deployment import REPLICAS_MAX
from skerry.fleet.scaling import CONCURRENCY_MAX

TOLERANCE = 1e-9


def fallback_target(concurrency_target: float, slots: float) -> float:
    """Return how many requests in flight a replica is for while nobody knows what they cost.

    `slots` is how many its engine takes at once, 0 for not known.
    """
    return min(max(concurrency_target, slots), CONCURRENCY_MAX)


class ConcurrencyRule:
    """What the rule remembers: its last decision, and since when less has been enough."""

    def __init__(self) -> None:
        """Begin with no decision."""
        self._decided_at: float | None = None
        self._low_since: float | None = None
        self._wanted = 0

    def forget(self) -> None:
        """Begin anew after a gap in time."""
        self._decided_at = self._low_since = None

    def wanted(self, in_flight: float, now: float, factors: ScalingFactors) -> int:
        """Return what the rule asks for; between its decisions, what it last asked for."""
        due = self._decided_at is None or now - self._decided_at >= factors.window_seconds
        if due or (self._decided_at is not None and now < self._decided_at):
            per_replica = factors.concurrency_target * factors.target_utilization
            wanted = math.ceil(in_flight / per_replica - TOLERANCE)
            self._decided_at, self._wanted = now, min(max(wanted, 0), REPLICAS_MAX)
        return self._wanted

    def next(self, running: int, wanted: int, now: float, factors: ScalingFactors) -> int:
        """Return how many replicas the rule leaves of those that run."""
        if wanted >= running:
            self._low_since = None
            return wanted
        if self._low_since is None or now < self._low_since:
            self._low_since = now
        if now - self._low_since < factors.delay_seconds:
            return running
        self._low_since = now
        return running - math.ceil((running - wanted) * factors.down_rate - TOLERANCE)
