"""The scheduler's output: placements and envelopes with their reasons, and what a plan changes.

`solve` makes plans, `check` judges them, the control plane stores them with every reason.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from skerry.fleet.placement import Envelope, Placement


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


@dataclass(frozen=True, slots=True, kw_only=True)
class PlacementPlan:
    """Where replicas go. `optimal`: unmet demand, survival and cost are proven to be the least."""

    placements: tuple[Placement, ...]
    envelopes: tuple[Envelope, ...]
    unplaced: tuple[Unplaced, ...]
    rejections: tuple[Rejection, ...]
    levels: tuple[LevelValue, ...]
    cost_per_hour: float
    solver: str
    optimal: bool


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
    keep, gained, lost = [], [], []
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
    moves: list[Move] = []
    left = [[p, p.count] for p in lost]
    place: list[Placement] = []
    for start in gained:
        missing = start.count
        for entry in left:
            stop, remaining = entry
            assert isinstance(stop, Placement)
            assert isinstance(remaining, int)
            count = min(missing, remaining)
            if stop.deployment == start.deployment and count > 0:
                moves.append(
                    Move(
                        deployment=start.deployment,
                        from_pool=stop.pool,
                        to_pool=start.pool,
                        count=count,
                    )
                )
                missing -= count
                entry[1] = remaining - count
        if missing:
            place.append(_with_count(start, missing))
    evict = [_with_count(p, n) for p, n in left if isinstance(p, Placement) and isinstance(n, int)]
    return tuple(moves), tuple(place), tuple(p for p in evict if p.count)


def _with_count(placement: Placement, count: int) -> Placement:
    return Placement(
        deployment=placement.deployment,
        pool=placement.pool,
        count=count,
        reason=placement.reason,
    )
