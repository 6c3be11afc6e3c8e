"""The scheduler asked in this process about a problem from a file, answers as the client has them.

`skerry schedule --explain`, `--what-if` and `--survive` call it.
"""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from scheduler.explain import explain
from scheduler.problem import BadQuestion, PlacementProblem
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import Change, DemandFactor, Lose, PriceFactor, what_if
from skerry.client import answer_rows, questions, rows
from skerry.fleet.placement import Placement
from skerry.plumbing.errors import InvalidInput


@dataclass(frozen=True, slots=True, kw_only=True)
class FileQuestions:
    """Asks about one problem; InvalidInput for a name that it does not have."""

    problem: PlacementProblem

    def explain(self, deployment: str, pool: str | None) -> questions.Explanation:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        try:
            found = explain(self.problem, solve(self.problem), deployment, pool)
        except BadQuestion as error:
            raise InvalidInput(f"{error}; `-o json` of the plan lists the names") from None
        ways = (
            questions.WayOut(change=way.change, dollars_per_hour=way.dollars_per_hour)
            for way in found.ways
        )
        return answer_rows.explanation(found, ways)

    def what_if(self, changes: Sequence[questions.Hypothesis]) -> questions.Consequences:
        """Return what the changes together would do."""
        try:
            found = what_if(self.problem, tuple(map(_change, changes)))
        except BadQuestion as error:
            raise InvalidInput(str(error)) from None
        return questions.Consequences(
            placed=_replicas(found.diff.place),
            moved=tuple(
                rows.MoveRow(
                    deployment=move.deployment,
                    from_pool=move.from_pool,
                    to_pool=move.to_pool,
                    replicas=move.count,
                )
                for move in found.diff.move
            ),
            evicted=_replicas(found.evicted),
            shed=answer_rows.shed_rows(found.shed),
            unplaced=answer_rows.unplaced_rows(found.unmet),
            unplaced_before=answer_rows.unplaced_rows(found.before.unplaced),
            cost_per_hour_before=found.before.cost_per_hour,
            cost_per_hour_after=found.plan.cost_per_hour,
            levels=answer_rows.level_rows(found.plan.levels),
            solver=found.plan.solver,
            optimal=found.plan.optimal,
        )

    def survive(self) -> tuple[questions.LossRow, ...]:
        """Return what each loss would leave."""
        return answer_rows.loss_rows(survive(self.problem, solve(self.problem)))


def _change(hypothesis: questions.Hypothesis) -> Change:
    match hypothesis:
        case questions.Lose():
            return Lose(domain=hypothesis.domain, name=hypothesis.name)
        case questions.ScalePrice():
            return PriceFactor(factor=hypothesis.factor, pool=hypothesis.pool)
        case questions.ScaleDemand():
            return DemandFactor(factor=hypothesis.factor, deployment=hypothesis.deployment)


def _replicas(placements: Iterable[Placement]) -> tuple[questions.ReplicasRow, ...]:
    return tuple(
        questions.ReplicasRow(
            deployment=p.deployment, pool=p.pool, replicas=p.count, reason=p.reason
        )
        for p in placements
    )
