"""The decisions of the global loop as a plot's geometry. Pure; `deployments.py` calls it."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from control_plane.dashboard.drawing import steps
from skerry.fleet.autoscaling.scaled import FleetRecord

WIDTH, HEIGHT = 720.0, 190.0
# Room for the numbers at the left and the times below.
_LEFT, _RIGHT, _TOP, _BOTTOM = 34.0, WIDTH - 8.0, 10.0, HEIGHT - 22.0
_LINES_MAX = 5


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalingPlot:
    """Paths by the style's name, and the lines across with their numbers."""

    paths: tuple[tuple[str, str], ...]
    lines: tuple[tuple[int, float], ...]
    begins: datetime
    ends: datetime
    width: float = WIDTH
    height: float = HEIGHT
    left: float = _LEFT
    right: float = _RIGHT
    bottom: float = _BOTTOM


def plot_scaling(decisions: Sequence[FleetRecord], most: int) -> ScalingPlot | None:
    """Return the plot of decisions in any order, None where there are fewer than two.

    `most` is the deployment's bound, which is drawn as far as it is near.
    """
    ordered = sorted(decisions, key=lambda one: one.decided_at)
    if len(ordered) < 2:
        return None
    begins, ends = ordered[0].decided_at, ordered[-1].decided_at
    seconds = (ends - begins).total_seconds() or 1.0
    series = {
        "wanted": [one.wanted for one in ordered],
        "total": [one.total for one in ordered],
        "running": [one.running for one in ordered],
    }
    highest = max(1, *(max(values) for values in series.values()))
    if most <= 2 * highest:
        highest = max(highest, most)
    box = (_LEFT, _RIGHT, _TOP, _BOTTOM)
    across = [(one.decided_at - begins).total_seconds() / seconds for one in ordered]
    paths = tuple(
        (name, steps([(x, v / highest) for x, v in zip(across, values, strict=True)], box))
        for name, values in series.items()
    )
    step = math.ceil(highest / _LINES_MAX)
    lines = tuple(
        (value, round(_BOTTOM - value / highest * (_BOTTOM - _TOP), 1))
        for value in range(0, highest + 1, step)
    )
    return ScalingPlot(paths=paths, lines=lines, begins=begins, ends=ends)
