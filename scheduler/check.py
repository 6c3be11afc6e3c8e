"""Judges a plan without the solver: every rule is written again here from its definition, but for
one: whether counts fit nodes is asked of `skerry.fleet.packing`, as planes ask it.

`solve` refuses a plan with violations; tests and the control plane call it on any plan. What the
rules ask of a deployment on a pool is looked up once per pair, so that time goes with the plan.
"""

import math
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import NamedTuple, TypeVar

from scheduler.plan import PlacementPlan
from scheduler.problem import DemandedDeployment, PlacementProblem
from skerry.fleet.deployment import ResourceShape
from skerry.fleet.packing import Load, fits
from skerry.fleet.placement import Envelope, Placement
from skerry.fleet.pool import CapacityClass, Pool
from skerry.fleet.spanning import why_on_one_host, why_on_one_node

# Sums of prices in floats: a millionth of a dollar an hour is below any price there is.
COST_TOLERANCE_DOLLARS = 1e-6
# The solver rounds each replica's throughput ratio up to thousandths.
REPLICA_TOLERANCE = 1e-3
FLOAT_DUST = 1e-9

Key = tuple[str, str]
Latencies = Mapping[Key, float]  # seconds by (client region, plane region)
Broken = tuple[str, str]  # a rule, and what is so
Item = TypeVar("Item", Placement, Envelope)


@dataclass(frozen=True, slots=True, kw_only=True)
class Violation:
    """A rule that a plan breaks: which, for what, and how."""

    rule: str
    subject: str
    message: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Touched:
    """What a plan changed from one that was found valid: only this is judged again."""

    deployments: frozenset[str]
    pools: frozenset[str]


class _Wanted(NamedTuple):
    """A deployment, by accelerator kind what a replica takes and is worth, and the named pools.

    Worth is in replicas of the first shape.
    """

    demanded: DemandedDeployment
    shapes: Mapping[str, ResourceShape]
    worth: Mapping[str, float]
    pools: frozenset[str] | None


class _Pair(NamedTuple):
    """A deployment on a pool: replicas placed, those allowed, and those that run already.

    Without a shape the rule of kinds is broken, and a replica counts as one accelerator. `worth` is
    in replicas of the first shape, `dollars` what one replica costs an hour. `allowed` is at least
    `placed`: an envelope below its placement is a violation of its own.
    """

    deployment: str
    pool: str
    wanted: _Wanted
    supply: Pool
    shape: ResourceShape | None
    placed: int
    allowed: int
    running: int
    accelerators: int
    worth: float
    dollars: float
    is_spot: bool

    @property
    def subject(self) -> str:
        return f"{self.deployment} on {self.pool}"

    def load(self, replicas: int) -> Load:
        memory = self.shape.host_memory_bytes if self.shape else 0
        return Load(
            key=self.deployment,
            accelerators=self.accelerators,
            host_memory_bytes=memory,
            count=replicas,
        )


@dataclass(frozen=True, slots=True, kw_only=True)
class _Case:
    """A plan and its problem, looked up by name.

    `pairs` are those of known names that the plan or what runs now speaks of, `of` a deployment
    and `on` a pool. `broken` has the rules of eligibility that pairs break. Pools that take nothing
    new are `closed`, and true where what runs there may stay.
    """

    plan: PlacementPlan
    problem: PlacementProblem
    pools: Mapping[str, Pool]
    wanted: Mapping[str, _Wanted]
    pairs: Mapping[Key, _Pair]
    of: Mapping[str, Sequence[_Pair]]
    on: Mapping[str, Sequence[_Pair]]
    broken: Mapping[Key, tuple[Broken, ...]]
    closed: Mapping[str, bool]


