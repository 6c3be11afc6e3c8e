"""One line for people: what a plan changes, for the change log. Pure."""

from collections.abc import Iterable

from scheduler.plan import PlacementPlan
from skerry.fleet.placement import Placement, counts_of

PARTS_MAX = 20  # a line in a log, not the plan itself


def summarise(plan: PlacementPlan, before: Iterable[Placement]) -> str:
    """Return e.g. `demo: onprem-fra--cpu 2 -> 0, aws-us-east-1--cpu 1 -> 3; $1.25/h`."""
    counts, wanted = counts_of(before), counts_of(plan.placements)
    parts = [
        f"{deployment}: {pool} {counts.get((deployment, pool), 0)} -> "
        f"{wanted.get((deployment, pool), 0)}"
        for deployment, pool in sorted(counts.keys() | wanted.keys())
        if counts.get((deployment, pool), 0) != wanted.get((deployment, pool), 0)
    ]
    parts += [f"{u.deployment}: {u.replicas} pending ({u.reason})" for u in plan.unplaced]
    shown = parts[:PARTS_MAX]
    if len(parts) > PARTS_MAX:
        shown.append(f"and {len(parts) - PARTS_MAX} more")
    return f"{'; '.join(shown) or 'nothing moves'}; ${plan.cost_per_hour:.2f}/h"
