"""The same problem gives the same bytes, in another process, under another hash seed."""

import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

from benchmarks.placement_instances import Size, describe, problem_of
from scheduler.session import Session
from scheduler.solve import SolveLimits, solve

ROOT = Path(__file__).parents[3]
ARRAYS = SolveLimits(pairs_max=-1)
GREEDY = SolveLimits(searches=False)
FLEET = Size(pools=24, deployments=60, nodes_mean=14.0)


def digests() -> list[str]:
    """Return a digest of every kind of plan there is, told as text."""
    small = problem_of(describe(Size(pools=6, deployments=12, nodes_mean=12.0), 1))
    wide = problem_of(describe(FLEET, 1))
    session = Session(ARRAYS)
    first = session.solve(wide)
    again = session.solve(wide)
    lost = [pool.name for pool in wide.pools if pool.plane.name == wide.pools[0].plane.name]
    repaired = session.repair(again, lost)
    assert repaired.solver == "repair"
    plans = (
        solve(small),
        solve(small, GREEDY),
        solve(wide, ARRAYS),
        solve(wide, SolveLimits(pairs_max=-1, searches=False)),
        first,
        again,
        repaired,
    )
    assert [plan.solver for plan in plans[:4]] == ["cp-sat", "greedy", "pipeline", "greedy"]
    return [hashlib.sha256(repr(plan).encode()).hexdigest() for plan in plans]


@pytest.mark.integration
def test_same_plans_in_another_process_under_another_hash_seed() -> None:
    told = "from tests.unit.scheduler.test_determinism import digests; print(*digests())"
    others = [
        subprocess.Popen(
            [sys.executable, "-c", told],
            stdout=subprocess.PIPE,
            cwd=ROOT,
            env={
                **os.environ,
                "PYTHONHASHSEED": seed,
                "PYTHONPATH": str(ROOT),
                "OMP_NUM_THREADS": seed,
                "OPENBLAS_NUM_THREADS": seed,
            },
            text=True,
        )
        for seed in ("1", "2")
    ]
    here = " ".join(digests()) + "\n"
    assert {other.communicate()[0] for other in others} == {here}