def violations(
    plan: PlacementPlan, problem: PlacementProblem, touched: Touched | None = None
) -> tuple[Violation, ...]:
    """Return every rule the plan breaks; empty when it may be used.

    With `touched` the rest must be the placements, envelopes and current of a plan without
    violations: all rules are judged of what is touched, and the bill is not added up.
    """
    pools = {pool.name: pool for pool in problem.pools}
    demands = {demanded.deployment.name: demanded for demanded in problem.demands}
    current = problem.current
    if touched is not None:
        touched = _with_rivals(touched, demands)
        plan, current = _slice(plan, touched), _within(current, touched)
    named = {p.deployment for p in plan.placements} | {e.deployment for e in plan.envelopes}
    named |= {p.deployment for p in current}
    asked = demands.keys() if touched is None else touched.deployments & demands.keys()
    look_up = {name: _look_up(demands[name]) for name in sorted(named | asked) if name in demands}
    pairs = _pairs(plan, current, pools, look_up)
    latencies = {(r.client_region, r.plane_region): r.seconds for r in problem.latencies}
    of: dict[str, list[_Pair]] = {name: [] for name in look_up}
    on: dict[str, list[_Pair]] = {name: [] for name in pools}
    for pair in pairs.values():
        of[pair.deployment].append(pair)
        on[pair.pool].append(pair)
    if touched is not None:
        on = {name: found for name, found in on.items() if name in touched.pools}
    broken = {
        key: tuple(_broken_rules(pair, latencies))
        for key, pair in pairs.items()
        if pair.deployment in asked
    }
    case = _Case(
        plan=plan,
        problem=problem,
        pools=pools,
        wanted={name: wanted for name, wanted in look_up.items() if name in asked},
        pairs=pairs,
        of=of,
        on=on,
        broken={key: rules for key, rules in broken.items() if rules},
        closed=_closed(problem, pools),
    )
    rules = [rule for rule in _RULES if touched is None or rule is not _cost]
    return tuple(violation for rule in rules for violation in rule(case))


def _slice(plan: PlacementPlan, touched: Touched) -> PlacementPlan:
    """Return the part of a plan that its touched deployments and pools are judged by."""
    names = touched.deployments
    return replace(
        plan,
        placements=_within(plan.placements, touched),
        envelopes=_within(plan.envelopes, touched),
        unplaced=tuple(u for u in plan.unplaced if u.deployment in names),
        shed=tuple(s for s in plan.shed if s.deployment in names),
    )


def _within(items: tuple[Item, ...], touched: Touched) -> tuple[Item, ...]:
    names, pools = touched.deployments, touched.pools
    return tuple(item for item in items if item.deployment in names or item.pool in pools)


def _with_rivals(touched: Touched, demands: Mapping[str, DemandedDeployment]) -> Touched:
    """Return what is touched and who shares no plane with one of it, whoever of the two says so."""
    names = set(touched.deployments)
    for name, demanded in demands.items():
        others = demanded.deployment.policy.anti_affinity
        if name in touched.deployments:
            names.update(others)
        elif not touched.deployments.isdisjoint(others):
            names.add(name)
    return replace(touched, deployments=frozenset(names))


def _look_up(demanded: DemandedDeployment) -> _Wanted:
    shapes = demanded.deployment.revision.shapes
    speeds = [s.throughput_tokens_per_second for s in shapes if s.throughput_tokens_per_second]
    if len(speeds) < len(shapes):
        speeds = [1.0] * len(shapes)  # until every kind is measured a replica is a replica
    kinds = [shape.accelerator for shape in shapes]
    return _Wanted(
        demanded=demanded,
        shapes=dict(zip(kinds, shapes, strict=True)),
        worth={kind: speed / speeds[0] for kind, speed in zip(kinds, speeds, strict=True)},
        pools=None if demanded.pools is None else frozenset(demanded.pools),
    )


def _pairs(
    plan: PlacementPlan,
    current: Sequence[Placement],
    pools: Mapping[str, Pool],
    wanted: Mapping[str, _Wanted],
) -> Mapping[Key, _Pair]:
    """Return the known pairs; what is told twice counts twice."""
    counts: dict[Key, int] = defaultdict(int)
    ceilings: dict[Key, int] = defaultdict(int)
    for p in plan.placements:
        counts[p.deployment, p.pool] += p.count
    for e in plan.envelopes:
        ceilings[e.deployment, e.pool] += e.ceiling
    running = {(p.deployment, p.pool): p.count for p in current}
    pairs: dict[Key, _Pair] = {}
    for key in {**counts, **ceilings, **running}:
        deployment, pool = key
        if deployment in wanted and pool in pools:
            asked, supply = wanted[deployment], pools[pool]
            kind, terms = supply.shape.accelerator, supply.terms
            shape = asked.shapes.get(kind)
            taken = shape.accelerators if shape else 1
            count = counts.get(key, 0)
            # By position, as thousands of them are made in a tenth of a second.
            pairs[key] = _Pair(
                deployment,
                pool,
                asked,
                supply,
                shape,
                count,
                max(count, ceilings.get(key, 0)),
                running.get(key, 0),
                taken,
                asked.worth.get(kind, 1.0),
                (terms.price_per_accelerator_hour or 0.0) * taken,
                terms.capacity_class is CapacityClass.SPOT,
            )
    return pairs


