"""The solver in its own process: whatever happens to it, a plan comes back and the loop goes on."""

import asyncio
import hashlib
import os
import pickle
import signal
import sys

import pytest

from scheduler.check import violations
from scheduler.problem import PlacementProblem
from scheduler.process import GIB, ProcessLimits, SolverProcess
from scheduler.solve import SolveLimits, solve
from skerry.fleet.deployment import FailureDomain, PlacementPolicy, Tolerate
from tests.unit.scheduler.fleets import (
    a_deployment,
    a_pool,
    a_problem,
    a_shape,
    runs,
    some_terms,
    wanting,
)

pytestmark = pytest.mark.integration

PROBLEM = a_problem((a_pool("aws"), a_pool("fra", terms=some_terms(0.5))), (wanting(3),))
RUNNING = a_problem(PROBLEM.pools, PROBLEM.demands, current=(runs(2, "demo", "aws--cpu"),))


async def test_a_plan_from_the_process_is_the_plan_of_the_library() -> None:
    async with SolverProcess() as solver:
        assert await solver.solve(PROBLEM) == solve(PROBLEM)
        first = solver.pid
        assert await solver.solve(RUNNING, SolveLimits(columns_max=0)) == solve(
            RUNNING, SolveLimits(columns_max=0)
        )
        assert solver.pid == first
    assert solver.pid is None


async def test_a_late_solver_is_ended_and_what_runs_is_kept() -> None:
    async with SolverProcess(ProcessLimits(seconds_max=0.0)) as solver:
        plan = await solver.solve(RUNNING)
        assert plan.solver == "greedy"
        assert plan.solver_reason == "solver: no answer within 0 s"
        assert violations(plan, RUNNING) == ()


async def test_without_memory_a_plan_comes_back_all_the_same_and_says_why() -> None:
    pools = tuple(a_pool(f"plane-{number}") for number in range(60))
    demands = tuple(wanting(4, a_deployment(f"demo-{number}")) for number in range(60))
    problem = a_problem(pools, demands, current=(runs(2, "demo-7", "plane-7--cpu"),))
    async with SolverProcess(ProcessLimits(memory_bytes_max=GIB // 64)) as solver:
        plan = await solver.solve(problem)
    # How far it gets depends on what the allocator still holds: never to a whole search.
    assert plan.solver in ("greedy", "keep")
    assert "MemoryError" in plan.solver_reason or "ended" in plan.solver_reason
    assert violations(plan, problem) == ()


async def test_a_killed_solver_is_replaced_by_the_next_call() -> None:
    async with SolverProcess() as solver:
        await solver.solve(PROBLEM)
        assert solver.pid is not None
        os.kill(solver.pid, signal.SIGKILL)
        plan = await solver.solve(PROBLEM)
        assert plan.placements == solve(PROBLEM).placements


async def test_an_abandoned_question_does_not_answer_the_next_one() -> None:
    async with SolverProcess() as solver:
        await solver.solve(PROBLEM)
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.0):
                await solver.solve(RUNNING)
        assert await solver.solve(PROBLEM) == solve(PROBLEM)


# Prints a digest of the plan's bytes; the same text runs here and in other processes.
DIGEST = """
import hashlib
from scheduler.solve import solve
from tests.integration.test_solver_process import a_knotty_problem
print(hashlib.sha256(repr(solve(a_knotty_problem())).encode()).hexdigest())
"""


def a_knotty_problem() -> PlacementProblem:
    """Return a problem with ties to break and more levels than one to search."""
    pools = tuple(
        a_pool(f"plane-{number}", a_shape(per_node=4), some_terms(0.5 + number % 3 / 10))
        for number in range(6)
    )
    demands = tuple(
        wanting(
            3,
            a_deployment(
                f"demo-{number}",
                policy=PlacementPolicy(
                    priority=number % 3,
                    tolerate=Tolerate(domain=FailureDomain.PLANE, keep=0.5),
                    anti_affinity=("demo-0",) if number % 4 == 1 else (),
                ),
            ),
        )
        for number in range(8)
    )
    return a_problem(pools, demands)


async def test_the_plan_is_the_same_bytes_in_another_process_and_under_another_hash_seed() -> None:
    here = hashlib.sha256(repr(solve(a_knotty_problem())).encode()).hexdigest()
    for seed in ("0", "1", "4242"):
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", DIGEST),
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": os.getcwd()},
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        told, _ = await child.communicate()
        assert told.decode().strip() == here


async def test_the_loop_goes_on_while_the_solver_works() -> None:
    pools = tuple(a_pool(f"plane-{number}") for number in range(30))
    demands = tuple(wanting(4, a_deployment(f"demo-{number}")) for number in range(60))
    problem = a_problem(pools, demands)
    loop = asyncio.get_running_loop()
    late_max = 0.0
    async with SolverProcess() as solver:
        await solver.solve(PROBLEM)
        async with asyncio.TaskGroup() as tasks:
            solving = tasks.create_task(solver.solve(problem))
            while not solving.done():
                began = loop.time()
                await asyncio.wait([solving], timeout=0.01)
                late_max = max(late_max, loop.time() - began - 0.01)
    assert pickle.dumps(solving.result())
    # A heartbeat may be 100 ms late; the bound is wide for a machine that others share.
    assert late_max < 1.0
