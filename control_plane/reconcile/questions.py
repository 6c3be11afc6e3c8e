"""Operators' questions about the fleet as it is: look, ask the solver's process, answer.

The operator API calls it. Nothing is changed, and the process is not the one that the reconcile
loop waits for: a long question must not hold up a failover.
"""

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from control_plane.reconcile.decision import with_origins
from control_plane.reconcile.failover import judge
from control_plane.reconcile.memory import Decided, fingerprint
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.sight import Sight
from control_plane.reconcile.supply import supply_of
from scheduler.explain import Explanation
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.process import QuestionRefused, SolverDied, SolverLate
from scheduler.survival import Loss
from scheduler.whatif import (
    Change,
    DemandFactor,
    Lose,
    NewPools,
    PriceFactor,
    WhatIf,
    changed_by,
    domains_of,
)
from skerry.fleet.deployment import FailureDomain
from skerry.plumbing import logs
from skerry.plumbing.clock import Clock
from skerry.plumbing.errors import DeadlineExceeded, Exhausted, InvalidInput, NotFound

_log = logs.get_logger(__name__)

Value = TypeVar("Value")

# One is answered at a time, in seconds at worst; who is ninth would wait past any deadline.
WAITING_MAX = 8
RETRY_SECONDS = 5.0
NAMES_SHOWN_MAX = 10
_ASK_LESS = (
    "nothing was changed; ask for less at a time: one deployment, one change, one kind of domain"
)


class Asked(Protocol):
    """Answers by pure functions elsewhere; scheduler.process.SolverProcess is the real one."""

    async def ask(self, name: str, *arguments: Any) -> Any:
        """Return what the function of that name answers, or raise SolverDied."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Answered(Generic[Value]):
    """An answer, and how long finding it took."""

    value: Value
    seconds: float


class FleetQuestions:
    """Asks about one fleet; counts how many wait."""

    def __init__(
        self, sight: Sight, decided: Callable[[], Decided | None], process: Asked, clock: Clock
    ) -> None:
        self._sight = sight
        self._decided = decided
        self._process = process
        self._clock = clock
        self._waiting = 0

    async def explain(self, deployment: str, pool: str | None) -> Answered[Explanation]:
        """Return why a deployment is where it is, or why it is or is not on a pool."""
        began = self._clock.monotonic()
        problem, plan = await self._fleet()
        check_deployment(problem, deployment, "name")
        if pool is not None:
            check_pool(problem, pool, "pool")
        plan = plan or await self._decide(problem)
        found: Explanation = await self._ask("explain", problem, plan, deployment, pool)
        return Answered(value=found, seconds=self._clock.monotonic() - began)

    async def what_if(self, changes: tuple[Change, ...]) -> Answered[WhatIf]:
        """Return what the changes together would do to the fleet."""
        began = self._clock.monotonic()
        problem, _ = await self._fleet()
        check_changes(problem, changes)
        found: WhatIf = await self._ask("what_if", problem, changes)
        return Answered(value=found, seconds=self._clock.monotonic() - began)

    async def survive(self, domains: Sequence[FailureDomain]) -> Answered[tuple[Loss, ...]]:
        """Return what each loss of a domain would leave of each deployment."""
        began = self._clock.monotonic()
        problem, plan = await self._fleet()
        plan = plan or await self._decide(problem)
        found: list[Loss] = []
        for domain in domains:
            # A solve for every loss: one turn for all kinds would take the time of three.
            found += await self._ask("survive", problem, plan, (domain,))
        return Answered(value=tuple(found), seconds=self._clock.monotonic() - began)

    async def _fleet(self) -> tuple[PlacementProblem, PlacementPlan | None]:
        """Return the problem, and the plan in force when it answers that very problem."""
        snapshot = await self._sight.look()
        conditions = judge(snapshot)
        decided = self._decided()
        holds = decided is not None and decided.fingerprint == fingerprint(snapshot, conditions)
        # What is kept where it is drained is no part of the scheduler's own plan.
        whole = holds and not supply_of(snapshot, conditions).drained
        plan = decided.plan if decided is not None and whole else None
        return placement_problem(snapshot, conditions), plan

    async def _decide(self, problem: PlacementProblem) -> PlacementPlan:
        """Return what the loop will decide once it looks: it has not yet, or must not now."""
        plan: PlacementPlan = await self._ask("solve", problem)
        return with_origins(plan, problem.current)

    async def _ask(self, name: str, *arguments: Any) -> Any:
        if self._waiting >= WAITING_MAX:
            raise Exhausted(
                f"{WAITING_MAX} questions wait for the scheduler already; ask again later",
                retry_after_seconds=RETRY_SECONDS,
            )
        self._waiting += 1
        try:
            return await self._process.ask(name, *arguments)
        except QuestionRefused as error:
            raise InvalidInput(str(error)) from None
        except SolverLate as error:
            raise DeadlineExceeded(f"the scheduler gave {error}; {_ASK_LESS}") from None
        except SolverDied as error:
            _log.warning("question.failed", asked=name, error=str(error))
            raise Exhausted(f"the scheduler could not answer: {error}; {_ASK_LESS}") from None
        finally:
            self._waiting -= 1


def check_changes(problem: PlacementProblem, changes: tuple[Change, ...]) -> None:
    """Raise NotFound or InvalidInput for the first change that this problem cannot take."""
    for index, change in enumerate(changes):
        where = f"changes[{index}]"
        match change:
            case Lose(domain=domain, name=name):
                known = domains_of(problem, domain)
                if name not in known:
                    raise NotFound(
                        f"no {domain} {name!r} has a pool; there are {_some(known)}",
                        field=f"{where}.lose.name",
                    )
            case PriceFactor(pool=str(pool)):
                check_pool(problem, pool, f"{where}.price.pool")
            case DemandFactor(deployment=str(deployment)):
                check_deployment(problem, deployment, f"{where}.demand.deployment")
            case PriceFactor() | DemandFactor() | NewPools():
                pass
        try:
            problem = changed_by(problem, change)
        except ValueError as error:  # e.g. a price past any there is, or a pool that is there
            raise InvalidInput(f"{where}: {error}", field=where) from None


def check_deployment(problem: PlacementProblem, name: str, field: str) -> None:
    """Raise NotFound unless the problem places a deployment of that name."""
    known = sorted(demanded.deployment.name for demanded in problem.demands)
    if name not in known:
        raise NotFound(
            f"no deployment {name!r} is to be served; there are {_some(known)}", field=field
        )


def check_pool(problem: PlacementProblem, name: str, field: str) -> None:
    """Raise NotFound unless the problem has a pool of that name."""
    known = sorted(pool.name for pool in problem.pools)
    if name not in known:
        raise NotFound(f"pool {name!r} was not reported; there are {_some(known)}", field=field)


def _some(names: Iterable[str]) -> str:
    listed = list(names)
    more = len(listed) - NAMES_SHOWN_MAX
    shown = ", ".join(listed[:NAMES_SHOWN_MAX]) or "none"
    return f"{shown} and {more} more" if more > 0 else shown
