"""The solver in its own process: whatever happens to it, a plan comes back and the loop goes on."""

import asyncio
import hashlib
import os
import pickle
import signal
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from scheduler import process
from scheduler.check import violations
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.process import (
    GIB,
    NothingToRepair,
    ProcessLimits,
    QuestionRefused,
    SolverProcess,
)
from scheduler.session import Session, without
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


def counts(plan: PlacementPlan) -> dict[tuple[str, str], int]:
    """Return the replicas by deployment and pool."""
    return {(p.deployment, p.pool): p.count for p in plan.placements}


async def test_a_plan_from_the_process_is_the_plan_of_the_library() -> None:
    async with SolverProcess() as solver:
        assert await solver.solve(PROBLEM) == solve(PROBLEM)
        first = solver.pid
        assert await solver.solve(RUNNING, SolveLimits(searches=False)) == solve(
            RUNNING, SolveLimits(searches=False)
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
    # The first that failed is named first: the compiler, the process, or a solver in it.
    assert plan.solver_reason.startswith(("compiling: ", "solver: ", "pipeline: "))
    assert violations(plan, problem) == ()


async def test_a_killed_solver_is_replaced_by_the_next_call() -> None:
    async with SolverProcess() as solver:
        await solver.solve(PROBLEM)
        assert solver.pid is not None
        os.kill(solver.pid, signal.SIGKILL)
        plan = await solver.solve(PROBLEM)
        assert plan.placements == solve(PROBLEM).placements


# However small a problem is, it counts as large.
LARGE = SolveLimits(explained_max=0, pairs_max=0)


@pytest.mark.parametrize("limits", [SolveLimits(), LARGE])
async def test_the_child_starts_from_its_last_plan_and_repairs_it(limits: SolveLimits) -> None:
    problem = a_knotty_problem()
    demands = tuple(replace(wanted, replicas=wanted.replicas + 1) for wanted in problem.demands)
    session = Session(limits)
    async with SolverProcess() as solver:
        first = session.solve(problem)
        assert await solver.solve(problem, limits) == first
        changed = replace(problem, current=first.placements, demands=demands)
        second = session.solve(changed)
        assert await solver.solve(changed, limits) == second
        lost = [problem.pools[0].name, problem.pools[3].name]
        repaired = await solver.repair(lost)
        assert repaired == session.repair(second, lost)
        assert violations(repaired, without(changed, second, lost)) == ()
        assert not {p.pool for p in repaired.placements} & set(lost)
        again = await solver.repair(lost[:1])
        assert counts(again) == counts(repaired), "it is the repaired plan that is in force"


async def test_there_is_nothing_to_repair_before_a_plan_or_after_the_child_that_made_it() -> None:
    async with SolverProcess() as solver:
        with pytest.raises(NothingToRepair, match="no solver runs"):
            await solver.repair(["aws--cpu"])
        await solver.ask("solve", PROBLEM)
        with pytest.raises(NothingToRepair, match="this process has no plan"):
            await solver.repair(["aws--cpu"])  # questions leave nothing behind
        await solver.solve(PROBLEM)
        with pytest.raises(QuestionRefused, match="'mars' is not among the 2 pools"):
            await solver.repair(["mars"])
        assert {p.pool for p in (await solver.repair(["fra--cpu"])).placements} == {"aws--cpu"}
        assert solver.pid is not None
        os.kill(solver.pid, signal.SIGKILL)
        with pytest.raises(process.SolverDied):
            await solver.repair(["fra--cpu"])
        with pytest.raises(NothingToRepair):
            await solver.repair(["fra--cpu"])


async def test_what_is_kept_for_want_of_a_solver_is_no_plan_to_repair(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    async with SolverProcess() as solver:
        await solver.solve(PROBLEM)
        monkeypatch.setattr(process, "GREEDY_SECONDS_MAX", 0.0)
        monkeypatch.setattr(solver, "_limits", ProcessLimits(seconds_max=0.0))
        assert (await solver.solve(RUNNING)).solver == "keep"
        with pytest.raises(NothingToRepair, match="has no plan"):
            await solver.repair(["aws--cpu"])
        monkeypatch.setattr(process, "KEEP_SECONDS_MAX", 0.0)
        plan = await solver.solve(RUNNING)
        late = "no answer within 0 s"
        assert plan.solver_reason == f"solver: {late}; greedy: {late}; keeping: {late}"
        with pytest.raises(NothingToRepair):
            await solver.repair(["aws--cpu"])


async def test_a_process_that_starts_slowly_is_told_by_the_limit_of_its_start(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "START_SECONDS_MAX", 0.0)
    async with SolverProcess() as solver:
        with pytest.raises(process.SolverDied, match="was not ready 0 s after its start"):
            await solver.ask("solve", PROBLEM)
        plan = await solver.solve(RUNNING)
        slow = "its process was not ready 0 s after its start"
        assert plan.solver_reason == f"solver: {slow}; greedy: {slow}; keeping: {slow}"
        assert solver.pid is None


async def test_what_is_not_compiled_in_time_is_done_without_and_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(process, "COMPILE_SECONDS_MAX", 0.0)
    async with SolverProcess() as solver:
        plan = await solver.solve(RUNNING, LARGE)
        assert (plan.solver, plan.solver_reason) == ("greedy", "compiling: no answer within 0 s")
        monkeypatch.setattr(process, "GREEDY", LARGE)
        plan = await solver.solve(RUNNING, LARGE)
        assert (plan.solver, plan.solver_reason) == ("keep", "compiling: no answer within 0 s")
        monkeypatch.setattr(process, "_needs_compiling", lambda *_: True)
        with pytest.raises(process.SolverDied, match="compiling: no answer within 0 s"):
            await solver.ask("solve", RUNNING)
        assert violations(plan, RUNNING) == ()


# Prints which loops are compiled after the warm-up, by a fleet large enough to need every one.
COMPILED = """
import sys
from numba.core.registry import CPUDispatcher
from scheduler.session import Session
from scheduler.warmup import warm_up
from tests.integration.test_solver_process import LARGE, a_knotty_problem
from benchmarks.placement_instances import SIZES, describe, problem_of

def compiled():
    loops = {
        id(value): value
        for name, module in list(sys.modules.items()) if name.startswith("scheduler.")
        for value in vars(module).values() if isinstance(value, CPUDispatcher)
    }
    return {loop.py_func.__qualname__ for loop in loops.values() if loop.stats.cache_misses}

warm_up()
for problem in (problem_of(describe(SIZES["100x500"], 2)), a_knotty_problem()):
    session = Session(LARGE)
    plan = session.solve(problem)
    session.repair(plan, [problem.pools[0].name])
print(sorted(compiled()))
"""


@pytest.mark.slow
async def test_with_nothing_compiled_the_first_large_problem_is_solved_in_its_own_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    async with SolverProcess(ProcessLimits(seconds_max=10.0)) as solver:
        plan = await solver.solve(a_knotty_problem(), LARGE)
    assert (plan.solver, plan.solver_reason) == ("pipeline", "")
    # And that was all there is to compile, for the largest fleet too.
    child = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", COMPILED),
        env={**os.environ, "PYTHONPATH": os.getcwd()},
        stdout=asyncio.subprocess.PIPE,
        start_new_session=True,
    )
    told, _ = await child.communicate()
    assert told.decode().strip() == "[]"


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
