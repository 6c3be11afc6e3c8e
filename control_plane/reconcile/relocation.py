"""Replicas that an operator moves from one pool to another: what may be, what comes of it. Pure.

`loop.py` puts the outcome in force; the next change of supply or demand weighs it anew.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

from control_plane.reconcile.memory import Fingerprint
from control_plane.reconcile.snapshot import Snapshot
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from skerry.fleet.observation import HEARD, PlaneCondition
from skerry.fleet.placement import Placement, counts_of
from skerry.plumbing.errors import Infeasible, NotFound

# Levels of the objective that are promises to users; cost and order come after them.
PROMISES = ("unmet", "survival")
LEVEL_DUST = 1e-9  # values are sums of floats


@dataclass(frozen=True, slots=True, kw_only=True)
class Relocation:
    """`replicas` of a deployment that are to leave one pool for another; pools by their ids."""

    deployment: str
    from_pool: str
    to_pool: str
    replicas: int


@dataclass(frozen=True, slots=True, kw_only=True)
class MoveProposal:
    """A plan that moves replicas as an operator asks, and the placements it was made from."""

    plan: PlacementPlan
    before: tuple[Placement, ...]
    seen: Fingerprint
    inputs: str
    solve_seconds: float = 0.0


def check_heard(
    snapshot: Snapshot, conditions: Mapping[str, PlaneCondition], move: Relocation
) -> None:
    """Raise Infeasible where the replicas to be moved are on a plane that is not heard.

    It would go on running them beside those that are started.
    """
    plane = next((p.plane.name for p in snapshot.pools if p.name == move.from_pool), None)
    condition = conditions.get(plane) if plane is not None else None
    if condition is not None and condition.state not in HEARD:
        raise Infeasible(
            f"plane {plane} is {condition.state.value}: what it runs cannot be ended now;"
            f" `skerry failover plane/{plane}` places it elsewhere",
            field="from_pool",
        )


def relocated(problem: PlacementProblem, move: Relocation) -> PlacementProblem:
    """Return the problem as if the replicas ran where they are to go.

    NotFound for a deployment or pool that there is not, Infeasible where fewer run than are to go,
    or the pool takes nothing new.
    """
    names = {pool.name for pool in problem.pools}
    if move.deployment not in {demanded.deployment.name for demanded in problem.demands}:
        raise NotFound(
            f"deployment {move.deployment!r} is not to be served; `skerry get deployments` lists"
            " those that are",
            field="name",
        )
    for pool, field in ((move.from_pool, "from_pool"), (move.to_pool, "to_pool")):
        if pool not in names:
            told = f"pool {pool!r} was not reported; `skerry get pools` lists those that were"
            raise NotFound(told, field=field)
    bar = next((bar for bar in problem.bars if bar.pool == move.to_pool), None)
    if bar is not None:
        told = f"pool {move.to_pool} takes nothing new: {bar.reason}"
        raise Infeasible(f"{told}; choose another pool, or uncordon it", field="to_pool")
    counts = {(p.deployment, p.pool): p for p in problem.current}
    source = counts.get((move.deployment, move.from_pool))
    runs = source.count if source else 0
    if runs < move.replicas:
        raise Infeasible(
            f"{runs} replicas of {move.deployment} are placed on {move.from_pool}, not"
            f" {move.replicas}; `skerry get placements` shows where they are",
            field="replicas",
        )
    target = counts.get((move.deployment, move.to_pool))
    counts[move.deployment, move.from_pool] = _placed(move, move.from_pool, runs - move.replicas)
    there = (target.count if target else 0) + move.replicas
    counts[move.deployment, move.to_pool] = _placed(move, move.to_pool, there)
    return replace(problem, current=tuple(p for _, p in sorted(counts.items()) if p.count))


def with_reason(plan: PlacementPlan, move: Relocation) -> PlacementPlan:
    """Return the plan with what was moved saying so."""
    told = f"moved from {move.from_pool} by an operator"
    here = (move.deployment, move.to_pool)
    placements = tuple(
        replace(placed, reason=told) if (placed.deployment, placed.pool) == here else placed
        for placed in plan.placements
    )
    return replace(plan, placements=placements)


def check_kept(problem: PlacementProblem, move: Relocation, plan: PlacementPlan) -> None:
    """Raise Infeasible unless the plan of the relocated problem keeps everything that it has.

    `keep_what_is` makes such a plan and leaves out what may not stay where it was put.
    """
    wanted, kept = counts_of(problem.current), counts_of(plan.placements)
    lacking = sorted(key for key, count in wanted.items() if kept.get(key, 0) < count)
    if not lacking:
        return
    deployment, pool = lacking[0]
    if (deployment, pool) == (move.deployment, move.to_pool):
        raise Infeasible(
            f"{pool} may not host {move.replicas} more replicas of {deployment};"
            f" `skerry explain deployment {deployment} --pool {pool}` says why",
            field="to_pool",
        )
    raise Infeasible(
        f"{deployment} would lose replicas on {pool}; move fewer, or to another pool",
        field="to_pool",
    )


def check_promises(before: PlacementPlan, after: PlacementPlan) -> None:
    """Raise Infeasible where the move would leave demand unmet, or spread and survival worse.

    The scheduler would undo such a move at its next turn, and until then a promise is broken.
    """
    held = {level.level: level for level in before.levels}
    for level in after.levels:
        if not level.level.startswith(PROMISES) or level.level not in held:
            continue
        was = held[level.level].value
        if level.value > was + LEVEL_DUST:
            raise Infeasible(
                f"the move would break a promise: {level.level} goes from {was:g} to"
                f" {level.value:g} {level.unit}; change the deployment's placement policy first,"
                " or move to another pool",
                field="to_pool",
            )


def _placed(move: Relocation, pool: str, count: int) -> Placement:
    return Placement(deployment=move.deployment, pool=pool, count=count, reason="moved")
