"""The loss matrix: for each domain that may be lost and each deployment, what is left of it.

What is left at once is arithmetic on the plan; who is shed once the rest has moved together is
found by solving the problem without the domain.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from scheduler.grid import domain_of, ratio
from scheduler.plan import PlacementPlan, Shed, Unplaced
from scheduler.problem import PlacementProblem
from scheduler.solve import SolveLimits, solve
from scheduler.whatif import Lose, changed_by, domains_of
from skerry.fleet.deployment import FailureDomain

# A solve for each domain: greedy answers in milliseconds what several hundred of them ask.
QUICK = SolveLimits(columns_max=0, explained_max=0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """One deployment after one loss, in replicas of its first shape.

    `left` runs on unharmed; `promised` is what `tolerate` says must be left when it speaks of this
    kind of domain (else 0); `shortfall` is what is missing of that; `unmet_after` is what is still
    missing of the demand when everything that can be placed again has been.
    """

    deployment: str
    wanted: float
    left: float
    promised: float
    shortfall: float
    unmet_after: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One domain lost: each deployment that ran there, and who is shed to make room for others."""

    domain: FailureDomain
    name: str
    survivors: tuple[Survivor, ...]
    shed: tuple[Shed, ...]

    @property
    def holds(self) -> bool:
        """Say whether every promise is kept."""
        return all(survivor.shortfall == 0.0 for survivor in self.survivors)


def survive(
    problem: PlacementProblem,
    plan: PlacementPlan,
    domains: Sequence[FailureDomain] = tuple(FailureDomain),
    limits: SolveLimits = QUICK,
) -> tuple[Loss, ...]:
    """Return the matrix: every plane, region and cloud, and every deployment it would touch."""
    return tuple(
        _loss(problem, plan, Lose(domain=domain, name=name), limits)
        for domain in domains
        for name in domains_of(problem, domain)
    )


def _loss(problem: PlacementProblem, plan: PlacementPlan, lost: Lose, limits: SolveLimits) -> Loss:
    pools = {pool.name: pool for pool in problem.pools}
    after = solve(changed_by(replace(problem, current=plan.placements), lost), limits)
    missing: dict[str, Unplaced] = {item.deployment: item for item in after.unplaced}
    survivors = []
    for demanded in sorted(problem.demands, key=lambda demanded: demanded.deployment.name):
        name, tolerate = demanded.deployment.name, demanded.deployment.policy.tolerate
        held, left = 0.0, 0.0
        for placement in plan.placements:
            if placement.deployment != name:
                continue
            pool = pools[placement.pool]
            shape = demanded.deployment.revision.shape_on(pool.shape.accelerator)
            assert shape is not None, "a checked plan places only where a shape fits"
            worth = placement.count * ratio(shape, demanded)
            held += worth
            left += worth if domain_of(pool, lost.domain) != lost.name else 0.0
        wanted = demanded.demand_replicas
        applies = tolerate is not None and tolerate.domain is lost.domain
        promised = tolerate.keep * wanted if tolerate is not None and applies else 0.0
        if left == held and left >= promised:
            continue
        survivors.append(
            Survivor(
                deployment=name,
                wanted=wanted,
                left=round(left, 6),
                promised=round(promised, 6),
                shortfall=round(max(0.0, promised - left), 6),
                unmet_after=missing[name].replicas if name in missing else 0,
            )
        )
    return Loss(domain=lost.domain, name=lost.name, survivors=tuple(survivors), shed=after.shed)
