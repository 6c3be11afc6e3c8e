"""The certificate: the linear relaxation of a level's model, its bound and the prices of pools.

`exact` asks before it searches (a level that meets its bound is done) and keeps the duals of the
cost level. The relaxation is read from the very model that CP-SAT solves, so it is never another.
"""

# Annotations name modules that are imported later.
from __future__ import annotations

import itertools
import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field

from scheduler.modelling import cp_model, pywraplp

# CP-SAT writes "no bound" as the ends of 64 bits.
UNBOUNDED = 2**61
# GLOP's optimum is a float within a relative 1e-7 or so of the truth: bounds give up ten times it.
BOUND_TOLERANCE = 1e-6
# Iterations of the simplex, not seconds: the same model gives the same answer.
GLOP_PARAMETERS = "max_number_of_iterations: 200000"


@dataclass(frozen=True, slots=True, kw_only=True)
class Relaxation:
    """No integer answer is below `bound`.

    `duals` say what a row's next unit saves, by row, and `reduced` what the next unit of a
    variable's upper bound saves, by variable. `values` are those of all variables.
    """

    bound: int
    duals: Mapping[int, float]
    reduced: Mapping[int, float]
    values: Sequence[float]


@dataclass(slots=True, kw_only=True)
class Relaxer:
    """The linear relaxation of a growing model: each question reads only what is new in it."""

    model: cp_model.CpModel
    solver: pywraplp.Solver = field(default_factory=lambda: _glop())
    variables: list[pywraplp.Variable] = field(default_factory=list)
    rows: list[tuple[pywraplp.Constraint, float]] = field(default_factory=list)

    def relax(self, rows: Collection[int], bounded: Collection[int]) -> Relaxation | None:
        """Return the relaxation of a model with linear rows, None when GLOP has no answer.

        `rows` are the indices of rows whose duals are wanted, `bounded` those of variables whose
        bounds' worth is.
        """
        proto, infinity = self.model.proto, self.solver.infinity()
        for variable in itertools.islice(proto.variables, len(self.variables), None):
            domain = list(variable.domain)
            self.variables.append(self.solver.NumVar(float(domain[0]), float(domain[-1]), ""))
        for constraint in itertools.islice(proto.constraints, len(self.rows), None):
            row = constraint.linear
            domain, coefficients = list(row.domain), list(row.coeffs)
            # Rows mix microdollars and replicas: each is brought to coefficients of at most 1.
            scale = float(max((abs(value) for value in coefficients), default=1)) or 1.0
            low = -infinity if domain[0] < -UNBOUNDED else domain[0] / scale
            high = infinity if domain[-1] > UNBOUNDED else domain[-1] / scale
            made = self.solver.Constraint(low, high)
            for index, value in _added(row.vars, coefficients).items():
                made.SetCoefficient(self.variables[index], value / scale)
            self.rows.append((made, scale))
        asked = {number: self.rows[number] for number in rows}
        return _solved(self.solver, proto, (self.variables, bounded), asked)


def relax(
    model: cp_model.CpModel, rows: Collection[int], bounded: Collection[int]
) -> Relaxation | None:
    """Return the relaxation of a model that is asked about once."""
    return Relaxer(model=model).relax(rows, bounded)


def _glop() -> pywraplp.Solver:
    solver = pywraplp.Solver.CreateSolver("GLOP")
    solver.SetSolverSpecificParametersAsString(GLOP_PARAMETERS)
    return solver


def _added(indices: Iterable[int], values: Iterable[int]) -> Mapping[int, int]:
    """Return the sum of the values of each index: a row may name a variable twice."""
    found: dict[int, int] = {}
    for index, value in zip(indices, values, strict=True):
        found[index] = found.get(index, 0) + value
    return found


def _solved(
    solver: pywraplp.Solver,
    proto: cp_model.CpModelProto,
    of: tuple[list[pywraplp.Variable], Collection[int]],
    asked: Mapping[int, tuple[pywraplp.Constraint, float]],
) -> Relaxation | None:
    variables, bounded = of
    coefficients = list(proto.objective.coeffs)
    scale = float(max((abs(value) for value in coefficients), default=1)) or 1.0
    objective = solver.Objective()
    objective.Clear()
    for index, value in _added(proto.objective.vars, coefficients).items():
        objective.SetCoefficient(variables[index], value / scale)
    objective.SetMinimization()
    if solver.Solve() != pywraplp.Solver.OPTIMAL:
        return None
    value = objective.Value() * scale + proto.objective.offset
    if not math.isfinite(value):
        return None
    bound = math.ceil(value - BOUND_TOLERANCE * max(1.0, abs(value)))
    return Relaxation(
        bound=bound,
        duals={
            number: max(0.0, -made.dual_value() * scale / unit)
            for number, (made, unit) in asked.items()
        },
        reduced={index: max(0.0, -variables[index].reduced_cost() * scale) for index in bounded},
        values=[variable.solution_value() for variable in variables],
    )
