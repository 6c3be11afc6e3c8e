"""Which of the plane's own decisions a connection tells next. PURE; `connection.py` sends them."""

from collections.abc import Sequence

from skerry.fleet.autoscaling.told import ToldDecision
from skerry.wire.scaling import DECISIONS_TOLD_MAX
from workload_plane.autoscale.history import KeptDecision

# What a control plane keeps of all planes (`control_plane.link.decisions`): thousands that come
# back at once need not tell it more.
FLEET_DECISIONS = 40_000
AGAIN_MIN = 4


class Telling:
    """What one connection has told of the plane's decisions: each once, in their order."""

    def __init__(self, planes: int) -> None:
        """Begin with nothing told; in a fleet of so many planes it begins with the last few."""
        self._again = max(AGAIN_MIN, FLEET_DECISIONS // max(1, planes))
        self._is_first = True
        self.number = 0

    def next(self, new: Sequence[KeptDecision]) -> tuple[tuple[str, ToldDecision], ...]:
        """Return what of `new`, all after `number`, goes into the next report."""
        if self._is_first:
            new, self._is_first = new[-self._again :], False
        told = new[:DECISIONS_TOLD_MAX]
        if told:
            self.number = told[-1].number
        return tuple((one.deployment, one.decision) for one in told)
