"""What counts are worth and what is wrong with them: one judge for every method, not the solver's.

Every row of `bench_scheduler` passes here; it reads the instance and nothing of how counts were
found. Node packing is plain Python, first fit in a few orders.
"""

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from benchmarks.placement_instances import Values, arrays_of
from scheduler.compiled import Floats, Ints
from scheduler.instance import Instance
from skerry.fleet.deployment import PRIORITY_CLASSES
from skerry.fleet.placement import Placement

# A problem counts throughput in hundred-thousandths of a replica of the first shape, rounded up:
# what is short by less than this share of a demand is that rounding.
SHORT_SHARE_MIN = 1e-4
SPOT_TOLERANCE = 1e-4


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """The levels that counts reach, and what is wrong with them.

    `unmet` per class in deployments (a part counts as a part), `survival` in replicas of the first
    shape, as a plan tells them; `short` are (deployment, unmet share, survival shortfall).
    """

    faults: tuple[str, ...]
    unmet: tuple[float, ...]
    survival: float
    cost: float
    replicas: int
    short: tuple[tuple[int, float, float], ...]

    def is_as_good(self, other: "Verdict") -> bool:
        """Say whether no level before the cost is worse than the other's."""
        mine, theirs = (*self.unmet, self.survival), (*other.unmet, other.survival)
        return all(a <= b + 1e-3 * max(1.0, b) for a, b in zip(mine, theirs, strict=True))


def judge(values: Values, counts: Ints, nodes: Ints | None = None) -> Verdict:
    """Return what counts per column of the values' arrays are worth.

    `nodes` say where each replica is, as `baselines.Placed` does; without it they are packed here.
    """
    instance = arrays_of(values)
    unmet, missing = shortfalls(instance, counts)
    missing = missing / np.array(first_speeds(values))
    missing[missing < 1e-3] = 0.0
    short = np.flatnonzero((unmet > 0.0) | (missing > 0.0))
    priority = instance.deployments.priority
    return Verdict(
        faults=tuple(faults(instance, counts, nodes)),
        unmet=tuple(float(unmet[priority == k].sum()) for k in range(PRIORITY_CLASSES)),
        survival=float(missing.sum()),
        cost=float((instance.columns.price * counts).sum()),
        replicas=int(counts.sum()),
        short=tuple((int(d), float(unmet[d]), float(missing[d])) for d in short),
    )


def first_speeds(values: Values) -> list[float]:
    """Return the throughput of each deployment's first shape: a problem has them by kind."""
    return [
        min(d["configs"].items())[1]["throughput"] if d["configs"] else 1.0
        for d in values["deployments"]
    ]


def shortfalls(instance: Instance, counts: Ints) -> tuple[Floats, Floats]:
    """Return per deployment the unmet share, and the shortfall in throughput over all losses."""
    columns, wants = instance.columns, instance.deployments
    count, width = instance.size[1], instance.domains_max
    key = columns.deployment * width + instance.domain
    load = np.bincount(key, columns.throughput * counts, count * width).reshape(count, width)
    there = np.bincount(key, minlength=count * width).reshape(count, width) > 0
    total = load.sum(axis=1)
    unmet = np.maximum(0.0, 1.0 - total / np.maximum(wants.demand, 1e-300))
    unmet[(unmet < SHORT_SHARE_MIN) | (wants.demand <= 0.0)] = 0.0
    promised = np.where(wants.tolerate >= 0, wants.keep * wants.demand, 0.0)
    missing = np.maximum(0.0, promised[:, None] - (total[:, None] - load)) * there
    missing[missing < SHORT_SHARE_MIN * wants.demand[:, None]] = 0.0
    return unmet, missing.sum(axis=1)


def faults(instance: Instance, counts: Ints, nodes: Ints | None = None) -> list[str]:
    """Return what is wrong with counts: bounds, capacity, spot and nodes."""
    columns, found = instance.columns, []
    pools, deployments, _ = instance.size
    if (counts < 0).any() or (counts > columns.limit).any():
        found.append("counts out of range")
    used = np.bincount(columns.pool, counts * columns.accelerators, minlength=pools)
    if (used > instance.pools.capacity + 1e-6).any():
        found.append("accelerators overdrawn")
    placed = np.bincount(columns.deployment, counts, minlength=deployments)
    if (placed > instance.deployments.replicas_max).any():
        found.append("replicas_max exceeded")
    load = columns.throughput * counts
    served = np.bincount(columns.deployment, load, minlength=deployments)
    spot = np.bincount(columns.deployment, load * columns.spot, minlength=deployments)
    if (spot > (instance.deployments.spot_max + SPOT_TOLERANCE) * served + 1e-7).any():
        found.append("spot cap exceeded")
    if nodes is not None:
        return [*found, *_overloaded(instance, counts, nodes)]
    unpacked = [j for j in range(pools) if not packs(instance, counts, j)]
    if unpacked:
        found.append(f"{len(unpacked)} pools do not pack, first pool {unpacked[0]}")
    return found


