"""Why a demand can't be met: the fewest kinds of constraints that together rule it out.

`explain` asks. Every family of constraints hangs on one literal of a CP-SAT model of this one
deployment; the core that CP-SAT names is shrunk by leaving out one family after the other.
"""

# Annotations name modules that are imported later.
from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field
from enum import StrEnum

from scheduler.feasibility import bars_by_pool, latency_table, nothing_new, too_far
from scheduler.grid import SPOT_UNITS, Counts, Grid, Want, cost_microdollars, ratio
from scheduler.levels import moves_of
from scheduler.modelling import cp_model
from skerry.fleet.deployment import ResourceShape
from skerry.fleet.packing import Load, fits, nodes_of_replica
from skerry.fleet.pool import CapacityClass, Pool, resides
from skerry.fleet.spanning import why_on_one_host, why_on_one_node

DETERMINISTIC_TIME_MAX = 0.2  # of one question; the model has one integer for each pool


class Family(StrEnum):
    """Kinds of constraints, as an operator would name them."""

    RESIDENCY = "residency"
    CLOUDS = "clouds"
    REGIONS = "regions"
    CLASSES = "capacity classes"
    LATENCY = "latency"
    NAMED_POOLS = "named pools"
    CLOSED = "cordons, bars and missing prices"
    NODES = "size of nodes"
    POOLS = "size of pools"
    OTHERS = "what other deployments hold"
    APART = "anti-affinity"
    SPOT = "spot share"
    COST = "cost ceiling"
    REPLICAS = "max_replicas"
    MOVES = "movement budget"


@dataclass(slots=True, kw_only=True)
class _Model:
    """One deployment on every pool of its kinds; a family's rows hold while its literal does."""

    cp: cp_model.CpModel = field(default_factory=lambda: cp_model.CpModel())
    count: dict[str, cp_model.IntVar] = field(default_factory=dict)
    literal: dict[Family, cp_model.IntVar] = field(default_factory=dict)

    def when(
        self,
        family: Family,
        row: cp_model.BoundedLinearExpression | bool,
        *also: cp_model.LiteralT,
    ) -> None:
        """Add a row that holds while the family does, and the other literals with it."""
        if family not in self.literal:
            self.literal[family] = self.cp.new_bool_var(family.value)
        self.cp.add(row).only_enforce_if(self.literal[family], *also)


def conflict(grid: Grid, want: Want, counts: Counts) -> tuple[Family, ...]:
    """Return a minimal set of families that rules out the whole demand beside the other counts.

    Empty when the demand could be met (or nobody knows in the time there is); the kind of
    accelerator is no family: without a pool of it nothing else matters, and the set is empty too.
    """
    model = _build(grid, want, counts)
    families = [family for family in Family if family in model.literal]
    core = _core(model, families)
    if core is None:
        return ()
    for family in list(core):
        rest = [other for other in core if other is not family]
        if _core(model, rest) is not None:
            core = rest
    return tuple(core)


def _core(model: _Model, families: Sequence[Family]) -> list[Family] | None:
    """Return which of the families conflict, None when they don't or when time is up."""
    model.cp.clear_assumptions()
    model.cp.add_assumptions([model.literal[family] for family in families])
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = 1
    solver.parameters.max_deterministic_time = DETERMINISTIC_TIME_MAX
    if solver.solve(model.cp) != cp_model.INFEASIBLE:
        return None
    named = set(solver.sufficient_assumptions_for_infeasibility())
    found = [family for family in families if model.literal[family].index in named]
    return found or list(families)


