"""Decided targets into the scheduler's envelopes, and what planes are told beside them. Pure.

The scheduler's floor and ceiling bound everything; the global loop moves the target between them.
What it has not decided stays as the scheduler has it.
"""

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import replace

from control_plane.reconcile.snapshot import Demand, Snapshot
from skerry.fleet.autoscaling.scaled import Scaled
from skerry.fleet.autoscaling.splitting import PlaneShare, largest_remainder, nearest, split
from skerry.fleet.autoscaling.told import ScalingTerms
from skerry.fleet.deployment import Deployment
from skerry.fleet.desired import AUTOSCALING
from skerry.fleet.placement import Envelope
from skerry.fleet.pool import Pool
from skerry.fleet.rollout import Stage

# Of a rollout that has nothing more to try.
AT_REST = (Stage.COMPLETE, Stage.ROLLED_BACK)
# Warm spares by deployment and plane.
Spares = Mapping[tuple[str, str], int]


def demand_of(deployment: Deployment, scaled: Scaled | None) -> int:
    """Return how many replicas the scheduler is to place: what the load needs, from the floor on.

    One that may be scaled to nothing keeps the place of one, to come back to.
    """
    scaling = deployment.scaling
    decided = scaled.demand if scaled is not None and scaling.scales else 0
    least = max(scaling.min_replicas, 1 if scaling.scales else 0)
    return min(max(least, decided), scaling.max_replicas)


def floor_of(deployment: Deployment, scaled: Scaled | None) -> int:
    """Return the least number of replicas over all planes, by the time of day too."""
    scaling = deployment.scaling
    decided = scaled.floor if scaled is not None and scaling.scales else 0
    return min(max(scaling.min_replicas, decided), scaling.max_replicas)


def wanted_of(deployment: Deployment, scaled: Scaled | None, placed: int) -> int:
    """Return how many replicas are meant to run, of `placed` that the scheduler wants placed.

    Places above the floor are kept for load; what runs there is what the targets say.
    """
    floor = floor_of(deployment, scaled)
    if demand_of(deployment, scaled) > floor:
        placed = min(placed, floor)
    decided = sum(count for _, count in scaled.targets) if scaled is not None else 0
    return max(placed, min(decided, deployment.scaling.max_replicas))


def scaled_envelopes(envelopes: Sequence[Envelope], snapshot: Snapshot) -> tuple[Envelope, ...]:
    """Return the scheduler's envelopes with floors and targets as the global loop has them."""
    moving = {
        demand.deployment.name: demand.deployment
        for demand in snapshot.demands
        if demand.deployment.scaling.scales and not demand.deleting
    }
    if not moving:
        return tuple(envelopes)
    pools = {pool.name: pool for pool in snapshot.pools}
    by_deployment: dict[str, list[Envelope]] = defaultdict(list)
    for envelope in envelopes:
        if envelope.deployment in moving and envelope.pool in pools:
            by_deployment[envelope.deployment].append(envelope)
    at_rest = {one.deployment for one in snapshot.rollouts if one.stage in AT_REST}
    changed: dict[tuple[str, str], Envelope] = {}
    for name, mine in by_deployment.items():
        scaled = snapshot.scaled(name)
        tried = name not in at_rest
        for envelope in _scaled(moving[name], scaled, mine, snapshot, pools, is_tried=tried):
            changed[name, envelope.pool] = envelope
    return tuple(changed.get((one.deployment, one.pool), one) for one in envelopes)


def terms_of(
    demand: Demand, snapshot: Snapshot, plane: str, here: Sequence[Envelope], spares: Spares
) -> ScalingTerms | None:
    """Return what a plane needs to scale the deployment; None where there is nothing to scale."""
    deployment = demand.deployment
    if demand.deleting or not here or not deployment.scaling.scales:
        return None
    scaled = snapshot.scaled(deployment.name)
    return ScalingTerms(
        fleet_target=snapshot.fleet_target(deployment.name, plane) is not None,
        cold_start_seconds=scaled.cold_start_seconds if scaled is not None else 0.0,
        warm_spares=spares.get((deployment.name, plane), 0),
    )


def price_of(deployment: Deployment, pool: Pool) -> float:
    """Return what a replica costs an hour on a pool, 0 where no price was told."""
    shape = deployment.revision.shape_on(pool.shape.accelerator)
    return (shape.accelerators if shape else 0) * (pool.terms.price_per_accelerator_hour or 0.0)


