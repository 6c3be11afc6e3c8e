"""The solver's child process: answers one question after the other on its standard input.

`process.SolverProcess` starts it and alone speaks to it. Plans are made by a session, which starts
each from the last; questions are answered from what they bring, and leave nothing behind.
"""

import ctypes
import gc
import os
import pickle
import resource
import signal
import struct
import sys
from collections.abc import Callable, Mapping, Sequence
from enum import StrEnum
from types import MappingProxyType
from typing import Any, BinaryIO

from scheduler.explain import explain
from scheduler.plan import PlacementPlan
from scheduler.problem import BadQuestion, PlacementProblem
from scheduler.session import Session
from scheduler.solve import SolveLimits, keep_what_is, solve
from scheduler.survival import survive
from scheduler.warmup import warm_up
from scheduler.whatif import what_if

# The loop that waits has heartbeats to send on the same cores.
NICENESS = 5
LENGTH = struct.Struct("!Q")
READY = b"r"
_PR_SET_PDEATHSIG = 1
# A question names one of these, and nothing else can be called there.
QUESTIONS: Mapping[str, Callable[..., Any]] = MappingProxyType(
    {"solve": solve, "explain": explain, "what_if": what_if, "survive": survive}
)


class Kind(StrEnum):
    """What an answer is: `REFUSED` that of a bad question, `NOTHING` of a repair without a plan.

    Told as its value: there this module has another name.
    """

    ANSWER = "answer"
    REFUSED = "refused"
    NOTHING = "nothing"
    ERROR = "error"


class NoPlan(RuntimeError):
    """There is no plan to repair."""


class Planner:
    """The fleet that is planned again and again, and its last plan.

    A plan that fails leaves nothing behind: the next one starts cold.
    """

    def __init__(self) -> None:
        self._session: Session | None = None
        self._limits = SolveLimits()
        self._plan: PlacementPlan | None = None
        self._pools: frozenset[str] = frozenset()

    def plan(self, problem: PlacementProblem, limits: SolveLimits) -> PlacementPlan:
        """Return a plan; the session goes on while the limits are the same."""
        session, self._session, self._plan = self._session, None, None
        if session is None or limits != self._limits:
            session = Session(limits)
        plan = session.solve(problem)
        self._session, self._limits, self._plan = session, limits, plan
        self._pools = frozenset(pool.name for pool in problem.pools)
        return plan

    def keep(self, problem: PlacementProblem) -> PlacementPlan:
        """Return the plan that starts nothing; nothing can be repaired after it."""
        self._session, self._plan = None, None
        return keep_what_is(problem)

    def repair(self, lost: Sequence[str]) -> PlacementPlan:
        """Return the last plan without these pools; BadQuestion for an unknown one, or NoPlan."""
        if self._session is None or self._plan is None:
            raise NoPlan("this process has no plan: nothing was solved, or the last try failed")
        if unknown := sorted(set(lost) - self._pools):
            raise BadQuestion(f"pool {unknown[0]!r} is not among the {len(self._pools)} pools")
        self._plan = self._session.repair(self._plan, lost)
        return self._plan


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
    planner = Planner()
    calls: Mapping[str, Callable[..., Any]] = {
        **QUESTIONS,
        "warm_up": warm_up,
        "plan": planner.plan,
        "keep": planner.keep,
        "repair": planner.repair,
    }
    gc.disable()  # but for `_collect`, while nobody waits
    _collect()
    answers.write(READY)
    answers.flush()
    while question := _read(sys.stdin.buffer):
        answer = _answer(calls, question)
        answers.write(LENGTH.pack(len(answer)) + answer)
        answers.flush()
        del question, answer
        _collect()


def _collect() -> None:
    """Collect garbage while nobody waits, and never look again at what is left.

    With a million accelerators at hand a collection takes as long as a repair may.
    """
    gc.unfreeze()
    gc.collect()
    gc.freeze()


def _read(questions: BinaryIO) -> bytes:
    header = questions.read(LENGTH.size)
    if len(header) < LENGTH.size:
        return b""
    (length,) = LENGTH.unpack(header)
    return questions.read(length)


def _answer(calls: Mapping[str, Callable[..., Any]], question: bytes) -> bytes:
    try:
        name, arguments = pickle.loads(question)
        return pickle.dumps((Kind.ANSWER.value, calls[name](*arguments)))
    except NoPlan as error:
        return pickle.dumps((Kind.NOTHING.value, str(error)))
    except BadQuestion as error:
        return pickle.dumps((Kind.REFUSED.value, str(error)))
    except Exception as error:  # whatever it is, the caller has a fallback and must be told
        return pickle.dumps((Kind.ERROR.value, f"{type(error).__name__}: {error}"))


if __name__ == "__main__":
    main(int(sys.argv[1]), int(sys.argv[2]))
