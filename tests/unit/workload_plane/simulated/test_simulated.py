"""The simulated engine answers as its configuration and its seed say, in each API's own words."""

import json
from typing import Any

import pytest

from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.simulated.answers import (
    POISON_WORD,
    WORDS,
    Question,
    answer,
    block_keys,
    holds_word,
)
from workload_plane.simulated.apis import Api, parse_body, parse_question
from workload_plane.simulated.encoding import Envelope, stream_encoder, whole_body

ROOM = 512


def an_envelope(api: Api) -> Envelope:
    return Envelope(api=api, id="sim-1", created=7, model="m", prompt_tokens=3)


def events(data: bytes) -> list[Any]:
    lines = [line[6:] for line in data.decode().split("\n\n") if line]
    return [line if line == "[DONE]" else json.loads(line) for line in lines]


def text_of(api: Api, chunk: Any) -> str:
    if api is Api.NATIVE:
        return str(chunk["content"])
    (choice,) = chunk["choices"]
    return str(choice["delta"]["content"] if api is Api.CHAT else choice["text"])


def test_greedy_answers_repeat_and_variations_differ() -> None:
    greedy = Question(prompt=b"hello", max_tokens=16)
    first = answer(greedy, room=ROOM)
    assert first == answer(greedy, room=ROOM)
    varied = answer(Question(prompt=b"hello", max_tokens=16, variation=3), room=ROOM)
    assert varied.text != first.text


def test_a_longer_answer_begins_as_a_shorter_one_does() -> None:
    short = answer(Question(prompt=b"hello", max_tokens=5), room=ROOM)
    long = answer(Question(prompt=b"hello", max_tokens=9), room=ROOM)
    assert long.text.startswith(short.text)


def test_answer_ends_by_itself_within_its_room_unless_told_not_to() -> None:
    free = answer(Question(prompt=b"hello"), room=ROOM)
    assert free.finish_reason == "stop"
    assert 16 <= len(free.words) <= 64
    endless = answer(Question(prompt=b"hello", ignore_eos=True), room=ROOM)
    assert endless.finish_reason == "length"
    assert len(endless.words) == endless.limit_tokens == ROOM


def test_stop_text_ends_the_answer_and_stays_out_of_it() -> None:
    whole = answer(Question(prompt=b"hello", max_tokens=16), room=ROOM)
    stop = f" {WORDS[whole.words[5]]}"
    cut = answer(Question(prompt=b"hello", max_tokens=16, stops=(stop,)), room=ROOM)
    assert cut.finish_reason == "stop"
    assert cut.stop_text == stop
    assert stop not in cut.text
    assert len(cut.words) == cut.shown_tokens + 1  # it was generated to be met


def test_block_keys_agree_as_far_as_the_prompts_do() -> None:
    one = block_keys(b"a" * 300, 32)
    other = block_keys(b"a" * 200 + b"b" * 100, 32)
    assert len(one) == 2  # 75 tokens are two whole blocks of 32
    assert one[0] == other[0]
    assert one[1] != other[1]


def test_words_are_found_in_texts_and_as_tokens() -> None:
    assert holds_word(Question(prompt=b"the poison is here"), POISON_WORD)
    token = 16 + WORDS.index("sea")
    assert holds_word(parse_question(Api.NATIVE, {"prompt": [1, token]}, 1), "sea")
    assert not holds_word(parse_question(Api.NATIVE, {"prompt": [1, token]}, 1), "tide")


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
        (Api.TEXT, {"prompt": "x", "stop": 7}, "stop"),
        (Api.TEXT, {"prompt": "x", "max_tokens": 0}, "max_tokens"),
        (Api.TEXT, {"prompt": [2**32]}, "prompt"),
        (Api.TEXT, {"prompt": "\ud800"}, "prompt"),
        (Api.TEXT, {"prompt": "x", "echo": True}, "echo"),
        (Api.CHAT, {"messages": [{"content": "x"}], "tools": [{"type": "function"}]}, "tools"),
        (
            Api.CHAT,
            {"messages": [{"content": "x"}], "response_format": {"type": "json_object"}},
            "response_format",
        ),
    ],
)
def test_bad_body_is_refused_by_field(api: Api, body: dict[str, Any], field: str) -> None:
    with pytest.raises(InvalidInput) as caught:
        parse_question(api, body, variation=1)
    assert caught.value.field == field


@pytest.mark.parametrize("data", [b"", b"{", b"[]", b"\xff", b"[" * 100_000])
def test_a_body_that_is_no_object_is_refused(data: bytes) -> None:
    with pytest.raises(InvalidInput):
        parse_body(Api.CHAT, data, "m")


def test_another_model_is_not_found_and_native_needs_none() -> None:
    with pytest.raises(NotFound, match="served is 'm'"):
        parse_body(Api.TEXT, b'{"model":"x"}', "m")
    assert parse_body(Api.NATIVE, b"{}", "m") == {}


