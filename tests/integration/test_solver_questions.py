"""Questions to the solver's process: the library's answers, and a clear refusal of the rest."""

import asyncio
import contextlib
import os
import signal
from typing import Any

import pytest

from scheduler.explain import explain
from scheduler.process import (
    ProcessLimits,
    QuestionRefused,
    SolverDied,
    SolverLate,
    SolverProcess,
)
from scheduler.solve import solve
from scheduler.survival import survive
from scheduler.whatif import Lose, PriceFactor, what_if
from skerry.fleet.deployment import FailureDomain
from tests.unit.scheduler.fleets import a_pool, a_problem, some_terms, wanting

pytestmark = pytest.mark.integration

PROBLEM = a_problem((a_pool("aws"), a_pool("fra", terms=some_terms(0.5))), (wanting(3),))
LOST = Lose(domain=FailureDomain.PLANE, name="fra")


async def test_every_question_is_answered_as_the_library_answers_it() -> None:
    plan = solve(PROBLEM)
    changes = (LOST, PriceFactor(factor=2.0))
    async with SolverProcess() as solver:
        assert await solver.ask("solve", PROBLEM) == plan
        assert await solver.ask("explain", PROBLEM, plan, "demo") == explain(PROBLEM, plan, "demo")
        assert await solver.ask("what_if", PROBLEM, changes) == what_if(PROBLEM, changes)
        assert await solver.ask("survive", PROBLEM, plan) == survive(PROBLEM, plan)


async def test_a_name_that_the_problem_lacks_is_the_askers_fault_and_the_child_stays() -> None:
    async with SolverProcess() as solver:
        await solver.ask("solve", PROBLEM)
        first = solver.pid
        with pytest.raises(QuestionRefused, match="no plane 'mars' has a pool; known: aws, fra"):
            await solver.ask("what_if", PROBLEM, Lose(domain=FailureDomain.PLANE, name="mars"))
        assert solver.pid == first


class Unreadable:
    """Raises a ValueError of the interpreter's own in the child."""

    def __reduce__(self) -> tuple[type, tuple[str]]:
        return int, ("no number",)


async def test_a_fault_of_the_scheduler_is_not_the_askers_whatever_its_kind() -> None:
    async with SolverProcess() as solver:
        with pytest.raises(SolverDied, match="ValueError: invalid literal") as told:
            await solver.ask("solve", PROBLEM, Unreadable())
        assert not isinstance(told.value, QuestionRefused)


async def test_what_takes_too_long_is_ended_and_says_so() -> None:
    async with SolverProcess(ProcessLimits(seconds_max=0.0)) as solver:
        with pytest.raises(SolverLate, match="no answer within 0 s"):
            await solver.ask("survive", PROBLEM, solve(PROBLEM))
        assert solver.pid is None


async def test_a_killed_child_fails_one_question_at_most() -> None:
    async with SolverProcess() as solver:
        await solver.ask("solve", PROBLEM)
        assert solver.pid is not None
        os.kill(solver.pid, signal.SIGKILL)
        with contextlib.suppress(SolverDied):
            await solver.ask("solve", PROBLEM)
        assert await solver.ask("solve", PROBLEM) == solve(PROBLEM)


async def test_nothing_but_the_pure_functions_can_be_asked_for() -> None:
    async with SolverProcess() as solver:
        with pytest.raises(AssertionError, match="system"):
            await solver.ask("system", PROBLEM)
        assert solver.pid is None


async def test_questions_at_once_are_answered_one_after_the_other() -> None:
    plan = solve(PROBLEM)
    async with SolverProcess() as solver, asyncio.TaskGroup() as group:
        asked: list[asyncio.Task[Any]] = [
            group.create_task(solver.ask("explain", PROBLEM, plan, "demo", pool))
            for pool in ("fra--cpu", "aws--cpu") * 3
        ]
    assert [task.result().pool for task in asked] == ["fra--cpu", "aws--cpu"] * 3
