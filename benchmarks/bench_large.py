"""Time, gap and memory of the large pipeline: `python -m benchmarks.bench_large [SIZE ...]`.

The arrays' own figures, for work on the pipeline; the scheduler's evidence is `bench_scheduler`.
Each row: a cold solve, and a warm one with every demand changed by up to 1 %. Compilation is done
on a small instance first and timed by itself.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from typing import TypeVar

import numpy as np

from benchmarks import judge
from benchmarks.placement_instances import SIZES, generate, instance_file, read
from scheduler.instance import Instance
from scheduler.large import LargeAnswer, solve_large

Result = TypeVar("Result")
MOVE_PRICE = 0.01 / 24


def timed(run: Callable[[], Result]) -> tuple[Result, str]:
    """Return the result, and seconds of wall and user time as text."""
    wall, user = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    result = run()
    wall = time.perf_counter() - wall
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - user
    return result, f"{wall:6.3f}s ({user:.3f}u)"


def faults(instance: Instance, answer: LargeAnswer) -> list[str]:
    """Return what is wrong with an answer: its counts, and what it says they leave unmet."""
    unmet, _ = judge.shortfalls(instance, answer.counts)
    found = judge.faults(instance, answer.counts)
    if (np.abs(unmet - answer.unmet) > 2 * judge.SHORT_SHARE_MIN).any():
        found.append("tells another unmet demand than it leaves")
    return found


def row(name: str, instance: Instance) -> None:
    """Print the figures of one instance."""
    columns = instance.columns
    answer, cold = timed(lambda: solve_large(instance))
    # A start costs a cent over a day, as placement problems say unless told.
    drift = np.random.default_rng(5).uniform(0.99, 1.01, instance.size[1])
    wants = replace(instance.deployments, demand=instance.deployments.demand * drift)
    starts = np.full(len(columns.pool), MOVE_PRICE)
    held = replace(columns, current=answer.counts, move_price=starts)
    changed = replace(instance, deployments=wants, columns=held)
    warm, warm_time = timed(lambda: solve_large(changed, warm=answer.warm))
    moved = np.maximum(0, warm.counts - answer.counts).sum() / max(1, answer.counts.sum())
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    wrong = faults(instance, answer) + faults(changed, warm)
    print(
        f"{name:16} cold {cold} gap {100 * answer.gap:5.2f}% unmet {sum(answer.levels.unmet):.3f}"
        f" (bound {sum(answer.bounds.unmet):.3f}) survival {answer.levels.survival:.3f}"
        f" ({answer.bounds.survival:.3f}) replicas {answer.counts.sum()}"
        f" accelerators {int(instance.pools.capacity.sum())}\n"
        f"{'':16} warm {warm_time} gap {100 * warm.gap:5.2f}% unmet {sum(warm.levels.unmet):.3f}"
        f" started {100 * moved:.2f}% faults {wrong} peak {peak:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Print one row per size and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    small = generate("10x50", 1)
    _, compiling = timed(lambda: solve_large(small))
    print(f"compiled or loaded in {compiling}, load {os.getloadavg()[0]:.1f}")
    for size in told.sizes:
        file = instance_file(size)
        if file.exists():
            row(f"{size} file", read(file))
        for seed in range(1, told.seeds + 1):
            row(f"{size} seed {seed}", generate(size, seed))


if __name__ == "__main__":
    main()
