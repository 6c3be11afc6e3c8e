"""Published rules held to what is published of them, and ours against a load with one step."""

from collections.abc import Callable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import numpy as np
import pytest

from control_plane.link.freshness import are_current
from skerry.fleet.autoscaling.decision import ReplicaCounts
from skerry.fleet.autoscaling.factors import FloorSchedule, ScalingFactors
from skerry.fleet.autoscaling.load import LoadReading
from skerry.replay.arrivals import Arrivals, arrivals_of, read_arrivals, repeated
from skerry.replay.catalogue import (
    FIVE,
    LOCAL,
    POLICIES,
    POOLED,
    REFERENCE,
    Wanted,
    request_seconds,
)
from skerry.replay.hindsight import pooled_hindsight, static_hindsight
from skerry.replay.policies import FLEET_SECONDS, TARGET_SECONDS_MAX, Away, TwoLevel
from skerry.replay.published import KnativeKpa, KubernetesHpa, RayServe, Scaler, SkyServe
from skerry.replay.world import FleetModel, RegionFleet, RegionSeen, run


def seen(
    now: float, in_flight: float, ready: int, requests: float = 0.0, starting: int = 0
) -> RegionSeen:
    """Return a region at a moment."""
    return RegionSeen(
        reading=LoadReading(
            at=now,
            requests_total=requests,
            prompt_tokens_total=0.0,
            finished_total=0.0,
            output_tokens_total=0.0,
            in_flight=in_flight,
        ),
        counts=ReplicaCounts(ready=ready, starting=starting),
    )


def held(scaler: Scaler, load: Callable[[float], float], seconds: float, running: int) -> list[int]:
    """Return the targets of a load in flight, in a region that does at once what it is told."""
    targets = []
    for tick in range(int(seconds / 5.0)):
        now = tick * 5.0
        running = scaler.target(now, seen(now, load(now), running))
        targets.append(running)
    return targets


def test_kpa_panics_at_twice_the_target_and_goes_down_when_that_is_over() -> None:
    targets = held(KnativeKpa(7.0), lambda now: 70.0 if 100.0 <= now < 110.0 else 7.0, 300.0, 1)
    assert targets[19] == 1
    assert targets[20:33] == [6] + [10] * 12  # the spike, and a stable window without another
    assert targets[-1] == 1


def test_hpa_keeps_the_highest_of_five_minutes() -> None:
    targets = held(KubernetesHpa(7.0), lambda now: 28.0 if now < 60.0 else 7.0, 600.0, 1)
    assert targets[3] == 4
    assert targets[60] == 4
    assert targets[-1] == 1


def test_hpa_leaves_a_tenth_alone() -> None:
    assert set(held(KubernetesHpa(7.0), lambda _: 30.0, 120.0, 4)) == {4}


def test_hpa_leaves_a_tenth_alone_with_what_starts_counted_as_idle() -> None:
    assert KubernetesHpa(7.0).target(0.0, seen(0.0, 30.0, ready=2, starting=2)) == 4
    assert KubernetesHpa(7.0).target(0.0, seen(0.0, 36.0, ready=2, starting=2)) == 6


def test_ray_serve_waits_half_a_minute_up_and_ten_down() -> None:
    targets = held(RayServe(7.0), lambda now: 28.0 if 60.0 <= now < 300.0 else 7.0, 1_200.0, 1)
    assert targets[16] == 1
    assert targets[25] == 4
    assert targets[170] == 4
    assert targets[-1] == 1


def test_skyserve_waits_five_minutes_for_more_requests() -> None:
    scaler, running, targets = SkyServe(1.0), 1, []
    for tick in range(200):
        now = tick * 5.0
        running = scaler.target(now, seen(now, 0.0, running, requests=4.0 * now))
        targets.append(running)
    assert targets[55] == 1
    assert targets[75] == 4


def a_fleet(spill_at: int) -> FleetModel:
    """Return two regions of the reference engine."""
    return FleetModel(
        regions=tuple(
            RegionFleet(name=name, floor=1, ceiling=12, price_per_hour=10.0) for name in "ab"
        ),
        coefficients=REFERENCE,
        batch=8,
        spill_at=spill_at,
    )


def a_step(seconds: float = 3_600.0) -> Arrivals:
    """Return an hour of requests that treble for its middle third, in the first of two regions."""
    chance = np.random.default_rng(3)
    at = np.sort(chance.uniform(0.0, seconds, int(4.0 * seconds)))
    third = at[(at > seconds / 3) & (at < 2 * seconds / 3)]
    at = np.concatenate([at, third + 0.01, third + 0.02])
    region = np.where(chance.random(len(at)) < 0.7, "a", "b")
    return arrivals_of(at, np.full(len(at), 600), np.full(len(at), 80), region)


FACTORS = ScalingFactors(min_replicas=2, max_replicas=24, concurrency_target=8.0)


