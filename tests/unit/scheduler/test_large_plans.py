"""Plans of the large pipeline keep every rule, stay where they are, and survive a loss."""

from dataclasses import replace

import numpy as np
import pytest

from benchmarks.bench_large import MOVE_PRICE, faults
from benchmarks.placement_instances import SIZES, Size, generate
from scheduler.arrays import arrays_of
from scheduler.compiled import Ints
from scheduler.instance import Instance
from scheduler.large import LargeAnswer, place_plainly, solve_large
from scheduler.relaxation import served_and_short
from scheduler.repair import repair
from tests.unit.scheduler.fleets import a_problem

# Nothing healthy moves for a repair but what makes room: as a share of what is healthy.
MOVED_MAX = 0.005


@pytest.fixture(scope="module")
def instance() -> Instance:
    return generate("100x500", 2)


@pytest.fixture(scope="module")
def answer(instance: Instance) -> LargeAnswer:
    return solve_large(instance)


def running(instance: Instance, answer: LargeAnswer, *, drift: float = 0.0) -> Instance:
    """Return the instance with the plan applied and demands changed by up to so much."""
    columns = replace(
        instance.columns,
        current=answer.counts,
        move_price=np.full(len(answer.counts), MOVE_PRICE),
    )
    change = np.random.default_rng(5).uniform(1.0 - drift, 1.0 + drift, instance.size[1])
    wants = replace(instance.deployments, demand=instance.deployments.demand * change)
    return replace(instance, columns=columns, deployments=wants)


def started_and_moved(instance: Instance, before: Ints, after: Ints) -> tuple[int, int]:
    """Return the replicas started, and how many of them replace one that was stopped."""
    of, number = instance.columns.deployment, instance.size[1]
    started = np.bincount(of, np.maximum(0, after - before), number)
    stopped = np.bincount(of, np.maximum(0, before - after), number)
    return int(started.sum()), int(np.minimum(started, stopped).sum())


def test_plan_fits_all_nodes_and_serves_everybody(instance: Instance, answer: LargeAnswer) -> None:
    assert faults(instance, answer) == []
    unmet, short = served_and_short(instance, answer.counts)
    assert unmet.max() == 0.0
    assert short.max() == 0.0


def test_cost_is_near_its_bound_and_never_below(answer: LargeAnswer) -> None:
    assert 0.0 <= answer.gap < 0.03
    assert answer.bounds.unmet <= answer.levels.unmet
    assert answer.bounds.survival <= answer.levels.survival


def test_prices_serve_more_and_cost_less_than_greedy(
    instance: Instance, answer: LargeAnswer
) -> None:
    plain = place_plainly(instance)
    assert faults(instance, plain) == []
    assert (*answer.levels.unmet, answer.levels.survival, answer.levels.cost) <= (
        *plain.levels.unmet,
        plain.levels.survival,
        plain.levels.cost,
    )


def test_warm_start_of_its_own_plan_changes_nothing(
    instance: Instance, answer: LargeAnswer
) -> None:
    again = solve_large(running(instance, answer), warm=answer.warm)
    assert (again.counts == answer.counts).all()
    assert again.levels.unmet == answer.levels.unmet


def test_demands_one_percent_off_start_few_replicas_and_move_hardly_any(
    instance: Instance, answer: LargeAnswer
) -> None:
    changed = running(instance, answer, drift=0.01)
    again = solve_large(changed, warm=answer.warm)
    assert faults(changed, again) == []
    assert again.levels.unmet == again.bounds.unmet
    assert again.gap < 0.03
    started, moved = started_and_moved(changed, answer.counts, again.counts)
    assert started <= 0.03 * answer.counts.sum()
    assert moved <= 0.005 * answer.counts.sum()


def lose(instance: Instance, answer: LargeAnswer, plane: int) -> tuple[Ints, LargeAnswer, Instance]:
    """Return what is healthy once a plane is lost, the answer to it, and the instance that is."""
    lost = np.flatnonzero(instance.pools.plane == plane)
    after = repair(answer, lost).answer
    gone = np.isin(instance.columns.pool, lost)
    assert after.counts[gone].sum() == 0
    return np.where(gone, 0, answer.counts), after, after.draft.instance


