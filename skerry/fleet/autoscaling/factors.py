"""The five factors as the loops go by them, in sound bounds, with each strategy's defaults. Pure.

`local` and `fleetwide` read them; `skerry.fleet.scaling` is what an operator says.
"""

import math
from dataclasses import dataclass
from datetime import datetime

from skerry.fleet.scaling import (
    CONCURRENCY_MAX,
    CONCURRENCY_MIN,
    REPLICAS_MAX,
    SCALE_DOWN_DELAY_SECONDS_MAX,
    SCHEDULES_MAX,
    UTILIZATION_MIN,
    WINDOW_SECONDS_MAX,
    WINDOW_SECONDS_MIN,
    FloorSchedule,
    Scaling,
    Strategy,
)

__all__ = ["FloorSchedule", "ScalingFactors", "Strategy", "factors_of"]

# What holds where the operator says nothing. A sum that is forecast by its own errors needs no
# quarter of an hour: the trace's days cost 3 % more with it and were served no better.
TOKEN_WORK_DELAY_SECONDS = 300.0
CONCURRENCY_DELAY_SECONDS = 900.0  # as published with the rule
CONCURRENCY_DOWN_RATE = 0.5  # as published


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFactors:
    """The five factors and what goes with them; None: as the strategy has it. Times in seconds.

    `max_scale_down_rate` is the largest part of the surplus that one delay takes away. `paused`
    keeps the number of replicas as it is, inside the envelope. `warm_spares` are kept above the
    need: of all planes for the fleet's loop, a plane's share of them for its own.
    """

    min_replicas: int = 1
    max_replicas: int = 1
    window_seconds: float = 60.0
    scale_down_delay_seconds: float | None = None
    concurrency_target: float = 1.0
    target_utilization: float = 0.7
    max_scale_down_rate: float | None = None
    strategy: Strategy = Strategy.TOKEN_WORK
    schedules: tuple[FloorSchedule, ...] = ()
    paused: bool = False
    warm_spares: int = 0

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.min_replicas <= self.max_replicas <= REPLICAS_MAX:
            raise ValueError(
                f"need 0 <= min_replicas ({self.min_replicas}) <= max_replicas"
                f" ({self.max_replicas}) <= {REPLICAS_MAX}"
            )
        _check("window", self.window_seconds, WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX)
        _check("scale_down_delay", self.delay_seconds, 0.0, SCALE_DOWN_DELAY_SECONDS_MAX)
        _check("concurrency_target", self.concurrency_target, CONCURRENCY_MIN, CONCURRENCY_MAX)
        _check("target_utilization", self.target_utilization, UTILIZATION_MIN, 1.0)
        _check("max_scale_down_rate", self.down_rate, UTILIZATION_MIN, 1.0)
        if not 0 <= self.warm_spares <= REPLICAS_MAX:
            raise ValueError(f"warm_spares must be 0..{REPLICAS_MAX}, not {self.warm_spares}")
        if len(self.schedules) > SCHEDULES_MAX:
            raise ValueError(f"{len(self.schedules)} schedules are more than {SCHEDULES_MAX}")

    @property
    def delay_seconds(self) -> float:
        """Return for how long less must have been enough before replicas go."""
        if self.scale_down_delay_seconds is not None:
            return self.scale_down_delay_seconds
        by_tokens = self.strategy is Strategy.TOKEN_WORK
        return TOKEN_WORK_DELAY_SECONDS if by_tokens else CONCURRENCY_DELAY_SECONDS

    @property
    def down_rate(self) -> float:
        """Return the largest part of the surplus that goes at once."""
        if self.max_scale_down_rate is not None:
            return self.max_scale_down_rate
        return 1.0 if self.strategy is Strategy.TOKEN_WORK else CONCURRENCY_DOWN_RATE

    def scheduled_floor(self, when: datetime) -> int:
        """Return the most that a schedule asks for at that moment, `max_replicas` at most."""
        held = (one.min_replicas for one in self.schedules if one.holds(when))
        return min(max(held, default=0), self.max_replicas)

    def scheduled_share(self, when: datetime, part: float) -> int:
        """Return that floor's part of who may run `part` (0 to 1) of all replicas, rounded up."""
        scheduled = self.scheduled_floor(when)
        return math.ceil(scheduled * min(1.0, part)) if scheduled else 0


def factors_of(scaling: Scaling) -> ScalingFactors:
    """Return the factors of a deployment; what an earlier release stored is put in bounds."""
    delay, rate = scaling.scale_down_delay_seconds, scaling.max_scale_down_rate
    return ScalingFactors(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        window_seconds=_within(scaling.window_seconds, WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX),
        scale_down_delay_seconds=(
            None if delay is None else _within(delay, 0.0, SCALE_DOWN_DELAY_SECONDS_MAX)
        ),
        concurrency_target=_within(scaling.concurrency_target, CONCURRENCY_MIN, CONCURRENCY_MAX),
        target_utilization=_within(scaling.target_utilization, UTILIZATION_MIN, 1.0),
        max_scale_down_rate=None if rate is None else _within(rate, UTILIZATION_MIN, 1.0),
        strategy=scaling.strategy,
        schedules=scaling.schedules,
        paused=scaling.paused,
        warm_spares=scaling.warm_spares,
    )


def _within(value: float, least: float, most: float) -> float:
    return min(max(value, least), most)


def _check(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} must be {least:g}..{most:g}, not {value}")
