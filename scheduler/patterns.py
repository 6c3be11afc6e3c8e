"""The master over whole-replica patterns: a linear program chooses one way of serving for each.

`refine` calls `recombine` where columns are few enough: each deployment offers ways of being served
whole, and the master mixes them so that the pools suffice at the least cost.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from ortools.linear_solver import pywraplp

from scheduler.compiled import Floats, Ints
from scheduler.prices import Prices
from scheduler.pricing import CAREFUL
from scheduler.rounding import Market, PoolRoom, Tariff, Wants, negotiate

SEED = 3
# Noise on prices gives each deployment several near equals.
START_NOISES = (0.03, 0.03, 0.06, 0.1)
NOISES = (0.0, 0.03)
# What serving nobody costs in the master, over the dearest pattern: dearer than any exchange.
ARTIFICIAL = 20.0
# With its own scaling the simplex gave up on one instance of two, and took half again as long.
PARAMETERS = (
    "use_scaling: false provide_strong_optimal_guarantee: false change_status_to_imprecise: false"
)
SHARE_MIN = 1e-7


@dataclass(slots=True, kw_only=True)
class Patterns:
    """Ways of serving: for each its deployment, its columns and counts, and its cost."""

    owner: list[int] = field(default_factory=list)
    columns: list[Ints] = field(default_factory=list)
    counts: list[Ints] = field(default_factory=list)
    cost: list[float] = field(default_factory=list)
    seen: set[bytes] = field(default_factory=set)

    def add(self, market: Market, counts: Ints) -> None:
        """Add what each deployment holds, but for those it offers already."""
        for d in range(len(market.first) - 1):
            begin, end = market.first[d], market.first[d + 1]
            held = np.flatnonzero(counts[begin:end]) + begin
            if not len(held):
                continue
            key = held.tobytes() + counts[held].tobytes()
            if key in self.seen:
                continue
            self.seen.add(key)
            kept = np.minimum(counts[held], market.kept[held])
            self.owner.append(d)
            self.columns.append(held)
            self.counts.append(counts[held].copy())
            self.cost.append(
                float((market.dollars[held] * counts[held] - market.bonus[held] * kept).sum())
            )


class Master:
    """The linear program: one row per deployment, two per pool, one column per pattern."""

    def __init__(self, market: Market, room: PoolRoom, patterns: Patterns) -> None:
        self.solver = pywraplp.Solver.CreateSolver("GLOP")
        self.solver.SetSolverSpecificParametersAsString(PARAMETERS)
        self.market, self.room, self.patterns = market, room, patterns
        self.weights: list[pywraplp.Variable] = []
        none = self.solver.infinity()
        self.served = [
            self.solver.Constraint(1.0, 1.0) if market.first[d] < market.first[d + 1] else None
            for d in range(len(market.first) - 1)
        ]
        # Rows in shares of a pool: bytes beside accelerators made the simplex give up.
        self.accelerators = [self.solver.Constraint(-none, 1.0) for _ in room.capacity]
        self.memory = [self.solver.Constraint(-none, 1.0) for _ in room.capacity]
        self.scale = np.maximum(room.capacity, 1.0), np.maximum(room.memory_capacity, 1.0)
        dearest = max(patterns.cost, default=1.0)
        for row in self.served:
            if row is not None:
                missing = self.solver.NumVar(0.0, none, "")
                row.SetCoefficient(missing, 1.0)
                self.solver.Objective().SetCoefficient(missing, ARTIFICIAL * dearest)

    def solve(self) -> tuple[Floats, Floats, Floats] | None:
        """Take in new patterns; return (weight per pattern, price per accelerator and per byte)."""
        objective = self.solver.Objective()
        for p in range(len(self.weights), len(self.patterns.owner)):
            weight = self.solver.NumVar(0.0, self.solver.infinity(), "")
            objective.SetCoefficient(weight, self.patterns.cost[p])
            row = self.served[self.patterns.owner[p]]
            assert row is not None, "a pattern's owner has columns"
            row.SetCoefficient(weight, 1.0)
            for pool, taken, memory in self.loads(p):
                self.accelerators[pool].SetCoefficient(weight, taken / self.scale[0][pool])
                share = memory / self.scale[1][pool]
                if share > SHARE_MIN:
                    self.memory[pool].SetCoefficient(weight, share)
            self.weights.append(weight)
        if self.solver.Solve() != pywraplp.Solver.OPTIMAL:
            return None
        return (
            np.array([weight.solution_value() for weight in self.weights]),
            np.array([max(0.0, -row.dual_value()) for row in self.accelerators]) / self.scale[0],
            np.array([max(0.0, -row.dual_value()) for row in self.memory]) / self.scale[1],
        )

    def loads(self, p: int) -> Iterator[tuple[int, float, float]]:
        """Yield (pool, accelerators, bytes) of a pattern; it has one column per pool."""
        market, columns, counts = self.market, self.patterns.columns[p], self.patterns.counts[p]
        yield from zip(
            market.pool[columns].tolist(),
            (market.accelerators[columns] * counts).tolist(),
            (market.memory[columns] * counts).tolist(),
            strict=True,
        )


def recombine(
    market: Market, wants: Wants, room: PoolRoom, start: Prices, known: list[Ints], rounds: int
) -> tuple[Ints, Floats, Floats] | None:
    """Return counts that combine patterns better, and the prices of accelerators and bytes.

    Patterns come from prices around `start` and from `known` plans. Each deployment gets one
    pattern whole, so that pools may be overdrawn where the program split it; None when the simplex
    gave up.
    """
    patterns = Patterns()
    for counts in known:
        patterns.add(market, counts)
    chance = np.random.default_rng(SEED)
    price = start.accelerator, start.memory
    for noise in (0.0, *START_NOISES):
        patterns.add(market, _priced(market, wants, room, price, noise, chance))
    master = Master(market, room, patterns)
    found = master.solve()
    for _ in range(rounds):
        if found is None:
            return None
        # The duals of few patterns swing; halfway to the last ones they find better ones.
        price = 0.5 * (price[0] + found[1]), 0.5 * (price[1] + found[2])
        before = len(patterns.owner)
        patterns.add(market, _priced(market, wants, room, found[1:], 0.0, chance))
        for noise in NOISES:
            patterns.add(market, _priced(market, wants, room, price, noise, chance))
        if len(patterns.owner) == before:
            break
        better = master.solve()
        if better is None:
            break
        found = better
    if found is None:
        return None
    return _heaviest(master, found[0]), found[1], found[2]


def _priced(
    market: Market,
    wants: Wants,
    room: PoolRoom,
    prices: tuple[Floats, Floats],
    noise: float,
    chance: np.random.Generator,
) -> Ints:
    """Return what each deployment would take at these prices had it all pools to itself."""
    alone = PoolRoom(
        accelerators=np.full(len(room.capacity), 1e15),
        memory=np.full(len(room.capacity), 1e18),
        capacity=room.capacity,
        memory_capacity=room.memory_capacity,
        moves=np.full(1, np.inf),
    )
    rate = np.maximum(0.1, 1.0 + noise * chance.normal(size=len(market.pool)))
    apart = market._replace(rival_first=np.zeros_like(market.rival_first))
    noisy = apart._replace(dollars=market.dollars * rate) if noise else apart
    tariff = Tariff(accelerator=prices[0], memory=prices[1], pressure=float("inf"), care=CAREFUL)
    counts = np.zeros(len(market.pool), np.int64)
    everybody = np.arange(len(market.first) - 1)
    negotiate(everybody, noisy, wants, alone, tariff, counts)
    return counts


def _heaviest(master: Master, weights: Floats) -> Ints:
    """Return the counts of each deployment's heaviest pattern; pools may be overdrawn a little."""
    patterns = master.patterns
    counts = np.zeros(len(master.market.pool), np.int64)
    chosen: dict[int, int] = {}
    for p, d in enumerate(patterns.owner):
        if d not in chosen or weights[p] > weights[chosen[d]]:
            chosen[d] = p
    for p in chosen.values():
        counts[patterns.columns[p]] = patterns.counts[p]
    return counts
