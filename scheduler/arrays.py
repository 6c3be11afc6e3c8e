"""A placement problem as arrays, with the names to read them by.

`wide` solves and tells on them. Pools and demands are in the order of their names, whatever order
the problem tells them in.
"""

import math
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from scheduler.compiled import Floats, Ints
from scheduler.feasibility import Latencies, bars_by_pool, latency_table, nothing_new, too_far
from scheduler.grid import MICRODOLLARS, SPOT_UNITS, domain_of, move_microdollars, ratio, scale_of
from scheduler.instance import (
    DOMAINS,
    NO_LIMIT,
    ColumnArrays,
    DeploymentArrays,
    Instance,
    PoolArrays,
    assemble,
)
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.pool import CapacityClass, Pool, resides
from skerry.fleet.spanning import why_on_one_host, why_on_one_node

Mask = NDArray[np.bool_]


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrays:
    """A problem and its instance; `replicas` is each demand in replicas of the first shape.

    `names` are the pools' and `deployments` the demands', in the arrays' order. `closed` says for
    each pool why nothing new may start there, None where it may.
    """

    problem: PlacementProblem
    pools: tuple[Pool, ...]
    demands: tuple[DemandedDeployment, ...]
    names: tuple[str, ...]
    deployments: tuple[str, ...]
    closed: tuple[str | None, ...]
    replicas: Floats
    instance: Instance


def arrays_of(problem: PlacementProblem) -> Arrays:
    """Return a problem's arrays and names."""
    pools = tuple(sorted(problem.pools, key=lambda pool: pool.name))
    demands = tuple(sorted(problem.demands, key=lambda d: d.deployment.name))
    bars = bars_by_pool(problem.bars)
    closed = tuple(nothing_new(pool, bars.get(pool.name)) for pool in pools)
    scales = [scale_of(demanded) for demanded in demands]
    pairs = _eligible_pairs(demands, pools, latency_table(problem.latencies))
    columns, bill = _columns(problem, demands, pools, pairs, scales)
    instance = assemble(
        _pool_arrays(pools),
        _deployment_arrays(demands, scales),
        columns,
        _ints(reason is not None for reason in closed),
        bill,
    )
    if problem.moves_max is not None:
        instance = replace(instance, moves_max=float(problem.moves_max))
    return Arrays(
        problem=problem,
        pools=pools,
        demands=demands,
        names=tuple(pool.name for pool in pools),
        deployments=tuple(demanded.deployment.name for demanded in demands),
        closed=closed,
        replicas=_floats(demanded.demand_replicas for demanded in demands),
        instance=_with_rivals(instance, demands),
    )


def updated(arrays: Arrays, problem: PlacementProblem) -> Arrays | None:
    """Return the arrays of a problem that differs in demand, in what runs or in what a start costs.

    None where more differs: then all is made anew. Whoever plans again and again changes a few
    numbers, and making 700,000 columns takes half a second.
    """
    before = arrays.problem
    demands = tuple(sorted(problem.demands, key=lambda d: d.deployment.name))
    same = (
        problem.pools == before.pools
        and problem.bars == before.bars
        and not any(arrays.closed)
        and problem.latencies == before.latencies
        and problem.moves_max == before.moves_max
        and problem.reserved_price_share == before.reserved_price_share
        and len(demands) == len(arrays.demands)
        and all(
            new.deployment == old.deployment
            and new.pools == old.pools
            and (new.tokens_per_second is None) == (old.tokens_per_second is None)
            for new, old in zip(demands, arrays.demands, strict=True)
        )
    )
    wants = _deployment_arrays(demands, [scale_of(demanded) for demanded in demands])
    instance = arrays.instance
    if not same or ((wants.demand > 0.0) != (instance.deployments.demand > 0.0)).any():
        return None
    columns = replace(
        instance.columns,
        current=running_of(
            problem, demands, arrays.pools, (instance.columns.deployment, instance.columns.pool)
        ),
        move_price=np.full(instance.size[2], move_microdollars(problem) / MICRODOLLARS),
    )
    return replace(
        arrays,
        problem=problem,
        demands=demands,
        replicas=_floats(demanded.demand_replicas for demanded in demands),
        instance=replace(instance, deployments=wants, columns=columns),
    )


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


