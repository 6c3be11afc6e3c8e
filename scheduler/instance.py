"""A placement problem as arrays: one column per deployment and pool that may host it.

`large` and its steps work on it; `instance_of` makes it from a PlacementProblem, benchmark
generators make it directly with `assemble`. Sorted by (deployment, plane, pool): input order is
gone after this point.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from scheduler.compiled import Floats, Ints
from scheduler.feasibility import Latencies, bars_by_pool, latency_table, nothing_new, too_far
from scheduler.grid import (
    MICRODOLLARS,
    SPOT_UNITS,
    THROUGHPUT_SCALE,
    TOKENS_SCALE,
    domain_of,
    ratio,
)
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.pool import CapacityClass, Pool, resides

NO_LIMIT = math.inf
DOMAINS = tuple(FailureDomain)


@dataclass(frozen=True, slots=True, kw_only=True)
class PoolArrays:
    """Pools in the order of their ids; `capacity` counts accelerators that may be used at all."""

    nodes: Ints
    per_node: Ints
    node_memory: Floats
    capacity: Floats
    memory: Floats
    plane: Ints
    region: Ints
    cloud: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentArrays:
    """Deployments in the order of their ids; `tolerate` is an index into DOMAINS, -1 for none.

    `demand` in throughput units; `spot_max` is a share of what is served, 1.0 for no cap.
    """

    demand: Floats
    priority: Ints
    replicas_max: Floats
    cost_max: Floats
    tolerate: Ints
    keep: Floats
    spread: Ints
    domains_min: Ints
    spot_max: Floats


@dataclass(frozen=True, slots=True, kw_only=True)
class ColumnArrays:
    """Columns; `accelerators` and `memory` are of one replica, whole nodes where it takes such.

    `load_memory` is what the packer reads; `limit` bounds the count, `move_price` adds to the
    hourly price of each replica above `current`.
    """

    deployment: Ints
    pool: Ints
    accelerators: Floats
    memory: Floats
    load_memory: Floats
    throughput: Floats
    price: Floats
    move_price: Floats
    current: Ints
    limit: Ints
    spot: Ints


@dataclass(frozen=True, slots=True, kw_only=True)
class Instance:
    """The arrays, with what every step needs of them: column ranges and local domain numbers.

    `first[d]:first[d + 1]` are the columns of deployment d, `by_pool[pool_first[j]:...]` those of
    pool j; `domain` and `spread_domain` number
    failure domains from 0 inside each deployment, of the kind it tolerates or spreads over.
    """

    pools: PoolArrays
    deployments: DeploymentArrays
    columns: ColumnArrays
    first: Ints
    domain: Ints
    spread_domain: Ints
    domains_max: int
    by_pool: Ints
    pool_first: Ints

    @property
    def size(self) -> tuple[int, int, int]:
        """Return the numbers of pools, deployments and columns."""
        return len(self.pools.nodes), len(self.deployments.demand), len(self.columns.pool)


def assemble(
    pools: PoolArrays, deployments: DeploymentArrays, columns: ColumnArrays, closed: Ints
) -> Instance:
    """Return the instance of unsorted columns; `closed` pools (1) take nothing beyond `current`.

    Columns that can hold no replica are dropped, and spot columns of deployments without spot.
    """
    of, on = columns.deployment, columns.pool
    limit = np.where(closed[on] == 1, np.minimum(columns.limit, columns.current), columns.limit)
    forbidden = (columns.spot == 1) & (deployments.spot_max[of] <= 0.0)
    kept = np.flatnonzero((limit > 0) & ~forbidden & (deployments.demand[of] > 0.0))
    order = kept[np.lexsort((on[kept], pools.plane[on[kept]], of[kept]))]
    sorted_columns = ColumnArrays(
        **{
            name: np.ascontiguousarray(
                limit[order] if name == "limit" else getattr(columns, name)[order]
            )
            for name in ColumnArrays.__slots__
        }
    )
    count = len(deployments.demand)
    first = np.searchsorted(sorted_columns.deployment, np.arange(count + 1)).astype(np.int64)
    domain = _local_domains(pools, sorted_columns, deployments.tolerate)
    spread = _local_domains(pools, sorted_columns, deployments.spread)
    used = np.bincount(
        sorted_columns.pool,
        weights=sorted_columns.accelerators * sorted_columns.current,
        minlength=len(pools.nodes),
    )
    by_pool = np.argsort(sorted_columns.pool, kind="stable").astype(np.int64)
    capacity = np.where(closed == 1, np.minimum(pools.capacity, used), pools.capacity)
    return Instance(
        pools=PoolArrays(
            nodes=pools.nodes,
            per_node=pools.per_node,
            node_memory=pools.node_memory,
            capacity=capacity,
            memory=pools.memory,
            plane=pools.plane,
            region=pools.region,
            cloud=pools.cloud,
        ),
        deployments=deployments,
        columns=sorted_columns,
        first=first,
        domain=domain,
        spread_domain=spread,
        domains_max=1 + int(max(domain.max(initial=0), spread.max(initial=0))),
        by_pool=by_pool,
        pool_first=np.searchsorted(
            sorted_columns.pool[by_pool], np.arange(len(pools.nodes) + 1)
        ).astype(np.int64),
    )


def _local_domains(pools: PoolArrays, columns: ColumnArrays, kinds: Ints) -> Ints:
    """Number the domains of each deployment from 0; without a kind every column is in domain 0."""
    kind = kinds[columns.deployment]
    fleet = np.zeros(len(kind), np.int64)
    for index, ids in enumerate((pools.plane, pools.region, pools.cloud)):
        chosen = kind == index
        fleet[chosen] = ids[columns.pool[chosen]]
    width = 1 + int(fleet.max(initial=0))
    key = columns.deployment * width + fleet
    seen, inverse = np.unique(key, return_inverse=True)
    owner = seen // width
    starts = np.searchsorted(owner, owner)
    local: Ints = (inverse - starts[inverse]).astype(np.int64)
    return local


def instance_of(problem: PlacementProblem) -> Instance:
    """Return the arrays of a problem: deployments and pools in the order of their names."""
    pools = tuple(sorted(problem.pools, key=lambda pool: pool.name))
    demands = tuple(sorted(problem.demands, key=lambda d: d.deployment.name))
    supply = _pool_arrays(pools)
    of, on, shape_of = _eligible_pairs(demands, pools, latency_table(problem.latencies))
    columns, closed = _columns(problem, demands, pools, (of, on, shape_of))
    return assemble(supply, _deployment_arrays(demands), columns, closed)


def _pool_arrays(pools: Sequence[Pool]) -> PoolArrays:
    nodes = _ints(pool.shape.nodes for pool in pools)
    per_node = _ints(pool.shape.accelerators_per_node for pool in pools)
    memory = _floats(pool.shape.host_memory_bytes for pool in pools)
    plane, region, cloud = (
        np.unique([domain_of(pool, kind) for pool in pools] or [""], return_inverse=True)[1]
        for kind in DOMAINS
    )
    return PoolArrays(
        nodes=nodes,
        per_node=per_node,
        node_memory=memory,
        capacity=(nodes * per_node).astype(np.float64),
        memory=nodes * memory,
        plane=plane[: len(pools)].astype(np.int64),
        region=region[: len(pools)].astype(np.int64),
        cloud=cloud[: len(pools)].astype(np.int64),
    )


def _deployment_arrays(demands: Sequence[DemandedDeployment]) -> DeploymentArrays:
    policies = [demanded.deployment.policy for demanded in demands]
    ceilings = [policy.cost_per_hour_max for policy in policies]
    return DeploymentArrays(
        demand=_floats(_demand(demanded) for demanded in demands),
        priority=_ints(policy.priority for policy in policies),
        replicas_max=_floats(d.deployment.scaling.max_replicas for d in demands),
        cost_max=_floats(
            NO_LIMIT if c is None else math.floor(c * MICRODOLLARS) / MICRODOLLARS for c in ceilings
        ),
        tolerate=_ints(DOMAINS.index(p.tolerate.domain) if p.tolerate else -1 for p in policies),
        # The promised part is a whole number of the demand's units, as the exact path counts it.
        keep=_floats(_kept(d) for d in demands),
        spread=_ints(DOMAINS.index(p.spread.domain) if p.spread else -1 for p in policies),
        domains_min=_ints(
            min(p.spread.domains_min, d.deployment.scaling.max_replicas)
            if p.spread and d.replicas_wanted
            else 0
            for p, d in zip(policies, demands, strict=True)
        ),
        spot_max=_floats(
            1.0
            if p.spot_share_max is None
            else math.floor(p.spot_share_max * SPOT_UNITS + 1e-9) / SPOT_UNITS
            for p in policies
        ),
    )


def _demand(demanded: DemandedDeployment) -> int:
    return math.ceil(demanded.demand_replicas * _scale(demanded) - 1e-6)


def _kept(demanded: DemandedDeployment) -> float:
    tolerate, demand = demanded.deployment.policy.tolerate, _demand(demanded)
    if tolerate is None or demand == 0:
        return 0.0
    return math.ceil(tolerate.keep * demand - 1e-9) / demand


def _eligible_pairs(
    demands: Sequence[DemandedDeployment], pools: Sequence[Pool], latencies: Latencies
) -> tuple[Ints, Ints, Ints]:
    """Return (deployment, pool, shape) of all pairs the policies allow, by groups of like pools."""
    by_kind: dict[str, list[int]] = defaultdict(list)
    for index, pool in enumerate(pools):
        by_kind[pool.shape.accelerator].append(index)
    of_kind = {kind: np.array(members, np.int64) for kind, members in by_kind.items()}
    allowed: dict[object, NDArray[np.bool_]] = {}
    of: list[Ints] = []
    on: list[Ints] = []
    shapes: list[Ints] = []
    for number, demanded in enumerate(demands):
        policy = demanded.deployment.policy
        key = (
            policy.clouds,
            policy.regions,
            policy.residency_zones,
            policy.capacity_classes,
            policy.latency,
            demanded.pools,
        )
        if key not in allowed:
            allowed[key] = _allowed(demanded, pools, latencies)
        for index, shape in enumerate(demanded.deployment.revision.shapes):
            members = of_kind.get(shape.accelerator)
            if members is None:
                continue
            members = members[allowed[key][members]]
            of.append(np.full(len(members), number, np.int64))
            on.append(members)
            shapes.append(np.full(len(members), index, np.int64))
    nothing = [np.zeros(0, np.int64)]
    return tuple(np.concatenate(part or nothing) for part in (of, on, shapes))  # type: ignore[return-value]


def _allowed(
    demanded: DemandedDeployment, pools: Sequence[Pool], latencies: Latencies
) -> NDArray[np.bool_]:
    policy = demanded.deployment.policy
    named = None if demanded.pools is None else set(demanded.pools)
    return np.array(
        [
            resides(pool.plane.residency_zones, policy.residency_zones)
            and (not policy.clouds or pool.plane.cloud in policy.clouds)
            and (not policy.regions or pool.plane.region in policy.regions)
            and (
                not policy.capacity_classes
                or pool.terms.capacity_class.value in policy.capacity_classes
            )
            and (named is None or pool.name in named)
            and (not policy.latency or not too_far(demanded.deployment, pool, latencies))
            for pool in pools
        ],
        dtype=np.bool_,
    )


def _columns(
    problem: PlacementProblem,
    demands: Sequence[DemandedDeployment],
    pools: Sequence[Pool],
    pairs: tuple[Ints, Ints, Ints],
) -> tuple[ColumnArrays, Ints]:
    of, on, shape_of = pairs
    widest = max((len(d.deployment.revision.shapes) for d in demands), default=1)
    table = np.zeros((3, len(demands), widest))
    for number, demanded in enumerate(demands):
        for index, shape in enumerate(demanded.deployment.revision.shapes):
            thousandths = math.ceil(ratio(shape, demanded) * _scale(demanded) - 1e-9)
            table[:, number, index] = (
                shape.accelerators,
                shape.host_memory_bytes,
                max(1, thousandths),
            )
    accelerators, host_memory, throughput = table[:, of, shape_of]
    per_node = _ints(pool.shape.accelerators_per_node for pool in pools)[on]
    nodes = _ints(pool.shape.nodes for pool in pools)[on]
    node_memory = _floats(pool.shape.host_memory_bytes for pool in pools)[on]
    whole = np.where(accelerators > per_node, -(-accelerators // per_node), 0.0)
    share = np.ceil(host_memory / np.maximum(whole, 1.0))
    fits = (share <= node_memory) & ((whole == 0) | (accelerators % per_node == 0))
    shared = np.floor(nodes * per_node / np.maximum(accelerators, 1.0))
    alone = np.where(whole > 0, nodes // np.maximum(whole, 1.0), shared)
    most = _ints(d.deployment.scaling.max_replicas for d in demands)[of]
    prices = _floats(pool.terms.price_per_accelerator_hour or 0.0 for pool in pools)[on]
    reserved = _ints(pool.terms.capacity_class is CapacityClass.RESERVED for pool in pools)[on]
    prices = np.where(reserved == 1, prices * problem.reserved_price_share, prices)
    spot = _ints(pool.terms.capacity_class is CapacityClass.SPOT for pool in pools)[on]
    current, closed = _current(problem, demands, pools, (of, on))
    start = problem.move_cost_dollars / problem.move_horizon_hours
    columns = ColumnArrays(
        deployment=of,
        pool=on,
        accelerators=accelerators,
        memory=np.where(whole > 0, whole * node_memory, host_memory),
        load_memory=host_memory,
        throughput=throughput,
        price=np.round(prices * accelerators * MICRODOLLARS) / MICRODOLLARS,
        move_price=np.full(len(of), start),
        current=current,
        limit=np.where(fits, np.minimum(most, alone), 0).astype(np.int64),
        spot=spot,
    )
    return columns, closed


def _current(
    problem: PlacementProblem,
    demands: Sequence[DemandedDeployment],
    pools: Sequence[Pool],
    pairs: tuple[Ints, Ints],
) -> tuple[Ints, Ints]:
    """Return what runs per pair, and which pools are closed; what ran on a lost pool is gone."""
    of, on = pairs
    bars = bars_by_pool(problem.bars)
    closed = _ints(nothing_new(pool, bars.get(pool.name)) is not None for pool in pools)
    gone = {name for name, bar in bars.items() if not bar.keeps_current}
    deployment_ids = {d.deployment.name: number for number, d in enumerate(demands)}
    pool_ids = {pool.name: number for number, pool in enumerate(pools)}
    running = np.zeros(len(demands) * len(pools), np.int64)
    for placement in problem.current:
        if placement.deployment in deployment_ids and placement.pool not in gone:
            at = deployment_ids[placement.deployment] * len(pools) + pool_ids[placement.pool]
            running[at] = placement.count
    return running[of * len(pools) + on], closed


def _scale(demanded: DemandedDeployment) -> int:
    if demanded.tokens_per_second is not None:
        return TOKENS_SCALE
    even = all(ratio(shape, demanded) == 1.0 for shape in demanded.deployment.revision.shapes)
    return 1 if even else THROUGHPUT_SCALE


def _ints(values: object) -> Ints:
    return np.fromiter(values, np.int64)  # type: ignore[call-overload,no-any-return]


def _floats(values: object) -> Floats:
    return np.fromiter(values, np.float64)  # type: ignore[call-overload,no-any-return]
