"""What a plan means for each deployment: counts, cost, moves, the unmet and when it is ready. Pure.

The API shows it with every plan.
"""

import math
from collections import defaultdict
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace

from control_plane.reconcile.readiness import Prospect, expect
from scheduler.plan import Move, Unplaced, diff
from skerry.fleet.cold_start import StartSource
from skerry.fleet.deployment import Deployment
from skerry.fleet.figures import Figures, figures_of
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool


@dataclass(frozen=True, slots=True, kw_only=True)
class DeploymentOutlook:
    """What a plan would do to one deployment; costs in USD per hour.

    `ready_in_seconds` is None where nothing is started, and then the basis is empty, and where
    nobody can tell, and then the basis says why. `figures` are those that it is planned with, None
    for one that ends.
    """

    deployment: str
    replicas_before: int
    replicas_after: int
    replicas_unmet: int
    unmet_reason: str
    cost_per_hour_before: float
    cost_per_hour_after: float
    moves: tuple[Move, ...]
    ready_in_seconds: float | None
    ready_basis: str
    ready_source: StartSource | None
    figures: Figures | None


def outlook(prospect: Prospect) -> tuple[DeploymentOutlook, ...]:
    """Return what the plan means for every deployment that it places, ends or leaves out."""
    before, after = _by_deployment(prospect.before), _by_deployment(prospect.plan.placements)
    unmet: dict[str, list[Unplaced]] = defaultdict(list)
    for left in prospect.plan.unplaced:
        unmet[left.deployment].append(left)
    expected = expect(prospect)
    found = []
    for name in sorted(before.keys() | after.keys() | unmet.keys()):
        was, will, left_out = before.get(name, ()), after.get(name, ()), unmet.get(name, ())
        ready, wanted = expected.get(name), prospect.wanted.get(name)
        found.append(
            DeploymentOutlook(
                deployment=name,
                replicas_before=sum(p.count for p in was),
                replicas_after=sum(p.count for p in will),
                replicas_unmet=sum(left.replicas for left in left_out),
                unmet_reason="; ".join(dict.fromkeys(left.reason for left in left_out)),
                cost_per_hour_before=_cost(was, prospect.running.get(name), prospect.pools),
                cost_per_hour_after=_cost(will, wanted, prospect.pools),
                moves=_moves(prospect, was, will),
                ready_in_seconds=ready.seconds if ready else None,
                ready_basis=ready.basis if ready else "",
                ready_source=ready.source if ready else None,
                figures=figures_of(wanted, prospect.profiles) if wanted else None,
            )
        )
    return tuple(found)


def _by_deployment(placements: Iterable[Placement]) -> Mapping[str, tuple[Placement, ...]]:
    found: dict[str, list[Placement]] = defaultdict(list)
    for placement in placements:
        if placement.count:
            found[placement.deployment].append(placement)
    return {name: tuple(mine) for name, mine in found.items()}


def _cost(
    placements: Iterable[Placement], deployment: Deployment | None, pools: Mapping[str, Pool]
) -> float:
    """Return USD per hour; what has no price, or no size there, counts nothing."""
    shapes = deployment.revision.shapes if deployment else ()
    sizes = {shape.accelerator: shape.accelerators for shape in shapes}
    dollars = []
    for placement in placements:
        if (pool := pools.get(placement.pool)) is None:
            continue
        price = pool.terms.price_per_accelerator_hour or 0.0
        dollars.append(placement.count * sizes.get(pool.shape.accelerator, 0) * price)
    return math.fsum(dollars)


def _moves(
    prospect: Prospect, was: tuple[Placement, ...], will: tuple[Placement, ...]
) -> tuple[Move, ...]:
    # One deployment's at a time: all together, every start would be held against every stop.
    counts = {p.pool: p.count for p in was}
    if not counts or {p.pool: p.count for p in will} == counts:
        return ()
    return diff(replace(prospect.plan, placements=will), was).move
