"""How many replicas the scheduler is to place for what the load needs, and what is short. Pure.

More than the floor is asked for only where no envelope has the room, and only as far as
accelerators are free: growth takes no place of what others are promised, may grow into or run.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass

from control_plane.autoscale.shares import Scene
from control_plane.autoscale.targets import price_of
from scheduler.feasibility import bars_by_pool, latency_table, rejection
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import Deployment
from skerry.fleet.placement import Placement

TOLERANCE = 1e-9  # of an accelerator: rounding errors reserve none


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
    """How many replicas to place, how many find no place, and what one would cost an hour.

    `floor_unmet` are of the floor: the scheduler is asked to place them all the same, and may by
    taking places of others. `has_pools` says that some pool could take more, were there room.
    """

    demand: int
    unmet: int = 0
    floor_unmet: int = 0
    dollars_per_hour: float | None = None
    has_pools: bool = True

    @property
    def unmet_dollars_per_hour(self) -> float | None:
        """Return what all that find no place would cost; None for none, and without a price."""
        short = self.unmet + self.floor_unmet
        return None if not short or self.dollars_per_hour is None else short * self.dollars_per_hour


@dataclass(frozen=True, slots=True, kw_only=True)
class Room:
    """Accelerators that nobody has, by pool, and those that a deployment has above its places.

    `above` is by deployment and pool: to place what runs there already takes nothing of others.
    """

    free: dict[str, int]
    above: dict[tuple[str, str], int]

    def replicas(self, name: str, pool: str, size: int) -> int:
        """Return how many more replicas of a size may be placed."""
        return max(0, self.free.get(pool, 0) + self.above.get((name, pool), 0)) // size

    def take(self, name: str, pool: str, accelerators: int) -> None:
        """Take them, of those that it has itself first."""
        own = min(self.above.get((name, pool), 0), accelerators)
        if own:
            self.above[name, pool] -= own
        self.free[pool] -= accelerators - own


def provide(
    wishes: Iterable[Wish],
    problem: Callable[[], PlacementProblem],
    placed: Sequence[Placement],
    scene: Scene,
) -> dict[str, Provision]:
    """Return what is to be placed of each deployment; what is free goes by class, then by name.

    `placed` is the plan in force; the problem is made where something is short.
    """
    order = sorted(wishes, key=lambda w: (w.deployment.policy.priority, w.deployment.name))
    found: dict[str, Provision] = {}
    asked: PlacementProblem | None = None
    room = Room(free={}, above={})
    for wish in order:
        if not wish.is_short:
            found[wish.deployment.name] = Provision(demand=settled(wish))
            continue
        if asked is None:
            asked = problem()
            room = room_of(asked, placed, scene)
        found[wish.deployment.name] = _raised(wish, asked, room)
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


def _raised(wish: Wish, problem: PlacementProblem, room: Room) -> Provision:
    deployment = wish.deployment
    most = min(wish.wanted, deployment.scaling.max_replicas)
    pools = _eligible(deployment, problem)
    found = wish.placed
    for pool, size, _ in pools:
        more = min(most - found, room.replicas(deployment.name, pool, size))
        if more > 0:
            found += more
            room.take(deployment.name, pool, more * size)
    held = max(found, wish.ceiling)
    floor_unmet = max(0, wish.floor - held)
    unmet = max(0, wish.wanted - max(held, wish.floor))
    prices = [price for _, _, price in pools if price > 0.0]
    return Provision(
        demand=max(found, least_of(wish)),
        unmet=unmet,
        floor_unmet=floor_unmet,
        dollars_per_hour=min(prices, default=None) if unmet or floor_unmet else None,
        has_pools=bool(pools),
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


def room_of(problem: PlacementProblem, placed: Sequence[Placement], scene: Scene) -> Room:
    """Return the accelerators that are free, less the reserve.

    A deployment has the most of what is placed of it, what its targets let it grow into, and what
    runs of it, be it on the way out.
    """
    pools = {pool.name: pool for pool in problem.pools}
    of_places: dict[tuple[str, str], int] = defaultdict(int)
    of_targets: dict[tuple[str, str], int] = defaultdict(int)
    sizes = _Sizes(scene, {name: pool.shape.accelerator for name, pool in pools.items()})
    for place in placed:
        size = sizes.of(place.deployment, place.pool)
        of_places[place.deployment, place.pool] += place.count * size
    for one in scene.envelopes:
        of_targets[one.deployment, one.pool] += one.target * sizes.of(one.deployment, one.pool)
    of_replicas = _running(scene, sizes)
    free = {
        name: pool.shape.accelerators
        - math.ceil(pool.shape.accelerators * problem.reserve_fraction - TOLERANCE)
        for name, pool in pools.items()
    }
    above: dict[tuple[str, str], int] = {}
    for key in of_places.keys() | of_targets.keys() | of_replicas.keys():
        if key[1] not in free:
            continue
        placed_here = of_places.get(key, 0)
        most = max(placed_here, of_targets.get(key, 0), of_replicas.get(key, 0))
        free[key[1]] -= most
        if most > placed_here:
            above[key] = most - placed_here
    return Room(free=free, above=above)


class _Sizes:
    """How many accelerators a replica takes, by deployment, pool and revision; looked up once."""

    def __init__(self, scene: Scene, kinds: Mapping[str, str]) -> None:
        self._kinds = kinds
        self._revisions = scene.snapshot.revisions
        self._present = {
            one.deployment.name: one.deployment.revision for one in scene.snapshot.demands
        }
        self._known: dict[tuple[str, str, int], int] = {}

    def of(self, name: str, pool: str, number: int = 0) -> int:
        """Return the size of one at a revision, the present one for 0 and for one not known."""
        key = (name, pool, number)
        if key not in self._known:
            present = self._present.get(name)
            revision = self._revisions.get(name, {}).get(number, present)
            kind = self._kinds.get(pool)
            shape = revision.shape_on(kind) if revision is not None and kind is not None else None
            self._known[key] = shape.accelerators if shape is not None else 1
        return self._known[key]


def _running(scene: Scene, sizes: _Sizes) -> dict[tuple[str, str], int]:
    found: dict[tuple[str, str], int] = defaultdict(int)
    for plane in scene.snapshot.planes:
        report = plane.link.report
        for one in report.replicas if report is not None else ():
            found[one.deployment, one.pool] += sizes.of(one.deployment, one.pool, one.revision)
    return found
