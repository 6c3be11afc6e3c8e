"""The solver in a process of its own, with limits of time and memory.

The control plane's loop awaits `SolverProcess.solve`: whatever happens to the solver, heartbeats
go on and a plan comes back, from greedy or by keeping what is where nothing better was had in time.
Operators' questions come through `SolverProcess.ask`, and have no answer but their own. What the
child does is in `child`.
"""

import asyncio
import contextlib
import gc
import os
import pickle
import sys
from collections.abc import Collection, Iterator
from dataclasses import dataclass, replace
from typing import Any

from scheduler.child import LENGTH, QUESTIONS, READY, Kind
from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import ARRAYS_COLUMNS_MIN, SolveLimits, keep_what_is, pairs_of

GIB = 2**30
# Importing OR-Tools takes under a second; a machine that swaps may need many times that.
START_SECONDS_MAX = 30.0
# The first problem of some size waits in each child for compiled loops: a second where they lie on
# the disk, 50 to 90 s on a busy core where they do not (another processor than `make setup` had).
COMPILE_SECONDS_MAX = 180.0
# Greedy needs seconds for a million accelerators; after this it hangs and keeping is the answer.
GREEDY_SECONDS_MAX = 10.0
# Of a million accelerators keeping what is takes 3 s; after this it is done here.
KEEP_SECONDS_MAX = 15.0
# A repair takes a tenth of a second; after this a new solve is what there is to do.
REPAIR_SECONDS_MAX = 5.0
GREEDY = SolveLimits(searches=False)


class SolverDied(RuntimeError):
    """The solver's process ended, was ended for its limits, or raised; the message says which."""


class SolverLate(SolverDied):
    """The answer took longer than the limit; the child was ended."""


class QuestionRefused(SolverDied):
    """The question itself is wrong, such as a name that the problem does not have."""


class NothingToRepair(SolverDied):
    """The child has no plan: it solved nothing yet, or is not the one that did; solve instead."""


@dataclass(frozen=True, slots=True, kw_only=True)
class ProcessLimits:
    """What one solve may take; `memory_bytes_max` is of address space, libraries included."""

    seconds_max: float = 20.0
    memory_bytes_max: int = 4 * GIB


