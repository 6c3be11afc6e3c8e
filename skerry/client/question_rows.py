"""Protobuf messages of questions and plans to the client's values, and hypotheses to messages.

Only `skerry.client.operator_calls` reads answers and writes questions through it.
"""

from collections.abc import Iterable

from skerry.api.operator.v1 import question_pb2
from skerry.client import answer_rows, questions


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
    ways = (
        questions.WayOut(
            change=way.change,
            dollars_per_hour=way.dollars_per_hour if way.HasField("dollars_per_hour") else None,
        )
        for way in message.ways
    )
    return answer_rows.explanation(message, ways)


def consequences(message: question_pb2.Consequences) -> questions.Consequences:
    """Return what some changes would do."""
    return questions.Consequences(
        placed=_replicas(message.placed),
        moved=answer_rows.move_rows(message.moved),
        evicted=_replicas(message.evicted),
        shed=answer_rows.shed_rows(message.shed),
        unplaced=answer_rows.unplaced_rows(message.unplaced),
        unplaced_before=answer_rows.unplaced_rows(message.unplaced_before),
        cost_per_hour_before=message.cost_per_hour_before,
        cost_per_hour_after=message.cost_per_hour_after,
        levels=answer_rows.level_rows(message.levels),
        solver=message.solver,
        optimal=message.optimal,
    )


def losses(message: question_pb2.LossMatrix) -> tuple[questions.LossRow, ...]:
    """Return what each loss would leave."""
    return answer_rows.loss_rows(message.losses)


def _replicas(
    messages: Iterable[question_pb2.PlannedReplicas],
) -> tuple[questions.ReplicasRow, ...]:
    return tuple(
        questions.ReplicasRow(
            deployment=item.deployment, pool=item.pool, replicas=item.replicas, reason=item.reason
        )
        for item in messages
    )
