"""What several looks at a fleet say together: rates, quantiles, and how old values are. PURE.

`looking` makes the looks, `drawing` shows a frame; `skerry top -o json` prints it.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import pairwise

from skerry.client.rows import DeploymentRow, PlacementRow, PlaneRow, PoolRow
from skerry.fleet.autoscaling.load import LoadReading
from skerry.fleet.observation import HEARD

# Planes tell what they counted every five seconds: what a shorter span shows is chance.
SPAN_SECONDS_MIN = 5.0
# Long enough that a report late or early changes little, short enough to be now.
SPAN_SECONDS_MAX = 30.0

# (deployment, plane) -> what the plane counted last.
Readings = Mapping[tuple[str, str], LoadReading]
# Deployment -> how many answers came within each bound, cumulative, in the order of the bounds.
FirstBytes = Mapping[str, Mapping[float, float]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Look:
    """What was told at one moment, monotonic `at` and `time` on the wall.

    `first_bytes` None: no picker's page could be read. `unasked`: deployments whose load was not
    asked for, being too many.
    """

    at: float
    time: datetime
    planes: tuple[PlaneRow, ...]
    pools: tuple[PoolRow, ...]
    deployments: tuple[DeploymentRow, ...]
    placements: tuple[PlacementRow, ...]
    readings: Readings
    first_bytes: FirstBytes | None
    unasked: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class PlaneFigures:
    """One plane; `age_seconds` of what is known of it where it is not heard now, else None."""

    name: str
    state: str
    age_seconds: float | None
    accelerators: int
    accelerators_placed: int
    replicas_ready: int
    replicas_desired: int
    is_behind: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentFigures:
    """One deployment over the planes that are heard; None is not known, and not nought.

    `stale_planes` serve it and are not heard: what they do is in no rate.
    """

    name: str
    replicas_ready: int
    replicas_desired: int
    requests_per_second: float | None
    in_flight: float | None
    waiting: float | None
    first_byte_p50_seconds: float | None
    first_byte_p99_seconds: float | None
    tokens_per_second: float | None
    stale_planes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Frame:
    """What is shown; `age_seconds` since the look it is of, with why there was none since."""

    time: datetime
    age_seconds: float
    fault: str
    span_seconds: float
    planes: tuple[PlaneFigures, ...]
    deployments: tuple[DeploymentFigures, ...]
    unasked: int


class Looks:
    """The looks of the last half minute; the newest stays, however old it becomes."""

    def __init__(self) -> None:
        """Begin without a look."""
        self._looks: list[Look] = []

    def take(self, look: Look) -> None:
        """Take a look in, and forget those that are older than a span."""
        oldest = look.at - SPAN_SECONDS_MAX
        self._looks = [*(one for one in self._looks if one.at >= oldest), look]

    def frame(self, now: float, fault: str = "") -> Frame | None:
        """Return what the looks say at monotonic `now`; None before the first."""
        if not self._looks:
            return None
        first, last = self._looks[0], self._looks[-1]
        heard = {plane.name for plane in last.planes if plane.state in HEARD}
        return Frame(
            time=last.time,
            age_seconds=round(max(0.0, now - last.at), 1),
            fault=fault,
            span_seconds=round(last.at - first.at, 1),
            planes=tuple(_plane(plane, last) for plane in last.planes),
            deployments=tuple(
                _deployment(one, self._looks, frozenset(heard)) for one in last.deployments
            ),
            unasked=last.unasked,
        )


def _plane(plane: PlaneRow, look: Look) -> PlaneFigures:
    pools = [pool for pool in look.pools if pool.plane == plane.name]
    placed = [one for one in look.placements if one.plane == plane.name]
    since = plane.since
    is_heard = plane.state in HEARD
    age = None if is_heard or since is None else (look.time - since).total_seconds()
    return PlaneFigures(
        name=plane.name,
        state=plane.state.value,
        age_seconds=None if age is None else round(max(0.0, age), 1),
        accelerators=sum(pool.shape.accelerators for pool in pools if pool.shape),
        accelerators_placed=sum(pool.accelerators_placed for pool in pools),
        replicas_ready=sum(one.replicas_ready for one in placed),
        replicas_desired=sum(one.replicas for one in placed),
        is_behind=plane.desired != plane.held,
    )


def _deployment(
    row: DeploymentRow, looks: Sequence[Look], heard: frozenset[str]
) -> DeploymentFigures:
    last = looks[-1]
    serving = {one.plane for one in last.placements if one.deployment == row.name}
    now = [r for (name, plane), r in last.readings.items() if name == row.name and plane in heard]
    before, after = _first_bytes(looks, row.name)
    return DeploymentFigures(
        name=row.name,
        replicas_ready=row.replicas_ready,
        replicas_desired=row.replicas_wanted,
        requests_per_second=_rate(looks, row.name, heard, "requests_total"),
        in_flight=sum(one.in_flight for one in now) if now else None,
        waiting=sum(one.waiting_requests for one in now) if now else None,
        first_byte_p50_seconds=quantile(0.5, before, after),
        first_byte_p99_seconds=quantile(0.99, before, after),
        tokens_per_second=_rate(looks, row.name, heard, "output_tokens_total"),
        stale_planes=tuple(sorted(serving - heard)),
    )


def _rate(
    looks: Sequence[Look], deployment: str, heard: Iterable[str], counter: str
) -> float | None:
    """Return the sum of the planes' rates over the span; None where no plane could be counted."""
    rates = [
        rate
        for plane in heard
        if (rate := _rate_at(looks, (deployment, plane), counter)) is not None
    ]
    return round(sum(rates), 2) if rates else None


def _rate_at(looks: Sequence[Look], key: tuple[str, str], counter: str) -> float | None:
    told = [(one.at, getattr(one.readings[key], counter)) for one in looks if key in one.readings]
    grown, span = 0.0, 0.0
    for (at_before, before), (at, now) in pairwise(told):
        if now >= before:  # else its process began anew in between: nobody knows what that was
            grown += now - before
            span += at - at_before
    return grown / span if span >= SPAN_SECONDS_MIN else None


def _first_bytes(
    looks: Sequence[Look], deployment: str
) -> tuple[Mapping[float, float], Mapping[float, float]]:
    told = [one.first_bytes.get(deployment, {}) for one in looks if one.first_bytes is not None]
    return (told[0], told[-1]) if told else ({}, {})


def quantile(
    share: float, before: Mapping[float, float], after: Mapping[float, float]
) -> float | None:
    """Return the bound below which that share of the answers in between were, interpolated.

    Counts are cumulative by bound. None without an answer, and past the last finite bound that one.
    """
    counts = [(bound, after[bound] - before.get(bound, 0.0)) for bound in sorted(after)]
    total = counts[-1][1] if counts else 0.0
    if total <= 0.0 or any(count < 0.0 for _, count in counts):
        return None
    wanted, low, below = share * total, 0.0, 0.0
    for bound, count in counts:
        if count >= wanted:
            if bound == float("inf"):
                return low
            part = (wanted - below) / (count - below) if count > below else 1.0
            return round(low + (bound - low) * part, 4)
        low, below = bound, count
    return low
