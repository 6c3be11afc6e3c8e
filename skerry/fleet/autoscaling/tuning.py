"""Numbers of the token-work strategy that no operator sets, each with what it is for. Pure.

One set serves every deployment; how it was found is in docs/benchmarks/autoscaling.md.
"""

import math
from dataclasses import dataclass, fields


@dataclass(frozen=True, slots=True, kw_only=True)
class Tuning:
    """How cautious the estimate is and how fast the utilisation target follows the objective.

    `error_weight` (z): how many root mean squares of past upward errors are kept ready.
    `error_seconds`: over how long errors are remembered. `drain_seconds`: in how long a queue is to
    be gone. `consolidation_margin`: how much room must be left on fewer replicas before one goes.
    `objective`: the part of answers that must meet the objective. `budget_share`: the part of the
    misses that it allows which is aimed at. `utilization_step`: what the target rises in an
    interval without a miss; `utilization_cut_max`: the most that it falls in one.
    """

    error_weight: float = 1.0
    error_seconds: float = 3_600.0
    drain_seconds: float = 30.0
    consolidation_margin: float = 0.05
    objective: float = 0.99
    budget_share: float = 0.6
    utilization_step: float = 0.002
    utilization_cut_max: float = 0.05
    utilization_min: float = 0.3
    utilization_max: float = 0.95
    utilization_interval_seconds: float = 60.0
    judged_min: int = 20

    def __post_init__(self) -> None:
        """Refuse numbers that make no sense together."""
        for field in fields(self):
            value = getattr(self, field.name)
            if not (math.isfinite(value) and value >= 0.0):
                raise ValueError(f"{field.name} must be a number from 0 on, not {value}")
        if not 0.0 < self.utilization_min <= self.utilization_max <= 1.0:
            raise ValueError("need 0 < utilization_min <= utilization_max <= 1")
        if not (0.0 < self.objective < 1.0 and self.budget_share > 0.0):
            raise ValueError("need 0 < objective < 1 and budget_share > 0")
        if min(self.error_seconds, self.drain_seconds, self.utilization_interval_seconds) <= 0.0:
            raise ValueError("seconds must be above 0")


DEFAULT_TUNING = Tuning()
# Most misses come in a few minutes, after steps that nobody could foresee. Spare replicas in
# proportion to those steps are paid for hours; a target that aims at half as many misses as one
# plane's does costs less for more answers in time (docs/benchmarks/autoscaling.md).
FLEET_TUNING = Tuning(budget_share=0.3)
