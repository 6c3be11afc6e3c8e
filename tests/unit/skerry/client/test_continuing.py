"""What is asked of another gateway when an answer broke, and what cannot be asked."""

import json
from dataclasses import replace
from typing import Any

import pytest

from skerry.client.continuing import continued_body, continued_message
from skerry.client.gateways import AttemptFailed, Cause, Emitted, Request, RequestKind
from skerry.client.generate_grpc import generate_request
from skerry.client.openai_http import openai_body

TOLD = Emitted(dialect="vllm", text="Once upon", tokens=2)


def body_of(kind: RequestKind, max_tokens: int = 10, **fields: Any) -> bytes:
    """Return the body of a request."""
    request = Request(kind=kind, model="m", prompt="Tell.", max_tokens=max_tokens, fields=fields)
    return json.dumps(openai_body(request)).encode()


def test_a_chat_goes_on_behind_the_beginning_of_its_answer() -> None:
    found = continued_body(RequestKind.CHAT_STREAM, body_of(RequestKind.CHAT_STREAM), TOLD)
    assert found is not None
    body = json.loads(found[0])
    assert body["messages"][-1] == {"role": "assistant", "content": "Once upon"}
    assert body["continue_final_message"] is True
    assert body["max_tokens"] == 8


def test_a_completion_goes_on_behind_its_prompt_and_its_stop_texts_are_kept_in_mind() -> None:
    sent = body_of(RequestKind.COMPLETION_STREAM, stop=[" a time"])
    found = continued_body(RequestKind.COMPLETION_STREAM, sent, TOLD)
    assert found is not None
    assert json.loads(found[0])["prompt"] == "Tell.Once upon"
    assert found[1] == (" a time",)


def test_an_answer_of_which_only_the_end_was_lost_is_not_asked_for_again() -> None:
    kind = RequestKind.CHAT_STREAM
    assert continued_body(kind, body_of(kind, max_tokens=2), TOLD) is None


@pytest.mark.parametrize("fields", [{"seed": 3}, {"n": 2}, {"response_format": {"type": "json"}}])
def test_what_nobody_can_go_on_with_is_refused_everywhere(fields: dict[str, Any]) -> None:
    kind = RequestKind.CHAT_STREAM
    with pytest.raises(AttemptFailed) as failed:
        continued_body(kind, body_of(kind, **fields), TOLD)
    assert (failed.value.cause, failed.value.elsewhere) == (Cause.CONTINUATION, False)


@pytest.mark.parametrize(
    ("told", "word"),
    [
        (replace(TOLD, has_reasoning=True), "reasoning"),
        (replace(TOLD, has_tool_calls=True), "tool call"),
    ],
)
def test_what_no_engine_takes_back_is_not_gone_on_with(told: Emitted, word: str) -> None:
    kind = RequestKind.CHAT_STREAM
    with pytest.raises(AttemptFailed, match=word) as failed:
        continued_body(kind, body_of(kind), told)
    assert (failed.value.cause, failed.value.elsewhere) == (Cause.CONTINUATION, False)


def test_generate_goes_on_behind_its_prompt() -> None:
    request = Request(kind=RequestKind.GENERATE, model="m", prompt="Tell.", max_tokens=10)
    message = continued_message(generate_request(request, "id-2"), TOLD)
    assert message is not None
    assert message.prompt == "Tell.Once upon"
    assert (message.stopping.max_tokens, message.request_id) == (8, "id-2")


def test_generate_of_which_only_the_end_was_lost_is_not_asked_for_again() -> None:
    request = Request(kind=RequestKind.GENERATE, model="m", prompt="Tell.", max_tokens=2)
    assert continued_message(generate_request(request, "id-2"), TOLD) is None
