"""What a plan of arrays is worth, level by level, and the bound no plan can go below.

`large` calls `judge` on every answer, on original sizes and demands; it uses nothing of how the
answer was found but the prices, and any prices give a bound that holds.
"""

from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from scheduler.compiled import Floats, Ints
from scheduler.instance import Instance
from scheduler.prices import Prices, evaluate_dual, rates_of
from skerry.fleet.deployment import PRIORITY_CLASSES

DUST = 1e-7
# Throughput in whole numbers, rounded up: what is proven with more than there is stays proven.
UNITS = 10_000
KEPT_STEP = 0.01
# Deployments whose own least is looked for exactly, and the effort on each.
EXACT_MAX = 40
EXACT_DETERMINISTIC_TIME = 0.02


@dataclass(frozen=True, slots=True, kw_only=True)
class Levels:
    """Unmet deployments per class (a part counts as a part), survival shortfall in demands, $/h."""

    unmet: tuple[float, ...]
    survival: float
    cost: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Possible:
    """What each deployment could get alone: the least unmet share and survival shortfall."""

    unmet: Floats
    survival: Floats


def alone(instance: Instance) -> Possible:
    """Return what no plan can do better for each deployment, even with all pools to itself."""
    columns, wants = instance.columns, instance.deployments
    count = instance.size[1]
    most = columns.limit * columns.throughput
    reach = np.bincount(columns.deployment, most, minlength=count)
    best = np.zeros(count)
    np.maximum.at(best, columns.deployment, columns.throughput)
    bounded = np.where(best > 0.0, wants.replicas_max * np.maximum(best, 1e-300), 0.0)
    everything, reach = reach, np.minimum(reach, bounded)
    demand = np.maximum(wants.demand, 1e-300)
    unmet = np.where(wants.demand > 0.0, np.maximum(0.0, 1.0 - reach / demand), 0.0)
    width = instance.domains_max
    load = np.bincount(columns.deployment * width + instance.domain, most, minlength=count * width)
    # Without the domain all others may be used, as far as the number of replicas goes.
    left = np.minimum(everything[:, None] - load.reshape(count, width), bounded[:, None])
    left = np.maximum(left, 0.0)
    there = _domains_there(instance)
    missing = np.maximum(0.0, wants.keep[:, None] - left / demand[:, None]) * there
    return Possible(unmet=unmet, survival=missing.sum(axis=1))


def _domains_there(instance: Instance) -> Floats:
    count, width = instance.size[1], instance.domains_max
    there = np.zeros((count, width))
    # A pool that was lost after the arrays were made holds nothing any more.
    open_ones = np.flatnonzero(instance.columns.limit > 0)
    there[instance.columns.deployment[open_ones], instance.domain[open_ones]] = 1.0
    return there


def served_and_short(instance: Instance, counts: Ints) -> tuple[Floats, Floats]:
    """Return, per deployment, the unmet share and the survival shortfall in demands."""
    columns, wants = instance.columns, instance.deployments
    count, width = instance.size[1], instance.domains_max
    held = np.flatnonzero(counts)
    load = np.bincount(
        columns.deployment[held] * width + instance.domain[held],
        columns.throughput[held] * counts[held],
        minlength=count * width,
    ).reshape(count, width)
    total = load.sum(axis=1)
    demand = np.maximum(wants.demand, 1e-300)
    unmet = np.where(wants.demand > 0.0, np.maximum(0.0, 1.0 - total / demand), 0.0)
    left = total[:, None] - load
    # Domains where it holds nothing cost it nothing to lose; they count where the rest falls short.
    missing = np.maximum(0.0, wants.keep[:, None] - left / demand[:, None])
    if float(missing.sum()) > 0.0:
        missing *= _domains_there(instance)
    survival = missing.sum(axis=1)
    return np.where(unmet < DUST, 0.0, unmet), np.where(survival < DUST, 0.0, survival)


