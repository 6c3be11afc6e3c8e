"""One fleet planned again and again: what a solve learnt is where the next one starts.

The solver's process holds a Session, benchmarks too. `solve.solve` without one depends on nothing
but its problem; a session's plans depend on the problems it was asked before, in their order.
"""

from collections.abc import Collection
from dataclasses import replace
from typing import TYPE_CHECKING

from scheduler.check import Violation, violations
from scheduler.levels import COST
from scheduler.plan import PlacementPlan
from scheduler.problem import LOST, PlacementProblem, PoolBar
from scheduler.solve import Outcome, SolveLimits, UnusablePlan, solve, solve_arrays, solve_from

if TYPE_CHECKING:
    from scheduler.wide import Warm

# Behind a plan of the exact path: some tens of seconds a level, all of them for cost too.
THOROUGH_TIME_MAX = 6.0


class Session:
    """Keeps the last problem and plan, its arrays, and the prices of pools.

    `solve` first, then `repair` and `refine` speak of that plan.
    """

    def __init__(self, limits: SolveLimits | None = None) -> None:
        self._limits = limits or SolveLimits()
        self._problem: PlacementProblem | None = None
        self._outcome: Outcome | None = None
        self._warm: Warm | None = None

    def solve(self, problem: PlacementProblem) -> PlacementPlan:
        """Return a checked plan, from the last prices where the fleet is nearly the same."""
        former = self._outcome.arrays if self._outcome else None
        self._keep(problem, solve_from(problem, self._limits, self._warm, former))
        assert self._outcome is not None
        return self._outcome.plan

    def repair(self, plan: PlacementPlan, lost: Collection[str]) -> PlacementPlan:
        """Return the plan without the lost pools: who ran there placed again, healthy ones kept.

        Raises ValueError when a pool is unknown or `plan` is not the last of this session.
        """
        if self._problem is None or self._outcome is None or self._outcome.plan is not plan:
            raise ValueError("repair speaks of the last plan of this session: solve first")
        problem = without(self._problem, plan, lost)
        outcome = self._outcome
        if outcome.answer is None or outcome.arrays is None:
            found = Outcome(plan=solve(problem, replace(self._limits, searches=False)))
        else:
            found = _repaired(problem, outcome, lost, self._limits)
        self._keep(problem, found)
        return found.plan

    def refine(self) -> PlacementPlan:
        """Return a better plan of the last problem where some seconds find one, or the same.

        What the exact path found is searched until its optimum is proven or the effort is spent;
        what the pipeline found is recombined and searched in groups.
        """
        if self._problem is None or self._outcome is None:
            raise ValueError("refine speaks of the last plan of this session: solve first")
        outcome = self._outcome
        if outcome.answer is not None and outcome.arrays is not None:
            found = _refined(self._problem, outcome)
        else:
            limits = replace(
                self._limits, deterministic_time_max=THOROUGH_TIME_MAX, cost_time_share=1.0
            )
            found = solve_from(self._problem, limits)
        if ranked(found.plan) < ranked(outcome.plan) or found.plan.optimal:
            self._keep(self._problem, found)
            return found.plan
        return outcome.plan

    def certify(self) -> PlacementPlan:
        """Return the last plan with a sharper bound on its cost: of whole replicas, not of parts.

        Takes a tenth of a second for each deployment.
        """
        if self._problem is None or self._outcome is None:
            raise ValueError("certify speaks of the last plan of this session: solve first")
        outcome = self._outcome
        if outcome.answer is None or outcome.arrays is None:
            return outcome.plan
        from scheduler.integrality import certify
        from scheduler.wide import levels_told

        answer = certify(outcome.answer)
        plan = replace(outcome.plan, levels=levels_told(outcome.arrays, answer))
        self._keep(self._problem, replace(outcome, plan=plan, answer=answer))
        return plan

    def _keep(self, problem: PlacementProblem, outcome: Outcome) -> None:
        self._problem, self._outcome = problem, outcome
        self._warm = outcome.warm or self._warm


def ranked(plan: PlacementPlan) -> tuple[float, ...]:
    """Return the levels up to cost, to compare two plans of one problem."""
    return tuple(level.value for level in plan.levels[: COST + 1])


def _refined(problem: PlacementProblem, outcome: Outcome) -> Outcome:
    from scheduler.refine import refine_large
    from scheduler.wide import tell, warm_of

    assert outcome.answer is not None
    assert outcome.arrays is not None
    answer = refine_large(outcome.answer)
    plan = tell(outcome.arrays, answer, "refined")
    if violations(plan, problem):
        return outcome
    warm = warm_of(outcome.arrays, answer)
    return replace(outcome, plan=plan, answer=answer, warm=warm)


def without(
    problem: PlacementProblem, plan: PlacementPlan, lost: Collection[str]
) -> PlacementProblem:
    """Return the problem after a plan was applied and some pools were lost."""
    known = {pool.name for pool in problem.pools}
    if unknown := sorted(set(lost) - known):
        raise ValueError(f"pool {unknown[0]!r} is not among the {len(known)} pools")
    bars = tuple(PoolBar(pool=name, reason=LOST, keeps_current=False) for name in sorted(set(lost)))
    return replace(problem, current=plan.placements, bars=(*problem.bars, *bars))


def _repaired(
    problem: PlacementProblem, outcome: Outcome, lost: Collection[str], limits: SolveLimits
) -> Outcome:
    """Return the repaired plan, a solved one where it would break a rule or repairing fails."""
    try:
        found, broken = _repair_of(problem, outcome, lost)
        if not broken:
            return found
        why = str(UnusablePlan(broken))
    except Exception as error:  # the fleet still needs a plan
        why = f"{type(error).__name__}: {error}"
    other = solve_arrays(problem, limits, outcome.warm)
    reason = "; ".join(filter(None, [f"repair: {why}", other.plan.solver_reason]))
    return replace(other, plan=replace(other.plan, solver_reason=reason))


def _repair_of(
    problem: PlacementProblem, outcome: Outcome, lost: Collection[str]
) -> tuple[Outcome, tuple[Violation, ...]]:
    """Return the repaired plan and the rules it breaks."""
    import numpy as np

    from scheduler.repair import repair
    from scheduler.retell import retell, touched_by

    arrays, answer = outcome.arrays, outcome.answer
    assert arrays is not None
    assert answer is not None
    number_of = {name: number for number, name in enumerate(arrays.names)}
    repaired = repair(answer, np.array(sorted(number_of[name] for name in set(lost)), np.int64))
    closed = list(arrays.closed)
    for name in lost:
        closed[number_of[name]] = LOST
    instance = repaired.answer.draft.instance
    after = replace(arrays, problem=problem, closed=tuple(closed), instance=instance)
    plan = retell(after, outcome.plan, repaired)
    found = Outcome(plan=plan, arrays=after, answer=repaired.answer)
    return found, violations(plan, problem, touched_by(after, repaired))
