"""What a step's figures are made of, and which plans are refused."""

from itertools import islice
from typing import Any

import pytest

from skerry.client.profile import ProfilePlan, Sample, prompts, summarise_step
from skerry.plumbing.errors import InvalidInput


def a_sample(sent_at: float, *pieces_at: float, output_tokens: int = 0) -> Sample:
    return Sample(
        sent_at=sent_at,
        pieces_at=list(pieces_at),
        prompt_tokens=10,
        output_tokens=output_tokens or len(pieces_at),
    )


def a_plan(**told: Any) -> ProfilePlan:
    usual: dict[str, Any] = {
        "concurrencies": (1, 2),
        "prompt_tokens": 8,
        "output_tokens": 8,
        "seconds": 1.0,
        "seed": "one",
    }
    return ProfilePlan(**usual | told)


def test_two_runs_send_no_block_of_a_prompt_twice() -> None:
    # The smallest block an engine keeps is of 16 tokens; each word is one at least.
    runs = [islice(prompts(a_plan(prompt_tokens=64, seed=seed)), 500) for seed in ("one", "two")]
    begins = [" ".join(prompt.split()[:16]) for run in runs for prompt in run]
    assert len(set(begins)) == 1_000


def test_rates_are_of_the_time_in_which_all_were_in_flight() -> None:
    # The second's last two tokens come when the first has ended and nothing follows it.
    samples = [a_sample(0.0, 0.5, 1.0, 1.5, 2.0), a_sample(0.0, 1.0, 2.0, 3.0, 4.0)]
    step = summarise_step(2, samples, until=2.0)
    assert step.output_tokens_per_second == pytest.approx(6 / 2.0)
    assert step.prompt_tokens_per_second == pytest.approx(20 / 2.0)


def test_times_are_those_of_every_request() -> None:
    samples = [a_sample(0.0, 0.5, 1.0), a_sample(1.0, 4.0, 6.0)]
    step = summarise_step(1, samples, until=9.0)
    assert (step.requests, step.itl_samples) == (2, 2)
    assert (step.ttft_p50_seconds, step.ttft_p99_seconds) == (0.5, 3.0)
    assert (step.itl_p50_seconds, step.itl_p99_seconds) == (0.5, 2.0)
    assert step.tpot_p99_seconds == 2.0


def test_a_piece_of_several_tokens_counts_as_many() -> None:
    step = summarise_step(1, [a_sample(0.0, 1.0, 2.0, output_tokens=8)], until=2.0)
    assert step.output_tokens_per_second == pytest.approx(4.0)
    assert step.tpot_p99_seconds == pytest.approx(1 / 7)


@pytest.mark.parametrize(
    "wrong",
    [
        {"concurrencies": ()},
        {"concurrencies": (2, 2)},
        {"concurrencies": (0, 1)},
        {"concurrencies": (5_000,)},
        {"prompt_tokens": 0},
        {"output_tokens": 1},
        {"seconds": float("nan")},
    ],
)
def test_what_cannot_be_measured_is_refused(wrong: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        a_plan(**wrong)
