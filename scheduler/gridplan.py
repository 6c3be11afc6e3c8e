"""A grid's counts told as a plan: placements with reasons, envelopes, levels, who is short or shed.

`solve` makes every plan of the exact path and of greedy here; `wide` tells those of arrays.
"""

import math

from scheduler.envelopes import grant_envelopes
from scheduler.exact import Answer
from scheduler.grid import MICRODOLLARS, Counts, Grid, Want
from scheduler.levels import as_values, evaluate, unmet_of
from scheduler.plan import REJECTIONS_MAX, PlacementPlan, PoolPrice, Rejection, Shed, Unplaced
from scheduler.reasons import free_accelerators, placement_reason, unplaced_reason
from skerry.fleet.placement import Placement


def plan_of(grid: Grid, answer: Answer, solver: str, explained_max: int) -> PlacementPlan:
    """Return the plan of an answer; the first so many who are unplaced are told ways out."""
    counts = answer.counts
    free = free_accelerators(grid, counts)
    placements = tuple(
        Placement(
            deployment=want.name,
            pool=grid.columns[index].pool,
            count=counts[index],
            reason=placement_reason(grid, want, index, counts, free),
        )
        for want in grid.wants
        for index in want.columns
        if counts[index]
    )
    unplaced = _unplaced(grid, counts, explained_max)
    return PlacementPlan(
        placements=placements,
        envelopes=grant_envelopes(grid, counts),
        unplaced=unplaced,
        rejections=_rejections(grid, unplaced),
        levels=as_values(grid, evaluate(grid, counts), answer.bounds),
        cost_per_hour=_cost_per_hour(grid, counts),
        solver=solver,
        optimal=answer.optimal,
        shed=shed_replicas(grid, counts),
        prices=prices_of(answer),
    )


def prices_of(answer: Answer) -> tuple[PoolPrice, ...]:
    """Return what one more accelerator of each scarce pool would save."""
    told = ((pool, round(dual / MICRODOLLARS, 6)) for pool, dual in sorted(answer.prices.items()))
    return tuple(
        PoolPrice(pool=pool, dollars_per_hour=dollars) for pool, dollars in told if dollars
    )


def _unplaced(grid: Grid, counts: Counts, explained_max: int) -> tuple[Unplaced, ...]:
    short = [want for want in grid.wants if unmet_of(grid, want, counts)]
    first = sorted(short, key=lambda want: (want.priority, want.name))[:explained_max]
    explained = {want.name for want in first}
    return tuple(
        Unplaced(
            deployment=want.name,
            replicas=-(-unmet_of(grid, want, counts) // want.scale),
            reason=unplaced_reason(grid, want, counts, with_ways=want.name in explained),
        )
        for want in short
    )


def _rejections(grid: Grid, unplaced: tuple[Unplaced, ...]) -> tuple[Rejection, ...]:
    """Return the rejections, those of unplaced deployments first where there are too many."""
    if len(grid.rejections) <= REJECTIONS_MAX:
        return grid.rejections
    short = {item.deployment for item in unplaced}
    first = sorted(grid.rejections, key=lambda rejected: rejected.deployment not in short)
    return tuple(sorted(first[:REJECTIONS_MAX], key=lambda r: (r.deployment, r.pool)))


def shed_replicas(grid: Grid, counts: Counts) -> tuple[Shed, ...]:
    """Return what is given up of deployments that are left short, the lowest class first."""
    found: list[Shed] = []
    for want in sorted(grid.wants, key=lambda want: (-want.priority, want.name)):
        gain = sum(counts[i] - grid.columns[i].current for i in want.columns)
        if gain >= 0 or not unmet_of(grid, want, counts):
            continue
        left = -gain
        for index in want.columns:
            stopped = min(left, grid.columns[index].current - counts[index])
            if stopped > 0:
                left -= stopped
                found.append(_shed(grid, want, index, counts, stopped))
    return tuple(found)


def _shed(grid: Grid, want: Want, index: int, counts: Counts, stopped: int) -> Shed:
    pool = grid.columns[index].pool
    priority = {other.name: other.priority for other in grid.wants}
    gained = [
        grid.columns[i].deployment
        for i in sorted({*grid.on_pool[pool], *grid.rivals.get(index, ())})
        if i != index and counts[i] > grid.columns[i].current
    ]
    takers = tuple(sorted({name for name in gained if priority[name] <= want.priority}))
    if takers:
        reason = f"class {want.priority} gives way to class {min(priority[t] for t in takers)}"
    else:
        reason = "its pool, its plane or its own limits no longer hold it"
    return Shed(deployment=want.name, pool=pool, replicas=stopped, taken_by=takers, reason=reason)


def _cost_per_hour(grid: Grid, counts: Counts) -> float:
    return math.fsum(
        (grid.pools[column.pool].terms.price_per_accelerator_hour or 0.0)
        * column.accelerators
        * count
        for column, count in zip(grid.columns, counts, strict=True)
    )
