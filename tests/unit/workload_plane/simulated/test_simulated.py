"""The simulated engine answers and waits as its configuration and its seed say."""

import asyncio
from typing import Any

import pytest

from skerry.plumbing.errors import Exhausted, InvalidInput
from workload_plane.simulated.answers import Question, answer
from workload_plane.simulated.apis import (
    Api,
    Envelope,
    last_chunks,
    parse_question,
    token_chunk,
    whole_body,
)
from workload_plane.simulated.config import SimulatedConfig
from workload_plane.simulated.latency import draw, tpot_seconds, ttft_seconds
from workload_plane.simulated.slots import Slots

CONTEXT = 512


def a_config(**changes: Any) -> SimulatedConfig:
    values: dict[str, Any] = {"served_name": "m", "host": "127.0.0.1", "port": 1}
    return SimulatedConfig(**(values | changes))


def an_envelope(api: Api) -> Envelope:
    return Envelope(api=api, id="sim-1", created=7, model="m", prompt_tokens=3)


def test_draws_are_even_and_repeatable() -> None:
    draws = [draw(7, number) for number in range(10_000)]
    assert draws == [draw(7, number) for number in range(10_000)]
    assert all(0 <= value < 1 for value in draws)
    assert abs(sum(draws) / len(draws) - 0.5) < 0.02


def test_first_token_takes_longer_for_a_longer_prompt() -> None:
    config = a_config(jitter=0, ttft_seconds=0.1, prefill_tokens_per_second=1000)
    assert ttft_seconds(config, prompt_tokens=500, request=1) == pytest.approx(0.6)


def test_tokens_come_slower_in_a_larger_batch() -> None:
    config = a_config(jitter=0, tpot_seconds=0.01, tpot_seconds_per_request=0.002)
    assert tpot_seconds(config, batch=1, request=1, token=1) == pytest.approx(0.01)
    assert tpot_seconds(config, batch=4, request=1, token=1) == pytest.approx(0.016)


def test_slow_factor_stretches_and_jitter_stays_inside_its_bounds() -> None:
    config = a_config(jitter=0.5, slow_factor=10, tpot_seconds=0.01)
    times = [tpot_seconds(config, batch=1, request=1, token=n) for n in range(1000)]
    assert 0.05 <= min(times) < 0.06
    assert 0.14 < max(times) <= 0.15


def test_greedy_answers_repeat_and_variations_differ() -> None:
    greedy = Question(text="hello", max_tokens=16)
    first = answer(greedy, context_tokens=CONTEXT)
    assert first == answer(greedy, context_tokens=CONTEXT)
    varied = answer(Question(text="hello", max_tokens=16, variation=3), context_tokens=CONTEXT)
    assert varied.text != first.text


def test_answer_ends_by_itself_within_the_context_unless_told_not_to() -> None:
    free = answer(Question(text="hello"), context_tokens=CONTEXT)
    assert free.finish_reason == "stop"
    assert 16 <= len(free.tokens) <= 64
    endless = answer(Question(text="hello", ignore_eos=True), context_tokens=CONTEXT)
    assert endless.finish_reason == "length"
    assert len(endless.tokens) == CONTEXT - 2


def test_stop_text_ends_the_answer_and_stays_out_of_it() -> None:
    whole = answer(Question(text="hello", max_tokens=16), context_tokens=CONTEXT)
    stop = whole.tokens[5].text
    cut = answer(Question(text="hello", max_tokens=16, stops=(stop,)), context_tokens=CONTEXT)
    assert cut.finish_reason == "stop"
    assert cut.stop_text == stop
    assert stop not in cut.text


@pytest.mark.parametrize(
    ("api", "body", "field"),
    [
        (Api.CHAT, {}, "messages"),
        (Api.CHAT, {"messages": [{"role": "user", "content": 3}]}, "messages[0].content"),
        (Api.TEXT, {"prompt": 3}, "prompt"),
        (Api.TEXT, {"prompt": [1, -1]}, "prompt"),
        (Api.TEXT, {"prompt": "x", "n": 2}, "n"),
        (Api.TEXT, {"prompt": "x", "max_tokens": "many"}, "max_tokens"),
        (Api.NATIVE, {"prompt": "x", "stop": [1]}, "stop"),
    ],
)
def test_bad_body_is_refused_by_field(api: Api, body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_question(api, body, variation=1)
    assert caught.value.field == field


@pytest.mark.parametrize("api", list(Api))
def test_streamed_text_is_the_whole_text(api: Api) -> None:
    result = answer(Question(text="hello", max_tokens=5), context_tokens=CONTEXT)
    envelope = an_envelope(api)
    chunks: list[Any] = [token_chunk(envelope, t, n) for n, t in enumerate(result.tokens)]
    whole: Any = whole_body(envelope, result)
    if api is Api.CHAT:
        texts = [chunk["choices"][0]["delta"]["content"] for chunk in chunks]
        assert "".join(texts) == whole["choices"][0]["message"]["content"]
    elif api is Api.TEXT:
        texts = [chunk["choices"][0]["text"] for chunk in chunks]
        assert "".join(texts) == whole["choices"][0]["text"]
    else:
        assert [chunk["tokens"][0] for chunk in chunks] == whole["tokens"]


def test_usage_comes_last_and_only_when_it_is_wanted() -> None:
    result = answer(Question(text="hello", max_tokens=5), context_tokens=CONTEXT)
    envelope = an_envelope(Api.CHAT)
    assert len(last_chunks(envelope, result, usage=False)) == 1
    ending, usage = last_chunks(envelope, result, usage=True)
    assert "usage" not in ending
    assert usage["usage"] == {"prompt_tokens": 3, "completion_tokens": 5, "total_tokens": 8}


async def test_full_queue_is_refused_with_a_time_to_come_back() -> None:
    slots = Slots(running_max=1, waiting_max=1)
    let_go = asyncio.Event()

    async def hold() -> None:
        async with slots.take(seconds_each=2.0):
            await let_go.wait()

    async with asyncio.TaskGroup() as group:
        group.create_task(hold())
        group.create_task(hold())
        await asyncio.wait_for(_until_waiting(slots), 1)
        with pytest.raises(Exhausted) as caught:
            await _take(slots)
        let_go.set()
    assert caught.value.retry_after_seconds == 4.0
    assert (slots.running, slots.waiting) == (0, 0)


async def test_cancelled_waiter_leaves_no_trace() -> None:
    slots = Slots(running_max=1, waiting_max=5)
    async with slots.take(seconds_each=1.0):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(_take(slots), 0.01)
        assert (slots.running, slots.waiting) == (1, 0)
    async with slots.take(seconds_each=1.0):
        assert slots.running == 1


async def _take(slots: Slots) -> None:
    async with slots.take(seconds_each=2.0):
        pass


async def _until_waiting(slots: Slots) -> None:
    turn = asyncio.Event()
    while not slots.waiting:
        asyncio.get_running_loop().call_soon(turn.set)
        await turn.wait()
        turn.clear()
