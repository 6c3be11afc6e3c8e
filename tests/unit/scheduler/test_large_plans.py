"""Plans of the large pipeline keep every rule, are the same every time, and survive a loss."""

import os
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.bench_large import faults
from benchmarks.placement_instances import SIZES, Size, generate
from scheduler.instance import Instance, instance_of
from scheduler.large import LargeAnswer, repair, solve_large
from scheduler.relaxation import served_and_short
from tests.unit.scheduler.fleets import a_problem

ROOT = Path(__file__).parents[3]


@pytest.fixture(scope="module")
def instance() -> Instance:
    return generate("100x500", 2)


@pytest.fixture(scope="module")
def answer(instance: Instance) -> LargeAnswer:
    return solve_large(instance)


def test_plan_fits_all_nodes_and_serves_everybody(instance: Instance, answer: LargeAnswer) -> None:
    assert faults(instance, answer) == []
    unmet, short = served_and_short(instance, answer.counts)
    assert unmet.max() == 0.0
    assert short.max() == 0.0


def test_cost_is_near_its_bound_and_never_below(answer: LargeAnswer) -> None:
    assert 0.0 <= answer.gap < 0.03
    assert answer.bounds.unmet <= answer.levels.unmet
    assert answer.bounds.survival <= answer.levels.survival


def test_warm_start_of_its_own_plan_serves_as_well_and_moves_only_what_pays(
    instance: Instance, answer: LargeAnswer
) -> None:
    columns = replace(
        instance.columns,
        current=answer.counts,
        move_price=np.full(len(answer.counts), 1.0),
    )
    again = solve_large(replace(instance, columns=columns), warm=answer.warm)
    assert faults(instance, again) == []
    assert again.levels.unmet == answer.levels.unmet
    assert again.levels.cost <= answer.levels.cost * (1.0 + 1e-9)  # a move costs $1 in it


def test_repair_leaves_the_lost_pools_and_stays_valid(
    instance: Instance, answer: LargeAnswer
) -> None:
    lost = np.flatnonzero(instance.pools.plane == 3)
    after = repair(instance, answer.warm, lost)
    assert faults(instance, after) == []
    assert after.counts[np.isin(instance.columns.pool, lost)].sum() == 0


def test_shortage_sheds_the_lowest_class_first() -> None:
    whole = generate("10x50", 2)
    wants = replace(whole.deployments, demand=1.5 * whole.deployments.demand)
    answer = solve_large(replace(whole, deployments=wants))
    assert faults(whole, answer) == []
    unmet = answer.unmet[np.diff(whole.first) > 0]
    priority = whole.deployments.priority[np.diff(whole.first) > 0]
    assert unmet[priority == 3].mean() >= unmet[priority == 0].mean()


def test_an_empty_fleet_and_no_demand_have_plans() -> None:
    nothing = solve_large(instance_of(a_problem((), ())))
    assert len(nothing.counts) == 0
    assert nothing.levels.cost == 0.0


@pytest.mark.integration
def test_same_plan_in_another_process_under_another_hash_seed() -> None:
    told = (
        "import hashlib; from benchmarks.placement_instances import generate;"
        "from scheduler.large import solve_large; a = solve_large(generate('100x500', 2));"
        "print(hashlib.sha256(a.counts.tobytes() + a.pool_prices.tobytes()).hexdigest())"
    )
    seen = {
        subprocess.run(
            [sys.executable, "-c", told],
            check=True,
            capture_output=True,
            cwd=ROOT,
            env={**os.environ, "PYTHONHASHSEED": seed, "PYTHONPATH": str(ROOT)},
        ).stdout
        for seed in ("1", "2")
    }
    assert len(seen) == 1


def test_sizes_are_those_of_the_targets() -> None:
    assert SIZES["1000x2000"] == Size(pools=1000, deployments=2000, nodes_mean=56.0)