def lowered_floors(deployment: Deployment, floor: int, counts: Mapping[str, int]) -> dict[str, int]:
    """Return floors by pool that add up to the deployment's, out of what is placed there.

    Where it is spread, or must outlive a loss, every pool keeps its part, rounded up: a place is
    not given up for being above the floor.
    """
    placed = sum(counts.values())
    if floor >= placed:
        return dict(counts)
    if deployment.policy.spread is not None or deployment.policy.tolerate is not None:
        return {pool: -(-count * floor // placed) for pool, count in counts.items()}
    shares = [
        PlaneShare(plane=pool, running=count, floor=0, ceiling=count, engine=None)
        for pool, count in sorted(counts.items())
    ]
    return largest_remainder(floor, shares, {pool: float(many) for pool, many in counts.items()})


def _scaled(
    deployment: Deployment,
    scaled: Scaled | None,
    mine: Sequence[Envelope],
    snapshot: Snapshot,
    pools: Mapping[str, Pool],
    *,
    is_tried: bool,
) -> Iterable[Envelope]:
    counts = {one.pool: one.target for one in mine}
    floor, floors = floor_of(deployment, scaled), counts
    if is_tried:
        floor = max(floor, 1)  # by one replica, whether anybody asks for it or not
    if demand_of(deployment, scaled) > floor:
        floors = lowered_floors(deployment, floor, counts)
    by_plane: dict[str, list[Envelope]] = defaultdict(list)
    for one in mine:
        by_plane[pools[one.pool].plane.name].append(one)
    targets = _targets(deployment, scaled, by_plane, snapshot, pools)
    for plane, here in by_plane.items():
        if not understands(snapshot, plane):
            yield from here  # it runs what its target says, and tells us of no load
            continue
        bounded = [replace(one, floor=floors[one.pool], target=floors[one.pool]) for one in here]
        target = targets.get(plane)
        if target is None:
            yield from bounded
            continue
        found = _over_pools(deployment, target, bounded, counts, pools)
        for one in bounded:
            yield replace(one, target=found[one.pool])


def _targets(
    deployment: Deployment,
    scaled: Scaled | None,
    by_plane: Mapping[str, Sequence[Envelope]],
    snapshot: Snapshot,
    pools: Mapping[str, Pool],
) -> dict[str, int]:
    """Return the targets by plane; those of planes without room any more go to the others.

    A plane that was lost, or that the scheduler has left, takes no capacity along: its part starts
    elsewhere at once, where it is cheapest, and is decided anew within a round.
    """
    if scaled is None or not scaled.targets:
        return {}
    room = {plane: sum(one.ceiling for one in here) for plane, here in by_plane.items()}
    found = {plane: min(many, room[plane]) for plane, many in scaled.targets if plane in room}
    orphans = sum(many for _, many in scaled.targets) - sum(found.values())
    if orphans <= 0:
        return found

    def price(plane: str) -> float:
        return min(price_of(deployment, pools[one.pool]) for one in by_plane[plane])

    for plane in sorted(room, key=lambda plane: (price(plane), plane)):
        held = found.get(plane, sum(one.floor for one in by_plane[plane]))
        more = min(orphans, max(0, room[plane] - held))
        if more > 0 and understands(snapshot, plane):
            found[plane] = held + more
            orphans -= more
    return found


def _over_pools(
    deployment: Deployment,
    target: int,
    here: Sequence[Envelope],
    counts: Mapping[str, int],
    pools: Mapping[str, Pool],
) -> dict[str, int]:
    """Return a plane's target by pool: what is placed first, more where it is cheapest."""
    if len(here) == 1:  # as nearly all of thousands have it
        (one,) = here
        return {one.pool: min(max(target, one.floor), one.ceiling)}
    shares = [
        PlaneShare(
            plane=one.pool,
            running=min(max(counts[one.pool], one.floor), one.ceiling),
            floor=one.floor,
            ceiling=one.ceiling,
            engine=None,
            price_per_hour=price_of(deployment, pools[one.pool]),
        )
        for one in here
    ]
    target = min(max(target, sum(s.floor for s in shares)), sum(s.ceiling for s in shares))
    return nearest(target, shares, split(target, shares, {}, 1.0))


def spares_of(snapshot: Snapshot) -> Spares:
    """Return each plane's part of the warm spares: where they are cheapest, inside its room."""
    wanted = {
        demand.deployment.name: demand.deployment
        for demand in snapshot.demands
        if demand.deployment.scaling.warm_spares and not demand.deleting
    }
    if not wanted:
        return {}
    pools = {pool.name: pool for pool in snapshot.pools}
    room: dict[str, dict[str, int]] = defaultdict(lambda: defaultdict(int))
    prices: dict[tuple[str, str], float] = {}
    for one in snapshot.envelopes:
        deployment, pool = wanted.get(one.deployment), pools.get(one.pool)
        if deployment is None or pool is None:
            continue
        plane, price = pool.plane.name, price_of(deployment, pool)
        room[one.deployment][plane] += one.ceiling - one.floor
        key = (one.deployment, plane)
        prices[key] = min(price, prices.get(key, price))
    found: dict[tuple[str, str], int] = {}
    for name, here in room.items():
        shares = [
            PlaneShare(
                plane=plane,
                running=0,
                floor=0,
                ceiling=many,
                engine=None,
                price_per_hour=prices[name, plane],
            )
            for plane, many in sorted(here.items())
        ]
        parts = split(wanted[name].scaling.warm_spares, shares, {}, 1.0)
        found |= {(name, plane): many for plane, many in parts.items()}
    return found


def understands(snapshot: Snapshot, plane: str) -> bool:
    """Say whether the plane scales by itself; one that is not heard is what it last was."""
    view, stored = snapshot.plane(plane), snapshot.desired_of(plane)
    if view is not None and view.link.report is not None:
        return AUTOSCALING in view.link.report.features
    if stored is None:
        return False
    return any(one.scaling is not None for one in stored.assignments)