def _closed(problem: PlacementProblem, pools: Mapping[str, Pool]) -> Mapping[str, bool]:
    """Return pools that are barred, cordoned or unpriced; false where what ran is gone."""
    closed = {
        name: True
        for name, pool in pools.items()
        if pool.terms.cordoned or pool.terms.price_per_accelerator_hour is None
    }
    for bar in problem.bars:
        closed[bar.pool] = closed.get(bar.pool, True) and bar.keeps_current
    return closed


def _names(case: _Case) -> Iterator[Violation]:
    for what, items in (("placement", case.plan.placements), ("envelope", case.plan.envelopes)):
        unknown: set[Key] = set()
        seen: set[Key] = set()
        twice: set[Key] = set()
        for item in items:
            key = (item.deployment, item.pool)
            if key not in case.pairs:
                unknown.add(key)
            if key in seen:
                twice.add(key)
            seen.add(key)
        for deployment, pool in sorted(unknown):
            yield _violation("names", f"{deployment} on {pool}", f"{what} of something unknown")
        for deployment, pool in sorted(twice):
            yield _violation("names", f"{deployment} on {pool}", f"a second {what} of one pair")
    for placement in case.plan.placements:
        if placement.count >= 1 and placement.reason:
            continue
        subject = f"{placement.deployment} on {placement.pool}"
        if placement.count < 1:
            yield _violation("names", subject, f"a placement of {placement.count} replicas")
        if not placement.reason:
            yield _violation("names", subject, "a placement without a reason")


def _eligibility(case: _Case) -> Iterator[Violation]:
    for key in sorted(case.broken):
        pair = case.pairs[key]
        if pair.allowed:
            for rule, message in case.broken[key]:
                yield _violation(rule, pair.subject, message)


def _broken_rules(pair: _Pair, latencies: Latencies) -> Iterator[Broken]:
    """Yield each rule of eligibility that the pair breaks, and what is so."""
    supply, plane, held = pair.supply, pair.supply.plane, pair.supply.terms.capacity_class
    policy = pair.wanted.demanded.deployment.policy
    if pair.shape is None:
        yield "kind", f"the pool has {supply.shape.accelerator}"
    elif not _fits_empty(pair.shape, supply):
        yield "node", "one replica does not fit the empty pool"
    elif pair.shape.accelerators > supply.shape.accelerators_per_node:
        engine = pair.wanted.demanded.deployment.revision.engine
        if reason := why_on_one_node(engine) or why_on_one_host(plane):
            yield "nodes", reason
    zones = policy.residency_zones
    if zones and not any(zone in zones for zone in plane.residency_zones):
        yield "residency", f"zones {plane.residency_zones}"
    if policy.clouds and plane.cloud not in policy.clouds:
        yield "cloud", plane.cloud
    if policy.regions and plane.region not in policy.regions:
        yield "region", plane.region
    if policy.capacity_classes and held not in policy.capacity_classes:
        yield "capacity-class", held.value
    if pair.wanted.pools is not None and pair.pool not in pair.wanted.pools:
        yield "pools", "the demand does not name this pool"
    for limit in policy.latency:
        of_region = latencies.get((limit.client_region, plane.region))
        in_cloud = (limit.client_region, f"{plane.cloud}/{plane.region}")
        seconds = latencies.get(in_cloud, of_region)
        if seconds is None or seconds > limit.seconds_max:
            told = "not told" if seconds is None else f"{seconds:g} s"
            yield "latency", f"{limit.client_region} to {plane.region}: {told}"


def _fits_empty(shape: ResourceShape, pool: Pool) -> bool:
    """Say whether one replica fits: on a part of a node, or on whole nodes and nothing less."""
    per_node = pool.shape.accelerators_per_node
    nodes, part = divmod(shape.accelerators, per_node)
    if shape.accelerators <= per_node:
        nodes, part = 1, 0
    if part or nodes > pool.shape.nodes:
        return False
    return shape.host_memory_bytes <= nodes * pool.shape.host_memory_bytes


