"""The replay: requests cost what the engine's figures say, replicas what they are paid for."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest

from skerry.fleet.coefficients import Coefficients
from skerry.replay.arrivals import Arrivals, arrivals_of
from skerry.replay.policies import Fixed, Planned
from skerry.replay.world import FleetModel, RegionFleet, RegionSeen, World, run

COSTS = Coefficients(
    accelerator="H100-80G",
    prefill_seconds_per_token=1e-4,
    decode_seconds_per_token=1e-3,
    iteration_seconds=0.02,
)


def a_fleet(*names: str, floor: int = 0, spill_at: int = 0, batch: int = 4) -> FleetModel:
    """Return regions of up to four replicas at a dollar an hour."""
    return FleetModel(
        regions=tuple(
            RegionFleet(name=name, floor=floor, ceiling=4, price_per_hour=1.0) for name in names
        ),
        coefficients=COSTS,
        batch=batch,
        spill_at=spill_at,
    )


def requests(at: Sequence[float], prompt: int = 1_000, output: int = 11) -> Arrivals:
    """Return equal requests of one region."""
    return arrivals_of(at, [prompt] * len(at), [output] * len(at))


def times(fleet: FleetModel, arrivals: Arrivals, replicas: int = 1) -> tuple[list[float], World]:
    """Return the seconds to each first token with so many replicas, and the world after all."""
    world = World(fleet, arrivals)
    world.warm(0, replicas)
    world.pass_time(0, 0.0, 1_000.0)
    return [round(float(one), 6) for one in world.state.first_at - arrivals.at], world


def test_a_lone_request_takes_its_prompt_and_an_iteration_each_token() -> None:
    waited, world = times(a_fleet("a"), requests([0.0]))
    assert waited == [0.12]  # 1,000 x 0.1 ms, and the iteration
    assert world.state.met.tolist() == [1]
    # Ten more tokens at 21 ms; the clock of an idle replica is the world's.
    assert world.state.counters[0].tolist() == [1.0, 1_000.0, 1.0, 11.0, 1.0, 1.0]


def test_prompts_share_an_iteration_up_to_its_chunk() -> None:
    waited, _ = times(a_fleet("a"), requests([0.0, 0.0, 0.0]))
    # The first begins at once with the three of them: 2,048 tokens, then the last 952 beside two.
    assert waited == [0.2248, 0.2248, 0.342]


def test_a_full_batch_makes_others_wait() -> None:
    waited, _ = times(a_fleet("a", batch=1), requests([0.0, 0.0]))
    assert waited == [0.12, 0.45]  # the other's answer of ten more iterations is before it


def test_a_request_goes_to_the_replica_with_fewest() -> None:
    waited, _ = times(a_fleet("a"), requests([0.0, 0.0]), replicas=2)
    assert waited == [0.12, 0.12]


def test_a_tick_is_no_part_of_what_happens() -> None:
    chance = np.random.default_rng(5)
    at = np.sort(chance.uniform(0.0, 60.0, 300))
    arrivals = arrivals_of(at, chance.integers(1, 3_000, 300), chance.integers(1, 200, 300))
    _, whole = times(a_fleet("a"), arrivals, replicas=3)
    parts = World(a_fleet("a"), arrivals)
    parts.warm(0, 3)
    first = 0
    for tick in range(1_000):
        first = parts.pass_time(first, tick * 0.5, tick * 0.5 + 0.5)
    assert np.allclose(parts.state.first_at, whole.state.first_at)
    assert parts.state.met.tolist() == whole.state.met.tolist()


def test_everything_that_comes_is_answered_once() -> None:
    chance = np.random.default_rng(6)
    at = np.sort(chance.uniform(0.0, 120.0, 2_000))
    arrivals = arrivals_of(
        at,
        chance.integers(1, 2_000, 2_000),
        chance.integers(1, 300, 2_000),
        [("a", "b")[number] for number in chance.integers(0, 2, 2_000)],
    )
    world = World(a_fleet("a", "b", floor=2, spill_at=3), arrivals)
    world.pass_time(0, 0.0, 10_000.0)
    assert np.count_nonzero(world.state.met) == 2_000
    assert world.state.counters[:, 2].sum() == 2_000
    assert world.state.counters[:, 3].sum() == arrivals.output.sum()
    assert world.state.served_away.sum() > 0
    world.look()
    assert world.gauges[:, :3].sum() == 0.0


def test_a_request_without_a_replica_is_held_until_one_is_ready() -> None:
    fleet = a_fleet("a")
    outcome = run(fleet, requests([0.0, 300.0]), Fixed([1]))
    # A cold start of 120 s for the first, none for the second.
    assert outcome.attainment == 0.5
    assert (outcome.starts, outcome.target_changes) == (1, 1)
    assert outcome.replica_hours == pytest.approx(305.0 / 3_600.0)
    assert outcome.dollars == outcome.replica_hours


def test_a_busy_region_spills_to_a_peer_and_pays_the_way() -> None:
    at = [0.0] * 8
    crowd = arrivals_of([*at, 9.0], [1_000] * 9, [11] * 9, ["a"] * 8 + ["b"])
    alone = run(a_fleet("a", "b", floor=1), crowd, Fixed([1, 1]))
    helped = run(a_fleet("a", "b", floor=1, spill_at=2), crowd, Fixed([1, 1]))
    assert alone.spilled == 0.0
    assert helped.spilled == pytest.approx(3 / 9)


def test_what_drains_serves_to_the_end_and_is_paid_until_then() -> None:
    fleet = replace(a_fleet("a", floor=0), tick_seconds=1.0)
    long = arrivals_of([0.0, 100.0], [100, 1], [1_000, 1])
    # The answer takes 21 s; the replica is told to go after the fifth.
    plan = [[1]] * 5 + [[0]] * 90 + [[1]] * 10
    outcome = run(fleet, long, Planned(plan, 1.0, "planned"), warm=[1])
    assert outcome.replica_hours * 3_600.0 == pytest.approx(22.0 + 6.0, abs=1.0)
    assert outcome.attainment == 0.5


def test_a_draining_replica_is_taken_back_before_one_is_started() -> None:
    class Wavering:
        name = "wavering"

        def targets(self, now: float, seen: Sequence[RegionSeen]) -> Sequence[int]:
            return [1 if now == 5.0 else 2]

    outcome = run(a_fleet("a"), requests([0.0] * 8 + [20.0], output=900), Wavering(), warm=[2])
    assert outcome.starts == 0
    assert (outcome.target_changes, outcome.reversals) == (2, 1)
