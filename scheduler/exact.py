"""The exact path: integer counts in CP-SAT, one level of the objective after the other.

`solve` calls `improve` with the greedy counts; each constraint has a function of its name. One
worker, a fixed seed and deterministic time: the same grid gives the same counts.
"""

# Annotations name modules that are imported later.
from __future__ import annotations

import math
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from itertools import pairwise
from operator import itemgetter
from typing import TYPE_CHECKING, Any

from scheduler.certificate import Relaxer
from scheduler.grid import MIB, SPOT_UNITS, Counts, Grid, Want, packs, totals_suffice
from scheduler.levels import (
    COST,
    EVERYTHING,
    PROOF_LEVELS,
    Scope,
    evaluate,
    floors,
    loss_shortfall,
    moves_of,
    spread_shortfall,
    starts_weight,
    survival_scale,
    survival_weight,
    unmet_of,
    unmet_weight,
)
from scheduler.modelling import cp_model
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
# From so many columns on, each level is also searched near its relaxation and the best plan so far:
# counts within one of either, where a search of everything finds little. Smaller fleets are proven
# at once.
NEAR_COLUMNS_MIN = 100
NEAR_REPLICAS = 1
NEAR_ROUNDS = 2
NEAR_TIME_SHARE = 0.33
# Searches this short are presolved once over: at 10 planes and 50 deployments all of it took 80 ms,
# the search 15, and both ended with the same bound.
LIGHT_TIME_MAX = 0.01
# The levels that only order equals get this share of a level's time.
TIE_TIME_SHARE = 0.2

ROUNDING = 1e-6  # a float of the relaxation this near to a whole number is one

if TYPE_CHECKING:
    Expression = cp_model.LinearExpr
Valued = Callable[[Counts], int]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """Counts, the bound of each level, whether all up to cost are proven, and the pools' prices.

    `prices` are microdollars that one more accelerator of a pool would save an hour.
    """

    counts: Counts
    bounds: tuple[int, ...]
    optimal: bool
    prices: Mapping[str, float] = field(default_factory=dict)


@dataclass(slots=True, kw_only=True)
class Model:
    """The model under construction; `hints` say each variable's value for given counts."""

    grid: Grid
    cp: cp_model.CpModel = field(default_factory=lambda: cp_model.CpModel())
    count: list[cp_model.IntVar] = field(default_factory=list)
    started: dict[int, Expression] = field(default_factory=dict)
    opened: list[cp_model.IntVar] = field(default_factory=list)
    levels: list[list[Expression]] = field(default_factory=list)
    relaxer: Relaxer | None = None
    scope: Scope = EVERYTHING
    pool_rows: dict[int, str] = field(default_factory=dict)
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


def improve(
    grid: Grid, start: Counts, effort: tuple[float, float], scope: Scope = EVERYTHING
) -> Answer | None:
    """Return the best counts found from `start` on, None when none of them fits the nodes.

    `effort` is CP-SAT's deterministic time per level, and the share of it that cost gets.

    Totals are not enough where host memory or odd sizes bind: pools whose nodes can't take their
    counts are modelled more closely and all is solved again.
    """
    by_node: set[str] = set()
    by_owner: set[str] = set()
    relaxed: Answer | None = None
    for _ in range(ROUNDS_MAX):
        model = build_model(grid, by_node, by_owner)
        answer = solve_levels(model, start, effort, scope)
        if not by_owner:
            relaxed = answer
        failed = {pool for pool in grid.pools if not packs(grid, pool, answer.counts)}
        if not failed:
            return answer if not by_owner else certified(grid, answer.counts, relaxed)
        for pool in failed:
            few = _node_integers(grid, pool) <= NODE_INTEGERS_MAX
            fits = few and pool not in by_node
            (by_node if fits else by_owner).add(pool)
        by_node -= by_owner
    return None


