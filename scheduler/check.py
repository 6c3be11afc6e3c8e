"""Judges a plan without the solver: every rule is written again here from its definition.

`solve` refuses a plan with violations; tests and the control plane call it on any plan.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from skerry.fleet.deployment import Deployment
from skerry.fleet.packing import Load, empty_nodes, pack
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import Pool

# Sums of prices in floats: a millionth of a dollar an hour is below any price there is.
COST_TOLERANCE_DOLLARS = 1e-6
# The solver rounds each replica's throughput ratio up to thousandths.
REPLICA_TOLERANCE = 1e-3
FLOAT_DUST = 1e-9

Key = tuple[str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that a plan breaks: which, for what, and how."""

    rule: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A plan and its problem, looked up by name."""

    plan: PlacementPlan
    problem: PlacementProblem
    pools: Mapping[str, Pool]
    demands: Mapping[str, DemandedDeployment]
    running: Mapping[Key, int]
    bars: Mapping[str, tuple[PoolBar, ...]]
    placements: tuple[Placement, ...]
    envelopes: tuple[Envelope, ...]


def violations(plan: PlacementPlan, problem: PlacementProblem) -> tuple[Violation, ...]:
    """Return every rule the plan breaks; empty when it may be used."""
    bars: dict[str, list[PoolBar]] = defaultdict(list)
    for bar in problem.bars:
        bars[bar.pool].append(bar)
    pools = {pool.name: pool for pool in problem.pools}
    demands = {demanded.deployment.name: demanded for demanded in problem.demands}
    case = _Case(
        plan=plan,
        problem=problem,
        pools=pools,
        demands=demands,
        running={(p.deployment, p.pool): p.count for p in problem.current},
        bars={pool: tuple(found) for pool, found in bars.items()},
        placements=tuple(p for p in plan.placements if p.deployment in demands and p.pool in pools),
        envelopes=tuple(e for e in plan.envelopes if e.deployment in demands and e.pool in pools),
    )
    return tuple(violation for rule in _RULES for violation in rule(case))


def _names(case: _Case) -> Iterator[Violation]:
    for what, items in (("placement", case.plan.placements), ("envelope", case.plan.envelopes)):
        keys = Counter((item.deployment, item.pool) for item in items)
        for (deployment, pool), count in sorted(keys.items()):
            if deployment not in case.demands or pool not in case.pools:
                yield _violation("names", f"{deployment} on {pool}", f"{what} of something unknown")
            if count > 1:
                yield _violation("names", f"{deployment} on {pool}", f"{count} {what}s of one pair")
    for placement in case.plan.placements:
        subject = f"{placement.deployment} on {placement.pool}"
        if placement.count < 1:
            yield _violation("names", subject, f"a placement of {placement.count} replicas")
        if not placement.reason:
            yield _violation("names", subject, "a placement without a reason")


def _eligibility(case: _Case) -> Iterator[Violation]:
    counts = {(p.deployment, p.pool): p.count for p in case.placements}
    ceilings = {(e.deployment, e.pool): e.ceiling for e in case.envelopes}
    for deployment, pool in sorted(counts.keys() | ceilings.keys()):
        if not (counts.get((deployment, pool)) or ceilings.get((deployment, pool))):
            continue
        subject = f"{deployment} on {pool}"
        wanted, supply = case.demands[deployment].deployment, case.pools[pool]
        for rule, holds, message in (
            ("kind", _has_kind(wanted, supply), f"the pool has {supply.shape.accelerator}"),
            ("node", _fits_empty(wanted, supply), "one replica does not fit the empty pool"),
            ("residency", _resides(wanted, supply), f"zones {supply.plane.residency_zones}"),
            ("cloud", _listed(supply.plane.cloud, wanted.policy.clouds), supply.plane.cloud),
            ("region", _listed(supply.plane.region, wanted.policy.regions), supply.plane.region),
            (
                "capacity-class",
                _listed(supply.terms.capacity_class, wanted.policy.capacity_classes),
                supply.terms.capacity_class.value,
            ),
        ):
            if not holds:
                yield _violation(rule, subject, message)


def _bars(case: _Case) -> Iterator[Violation]:
    """Nothing new where a pool is barred, cordoned or unpriced; nothing where what ran is gone."""
    placed = [(p.deployment, p.pool, p.count) for p in case.placements]
    granted = {(e.deployment, e.pool): e.ceiling for e in case.envelopes}
    for deployment, pool, count in placed:
        bars, terms = case.bars.get(pool, ()), case.pools[pool].terms
        unpriced = terms.price_per_accelerator_hour is None
        if not (bars or terms.cordoned or unpriced):
            continue
        keeps = all(bar.keeps_current for bar in bars)
        allowed = case.running.get((deployment, pool), 0) if keeps else 0
        subject = f"{deployment} on {pool}"
        if count > allowed:
            yield _violation("bar", subject, f"{count} replicas, {allowed} allowed")
        if granted.get((deployment, pool), count) > count:
            yield _violation("bar", subject, "the ceiling allows new replicas")


def _capacity(case: _Case) -> Iterator[Violation]:
    for name, pool in sorted(case.pools.items()):
        counts = [(p.deployment, p.count) for p in case.placements if p.pool == name]
        ceilings = [(e.deployment, e.ceiling) for e in case.envelopes if e.pool == name]
        held, granted = _taken(case, pool, counts), _taken(case, pool, ceilings)
        total = pool.shape.accelerators
        if held > total:
            yield _violation("capacity", name, f"{held} accelerators taken, the pool has {total}")
        reserve = math.ceil(total * case.problem.reserve_fraction - 1e-9)
        if granted > held and granted > total - reserve:
            yield _violation(
                "ceilings", name, f"ceilings take {granted} of {total} less {reserve} in reserve"
            )
        for what, amounts in (("counts", counts), ("ceilings", ceilings)):
            if not _packs(case, pool, amounts):
                yield _violation("nodes", name, f"the {what} do not fit the pool's nodes")


def _bounds(case: _Case) -> Iterator[Violation]:
    placed, granted = _sums(case)
    for name, demanded in sorted(case.demands.items()):
        most = demanded.deployment.scaling.max_replicas
        if placed[name] > most:
            yield _violation("max-replicas", name, f"{placed[name]} replicas, {most} allowed")
        if granted[name] > most:
            yield _violation("max-replicas", name, f"ceilings of {granted[name]}, {most} allowed")
        ceiling = demanded.deployment.policy.cost_per_hour_max
        if ceiling is None:
            continue
        dollars = math.fsum(
            _dollars(case, e.deployment, e.pool, e.ceiling)
            for e in case.envelopes
            if e.deployment == name
        )
        if dollars > ceiling + COST_TOLERANCE_DOLLARS:
            yield _violation("cost-ceiling", name, f"${dollars:.6f}/h, ${ceiling}/h allowed")


def _demand(case: _Case) -> Iterator[Violation]:
    """What is served and what is said to be unplaced make up what is wanted, neither more."""
    told = Counter({u.deployment: u.replicas for u in case.plan.unplaced})
    for unplaced in case.plan.unplaced:
        if not unplaced.reason or unplaced.replicas < 1:
            yield _violation("demand", unplaced.deployment, "unplaced without number or reason")
    placed, _ = _sums(case)
    served: dict[str, float] = defaultdict(float)
    for p in case.placements:
        served[p.deployment] += p.count * _worth(case, p.deployment, p.pool)
    for name, demanded in sorted(case.demands.items()):
        scaling = demanded.deployment.scaling
        wanted = max(scaling.min_replicas, min(demanded.replicas, scaling.max_replicas))
        short = wanted - served[name]
        least = math.ceil(max(0.0, short - REPLICA_TOLERANCE * (1 + placed[name])))
        if not least <= told[name] <= math.ceil(max(0.0, short - FLOAT_DUST)):
            yield _violation(
                "demand", name, f"{served[name]:g} of {wanted} served, {told[name]} said unplaced"
            )
    for name in sorted(told.keys() - case.demands.keys()):
        yield _violation("demand", name, "unplaced, but nobody asked for it")


def _envelopes(case: _Case) -> Iterator[Violation]:
    counts = {(p.deployment, p.pool): p.count for p in case.placements}
    seen: set[Key] = set()
    for envelope in case.envelopes:
        key = (envelope.deployment, envelope.pool)
        seen.add(key)
        count = counts.get(key, 0)
        if (envelope.floor, envelope.target) != (count, count) or envelope.ceiling < count:
            yield _violation(
                "envelope",
                f"{key[0]} on {key[1]}",
                f"{envelope.floor}/{envelope.target}/{envelope.ceiling} for {count} replicas",
            )
        if count == 0:
            yield _violation("envelope", f"{key[0]} on {key[1]}", "granted without a placement")
    for key in sorted(counts.keys() - seen):
        yield _violation("envelope", f"{key[0]} on {key[1]}", "a placement without an envelope")


def _cost(case: _Case) -> Iterator[Violation]:
    dollars = math.fsum(_dollars(case, p.deployment, p.pool, p.count) for p in case.placements)
    if abs(dollars - case.plan.cost_per_hour) > COST_TOLERANCE_DOLLARS:
        yield _violation(
            "cost", "plan", f"${case.plan.cost_per_hour:.6f}/h told, ${dollars:.6f}/h placed"
        )
    for level in case.plan.levels:
        if level.bound > level.value + COST_TOLERANCE_DOLLARS:
            yield _violation("levels", level.level, f"bound {level.bound} above {level.value}")


_RULES: tuple[Callable[[_Case], Iterator[Violation]], ...] = (
    _names,
    _eligibility,
    _bars,
    _capacity,
    _bounds,
    _demand,
    _envelopes,
    _cost,
)


def _violation(rule: str, subject: str, message: str) -> Violation:
    return Violation(rule=rule, subject=subject, message=message)


def _has_kind(deployment: Deployment, pool: Pool) -> bool:
    return any(s.accelerator == pool.shape.accelerator for s in deployment.revision.shapes)


def _fits_empty(deployment: Deployment, pool: Pool) -> bool:
    shape = deployment.revision.shape_on(pool.shape.accelerator)
    if shape is None:
        return True  # the rule of kinds says so already
    per_node = pool.shape.accelerators_per_node
    nodes, part = divmod(shape.accelerators, per_node)
    if shape.accelerators <= per_node:
        nodes, part = 1, 0
    if part or nodes > pool.shape.nodes:
        return False
    return shape.host_memory_bytes <= nodes * pool.shape.host_memory_bytes


def _resides(deployment: Deployment, pool: Pool) -> bool:
    zones = deployment.policy.residency_zones
    return not zones or any(zone in zones for zone in pool.plane.residency_zones)


def _listed(value: str, allowed: tuple[str, ...]) -> bool:
    return not allowed or value in allowed


def _size(case: _Case, deployment: str, pool: Pool) -> tuple[int, int]:
    """Return (accelerators, host memory) of one replica, whole nodes where it takes such."""
    shape = case.demands[deployment].deployment.revision.shape_on(pool.shape.accelerator)
    return (shape.accelerators, shape.host_memory_bytes) if shape else (1, 0)


def _taken(case: _Case, pool: Pool, amounts: list[tuple[str, int]]) -> int:
    return sum(count * _size(case, deployment, pool)[0] for deployment, count in amounts)


def _packs(case: _Case, pool: Pool, amounts: list[tuple[str, int]]) -> bool:
    loads = []
    for deployment, count in amounts:
        accelerators, memory = _size(case, deployment, pool)
        loads.append(
            Load(key=deployment, accelerators=accelerators, host_memory_bytes=memory, count=count)
        )
    shape = pool.shape
    nodes = empty_nodes(shape.nodes, shape.accelerators_per_node, shape.host_memory_bytes)
    return pack(nodes, loads).is_complete


def _sums(case: _Case) -> tuple[Counter[str], Counter[str]]:
    placed: Counter[str] = Counter()
    granted: Counter[str] = Counter()
    for p in case.placements:
        placed[p.deployment] += p.count
    for e in case.envelopes:
        granted[e.deployment] += e.ceiling
    return placed, granted


def _dollars(case: _Case, deployment: str, pool: str, count: int) -> float:
    price = case.pools[pool].terms.price_per_accelerator_hour or 0.0
    return price * _size(case, deployment, case.pools[pool])[0] * count


def _worth(case: _Case, deployment: str, pool: str) -> float:
    """Return one replica's worth in replicas of the first shape."""
    shapes = case.demands[deployment].deployment.revision.shapes
    here = next((s for s in shapes if s.accelerator == case.pools[pool].shape.accelerator), None)
    measured = [s.throughput_tokens_per_second for s in shapes if s.throughput_tokens_per_second]
    if here is None or len(measured) < len(shapes):
        return 1.0
    return (here.throughput_tokens_per_second or 0.0) / measured[0]
