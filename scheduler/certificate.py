"""The certificate: the linear relaxation of a level's model, its bound and the prices of pools.

`exact` asks before it searches (a level that meets its bound is done) and keeps the duals of the
cost level. The relaxation is read from the very model that CP-SAT solves, so it is never another.
"""

import math
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass

from ortools.linear_solver import pywraplp
from ortools.sat.python import cp_model

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


def relax(
    model: cp_model.CpModel, rows: Collection[int], bounded: Collection[int]
) -> Relaxation | None:
    """Return the relaxation of a model with linear rows, None when GLOP has no answer.

    `rows` are the indices of rows whose duals are wanted, `bounded` those of variables whose
    bounds' worth is.
    """
    proto = model.proto
    solver = pywraplp.Solver.CreateSolver("GLOP")
    solver.SetSolverSpecificParametersAsString(GLOP_PARAMETERS)
    infinity = solver.infinity()
    variables = []
    for variable in proto.variables:
        domain = list(variable.domain)
        variables.append(solver.NumVar(float(domain[0]), float(domain[-1]), ""))
    asked: dict[int, tuple[pywraplp.Constraint, float]] = {}
    for number, constraint in enumerate(proto.constraints):
        row = constraint.linear
        domain, coefficients = list(row.domain), list(row.coeffs)
        # Rows mix microdollars and replicas: each is brought to coefficients of at most 1.
        scale = float(max((abs(value) for value in coefficients), default=1)) or 1.0
        low = -infinity if domain[0] < -UNBOUNDED else domain[0] / scale
        high = infinity if domain[-1] > UNBOUNDED else domain[-1] / scale
        made = solver.Constraint(low, high)
        for index, value in zip(list(row.vars), coefficients, strict=True):
            at = variables[index]
            made.SetCoefficient(at, made.GetCoefficient(at) + value / scale)
        if number in rows:
            asked[number] = (made, scale)
    return _solved(solver, proto, (variables, bounded), asked)


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
    for index, value in zip(list(proto.objective.vars), coefficients, strict=True):
        at = variables[index]
        objective.SetCoefficient(at, objective.GetCoefficient(at) + value / scale)
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
