"""The way between a grid and the arrays of `large`: there with a problem, back with counts.

`solve` calls `solve_wide` past the exact path's size, and for a better start up to there. The
arrays know less than a grid (anti-affinity, movement budget): counts come back through `Room`.
"""

import math

import numpy as np

from scheduler.exact import Answer, unproven
from scheduler.greedy import complete
from scheduler.grid import MICRODOLLARS, SPOT_UNITS, Counts, Grid, Want, domain_of
from scheduler.instance import (
    DOMAINS,
    NO_LIMIT,
    ColumnArrays,
    DeploymentArrays,
    Instance,
    PoolArrays,
    assemble,
)
from scheduler.large import LargeAnswer, solve_large
from scheduler.levels import (
    COST,
    PROOF_LEVELS,
    SURVIVAL,
    WHOLE_DEPLOYMENT,
    evaluate,
    floors,
)
from skerry.fleet.packing import nodes_of_replica

# Floats of the certificate against whole units here: what is nearer than this is equal.
NEAR = 1e-9


def solve_wide(grid: Grid) -> Answer:
    """Return counts that keep every rule of the grid, with the certified bounds of the arrays."""
    instance = instance_of_grid(grid)
    found = solve_large(instance)
    counts = complete(grid, _on_grid(grid, instance, found))
    values, known = evaluate(grid, counts), floors(grid)
    bounds = list(unproven(grid, counts).bounds)
    for number, bound in enumerate(_bounds(grid, found)):
        bounds[number] = min(values[number], max(bound, known[number]))
        if number < SURVIVAL and bounds[number] < values[number]:
            break  # what is proven of a level is proven for the served set of the levels before
    prices = {
        pool: float(price) * MICRODOLLARS
        for pool, price in zip(grid.pools, found.pool_prices, strict=True)
    }
    return Answer(
        counts=counts,
        bounds=tuple(bounds),
        optimal=values[:PROOF_LEVELS] == tuple(bounds[:PROOF_LEVELS]),
        prices=prices,
    )


def _bounds(grid: Grid, found: LargeAnswer) -> list[int]:
    """Return the bounds up to cost in the grid's units; 0 where none is known."""
    unmet = [
        # Weights are rounded down here: a level that meets its bound there meets it here.
        WHOLE_DEPLOYMENT * len(grid.wants)
        if reached <= bound + NEAR
        else math.floor(bound * WHOLE_DEPLOYMENT * (1.0 - 1e-3))
        for reached, bound in zip(found.levels.unmet, found.bounds.unmet, strict=True)
    ]
    cost = math.floor(found.bounds.cost * MICRODOLLARS * (1.0 - NEAR))
    same = found.levels.survival <= found.bounds.survival + NEAR
    bounds = [*unmet, 0, cost if same else 0]
    assert len(bounds) == COST + 1
    return bounds


def instance_of_grid(grid: Grid) -> Instance:
    """Return the arrays of a grid."""
    pools = list(grid.pools.values())
    number_of = {name: number for number, name in enumerate(grid.pools)}
    columns = grid.columns
    on = np.array([number_of[column.pool] for column in columns], np.int64)
    of = np.array(
        [number for number, want in enumerate(grid.wants) for _ in want.columns], np.int64
    )
    per_node = np.array([pool.shape.accelerators_per_node for pool in pools], np.int64)
    memory = np.array([pool.shape.host_memory_bytes for pool in pools], np.float64)
    nodes = np.array([pool.shape.nodes for pool in pools], np.int64)
    whole = np.array(
        [nodes_of_replica(c.accelerators, int(per_node[on[i]])) for i, c in enumerate(columns)],
        np.int64,
    )
    plane, region, cloud = (
        np.unique([domain_of(pool, kind) for pool in pools] or [""], return_inverse=True)[1]
        for kind in DOMAINS
    )
    load = np.array([column.host_memory_bytes for column in columns], np.float64)
    supply = PoolArrays(
        nodes=nodes,
        per_node=per_node,
        node_memory=memory,
        capacity=(nodes * per_node).astype(np.float64),
        memory=nodes * memory,
        plane=plane[: len(pools)].astype(np.int64),
        region=region[: len(pools)].astype(np.int64),
        cloud=cloud[: len(pools)].astype(np.int64),
    )
    wanted = ColumnArrays(
        deployment=of,
        pool=on,
        accelerators=np.array([c.accelerators for c in columns], np.float64),
        memory=np.where(whole > 0, whole * memory[on], load) if len(on) else load,
        load_memory=load,
        throughput=np.array([c.throughput for c in columns], np.float64),
        price=np.array([c.cost_microdollars / MICRODOLLARS for c in columns], np.float64),
        move_price=np.full(len(columns), grid.move_microdollars / MICRODOLLARS),
        current=np.array([c.current for c in columns], np.int64),
        limit=np.array([c.count_max for c in columns], np.int64),
        spot=np.array([int(c.is_spot) for c in columns], np.int64),
    )
    closed = np.zeros(len(pools), np.int64)
    return assemble(supply, _deployments(grid), wanted, closed)


def _deployments(grid: Grid) -> DeploymentArrays:
    wants = grid.wants
    policies = [want.demanded.deployment.policy for want in wants]
    return DeploymentArrays(
        demand=np.array([want.demand for want in wants], np.float64),
        priority=np.array([want.priority for want in wants], np.int64),
        replicas_max=np.array([want.replicas_max for want in wants], np.float64),
        cost_max=np.array(
            [NO_LIMIT if p.cost_per_hour_max is None else p.cost_per_hour_max for p in policies],
            np.float64,
        ),
        tolerate=np.array(
            [DOMAINS.index(p.tolerate.domain) if p.tolerate else -1 for p in policies], np.int64
        ),
        keep=np.array([_share_kept(want) for want in wants], np.float64),
        spread=np.array(
            [DOMAINS.index(p.spread.domain) if p.spread else -1 for p in policies], np.int64
        ),
        domains_min=np.array([want.domains_min for want in wants], np.int64),
        spot_max=np.array(
            [
                1.0 if want.spot_units_max is None else want.spot_units_max / SPOT_UNITS
                for want in wants
            ],
            np.float64,
        ),
    )


def _share_kept(want: Want) -> float:
    return want.kept_demand / want.demand if want.demand else 0.0


def _on_grid(grid: Grid, instance: Instance, found: LargeAnswer) -> Counts:
    """Return the counts of the arrays' columns, in the grid's order."""
    names = list(grid.pools)
    at = {
        (number, grid.columns[i].pool): i
        for number, want in enumerate(grid.wants)
        for i in want.columns
    }
    counts = [0] * len(grid.columns)
    columns = instance.columns
    for index in np.flatnonzero(found.counts):
        key = (int(columns.deployment[index]), names[int(columns.pool[index])])
        counts[at[key]] = int(found.counts[index])
    return tuple(counts)