@pytest.mark.parametrize("name", list(POLICIES))
def test_every_policy_follows_a_step_up_and_down_inside_the_bounds(name: str) -> None:
    fleet, arrivals = a_fleet(6 if name == POOLED else 0), a_step()
    wanted = Wanted(fleet=fleet, factors=FACTORS, request_seconds=request_seconds(arrivals, fleet))
    outcome = run(fleet, arrivals, POLICIES[name](wanted), warm=[2, 2])
    totals = [sum(each) for each in outcome.series.replicas]
    assert min(totals) >= 2
    assert outcome.peak_replicas <= 24
    # Who has little to spare is late with what comes in the cold start after the step.
    assert outcome.attainment > (0.9 if name in (LOCAL, POOLED) else 0.5)
    assert outcome.target_changes > 0


def quiet_then_scheduled(name: str, **told: Any) -> list[int]:
    """Return each minute's replicas of an hour with next to no load; six from 09:20 on, for 15."""
    six = FloorSchedule(cron="20 9 * * *", seconds=900.0, min_replicas=6)
    factors = replace(FACTORS, schedules=(six,), scale_down_delay_seconds=60.0)
    at = np.arange(0.0, 3_600.0, 20.0)
    few = arrivals_of(at, np.full(len(at), 60), np.full(len(at), 8), np.where(at % 40, "a", "b"))
    fleet = replace(a_fleet(6 if name == POOLED else 0), **told)
    wanted = Wanted(fleet=fleet, factors=factors, request_seconds=0.1)
    outcome = run(fleet, few, POLICIES[name](wanted), warm=[1, 1])
    return [sum(each) for each in outcome.series.replicas]


@pytest.mark.parametrize("name", [LOCAL, POOLED])
def test_a_schedule_is_a_floor_of_a_replay_by_the_time_at_which_the_trace_began(name: str) -> None:
    nine = datetime(2026, 3, 2, 9, tzinfo=UTC)
    totals = quiet_then_scheduled(name, began=nine)
    assert totals[15] == 2
    assert set(totals[21:35]) == {6}, "a part of each region, rounded up"
    assert totals[-1] == 2
    assert set(quiet_then_scheduled(name, began=nine + timedelta(hours=2))) == {2}


def test_the_five_factors_as_published_know_no_schedule() -> None:
    nine = datetime(2026, 3, 2, 9, tzinfo=UTC)
    assert max(quiet_then_scheduled(FIVE, began=nine)) == 2


def test_targets_are_as_fresh_in_a_replay_as_in_production() -> None:
    assert are_current(0.0, TARGET_SECONDS_MAX, FLEET_SECONDS)
    assert not are_current(0.0, TARGET_SECONDS_MAX + 1e-6, FLEET_SECONDS)


def test_the_same_replay_twice_is_the_same() -> None:
    fleet, arrivals = a_fleet(6), a_step()
    first = run(fleet, arrivals, TwoLevel(fleet, FACTORS), warm=[2, 2])
    again = run(fleet, arrivals, TwoLevel(fleet, FACTORS), warm=[2, 2])
    assert first == again


def test_the_local_loops_go_on_without_the_control_plane() -> None:
    fleet, arrivals = a_fleet(6), a_step()
    away = TwoLevel(fleet, FACTORS, away=Away(900.0, 2_700.0))
    outcome = run(fleet, arrivals, away, warm=[2, 2])
    assert outcome.attainment > 0.95


def test_hindsight_pays_less_than_any_fixed_fleet_for_the_same_objective() -> None:
    fleet, arrivals = a_fleet(6), a_step(1_800.0)
    plan = pooled_hindsight(fleet, arrivals, 0.99)
    fixed = static_hindsight(fleet, arrivals, 0.99, pooled=True)
    assert plan.attainment >= 0.99
    assert fixed.attainment >= 0.99
    assert plan.replica_hours < fixed.replica_hours


def test_copies_keep_what_requests_are_and_when_they_come() -> None:
    arrivals = a_step(600.0)
    more = repeated(arrivals, 3)
    assert len(more.at) == 3 * len(arrivals.at)
    assert more.output.sum() == 3 * arrivals.output.sum()
    assert np.all(np.diff(more.at) >= 0.0)


def test_a_csv_says_regions_by_name(tmp_path: object) -> None:
    from pathlib import Path

    path = Path(str(tmp_path)) / "trace.csv"
    path.write_text("arrival_s,region,input_tokens,output_tokens\n10,us,100,5\n12.5,eu,200,0\n")
    found = read_arrivals(path)
    assert found.names == ("eu", "us")
    assert (found.at.tolist(), found.region.tolist()) == ([0.0, 2.5], [1, 0])
    assert (found.prompt.tolist(), found.output.tolist()) == ([100, 200], [5, 1])
