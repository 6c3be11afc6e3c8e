"""What of OpenAI's APIs is continued, what is refused and why."""

import json
from typing import Any

import pytest

from skerry.wire.continuation.dialects import DIALECTS, dialect_of
from skerry.wire.continuation.openai_continuation import (
    Close,
    GoOn,
    LookUp,
    Told,
    continue_openai,
)
from skerry.wire.continuation.openai_request import Api, OpenAiRequest, read_request
from skerry.wire.continuation.refusals import Reason, Refusal, error_event

MESSAGES = [{"role": "user", "content": "hi"}]
CHAT: dict[str, Any] = {"model": "m", "stream": True, "messages": MESSAGES}
TEXT: dict[str, Any] = {"model": "m", "stream": True, "prompt": "hi"}
TOLD = Told(text=" a b", tokens=2)


def read(values: dict[str, Any], engine: str = "simulated") -> OpenAiRequest:
    api = Api.CHAT if "messages" in values else Api.TEXT
    return read_request(api, json.dumps(values).encode(), dialect_of(engine))


def gone_on(values: dict[str, Any], told: Told = TOLD, engine: str = "simulated") -> Any:
    step = continue_openai(read(values, engine), told, dialect_of(engine))
    assert isinstance(step, GoOn), step
    return json.loads(step.body)


@pytest.mark.parametrize(
    ("extra", "reason"),
    [
        ({"response_format": {"type": "json_object"}}, Reason.GUIDED),
        ({"guided_json": {"type": "object"}}, Reason.GUIDED),
        ({"structured_outputs": {"regex": "a+"}}, Reason.GUIDED),
        ({"grammar": "root ::= 'a'"}, Reason.GUIDED),
        ({"n": 2}, Reason.SEVERAL),
        ({"best_of": 3}, Reason.SEVERAL),
        ({"use_beam_search": True}, Reason.SEVERAL),
        ({"seed": 7}, Reason.SEED),
        ({"seed": 7, "temperature": 0.5}, Reason.SEED),
        ({"prompt_logprobs": 1}, Reason.LOGPROBS),
        ({"echo": True}, Reason.PROMPT),
        ({"tools": [{}], "tool_choice": "required"}, Reason.TOOL_CALL),
    ],
)
def test_what_no_other_engine_could_go_on_with_is_refused(
    extra: dict[str, Any], reason: Reason
) -> None:
    for values in (CHAT, TEXT):
        request = read(values | extra)
        assert request.refusal == Refusal(reason=reason)
        assert request.sent_body == request.body
        step = continue_openai(request, TOLD, DIALECTS["simulated"])
        assert step == Refusal(reason=reason)
        # Nothing of it was told: any replica may begin anew.
        assert continue_openai(request, Told(), DIALECTS["simulated"]) == GoOn(body=request.body)


@pytest.mark.parametrize(
    "extra",
    [
        {"seed": 7, "temperature": 0},
        {"seed": -1},
        {"n": 1},
        {"response_format": {"type": "text"}},
        {"response_format": None},
        {"tools": [{}]},
        {"tools": [{}], "tool_choice": "auto"},
        {"logprobs": False},
    ],
)
def test_what_changes_nothing_at_a_seam_is_not_refused(extra: dict[str, Any]) -> None:
    assert read(CHAT | extra).refusal is None
    assert read(TEXT | extra).refusal is None


def test_log_probabilities_of_a_chat_go_on_and_of_a_completion_do_not() -> None:
    assert read(CHAT | {"logprobs": True, "top_logprobs": 2}).refusal is None
    assert read(TEXT | {"logprobs": 2}).refusal == Refusal(reason=Reason.LOGPROBS)


@pytest.mark.parametrize("prompt", [[1, 2, 3], [[1, 2]], None, 7])
def test_a_completion_of_token_ids_has_no_place_for_text(prompt: Any) -> None:
    assert read(TEXT | {"prompt": prompt}).refusal == Refusal(reason=Reason.PROMPT)


@pytest.mark.parametrize("body", [b"", b"[]", b"{", b"7"])
def test_what_cannot_be_read_is_passed_on_as_it_is(body: bytes) -> None:
    request = read_request(Api.CHAT, body, DIALECTS["vllm"])
    assert request.sent_body == body
    assert request.refusal == Refusal(reason=Reason.UNREADABLE)


def test_a_completion_goes_on_behind_prompt_and_text() -> None:
    body = gone_on(TEXT | {"max_tokens": 10, "min_tokens": 5, "extra": [1]})
    wanted = {"prompt": "hi a b", "max_tokens": 8, "min_tokens": 3, "extra": [1]}
    assert body == TEXT | wanted


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_an_engines_own_limit_of_a_completion_does_not_begin_anew(engine: str) -> None:
    assert gone_on(TEXT, engine=engine)["max_tokens"] == 14
    whole = Told(text=" a", tokens=16, prompt_tokens=1)
    assert continue_openai(read(TEXT, engine), whole, dialect_of(engine)) == Close()
    for unlimited in (CHAT, TEXT | {"max_tokens": None}):
        assert gone_on(unlimited, engine=engine).get("max_tokens") is None
    assert "max_tokens" not in gone_on(TEXT, engine="llamacpp")


