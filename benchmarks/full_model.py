"""Plain CP-SAT on the full model, one integer per column: what a solver does by itself.

`bench_scheduler` runs it as `cp_sat_full`, with the levels before the cost held at the best known
so that only the cost is left to find, and takes the same rows' linear relaxation as the LP bound.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from ortools.sat.python import cp_model

from benchmarks.judge import Verdict
from scheduler.certificate import relax
from scheduler.compiled import Ints
from scheduler.instance import Instance
from skerry.fleet.deployment import PRIORITY_CLASSES

SECONDS_MAX = 25.0
WORKERS = 2
# Throughputs and demands of the format have four digits: in these units they are whole.
UNITS = 10_000
WHOLE_DEPLOYMENT = 10**13  # one that is not served at all, where some may be left unmet
SURVIVAL_PARTS = 100  # of a replica
DUST = 1e-3  # of a unit
MICRODOLLARS = 1_000_000
MIB = 2**20

Count = cp_model.IntVar
Expression = cp_model.LinearExpr


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """What the solver returned; counts are None where it found no plan."""

    status: str
    counts: Ints | None
    bound: float | None


@dataclass(frozen=True, slots=True, kw_only=True)
class FullModel:
    """The model and its counts; the objective is the cost in microdollars."""

    cp: cp_model.CpModel
    count: Sequence[Count]


def search(instance: Instance, known: Verdict, first: Sequence[float]) -> Found:
    """Return the cheapest counts found in the time, as good as the known ones level by level."""
    model = as_good(instance, known, first)
    solver = cp_model.CpSolver()
    solver.parameters.max_time_in_seconds = SECONDS_MAX
    solver.parameters.num_workers = WORKERS
    status = solver.solve(model.cp)
    name = solver.status_name(status)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return Found(status=name, counts=None, bound=None)
    counts = np.array([solver.value(variable) for variable in model.count], np.int64)
    bound = solver.best_objective_bound / MICRODOLLARS
    return Found(status=name, counts=counts, bound=bound)


def lp_bound(instance: Instance, known: Verdict, first: Sequence[float]) -> float | None:
    """Return a cost that no plan as good as the known one in all levels before it goes below."""
    relaxation = relax(as_good(instance, known, first).cp, (), ())
    return None if relaxation is None else relaxation.bound / MICRODOLLARS


def as_good(instance: Instance, known: Verdict, first: Sequence[float]) -> FullModel:
    """Return the model with every level before the cost held at what is known.

    `first` is the throughput of each deployment's first shape: survival counts its replicas.
    """
    model, wants = build(instance), instance.deployments
    unmet: list[list[Expression]] = [[] for _ in range(PRIORITY_CLASSES)]
    survival: list[Expression] = []
    for d in range(instance.size[1]):
        served, by_domain = _served(model, instance, d)
        demand = int(np.floor(wants.demand[d] * UNITS + DUST))
        priority = int(wants.priority[d])
        left: Expression | int = 0
        if known.unmet[priority] > 0.0:
            left = model.cp.new_int_var(0, demand, "")
            unmet[priority].append(WHOLE_DEPLOYMENT // max(1, demand) * left)
        model.cp.add(served + left >= demand)
        kept = int(np.floor(wants.keep[d] * wants.demand[d] * UNITS + DUST))
        part = int(np.ceil(first[d] * UNITS / SURVIVAL_PARTS))
        for load in by_domain.values() if kept else ():
            missing: Expression | int = 0
            if known.survival > 0.0:
                missing = model.cp.new_int_var(0, kept // part + 1, "")
                survival.append(missing)
            model.cp.add(served - load + part * missing >= kept)
    for terms, most in zip(unmet, known.unmet, strict=True):
        model.cp.add(_sum(terms) <= int(np.ceil(most * WHOLE_DEPLOYMENT)))
    model.cp.add(_sum(survival) <= int(np.ceil(known.survival * SURVIVAL_PARTS)))
    return model


def build(instance: Instance) -> FullModel:
    """Return the rows that no level changes: pools' accelerators and memory, and spot shares."""
    columns, pools = instance.columns, instance.pools
    cp = cp_model.CpModel()
    count = [cp.new_int_var(0, int(most), "") for most in columns.limit.tolist()]
    model = FullModel(cp=cp, count=count)
    memory = np.floor(columns.memory / MIB).astype(np.int64)
    for j in range(instance.size[0]):
        mine = instance.by_pool[instance.pool_first[j] : instance.pool_first[j + 1]]
        here = [count[c] for c in mine.tolist()]
        if not here:
            continue
        sizes = columns.accelerators[mine].astype(np.int64).tolist()
        cp.add(_weighted(here, sizes) <= int(pools.capacity[j]))
        cp.add(_weighted(here, memory[mine].tolist()) <= int(np.ceil(pools.memory[j] / MIB)))
    spot_max = np.round(instance.deployments.spot_max * 1000).astype(np.int64)
    speeds = _speeds(instance)
    for d in range(instance.size[1]):
        begin, end = int(instance.first[d]), int(instance.first[d + 1])
        spot = columns.spot[begin:end]
        if spot.any() and spot_max[d] < 1000:
            excess = speeds[begin:end] * (1000 * spot - spot_max[d])
            cp.add(_weighted(count[begin:end], excess.tolist()) <= 0)
    prices = np.round(columns.price * MICRODOLLARS).astype(np.int64)
    cp.minimize(_weighted(count, prices.tolist()))
    return model


def _served(
    model: FullModel, instance: Instance, d: int
) -> tuple[Expression, Mapping[int, Expression]]:
    begin, end = int(instance.first[d]), int(instance.first[d + 1])
    count, speeds = model.count[begin:end], _speeds(instance)[begin:end].tolist()
    domains = instance.domain[begin:end].tolist()
    members: dict[int, list[int]] = {}
    for at, domain in enumerate(domains):
        members.setdefault(domain, []).append(at)
    return _weighted(count, speeds), {
        domain: _weighted([count[at] for at in places], [speeds[at] for at in places])
        for domain, places in members.items()
    }


def _speeds(instance: Instance) -> Ints:
    return np.round(instance.columns.throughput * UNITS).astype(np.int64)


def _weighted(variables: Sequence[Count], weights: Sequence[int]) -> Expression:
    return cp_model.LinearExpr.weighted_sum(variables, weights)


def _sum(terms: Sequence[Expression]) -> Expression:
    return cp_model.LinearExpr.sum(terms)
