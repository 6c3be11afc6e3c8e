"""Judges a plan without the solver: every rule is written again here from its definition.

`solve` refuses a plan with violations; tests and the control plane call it on any plan.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass

from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem, PoolBar
from skerry.fleet.deployment import Deployment
from skerry.fleet.packing import Load, empty_nodes, pack
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import CapacityClass, Pool

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
    running_of: Mapping[str, Mapping[str, int]]
    placed_of: Mapping[str, Mapping[str, int]]
    ceilings_of: Mapping[str, Mapping[str, int]]
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
    placements = tuple(p for p in plan.placements if p.deployment in demands and p.pool in pools)
    envelopes = tuple(e for e in plan.envelopes if e.deployment in demands and e.pool in pools)
    case = _Case(
        plan=plan,
        problem=problem,
        pools=pools,
        demands=demands,
        running={(p.deployment, p.pool): p.count for p in problem.current},
        running_of=_by_deployment((p.deployment, p.pool, p.count) for p in problem.current),
        placed_of=_by_deployment((p.deployment, p.pool, p.count) for p in placements),
        ceilings_of=_by_deployment((e.deployment, e.pool, e.ceiling) for e in envelopes),
        bars={pool: tuple(found) for pool, found in bars.items()},
        placements=placements,
        envelopes=envelopes,
    )
    return tuple(violation for rule in _RULES for violation in rule(case))


def _by_deployment(
    amounts: Iterable[tuple[str, str, int]],
) -> Mapping[str, Mapping[str, int]]:
    found: dict[str, dict[str, int]] = defaultdict(dict)
    for deployment, pool, count in amounts:
        found[deployment][pool] = count
    return found


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
        for rule, holds, message in _conditions(case, deployment, pool):
            if not holds:
                yield _violation(rule, subject, message)


def _conditions(case: _Case, deployment: str, pool: str) -> Iterator[tuple[str, bool, str]]:
    """Yield each rule of eligibility, whether it holds, and what is so."""
    demanded, supply = case.demands[deployment], case.pools[pool]
    wanted, plane, held = demanded.deployment, supply.plane, supply.terms.capacity_class
    policy = wanted.policy
    yield "kind", _has_kind(wanted, supply), f"the pool has {supply.shape.accelerator}"
    yield "node", _fits_empty(wanted, supply), "one replica does not fit the empty pool"
    yield "residency", _resides(wanted, supply), f"zones {plane.residency_zones}"
    yield "cloud", _listed(plane.cloud, policy.clouds), plane.cloud
    yield "region", _listed(plane.region, policy.regions), plane.region
    yield "capacity-class", _listed(held, policy.capacity_classes), held.value
    named = demanded.pools is None or pool in demanded.pools
    yield "pools", named, "the demand does not name this pool"
    for limit in policy.latency:
        told = [
            known.seconds
            for known in case.problem.latencies
            if (known.client_region, known.plane_region) == (limit.client_region, plane.region)
        ]
        holds = bool(told) and told[0] <= limit.seconds_max
        yield "latency", holds, f"{limit.client_region} to {plane.region}: {told or 'not told'}"


def _bars(case: _Case) -> Iterator[Violation]:
    """Nothing new where a pool is barred, cordoned or unpriced; nothing where what ran is gone."""
    placed = [(p.deployment, p.pool, p.count) for p in case.placements]
    granted = {(e.deployment, e.pool): e.ceiling for e in case.envelopes}
    for deployment, pool, count in placed:
        bars, terms = case.bars.get(pool, ()), case.pools[pool].terms
        unpriced = terms.price_per_accelerator_hour is None
        if not (bars or terms.cordoned or unpriced):
            continue
        allowed = case.running.get((deployment, pool), 0) if _keeps_current(case, pool) else 0
        subject = f"{deployment} on {pool}"
        if count > allowed:
            yield _violation("bar", subject, f"{count} replicas, {allowed} allowed")
        if granted.get((deployment, pool), count) > count:
            yield _violation("bar", subject, "the ceiling allows new replicas")


def _capacity(case: _Case) -> Iterator[Violation]:
    placed: dict[str, list[tuple[str, int]]] = defaultdict(list)
    granted_on: dict[str, list[tuple[str, int]]] = defaultdict(list)
    for p in case.placements:
        placed[p.pool].append((p.deployment, p.count))
    for e in case.envelopes:
        granted_on[e.pool].append((e.deployment, e.ceiling))
    for name, pool in sorted(case.pools.items()):
        counts, ceilings = placed[name], granted_on[name]
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
            _dollars(case, name, pool, most)
            for pool, most in case.ceilings_of.get(name, {}).items()
        )
        if dollars > ceiling + COST_TOLERANCE_DOLLARS:
            yield _violation("cost-ceiling", name, f"${dollars:.6f}/h, ${ceiling}/h allowed")


def _spot_shares(case: _Case) -> Iterator[Violation]:
    """No share of spot throughput is above its maximum, not even at every spot ceiling."""
    for name, demanded in sorted(case.demands.items()):
        share = demanded.deployment.policy.spot_share_max
        if share is None:
            continue
        counts, ceilings = case.placed_of.get(name, {}), case.ceilings_of.get(name, {})
        for what, spot_counts in (("counts", counts), ("ceilings", {**counts, **ceilings})):
            spot = _throughput(case, name, spot_counts, spot=True)
            total = spot + _throughput(case, name, counts, spot=False)
            replicas = sum(spot_counts.values()) + sum(counts.values())
            if spot > share * total + REPLICA_TOLERANCE * (1 + replicas):
                yield _violation(
                    "spot-share", name, f"{spot:g} of {total:g} is spot by {what}, {share:g} may be"
                )


def _throughput(case: _Case, deployment: str, counts: Mapping[str, int], *, spot: bool) -> float:
    return math.fsum(
        count * _worth(case, deployment, pool)
        for pool, count in counts.items()
        if (case.pools[pool].terms.capacity_class is CapacityClass.SPOT) == spot
    )


def _anti_affinity(case: _Case) -> Iterator[Violation]:
    """Deployments that keep apart share no plane, whoever of the two says so."""
    planes: dict[str, set[str]] = defaultdict(set)
    for deployment, pool in _granted_keys(case):
        planes[deployment].add(case.pools[pool].plane.name)
    for name, demanded in sorted(case.demands.items()):
        for other in demanded.deployment.policy.anti_affinity:
            if shared := sorted(planes[name] & planes[other]):
                yield _violation("anti-affinity", f"{name} and {other}", f"both on {shared[0]}")


def _granted_keys(case: _Case) -> set[Key]:
    placed = {(p.deployment, p.pool) for p in case.placements if p.count}
    return placed | {(e.deployment, e.pool) for e in case.envelopes if e.ceiling}


def _moves(case: _Case) -> Iterator[Violation]:
    """No more healthy replicas go elsewhere than the budget allows."""
    budget = case.problem.moves_max
    if budget is None:
        return
    moves = sum(min(_started_and_stopped(case, name)) for name in case.demands)
    if moves > budget:
        yield _violation("moves", "plan", f"{moves} healthy replicas move, {budget} may")


def _shed(case: _Case) -> Iterator[Violation]:
    """Who has fewer replicas than run and is left with demand unmet is told as shed."""
    told: Counter[str] = Counter()
    for item in case.plan.shed:
        told[item.deployment] += item.replicas
        if not item.reason or item.replicas < 1:
            yield _violation("shed", item.deployment, "shed without number or reason")
    short = {u.deployment for u in case.plan.unplaced}
    for name in sorted(case.demands.keys() | told.keys()):
        started, stopped = _started_and_stopped(case, name) if name in case.demands else (0, 0)
        lost = max(0, stopped - started) if name in short else 0
        if told[name] != lost:
            yield _violation("shed", name, f"{lost} replicas are shed, {told[name]} are told")


def _started_and_stopped(case: _Case, deployment: str) -> tuple[int, int]:
    """Return replicas started, and healthy ones stopped: those that might have stayed."""
    placed = case.placed_of.get(deployment, {})
    runs = {
        pool: count
        for pool, count in case.running_of.get(deployment, {}).items()
        if _keeps_current(case, pool)
        and all(holds for _, holds, _ in _conditions(case, deployment, pool))
    }
    started = sum(max(0, count - runs.get(pool, 0)) for pool, count in placed.items())
    stopped = sum(max(0, count - placed.get(pool, 0)) for pool, count in runs.items())
    return started, stopped


def _keeps_current(case: _Case, pool: str) -> bool:
    return all(bar.keeps_current for bar in case.bars.get(pool, ()))


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
        wanted = _wanted(demanded)
        short = wanted - served[name]
        least = math.ceil(max(0.0, short - REPLICA_TOLERANCE * (1 + placed[name])))
        if not least <= told[name] <= math.ceil(max(0.0, short - FLOAT_DUST)):
            yield _violation(
                "demand", name, f"{served[name]:g} of {wanted:g} served, {told[name]} said unplaced"
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
    _spot_shares,
    _anti_affinity,
    _moves,
    _shed,
    _demand,
    _envelopes,
    _cost,
)


def _violation(rule: str, subject: str, message: str) -> Violation:
    return Violation(rule=rule, subject=subject, message=message)


def _wanted(demanded: DemandedDeployment) -> float:
    """Return the demand in replicas of the first shape."""
    deployment = demanded.deployment
    scaling, first = deployment.scaling, deployment.revision.shapes[0]
    if demanded.tokens_per_second is not None:
        speed = first.throughput_tokens_per_second or math.nan
        return max(float(scaling.min_replicas), demanded.tokens_per_second / speed)
    return float(max(scaling.min_replicas, min(demanded.replicas, scaling.max_replicas)))


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
    if _fits_on_nodes_of_its_own(case, pool, amounts):
        return True
    for deployment, count in amounts:
        accelerators, memory = _size(case, deployment, pool)
        loads.append(
            Load(key=deployment, accelerators=accelerators, host_memory_bytes=memory, count=count)
        )
    shape = pool.shape
    per_node = shape.accelerators_per_node
    # A replica never needs more nodes than these, and a pool may have ten million.
    useful = sum(load.count * max(1, -(-load.accelerators // per_node)) for load in loads)
    nodes = empty_nodes(min(shape.nodes, useful), per_node, shape.host_memory_bytes)
    return not useful or pack(nodes, loads).is_complete


def _fits_on_nodes_of_its_own(case: _Case, pool: Pool, amounts: list[tuple[str, int]]) -> bool:
    """Say whether nobody has to share a node: then there is nothing to pack."""
    per_node, nodes = pool.shape.accelerators_per_node, 0
    for deployment, count in amounts:
        accelerators, memory = _size(case, deployment, pool)
        if accelerators > per_node:
            nodes += -(-accelerators // per_node) * count
            if -(-memory // -(-accelerators // per_node)) > pool.shape.host_memory_bytes:
                return False
            continue
        fit = per_node // accelerators
        if memory:
            fit = min(fit, pool.shape.host_memory_bytes // memory)
        if not fit:
            return False
        nodes += -(-count // fit)
    return nodes <= pool.shape.nodes


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
