"""How many replicas the scheduler is to place for what the load needs, and what is short. Pure.

More than the floor is asked for only where no envelope has the room, and only as far as
accelerators are free: growth takes no place of what others are promised.
"""

import math
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

from control_plane.autoscale.targets import price_of
from scheduler.feasibility import bars_by_pool, latency_table, rejection
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import Deployment
from skerry.fleet.placement import Placement


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What a deployment needs, what its envelopes have room for, and what was to be placed."""

    deployment: Deployment
    wanted: int
    floor: int
    ceiling: int
    demand: int  # decided before
    placed: int  # by the plan in force

    @property
    def is_short(self) -> bool:
        """Say whether more is needed than its envelopes can take."""
        return self.wanted > self.ceiling


@dataclass(frozen=True, slots=True, kw_only=True)
class Provision:
    """How many replicas to place, how many find no place, and what one would cost an hour."""

    demand: int
    unmet: int = 0
    dollars_per_hour: float | None = None


def provide(
    wishes: Iterable[Wish], problem: Callable[[], PlacementProblem], placed: Sequence[Placement]
) -> dict[str, Provision]:
    """Return what is to be placed of each deployment; what is free goes by class, then by name.

    `placed` is the plan in force; the problem is made where something is short.
    """
    order = sorted(wishes, key=lambda w: (w.deployment.policy.priority, w.deployment.name))
    found: dict[str, Provision] = {}
    asked: PlacementProblem | None = None
    free: dict[str, int] = {}
    for wish in order:
        if not wish.is_short:
            found[wish.deployment.name] = Provision(demand=settled(wish))
            continue
        if asked is None:
            asked = problem()
            free = _free(asked, placed)
        found[wish.deployment.name] = _raised(wish, asked, free)
    return found


def settled(wish: Wish) -> int:
    """Return what is to be placed where there is room: no more than before, from the floor on.

    It falls with what is needed, which falls after a whole scale-down delay, and to what found a
    place: what is asked for without one might take that of others.
    """
    return max(least_of(wish), min(wish.demand, wish.wanted, wish.placed))


def least_of(wish: Wish) -> int:
    """Return what is placed at least: one that is scaled to nothing keeps a place to come back."""
    return max(wish.floor, 1)


def _raised(wish: Wish, problem: PlacementProblem, free: dict[str, int]) -> Provision:
    deployment = wish.deployment
    most = min(wish.wanted, deployment.scaling.max_replicas)
    pools = _eligible(deployment, problem)
    demand = wish.placed
    for pool, size, _ in pools:
        more = min(most - demand, max(0, free.get(pool, 0)) // size)
        if more > 0:
            demand += more
            free[pool] -= more * size
    demand = max(demand, least_of(wish))
    unmet = max(0, wish.wanted - max(demand, wish.ceiling))
    prices = [price for _, _, price in pools if price > 0.0]
    return Provision(
        demand=demand, unmet=unmet, dollars_per_hour=min(prices, default=None) if unmet else None
    )


def _eligible(deployment: Deployment, problem: PlacementProblem) -> list[tuple[str, int, float]]:
    """Return pools that may take more of it, with a replica's size and price, cheapest first."""
    demanded = next((d for d in problem.demands if d.deployment.name == deployment.name), None)
    if demanded is None:
        demanded = DemandedDeployment(deployment=deployment)
    bars, latencies = bars_by_pool(problem.bars), latency_table(problem.latencies)
    found = []
    for pool in problem.pools:
        shape = deployment.revision.shape_on(pool.shape.accelerator)
        why_not = rejection(demanded, pool, bar=bars.get(pool.name), runs=0, latencies=latencies)
        if shape is not None and why_not is None:
            found.append((pool.name, shape.accelerators, price_of(deployment, pool)))
    return sorted(found, key=lambda one: (one[2], one[0]))


def _free(problem: PlacementProblem, placed: Sequence[Placement]) -> dict[str, int]:
    """Return the accelerators by pool that no placement has, less the reserve."""
    kinds = {pool.name: pool.shape.accelerator for pool in problem.pools}
    free = {
        pool.name: pool.shape.accelerators
        - math.ceil(pool.shape.accelerators * problem.reserve_fraction - 1e-9)
        for pool in problem.pools
    }
    shapes = {d.deployment.name: d.deployment.revision for d in problem.demands}
    for placement in placed:
        revision = shapes.get(placement.deployment)
        if revision is None or placement.pool not in free:
            continue
        shape = revision.shape_on(kinds[placement.pool])
        free[placement.pool] -= placement.count * (shape.accelerators if shape else 1)
    return free