def _bars(case: _Case) -> Iterator[Violation]:
    """Nothing new where a pool is barred, cordoned or unpriced; nothing where what ran is gone."""
    for pool, keeps in sorted(case.closed.items()):
        for pair in case.on.get(pool, ()):
            stays = pair.running if keeps else 0
            if pair.placed > stays:
                yield _violation("bar", pair.subject, f"{pair.placed} replicas, {stays} allowed")
            if pair.allowed > pair.placed:
                yield _violation("bar", pair.subject, "the ceiling allows new replicas")


def _capacity(case: _Case) -> Iterator[Violation]:
    for name, pairs in sorted(case.on.items()):
        shape = case.pools[name].shape
        held = sum(pair.placed * pair.accelerators for pair in pairs)
        granted = sum(pair.allowed * pair.accelerators for pair in pairs)
        total = shape.accelerators
        if held > total:
            yield _violation("capacity", name, f"{held} accelerators taken, the pool has {total}")
        reserve = math.ceil(total * case.problem.reserve_fraction - 1e-9)
        if granted > held and granted > total - reserve:
            yield _violation(
                "ceilings", name, f"ceilings take {granted} of {total} less {reserve} in reserve"
            )
        node = (shape.nodes, shape.accelerators_per_node, shape.host_memory_bytes)
        counts = [pair.load(pair.placed) for pair in pairs]
        if held and not fits(*node, counts):
            yield _violation("nodes", name, "the counts do not fit the pool's nodes")
        if granted == held:
            continue  # nothing more is allowed than is placed, so there is nothing more to pack
        ceilings = [
            load if pair.allowed == load.count else pair.load(pair.allowed)
            for pair, load in zip(pairs, counts, strict=True)
        ]
        if not fits(*node, ceilings):
            yield _violation("nodes", name, "the ceilings do not fit the pool's nodes")


def _bounds(case: _Case) -> Iterator[Violation]:
    for name, wanted in sorted(case.wanted.items()):
        pairs, deployment = case.of[name], wanted.demanded.deployment
        most = deployment.scaling.max_replicas
        placed = sum(pair.placed for pair in pairs)
        granted = sum(pair.allowed for pair in pairs)
        if placed > most:
            yield _violation("max-replicas", name, f"{placed} replicas, {most} allowed")
        if granted > most:
            yield _violation("max-replicas", name, f"ceilings of {granted}, {most} allowed")
        ceiling = deployment.policy.cost_per_hour_max
        if ceiling is None:
            continue
        dollars = math.fsum(pair.allowed * pair.dollars for pair in pairs)
        if dollars > ceiling + COST_TOLERANCE_DOLLARS:
            yield _violation("cost-ceiling", name, f"${dollars:.6f}/h, ${ceiling}/h allowed")


def _spot_shares(case: _Case) -> Iterator[Violation]:
    """No share of spot throughput is above its maximum, not even at every spot ceiling."""
    for name, wanted in sorted(case.wanted.items()):
        share = wanted.demanded.deployment.policy.spot_share_max
        if share is None:
            continue
        pairs = case.of[name]
        if not any(pair.is_spot for pair in pairs):
            continue
        worths = [pair.worth for pair in pairs]
        counts = [pair.placed for pair in pairs]
        ceilings = [pair.allowed for pair in pairs]
        held = math.fsum(
            n * worth
            for pair, n, worth in zip(pairs, counts, worths, strict=True)
            if not pair.is_spot
        )
        told = [("counts", counts)]
        if ceilings != counts:
            told.append(("ceilings", ceilings))
        for what, amounts in told:
            spot = math.fsum(
                n * worth
                for pair, n, worth in zip(pairs, amounts, worths, strict=True)
                if pair.is_spot
            )
            number = sum(counts) + sum(amounts)
            if spot > share * (held + spot) + REPLICA_TOLERANCE * (1 + number):
                yield _violation(
                    "spot-share",
                    name,
                    f"{spot:g} of {held + spot:g} is spot by {what}, {share:g} may be",
                )


def _anti_affinity(case: _Case) -> Iterator[Violation]:
    """Deployments that keep apart share no plane, whoever of the two says so."""
    for name, wanted in sorted(case.wanted.items()):
        others = wanted.demanded.deployment.policy.anti_affinity
        own = _planes(case, name) if others else set()
        for other in others:
            if shared := sorted(own & _planes(case, other)):
                yield _violation("anti-affinity", f"{name} and {other}", f"both on {shared[0]}")


