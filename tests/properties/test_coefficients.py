"""The coefficients of a profile: those that made it, where any did, and never what cannot be."""

import math
from dataclasses import replace

import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from skerry.fleet.coefficients import Coefficients, coefficients_of, fit
from skerry.fleet.profile import Profile, ProfileStep
from tests.builders import a_deployment, a_profile, a_step
from tests.properties.examples import examples

modest = settings(max_examples=examples(200), deadline=None)
SECONDS = st.floats(1e-5, 0.1)
# Concurrencies above 1, each with the part of them that the engine decodes at once.
LEVELS = st.lists(
    st.tuples(st.integers(2, 512), st.floats(0.0, 1.0)),
    max_size=7,
    unique_by=lambda level: level[0],
).map(sorted)
Levels = list[tuple[int, float]]


def a_profile_of(truth: Coefficients, levels: Levels, prompt_tokens: int) -> Profile:
    """The profile of an engine that is never idle, and takes exactly so long."""
    output = 64
    first = prompt_tokens * truth.prefill_seconds_per_token
    first += truth.iteration_seconds + truth.decode_seconds_per_token
    steps = [a_step_of(1, first, truth.work_seconds(prompt_tokens, output, 1.0), output)]
    for concurrency, part in levels:
        batch = batch_of(concurrency, part)
        work = truth.work_seconds(prompt_tokens, output, batch)
        # The others wait for their first token.
        waits = concurrency * work * (1.0 - batch / concurrency)
        steps.append(a_step_of(concurrency, waits, work, output))
    one = a_profile({1: 1.0})
    return replace(one, steps=tuple(steps), prompt_tokens=prompt_tokens, output_tokens=output)


def batch_of(concurrency: int, part: float) -> float:
    return 1.0 + part * (concurrency - 1)


def a_step_of(concurrency: int, ttft: float, work: float, output: int) -> ProfileStep:
    """A step in which a request takes so much of the replica, whatever the times between tokens."""
    return a_step(
        concurrency,
        output / work,
        ttft_p50_seconds=ttft,
        ttft_p99_seconds=ttft,
        itl_p50_seconds=0.0,
    )


truths = st.builds(
    Coefficients,
    accelerator=st.just("cpu"),
    prefill_seconds_per_token=st.floats(1e-5, 0.01),
    decode_seconds_per_token=SECONDS,
    iteration_seconds=SECONDS,
)


def profiles_of(least: float, most: float) -> st.SearchStrategy[Profile]:
    """Profiles whose figures, unlike one another as they may be, all lie between two bounds."""
    seconds = st.floats(least, most)
    steps = st.builds(
        ProfileStep,
        concurrency=st.integers(1, 4_096),
        requests=st.just(100),
        ttft_p50_seconds=seconds,
        ttft_p99_seconds=st.just(1.0),
        itl_samples=st.just(1_000),
        itl_p50_seconds=seconds,
        itl_p99_seconds=st.just(1.0),
        tpot_p99_seconds=st.just(1.0),
        output_tokens_per_second=st.floats(max(least, 1e-3), most),
        prompt_tokens_per_second=st.just(1.0),
    )
    one = a_profile({1: 1.0})
    several = st.lists(steps, min_size=1, max_size=6, unique_by=lambda step: step.concurrency)
    return several.map(
        lambda found: replace(one, steps=tuple(sorted(found, key=lambda step: step.concurrency)))
    )


profiles, ordinary_profiles = profiles_of(0.0, 86_400.0), profiles_of(1e-3, 1e3)


@modest
@given(truths, LEVELS, st.integers(1, 2_000))
def test_what_made_a_profile_is_found_again(
    truth: Coefficients, levels: Levels, prompt_tokens: int
) -> None:
    found = fit(a_profile_of(truth, levels, prompt_tokens))
    assert found is not None
    for batch in (1.0, *(batch_of(*level) for level in levels)):
        mine = found.work_seconds(prompt_tokens, 64.0, batch)
        assert mine == pytest.approx(truth.work_seconds(prompt_tokens, 64.0, batch), rel=1e-2)


@modest
@given(truths, LEVELS, st.integers(1, 2_000))
def test_a_replica_that_is_never_idle_has_a_second_of_work_in_a_second(
    truth: Coefficients, levels: Levels, prompt_tokens: int
) -> None:
    profile = a_profile_of(truth, levels, prompt_tokens)
    found = fit(profile)
    assert found is not None
    batches = (1.0, *(batch_of(*level) for level in levels))
    for step, batch in zip(profile.steps, batches, strict=True):
        requests = step.output_tokens_per_second / 64.0
        work = found.work_seconds(requests * prompt_tokens, requests * 64.0, batch)
        assert work == pytest.approx(1.0, rel=1e-2)


