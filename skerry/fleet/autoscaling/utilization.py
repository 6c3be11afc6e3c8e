"""How full replicas may be, learned from whether answers met their objective. Pure.

A fixed target does not carry over from one day to another. This one falls at once by how far the
misses exceed what is allowed, and rises by a hair while there are none.
"""

from skerry.fleet.autoscaling.tuning import Tuning


class UtilizationTarget:
    """The target between its floor and ceiling; it moves once an interval at most."""

    def __init__(self, initial: float, tuning: Tuning) -> None:
        """Begin with what the operator says."""
        self._tuning = tuning
        self.value = min(max(initial, tuning.utilization_min), tuning.utilization_max)
        self._judged = self._good = 0.0
        self._moved_at: float | None = None

    def follow(self, judged_seen: float, good_seen: float, now: float, may_fall: bool) -> float:
        """Take what was judged in all, and return the target.

        `may_fall` is False just after replicas were taken away: what fell short then is told again
        once that has settled.
        """
        tuning = self._tuning
        # Counts that fell are others: those of a picker begun anew, or without a plane that left.
        fell = judged_seen < self._judged or good_seen < self._good
        if self._moved_at is None or now < self._moved_at or fell:
            self._moved_at, self._judged, self._good = now, judged_seen, good_seen
            return self.value
        judged, good = judged_seen - self._judged, good_seen - self._good
        if now - self._moved_at < tuning.utilization_interval_seconds or judged < tuning.judged_min:
            return self.value
        allowed = (1.0 - tuning.objective) * tuning.budget_share
        missed = max(0.0, 1.0 - good / judged)
        step = tuning.utilization_step * (1.0 - missed / allowed)
        if step < 0.0 and not may_fall:
            return self.value  # the misses stay in the count
        step = max(step, -tuning.utilization_cut_max)
        self.value = min(max(self.value + step, tuning.utilization_min), tuning.utilization_max)
        self._moved_at, self._judged, self._good = now, judged_seen, good_seen
        return self.value
