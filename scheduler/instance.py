"""A placement problem as arrays: one column per deployment and pool that may host it.

`large` and its steps work on it; `arrays` makes it from a PlacementProblem, benchmark generators
make it directly with `assemble`. Sorted by (deployment, plane, pool): input order is gone here.
"""

import math
from dataclasses import dataclass

import numpy as np

from scheduler.compiled import Floats, Ints
from skerry.fleet.deployment import FailureDomain

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
    pool j; `domain` and `spread_domain` number failure domains from 0 inside each deployment, of
    the kind it tolerates or spreads over. Column c and its rivals
    `rivals[rival_first[c]:rival_first[c + 1]]`, all on its plane, are not used together. `bill` is
    the full price of a replica by column, which cost ceilings speak of. At most `moves_max` healthy
    replicas go elsewhere.
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
    rival_first: Ints
    rivals: Ints
    bill: Floats
    moves_max: float = NO_LIMIT

    @property
    def size(self) -> tuple[int, int, int]:
        """Return the numbers of pools, deployments and columns."""
        return len(self.pools.nodes), len(self.deployments.demand), len(self.columns.pool)


def assemble(
    pools: PoolArrays,
    deployments: DeploymentArrays,
    columns: ColumnArrays,
    closed: Ints,
    bill: Floats | None = None,
) -> Instance:
    """Return the instance of unsorted columns; `closed` pools (1) take nothing beyond `current`.

    `bill` is the full price of a replica by column where that is not `price`. Columns that can hold
    no replica are dropped, and spot columns of deployments without spot.
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
        rival_first=np.zeros(len(sorted_columns.pool) + 1, np.int64),
        rivals=np.zeros(0, np.int64),
        bill=sorted_columns.price if bill is None else np.ascontiguousarray(bill[order]),
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
