"""A sharper bound on cost: at given prices of pools, each deployment's whole replicas are priced.

A relaxation lets replicas be split; where a deployment has few of them that alone is worth 2 %.
`session.certify` asks for this bound behind a plan: half a minute at 100 pools and 500 deployments.
"""

from dataclasses import dataclass, replace

import numpy as np
from ortools.sat.python import cp_model

from scheduler.compiled import Floats, Ints
from scheduler.instance import Instance
from scheduler.large import LargeAnswer
from scheduler.prices import Prices, evaluate_dual, rates_of
from scheduler.relaxation import Possible

# Prices in millionths of a dollar, rounded down; throughput in ten-thousandths of its unit where it
# is no whole number: what is wanted rounded down, what is got rounded up.
PRICE_UNITS = 1_000_000
THROUGHPUT_UNITS = 10_000
SPOT_UNITS = 10_000
# Effort on one deployment, and the gap at which its bound is good enough.
DETERMINISTIC_TIME_MAX = 0.1
GAP_ENOUGH = 0.0003
SEED = 1


@dataclass(frozen=True, slots=True, kw_only=True)
class _Wants:
    """One deployment: columns from `begin` to `end`, what it must get, and what a replica costs."""

    begin: int
    end: int
    demand: float
    keep: float
    unit: Floats


def certify(answer: LargeAnswer, prices: Prices | None = None) -> LargeAnswer:
    """Return the answer with the integer bound on its cost, where that is higher.

    It speaks of plans that serve and survive as well; where it is not proven that none does so
    better, the answer comes back as it is. Any `prices` give a bound that holds.
    """
    levels, bounds = answer.levels, answer.bounds
    if levels.unmet != bounds.unmet or levels.survival > bounds.survival + 1e-9:
        return answer
    bound = integer_bound(answer.draft.instance, prices or answer.warm.prices, answer.possible)
    cost = min(levels.cost, max(bounds.cost, bound))
    return replace(answer, bounds=replace(bounds, cost=cost))


def integer_bound(instance: Instance, prices: Prices, possible: Possible) -> float:
    """Return a cost that no plan of whole replicas goes below, which serves as far as possible."""
    wants, columns = instance.deployments, instance.columns
    demand = wants.demand * (1.0 - possible.unmet)
    keep = np.where((possible.unmet > 0.0) | (possible.survival > 0.0), 0.0, wants.keep)
    rates = rates_of(instance)
    split, *_, costs = evaluate_dual(instance, rates, (demand, keep, wants.spot_max), prices)
    owed = float(costs.sum()) - split
    unit = rates.dollars * columns.throughput
    unit = unit + prices.accelerator[columns.pool] * columns.accelerators
    unit = unit + prices.memory[columns.pool] * columns.memory
    total = 0.0
    for d in range(len(demand)):
        begin, end = int(instance.first[d]), int(instance.first[d + 1])
        least = float(costs[d])
        if begin < end and demand[d] > 0.0:
            told = _Wants(
                begin=begin,
                end=end,
                demand=float(demand[d]),
                keep=float(keep[d]),
                unit=unit[begin:end],
            )
            least = max(least, _least_cost(instance, d, told))
        total += least
    return total - owed


def _least_cost(instance: Instance, d: int, told: _Wants) -> float:
    """Return what whole replicas of one deployment cost at least, as far as is proven in time."""
    columns, wants = instance.columns, instance.deployments
    here = slice(told.begin, told.end)
    rate = columns.throughput[here]
    scale = 1 if bool((rate == np.floor(rate)).all()) else THROUGHPUT_UNITS
    got = np.ceil(rate * scale - 1e-6).astype(np.int64).tolist()
    demand = int(np.floor(told.demand * scale * (1.0 - 1e-9)))
    most = np.minimum(columns.limit[here], np.ceil(2.0 * told.demand / rate) + 1).astype(np.int64)
    model = cp_model.CpModel()
    count = [model.new_int_var(0, int(limit), "") for limit in most.tolist()]
    served = cp_model.LinearExpr.weighted_sum(count, got)
    model.add(served >= demand)
    if told.keep > 0.0:
        kept = int(np.floor(told.keep * demand * (1.0 - 1e-9)))
        domain = instance.domain[here]
        for f in range(1 + int(domain.max())):
            rest = np.flatnonzero(domain != f).tolist()
            left = cp_model.LinearExpr.weighted_sum(
                [count[i] for i in rest], [got[i] for i in rest]
            )
            model.add(left >= kept)
    if wants.spot_max[d] < 1.0:
        _cap_spot(model, count, (rate * scale, columns.spot[here]), float(wants.spot_max[d]))
    price = np.floor(told.unit * PRICE_UNITS).astype(np.int64).tolist()
    model.minimize(cp_model.LinearExpr.weighted_sum(count, price))
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = SEED
    solver.parameters.linearization_level = 2
    solver.parameters.max_deterministic_time = DETERMINISTIC_TIME_MAX
    solver.parameters.relative_gap_limit = GAP_ENOUGH
    status = solver.solve(model)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return 0.0
    return float(solver.best_objective_bound) / PRICE_UNITS


def _cap_spot(
    model: cp_model.CpModel,
    count: list[cp_model.IntVar],
    told: tuple[Floats, Ints],
    share: float,
) -> None:
    """At most a share of what is served is spot: spot rounded down here, the rest up."""
    rate, spot = told
    part = int(np.ceil(share * SPOT_UNITS - 1e-9))
    weights = np.where(
        spot == 1,
        np.floor(rate + 1e-6) * (SPOT_UNITS - part),
        -np.ceil(rate - 1e-6) * part,
    )
    model.add(cp_model.LinearExpr.weighted_sum(count, weights.astype(np.int64).tolist()) <= 0)