def spread_missing(instance: Instance, counts: Ints) -> tuple[int, int]:
    """Return how many domains fewer than wanted hold a replica, and the least there can be."""
    wanted = instance.deployments.domains_min
    if not wanted.any():
        return 0, 0
    found = []
    for columns in (np.flatnonzero(counts), np.arange(instance.size[2])):
        of = instance.columns.deployment[columns]
        pairs = np.unique(of * instance.domains_max + instance.spread_domain[columns])
        held = np.bincount(pairs // instance.domains_max, minlength=len(wanted))
        found.append(int(np.maximum(0, wanted - held).sum()))
    return found[0], found[1]


def dollars(instance: Instance, counts: Ints) -> float:
    """Return the cost of an hour: replicas at their price, and starts spread over the horizon."""
    columns = instance.columns
    held = np.flatnonzero(counts)
    started = np.maximum(0, counts[held] - columns.current[held])
    # Sums, not dot products: those depend on how many threads the linear algebra has.
    paid = columns.price[held] * counts[held] + columns.move_price[held] * started
    return float(paid.sum())


def judge(
    instance: Instance, counts: Ints, prices: Prices, possible: Possible
) -> tuple[Levels, Levels, Possible]:
    """Return the levels of the counts, the bound of each, and the least of each deployment.

    The cost's bound holds for plans that are as good in the levels before it. Where those are not
    proven it leaves out what another plan might shed instead.
    """
    values = levels_of_counts(instance, counts)
    anyhow, possible = possible, _sharpened(instance, counts, possible)
    classes = [instance.deployments.priority == k for k in range(PRIORITY_CLASSES)]
    served = [float(possible.unmet[mine].sum()) for mine in classes]
    if any(value > least + DUST for value, least in zip(values.unmet, served, strict=True)):
        # The sharper shortfalls are of plans that serve each as far as can be: others may differ.
        possible = Possible(unmet=possible.unmet, survival=anyhow.survival)
    least = Levels(
        unmet=tuple(served),
        survival=float(possible.survival.sum()),
        cost=_cost_bound(instance, prices, possible, values),
    )
    return values, at_most(least, values), possible


def _sharpened(instance: Instance, counts: Ints, possible: Possible) -> Possible:
    """Return the least of those who fell short, found exactly for each with the fleet to itself."""
    unmet, short = served_and_short(instance, counts)
    suspects = np.flatnonzero((unmet > possible.unmet + DUST) | (short > possible.survival + DUST))
    least_unmet, least_short = possible.unmet.copy(), possible.survival.copy()
    for d in suspects[:EXACT_MAX].tolist():
        found = _least_alone(instance, d)
        least_unmet[d] = max(least_unmet[d], found[0])
        least_short[d] = max(least_short[d], found[1])
    return Possible(unmet=least_unmet, survival=least_short)


def _least_alone(instance: Instance, d: int) -> tuple[float, float]:
    """Return the unmet share no plan goes below, and the shortfall of any that is as good there."""
    columns, wants = instance.columns, instance.deployments
    begin, end = int(instance.first[d]), int(instance.first[d + 1])
    if begin == end:
        return 1.0, float(wants.keep[d])
    model = cp_model.CpModel()
    served: list[cp_model.LinearExpr] = []
    by_domain: dict[int, list[cp_model.LinearExpr]] = {}
    spot: list[cp_model.LinearExpr] = []
    for c in range(begin, end):
        count = model.new_int_var(0, int(columns.limit[c]), "")
        amount = int(np.ceil(columns.throughput[c] * UNITS - DUST)) * count
        served.append(amount)
        by_domain.setdefault(int(instance.domain[c]), []).append(amount)
        if columns.spot[c]:
            spot.append(amount)
    total = sum(served)
    demand = int(np.floor(wants.demand[d] * UNITS))
    if spot and wants.spot_max[d] < 1.0:
        # A thousandth more than the cap: it may not be exact in whole numbers.
        model.add(1000 * sum(spot) <= int(np.ceil(1000 * wants.spot_max[d]) + 1) * total)
    missing = model.new_int_var(0, demand, "")
    model.add(total + missing >= demand)
    shortfalls = []
    kept = int(np.floor(wants.keep[d] * wants.demand[d] * UNITS))
    for lost in by_domain.values() if kept > 0 else ():
        shortfall = model.new_int_var(0, kept, "")
        model.add(total - sum(lost) + shortfall >= kept)
        shortfalls.append(shortfall)
    least = _minimum(model, missing)
    model.add(missing <= int(least) + max(1, demand // 1_000_000))
    least_short = _minimum(model, sum(shortfalls)) if shortfalls else 0.0
    return least / max(1, demand), least_short / max(1, demand)


def _minimum(model: cp_model.CpModel, value: cp_model.LinearExpr | int) -> float:
    """Return the proven lower bound of a value, rounded down."""
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.max_deterministic_time = EXACT_DETERMINISTIC_TIME
    model.minimize(value)
    status = solver.solve(model)
    known = status in (cp_model.OPTIMAL, cp_model.FEASIBLE)
    return max(0.0, float(np.floor(solver.best_objective_bound))) if known else 0.0


def levels_of_counts(instance: Instance, counts: Ints) -> Levels:
    """Return the levels of the counts."""
    return levels_of(instance, counts, served_and_short(instance, counts))


def levels_of(instance: Instance, counts: Ints, found: tuple[Floats, Floats]) -> Levels:
    """Return the levels of counts with what each deployment lacks: unmet share, shortfall."""
    unmet, short = found
    priority = instance.deployments.priority
    return Levels(
        unmet=tuple(float(unmet[priority == k].sum()) for k in range(PRIORITY_CLASSES)),
        survival=float(short.sum()),
        cost=dollars(instance, counts),
    )


def at_most(bounds: Levels, values: Levels) -> Levels:
    """Return the bounds, none above its value (rounding alone can make it so)."""
    return Levels(
        unmet=tuple(min(pair) for pair in zip(bounds.unmet, values.unmet, strict=True)),
        survival=min(bounds.survival, values.survival),
        cost=min(bounds.cost, values.cost),
    )


def _cost_bound(instance: Instance, prices: Prices, possible: Possible, values: Levels) -> float:
    """Return a cost that no plan with levels as good can go below."""
    wants = instance.deployments
    demand = wants.demand * (1.0 - possible.unmet)
    # The promised part is counted in what is wanted; where less can be served it is left out.
    spare_survival = values.survival - float(possible.survival.sum())
    keep = np.where((possible.unmet > 0.0) | (possible.survival > DUST), 0.0, wants.keep)
    costs, owed = _costs(instance, prices, demand, keep)
    if spare_survival > DUST:
        costs, saved = _less_survival(instance, prices, (demand, keep, costs), spare_survival)
        owed += saved
    bound = float(costs.sum()) - owed
    plain, _ = _costs(instance, prices, demand, np.zeros_like(keep))
    for k in range(PRIORITY_CLASSES):
        mine = wants.priority == k
        spare = values.unmet[k] - float(possible.unmet[mine].sum())
        if spare > DUST:
            bound -= float(costs[mine].sum() - plain[mine].sum())
            # A share of what can't all be served costs what all of it would, in proportion.
            part = np.maximum(1.0 - possible.unmet[mine], DUST)
            bound -= _dearest(plain[mine] / part, spare)
    return max(0.0, bound)


def _less_survival(
    instance: Instance, prices: Prices, told: tuple[Floats, Floats, Floats], spare: float
) -> tuple[Floats, float]:
    """Return costs, and the most that could be saved by as much more shortfall as `spare` demands.

    A promise's cost is convex in the part kept, so a little more of it is dearer, per part, than
    anything saved below it. Who can't keep more is counted without the promise.
    """
    demand, keep, costs = told
    more, _ = _costs(instance, prices, demand, np.where(keep > 0.0, keep + KEPT_STEP, 0.0))
    plain, _ = _costs(instance, prices, demand, np.zeros_like(keep))
    stuck = (keep > 0.0) & ((more < costs) | (keep + KEPT_STEP >= 1.0))
    slope = np.where(stuck | (keep <= 0.0), 0.0, (more - costs) / KEPT_STEP)
    return np.where(stuck, plain, costs), spare * float(slope.max(initial=0.0))


def _dearest(costs: Floats, number: float) -> float:
    """Return the sum of the `number` highest costs, the last one in part."""
    falling = np.sort(costs)[::-1]
    whole = min(int(number), len(falling))
    rest = falling[whole] * (number - whole) if whole < len(falling) else 0.0
    return float(falling[:whole].sum() + rest)


def _costs(
    instance: Instance, prices: Prices, demand: Floats, keep: Floats
) -> tuple[Floats, float]:
    rates = rates_of(instance)
    wants = demand, keep, instance.deployments.spot_max
    bound, *_, costs = evaluate_dual(instance, rates, wants, prices)
    return costs, float(costs.sum()) - bound