class SolverProcess:
    """Solves one problem after the other in a child, which is started when first needed.

    Use as an async context manager, or `close` it. A child that broke is replaced by the next call.
    """

    def __init__(self, limits: ProcessLimits = ProcessLimits()) -> None:
        self._limits = limits
        self._child: asyncio.subprocess.Process | None = None
        self._has_compiled = False
        self._turn = asyncio.Lock()

    async def __aenter__(self) -> "SolverProcess":
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.close()

    @property
    def pid(self) -> int | None:
        """Return the child's process id while it runs."""
        return self._child.pid if self._child and self._child.returncode is None else None

    async def solve(
        self, problem: PlacementProblem, limits: SolveLimits | None = None
    ) -> PlacementPlan:
        """Return a checked plan; its `solver_reason` says what failed when it is a fallback.

        A child that solved before starts from its last prices and plan. Raises UnusablePlan when
        not even what runs may stay as it is.
        """
        failures: list[str] = []
        is_blocked = False
        async with self._turn:
            for name, tried, seconds in (
                ("solver", limits or SolveLimits(), self._limits.seconds_max),
                ("greedy", GREEDY, GREEDY_SECONDS_MAX),
            ):
                if is_blocked and _needs_compiling(problem, tried):
                    continue
                try:
                    await self._compile(problem, tried)
                except SolverDied as error:
                    failures.append(str(error))
                    is_blocked = True
                    continue
                try:
                    plan = await self._ask("plan", (problem, tried), seconds)
                except SolverDied as error:
                    failures.append(f"{name}: {error}")
                else:
                    return _because(plan, failures)
            try:
                return _because(await self._ask("keep", (problem,), KEEP_SECONDS_MAX), failures)
            except SolverDied as error:
                failures.append(f"keeping: {error}")
                # `repair` must not speak of another plan than the last one that was returned.
                await self.close()
        # No child answers at all: the loop shares its interpreter for once.
        return _because(await asyncio.to_thread(keep_what_is, problem), failures)

    async def repair(self, lost: Collection[str]) -> PlacementPlan:
        """Return the last plan without the pools of these names, who ran there placed again.

        The next repair or solve starts from it. Raises SolverDied, of which NothingToRepair says
        that there is no such plan and QuestionRefused that a pool is unknown.
        """
        async with self._turn:
            if self.pid is None:
                raise NothingToRepair("no solver runs; solve first")
            plan = await self._ask("repair", (tuple(sorted(set(lost))),), REPAIR_SECONDS_MAX)
        assert isinstance(plan, PlacementPlan)
        return plan

    async def ask(self, name: str, problem: PlacementProblem, *arguments: Any) -> Any:
        """Return what the pure function of that name answers; one question after the other.

        Raises SolverDied, of which QuestionRefused is the asker's fault and SolverLate the limit's.
        """
        assert name in QUESTIONS, name
        async with self._turn:
            await self._compile(problem, SolveLimits())
            return await self._ask(name, (problem, *arguments), self._limits.seconds_max)

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

    async def _compile(self, problem: PlacementProblem, limits: SolveLimits) -> None:
        """Have compiled what the problem needs, before its own limit of time begins."""
        has_compiled = self._has_compiled and self.pid is not None
        if not has_compiled and _needs_compiling(problem, limits):
            try:
                await self._ask("warm_up", (), COMPILE_SECONDS_MAX)
            except SolverDied as error:
                raise SolverDied(f"compiling: {error}") from None
            self._has_compiled = True

    async def _ask(self, name: str, arguments: tuple[Any, ...], seconds_max: float) -> Any:
        try:
            child = await self._started()
            question = await asyncio.to_thread(encode, (name, arguments))
            async with asyncio.timeout(seconds_max):
                answer = await _exchange(child, question)
            kind, value = await asyncio.to_thread(decode, answer)
        except TimeoutError:
            await self.close()
            raise SolverLate(f"no answer within {seconds_max:g} s") from None
        except (EOFError, ConnectionError, OSError, pickle.UnpicklingError) as error:
            await self.close()
            raise SolverDied(f"its process ended ({type(error).__name__})") from None
        except BaseException:
            # Cancelled in the middle of an exchange: the child's next answer would be this one's.
            await self.close()
            raise
        match kind:
            case Kind.ANSWER:
                return value
            case Kind.REFUSED:
                raise QuestionRefused(value)
            case Kind.NOTHING:
                raise NothingToRepair(value)
            case _:
                raise SolverDied(value)

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scheduler.child"),
            *(str(self._limits.memory_bytes_max), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._child, self._has_compiled = child, False
        assert child.stdout is not None
        try:
            async with asyncio.timeout(START_SECONDS_MAX):
                await child.stdout.readexactly(len(READY))
        except TimeoutError:
            reason = f"its process was not ready {START_SECONDS_MAX:g} s after its start"
            raise SolverDied(reason) from None
        return child


def encode(value: object) -> bytes:
    """Return the value's bytes, without collecting garbage meanwhile."""
    with _no_collections():
        return pickle.dumps(value)


def decode(encoded: bytes) -> Any:
    """Return the value that the child encoded, without collecting garbage meanwhile."""
    with _no_collections():
        return pickle.loads(encoded)


@contextlib.contextmanager
def _no_collections() -> Iterator[None]:
    """Put collections off: among so many new objects they stop the loop, and find nothing there.

    Measured with a million accelerators on two busy cores: 150 ms for one while encoding.
    """
    if not gc.isenabled():
        yield
        return
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


async def _exchange(child: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(LENGTH.pack(len(question)) + question)
    await child.stdin.drain()
    (length,) = LENGTH.unpack(await child.stdout.readexactly(LENGTH.size))
    return await child.stdout.readexactly(length)


def _because(plan: Any, failures: list[str]) -> PlacementPlan:
    assert isinstance(plan, PlacementPlan)
    if not failures:
        return plan
    why = "; ".join([*failures, *([plan.solver_reason] if plan.solver_reason else [])])
    return replace(plan, solver_reason=why)


def _needs_compiling(problem: PlacementProblem, limits: SolveLimits) -> bool:
    """Say whether there are so many pairs that compiled loops may be used for them."""
    pairs = pairs_of(problem)
    exact_max = min(limits.columns_max, limits.pairs_max)
    return pairs > exact_max or (limits.searches and pairs >= ARRAYS_COLUMNS_MIN)
