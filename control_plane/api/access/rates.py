"""How fast one caller may call: a bucket for each. Pure: the time is an argument.

One program that loops must not be why an operator waits: above its rate it is refused before
anything of its request is read, and told when to come again.
"""

from collections import OrderedDict

# A pipeline that applies a hundred files, or a dashboard full of people, stays far below both.
CALLS_AT_ONCE = 2_000
CALLS_PER_SECOND = 200.0
# At 200 B each 2 MB; who called the longest ago is forgotten first, with a full bucket by then.
CALLERS_MAX = 10_000
NEARLY = 1e-6  # of a call: who comes exactly when told is let in, however sums are rounded


class CallRates:
    """A bucket of calls a caller."""

    def __init__(self) -> None:
        """Know of no call."""
        self._left: OrderedDict[str, tuple[float, float]] = OrderedDict()

    def wait_seconds(self, caller: str, now: float) -> float:
        """Count a call, and return 0.0; or count none and return when the next is free."""
        left, at = self._left.get(caller, (float(CALLS_AT_ONCE), now))
        left = min(float(CALLS_AT_ONCE), left + max(0.0, now - at) * CALLS_PER_SECOND)
        wait = 0.0 if left >= 1.0 - NEARLY else (1.0 - left) / CALLS_PER_SECOND
        self._left[caller] = (left if wait else max(0.0, left - 1.0), now)
        self._left.move_to_end(caller)
        if len(self._left) > CALLERS_MAX:
            self._left.popitem(last=False)
        return wait
