"""Questions to the scheduler and its answers, as frozen values for people and programs.

`skerry.client.operator` asks them of a fleet, `skerry schedule` of a file. Names are short ids,
money is in USD per hour.
"""

from dataclasses import dataclass

from skerry.client.rows import LevelRow, MoveRow, ShedRow, UnplacedRow
from skerry.fleet.deployment import FailureDomain


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose:
    """A plane, `CLOUD/REGION` or cloud is gone, with everything that runs there."""

    domain: FailureDomain
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ScalePrice:
    """Prices are multiplied: of one pool, or of all."""

    factor: float
    pool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class ScaleDemand:
    """Demand is multiplied: of one deployment, or of all."""

    factor: float
    deployment: str | None = None


Hypothesis = Lose | ScalePrice | ScaleDemand


@dataclass(frozen=True, slots=True, kw_only=True)
class WayOut:
    """A change that would place all of a deployment, and what it adds to the bill.

    None dollars where it takes accelerators of which no pool tells a price.
    """

    change: str
    dollars_per_hour: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Explanation:
    """Why a deployment is where it is or is not; `pool` None speaks of all of it."""

    deployment: str
    pool: str | None
    replicas: int
    reasons: tuple[str, ...]
    conflict: tuple[str, ...] = ()
    ways: tuple[WayOut, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class ReplicasRow:
    """So many replicas of a deployment on a pool, and why."""

    deployment: str
    pool: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Consequences:
    """What some changes would do, beside what would be decided without them."""

    placed: tuple[ReplicasRow, ...]
    moved: tuple[MoveRow, ...]
    evicted: tuple[ReplicasRow, ...]
    shed: tuple[ShedRow, ...]
    unplaced: tuple[UnplacedRow, ...]
    unplaced_before: tuple[UnplacedRow, ...]
    cost_per_hour_before: float
    cost_per_hour_after: float
    levels: tuple[LevelRow, ...]
    solver: str
    optimal: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class SurvivorRow:
    """One deployment after one loss, in replicas of its first shape.

    `left` runs on unharmed; `shortfall` is what of the promise is missing; `unmet_after` is missing
    of the demand when greedy has placed the fleet again (None where it was not asked).
    """

    deployment: str
    wanted: float
    left: float
    promised: float
    shortfall: float
    unmet_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class LossRow:
    """One domain lost: what it touches, and who is given up for others once all has moved.

    Not `solved` where there were too many losses to place the fleet again for each.
    """

    domain: FailureDomain
    name: str
    holds: bool
    survivors: tuple[SurvivorRow, ...]
    shed: tuple[ShedRow, ...]
    solved: bool
