"""The utilisation that is aimed for follows what was judged, also where the counts begin anew."""

from skerry.fleet.autoscaling.tuning import DEFAULT_TUNING as TUNING
from skerry.fleet.autoscaling.utilization import UtilizationTarget

STEP = TUNING.utilization_interval_seconds + 1.0
MANY = 10.0 * TUNING.judged_min


def test_misses_are_seen_after_the_counts_began_anew() -> None:
    """A picker that was started again counts from 0; a plane that left takes its counts along."""
    target = UtilizationTarget(0.7, TUNING)
    target.follow(100.0 * MANY, 100.0 * MANY, 0.0, may_fall=True)
    target.follow(0.0, 0.0, STEP, may_fall=True)  # begun anew
    before = target.value
    assert target.follow(MANY, 0.0, 2.0 * STEP, may_fall=True) < before