@pytest.mark.parametrize("plane", [3, 4])
def test_repair_leaves_the_lost_pools_and_stays_valid(
    instance: Instance, answer: LargeAnswer, plane: int
) -> None:
    before = answer.counts.copy()
    healthy, after, left = lose(instance, answer, plane)
    assert faults(left, after) == []
    assert after.levels.cost >= after.bounds.cost
    assert (answer.counts == before).all()
    assert healthy.sum() < before.sum()


def test_repair_says_who_and_where_it_changed(instance: Instance, answer: LargeAnswer) -> None:
    told = repair(answer, np.flatnonzero(instance.pools.plane == 4))
    changed = np.flatnonzero(told.answer.counts != answer.counts)
    assert set(told.deployments) == set(instance.columns.deployment[changed])
    assert set(told.pools) == set(instance.columns.pool[changed])


def test_repairing_an_answer_twice_gives_the_same(instance: Instance) -> None:
    answer = solve_large(instance)
    lost = np.flatnonzero(instance.pools.plane == 3)
    once, again = (repair(answer, lost).answer.counts for _ in range(2))
    assert (once == again).all()


# Planes with 1.4, 1.8 and 2 % of all replicas: a loss like that of one of 50 or 70.
@pytest.mark.parametrize("plane", [4, 14, 19])
def test_repair_after_a_small_loss_moves_next_to_nothing_healthy(
    instance: Instance, answer: LargeAnswer, plane: int
) -> None:
    healthy, after, _ = lose(instance, answer, plane)
    _, moved = started_and_moved(instance, healthy, after.counts)
    assert moved <= MOVED_MAX * healthy.sum()
    assert sum(after.levels.unmet) == 0.0


# This fleet is full: where a twentieth of it is lost others must make room, or some go unserved.
@pytest.mark.parametrize(("plane", "moved_max"), [(1, 0.03), (3, 0.2)])
def test_repair_after_a_large_loss_of_a_full_fleet_serves_all_and_moves_some(
    instance: Instance, answer: LargeAnswer, plane: int, moved_max: float
) -> None:
    healthy, after, _ = lose(instance, answer, plane)
    _, moved = started_and_moved(instance, healthy, after.counts)
    assert sum(after.levels.unmet) == 0.0
    assert moved <= moved_max * healthy.sum()


def test_losing_nothing_repairs_nothing(answer: LargeAnswer) -> None:
    told = repair(answer, np.zeros(0, np.int64))
    assert (told.answer.counts == answer.counts).all()
    assert told.answer.levels == answer.levels
    assert (len(told.deployments), len(told.pools)) == (0, 0)


def test_losing_every_pool_leaves_nothing_and_says_so() -> None:
    whole = generate("10x50", 2)
    answer = solve_large(whole)
    told = repair(answer, np.arange(whole.size[0]))
    assert told.answer.counts.sum() == 0
    assert sum(told.answer.levels.unmet) == (whole.deployments.demand > 0).sum()


def test_shortage_sheds_the_lowest_class_first() -> None:
    whole = generate("10x50", 2)
    wants = replace(whole.deployments, demand=1.5 * whole.deployments.demand)
    short = replace(whole, deployments=wants)
    answer = solve_large(short)
    assert faults(short, answer) == []
    unmet = answer.unmet[np.diff(whole.first) > 0]
    priority = whole.deployments.priority[np.diff(whole.first) > 0]
    assert unmet[priority == 3].mean() >= unmet[priority == 0].mean()


def test_an_empty_fleet_and_no_demand_have_plans() -> None:
    nothing = solve_large(arrays_of(a_problem((), ())).instance)
    assert len(nothing.counts) == 0
    assert nothing.levels.cost == 0.0


def test_sizes_are_those_of_the_targets() -> None:
    assert SIZES["1000x2000"] == Size(pools=1000, deployments=2000, nodes_mean=56.0)
