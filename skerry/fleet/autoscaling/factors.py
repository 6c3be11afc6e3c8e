"""What an operator sets: the five factors by name, and what was added to them. Pure values.

`local` and `fleetwide` read them; a deployment file and the wire are to say the same names.
"""

import math
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum

from skerry.fleet.autoscaling.cron import parse
from skerry.fleet.deployment import REPLICAS_MAX, Scaling

WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX = 10.0, 3_600.0
SCALE_DOWN_DELAY_SECONDS_MAX = 3_600.0
SCHEDULES_MAX = 32
SCHEDULE_SECONDS_MAX = 7 * 86_400.0
# What holds where the operator says nothing. A sum that is forecast by its own errors needs no
# quarter of an hour: the trace's days cost 3 % more with it and were served no better.
TOKEN_WORK_DELAY_SECONDS = 300.0
CONCURRENCY_DELAY_SECONDS = 900.0  # as published with the rule
CONCURRENCY_DOWN_RATE = 0.5  # as published


class Strategy(StrEnum):
    """What replicas are counted by."""

    TOKEN_WORK = "token_work"  # seconds of a replica's work that come in each second
    CONCURRENCY = "concurrency"  # requests in flight, by the published rule of five factors


@dataclass(frozen=True, slots=True, kw_only=True)
class FloorSchedule:
    """At least so many replicas, for `seconds` from each moment that `cron` names (in UTC)."""

    cron: str
    seconds: float
    min_replicas: int

    def __post_init__(self) -> None:
        """Refuse a schedule that can't be read or has no length."""
        parse(self.cron)
        if not 60.0 <= self.seconds <= SCHEDULE_SECONDS_MAX:
            raise ValueError(f"a schedule lasts 60..{SCHEDULE_SECONDS_MAX:g} s, not {self.seconds}")
        if not 0 <= self.min_replicas <= REPLICAS_MAX:
            raise ValueError(f"min_replicas must be 0..{REPLICAS_MAX}, not {self.min_replicas}")

    def holds(self, when: datetime) -> bool:
        """Say whether it holds at that moment, which must say its time zone as UTC."""
        return parse(self.cron).last_at(when, timedelta(seconds=self.seconds)) is not None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingFactors:
    """The five factors and what goes with them; None: as the strategy has it. Times in seconds.

    `max_scale_down_rate` is the largest part of the surplus that one delay takes away. `paused`
    keeps the number of replicas as it is, inside the envelope.
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

    def __post_init__(self) -> None:
        """Refuse what cannot be meant."""
        if not 0 <= self.min_replicas <= self.max_replicas <= REPLICAS_MAX:
            raise ValueError(
                f"need 0 <= min_replicas ({self.min_replicas}) <= max_replicas"
                f" ({self.max_replicas}) <= {REPLICAS_MAX}"
            )
        _check("window", self.window_seconds, WINDOW_SECONDS_MIN, WINDOW_SECONDS_MAX)
        _check("scale_down_delay", self.delay_seconds, 0.0, SCALE_DOWN_DELAY_SECONDS_MAX)
        _check("concurrency_target", self.concurrency_target, 1e-3, 1e6)
        _check("target_utilization", self.target_utilization, 0.01, 1.0)
        _check("max_scale_down_rate", self.down_rate, 0.01, 1.0)
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


def factors_of(scaling: Scaling) -> ScalingFactors:
    """Return the factors of a deployment that knows no more than the five."""
    return ScalingFactors(
        min_replicas=scaling.min_replicas,
        max_replicas=scaling.max_replicas,
        window_seconds=min(max(scaling.window_seconds, WINDOW_SECONDS_MIN), WINDOW_SECONDS_MAX),
        scale_down_delay_seconds=min(
            max(scaling.scale_down_delay_seconds, 0.0), SCALE_DOWN_DELAY_SECONDS_MAX
        ),
        concurrency_target=scaling.concurrency_target,
        target_utilization=scaling.target_utilization,
    )


def _check(name: str, value: float, least: float, most: float) -> None:
    if not (math.isfinite(value) and least <= value <= most):
        raise ValueError(f"{name} must be {least:g}..{most:g}, not {value}")