def _build(grid: Grid, want: Want, counts: Counts) -> _Model:
    model = _Model()
    served: list[cp_model.LinearExpr] = []
    rates: list[tuple[Pool, int]] = []
    demanded, apart = want.demanded, _planes_apart(grid, want, counts)
    for name, pool in grid.pools.items():
        shape = demanded.deployment.revision.shape_on(pool.shape.accelerator)
        if shape is None:
            continue
        worth = max(1, math.ceil(ratio(shape, demanded) * want.scale - 1e-9))  # as the grid has it
        # Enough to serve all of it here: more decides nothing, and sums stay in 64 bits.
        count = model.cp.new_int_var(0, max(1, -(-want.demand // worth)), name)
        model.count[name] = count
        served.append(worth * count)
        rates.append((pool, worth))
        _where(model, grid, want, pool)
        _how_many(model, grid, want, counts, (pool, shape))
        if pool.plane.name in apart:
            model.when(Family.APART, count == 0)
    model.cp.add(cp_model.LinearExpr.sum(served) >= want.demand)
    _in_all(model, grid, want, rates)
    _moved(model, grid, want, counts)
    return model


def _where(model: _Model, grid: Grid, want: Want, pool: Pool) -> None:
    """Rule the pool out, each family by itself."""
    policy, plane = want.demanded.deployment.policy, pool.plane
    bar = bars_by_pool(grid.problem.bars).get(pool.name)
    latencies = latency_table(grid.problem.latencies)
    runs = next((grid.columns[i].current for i in want.columns if _is_on(grid, i, pool)), 0)
    named = want.demanded.pools
    for family, holds in (
        (Family.RESIDENCY, resides(plane.residency_zones, policy.residency_zones)),
        (Family.CLOUDS, not policy.clouds or plane.cloud in policy.clouds),
        (Family.REGIONS, not policy.regions or plane.region in policy.regions),
        (
            Family.CLASSES,
            not policy.capacity_classes or pool.terms.capacity_class in policy.capacity_classes,
        ),
        (Family.LATENCY, too_far(want.demanded.deployment, pool, latencies) is None),
        (Family.NAMED_POOLS, named is None or pool.name in named),
    ):
        if not holds:
            model.when(family, model.count[pool.name] == 0)
    if nothing_new(pool, bar) is not None:
        model.when(Family.CLOSED, model.count[pool.name] <= runs)


def _how_many(
    model: _Model, grid: Grid, want: Want, counts: Counts, on: tuple[Pool, ResourceShape]
) -> None:
    """Limit the pool by its nodes, its size and what others hold there."""
    pool, shape = on
    count, size, per_node = model.count[pool.name], pool.shape, pool.shape.accelerators_per_node
    whole = nodes_of_replica(shape.accelerators, per_node)
    fit = per_node // shape.accelerators if not whole else 0
    nodes = max(1, whole)
    engine = want.demanded.deployment.revision.engine
    one_node = bool(why_on_one_node(engine) or why_on_one_host(pool.plane))
    uneven = bool(whole) and (shape.accelerators % per_node != 0 or one_node)
    share = -(-shape.host_memory_bytes // nodes)
    if shape.host_memory_bytes and not whole:
        fit = min(fit, size.host_memory_bytes // shape.host_memory_bytes)
    if uneven or share > size.host_memory_bytes:
        model.when(Family.NODES, count == 0)
    elif whole:
        model.when(Family.POOLS, whole * count <= size.nodes)
    else:
        model.when(Family.POOLS, count <= fit * size.nodes)
    others = [i for i in grid.on_pool[pool.name] if grid.columns[i].deployment != want.name]
    if any(counts[i] for i in others):
        model.when(Family.OTHERS, count <= _fits_beside(grid, want, counts, (pool, shape)))


def _fits_beside(grid: Grid, want: Want, counts: Counts, on: tuple[Pool, ResourceShape]) -> int:
    """Return how many replicas the pool's nodes take beside those of others."""
    pool, shape = on
    others = [
        Load(
            key=grid.columns[i].deployment,
            accelerators=grid.columns[i].accelerators,
            host_memory_bytes=grid.columns[i].host_memory_bytes,
            count=counts[i],
        )
        for i in grid.on_pool[pool.name]
        if counts[i] and grid.columns[i].deployment != want.name
    ]
    node = pool.shape.nodes, pool.shape.accelerators_per_node, pool.shape.host_memory_bytes
    low, high = 0, min(want.replicas_max, pool.shape.accelerators // shape.accelerators)
    while low < high:
        middle = (low + high + 1) // 2
        mine = Load(
            key=want.name,
            accelerators=shape.accelerators,
            host_memory_bytes=shape.host_memory_bytes,
            count=middle,
        )
        low, high = (middle, high) if fits(*node, [*others, mine]) else (low, middle - 1)
    return low


def _in_all(model: _Model, grid: Grid, want: Want, rates: Sequence[tuple[Pool, int]]) -> None:
    """Limit all replicas together: number, money, spot."""
    deployment = want.demanded.deployment
    replicas = cp_model.LinearExpr.sum(list(model.count.values()))
    model.when(Family.REPLICAS, replicas <= want.replicas_max)
    if want.cost_microdollars_max is not None:
        spent = []
        for pool, _ in rates:
            shape = deployment.revision.shape_on(pool.shape.accelerator)
            accelerators = shape.accelerators if shape else 0
            spent.append(cost_microdollars(pool, accelerators) * model.count[pool.name])
        most = want.cost_microdollars_max
        model.when(Family.COST, cp_model.LinearExpr.sum(spent) <= most)
    if want.spot_units_max is not None:
        excess = []
        for pool, worth in rates:
            is_spot = pool.terms.capacity_class is CapacityClass.SPOT
            weight = SPOT_UNITS * is_spot - want.spot_units_max
            excess.append(worth * weight * model.count[pool.name])
        model.when(Family.SPOT, cp_model.LinearExpr.sum(excess) <= 0)


def _moved(model: _Model, grid: Grid, want: Want, counts: Counts) -> None:
    """Limit how many replicas stop while others start to what the others' moves leave."""
    runs = {grid.columns[i].pool: grid.columns[i].current for i in want.columns}
    budget = grid.problem.moves_max
    if budget is None or not any(runs.values()):
        return
    others = (other for other in grid.wants if other.name != want.name)
    left = max(0, budget - sum(moves_of(grid, other, counts) for other in others))
    started, stopped = [], []
    for pool, count in model.count.items():
        running = runs.get(pool, 0)
        more = model.cp.new_int_var(0, max(1, want.demand), f"more-{pool}")
        fewer = model.cp.new_int_var(0, running, f"fewer-{pool}")
        model.cp.add(more >= count - running)
        model.cp.add(fewer >= running - count)
        started.append(more)
        stopped.append(fewer)
    few_start = model.cp.new_bool_var("few start")
    model.when(Family.MOVES, cp_model.LinearExpr.sum(started) <= left, few_start)
    model.when(Family.MOVES, cp_model.LinearExpr.sum(stopped) <= left, ~few_start)


def _is_on(grid: Grid, index: int, pool: Pool) -> bool:
    return grid.columns[index].pool == pool.name


def _planes_apart(grid: Grid, want: Want, counts: Counts) -> frozenset[str]:
    """Return the planes that hold replicas of somebody who keeps apart from this deployment."""
    named = want.demanded.deployment.policy.anti_affinity
    return frozenset(
        grid.pools[grid.columns[i].pool].plane.name
        for other in grid.wants
        if other.name in named or want.name in other.demanded.deployment.policy.anti_affinity
        for i in other.columns
        if counts[i]
    )
