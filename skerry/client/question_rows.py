"""Protobuf messages of questions and plans to the client's values, and hypotheses to messages.

Only `skerry.client.operator_calls` reads answers and writes questions through it.
"""

from collections.abc import Iterable

from skerry.api.operator.v1 import placement_pb2, question_pb2
from skerry.client import questions, rows
from skerry.fleet.deployment import FailureDomain


def hypothesis_message(hypothesis: questions.Hypothesis) -> question_pb2.Hypothesis:
    """Return the message of one thing that might happen."""
    match hypothesis:
        case questions.Lose():
            lost = question_pb2.LostDomain(domain=hypothesis.domain.value, name=hypothesis.name)
            return question_pb2.Hypothesis(lose=lost)
        case questions.ScalePrice():
            price = question_pb2.PriceFactor(factor=hypothesis.factor, pool=hypothesis.pool or "")
            return question_pb2.Hypothesis(price=price)
        case questions.ScaleDemand():
            demand = question_pb2.DemandFactor(
                factor=hypothesis.factor, deployment=hypothesis.deployment or ""
            )
            return question_pb2.Hypothesis(demand=demand)


def explanation(message: question_pb2.Explanation) -> questions.Explanation:
    """Return why a deployment is where it is or is not."""
    return questions.Explanation(
        deployment=message.deployment,
        pool=message.pool or None,
        replicas=message.replicas,
        reasons=tuple(message.reasons),
        conflict=tuple(message.conflict),
        ways=tuple(
            questions.WayOut(change=way.change, dollars_per_hour=way.dollars_per_hour)
            for way in message.ways
        ),
    )


def consequences(message: question_pb2.Consequences) -> questions.Consequences:
    """Return what some changes would do."""
    return questions.Consequences(
        placed=_replicas(message.placed),
        moved=tuple(
            questions.MoveRow(
                deployment=move.deployment,
                from_pool=move.from_pool,
                to_pool=move.to_pool,
                replicas=move.replicas,
            )
            for move in message.moved
        ),
        evicted=_replicas(message.evicted),
        shed=shed_rows(message.shed),
        unplaced=unplaced_rows(message.unplaced),
        unplaced_before=unplaced_rows(message.unplaced_before),
        cost_per_hour_before=message.cost_per_hour_before,
        cost_per_hour_after=message.cost_per_hour_after,
        levels=level_rows(message.levels),
        solver=message.solver,
        optimal=message.optimal,
    )


def losses(message: question_pb2.LossMatrix) -> tuple[questions.LossRow, ...]:
    """Return what each loss would leave."""
    return tuple(
        questions.LossRow(
            domain=FailureDomain(loss.domain),
            name=loss.name,
            holds=loss.holds,
            survivors=tuple(
                questions.SurvivorRow(
                    deployment=survivor.deployment,
                    wanted=survivor.wanted,
                    left=survivor.left,
                    promised=survivor.promised,
                    shortfall=survivor.shortfall,
                    unmet_after=survivor.unmet_after if loss.solved else None,
                )
                for survivor in loss.survivors
            ),
            shed=shed_rows(loss.shed),
            solved=loss.solved,
        )
        for loss in message.losses
    )


def shed_rows(messages: Iterable[placement_pb2.Shed]) -> tuple[rows.ShedRow, ...]:
    """Return the rows of what is given up."""
    return tuple(
        rows.ShedRow(
            deployment=item.deployment,
            pool=item.pool,
            replicas=item.replicas,
            taken_by=tuple(item.taken_by),
            reason=item.reason,
        )
        for item in messages
    )


def level_rows(messages: Iterable[placement_pb2.PlanLevel]) -> tuple[rows.LevelRow, ...]:
    """Return the rows of the objective's levels."""
    return tuple(
        rows.LevelRow(
            level=item.level, value=item.value, bound=item.bound, gap=item.gap, unit=item.unit
        )
        for item in messages
    )


def unplaced_rows(messages: Iterable[placement_pb2.Unplaced]) -> tuple[rows.UnplacedRow, ...]:
    """Return the rows of what finds no place."""
    return tuple(
        rows.UnplacedRow(deployment=item.deployment, replicas=item.replicas, reason=item.reason)
        for item in messages
    )


def _replicas(
    messages: Iterable[question_pb2.PlannedReplicas],
) -> tuple[questions.ReplicasRow, ...]:
    return tuple(
        questions.ReplicasRow(
            deployment=item.deployment, pool=item.pool, replicas=item.replicas, reason=item.reason
        )
        for item in messages
    )