def unproven(grid: Grid, counts: Counts) -> Answer:
    """Return counts with the bounds that need no solver."""
    values = evaluate(grid, counts)
    bounds = tuple(min(pair) for pair in zip(values, floors(grid), strict=True))
    optimal = values[:PROOF_LEVELS] == bounds[:PROOF_LEVELS]
    return Answer(counts=counts, bounds=bounds, optimal=optimal)


def certified(grid: Grid, counts: Counts, relaxed: Answer | None) -> Answer:
    """Return counts with the bounds of a wider answer, as far as these hold for them.

    A bound says: with the levels before it at these values, no plan goes below. So it counts up to
    the first level where the two differ, and no bound of a model with owned nodes counts at all.
    """
    if relaxed is None:
        return unproven(grid, counts)
    values, wider = evaluate(grid, counts), evaluate(grid, relaxed.counts)
    bounds = list(unproven(grid, counts).bounds)
    for number, value in enumerate(values):
        bounds[number] = max(bounds[number], min(relaxed.bounds[number], value))
        if value != wider[number]:
            break
    return Answer(
        counts=counts,
        bounds=tuple(bounds),
        optimal=values[:PROOF_LEVELS] == tuple(bounds[:PROOF_LEVELS]),
        prices=relaxed.prices,
    )


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
    for want in grid.wants:
        replicas_max(model, want)
        cost_ceiling(model, want)
        spot_share(model, want)
        unmet[want.priority].append(demand(model, want))
    anti_affinity(model)
    count_starts(model)
    movement_budget(model)
    model.levels = unmet
    return model


def level_terms(model: Model, number: int) -> list[Expression]:
    """Return what a level sums up; variables and rows that no earlier one needs come with it."""
    following = (survival, cost, starts, fragmentation)
    while len(model.levels) <= number:
        model.levels.append(following[len(model.levels) - PRIORITY_CLASSES](model))
    return model.levels[number]


def replica_counts(model: Model) -> None:
    """One integer per column: how many replicas."""
    for index, column in enumerate(model.grid.columns):
        model.count.append(model.integer(column.count_max, f"count{index}", itemgetter(index)))


def pool_accelerators(model: Model, pool: str) -> None:
    """Replicas of a pool take no more accelerators than it has."""
    columns = model.grid.columns
    taken = [columns[i].accelerators * model.count[i] for i in model.grid.on_pool[pool]]
    row = model.cp.add(_sum(taken) <= model.grid.pools[pool].shape.accelerators)
    model.pool_rows[row.index] = pool