def test_a_chat_goes_on_in_vllms_words() -> None:
    body = gone_on(CHAT | {"max_completion_tokens": 10})
    assert body["messages"] == [*MESSAGES, {"role": "assistant", "content": " a b"}]
    assert body["continue_final_message"] is True
    assert body["add_generation_prompt"] is False
    assert body["max_completion_tokens"] == 8
    assert "max_tokens" not in body


def test_a_chat_goes_on_in_llamacpps_way() -> None:
    body = gone_on(CHAT, engine="llamacpp")
    assert body["messages"][-1] == {"role": "assistant", "content": " a b"}
    assert not body.keys() & {"continue_final_message", "add_generation_prompt"}


@pytest.mark.parametrize(
    ("engine", "extra"),
    [
        ("llamacpp", {}),
        ("vllm", {"continue_final_message": True, "add_generation_prompt": False}),
    ],
)
def test_an_answer_that_the_client_had_begun_goes_on_in_its_message(
    engine: str, extra: dict[str, Any]
) -> None:
    begun: list[dict[str, Any]] = [
        *MESSAGES,
        {"role": "assistant", "content": "Well,", "name": "x"},
    ]
    body = gone_on(CHAT | {"messages": begun} | extra, engine=engine)
    last = {"role": "assistant", "content": "Well, a b", "name": "x"}
    assert body["messages"] == [*MESSAGES, last]
    parts = [{"type": "text", "text": "Well,"}]
    begun[-1] = {"role": "assistant", "content": parts}
    request = read(CHAT | {"messages": begun} | extra, engine)
    step = continue_openai(request, TOLD, dialect_of(engine))
    assert step == Refusal(reason=Reason.PROMPT)


def test_a_chat_on_tensorrt_llm_is_refused_and_a_completion_goes_on() -> None:
    assert read(CHAT, "tensorrt-llm").refusal == Refusal(reason=Reason.ENGINE)
    assert gone_on(TEXT, engine="tensorrt-llm")["prompt"] == "hi a b"


def test_engines_that_count_in_every_chunk_are_asked_to() -> None:
    request = read(CHAT, "vllm")
    asked = json.loads(request.sent_body)["stream_options"]
    assert asked == {"include_usage": True, "continuous_usage_stats": True}
    assert request.strips_counts
    own = {"stream_options": {"include_usage": True, "continuous_usage_stats": True}}
    assert not read(CHAT | own, "vllm").strips_counts


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        (Told(text="a", tokens=1, has_tool_calls=True), Reason.TOOL_CALL),
        (Told(text="", tokens=1, has_reasoning=True), Reason.REASONING),
        (Told(text="a", tokens=1, unreadable=True), Reason.UNREADABLE),
        (Told(text="", tokens=9, too_long=True), Reason.TOO_LONG),
    ],
)
def test_what_was_told_may_stand_against_going_on(told: Told, reason: Reason) -> None:
    assert continue_openai(read(CHAT), told, DIALECTS["vllm"]) == Refusal(reason=reason)


def test_a_stream_of_which_only_the_end_is_missing_needs_no_engine() -> None:
    dialect = DIALECTS["simulated"]
    ended = Told(text=" a b", tokens=2, is_ended=True)
    assert continue_openai(read(CHAT), ended, dialect) == Close()
    assert continue_openai(read(CHAT | {"max_tokens": 2}), TOLD, dialect) == Close()
    wants_usage = CHAT | {"stream_options": {"include_usage": True}}
    step = continue_openai(read(wants_usage), ended, dialect)
    assert isinstance(step, LookUp)
    assert json.loads(step.body)["max_tokens"] == 1
    in_vain = Told(text=" a b", tokens=2, is_ended=True, was_looked_up=True)
    assert continue_openai(read(wants_usage), in_vain, dialect) == Close()
    counted = Told(text=" a b", tokens=2, is_ended=True, prompt_tokens=5)
    assert continue_openai(read(wants_usage), counted, dialect) == Close()


def test_the_error_event_has_openais_shape_and_names_the_reason() -> None:
    event = error_event(Refusal(reason=Reason.REFUSED, detail="400: no"))
    assert event.startswith(b"data: ")
    assert event.endswith(b"\n\n")
    error = json.loads(event[6:])["error"]
    assert error["code"] == "stream_not_continued"
    assert error["type"] == "server_error"
    assert error["param"] is None
    assert error["reason"] == "refused"
    assert "400: no" in error["message"]
