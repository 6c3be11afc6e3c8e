"""The exact path: integer counts in CP-SAT, one level of the objective after the other.

`solve` calls `improve` with the greedy counts; each constraint has a function of its name. One
worker, a fixed seed and deterministic time: the same grid gives the same counts.
"""

from collections.abc import Callable, Collection, Iterable
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from operator import itemgetter

from ortools.sat.python import cp_model

from scheduler.grid import Counts, Grid, Want, packs, totals_suffice
from scheduler.levels import (
    PROOF_LEVELS,
    evaluate,
    floors,
    loss_shortfall,
    spread_shortfall,
    starts_weight,
    survival_scale,
    survival_weight,
    unmet_of,
    unmet_weight,
)
from skerry.fleet.deployment import PRIORITY_CLASSES
from skerry.fleet.packing import nodes_of_replica

SEED = 1
# All constraints in the relaxation: gaps of 0.7 and 3.4 % on two fleets of 10 planes and 50
# deployments where the default left 8 and 15 % in the same time.
LINEARIZATION = 2
# Whole-pool totals, then single nodes, then nodes that hold one deployment each: the last always
# packs, so more rounds than these can't be needed unless two pools tighten one after the other.
ROUNDS_MAX = 4
# Above so many integers for single nodes a pool goes straight to nodes of one deployment each.
NODE_INTEGERS_MAX = 600
# The levels that only order equals get this share of a level's time.
TIE_TIME_SHARE = 0.2