def test_text_and_its_four_bytes_a_token_count_alike() -> None:
    assert parse_question(Api.TEXT, {"prompt": "x" * 9}, 1).prompt_tokens == 3
    assert parse_question(Api.TEXT, {"prompt": [20, 21, 2**32 - 1]}, 1).prompt_tokens == 3
    assert parse_question(Api.TEXT, {"prompt": ""}, 1).prompt_tokens == 1


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize("cuts", [(1, 2, 3, 4, 5), (2, 5), (5,)])
def test_streamed_text_is_the_whole_text_however_it_is_cut(api: Api, cuts: tuple[int, ...]) -> None:
    result = answer(Question(prompt=b"hello", max_tokens=5), room=ROOM)
    envelope = an_envelope(api)
    encoder = stream_encoder(envelope, result, usage=False)
    data = b"".join(
        encoder.tokens(start, stop) for start, stop in zip((0, *cuts), cuts, strict=False)
    )
    chunks = events(data)
    whole = json.loads(whole_body(envelope, result, 0))
    if api is Api.NATIVE:
        assert [chunk["tokens"][0] for chunk in chunks] == whole["tokens"]
        assert [chunk["tokens_predicted"] for chunk in chunks] == [1, 2, 3, 4, 5]
    text = whole["content"] if api is Api.NATIVE else None
    if api is Api.CHAT:
        text = whole["choices"][0]["message"]["content"]
    if api is Api.TEXT:
        text = whole["choices"][0]["text"]
    assert "".join(text_of(api, chunk) for chunk in chunks) == text == result.text


def test_usage_comes_last_and_only_when_it_is_wanted() -> None:
    result = answer(Question(prompt=b"hello", max_tokens=5), room=ROOM)
    envelope = an_envelope(Api.CHAT)
    ending, done = events(stream_encoder(envelope, result, usage=False).closing(0))
    assert done == "[DONE]"
    assert "usage" not in ending
    assert ending["choices"][0] == {"index": 0, "delta": {}, "finish_reason": "length"}
    _, usage, done = events(stream_encoder(envelope, result, usage=True).closing(2))
    assert usage["choices"] == []
    assert usage["usage"] == {
        "prompt_tokens": 3,
        "completion_tokens": 5,
        "total_tokens": 8,
        "prompt_tokens_details": {"cached_tokens": 2},
    }


def test_a_chat_stream_opens_with_the_role() -> None:
    result = answer(Question(prompt=b"hello", max_tokens=1), room=ROOM)
    (opening,) = events(stream_encoder(an_envelope(Api.CHAT), result, usage=True).opening())
    assert opening["choices"][0]["delta"] == {"role": "assistant", "content": ""}
    assert opening["usage"] is None


def test_a_served_name_needs_no_care() -> None:
    result = answer(Question(prompt=b"hello", max_tokens=1), room=ROOM)
    envelope = Envelope(api=Api.TEXT, id="sim-1", created=7, model='a"b\\c', prompt_tokens=3)
    assert json.loads(whole_body(envelope, result, 0))["model"] == 'a"b\\c'


@pytest.mark.parametrize("api", list(Api))
@pytest.mark.parametrize("limit", [None, 9])
def test_an_answer_goes_on_behind_its_own_beginning(api: Api, limit: int | None) -> None:
    by_ids = api is Api.NATIVE
    asked: dict[str, Any] = {"temperature": 0}
    asked |= {"messages": [{"role": "user", "content": "hello"}]} if api is Api.CHAT else {}
    asked |= {"prompt": [7, 8, 9] if by_ids else "hello"} if api is not Api.CHAT else {}
    limits = "n_predict" if by_ids else "max_tokens"
    first = parse_question(api, asked | ({limits: limit} if limit else {}), 1)
    whole = answer(first, room=ROOM)
    for cut in range(1, len(whole.words) + (limit is None)):
        told = whole.words[:cut]
        text = "".join(f" {WORDS[number]}" for number in told)
        more = dict(asked)
        if api is Api.CHAT:
            said = {"role": "assistant", "content": text}
            more["messages"] = [*asked["messages"], said]
            more |= {"continue_final_message": True, "add_generation_prompt": False}
        elif by_ids:
            more["prompt"] = [*asked["prompt"], *whole.tokens[:cut]]
        else:
            more["prompt"] += text
        if limit:
            more[limits] = limit - cut
        question = parse_question(api, more, 2)
        rest = answer(question, room=ROOM - cut)
        assert text + rest.text == whole.text, cut
        assert rest.finish_reason == whole.finish_reason
        assert question.prompt_tokens == first.prompt_tokens + cut
        assert rest.counted_tokens == len(whole.words) - cut


def test_a_final_message_is_continued_only_where_it_is_the_assistants() -> None:
    body = {"messages": [{"role": "user", "content": "hello"}], "continue_final_message": True}
    with pytest.raises(InvalidInput, match="add_generation_prompt"):
        parse_question(Api.CHAT, body, 1)
    with pytest.raises(InvalidInput, match="assistant"):
        parse_question(Api.CHAT, body | {"add_generation_prompt": False}, 1)


def test_an_answers_beginning_alone_is_no_answer_to_nothing() -> None:
    question = parse_question(Api.TEXT, {"prompt": "rock sea", "temperature": 0}, 1)
    assert question.prompt_tokens >= 1
