"""What a fleet looked like at one moment of a drill, and what a row of such moments shows.

`observer` takes them; everything else here is pure. Times are seconds of the load's ledger.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from skerry.fleet.observation import PlaneState

Placed = Mapping[tuple[str, str], int]  # replicas by deployment and pool


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """One look: what the control plane says (nothing unless it `answered`), and this host.

    `linked` are planes whose agent has a live session; `is_target_back` says that what was
    killed runs again and does its work, None where that is not looked at.
    """

    at: float
    answered: bool
    states: Mapping[str, PlaneState] = field(default_factory=dict)
    placed: Placed = field(default_factory=dict)
    ready: Placed = field(default_factory=dict)
    cost_per_hour: float = 0.0
    linked: frozenset[str] = frozenset()
    is_target_back: bool | None = None
    leader: str = ""


def first_at(samples: Iterable[Sample], since: float, is_so: Callable[[Sample], bool]) -> float:
    """Return how long after a moment the first look found it so; -1.0 when none did."""
    return next((one.at - since for one in samples if one.at >= since and is_so(one)), -1.0)


def is_unheard(sample: Sample, planes: Iterable[str]) -> bool:
    """Say whether the control plane knew that one of the planes is silent."""
    return sample.answered and any(
        sample.states.get(plane) is not PlaneState.CONNECTED for plane in planes
    )


def moves_between(before: Placed, after: Placed) -> int:
    """Return how many replicas were placed where they were not."""
    return sum(max(0, count - before.get(key, 0)) for key, count in after.items())


def moves_since(samples: Sequence[Sample], before: Placed) -> int:
    """Return the most replicas that were placed elsewhere at any moment."""
    answered = [one.placed for one in samples if one.answered]
    return max((moves_between(before, placed) for placed in answered), default=0)


def covered(found: Placed, wanted: Mapping[str, int], without: Iterable[str]) -> bool:
    """Say whether as many replicas as wanted of every deployment are outside these planes."""
    lost = tuple(f"{plane}--" for plane in without)
    left: dict[str, int] = {}
    for (deployment, pool), count in found.items():
        if not pool.startswith(lost):
            left[deployment] = left.get(deployment, 0) + count
    return all(left.get(name, 0) >= count for name, count in wanted.items())


def totals(placed: Placed) -> dict[str, int]:
    """Return the replicas by deployment."""
    found: dict[str, int] = {}
    for (deployment, _), count in placed.items():
        found[deployment] = found.get(deployment, 0) + count
    return found


def away_seconds(samples: Sequence[Sample]) -> float:
    """Return how long the control plane did not answer, at most."""
    longest, began = 0.0, None
    for one in samples:
        if one.answered:
            began = None
        elif began is None:
            began = one.at
        if began is not None:
            longest = max(longest, one.at - began)
    return longest
