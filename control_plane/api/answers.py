"""The scheduler's plans and answers -> the operator API's messages.

`operator_service.py` and `convert.py` call it; money is in USD per hour.
"""

from collections.abc import Iterable

from control_plane.api.ports import Answered
from scheduler.explain import Explanation
from scheduler.plan import LevelValue, Move, PlacementPlan, Rejection, Shed, Unplaced
from scheduler.survival import Loss
from scheduler.whatif import WhatIf
from skerry.api.operator.v1 import placement_pb2, question_pb2
from skerry.fleet.placement import Placement


def explanation_to_proto(answer: Answered[Explanation]) -> question_pb2.Explanation:
    """Return why a deployment is where it is or is not."""
    found = answer.value
    return question_pb2.Explanation(
        deployment=found.deployment,
        pool=found.pool or "",
        replicas=found.replicas,
        reasons=found.reasons,
        conflict=[family.value for family in found.conflict],
        ways=[
            question_pb2.WayOut(change=way.change, dollars_per_hour=way.dollars_per_hour)
            for way in found.ways
        ],
        solve_seconds=answer.seconds,
    )


def consequences_to_proto(answer: Answered[WhatIf]) -> question_pb2.Consequences:
    """Return what some changes would do."""
    found = answer.value
    return question_pb2.Consequences(
        placed=_replicas(found.diff.place),
        moved=[move_to_proto(move) for move in found.diff.move],
        evicted=_replicas(found.evicted),
        shed=[_shed(shed) for shed in found.shed],
        unplaced=[_unplaced(left) for left in found.unmet],
        unplaced_before=[_unplaced(left) for left in found.before.unplaced],
        cost_per_hour_before=found.before.cost_per_hour,
        cost_per_hour_after=found.plan.cost_per_hour,
        levels=[_level(level) for level in found.plan.levels],
        solver=found.plan.solver,
        optimal=found.plan.optimal,
        solve_seconds=answer.seconds,
    )


def losses_to_proto(answer: Answered[tuple[Loss, ...]]) -> question_pb2.LossMatrix:
    """Return what each loss would leave."""
    return question_pb2.LossMatrix(
        losses=[_loss(loss) for loss in answer.value], solve_seconds=answer.seconds
    )


def add_decision(message: placement_pb2.Plan, plan: PlacementPlan) -> None:
    """Add what a plan left out, who is shed, what is proven, and what scarce pools are worth."""
    message.rejections.extend(_rejection(refused) for refused in plan.rejections)
    message.unplaced.extend(_unplaced(left) for left in plan.unplaced)
    message.shed.extend(_shed(shed) for shed in plan.shed)
    message.levels.extend(_level(level) for level in plan.levels)
    for price in plan.prices:
        message.prices.add(pool=price.pool, dollars_per_hour=price.dollars_per_hour)


def move_to_proto(move: Move) -> placement_pb2.PlannedMove:
    """Return replicas of a deployment that leave one pool for another."""
    return placement_pb2.PlannedMove(
        deployment=move.deployment,
        from_pool=move.from_pool,
        to_pool=move.to_pool,
        replicas=move.count,
    )


def _replicas(placements: Iterable[Placement]) -> list[question_pb2.PlannedReplicas]:
    return [
        question_pb2.PlannedReplicas(
            deployment=placement.deployment,
            pool=placement.pool,
            replicas=placement.count,
            reason=placement.reason,
        )
        for placement in placements
    ]


def _rejection(refused: Rejection) -> placement_pb2.Rejection:
    return placement_pb2.Rejection(
        deployment=refused.deployment, pool=refused.pool, reason=refused.reason
    )


def _unplaced(left: Unplaced) -> placement_pb2.Unplaced:
    return placement_pb2.Unplaced(
        deployment=left.deployment, replicas=left.replicas, reason=left.reason
    )


def _shed(shed: Shed) -> placement_pb2.Shed:
    return placement_pb2.Shed(
        deployment=shed.deployment,
        pool=shed.pool,
        replicas=shed.replicas,
        taken_by=shed.taken_by,
        reason=shed.reason,
    )


def _level(level: LevelValue) -> placement_pb2.PlanLevel:
    return placement_pb2.PlanLevel(
        level=level.level, value=level.value, bound=level.bound, unit=level.unit, gap=level.gap
    )


def _loss(loss: Loss) -> question_pb2.Loss:
    return question_pb2.Loss(
        domain=loss.domain.value,
        name=loss.name,
        holds=loss.holds,
        survivors=[
            question_pb2.Survivor(
                deployment=survivor.deployment,
                wanted=survivor.wanted,
                left=survivor.left,
                promised=survivor.promised,
                shortfall=survivor.shortfall,
                unmet_after=survivor.unmet_after,
            )
            for survivor in loss.survivors
        ],
        shed=[_shed(shed) for shed in loss.shed],
        solved=loss.solved,
    )