def _deployment_arrays(
    demands: Sequence[DemandedDeployment], scales: Sequence[int]
) -> DeploymentArrays:
    policies = [demanded.deployment.policy for demanded in demands]
    ceilings = [policy.cost_per_hour_max for policy in policies]
    units = [
        math.ceil(demanded.demand_replicas * scale - 1e-6)
        for demanded, scale in zip(demands, scales, strict=True)
    ]
    return DeploymentArrays(
        demand=_floats(units),
        priority=_ints(policy.priority for policy in policies),
        replicas_max=_floats(d.deployment.scaling.max_replicas for d in demands),
        cost_max=_floats(
            NO_LIMIT if c is None else math.floor(c * MICRODOLLARS) / MICRODOLLARS for c in ceilings
        ),
        tolerate=_ints(DOMAINS.index(p.tolerate.domain) if p.tolerate else -1 for p in policies),
        # The promised part is a whole number of the demand's units, as the exact path counts it.
        keep=_floats(
            math.ceil(p.tolerate.keep * demand - 1e-9) / demand if p.tolerate and demand else 0.0
            for p, demand in zip(policies, units, strict=True)
        ),
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


class _Sieve:
    """Which pools policies allow: one mask per field and value, made once and combined."""

    def __init__(self, pools: Sequence[Pool], latencies: Latencies) -> None:
        self.pools = pools
        self.latencies = latencies
        self.number_of = {pool.name: number for number, pool in enumerate(pools)}
        self.masks: dict[tuple[str, object], Mask] = {}
        kinds: dict[str, list[int]] = defaultdict(list)
        for number, pool in enumerate(pools):
            kinds[pool.shape.accelerator].append(number)
        self.of_kind = {kind: np.array(members, np.int64) for kind, members in kinds.items()}

    def _mask(self, field: str, value: object, allows: Callable[[Pool], bool]) -> Mask:
        if (field, value) not in self.masks:
            self.masks[field, value] = np.array([allows(pool) for pool in self.pools], np.bool_)
        return self.masks[field, value]

    def allowed(self, demanded: DemandedDeployment) -> Mask | None:
        """Return which pools the policy allows, None where it allows all."""
        policy, found = demanded.deployment.policy, []
        if clouds := policy.clouds:
            found.append(self._mask("cloud", clouds, lambda p: p.plane.cloud in clouds))
        if regions := policy.regions:
            found.append(self._mask("region", regions, lambda p: p.plane.region in regions))
        if zones := policy.residency_zones:
            found.append(
                self._mask("zones", zones, lambda p: resides(p.plane.residency_zones, zones))
            )
        if classes := policy.capacity_classes:
            found.append(
                self._mask("class", classes, lambda p: p.terms.capacity_class.value in classes)
            )
        if policy.latency:
            found.append(
                self._mask(
                    "latency",
                    policy.latency,
                    lambda p: too_far(demanded.deployment, p, self.latencies) is None,
                )
            )
        if demanded.pools is not None:
            number_of = self.number_of
            named = np.zeros(len(self.pools), np.bool_)
            named[[number_of[name] for name in demanded.pools if name in number_of]] = True
            found.append(named)
        return np.logical_and.reduce(found) if found else None


def _eligible_pairs(
    demands: Sequence[DemandedDeployment], pools: Sequence[Pool], latencies: Latencies
) -> tuple[Ints, Ints, Ints]:
    """Return (deployment, pool, shape) of all pairs the policies allow."""
    sieve = _Sieve(pools, latencies)
    found: list[tuple[int, int, Ints]] = []
    for number, demanded in enumerate(demands):
        allowed = sieve.allowed(demanded)
        for index, shape in enumerate(demanded.deployment.revision.shapes):
            members = sieve.of_kind.get(shape.accelerator)
            if members is not None:
                members = members if allowed is None else members[allowed[members]]
                found.append((number, index, members))
    lengths = [len(members) for _, _, members in found]
    return (
        np.repeat(_ints(number for number, _, _ in found), lengths),
        np.concatenate([members for _, _, members in found] or [np.zeros(0, np.int64)]),
        np.repeat(_ints(index for _, index, _ in found), lengths),
    )


def _columns(
    problem: PlacementProblem,
    demands: Sequence[DemandedDeployment],
    pools: Sequence[Pool],
    pairs: tuple[Ints, Ints, Ints],
    scales: Sequence[int],
) -> tuple[ColumnArrays, Floats]:
    """Return the columns, and what a replica of each costs on the bill."""
    of, on, shape_of = pairs
    accelerators, host_memory, throughput = _shape_table(demands, scales)[:, of, shape_of]
    per_node = _ints(pool.shape.accelerators_per_node for pool in pools)[on]
    nodes = _ints(pool.shape.nodes for pool in pools)[on]
    node_memory = _floats(pool.shape.host_memory_bytes for pool in pools)[on]
    whole = np.where(accelerators > per_node, -(-accelerators // per_node), 0.0)
    share = np.ceil(host_memory / np.maximum(whole, 1.0))
    spreads = _spreads(demands, pools, (of, on)) & (accelerators % per_node == 0)
    fits = (share <= node_memory) & ((whole == 0) | spreads)
    by_node = np.floor(per_node / np.maximum(accelerators, 1.0))
    by_memory = np.floor(node_memory / np.maximum(host_memory, 1.0))
    shared = nodes * np.minimum(by_node, by_memory)
    alone = np.where(whole > 0, nodes // np.maximum(whole, 1.0), shared)
    most = _ints(d.deployment.scaling.max_replicas for d in demands)[of]
    prices = _floats(pool.terms.price_per_accelerator_hour or 0.0 for pool in pools)[on]
    reserved = _ints(pool.terms.capacity_class is CapacityClass.RESERVED for pool in pools)[on]
    bill = np.round(prices * accelerators * MICRODOLLARS)
    price = np.where(reserved == 1, np.round(bill * problem.reserved_price_share), bill)
    spot = _ints(pool.terms.capacity_class is CapacityClass.SPOT for pool in pools)[on]
    columns = ColumnArrays(
        deployment=of,
        pool=on,
        accelerators=accelerators,
        memory=np.where(whole > 0, whole * node_memory, host_memory),
        load_memory=host_memory,
        throughput=throughput,
        price=price / MICRODOLLARS,
        move_price=np.full(len(of), move_microdollars(problem) / MICRODOLLARS),
        current=running_of(problem, demands, pools, (of, on)),
        limit=np.where(fits, np.minimum(most, alone), 0).astype(np.int64),
        spot=spot,
    )
    return columns, bill / MICRODOLLARS


def _spreads(
    demands: Sequence[DemandedDeployment], pools: Sequence[Pool], pairs: tuple[Ints, Ints]
) -> Mask:
    """Return of each pair whether engine and plane put a replica on several nodes."""
    engines = [why_on_one_node(one.deployment.revision.engine) is None for one in demands]
    planes = [why_on_one_host(pool.plane) is None for pool in pools]
    of, on = pairs
    return np.array(engines, np.bool_)[of] & np.array(planes, np.bool_)[on]


def _shape_table(demands: Sequence[DemandedDeployment], scales: Sequence[int]) -> Floats:
    """Return accelerators, bytes and throughput units per (deployment, shape)."""
    widest = max((len(d.deployment.revision.shapes) for d in demands), default=1)
    table = np.zeros((3, len(demands), widest))
    for number, (demanded, scale) in enumerate(zip(demands, scales, strict=True)):
        for index, shape in enumerate(demanded.deployment.revision.shapes):
            units = max(1, math.ceil(ratio(shape, demanded) * scale - 1e-9))
            table[:, number, index] = shape.accelerators, shape.host_memory_bytes, units
    return table


def running_of(
    problem: PlacementProblem,
    demands: Sequence[DemandedDeployment],
    pools: Sequence[Pool],
    pairs: tuple[Ints, Ints],
) -> Ints:
    """Return what runs per (deployment, pool); what ran on a lost pool is gone."""
    of, on = pairs
    bars = bars_by_pool(problem.bars)
    gone = {name for name, bar in bars.items() if not bar.keeps_current}
    deployment_ids = {d.deployment.name: number for number, d in enumerate(demands)}
    pool_ids = {pool.name: number for number, pool in enumerate(pools)}
    running = np.zeros((len(demands), len(pools)), np.int64)
    for placement in problem.current:
        number = deployment_ids.get(placement.deployment)
        if number is not None and placement.pool not in gone:
            running[number, pool_ids[placement.pool]] = placement.count
    return running[of, on]


def _with_rivals(instance: Instance, demands: Sequence[DemandedDeployment]) -> Instance:
    """Return the instance with the pairs of columns that anti-affinity keeps apart."""
    number_of = {d.deployment.name: number for number, d in enumerate(demands)}
    pairs = {
        (min(number, number_of[other]), max(number, number_of[other]))
        for number, demanded in enumerate(demands)
        for other in demanded.deployment.policy.anti_affinity
        if other in number_of
    }
    if not pairs:
        return instance
    plane = instance.pools.plane[instance.columns.pool]
    one: list[Ints] = []
    other: list[Ints] = []
    for a, b in sorted(pairs):
        mine, theirs = slice(*instance.first[a : a + 2]), slice(*instance.first[b : b + 2])
        x, y = np.nonzero(plane[mine, None] == plane[None, theirs])
        one += [x + mine.start, y + theirs.start]
        other += [y + theirs.start, x + mine.start]
    left, right = np.concatenate(one), np.concatenate(other)
    order = np.lexsort((right, left))
    count = instance.size[2]
    first = np.searchsorted(left[order], np.arange(count + 1)).astype(np.int64)
    return replace(instance, rival_first=first, rivals=right[order].astype(np.int64))


def _ints(values: Iterable[object]) -> Ints:
    return np.array(list(values), dtype=np.int64)


def _floats(values: Iterable[float]) -> Floats:
    return np.array(list(values), dtype=np.float64)