def _planes(case: _Case, deployment: str) -> set[str]:
    """Return where the deployment may run by its placements and ceilings."""
    return {pair.supply.plane.name for pair in case.of.get(deployment, ()) if pair.allowed}


def _moves(case: _Case) -> Iterator[Violation]:
    """No more healthy replicas go elsewhere than the budget allows."""
    budget = case.problem.moves_max
    if budget is None:
        return
    moves = sum(min(_started_and_stopped(case, name)) for name in case.wanted)
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
    for name in sorted(short | told.keys()):
        started, stopped = _started_and_stopped(case, name)
        lost = max(0, stopped - started) if name in short else 0
        if told[name] != lost:
            yield _violation("shed", name, f"{lost} replicas are shed, {told[name]} are told")


def _started_and_stopped(case: _Case, deployment: str) -> tuple[int, int]:
    """Return replicas started, and healthy ones stopped: those that might have stayed."""
    started = stopped = 0
    for pair in case.of.get(deployment, ()):
        healthy = pair.running
        if not case.closed.get(pair.pool, True) or (deployment, pair.pool) in case.broken:
            healthy = 0
        started += max(0, pair.placed - healthy)
        stopped += max(0, healthy - pair.placed)
    return started, stopped


def _demand(case: _Case) -> Iterator[Violation]:
    """What is served and what is said to be unplaced make up what is wanted, neither more."""
    told = Counter({u.deployment: u.replicas for u in case.plan.unplaced})
    for unplaced in case.plan.unplaced:
        if not unplaced.reason or unplaced.replicas < 1:
            yield _violation("demand", unplaced.deployment, "unplaced without number or reason")
    for name, wanted in sorted(case.wanted.items()):
        pairs, replicas = case.of[name], _replicas_wanted(wanted.demanded)
        served = math.fsum(pair.placed * pair.worth for pair in pairs)
        placed = sum(pair.placed for pair in pairs)
        short = replicas - served
        least = math.ceil(max(0.0, short - REPLICA_TOLERANCE * (1 + placed)))
        if not least <= told[name] <= math.ceil(max(0.0, short - FLOAT_DUST)):
            yield _violation(
                "demand", name, f"{served:g} of {replicas:g} served, {told[name]} said unplaced"
            )
    for name in sorted(told.keys() - case.wanted.keys()):
        yield _violation("demand", name, "unplaced, but nobody asked for it")


def _replicas_wanted(demanded: DemandedDeployment) -> float:
    """Return the demand in replicas of the first shape."""
    deployment = demanded.deployment
    scaling, first = deployment.scaling, deployment.revision.shapes[0]
    if demanded.tokens_per_second is not None:
        speed = first.throughput_tokens_per_second or math.nan
        return max(float(scaling.min_replicas), demanded.tokens_per_second / speed)
    return float(max(scaling.min_replicas, min(demanded.replicas, scaling.max_replicas)))


def _envelopes(case: _Case) -> Iterator[Violation]:
    seen: set[Key] = set()
    for envelope in case.plan.envelopes:
        key = (envelope.deployment, envelope.pool)
        pair = case.pairs.get(key)
        if pair is None:
            continue  # the rule of names says so already
        seen.add(key)
        count = pair.placed
        if envelope.floor != count or envelope.target != count or envelope.ceiling < count:
            yield _violation(
                "envelope",
                pair.subject,
                f"{envelope.floor}/{envelope.target}/{envelope.ceiling} for {count} replicas",
            )
        if count == 0:
            yield _violation("envelope", pair.subject, "granted without a placement")
    for key in sorted(key for key, pair in case.pairs.items() if pair.placed and key not in seen):
        yield _violation("envelope", case.pairs[key].subject, "a placement without an envelope")


def _cost(case: _Case) -> Iterator[Violation]:
    dollars = math.fsum(pair.placed * pair.dollars for pair in case.pairs.values())
    if not abs(dollars - case.plan.cost_per_hour) <= COST_TOLERANCE_DOLLARS:
        yield _violation(
            "cost", "plan", f"${case.plan.cost_per_hour:.6f}/h told, ${dollars:.6f}/h placed"
        )
    for level in case.plan.levels:
        if not level.bound <= level.value + COST_TOLERANCE_DOLLARS:
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
