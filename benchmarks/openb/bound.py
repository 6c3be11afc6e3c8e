"""Ceilings that no packing can pass, by a cutting-stock linear program.

Called by `benchmarks/bench_openb.py`. The program is a relaxation: CPU and memory count in sum over
the nodes that are alike, an accelerator is cut by patterns of sizes that fit on it, replicas and
patterns may be fractions. Whatever a real packing does, it can do; so its optimum is a ceiling.
Patterns are made as they are needed, and what the last round could still have won is added.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from ortools.linear_solver import pywraplp

from benchmarks.openb.packer import COUNT, CPU, KIND, MEMORY, WHOLE
from benchmarks.openb.trace import Trace
from scheduler.compiled import Floats, Ints

GRAIN = 10  # thousandths; every size of the trace is a multiple
ROUNDS_MAX = 200  # some 25 are needed
WIN_MIN = 1e-7  # accelerators a pattern must win per accelerator to be taken in
KIBI = 1024.0

Pattern = tuple[tuple[int, int], ...]  # (index of a size, how many of it)


@dataclass(frozen=True, slots=True, kw_only=True)
class Alike:
    """Nodes of the same kind and size."""

    cpu: int
    memory: int
    kind: int
    count: int  # accelerators of each
    nodes: int


@dataclass(slots=True, kw_only=True)
class Program:
    """The linear program while it is built: its rows, and the patterns it knows."""

    solver: pywraplp.Solver
    sizes: list[int]
    alike: list[Alike]
    accelerators: list[pywraplp.Constraint] = field(default_factory=list)
    cut: list[list[pywraplp.Constraint]] = field(default_factory=list)  # per alike, per size


def nodes_alike(rooms: Ints) -> list[Alike]:
    """Return the distinct nodes and how many there are of each."""
    rows, nodes = np.unique(rooms[:, [CPU, MEMORY, KIND, COUNT]], axis=0, return_counts=True)
    return [
        Alike(cpu=row[0], memory=row[1], kind=row[2], count=row[3], nodes=number)
        for row, number in zip(rows.tolist(), nodes.tolist(), strict=True)
    ]


def ceiling(trace: Trace, arrived: Ints, must: Ints, known: set[Pattern]) -> float:
    """Return the most accelerators that a packing can allocate, as a share of the capacity.

    `arrived` and `must` count replicas per shape: at most so many are placed, and at least so
    many. `known` patterns start the program and new ones are added to it.
    """
    program = program_of(trace)
    objective = program.solver.Objective()
    objective.SetMaximization()
    supply = [
        program.solver.Constraint(float(least), float(most))
        for least, most in zip(must.tolist(), arrived.tolist(), strict=True)
    ]
    for variable, shape in hosted(program, trace):
        supply[shape].SetCoefficient(variable, 1.0)
        objective.SetCoefficient(variable, float(trace.size_milli[shape]) / WHOLE)
    return solved(program, known) * WHOLE / trace.capacity_milli


def mix_ceiling(trace: Trace, known: set[Pattern]) -> float:
    """Return the share allocated by the largest multiple of the trace's own mix that can fit.

    No ceiling of a single run: once it is full, a run goes on with what happens to fit.
    """
    program = program_of(trace)
    objective = program.solver.Objective()
    objective.SetMaximization()
    multiple = program.solver.NumVar(0.0, program.solver.infinity(), "")
    rows: dict[int, pywraplp.Constraint] = {}
    for variable, shape in hosted(program, trace):
        if shape not in rows:
            rows[shape] = program.solver.Constraint(0.0, program.solver.infinity())
            rows[shape].SetCoefficient(multiple, -WHOLE * float(trace.shapes.share[shape]))
        rows[shape].SetCoefficient(variable, 1.0)
    # A few requests of gpuspec10 fit no node at all; the mix is what can be hosted.
    possible = sorted(rows)
    mean_milli = float((trace.shapes.share * trace.size_milli)[possible].sum())
    objective.SetCoefficient(multiple, mean_milli)  # the variable is in thousands of replicas
    return solved(program, known) * WHOLE / trace.capacity_milli


def program_of(trace: Trace) -> Program:
    """Return a program that has the nodes' rows and nothing to put on them."""
    sizes = sorted({int(m) for m in trace.shapes.milli[trace.shapes.accelerators > 0]})
    assert all(size % GRAIN == 0 and 0 < size <= WHOLE for size in sizes), "the grain is too coarse"
    solver = pywraplp.Solver.CreateSolver("GLOP")
    program = Program(solver=solver, sizes=sizes, alike=nodes_alike(trace.rooms))
    none = solver.infinity()
    for nodes in program.alike:
        program.accelerators.append(solver.Constraint(-none, float(nodes.count * nodes.nodes)))
        program.cut.append([solver.Constraint(-none, 0.0) for _ in sizes])
    return program


