"""The loss matrix: for each domain that may be lost and each deployment, what is left of it.

What is left at once is arithmetic on the plan; who is shed once the rest has moved together is
found by greedy on the problem without the domain, as far as there is time for so many of its plans.
"""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

from scheduler.grid import domain_of, ratio
from scheduler.plan import PlacementPlan, Shed
from scheduler.problem import DemandedDeployment, PlacementProblem
from scheduler.solve import SolveLimits, pairs_of, solve
from scheduler.whatif import Lose, changed_by, domains_of
from skerry.fleet.deployment import FailureDomain
from skerry.fleet.pool import Pool

# A solve for each domain: greedy answers in milliseconds what several hundred of them ask.
QUICK = SolveLimits(searches=False, explained_max=0)
# Losses of one kind times pairs of deployment and pool. Greedy takes 26 us a pair: of 100 pools and
# 500 deployments it solves ten losses in 13 s, and is asked for no more.
SOLVED_PAIRS_MAX = 500_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """One deployment after one loss, in replicas of its first shape.

    `left` runs on unharmed; `promised` is what `tolerate` says must be left when it speaks of this
    kind of domain (else 0); `shortfall` is what is missing of that; `unmet_after` is what greedy
    still leaves unmet of the demand when it has placed the fleet again (None: not asked). A search
    may leave less: `whatif.what_if` with the same loss makes one.
    """

    deployment: str
    wanted: float
    left: float
    promised: float
    shortfall: float
    unmet_after: int | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Loss:
    """One domain lost: each deployment that ran there, and whom greedy sheds to make room.

    Not `solved` where the losses are too many to solve each: the rest of it is arithmetic.
    """

    domain: FailureDomain
    name: str
    survivors: tuple[Survivor, ...]
    shed: tuple[Shed, ...]
    solved: bool = True

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
    """Return the matrix: every plane, region and cloud, and every deployment it would touch.

    What is left at once is exact. What is unmet and shed after moves is greedy's answer with the
    default limits: a plan that can be had, not the best one.
    """
    held = _held(problem, plan)
    found: list[Loss] = []
    for domain in domains:
        names = domains_of(problem, domain)
        solved = len(names) * pairs_of(problem) <= SOLVED_PAIRS_MAX
        for name, survivors in _left_by_loss(problem, held, domain).items():
            loss = Loss(domain=domain, name=name, survivors=survivors, shed=(), solved=False)
            found.append(_solved(problem, plan, loss, limits) if solved else loss)
    return tuple(found)


_Held = Mapping[str, Sequence[tuple[Pool, float]]]


def _held(problem: PlacementProblem, plan: PlacementPlan) -> _Held:
    """Return by deployment where it runs, and how many replicas of its first shape that is."""
    pools = {pool.name: pool for pool in problem.pools}
    demands = {demanded.deployment.name: demanded for demanded in problem.demands}
    held: dict[str, list[tuple[Pool, float]]] = {name: [] for name in sorted(demands)}
    for placement in plan.placements:
        pool, demanded = pools[placement.pool], demands[placement.deployment]
        shape = demanded.deployment.revision.shape_on(pool.shape.accelerator)
        assert shape is not None, "a checked plan places only where a shape fits"
        held[placement.deployment].append((pool, placement.count * ratio(shape, demanded)))
    return held


def _left_by_loss(
    problem: PlacementProblem, held: _Held, domain: FailureDomain
) -> Mapping[str, tuple[Survivor, ...]]:
    """Return for each domain the deployments that its loss touches or finds short already."""
    demands = {demanded.deployment.name: demanded for demanded in problem.demands}
    touched: dict[str, set[str]] = defaultdict(set)
    short: list[str] = []
    for name, places in held.items():
        for pool, _ in places:
            touched[domain_of(pool, domain)].add(name)
        if _survivor(demands[name], domain, [worth for _, worth in places]).shortfall:
            short.append(name)
    return {
        lost: tuple(
            _survivor(
                demands[name],
                domain,
                [worth for pool, worth in held[name] if domain_of(pool, domain) != lost],
            )
            for name in sorted({*touched[lost], *short})
        )
        for lost in domains_of(problem, domain)
    }


def _survivor(
    demanded: DemandedDeployment, domain: FailureDomain, left: Sequence[float]
) -> Survivor:
    tolerate, wanted = demanded.deployment.policy.tolerate, demanded.demand_replicas
    applies = tolerate is not None and tolerate.domain is domain
    promised = tolerate.keep * wanted if tolerate is not None and applies else 0.0
    return Survivor(
        deployment=demanded.deployment.name,
        wanted=wanted,
        left=round(sum(left), 6),
        promised=round(promised, 6),
        shortfall=round(max(0.0, promised - sum(left)), 6),
        unmet_after=None,
    )


def _solved(
    problem: PlacementProblem, plan: PlacementPlan, loss: Loss, limits: SolveLimits
) -> Loss:
    """Return the loss with what is missing and who is shed once it was solved within the limits."""
    lost = Lose(domain=loss.domain, name=loss.name)
    after = solve(changed_by(replace(problem, current=plan.placements), lost), limits)
    missing = {item.deployment: item.replicas for item in after.unplaced}
    survivors = tuple(
        replace(survivor, unmet_after=missing.get(survivor.deployment, 0))
        for survivor in loss.survivors
    )
    return replace(loss, survivors=survivors, shed=after.shed, solved=True)