Expression = cp_model.LinearExpr
Valued = Callable[[Counts], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Counts, the bound of each level, and which levels are proven."""

    counts: Counts
    bounds: tuple[int, ...]
    optimal: bool


@dataclass(slots=True, kw_only=True)
class Model:
    """The model under construction; `hints` say each variable's value for given counts."""

    grid: Grid
    cp: cp_model.CpModel = field(default_factory=cp_model.CpModel)
    count: list[cp_model.IntVar] = field(default_factory=list)
    started: dict[int, Expression] = field(default_factory=dict)
    opened: list[cp_model.IntVar] = field(default_factory=list)
    levels: list[list[Expression]] = field(default_factory=list)
    hints: list[tuple[cp_model.IntVar, Valued]] = field(default_factory=list)

    def integer(self, most: int, name: str, value: Valued | None) -> cp_model.IntVar:
        """Return a new variable in 0..most, with its value for given counts where it has one."""
        variable = self.cp.new_int_var(0, most, name)
        if value is not None:
            self.hints.append((variable, value))
        return variable

    def hint(self, counts: Counts) -> None:
        """Tell the solver to start from given counts instead of what it was told before."""
        self.cp.clear_hints()  # type: ignore[no-untyped-call]
        for variable, value in self.hints:
            self.cp.add_hint(variable, value(counts))


def improve(grid: Grid, start: Counts, *, deterministic_time_max: float) -> Answer | None:
    """Return the best counts found from `start` on, None when none of them fits the nodes.

    Totals are not enough where host memory or odd sizes bind: pools whose nodes can't take their
    counts are modelled more closely and all is solved again.
    """
    by_node: set[str] = set()
    by_owner: set[str] = set()
    for _ in range(ROUNDS_MAX):
        model = build_model(grid, by_node, by_owner)
        answer = solve_levels(model, start, deterministic_time_max)
        failed = {pool for pool in grid.pools if not packs(grid, pool, answer.counts)}
        if not failed:
            # A bound of the model with owned nodes is no bound of the problem.
            return answer if not by_owner else unproven(grid, answer.counts)
        for pool in failed:
            fits = _node_integers(grid, pool) <= NODE_INTEGERS_MAX and pool not in by_node
            (by_node if fits else by_owner).add(pool)
        by_node -= by_owner
    return None


def unproven(grid: Grid, counts: Counts) -> Answer:
    """Return counts with the bounds that need no solver."""
    values = evaluate(grid, counts)
    bounds = tuple(min(pair) for pair in zip(values, floors(grid), strict=True))
    optimal = values[:PROOF_LEVELS] == bounds[:PROOF_LEVELS]
    return Answer(counts=counts, bounds=bounds, optimal=optimal)


def build_model(grid: Grid, by_node: Collection[str] = (), by_owner: Collection[str] = ()) -> Model:
    """Return the model of a grid, with some pools modelled node by node or owner by owner."""
    model = Model(grid=grid)
    replica_counts(model)
    for pool in grid.pools:
        pool_accelerators(model, pool)
        pool_host_memory(model, pool)
        if pool in by_node:
            nodes_one_by_one(model, pool)
        if pool in by_owner:
            nodes_owned_by_one_deployment(model, pool)
    unmet: list[list[Expression]] = [[] for _ in range(PRIORITY_CLASSES)]
    survival: list[Expression] = []
    for want in grid.wants:
        replicas_max(model, want)
        cost_ceiling(model, want)
        unmet[want.priority].append(demand(model, want))
        survival.extend(survival_of_each_domain(model, want))
        survival.extend(spread_over_domains(model, want))
    model.levels = [*unmet, survival, cost(model), starts(model), fragmentation(model)]
    return model


def replica_counts(model: Model) -> None:
    """One integer per column: how many replicas."""
    for index, column in enumerate(model.grid.columns):
        model.count.append(model.integer(column.count_max, f"count{index}", itemgetter(index)))


def pool_accelerators(model: Model, pool: str) -> None:
    """Replicas of a pool take no more accelerators than it has."""
    columns = model.grid.columns
    taken = [columns[i].accelerators * model.count[i] for i in model.grid.on_pool[pool]]
    model.cp.add(_sum(taken) <= model.grid.pools[pool].shape.accelerators)


def pool_host_memory(model: Model, pool: str) -> None:
    """Replicas of a pool take no more host memory than its nodes have, where that can bind."""
    if totals_suffice(model.grid, pool):
        return
    shape = model.grid.pools[pool].shape
    taken: list[Expression] = []
    for i in model.grid.on_pool[pool]:
        column = model.grid.columns[i]
        whole = nodes_of_replica(column.accelerators, shape.accelerators_per_node)
        memory = whole * shape.host_memory_bytes if whole else column.host_memory_bytes
        taken.append(memory * model.count[i])
    model.cp.add(_sum(taken) <= shape.nodes * shape.host_memory_bytes)


def nodes_one_by_one(model: Model, pool: str) -> None:
    """Every node of the pool holds whole replicas within its accelerators and memory."""
    shape = model.grid.pools[pool].shape
    shared, whole = _shared_and_whole(model.grid, pool)
    held: dict[int, list[cp_model.IntVar]] = {i: [] for i in shared}
    taken_whole: list[cp_model.IntVar] = []
    loads: list[Expression] = []
    for node in range(shape.nodes):
        taken = model.integer(1, f"whole-{pool}-{node}", None)
        here = {i: model.integer(model.grid.columns[i].count_max, "", None) for i in shared}
        load = _sum(model.grid.columns[i].accelerators * v for i, v in here.items())
        memory = _sum(model.grid.columns[i].host_memory_bytes * v for i, v in here.items())
        model.cp.add(load + shape.accelerators_per_node * taken <= shape.accelerators_per_node)
        model.cp.add(memory <= shape.host_memory_bytes)
        for i, variable in here.items():
            held[i].append(variable)
        taken_whole.append(taken)
        loads.append(load)
    for i in shared:
        model.cp.add(_sum(held[i]) == model.count[i])
    model.cp.add(_sum(nodes * model.count[i] for i, nodes in whole.items()) == _sum(taken_whole))
    for before, after in pairwise(loads):
        model.cp.add(before >= after)  # nodes are alike: one order of them is enough


def nodes_owned_by_one_deployment(model: Model, pool: str) -> None:
    """Every node holds replicas of one deployment only: more than is needed, but it packs."""
    shape = model.grid.pools[pool].shape
    shared, whole = _shared_and_whole(model.grid, pool)
    owned: list[Expression] = [nodes * model.count[i] for i, nodes in whole.items()]
    for i in shared:
        column = model.grid.columns[i]
        fit = shape.accelerators_per_node // column.accelerators
        if column.host_memory_bytes:
            fit = min(fit, shape.host_memory_bytes // column.host_memory_bytes)
        nodes = model.integer(shape.nodes, f"owned-{i}", None)
        model.cp.add(fit * nodes >= model.count[i])
        owned.append(nodes)
    model.cp.add(_sum(owned) <= shape.nodes)


def replicas_max(model: Model, want: Want) -> None:
    """A deployment has at most `max_replicas` in all."""
    model.cp.add(_sum(model.count[i] for i in want.columns) <= want.replicas_max)


def cost_ceiling(model: Model, want: Want) -> None:
    """A deployment costs at most its `cost_per_hour_max`."""
    if want.cost_microdollars_max is None:
        return
    columns = model.grid.columns
    spent = [columns[i].cost_microdollars * model.count[i] for i in want.columns]
    model.cp.add(_sum(spent) <= want.cost_microdollars_max)


def demand(model: Model, want: Want) -> Expression:
    """What is served and what is unmet make up the demand; returns the weighted unmet part."""
    unmet = model.integer(
        want.demand, f"unmet-{want.name}", lambda counts: unmet_of(model.grid, want, counts)
    )
    model.cp.add(_served(model, want.columns) + unmet >= want.demand)
    return unmet_weight(want) * unmet


def survival_of_each_domain(model: Model, want: Want) -> list[Expression]:
    """Losing any one domain leaves the promised part, or a shortfall; returns the shortfalls."""
    weight = survival_weight(model.grid, want)
    served = _served(model, want.columns)
    shortfalls: list[Expression] = []
    for name, columns in want.domains.items():
        missing = partial(loss_shortfall, model.grid, want, columns)
        shortfall = model.integer(want.kept_demand, f"lose-{want.name}-{name}", missing)
        model.cp.add(served - _served(model, columns) + shortfall >= want.kept_demand)
        shortfalls.append(weight * shortfall)
    return shortfalls


def spread_over_domains(model: Model, want: Want) -> list[Expression]:
    """Enough domains hold a replica, or are missing; returns the weighted number missing."""
    if not want.domains_min:
        return []
    held: list[cp_model.IntVar] = []
    for name, columns in want.spread_domains.items():
        held.append(
            model.integer(
                1,
                f"held-{want.name}-{name}",
                partial(_is_held, columns),
            )
        )
        model.cp.add(held[-1] <= _sum(model.count[i] for i in columns))
    missing = model.integer(
        want.domains_min, f"spread-{want.name}", lambda counts: spread_shortfall(want, counts)
    )
    model.cp.add(_sum(held) + missing >= want.domains_min)
    return [survival_scale(model.grid) * missing]


def cost(model: Model) -> list[Expression]:
    """Price per hour of all replicas, and of each start its cost spread over the horizon."""
    terms: list[Expression] = []
    for index, column in enumerate(model.grid.columns):
        terms.append(column.cost_microdollars * model.count[index])
        if column.current == 0:
            model.started[index] = model.count[index]
        elif column.count_max > column.current:
            begun = model.integer(
                column.count_max - column.current,
                f"started{index}",
                partial(_begun, index, column.current),
            )
            model.cp.add(begun >= model.count[index] - column.current)
            model.started[index] = begun
    terms.extend(model.grid.move_microdollars * begun for begun in model.started.values())
    return terms


def starts(model: Model) -> list[Expression]:
    """Fewest starts among equals, then fewest replicas."""
    weight = starts_weight(model.grid)
    return [*(weight * begun for begun in model.started.values()), *model.count]


def fragmentation(model: Model) -> list[Expression]:
    """Fewest placements among equals."""
    for index, column in enumerate(model.grid.columns):
        opened = model.integer(1, f"opened{index}", partial(_is_held, (index,)))
        model.cp.add(model.count[index] <= column.count_max * opened)
        model.opened.append(opened)
    return list(model.opened)


def _is_held(columns: tuple[int, ...], counts: Counts) -> int:
    return int(any(counts[i] for i in columns))


def _begun(index: int, runs: int, counts: Counts) -> int:
    return max(0, counts[index] - runs)


def _sum(terms: Iterable[Expression]) -> Expression:
    return cp_model.LinearExpr.sum(list(terms))


def _served(model: Model, columns: tuple[int, ...]) -> Expression:
    return _sum(model.grid.columns[i].throughput * model.count[i] for i in columns)


def _shared_and_whole(grid: Grid, pool: str) -> tuple[list[int], dict[int, int]]:
    """Return the columns that share a node, and the nodes each other column takes whole."""
    per_node = grid.pools[pool].shape.accelerators_per_node
    columns = grid.columns
    nodes = {i: nodes_of_replica(columns[i].accelerators, per_node) for i in grid.on_pool[pool]}
    return [i for i, n in nodes.items() if n == 0], {i: n for i, n in nodes.items() if n}


def _node_integers(grid: Grid, pool: str) -> int:
    return grid.pools[pool].shape.nodes * (1 + len(grid.on_pool[pool]))


def solve_levels(model: Model, start: Counts, deterministic_time_max: float) -> Answer:
    """Minimise level by level from `start` on, holding each level where it got to."""
    counts = start
    bounds: list[int] = []
    proven: list[bool] = []
    known = floors(model.grid)
    for number, terms in enumerate(model.levels):
        value, bound = evaluate(model.grid, counts)[number], known[number]
        # Ordering equals is for proven plans: before, the next solve finds another cost anyway.
        worthwhile = number < PROOF_LEVELS or all(proven[:PROOF_LEVELS])
        if value > bound and terms and worthwhile:
            share = 1.0 if number < PROOF_LEVELS else TIE_TIME_SHARE
            found, bound = _minimise(model, counts, _sum(terms), share * deterministic_time_max)
            counts = found or counts
            value = evaluate(model.grid, counts)[number]
        bounds.append(min(max(bound, known[number]), value))
        proven.append(value <= bound)
        model.cp.add(_sum(terms) <= value)
    return Answer(counts=counts, bounds=tuple(bounds), optimal=all(proven[:PROOF_LEVELS]))


def _minimise(
    model: Model, counts: Counts, objective: Expression, deterministic_time_max: float
) -> tuple[Counts | None, int]:
    """Return better counts, None when none were found, and the bound that was proven."""
    model.hint(counts)
    model.cp.minimize(objective)
    solver = cp_model.CpSolver()
    solver.parameters.num_workers = 1
    solver.parameters.random_seed = SEED
    solver.parameters.linearization_level = LINEARIZATION
    solver.parameters.max_deterministic_time = deterministic_time_max
    status = solver.solve(model.cp)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, 0
    found = tuple(solver.value(variable) for variable in model.count)
    # The bound is a float of an integer: round it up, less what a float may be off.
    bound = -int(-(solver.best_objective_bound - 1e-6) // 1)
    return found, bound
