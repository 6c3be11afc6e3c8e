"""The baselines keep the rules, and one description makes files, problems and arrays."""

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from benchmarks.baselines import Placed, best_fit, greedy
from benchmarks.judge import changed, counts_of, faults, judge
from benchmarks.placement_instances import (
    TINY,
    Size,
    Values,
    arrays_of,
    describe,
    load,
    problem_of,
    write,
)
from scheduler.grid import build_grid
from scheduler.solve import solve
from skerry.fleet.placement import Placement

# Where nothing is compiled yet, the first test compiles half a minute; another worker would again.
pytestmark = [pytest.mark.slow, pytest.mark.xdist_group("baselines")]
SMALL = Size(pools=20, deployments=40, nodes_mean=10.0)


def a_fleet(*pools: Values, demand: float = 4.0, keep: float = 0.0, spot: float = 1.0) -> Values:
    """Return values with one deployment: 2 accelerators and 100 GiB for 1 token/s, anywhere."""
    common = {"gpu": "H100", "nodes": 1, "gpus_per_node": 8, "host_mem_gib_per_node": 1000}
    told = [{"id": number, "plane": number, "market": "on_demand", **common, **pool}
            for number, pool in enumerate(pools)]  # fmt: skip
    deployment = {
        "id": 0,
        "demand": demand,
        "priority": 0,
        "survive_any_plane_loss_share": keep,
        "spot_share_max": spot,
        "host_mem_gib": 100,
        "configs": {"H100": {"tp": 2, "throughput": 1.0}},
        "eligible_pools": [pool["id"] for pool in told],
    }
    return {"format": "skerry-placement-v0", "seed": 0, "pools": told, "deployments": [deployment]}


def on_pools(values: Values, placed: Placed) -> dict[int, int]:
    """Return the replicas per pool."""
    pools = arrays_of(values).columns.pool
    return {int(j): int(n) for j, n in zip(pools, placed.counts, strict=True) if n}


def test_greedy_takes_the_cheapest_pool_and_best_fit_the_fullest_node() -> None:
    values = a_fleet(
        {"price_gpu_hour": 2.0, "host_mem_gib_per_node": 400}, {"price_gpu_hour": 1.0}, demand=3.0
    )
    assert on_pools(values, greedy(arrays_of(values))) == {1: 3}
    assert on_pools(values, best_fit(arrays_of(values))) == {0: 3}


def test_baselines_add_replicas_until_the_loss_of_a_plane_is_survived() -> None:
    pools = [{"price_gpu_hour": price, "nodes": 4} for price in (1.0, 2.0, 3.0)]
    values = a_fleet(*pools, demand=6.0, keep=0.75)
    for place in (greedy, best_fit):
        verdict = judge(values, place(arrays_of(values)).counts)
        assert (verdict.faults, sum(verdict.unmet), verdict.survival) == ((), 0.0, 0.0)


def test_baselines_give_spot_back_where_too_little_else_is_served() -> None:
    spot = {"price_gpu_hour": 0.5, "market": "spot", "nodes": 9}
    values = a_fleet(spot, {"price_gpu_hour": 1.0}, demand=20.0, spot=0.5)
    for place in (greedy, best_fit):
        assert on_pools(values, place(arrays_of(values))) == {0: 4, 1: 4}


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_baselines_fit_the_nodes_that_they_name(seed: int) -> None:
    values = describe(SMALL, seed)
    for place in (greedy, best_fit):
        placed = place(arrays_of(values))
        assert judge(values, placed.counts, placed.nodes).faults == ()


def test_judge_sees_replicas_on_too_small_a_node_and_short_demand() -> None:
    values = a_fleet({"price_gpu_hour": 1.0, "host_mem_gib_per_node": 250}, demand=4.0)
    instance = arrays_of(values)
    assert faults(instance, np.array([2])) == []
    wide = replace(instance, columns=replace(instance.columns, limit=np.array([4])))
    assert faults(wide, np.array([3])) == ["1 pools do not pack, first pool 0"]
    assert judge(values, np.array([1])).unmet == (0.75, 0.0, 0.0, 0.0)


def test_values_survive_being_written_and_read(tmp_path: Path) -> None:
    values = describe(SMALL, 1)
    for name in ("fleet.json.gz", "fleet.json"):
        write(tmp_path / name, values)
        assert load(tmp_path / name) == values


def test_arrays_and_problem_of_the_same_values_have_the_same_columns() -> None:
    values = describe(SMALL, 2)
    columns, problem = arrays_of(values).columns, problem_of(values)
    of, on = columns.deployment.tolist(), columns.pool.tolist()
    fast = [
        (f"d-{d:06d}", f"plane-{values['pools'][j]['plane']:04d}--pool-{j:05d}", int(size))
        for d, j, size in zip(of, on, columns.accelerators, strict=True)
    ]
    # Spot pools of those who take no spot are columns of a grid, without room.
    kept = [
        column
        for column in build_grid(problem).columns
        if not (column.is_spot and not values["deployments"][int(column.deployment[2:])]
                ["spot_share_max"])
    ]  # fmt: skip
    assert fast == [(c.deployment, c.pool, c.accelerators) for c in kept]
    prices = [column.cost_microdollars / 1e6 for column in kept]
    np.testing.assert_allclose(columns.price, prices, atol=1e-6)


def test_a_plan_of_the_problem_is_judged_as_it_says_of_itself() -> None:
    values = describe(TINY, 1)
    plan = solve(problem_of(values))
    counts, strange = counts_of(arrays_of(values), plan.placements)
    verdict = judge(values, counts)
    assert (strange, verdict.faults) == ([], ())
    assert verdict.cost == pytest.approx(plan.cost_per_hour)
    told = [level.value for level in plan.levels[:5]]
    assert [*verdict.unmet, verdict.survival] == pytest.approx(told, abs=1e-3)


def test_a_lost_pool_has_no_column_to_place_on() -> None:
    values = a_fleet({"price_gpu_hour": 1.0}, {"price_gpu_hour": 2.0})
    rest = arrays_of(changed(values, lost=[0]))
    there = Placement(deployment="d-000000", pool="plane-0000--pool-00000", count=1)
    assert counts_of(rest, [there])[1] == ["d-000000 may not run on plane-0000--pool-00000"]