def hosted(program: Program, trace: Trace) -> Iterator[tuple[pywraplp.Variable, int]]:
    """Add a variable per shape and sort of node that may host it; yield it with its shape."""
    solver, shapes = program.solver, trace.shapes
    place = {size: index for index, size in enumerate(program.sizes)}
    for index, nodes in enumerate(program.alike):
        cpu = solver.Constraint(-solver.infinity(), float(nodes.cpu * nodes.nodes) / WHOLE)
        memory = solver.Constraint(-solver.infinity(), float(nodes.memory * nodes.nodes) / KIBI)
        for shape in range(len(shapes.accelerators)):
            count = int(shapes.accelerators[shape])
            if count > nodes.count or (count and not shapes.allowed[shape, nodes.kind]):
                continue
            if shapes.cpu[shape] > nodes.cpu or shapes.memory[shape] > nodes.memory:
                continue
            variable = solver.NumVar(0.0, solver.infinity(), "")
            cpu.SetCoefficient(variable, float(shapes.cpu[shape]) / WHOLE)
            memory.SetCoefficient(variable, float(shapes.memory[shape]) / KIBI)
            if count:
                row = program.cut[index][place[int(shapes.milli[shape])]]
                row.SetCoefficient(variable, float(count))
            yield variable, shape


def solved(program: Program, known: set[Pattern]) -> float:
    """Return the optimum in accelerators over all patterns, plus what rounding may hide."""
    known |= {((index, WHOLE // size),) for index, size in enumerate(program.sizes)}
    for pattern in sorted(known):
        offer(program, pattern)
    # The first basis is far from feasible and later ones degenerate: only the dual simplex, each
    # time from scratch, solved every instance; the primal gave up on the mix at once.
    parameters = pywraplp.MPSolverParameters()
    parameters.SetIntegerParam(parameters.INCREMENTALITY, parameters.INCREMENTALITY_OFF)
    parameters.SetIntegerParam(parameters.LP_ALGORITHM, parameters.DUAL)
    for _ in range(ROUNDS_MAX):
        status = program.solver.Solve(parameters)
        assert status == pywraplp.Solver.OPTIMAL, f"the linear program ended with status {status}"
        prices = [
            (whole.dual_value(), np.array([row.dual_value() for row in cut]))
            for whole, cut in zip(program.accelerators, program.cut, strict=True)
        ]
        fresh, hidden = set(), 0.0
        for nodes, (price, values) in zip(program.alike, prices, strict=True):
            worth, pattern = best_pattern(program.sizes, values)
            hidden += max(0.0, worth - price) * nodes.count * nodes.nodes
            if worth > price + WIN_MIN:
                fresh.add(pattern)
        if not fresh - known:
            return float(program.solver.Objective().Value()) + hidden
        for pattern in sorted(fresh - known):
            offer(program, pattern)
        known |= fresh
    raise AssertionError(f"patterns still win after {ROUNDS_MAX} rounds")


def offer(program: Program, pattern: Pattern) -> None:
    """Let every sort of node cut its accelerators by the pattern."""
    for whole, cut in zip(program.accelerators, program.cut, strict=True):
        variable = program.solver.NumVar(0.0, program.solver.infinity(), "")
        whole.SetCoefficient(variable, 1.0)
        for index, number in pattern:
            cut[index].SetCoefficient(variable, -float(number))


def best_pattern(sizes: list[int], values: Floats) -> tuple[float, Pattern]:
    """Return the most that one accelerator's sizes can be worth, and which sizes those are."""
    steps = WHOLE // GRAIN
    worth, last = np.zeros(steps + 1), np.full(steps + 1, -1)
    for step in range(1, steps + 1):
        worth[step] = worth[step - 1]
        for index, size in enumerate(sizes):
            before = step - size // GRAIN
            if before >= 0 and worth[before] + values[index] > worth[step]:
                worth[step], last[step] = worth[before] + values[index], index
    counts: dict[int, int] = {}
    step = steps
    while step > 0:
        index = int(last[step])
        if index < 0:
            step -= 1
            continue
        counts[index] = counts.get(index, 0) + 1
        step -= sizes[index] // GRAIN
    return float(worth[steps]), tuple(sorted(counts.items()))