@modest
@given(profiles)
def test_whatever_was_measured_nothing_takes_less_than_no_time(profile: Profile) -> None:
    found = fit(profile)
    assume(found is not None)
    assert found is not None
    for tokens in ((1.0, 0.0), (0.0, 1.0), (100.0, 100.0)):
        work = found.work_seconds(*tokens, batch=4.0)
        assert math.isfinite(work)
        assert work >= 0.0


@modest
@given(ordinary_profiles, st.floats(0.5, 2.0))
def test_an_engine_that_is_slower_in_everything_is_so_in_all_its_work(
    profile: Profile, factor: float
) -> None:
    slower = replace(
        profile,
        steps=tuple(
            replace(
                step,
                ttft_p50_seconds=step.ttft_p50_seconds * factor,
                itl_p50_seconds=step.itl_p50_seconds * factor,
                output_tokens_per_second=step.output_tokens_per_second / factor,
            )
            for step in profile.steps
        ),
    )
    before, after = fit(profile), fit(slower)
    assert before is not None
    assert after is not None
    work = before.work_seconds(10.0, 10.0, 8.0)
    assert after.work_seconds(10.0, 10.0, 8.0) == pytest.approx(work * factor, rel=1e-3)


TRUTH = Coefficients(
    accelerator="cpu",
    prefill_seconds_per_token=1e-3,
    decode_seconds_per_token=1e-3,
    iteration_seconds=1e-2,
)


def test_a_queue_in_front_of_the_engine_is_no_part_of_its_batch() -> None:
    # The engine takes eight at once: of 64 most only wait.
    found = fit(a_profile_of(TRUTH, [(4, 1.0), (8, 1.0), (64, 7 / 63)], 100))
    assert found is not None
    assert found.prefill_seconds_per_token == pytest.approx(1e-3)
    assert found.decode_seconds_per_token == pytest.approx(1e-3)
    assert found.iteration_seconds == pytest.approx(1e-2)


def test_of_one_concurrency_all_is_the_iterations() -> None:
    found = fit(a_profile_of(TRUTH, [], 100))
    assert found is not None
    assert found.prefill_seconds_per_token == pytest.approx(1e-3)
    assert found.iteration_seconds == pytest.approx(1.1e-2)
    assert found.decode_seconds_per_token == 0.0


def test_an_engine_that_sends_tokens_in_bunches_is_not_taken_for_a_fast_one() -> None:
    # As llama.cpp on two cores was measured: a median of 0.02 ms between tokens at 530 tokens/s.
    measured = ((1, 217.8, 0.111, 1.94e-3), (2, 238.2, 0.171, 4.71e-3), (4, 529.6, 0.299, 2e-5))
    steps = tuple(
        a_step(level, speed, ttft_p50_seconds=ttft, ttft_p99_seconds=1.0, itl_p50_seconds=itl)
        for level, speed, ttft, itl in measured
    )
    found = fit(replace(a_profile({1: 1.0}), steps=steps, prompt_tokens=138, output_tokens=64))
    assert found is not None
    for level, speed, _, _ in measured:
        requests = speed / 64.0
        # A replica that was never idle: within what a noisy machine tells apart.
        assert 0.5 < found.work_seconds(requests * 138, speed, level) < 1.5


def test_what_was_not_measured_is_not_made_up() -> None:
    profile = a_profile({1: 100.0, 4: 200.0})
    assert fit(replace(profile, output_tokens=0)) is None
    assert fit(replace(profile, prompt_tokens=0)) is None


def test_a_revision_has_the_coefficients_of_the_shapes_that_were_measured() -> None:
    demo = a_deployment()
    profile = a_profile({1: 100.0, 4: 200.0})
    assert coefficients_of(demo.revision, {}) == ()
    (found,) = coefficients_of(demo.revision, {profile.key: profile})
    assert (found.accelerator, found) == ("cpu", fit(profile))


@pytest.mark.parametrize("seconds", [-1.0, math.inf, math.nan, 1e6])
def test_coefficients_that_nobody_can_have_measured_are_refused(seconds: float) -> None:
    with pytest.raises(ValueError, match=r"must be 0\.\.86400"):
        Coefficients(
            accelerator="cpu",
            prefill_seconds_per_token=0.0,
            decode_seconds_per_token=seconds,
            iteration_seconds=0.0,
        )
