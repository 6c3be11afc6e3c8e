"""What a decision is made of and what comes of it: counts, bounds, the target and its sentence.

`local` and `fleetwide` return these; they are recorded and shown as they are. Pure values.
"""

from dataclasses import dataclass
from enum import StrEnum

from skerry.fleet.autoscaling.need import Need


class Because(StrEnum):
    """What decided, the strongest first."""

    PAUSED = "paused"
    SIGNAL_MISSING = "signal_missing"  # or too old: held, never down
    BOUNDS = "bounds"  # the envelope or the schedule leaves nothing else
    NEED = "need"  # more is needed
    GRANTED = "granted"  # the global loop's target
    DELAY = "delay"  # less would do, but not for long enough yet
    CONSOLIDATION = "consolidation"  # fewer replicas would be full at once
    SURPLUS = "surplus"  # less has been enough for the delay
    STEADY = "steady"


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicaCounts:
    """What there is: replicas that serve, that are starting, and that finish their last answers."""

    ready: int
    starting: int = 0
    draining: int = 0

    def __post_init__(self) -> None:
        """Refuse counts below 0."""
        if min(self.ready, self.starting, self.draining) < 0:
            raise ValueError("counts must not be negative")

    @property
    def running(self) -> int:
        """Return how many serve or soon will: starting ones count."""
        return self.ready + self.starting


@dataclass(frozen=True, slots=True, kw_only=True)
class Bounds:
    """The envelope last granted, for ever if need be; `target` is the global loop's while fresh.

    `scheduled` is a floor by the time of day, `min_available` how many ready replicas a rollout or
    the operator needs: no decision goes below it.
    """

    floor: int
    ceiling: int
    target: int | None = None
    scheduled: int = 0
    min_available: int = 0

    def __post_init__(self) -> None:
        """Refuse bounds that leave nothing between them."""
        if not 0 <= self.floor <= self.ceiling or min(self.scheduled, self.min_available) < 0:
            raise ValueError(f"need 0 <= floor <= ceiling, not {self.floor}, {self.ceiling}")

    def hold(self, replicas: int) -> int:
        """Return the number inside the bounds that is nearest; the ceiling is the last word."""
        return min(max(replicas, self.floor, self.scheduled), self.ceiling)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingDecision:
    """How many replicas are wanted, what is to be done for it, and everything it rests on."""

    at: float
    target: int
    because: Because
    counts: ReplicaCounts
    bounds: Bounds
    need: Need | None = None
    highest: int | None = None
    concurrency: float | None = None
    fallback: bool = False

    @property
    def revive(self) -> int:
        """Return how many draining replicas serve again: that takes no start."""
        return min(max(0, self.target - self.counts.running), self.counts.draining)

    @property
    def start(self) -> int:
        """Return how many replicas are to be started."""
        return max(0, self.target - self.counts.running) - self.revive

    @property
    def cancel(self) -> int:
        """Return how many starting replicas are given up: they serve nobody yet."""
        return min(max(0, self.counts.running - self.target), self.counts.starting)

    @property
    def drain(self) -> int:
        """Return how many ready replicas get no more requests; never below `min_available`."""
        surplus = max(0, self.counts.running - self.target) - self.cancel
        return min(surplus, max(0, self.counts.ready - self.bounds.min_available))

    def describe(self) -> str:
        """Return the decision as a sentence."""
        counts, bounds = self.counts, self.bounds
        there = f"{counts.ready} ready"
        there += f", {counts.starting} starting" if counts.starting else ""
        there += f", {counts.draining} draining" if counts.draining else ""
        told = f"{self._deed()} ({there}; envelope {bounds.floor} to {bounds.ceiling})"
        told += f" because {self._reason()}"
        if self.need is not None:
            told += f"; {self.need.describe()}"
        if self.concurrency is not None:
            told += f"; {self.concurrency:.2f} requests in flight on average"
        if self.fallback:
            told += "; by concurrency, as no coefficients of this engine are known"
        return f"{told}."

    def _delay(self) -> str:
        if self.highest is not None and self.highest < self.counts.running:
            return "others went less than a scale-down delay ago, or it was not watched for one"
        return f"{self.highest} were needed within the scale-down delay"

    def _deed(self) -> str:
        deeds = {
            "revive": self.revive,
            "start": self.start,
            "cancel": self.cancel,
            "drain": self.drain,
        }
        told = " and ".join(f"{deed} {many}" for deed, many in deeds.items() if many)
        return f"{told}, for {self.target}" if told else f"keep {self.target}"

    def _reason(self) -> str:
        bounds = self.bounds
        return {
            Because.PAUSED: "autoscaling is paused",
            Because.SIGNAL_MISSING: "the signals are missing, too old or too few, which takes"
            " nothing away",
            Because.BOUNDS: f"the bounds leave nothing else (schedule {bounds.scheduled},"
            f" available {bounds.min_available})",
            Because.NEED: "more are needed",
            Because.GRANTED: f"the fleet's target here is {bounds.target}",
            Because.DELAY: self._delay(),
            Because.CONSOLIDATION: "one fewer would be too full",
            Because.SURPLUS: "fewer have been enough for the scale-down delay",
            Because.STEADY: "that is what is needed",
        }[self.because]
