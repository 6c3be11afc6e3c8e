"""The simulated engine's times behave as a real engine's do; figures, not processes."""

from itertools import pairwise
from typing import Any

import pytest

from skerry.plumbing.errors import Exhausted
from workload_plane.simulated.answers import block_keys
from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.kv_blocks import KvBlocks
from workload_plane.simulated.latency import draw
from workload_plane.simulated.model import EngineModel, Sequence

NOON = 1_000.0


def a_config(**changes: Any) -> SimulatedConfig:
    values: dict[str, Any] = {
        "served_name": "m",
        "host": "127.0.0.1",
        "port": 1,
        "jitter": 0.0,
        "ttft_seconds": 0.0,
        "concurrent_requests": 64,
        "queue_requests_max": 1_000,
        "context_tokens": 8_192,
    }
    return SimulatedConfig(**(values | changes))


def a_sequence(number: int, *, prompt: int = 16, output: int = 8, text: str = "") -> Sequence:
    keys = block_keys((text * prompt * 4).encode()[: prompt * 4], 32) if text else ()
    return Sequence(
        number, prompt_tokens=prompt, output_tokens=output, limit_tokens=output, keys=keys
    )


def run(model: EngineModel) -> float:
    """Run the model until it has nothing to do and return the time then."""
    now = NOON
    while (due := model.next_due()) is not None:
        now = due
        model.advance(now)
    return now


def tokens_per_second(batch: int, **changes: Any) -> float:
    model = EngineModel(a_config(concurrent_requests=batch, **changes))
    for number in range(batch):
        model.submit(a_sequence(number, output=100), NOON)
    return 100 * batch / (run(model) - NOON)


def first_token_after(model: EngineModel, sequence: Sequence) -> float:
    submitted = run(model) if model.running else NOON
    model.submit(sequence, submitted)
    run(model)
    return sequence.first_token_at - submitted


