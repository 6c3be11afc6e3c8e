"""Smaller problems about one deployment of a large fleet: all others are held where they are.

`explain` asks them, where solving the whole fleet for each question would take minutes.
"""

import math
from collections import defaultdict
from collections.abc import Collection, Mapping
from dataclasses import dataclass, replace

from scheduler.feasibility import bars_by_pool, latency_table, rejection
from scheduler.grid import cheapest_prices, ratio
from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import PlacementPolicy, Scaling
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool

# Ways out are sought on so many of the cheapest pools that may host it, and on twice as many of
# its kinds that have room: each way takes a greedy plan of all that runs there.
POOLS_TRIED_MAX = 5


def beside_others(problem: PlacementProblem, plan: PlacementPlan, name: str) -> PlacementProblem:
    """Return the problem after the plan, in which the others stay on the pools they are on.

    Their demand and promises stay as well, so that the levels can be laid beside the plan's.
    """
    on = _pools_by_deployment(plan)
    demands = tuple(
        demanded
        if demanded.deployment.name == name
        else replace(demanded, pools=tuple(on[demanded.deployment.name]))
        for demanded in problem.demands
    )
    return replace(problem, demands=demands, current=plan.placements, moves_max=None)


def of_its_kinds(
    problem: PlacementProblem, plan: PlacementPlan, demanded: DemandedDeployment
) -> PlacementProblem:
    """Return the problem of the pools whose kind the deployment has a shape for."""
    kinds = {shape.accelerator for shape in demanded.deployment.revision.shapes}
    kept = [pool.name for pool in problem.pools if pool.shape.accelerator in kinds]
    return _held(problem, plan, demanded, kept)


def where_it_may_help(
    problem: PlacementProblem, plan: PlacementPlan, demanded: DemandedDeployment
) -> PlacementProblem:
    """Return the problem of few pools: where it runs, the cheapest, and those with room.

    With them the cheapest of each kind, as what tells no price is counted at that.
    """
    name, revision = demanded.deployment.name, demanded.deployment.revision
    bars, latencies = bars_by_pool(problem.bars), latency_table(problem.latencies)
    taken, prices = _accelerators_taken(problem, plan), cheapest_prices(problem.pools)
    open_ones: list[tuple[float, str]] = []
    roomy: list[tuple[float, str]] = []
    cheapest: dict[str, tuple[float, str]] = {}
    for pool in problem.pools:
        shape = revision.shape_on(pool.shape.accelerator)
        if shape is None:
            continue
        kind, price = pool.shape.accelerator, pool.terms.price_per_accelerator_hour
        if price is None:
            price = prices.get(kind, math.inf)
        else:
            cheapest[kind] = min((price, pool.name), cheapest.get(kind, (price, pool.name)))
        rated = price * shape.accelerators / ratio(shape, demanded), pool.name
        bar = bars.get(pool.name)
        if rejection(demanded, pool, bar=bar, runs=0, latencies=latencies) is None:
            open_ones.append(rated)
        if pool.shape.accelerators - taken[pool.name] >= shape.accelerators:
            roomy.append(rated)
    kept = {p.pool for p in plan.placements if p.deployment == name}
    kept.update(pool for _, pool in sorted(open_ones)[:POOLS_TRIED_MAX])
    kept.update(pool for _, pool in sorted(roomy)[: 2 * POOLS_TRIED_MAX])
    kept.update(pool for _, pool in cheapest.values())
    return _held(problem, plan, demanded, kept)


def _pools_by_deployment(plan: PlacementPlan) -> Mapping[str, list[str]]:
    on: dict[str, list[str]] = defaultdict(list)
    for placement in plan.placements:
        on[placement.deployment].append(placement.pool)
    return on


def _accelerators_taken(problem: PlacementProblem, plan: PlacementPlan) -> Mapping[str, int]:
    kinds = {pool.name: pool.shape.accelerator for pool in problem.pools}
    revisions = {d.deployment.name: d.deployment.revision for d in problem.demands}
    taken: dict[str, int] = defaultdict(int)
    for placement in plan.placements:
        shape = revisions[placement.deployment].shape_on(kinds[placement.pool])
        assert shape is not None, "a checked plan places only where a shape fits"
        taken[placement.pool] += shape.accelerators * placement.count
    return taken


@dataclass(slots=True, kw_only=True)
class _Hold:
    """What one of the others holds on the pools that are kept."""

    pools: list[str]
    count: int = 0
    worth: float = 0.0


def _held(
    problem: PlacementProblem,
    plan: PlacementPlan,
    demanded: DemandedDeployment,
    kept: Collection[str],
) -> PlacementProblem:
    """Return the problem of some pools, on which the others want what they have and no more."""
    name, names = demanded.deployment.name, frozenset(kept)
    pools = {pool.name: pool for pool in problem.pools if pool.name in names}
    others = {d.deployment.name: d for d in problem.demands if d.deployment.name != name}
    placements = [p for p in plan.placements if p.pool in names]
    held = _holds(placements, others, pools)
    return replace(
        problem,
        pools=tuple(pools.values()),
        demands=(demanded, *(_satisfied(others[o], held[o]) for o in sorted(held))),
        current=tuple(p for p in placements if p.deployment == name or p.deployment in held),
        bars=tuple(bar for bar in problem.bars if bar.pool in names),
        moves_max=None,
    )


def _holds(
    placements: Collection[Placement],
    others: Mapping[str, DemandedDeployment],
    pools: Mapping[str, Pool],
) -> Mapping[str, _Hold]:
    held: dict[str, _Hold] = {}
    for placement in placements:
        other = others.get(placement.deployment)
        if other is None:
            continue
        kind = pools[placement.pool].shape.accelerator
        shape = other.deployment.revision.shape_on(kind)
        assert shape is not None, "a checked plan places only where a shape fits"
        hold = held.setdefault(placement.deployment, _Hold(pools=[]))
        hold.pools.append(placement.pool)
        hold.count += placement.count
        hold.worth += placement.count * ratio(shape, other)
    return held


def _satisfied(other: DemandedDeployment, hold: _Hold) -> DemandedDeployment:
    """Return a demand of what is held, without promises: only who keeps apart from whom is left.

    All are of the first class, so that no way out takes from them.
    """
    deployment = other.deployment
    policy = PlacementPolicy(priority=0, anti_affinity=deployment.policy.anti_affinity)
    scaling = Scaling(min_replicas=0, max_replicas=hold.count)
    speed = deployment.revision.shapes[0].throughput_tokens_per_second
    even = hold.worth == hold.count
    return replace(
        other,
        deployment=replace(deployment, policy=policy, scaling=scaling),
        replicas=hold.count,
        tokens_per_second=None if even or speed is None else hold.worth * speed,
        pools=tuple(hold.pools),
    )
