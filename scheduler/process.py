"""The solver in a process of its own, with limits of time and memory.

The control plane's loop awaits `SolverProcess.solve`: whatever happens to the solver, heartbeats
go on and a plan comes back, from greedy or by keeping what is where nothing better was had in time.
"""

import asyncio
import contextlib
import ctypes
import os
import pickle
import resource
import signal
import struct
import sys
from dataclasses import dataclass, replace
from typing import BinaryIO

from scheduler.plan import PlacementPlan
from scheduler.problem import PlacementProblem
from scheduler.solve import SolveLimits, keep_what_is, solve

GIB = 2**30
# Importing OR-Tools takes under a second; a machine that swaps may need many times that.
START_SECONDS_MAX = 30.0
# Greedy needs half a second for 100,000 replicas; after this it hangs and keeping is the answer.
GREEDY_SECONDS_MAX = 10.0
# The loop that waits has heartbeats to send on the same cores.
NICENESS = 5
_LENGTH = struct.Struct("!Q")
_READY = b"r"
_PR_SET_PDEATHSIG = 1
GREEDY = SolveLimits(columns_max=0)


class SolverDied(RuntimeError):
    """The solver's process ended, was ended for its limits, or raised; the message says which."""


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

        Raises UnusablePlan when not even what runs may stay as it is.
        """
        failures: list[str] = []
        async with self._turn:
            for name, tried, seconds in (
                ("solver", limits or SolveLimits(), self._limits.seconds_max),
                ("greedy", GREEDY, GREEDY_SECONDS_MAX),
            ):
                try:
                    plan = await self._ask(problem, tried, seconds)
                except SolverDied as error:
                    failures.append(f"{name}: {error}")
                else:
                    return _because(plan, failures)
        return _because(await asyncio.to_thread(keep_what_is, problem), failures)

    async def close(self) -> None:
        """End the child."""
        child, self._child = self._child, None
        if child is None:
            return
        with contextlib.suppress(ProcessLookupError):
            child.kill()
        await child.wait()

    async def _ask(
        self, problem: PlacementProblem, limits: SolveLimits, seconds_max: float
    ) -> PlacementPlan:
        try:
            child = await self._started()
            question = await asyncio.to_thread(pickle.dumps, (problem, limits))
            async with asyncio.timeout(seconds_max):
                answer = await _exchange(child, question)
            kind, value = await asyncio.to_thread(pickle.loads, answer)
        except TimeoutError:
            await self.close()
            raise SolverDied(f"no answer within {seconds_max:g} s") from None
        except (EOFError, ConnectionError, OSError, pickle.UnpicklingError) as error:
            await self.close()
            raise SolverDied(f"its process ended ({type(error).__name__})") from None
        except BaseException:
            # Cancelled in the middle of an exchange: the child's next answer would be this one's.
            await self.close()
            raise
        if kind == "plan" and isinstance(value, PlacementPlan):
            return value
        raise SolverDied(str(value))

    async def _started(self) -> asyncio.subprocess.Process:
        if self._child is not None and self._child.returncode is None:
            return self._child
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "scheduler.process"),
            *(str(self._limits.memory_bytes_max), str(os.getpid())),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            start_new_session=True,
        )
        self._child = child
        assert child.stdout is not None
        async with asyncio.timeout(START_SECONDS_MAX):
            await child.stdout.readexactly(len(_READY))
        return child


async def _exchange(child: asyncio.subprocess.Process, question: bytes) -> bytes:
    assert child.stdin is not None
    assert child.stdout is not None
    child.stdin.write(_LENGTH.pack(len(question)) + question)
    await child.stdin.drain()
    (length,) = _LENGTH.unpack(await child.stdout.readexactly(_LENGTH.size))
    return await child.stdout.readexactly(length)


def _because(plan: PlacementPlan, failures: list[str]) -> PlacementPlan:
    if not failures:
        return plan
    why = "; ".join([*failures, *([plan.solver_reason] if plan.solver_reason else [])])
    return replace(plan, solver_reason=why)


def main(memory_bytes_max: int, parent: int) -> None:
    """Answer problems from standard input until it ends; the child's whole life."""
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        return
    resource.setrlimit(resource.RLIMIT_AS, (memory_bytes_max, memory_bytes_max))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
    os.nice(NICENESS)
    # Whatever a library prints must not get between the answers.
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "wb")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    answers.write(_READY)
    answers.flush()
    while question := _read(sys.stdin.buffer):
        answer = _answer(question)
        answers.write(_LENGTH.pack(len(answer)) + answer)
        answers.flush()


def _read(questions: BinaryIO) -> bytes:
    header = questions.read(_LENGTH.size)
    if len(header) < _LENGTH.size:
        return b""
    (length,) = _LENGTH.unpack(header)
    return questions.read(length)


def _answer(question: bytes) -> bytes:
    try:
        problem, limits = pickle.loads(question)
        return pickle.dumps(("plan", solve(problem, limits)))
    except Exception as error:  # whatever it is, the caller has a fallback and must be told
        return pickle.dumps(("error", f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
