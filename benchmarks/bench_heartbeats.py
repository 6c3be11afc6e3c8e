"""Heartbeats while the largest fleet is placed: `python benchmarks/bench_heartbeats.py [SIZE]`.

The solver has a process of its own; what can still hold up this process's loop are the threads
that build, pack and unpack what goes there and back, the one that keeps what is when the solver
fails, and the garbage collections that these set off: with all that a control plane imports a full
one takes 0.1 s or more, unless `gc.freeze()` was called after the start, as `control_plane.main`
does (here unless `--no-freeze`). Writes benchmarks/results/heartbeats.json.
"""

import argparse
import asyncio
import gc
import json
import os
from collections.abc import Awaitable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeVar

from benchmarks.bench_scheduler import machine
from benchmarks.placement_instances import SIZES, Values, problem_of, values_of
from scheduler.process import GIB, ProcessLimits, SolverProcess, decode, encode
from scheduler.solve import keep_what_is
from skerry.plumbing.clock import SystemClock

Result = TypeVar("Result")

RESULTS = Path(__file__).parent / "results" / "heartbeats.json"
# A plane renews its lease once a second; the quick ones see what that misses.
INTERVALS_SECONDS = (1.0, 0.1, 0.01)
IDLE_SECONDS = 3.0
# Not part of solving: nothing happens, and what is left to do where no child answers at all.
NO_SOLVER = ("idle", "keep what is")
LIMITS = ProcessLimits(seconds_max=300.0, memory_bytes_max=8 * GIB)
CLOCK = SystemClock()


async def beat(interval_seconds: float, late: list[float]) -> None:
    """Note for ever how many seconds after its time each beat comes."""
    due = CLOCK.monotonic() + interval_seconds
    while True:
        await CLOCK.sleep(due - CLOCK.monotonic())
        late.append(CLOCK.monotonic() - due)
        # A beat that was missed is not made up for.
        due = max(due, CLOCK.monotonic() - interval_seconds) + interval_seconds


class Collections:
    """The seconds that garbage collections took, told by the interpreter itself."""

    def __init__(self) -> None:
        self.seconds: list[float] = []
        self._began = 0.0
        gc.callbacks.append(self._note)

    def _note(self, phase: str, _: object) -> None:
        if phase == "start":
            self._began = CLOCK.monotonic()
        else:
            self.seconds.append(CLOCK.monotonic() - self._began)

    def close(self) -> float:
        """Stop listening and return the longest one."""
        gc.callbacks.remove(self._note)
        return max(self.seconds, default=0.0)


async def during(work: Awaitable[Result]) -> tuple[Result, Mapping[str, Any]]:
    """Return the result of some work, and how late heartbeats were while it went on."""
    late: dict[float, list[float]] = {interval: [] for interval in INTERVALS_SECONDS}
    collections, began = Collections(), CLOCK.monotonic()
    async with asyncio.TaskGroup() as group:
        beats = [group.create_task(beat(interval, late[interval])) for interval in late]
        result = await work
        seconds = CLOCK.monotonic() - began
        # A beat that is due when the work ends still has to come.
        await CLOCK.sleep(INTERVALS_SECONDS[-1])
        for task in beats:
            task.cancel()
    told = {f"every_{interval:g}_s": _figures(found) for interval, found in late.items()}
    longest = round(1000 * collections.close(), 2)
    return result, {"seconds": round(seconds, 3), "gc_ms_max": longest, **told}


def _figures(late: list[float]) -> Mapping[str, Any]:
    if not late:
        return {"beats": 0}
    ordered = sorted(late)
    p99 = ordered[min(len(ordered) - 1, int(0.99 * len(ordered)))]
    return {
        "beats": len(late),
        "late_ms_p99": round(1000 * p99, 2),
        "late_ms_max": round(1000 * ordered[-1], 2),
    }


async def measure(size: str, seed: str) -> dict[str, Any]:
    """Return the lateness of each phase; `solve` is the process's start, compiling and all."""
    phases: dict[str, Mapping[str, Any]] = {}
    values: Values = values_of(size, seed)
    _, phases["idle"] = await during(CLOCK.sleep(IDLE_SECONDS))
    problem, phases["build the problem"] = await during(asyncio.to_thread(problem_of, values))
    del values  # the control plane has no such text, and collections would walk it
    async with SolverProcess(LIMITS) as process:
        plan, phases["solve"] = await during(process.solve(problem))
        applied = replace(problem, current=plan.placements)
        _, phases["solve again"] = await during(process.solve(applied))
        lost = [problem.pools[0].name]
        _, phases["repair"] = await during(process.repair(lost))
    _, phases["keep what is"] = await during(asyncio.to_thread(keep_what_is, applied))
    # The same that `SolverProcess` does in threads, each by itself.
    packed, phases["pack the problem"] = await during(asyncio.to_thread(encode, problem))
    answer = encode(plan)
    _, phases["unpack the plan"] = await during(asyncio.to_thread(decode, answer))
    worst = {
        name: max(phase[f"every_{interval:g}_s"].get("late_ms_max", 0.0)
                  for interval in INTERVALS_SECONDS)
        for name, phase in phases.items()
    }  # fmt: skip
    return {
        "machine": machine(),
        "machine_load": round(os.getloadavg()[0], 2),
        "size": size,
        "seed": seed,
        "gc_frozen": gc.get_freeze_count() > 0,
        "solver": plan.solver,
        "solver_reason": plan.solver_reason,
        "problem_mb": round(len(packed) / 2**20, 2),
        "plan_mb": round(len(answer) / 2**20, 2),
        "lateness_ms_max": max(late for name, late in worst.items() if name not in NO_SOLVER),
        "worst_ms": worst,
        "phases": phases,
    }


def main() -> None:
    """Measure one size and write the results."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("size", nargs="?", choices=SIZES, default="1M")
    parser.add_argument("--seed", default="1")
    parser.add_argument(
        "--no-freeze", action="store_true", help="let collections walk what is imported"
    )
    told = parser.parse_args()
    if not told.no_freeze:
        gc.collect()
        gc.freeze()
    results = asyncio.run(measure(told.size, told.seed))
    print(json.dumps(results, indent=1))
    RESULTS.parent.mkdir(parents=True, exist_ok=True)
    RESULTS.write_text(json.dumps(results, indent=1) + "\n")


if __name__ == "__main__":
    main()
