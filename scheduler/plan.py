"""The scheduler's output: placements and envelopes with their reasons, and what a plan changes.

`solve` makes plans, `check` judges them, the control plane stores them with every reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass, replace

from skerry.fleet.placement import Envelope, Placement

# 2,000 deployments on 1,000 pools have two million pairs that may not host one another; a plan is
# stored and shown to people.
REJECTIONS_MAX = 10_000
# A reason is a sentence, not a listing: the rest is in the plan's rejections.
POOLS_NAMED_MAX = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class Unplaced:
    """Replicas that found no place, and why, with what would help."""

    deployment: str
    replicas: int
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Rejection:
    """A pool that may not host a deployment, and why."""

    deployment: str
    pool: str
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class LevelValue:
    """One level of the objective: what was reached, and the bound no plan can go below."""

    level: str
    value: float
    bound: float
    unit: str

    @property
    def gap(self) -> float:
        """Return how far above the bound the value may be, as a fraction of the value."""
        return (self.value - self.bound) / self.value if self.value > self.bound else 0.0


@dataclass(frozen=True, slots=True, kw_only=True)
class Shed:
    """Replicas that run and are given up while demand is left unmet, and who takes their room."""

    deployment: str
    pool: str
    replicas: int
    taken_by: tuple[str, ...]
    reason: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolPrice:
    """One more accelerator of the pool is worth so much an hour, on top of its own price."""

    pool: str
    dollars_per_hour: float


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """Where replicas go. `optimal`: unmet demand, survival and cost are proven to be the least.

    `shed` is in the order in which replicas are given up, the lowest class first. `prices` are of
    scarce pools, from the relaxation of the cost level or the ascent; after a repair they are those
    of the plan before. `solver_reason` says why this solver.
    """

    placements: tuple[Placement, ...]
    envelopes: tuple[Envelope, ...]
    unplaced: tuple[Unplaced, ...]
    rejections: tuple[Rejection, ...]
    levels: tuple[LevelValue, ...]
    cost_per_hour: float
    solver: str
    optimal: bool
    shed: tuple[Shed, ...] = ()
    prices: tuple[PoolPrice, ...] = ()
    solver_reason: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Move:
    """`count` replicas of a deployment that leave one pool for another."""

    deployment: str
    from_pool: str
    to_pool: str
    count: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PlanDiff:
    """What a plan changes: new replicas, those that stay, move, and those that go."""

    place: tuple[Placement, ...]
    keep: tuple[Placement, ...]
    move: tuple[Move, ...]
    evict: tuple[Placement, ...]

    @property
    def is_empty(self) -> bool:
        """Say whether nothing changes."""
        return not (self.place or self.move or self.evict)


def diff(plan: PlacementPlan, current: Iterable[Placement]) -> PlanDiff:
    """Compare a plan with what runs; a stop and a start of one deployment pair up as a move."""
    wanted = {(p.deployment, p.pool): p for p in plan.placements}
    running = {(p.deployment, p.pool): p.count for p in current if p.count}
    pairs = sorted(wanted.keys() | running.keys())
    keep: list[Placement] = []
    gained: list[Placement] = []
    lost: list[Placement] = []
    for deployment, pool in pairs:
        placement = wanted.get((deployment, pool))
        count, had = placement.count if placement else 0, running.get((deployment, pool), 0)
        reason = placement.reason if placement else "the plan has no replica here"
        for amount, into in (
            (min(count, had), keep),
            (count - had, gained),
            (had - count, lost),
        ):
            if amount > 0:
                into.append(
                    Placement(deployment=deployment, pool=pool, count=amount, reason=reason)
                )
    moves, place, evict = _pair_up(gained, lost)
    return PlanDiff(place=place, keep=tuple(keep), move=moves, evict=evict)


def _pair_up(
    gained: list[Placement], lost: list[Placement]
) -> tuple[tuple[Move, ...], tuple[Placement, ...], tuple[Placement, ...]]:
    starts = [p.count for p in gained]
    stops = [p.count for p in lost]
    moves: list[Move] = []
    for i, start in enumerate(gained):
        for k, stop in enumerate(lost):
            count = min(starts[i], stops[k])
            if stop.deployment != start.deployment or count == 0:
                continue
            starts[i] -= count
            stops[k] -= count
            moves.append(
                Move(
                    deployment=start.deployment,
                    from_pool=stop.pool,
                    to_pool=start.pool,
                    count=count,
                )
            )
    place = tuple(replace(p, count=n) for p, n in zip(gained, starts, strict=True) if n)
    evict = tuple(replace(p, count=n) for p, n in zip(lost, stops, strict=True) if n)
    return tuple(moves), place, evict
