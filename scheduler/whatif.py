"""What-if questions: the same problem with a plane lost, other prices, other demand, more pools.

Each is answered by solving the changed problem from the plan of the unchanged one, so that the
difference is what would really happen. The operator API and the CLI ask.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace

from scheduler.grid import domain_of
from scheduler.plan import PlacementPlan, PlanDiff, Shed, Unplaced, diff
from scheduler.problem import BadQuestion, DemandedDeployment, PlacementProblem, PoolBar
from scheduler.session import Session
from scheduler.solve import SolveLimits
from skerry.fleet.deployment import REPLICAS_MAX, FailureDomain
from skerry.fleet.placement import Placement
from skerry.fleet.pool import Pool

LIMITS = SolveLimits()


@dataclass(frozen=True, slots=True, kw_only=True)
class Lose:
    """A plane, `CLOUD/REGION` or cloud is gone, with everything that runs there."""

    domain: FailureDomain
    name: str


@dataclass(frozen=True, slots=True, kw_only=True)
class PriceFactor:
    """Prices are multiplied: of one pool, or of all."""

    factor: float
    pool: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DemandFactor:
    """Demand is multiplied: of one deployment, or of all."""

    factor: float
    deployment: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class NewPools:
    """Pools are added."""

    pools: tuple[Pool, ...]


Change = Lose | PriceFactor | DemandFactor | NewPools


@dataclass(frozen=True, slots=True, kw_only=True)
class WhatIf:
    """The plan after the change, and what it changes; money in dollars an hour.

    `evicted` replicas stop with nothing in their place; `unmet` is what the change leaves unplaced.
    """

    before: PlacementPlan
    plan: PlacementPlan
    diff: PlanDiff
    cost_delta_per_hour: float
    evicted: tuple[Placement, ...]
    shed: tuple[Shed, ...]
    unmet: tuple[Unplaced, ...]


def what_if(
    problem: PlacementProblem,
    change: Change | Sequence[Change],
    limits: SolveLimits = LIMITS,
) -> WhatIf:
    """Return what one or several changes at once would do; BadQuestion for an unknown name."""
    changes: Iterable[Change] = change if isinstance(change, Sequence) else (change,)
    # The second plan starts from the first one's prices, as the control plane's next one would.
    session = Session(limits)
    before = session.solve(problem)
    changed = replace(problem, current=before.placements)
    for one in changes:
        changed = changed_by(changed, one)
    after = session.solve(changed)
    difference = diff(after, before.placements)
    return WhatIf(
        before=before,
        plan=after,
        diff=difference,
        cost_delta_per_hour=after.cost_per_hour - before.cost_per_hour,
        evicted=difference.evict,
        shed=after.shed,
        unmet=after.unplaced,
    )


def changed_by(problem: PlacementProblem, change: Change) -> PlacementProblem:
    """Return the problem as one change leaves it; BadQuestion when no fleet could be that way."""
    try:
        return _changed(problem, change)
    except BadQuestion:
        raise
    except ValueError as error:  # e.g. a price past any there is, or a pool that is there
        raise BadQuestion(str(error)) from error


def _changed(problem: PlacementProblem, change: Change) -> PlacementProblem:
    match change:
        case Lose():
            return _without(problem, change)
        case PriceFactor():
            return _repriced(problem, change)
        case DemandFactor():
            return _redemanded(problem, change)
        case NewPools():
            return replace(problem, pools=(*problem.pools, *change.pools))


def domains_of(problem: PlacementProblem, domain: FailureDomain) -> tuple[str, ...]:
    """Return the names of what may be lost as one, in order."""
    return tuple(sorted({domain_of(pool, domain) for pool in problem.pools}))


def _without(problem: PlacementProblem, lost: Lose) -> PlacementProblem:
    gone = [pool.name for pool in problem.pools if domain_of(pool, lost.domain) == lost.name]
    if not gone:
        known = ", ".join(domains_of(problem, lost.domain)) or "none"
        raise BadQuestion(f"no {lost.domain} {lost.name!r} has a pool; known: {known}")
    bars = tuple(
        PoolBar(pool=pool, reason=f"{lost.domain} {lost.name} is lost", keeps_current=False)
        for pool in gone
    )
    return replace(problem, bars=(*problem.bars, *bars))


def _repriced(problem: PlacementProblem, change: PriceFactor) -> PlacementProblem:
    _check_factor("price", change.factor)
    if change.pool is not None and all(pool.name != change.pool for pool in problem.pools):
        raise BadQuestion(f"no pool {change.pool!r} in the problem")
    pools = []
    for pool in problem.pools:
        price = pool.terms.price_per_accelerator_hour
        if price is not None and change.pool in (None, pool.name):
            terms = replace(pool.terms, price_per_accelerator_hour=price * change.factor)
            pools.append(replace(pool, terms=terms))
        else:
            pools.append(pool)
    return replace(problem, pools=tuple(pools))


def _redemanded(problem: PlacementProblem, change: DemandFactor) -> PlacementProblem:
    _check_factor("demand", change.factor)
    names = {demanded.deployment.name for demanded in problem.demands}
    if change.deployment is not None and change.deployment not in names:
        raise BadQuestion(f"no deployment {change.deployment!r} in the problem")
    demands = tuple(
        _scaled(demanded, change.factor)
        if change.deployment in (None, demanded.deployment.name)
        else demanded
        for demanded in problem.demands
    )
    return replace(problem, demands=demands)


def _scaled(demanded: DemandedDeployment, factor: float) -> DemandedDeployment:
    """Return the demand multiplied, and the bounds on replicas moved out of its way."""
    if demanded.tokens_per_second is not None:
        tokens = demanded.tokens_per_second * factor
        return replace(demanded, tokens_per_second=tokens)
    replicas = min(REPLICAS_MAX, math.ceil(demanded.replicas_wanted * factor - 1e-9))
    deployment = demanded.deployment
    scaling = replace(
        deployment.scaling,
        min_replicas=min(deployment.scaling.min_replicas, replicas),
        max_replicas=max(deployment.scaling.max_replicas, replicas),
    )
    return replace(demanded, deployment=replace(deployment, scaling=scaling), replicas=replicas)


def _check_factor(what: str, factor: float) -> None:
    if not (math.isfinite(factor) and factor >= 0.0):
        raise BadQuestion(f"a {what} factor must be a number from 0 up, not {factor}")
