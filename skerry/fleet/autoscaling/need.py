"""How many replicas the work needs: what comes in, what past forecasts missed, what waits. Pure.

`local` and `fleetwide` have a `NeedMemory` each, one of a plane's work and one of the sum's. It is
state and no decision: it remembers forecasts, errors and needs by their moments.
"""

import math
from collections import deque
from dataclasses import dataclass

from skerry.fleet.autoscaling.tuning import Tuning
from skerry.fleet.autoscaling.work import Work
from skerry.fleet.deployment import REPLICAS_MAX

FORECASTS_MAX = 4_096  # an hour of cold start, a forecast a second
NEEDS_MAX = 4_096
SATURATION_MAX = 0.95  # of the batch, before the tokens of each take too long
TOLERANCE = 1e-9  # of a replica: rounding errors start none


@dataclass(frozen=True, slots=True, kw_only=True)
class Need:
    """How many replicas are needed, and of what the number is made (in busy replicas).

    `replicas` and `exact` have the warm spares in them.
    """

    replicas: int
    exact: float
    work: float
    reserve: float
    queue: float
    saturation: float
    utilization: float
    spares: int = 0

    def describe(self) -> str:
        """Return the sum in words."""
        parts = [f"work that keeps {self.work:.2f} replicas busy"]
        if self.reserve >= 0.005:
            parts.append(f"{self.reserve:.2f} for what forecasts missed lately")
        if self.queue >= 0.005:
            parts.append(f"{self.queue:.2f} for requests that wait")
        told = f"{' + '.join(parts)}, at {self.utilization:.0%} utilisation"
        if self.spares:
            told += f", and {self.spares} warm spares"
        told += f": {self.replicas}"
        if self.saturation + self.spares > self.exact:
            told += f" (requests in flight fill {self.saturation:.2f})"
        return told


class NeedMemory:
    """Forecasts that wait for their truth, the mean square of what they missed, recent needs."""

    def __init__(self, tuning: Tuning) -> None:
        """Begin with no forecast and no error."""
        self._tuning = tuning
        self._forecasts: deque[tuple[float, float]] = deque(maxlen=FORECASTS_MAX)
        self._square = 0.0
        self._errors_at: float | None = None
        self._needs: deque[tuple[float, int]] = deque()  # falling: the first is the largest

    def forget(self) -> None:
        """Drop forecasts and needs after a gap; how large errors are is still true."""
        self._forecasts.clear()
        self._needs.clear()
        self._errors_at = None

    def expect(self, more: float) -> None:
        """Move the forecasts by work that is counted from now on (or no longer), as if it was then.

        Who comes and goes was no mistake of a forecast.
        """
        moved = [(at, max(0.0, work + more)) for at, work in self._forecasts]
        self._forecasts = deque(moved, maxlen=FORECASTS_MAX)

    def raise_after(self, moment: float, replicas: int) -> None:
        """Add to the needs noted after a moment what was not counted in them."""
        noted = [(at, need + replicas if at > moment else need) for at, need in self._needs]
        self._needs.clear()
        for at, need in noted:
            self._note(at, need)

    def learn(self, work: Work, at: float, horizon_seconds: float) -> None:
        """Hold the forecast of one cold start ago against what came, and make another."""
        due = None
        while self._forecasts and self._forecasts[0][0] <= at - horizon_seconds:
            due = self._forecasts.popleft()
        if due is not None:
            missed = max(0.0, work.short - due[1])
            since = at - self._errors_at if self._errors_at is not None else 0.0
            kept = math.exp(-max(0.0, since) / self._tuning.error_seconds)
            self._square = kept * self._square + (1.0 - kept) * missed * missed
            self._errors_at = at
        self._forecasts.append((at, work.rate))

    def need(self, work: Work, utilization: float, spares: int = 0) -> Need:
        """Return what is needed now, with spares above it; more work is never fewer replicas."""
        reserve = self._tuning.error_weight * math.sqrt(self._square)
        queue = work.queued_seconds / self._tuning.drain_seconds
        exact = (work.rate + reserve + queue) / utilization + spares
        saturation = work.saturation / SATURATION_MAX
        replicas = math.ceil(max(exact, saturation + spares) - TOLERANCE)
        return Need(
            replicas=min(max(replicas, 0), REPLICAS_MAX),
            exact=exact,
            work=work.rate,
            reserve=reserve,
            queue=queue,
            saturation=saturation,
            utilization=utilization,
            spares=spares,
        )

    def highest(self, need: int, at: float, seconds: float) -> int:
        """Note a need and return the highest of the last seconds."""
        self._note(at, need)
        while len(self._needs) > NEEDS_MAX or self._needs[0][0] < at - seconds:
            self._needs.popleft()
        return self._needs[0][1]

    def _note(self, at: float, need: int) -> None:
        while self._needs and self._needs[-1][1] <= need:
            self._needs.pop()
        self._needs.append((at, need))