def test_draws_are_even_and_repeatable() -> None:
    draws = [draw(7, number) for number in range(10_000)]
    assert draws == [draw(7, number) for number in range(10_000)]
    assert all(0 <= value < 1 for value in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02


def test_throughput_rises_with_the_batch_and_then_saturates() -> None:
    figures = [tokens_per_second(batch) for batch in (1, 4, 16, 64, 256)]
    assert figures == sorted(figures)
    assert figures[1] > 2 * figures[0]
    # One request more costs 1 ms: 1,000 tokens/s is what it tends to.
    assert figures[-1] < 1_000
    assert figures[-1] / figures[-2] < 1.2


def test_tokens_come_slower_in_a_larger_batch_and_with_longer_contexts() -> None:
    assert tokens_per_second(1) == pytest.approx(100, rel=0.02)
    slow = tokens_per_second(1, tpot_seconds_per_context_token=0.0001)
    # 16 of the prompt and about 50 of the answer are 6.6 ms on top of 10 ms.
    assert slow == pytest.approx(1 / 0.0166, rel=0.02)


def test_first_token_takes_as_long_as_the_prompt_is() -> None:
    config = a_config(ttft_seconds=0.1, prefill_tokens_per_second=1000)
    for prompt in (100, 500, 4_000):
        seconds = first_token_after(EngineModel(config), a_sequence(1, prompt=prompt))
        assert seconds == pytest.approx(0.1 + prompt / 1000)


def test_a_cached_prefix_is_not_computed_again() -> None:
    model = EngineModel(a_config(prefill_tokens_per_second=1000))
    cold = first_token_after(model, a_sequence(1, prompt=1_000, text="a"))
    warm_sequence = a_sequence(2, prompt=1_000, text="a")
    warm_at = model.next_due() or NOON + 100
    model.submit(warm_sequence, warm_at)
    run(model)
    assert cold == pytest.approx(1.0)
    assert warm_sequence.cached_tokens == 31 * 32  # whole blocks, and one token at least is left
    assert warm_sequence.first_token_at - warm_at == pytest.approx(0.008)
    assert model.cached_total == 31 * 32


def test_what_is_left_to_read_leaves_out_what_is_cached() -> None:
    model = EngineModel(a_config(prefill_tokens_per_second=1000))
    first_token_after(model, a_sequence(1, prompt=1_000, text="a"))
    run(model)
    assert model.prompt_tokens_left() == 0
    now = NOON + 100
    model.submit(a_sequence(2, prompt=1_000, text="a"), now)
    model.submit(a_sequence(3, prompt=500), now)
    assert model.prompt_tokens_left() == 8 + 500
    model.advance(now)  # begins to read both
    assert model.prompt_tokens_left() == 8 + 500


def test_the_least_recently_used_prefix_is_evicted_first() -> None:
    kv = KvBlocks(4)
    assert kv.take((), 4)
    kv.release(kv.publish([1, 2]), 2)
    kv.take((), 2)
    kv.release(kv.publish([3, 4]), 0)
    assert kv.available == 4
    assert kv.take([1, 2], 0)
    kv.release([1, 2], 0)  # used again: 3 and 4 are the older ones now
    assert kv.take((), 2)
    assert kv.matching([1, 2]) == 2
    assert kv.matching([3, 4]) == 0


def test_no_prompt_stops_the_others_for_longer_than_a_piece_of_it() -> None:
    config = a_config(batch_tokens_max=129, prefill_tokens_per_second=10_000)
    model = EngineModel(config)
    steady = a_sequence(1, prompt=1, output=200)
    model.submit(steady, NOON)
    model.advance(NOON + 0.05)
    model.submit(a_sequence(2, prompt=4_000), NOON + 0.05)
    gaps: list[float] = []
    last = NOON + 0.05
    while steady.finished_at < 0:
        due = model.next_due()
        assert due is not None
        if steady in model.advance(due):
            gaps.append(due - last)
            last = due
    # 10 ms for its own token, 1 ms for the other's, 12.8 ms for 128 tokens of the prompt.
    assert max(gaps) == pytest.approx(0.0228, abs=0.0011)


def test_without_chunked_prefill_streams_wait_for_the_whole_prompt() -> None:
    config = a_config(batch_tokens_max=100, prefill_tokens_per_second=1_000, chunked_prefill=False)
    model = EngineModel(config)
    steady = a_sequence(1, prompt=1, output=20)
    model.submit(steady, NOON)
    model.submit(a_sequence(2, prompt=500, output=1), NOON)
    model.submit(a_sequence(3, prompt=500, output=1), NOON)
    run(model)
    # Two iterations of half a second; its own tokens are 10 ms each.
    assert steady.finished_at - NOON == pytest.approx(1.0 + 0.19, abs=0.03)


def test_a_batch_as_large_as_the_limit_starves_no_prompt() -> None:
    model = EngineModel(a_config(batch_tokens_max=1))
    steady, other = a_sequence(1, prompt=1, output=100), a_sequence(2, prompt=10)
    model.submit(steady, NOON)
    model.submit(other, NOON)
    run(model)
    assert other.finished_at < steady.finished_at


def test_a_full_queue_is_refused_with_a_time_to_come_back() -> None:
    model = EngineModel(a_config(concurrent_requests=1, queue_requests_max=1, tpot_seconds=0.05))
    model.submit(a_sequence(1), NOON)
    model.submit(a_sequence(2), NOON)
    with pytest.raises(Exhausted) as caught:
        model.submit(a_sequence(3), NOON)
    assert caught.value.retry_after_seconds == 6.0  # three rounds of 40 tokens
    run(model)
    model.submit(a_sequence(4), NOON + 60)


def test_requests_beyond_the_batch_wait_for_their_turn() -> None:
    model = EngineModel(a_config(concurrent_requests=1))
    first, second = a_sequence(1), a_sequence(2)
    model.submit(first, NOON)
    model.submit(second, NOON)
    run(model)
    assert second.started_at >= first.finished_at


def test_requests_beyond_the_cache_wait_though_there_are_slots() -> None:
    model = EngineModel(a_config(kv_cache_tokens=64))
    first, second = a_sequence(1, prompt=32, output=16), a_sequence(2, prompt=32, output=16)
    model.submit(first, NOON)
    model.submit(second, NOON)
    model.advance(NOON + 0.05)
    assert (model.running, len(model.waiting), model.kv.used) == (1, 1, 2)
    run(model)
    assert second.started_at >= first.finished_at


def test_under_max_utilization_the_youngest_makes_room_and_is_finished_later() -> None:
    model = EngineModel(a_config(kv_cache_tokens=96, kv_policy="max-utilization"))
    old, young = a_sequence(1, prompt=32, output=60), a_sequence(2, prompt=20, output=60)
    model.submit(old, NOON)
    model.submit(young, NOON)
    run(model)
    assert (old.preemptions, young.preemptions) == (0, 1)
    assert (old.generated, young.generated) == (60, 60)
    assert model.preempted_total == 1


def test_an_abort_frees_slot_and_blocks_at_once_wherever_the_request_is() -> None:
    model = EngineModel(a_config(concurrent_requests=2, batch_tokens_max=64))
    decoding, prefilling, waiting = a_sequence(1), a_sequence(2, prompt=4_000), a_sequence(3)
    for sequence in (decoding, prefilling, waiting):
        model.submit(sequence, NOON)
    model.advance(NOON + 0.02)
    assert (model.running, len(model.waiting)) == (2, 1)
    for sequence in (waiting, prefilling, decoding, decoding):
        model.abort(sequence)
    assert (model.running, len(model.waiting), model.kv.used) == (0, 0, 0)


def test_the_model_goes_on_after_it_has_done_enough_at_once() -> None:
    config = a_config(tpot_seconds=0.0, tpot_seconds_per_request=0.0)
    model = EngineModel(config)
    model.submit(a_sequence(1, output=1_000), NOON)
    now = NOON + 1
    model.advance(now, tokens_max=10)
    assert model.generated_total == 10
    due = model.next_due()
    assert due is not None
    assert due <= now
    run(model)
    assert model.generated_total == 1_000


def test_slow_factor_stretches_and_jitter_stays_inside_its_bounds() -> None:
    model = EngineModel(a_config(slow_factor=10, jitter=0.5, tpot_seconds=0.01))
    sequence = a_sequence(1, output=1_000)
    model.submit(sequence, NOON)
    times: list[float] = []
    while (due := model.next_due()) is not None:
        model.advance(due)
        times.append(due)
    gaps = [after - before for before, after in pairwise(times)]
    assert 0.05 <= min(gaps[1:]) < 0.06
    assert 0.14 < max(gaps) <= 0.15001