def pool_host_memory(model: Model, pool: str) -> None:
    """Replicas of a pool take no more host memory than its nodes have, where that can bind."""
    if totals_suffice(model.grid, pool):
        return
    shape = model.grid.pools[pool].shape
    taken: list[Expression] = []
    for i in model.grid.on_pool[pool]:
        column = model.grid.columns[i]
        whole = nodes_of_replica(column.accelerators, shape.accelerators_per_node)
        # Replicas rounded down, nodes up: what is too much even then is too much.
        memory = whole * shape.host_memory_bytes if whole else column.host_memory_bytes
        taken.append(memory // MIB * model.count[i])
    model.cp.add(_sum(taken) <= -(-shape.nodes * shape.host_memory_bytes // MIB))


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
    spent = [columns[i].price_microdollars * model.count[i] for i in want.columns]
    model.cp.add(_sum(spent) <= want.cost_microdollars_max)


def spot_share(model: Model, want: Want) -> None:
    """At most `spot_share_max` of what is served comes from spot capacity."""
    if want.spot_units_max is None:
        return
    columns = model.grid.columns
    terms = [
        columns[i].throughput
        * (SPOT_UNITS * columns[i].is_spot - want.spot_units_max)
        * model.count[i]
        for i in want.columns
    ]
    model.cp.add(_sum(terms) <= 0)


def anti_affinity(model: Model) -> None:
    """Deployments that keep apart hold no replica on the same plane."""
    rivals = model.grid.rivals
    held = {
        i: model.integer(1, f"held{i}", partial(_is_held, (i,)))
        for i in rivals
        if model.grid.columns[i].count_max
    }
    for i, is_held in held.items():
        model.cp.add(model.count[i] <= model.grid.columns[i].count_max * is_held)
        for other in rivals[i]:
            if other > i and other in held:
                model.cp.add(is_held + held[other] <= 1)


def movement_budget(model: Model) -> None:
    """At most `moves_max` healthy replicas are stopped while their deployment starts others."""
    budget = model.grid.problem.moves_max
    if budget is None:
        return
    moved: list[Expression] = []
    for want in model.grid.wants:
        runs = sum(model.grid.columns[i].current for i in want.columns)
        if not runs:
            continue
        most = sum(model.grid.columns[i].count_max for i in want.columns)
        started = _sum(model.started[i] for i in want.columns if i in model.started)
        # Started less stopped is placed less run; so one of the two says the other.
        stopped = started + runs - _sum(model.count[i] for i in want.columns)
        moves = model.integer(runs, f"moves-{want.name}", partial(moves_of, model.grid, want))
        grows = model.integer(1, f"grows-{want.name}", partial(_grows, runs, want.columns))
        model.cp.add(moves + runs * (1 - grows) >= stopped)
        model.cp.add(moves + most * grows >= started)
        moved.append(moves)
    model.cp.add(_sum(moved) <= budget)


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


def survival(model: Model) -> list[Expression]:
    """What is missing of promises to survive and to spread."""
    terms: list[Expression] = []
    for want in model.grid.wants:
        terms.extend(survival_of_each_domain(model, want))
        terms.extend(spread_over_domains(model, want))
    return terms


def count_starts(model: Model) -> None:
    """What each column has more than runs there."""
    for index, column in enumerate(model.grid.columns):
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


def cost(model: Model) -> list[Expression]:
    """Price per hour of all replicas, and of each start its cost spread over the horizon."""
    priced = zip(model.grid.columns, model.count, strict=True)
    terms: list[Expression] = [column.cost_microdollars * count for column, count in priced]
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


def _grows(runs: int, columns: tuple[int, ...], counts: Counts) -> int:
    return int(sum(counts[i] for i in columns) >= runs)


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


def solve_levels(
    model: Model, start: Counts, effort: tuple[float, float], scope: Scope = EVERYTHING
) -> Answer:
    """Minimise level by level from `start` on, holding each level where it got to."""
    counts = start
    bounds: list[int] = []
    prices: Mapping[str, float] = {}
    near: Sequence[float] = ()
    proven: list[bool] = []
    known = (*scope.bounds, *floors(model.grid)[len(scope.bounds) :])
    model.scope = scope
    for number in range(len(known)):
        value, bound = evaluate(model.grid, counts)[number], known[number]
        # Ordering equals is for proven plans: before, the next solve finds another cost anyway.
        proves = number < PROOF_LEVELS or all(proven[:PROOF_LEVELS])
        worthwhile = proves and number < scope.end
        terms = level_terms(model, number) if worthwhile else []
        is_asked = bool(terms) and number >= scope.first
        is_relaxed = is_asked and number < PROOF_LEVELS
        is_relaxed = is_relaxed and not scope.is_part
        if is_relaxed and (value > bound or number == COST):
            bound, prices, near = _relaxed(model, _sum(terms), bound)
        share = TIE_TIME_SHARE if number >= PROOF_LEVELS else effort[1] if number == COST else 1.0
        if value > bound and is_asked and share:
            seconds = effort[0] * share
            is_large = number < COST and bool(near) and len(counts) >= NEAR_COLUMNS_MIN
            if is_large:
                seconds *= NEAR_TIME_SHARE
            found, searched = _minimise(model, counts, _sum(terms), seconds)
            bound = max(bound, searched)
            counts = _better(model.grid, found, counts, number)
            for _ in range(NEAR_ROUNDS if is_large else 0):
                if evaluate(model.grid, counts)[number] > bound:
                    counts = _search_near(model, counts, number, near, seconds)
            value = evaluate(model.grid, counts)[number]
        bounds.append(min(bound, value))
        proven.append(value <= bound)
        if worthwhile:
            model.cp.add(_sum(terms) <= value)
    return Answer(
        counts=counts, bounds=tuple(bounds), optimal=all(proven[:PROOF_LEVELS]), prices=prices
    )


def _better(grid: Grid, found: Counts | None, counts: Counts, number: int) -> Counts:
    """Return what was found unless a level up to this one became worse by it."""
    if found is None:
        return counts
    ours, theirs = evaluate(grid, counts), evaluate(grid, found)
    return found if theirs[: number + 1] <= ours[: number + 1] else counts


def _search_near(
    model: Model, counts: Counts, number: int, near: Sequence[float], seconds: float
) -> Counts:
    """Return the best counts among those near the relaxation's, or what was given."""
    variables = model.cp.proto.variables
    domains = {v.index: list(variables[v.index].domain) for v in model.count}
    for variable, count in zip(model.count, counts, strict=True):
        at = near[variable.index]
        low, high = math.floor(at + ROUNDING), math.ceil(at - ROUNDING)
        if high > 0:
            low, high = low - NEAR_REPLICAS, high + NEAR_REPLICAS
        most = domains[variable.index][-1]
        _set_domain(
            variables, variable.index, [max(0, min(low, count)), min(most, max(high, count))]
        )
    found, _ = _minimise(model, counts, _sum(model.levels[number]), seconds)
    for index, domain in domains.items():
        _set_domain(variables, index, domain)
    return _better(model.grid, found, counts, number)


def _set_domain(variables: Any, index: int, domain: list[int]) -> None:
    kept = variables[index].domain
    kept.clear()
    kept.extend(domain)


def _relaxed(
    model: Model, objective: Expression, known: int
) -> tuple[int, Mapping[str, float], Sequence[float]]:
    """Return the bound of the linear relaxation, what it says pools are worth, and its values."""
    model.cp.minimize(objective)
    # A pool that one deployment fills shows in the bound of its count, not in the pool's row.
    filling = {
        model.count[i].index: model.grid.columns[i]
        for want in model.grid.wants
        for i in want.columns
        if model.grid.columns[i].count_max < want.replicas_max
        and model.grid.columns[i].nothing_new is None
    }
    model.relaxer = model.relaxer or Relaxer(model=model.cp)
    relaxation = model.relaxer.relax(model.pool_rows, filling)
    if relaxation is None:
        return known, {}, ()
    prices = {model.pool_rows[row]: dual for row, dual in relaxation.duals.items()}
    alone: dict[str, float] = {}
    for index, saved in relaxation.reduced.items():
        column = filling[index]
        alone[column.pool] = max(alone.get(column.pool, 0.0), saved / column.accelerators)
    prices = {pool: dual + alone.get(pool, 0.0) for pool, dual in prices.items()}
    return max(known, relaxation.bound), prices, relaxation.values


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
    if deterministic_time_max <= LIGHT_TIME_MAX:
        solver.parameters.max_presolve_iterations = 1
        solver.parameters.cp_model_probing_level = 0
        solver.parameters.symmetry_level = 0
    elif model.scope.is_part:
        solver.parameters.add_lp_constraints_lazily = False  # proves in 0.15 s, not 0.2
    status = solver.solve(model.cp)
    if status not in (cp_model.OPTIMAL, cp_model.FEASIBLE):
        return None, 0
    found = tuple(solver.value(variable) for variable in model.count)
    # The bound is a float of an integer: round it up, less what a float may be off.
    bound = -int(-(solver.best_objective_bound - 1e-6) // 1)
    return found, bound
