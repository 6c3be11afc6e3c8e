"""A plan as the store keeps it, and back; and why each placement was made at first. Pure.

The loop stores what it decides through it; the API reads the decision in force back.
"""

from collections.abc import Iterable
from dataclasses import replace

from control_plane.reconcile.kept import Kept
from control_plane.store.values import Decision
from scheduler.plan import LevelValue, PlacementPlan, PoolPrice, Rejection, Shed, Unplaced
from skerry.fleet.placement import Placement

# Between a placement's present reason and the one it was made for.
_ORIGIN = "; first placed: "


def decision_of(plan: PlacementPlan, solve_seconds: float, kept: Iterable[Kept] = ()) -> Decision:
    """Return what is stored of a plan beside its placements and envelopes."""
    return Decision(
        cost_per_hour=plan.cost_per_hour,
        solver=plan.solver,
        optimal=plan.optimal,
        solve_seconds=solve_seconds,
        unplaced=tuple((u.deployment, u.replicas, u.reason) for u in plan.unplaced),
        rejections=tuple((r.deployment, r.pool, r.reason) for r in plan.rejections),
        levels=tuple((v.level, v.value, v.bound, v.unit) for v in plan.levels),
        shed=tuple((s.deployment, s.pool, s.replicas, s.taken_by, s.reason) for s in plan.shed),
        prices=tuple((p.pool, p.dollars_per_hour) for p in plan.prices),
        solver_reason=plan.solver_reason,
        kept=tuple((k.deployment, k.pool, k.replicas, k.reason) for k in kept),
    )


def plan_of(decision: Decision, placements: tuple[Placement, ...]) -> PlacementPlan:
    """Return the plan in force as it was stored; envelopes are what planes are granted."""
    return PlacementPlan(
        placements=placements,
        envelopes=(),
        unplaced=tuple(
            Unplaced(deployment=name, replicas=replicas, reason=reason)
            for name, replicas, reason in decision.unplaced
        ),
        rejections=tuple(
            Rejection(deployment=name, pool=pool, reason=reason)
            for name, pool, reason in decision.rejections
        ),
        levels=tuple(
            LevelValue(level=level, value=value, bound=bound, unit=unit)
            for level, value, bound, unit in decision.levels
        ),
        cost_per_hour=decision.cost_per_hour,
        solver=decision.solver,
        optimal=decision.optimal,
        shed=tuple(
            Shed(deployment=name, pool=pool, replicas=count, taken_by=takers, reason=reason)
            for name, pool, count, takers, reason in decision.shed
        ),
        prices=tuple(
            PoolPrice(pool=pool, dollars_per_hour=dollars) for pool, dollars in decision.prices
        ),
        solver_reason=decision.solver_reason,
    )


def with_origins(plan: PlacementPlan, before: Iterable[Placement]) -> PlacementPlan:
    """Return the plan with kept placements telling also why they were made.

    The solver knows only that a replica runs there already; an operator asks why it came there.
    """
    held = {(p.deployment, p.pool): p for p in before}
    placements = tuple(
        _with_origin(placement, held.get((placement.deployment, placement.pool)))
        for placement in plan.placements
    )
    return replace(plan, placements=placements)


def _with_origin(placement: Placement, held: Placement | None) -> Placement:
    if held is None or placement.count > held.count:
        return placement
    origin = held.reason.partition(_ORIGIN)[2] or held.reason
    if origin in ("", placement.reason):
        return placement
    return replace(placement, reason=f"{placement.reason}{_ORIGIN}{origin}")
