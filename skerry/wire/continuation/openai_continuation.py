"""What is asked next when a stream of OpenAI's APIs broke: PURE.

From the request as it came and what the client was told of its answer, the body that makes another
engine go on, or why there is none. `openai_stream` fits the next engine's events to the first's.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from skerry.wire.continuation.dialects import ChatWay, Dialect
from skerry.wire.continuation.openai_request import LIMITS, Api, OpenAiRequest, dump, text_prompt
from skerry.wire.continuation.refusals import Reason, Refusal


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """What a client was told of an answer: only what has reached its connection.

    `prompt_tokens` is None while no engine said it. `is_ended`: it was told why the answer ended.
    `was_looked_up`: an engine was asked for the usage and told none.
    """

    text: str = ""
    tokens: int = 0
    is_ended: bool = False
    has_usage: bool = False
    has_reasoning: bool = False
    has_tool_calls: bool = False
    prompt_tokens: int | None = None
    was_looked_up: bool = False
    unreadable: bool = False
    too_long: bool = False

    @property
    def is_nothing(self) -> bool:
        """Say whether the answer has not begun: then any replica may give it from the start."""
        marks = self.has_reasoning or self.has_tool_calls or self.unreadable or self.is_ended
        return not self.tokens and not self.text and not marks


@dataclass(frozen=True, slots=True, kw_only=True)
class GoOn:
    """Send this body; its answer goes on where the told text ends."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class LookUp:
    """Send this body for one token, which nobody is shown: its usage counts the prompt."""

    body: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class Close:
    """Nothing is left to generate: the stream only has to be ended."""


Next = GoOn | LookUp | Close | Refusal


def continue_openai(request: OpenAiRequest, told: Told, dialect: Dialect) -> Next:
    """Return what is to be done so that the client gets the rest of its answer."""
    if told.is_nothing:
        return GoOn(body=request.sent_body)
    if refusal := _refusal(request, told):
        return refusal
    values = json.loads(request.sent_body)
    behind = _behind(request.api, values, told.text, dialect)
    if isinstance(behind, Refusal):
        return behind
    is_whole = request.tokens_max is not None and told.tokens >= request.tokens_max
    if told.is_ended or is_whole:
        misses_usage = request.wants_usage and not told.has_usage
        if misses_usage and told.prompt_tokens is None and not told.was_looked_up:
            return LookUp(body=dump({**behind, **_limits(behind, 1), "min_tokens": 0}))
        return Close()
    if request.tokens_max is not None:
        behind |= _limits(behind, request.tokens_max - told.tokens)
    least = behind.get("min_tokens")
    if type(least) is int and least:
        behind["min_tokens"] = max(0, least - told.tokens)
    return GoOn(body=dump(behind))


def _refusal(request: OpenAiRequest, told: Told) -> Refusal | None:
    if told.unreadable:
        return Refusal(reason=Reason.UNREADABLE)
    if told.too_long:
        return Refusal(reason=Reason.TOO_LONG)
    if request.refusal is not None:
        return request.refusal
    # Ended, nothing is continued: only the end of the stream is missing.
    if told.has_tool_calls and not told.is_ended:
        return Refusal(reason=Reason.TOOL_CALL)
    if told.has_reasoning and not told.is_ended:
        return Refusal(reason=Reason.REASONING)
    return None


def _behind(
    api: Api, values: Mapping[str, Any], text: str, dialect: Dialect
) -> dict[str, Any] | Refusal:
    """Return the request whose answer begins behind the text."""
    if api is Api.TEXT:
        prompt = text_prompt(values)
        assert prompt is not None, "refused when it came"
        return {**values, "prompt": prompt + text}
    messages = list(values["messages"])
    last = messages[-1]
    opened = values.get("continue_final_message") is True
    if dialect.chat is ChatWay.TRAILING_MESSAGE:
        opened = isinstance(last, dict) and last.get("role") == "assistant"
    if opened:
        # The client itself had begun the answer, and its message goes on.
        if not isinstance(last, dict) or not isinstance(last.get("content"), str):
            return Refusal(reason=Reason.PROMPT)
        messages[-1] = {**last, "content": last["content"] + text}
    else:
        messages.append({"role": "assistant", "content": text})
    result = {**values, "messages": messages}
    if dialect.chat is ChatWay.FINAL_MESSAGE:
        result |= {"continue_final_message": True, "add_generation_prompt": False}
    return result


def _limits(values: Mapping[str, Any], tokens: int) -> dict[str, int]:
    given = [name for name in LIMITS if values.get(name) is not None]
    return dict.fromkeys(given or LIMITS[:1], tokens)