def _overloaded(instance: Instance, counts: Ints, placed: Ints) -> list[str]:
    """Return what is wrong with replicas on the nodes that they are said to be on."""
    columns, pools = instance.columns, instance.pools
    of, node, count = placed.T
    pool = columns.pool[of]
    each = np.maximum(1, columns.accelerators[of].astype(np.int64) // pools.per_node[pool])
    # One line for each node that a replica of several nodes takes.
    several = np.repeat(np.arange(len(of)), np.where(each > 1, each * count, 1))
    turn = np.arange(len(several)) - np.searchsorted(several, several)
    at, times = node[several] + turn, np.where(each > 1, 1, count)[several]
    share = times / each[several]
    start = np.concatenate([[0], np.cumsum(pools.nodes)])
    load = np.bincount(at, share * columns.accelerators[of][several], start[-1])
    memory = np.bincount(at, share * columns.load_memory[of][several], start[-1])
    found = []
    if (start[pool[several]] > at).any() or (at >= start[pool[several] + 1]).any():
        found.append("replicas on nodes of another pool")
    if (load > np.repeat(pools.per_node, pools.nodes) + 1e-6).any():
        found.append("accelerators of nodes overdrawn")
    if (memory > np.repeat(pools.node_memory, pools.nodes) * (1 + 1e-9)).any():
        found.append("host memory of nodes overdrawn")
    if (np.bincount(of, count, len(counts)) != counts).any():
        found.append("replicas without a node")
    return found


def packs(instance: Instance, counts: Ints, j: int) -> bool:
    """Say whether a pool's replicas fit its nodes, first fit by size in one order or another."""
    columns, pools = instance.columns, instance.pools
    mine = instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
    here = mine[counts[mine] > 0]
    per_node, memory = float(pools.per_node[j]), float(pools.node_memory[j])
    loads = [
        (float(columns.accelerators[c]), float(columns.load_memory[c]), int(counts[c]))
        for c in here
    ]
    whole = sum(int(np.ceil(load[0] / per_node)) * load[2] for load in loads if load[0] > per_node)
    small = [load for load in loads if load[0] <= per_node]
    nodes = int(pools.nodes[j]) - whole
    if nodes < 0:
        return False
    return any(
        _fits(sorted(small, key=order), nodes, (per_node, memory))
        for order in (
            lambda load: (-load[0], -load[1]),
            lambda load: (-load[1], -load[0]),
            lambda load: -(load[0] / per_node + load[1] / memory),
            lambda load: -max(load[0] / per_node, load[1] / memory),
        )
    )


def _fits(loads: list[tuple[float, float, int]], count: int, shape: tuple[float, float]) -> bool:
    nodes = [list(shape) for _ in range(count)]
    for accelerators, memory, left in loads:
        for node in nodes:
            if node[0] < accelerators or node[1] < memory:
                continue
            fit = min(left, int(node[0] // accelerators))
            if memory:
                fit = min(fit, int(node[1] // memory))
            node[0] -= fit * accelerators
            node[1] -= fit * memory
            left -= fit
            if not left:
                break
        if left:
            return False
    return True


def counts_of(instance: Instance, placements: Iterable[Placement]) -> tuple[Ints, list[str]]:
    """Return the counts of a plan per column, and the placements that are on no column."""
    columns, pools = instance.columns, instance.size[0]
    at = {
        key: number
        for number, key in enumerate((columns.deployment * pools + columns.pool).tolist())
    }
    counts, strange = np.zeros(instance.size[2], np.int64), []
    for placement in placements:
        # The names that `skerry.cli.schedule` gives: d-ID and PLANE--pool-ID.
        deployment = int(placement.deployment.rpartition("-")[2])
        number = at.get(deployment * pools + int(placement.pool.rpartition("-")[2]))
        if number is None:
            strange.append(f"{placement.deployment} may not run on {placement.pool}")
        else:
            counts[number] += placement.count
    return counts, strange


def changed(values: Values, demand: Iterable[float] = (), lost: Iterable[int] = ()) -> Values:
    """Return the values with other demands, and without the nodes of lost pools."""
    gone, told = set(lost), list(demand)
    pools = [{**pool, "nodes": 0} if pool["id"] in gone else pool for pool in values["pools"]]
    wants = values["deployments"]
    if told:
        wants = [{**want, "demand": amount} for want, amount in zip(wants, told, strict=True)]
    return {**values, "pools": pools, "deployments": wants}
