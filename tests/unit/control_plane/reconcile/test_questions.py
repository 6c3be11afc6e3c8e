"""Questions about the live fleet: what they ask about, and how they fail."""

import asyncio
from typing import Any

import pytest

from control_plane.reconcile.failover import judge
from control_plane.reconcile.memory import Decided, fingerprint
from control_plane.reconcile.problem import placement_problem
from control_plane.reconcile.questions import (
    WAITING_MAX,
    FleetQuestions,
    check_changes,
)
from control_plane.reconcile.snapshot import Snapshot
from scheduler.explain import explain
from scheduler.problem import PlacementProblem
from scheduler.process import QuestionRefused, SolverDied, SolverLate
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import Change, DemandFactor, Lose, NewPools, PriceFactor, what_if
from skerry.fleet.deployment import FailureDomain
from skerry.plumbing.errors import (
    DeadlineExceeded,
    Exhausted,
    InvalidInput,
    NotFound,
    SkerryError,
)
from tests.builders import a_demand, a_deployment, a_plane_view, a_pool, a_snapshot
from tests.fakes.clock import FakeClock

CALLS: dict[str, Any] = {
    "solve": solve,
    "explain": explain,
    "what_if": what_if,
    "survive": survive,
}


class Here:
    """Answers in this process, what the real one is held to in tests/integration; or fails."""

    def __init__(self, failure: Exception | None = None) -> None:
        self.failure = failure
        self.asked: list[str] = []
        self.may_answer = asyncio.Event()
        self.may_answer.set()
        self.are_many = asyncio.Event()

    async def ask(self, name: str, *arguments: Any) -> Any:
        self.asked.append(name)
        if len(self.asked) == WAITING_MAX:
            self.are_many.set()
        await self.may_answer.wait()
        if self.failure:
            raise self.failure
        return CALLS[name](*arguments)


class Eyes:
    """Sees one snapshot for ever."""

    def __init__(self, snapshot: Snapshot) -> None:
        self.snapshot = snapshot

    async def look(self) -> Snapshot:
        return self.snapshot


SNAPSHOT = a_snapshot(
    a_plane_view("fra"),
    a_plane_view("aws"),
    pools=(a_pool("fra", price=0.1), a_pool("aws", price=0.3)),
    demands=(a_demand(a_deployment(replicas=3)), a_demand(a_deployment("old"), deleting=True)),
)
PROBLEM = placement_problem(SNAPSHOT, judge(SNAPSHOT))


def a_fleet(here: Here, *, decided: bool = False, snapshot: Snapshot = SNAPSHOT) -> FleetQuestions:
    held = None
    if decided:
        problem = placement_problem(snapshot, judge(snapshot))
        held = Decided(fingerprint=fingerprint(snapshot, judge(snapshot)), plan=solve(problem))
    return FleetQuestions(Eyes(snapshot), lambda: held, here, FakeClock())  # type: ignore[arg-type]


async def test_the_plan_in_force_is_explained_and_nothing_is_solved_for_it() -> None:
    here = Here()
    answer = await a_fleet(here, decided=True).explain("demo", None)
    assert here.asked == ["explain"]
    assert answer.value.reasons == ("3 on fra--cpu: cheapest eligible pool, $0.1/h a replica",)


async def test_without_a_plan_in_force_the_one_that_will_be_is_explained() -> None:
    here = Here()
    answer = await a_fleet(here).explain("demo", "aws--cpu")
    assert here.asked == ["solve", "explain"]
    assert answer.value.reasons == ("all of it on aws--cpu: +$0.6/h",)


async def test_losses_are_of_the_kinds_asked_for() -> None:
    answer = await a_fleet(Here()).survive((FailureDomain.CLOUD,))
    assert {(loss.domain, loss.name) for loss in answer.value} == {
        (FailureDomain.CLOUD, "aws"),
        (FailureDomain.CLOUD, "fra"),
    }


