"""Costs are learned from an engine's own times, near what its profile says."""

import random
from dataclasses import replace

import pytest

from skerry.fleet.coefficients import Coefficients
from workload_plane.autoscale.growth import EngineGrowth
from workload_plane.autoscale.learning import (
    FLEET_ROWS_MIN,
    PROFILE_FACTOR_MAX,
    ROWS_MIN,
    EngineKind,
    Learner,
    Learners,
    rows_of,
)

TRUTH = Coefficients(
    accelerator="H100-80G",
    prefill_seconds_per_token=1e-4,
    decode_seconds_per_token=2e-4,
    iteration_seconds=0.01,
)


def a_look(batch: float, prompts_per_second: float, length: float = 500.0) -> EngineGrowth:
    """Return five seconds of an engine of TRUTH that is never idle."""
    seconds = 5.0
    beside_rate = prompts_per_second * length * TRUTH.prefill_seconds_per_token
    alone = TRUTH.iteration_seconds + batch * TRUTH.decode_seconds_per_token
    interval = alone / (1.0 - beside_rate)
    iterations = seconds / interval
    came = prompts_per_second * seconds
    first = length * TRUTH.prefill_seconds_per_token + alone
    return EngineGrowth(
        seconds=seconds,
        prompt_tokens=came * length,
        generated_tokens=iterations * batch,
        first_tokens=came,
        first_token_seconds=came * first,
        token_intervals=iterations * batch,
        token_interval_seconds=iterations * batch * interval,
    )


def looks(count: int) -> list[EngineGrowth]:
    draw = random.Random(7)
    return [a_look(draw.uniform(2.0, 60.0), draw.uniform(1.0, 8.0)) for _ in range(count)]


def close(one: Coefficients | None, other: Coefficients, rel: float) -> None:
    assert one is not None
    told = replace(one, accelerator=other.accelerator)
    for name in ("prefill_seconds_per_token", "decode_seconds_per_token", "iteration_seconds"):
        assert getattr(told, name) == pytest.approx(getattr(other, name), rel=rel), name


def test_the_costs_of_an_engine_come_out_of_its_times() -> None:
    learner = Learner("H100-80G")
    for look in looks(100):
        learner.learn(look)
    close(learner.current(None), TRUTH, 0.02)


def test_without_a_profile_nothing_is_said_before_there_were_enough_looks() -> None:
    learner = Learner("H100-80G")
    for look in looks(int(ROWS_MIN) // 2 - 1):  # two rows each
        learner.learn(look)
    assert learner.current(None) is None


def test_without_a_look_the_profile_holds_as_it_is() -> None:
    assert Learner("H100-80G").current(TRUTH) == TRUTH


def test_many_looks_outweigh_a_profile_and_few_do_not() -> None:
    wrong = replace(TRUTH, iteration_seconds=0.02)
    few, many = Learner("H100-80G"), Learner("H100-80G")
    few.learn(looks(1)[0])
    for look in looks(200):
        many.learn(look)
    close(few.current(wrong), wrong, 0.25)
    close(many.current(wrong), TRUTH, 0.25)


def test_no_look_takes_a_cost_far_from_its_profile() -> None:
    absurd = replace(a_look(10.0, 2.0), token_interval_seconds=1e6, first_token_seconds=1e9)
    learner = Learner("H100-80G")
    for _ in range(300):
        learner.learn(absurd)
    found = learner.current(TRUTH)
    assert found is not None
    assert found.iteration_seconds <= TRUTH.iteration_seconds * PROFILE_FACTOR_MAX
    assert found.prefill_seconds_per_token <= TRUTH.prefill_seconds_per_token * PROFILE_FACTOR_MAX


def test_an_engine_that_changed_is_learned_anew() -> None:
    learner = Learner("H100-80G")
    for look in looks(500):
        learner.learn(replace(look, token_interval_seconds=look.token_interval_seconds * 1.5))
    for look in looks(2_000):
        learner.learn(look)
    close(learner.current(None), TRUTH, 0.05)


def test_costs_that_one_batch_cannot_tell_apart_are_the_iterations() -> None:
    learner = Learner("H100-80G")
    for _ in range(50):
        learner.learn(replace(a_look(10.0, 0.0), first_tokens=0.0))
    found = learner.current(None)
    assert found is not None
    assert (found.prefill_seconds_per_token, found.decode_seconds_per_token) == (0.0, 0.0)
    assert found.iteration_seconds == pytest.approx(0.012)


def test_an_idle_engine_and_one_that_does_not_tell_say_nothing() -> None:
    silent = replace(a_look(10.0, 2.0), token_intervals=0.0, token_interval_seconds=0.0)
    assert rows_of(silent) == ()
    assert rows_of(replace(a_look(10.0, 2.0), token_intervals=3.0)) == ()


def test_first_tokens_that_waited_say_nothing_of_the_prompt() -> None:
    assert len(rows_of(a_look(10.0, 2.0))) == 2
    assert len(rows_of(replace(a_look(10.0, 2.0), was_queued=True))) == 1


def test_kinds_that_are_not_run_any_more_are_forgotten() -> None:
    learners = Learners()
    kind = EngineKind(
        base_model="hf://a/b",
        engine="vllm",
        configuration="",
        accelerator="H100-80G",
        accelerators=1,
    )
    first = learners.of(kind)
    learners.keep({kind})
    assert learners.of(kind) is first
    learners.keep(set())
    assert learners.of(kind) is not first


def test_what_was_learned_outweighs_a_profile_once_it_was_seen_four_times_as_much() -> None:
    learner = Learner("H100-80G")
    for seen, look in enumerate(looks(int(FLEET_ROWS_MIN))):
        learner.learn(look)  # two rows each, or one
        if seen + 1 < FLEET_ROWS_MIN / 2:
            assert not learner.outweighs_profile
    assert learner.outweighs_profile
