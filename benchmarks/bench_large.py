"""Time, gap and memory of the large pipeline: `python -m benchmarks.bench_large [SIZE ...]`.

Each row: a cold solve, a warm one with every demand changed by up to 1 %, the loss of the most
loaded plane. Compilation is done on a small instance first and timed by itself.
"""

import argparse
import os
import resource
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TypeVar

import numpy as np

from benchmarks.placement_instances import SIZES, generate, read
from scheduler.compiled import Ints
from scheduler.instance import Instance
from scheduler.large import LargeAnswer, repair, solve_large

Result = TypeVar("Result")
MOVE_PRICE = 0.01 / 24
DATA = Path(os.environ.get("SKERRY_PLACEMENT_DATA", "../shared/data/placement"))


def timed(run: Callable[[], Result]) -> tuple[Result, str]:
    """Return the result, and seconds of wall and user time as text."""
    wall, user = time.perf_counter(), resource.getrusage(resource.RUSAGE_SELF).ru_utime
    result = run()
    wall = time.perf_counter() - wall
    user = resource.getrusage(resource.RUSAGE_SELF).ru_utime - user
    return result, f"{wall:6.3f}s ({user:.3f}u)"


def faults(instance: Instance, answer: LargeAnswer) -> list[str]:
    """Return what is wrong with a plan: bounds, capacity and nodes, with nothing of the solver."""
    columns, counts, found = instance.columns, answer.counts, []
    if (counts < 0).any() or (counts > columns.limit).any():
        found.append("counts out of range")
    used = np.bincount(columns.pool, counts * columns.accelerators, minlength=instance.size[0])
    if (used > instance.pools.capacity + 1e-6).any():
        found.append("accelerators overdrawn")
    placed = np.bincount(columns.deployment, counts, minlength=instance.size[1])
    if (placed > instance.deployments.replicas_max).any():
        found.append("replicas_max exceeded")
    load = columns.throughput * counts
    served = np.bincount(columns.deployment, load, minlength=instance.size[1])
    spot = np.bincount(columns.deployment, load * columns.spot, minlength=instance.size[1])
    if (spot > instance.deployments.spot_max * served * (1 + 1e-7) + 1e-7).any():
        found.append("spot cap exceeded")
    found.extend(
        f"pool {j} does not pack" for j in range(instance.size[0]) if not packs(instance, counts, j)
    )
    return found


def packs(instance: Instance, counts: Ints, j: int) -> bool:
    """Say whether a pool's replicas fit its nodes, first fit by size in plain Python."""
    columns, pools = instance.columns, instance.pools
    here = np.flatnonzero((columns.pool == j) & (counts > 0))
    per_node = float(pools.per_node[j])
    for key in ((0, 1), (1, 0)):
        sizes = sorted(
            ((columns.accelerators[c], columns.load_memory[c], int(counts[c])) for c in here),
            key=lambda load: (-load[key[0]], -load[key[1]]),
        )
        whole = sum(int(np.ceil(s[0] / per_node)) * s[2] for s in sizes if s[0] > per_node)
        nodes = [
            [per_node, float(pools.node_memory[j])] for _ in range(int(pools.nodes[j]) - whole)
        ]
        good = whole <= pools.nodes[j]
        for accelerators, memory, count in (s for s in sizes if s[0] <= per_node):
            left = count
            for node in nodes:
                n = min(
                    left, int(node[0] // accelerators), int(node[1] // memory) if memory else left
                )
                node[0] -= n * accelerators
                node[1] -= n * memory
                left -= n
                if not left:
                    break
            good = good and not left
        if good:
            return True
    return False


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
    load = np.bincount(instance.pools.plane[columns.pool], answer.counts * columns.accelerators)
    lost = np.flatnonzero(instance.pools.plane == int(load.argmax()))
    after, repair_time = timed(lambda: repair(instance, answer.warm, lost))
    alive = ~np.isin(columns.pool, lost)
    gone = np.maximum(0, answer.counts - after.counts)[alive].sum() / answer.counts[alive].sum()
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024
    dearer = 100 * (after.levels.cost / answer.levels.cost - 1)
    wrong = faults(instance, answer) + faults(instance, warm) + faults(instance, after)
    print(
        f"{name:16} cold {cold} gap {100 * answer.gap:5.2f}% unmet {sum(answer.levels.unmet):.3f}"
        f" (bound {sum(answer.bounds.unmet):.3f}) survival {answer.levels.survival:.3f}"
        f" ({answer.bounds.survival:.3f}) replicas {answer.counts.sum()}"
        f" accelerators {int(instance.pools.capacity.sum())}\n"
        f"{'':16} warm {warm_time} gap {100 * warm.gap:5.2f}% unmet {sum(warm.levels.unmet):.3f}"
        f" started {100 * moved:.2f}%\n"
        f"{'':16} lost {repair_time} cost {dearer:+.2f}%"
        f" unmet {sum(after.levels.unmet):.3f} survival {after.levels.survival:.3f}"
        f" healthy moved {100 * gone:.3f}% faults {wrong} peak {peak:.0f} MB",
        flush=True,
    )


def main() -> None:
    """Print one row per size and seed."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("sizes", nargs="*", default=list(SIZES))
    parser.add_argument("--seeds", type=int, default=3)
    told = parser.parse_args()
    small = generate("10x50", 1)
    answer, compiling = timed(lambda: solve_large(small))
    repair(small, answer.warm, np.array([0]))
    print(f"compiled or loaded in {compiling}, load {os.getloadavg()[0]:.1f}")
    for size in told.sizes:
        file = DATA / f"placement_{size}_seed1.json.gz"
        if file.exists():
            row(f"{size} file", read(file))
        for seed in range(1, told.seeds + 1):
            row(f"{size} seed {seed}", generate(size, seed))


if __name__ == "__main__":
    main()