async def test_each_kind_of_loss_has_a_turn_of_its_own() -> None:
    here = Here()
    answer = await a_fleet(here, decided=True).survive(tuple(FailureDomain))
    assert here.asked == ["survive"] * 3
    assert [loss.domain for loss in answer.value[::2]] == list(FailureDomain)


async def test_what_if_says_what_moves() -> None:
    answer = await a_fleet(Here()).what_if((Lose(domain=FailureDomain.PLANE, name="fra"),))
    assert [(m.from_pool, m.to_pool, m.count) for m in answer.value.diff.move] == [
        ("fra--cpu", "aws--cpu", 3)
    ]


@pytest.mark.parametrize(
    ("failure", "kind", "said"),
    [
        (SolverLate("no answer within 20 s"), DeadlineExceeded, "ask for less at a time"),
        (SolverDied("MemoryError: "), Exhausted, "could not answer: MemoryError"),
        (QuestionRefused("no such thing"), InvalidInput, "no such thing"),
    ],
)
async def test_a_question_that_fails_says_how_and_what_to_do(
    failure: Exception, kind: type[SkerryError], said: str
) -> None:
    with pytest.raises(kind, match=said):
        await a_fleet(Here(failure)).survive((FailureDomain.PLANE,))


async def test_more_questions_than_can_wait_are_sent_away_and_the_rest_is_answered() -> None:
    here = Here()
    here.may_answer.clear()
    fleet = a_fleet(here, decided=True)
    async with asyncio.TaskGroup() as group:
        waiting = [group.create_task(fleet.explain("demo", None)) for _ in range(WAITING_MAX)]
        await here.are_many.wait()
        with pytest.raises(Exhausted, match="ask again later") as refused:
            await fleet.explain("demo", None)
        assert refused.value.retry_after_seconds
        here.may_answer.set()
    assert {task.result().value.replicas for task in waiting} == {3}
    assert (await fleet.explain("demo", None)).value.replicas == 3


@pytest.mark.parametrize(
    ("changes", "kind", "field"),
    [
        ((Lose(domain=FailureDomain.PLANE, name="mars"),), NotFound, "changes[0].lose.name"),
        ((Lose(domain=FailureDomain.REGION, name="fra"),), NotFound, "changes[0].lose.name"),
        ((PriceFactor(factor=2, pool="a--b"),), NotFound, "changes[0].price.pool"),
        (
            (PriceFactor(factor=1), DemandFactor(factor=2, deployment="old")),
            NotFound,
            "changes[1].demand.deployment",
        ),
        ((PriceFactor(factor=1e6),), InvalidInput, "changes[0]"),
        ((NewPools(pools=(a_pool("fra"),)),), InvalidInput, "changes[0]"),
    ],
)
def test_a_change_that_names_nothing_there_is_is_refused_at_its_field(
    changes: tuple[Change, ...], kind: type[SkerryError], field: str
) -> None:
    with pytest.raises(kind) as refused:
        check_changes(PROBLEM, changes)
    assert refused.value.field == field


def test_what_one_change_brings_the_next_may_lose() -> None:
    added = NewPools(pools=(a_pool("gcp"),))
    check_changes(PROBLEM, (added, Lose(domain=FailureDomain.PLANE, name="gcp")))


async def test_an_unknown_deployment_is_named_beside_those_there_are() -> None:
    with pytest.raises(NotFound, match="no deployment 'old' is to be served; there are demo"):
        await a_fleet(Here()).explain("old", None)
    with pytest.raises(NotFound, match="there are aws--cpu, fra--cpu"):
        await a_fleet(Here()).explain("demo", "x--y")


def test_the_problem_has_what_the_settings_say() -> None:
    assert isinstance(PROBLEM, PlacementProblem)
    assert (PROBLEM.moves_max, PROBLEM.reserve_fraction, PROBLEM.latencies) == (None, 0.0, ())
