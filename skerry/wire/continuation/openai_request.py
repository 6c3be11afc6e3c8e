"""One streamed request of OpenAI's APIs: what it wants, and what stands against continuing it.

Pure. Read once when the request comes; `openai_continuation` builds on it when its stream breaks.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from skerry.wire.continuation.dialects import ChatWay, Dialect
from skerry.wire.continuation.refusals import Reason, Refusal

# Fields that guide decoding: OpenAI's, vLLM's old and new, SGLang's, llama.cpp's.
_GUIDES = (
    "response_format",
    "structured_outputs",
    "guided_json",
    "guided_regex",
    "guided_choice",
    "guided_grammar",
    "guided_decoding_backend",
    "json_schema",
    "regex",
    "ebnf",
    "grammar",
    "structural_tag",
)
_COUNTS = ("n", "best_of", "n_cmpl")
LIMITS = ("max_tokens", "max_completion_tokens")


class Api(StrEnum):
    """Which of OpenAI's streaming APIs."""

    CHAT = "chat"
    TEXT = "completions"


PATHS = {"/v1/chat/completions": Api.CHAT, "/v1/completions": Api.TEXT}


@dataclass(frozen=True, slots=True, kw_only=True)
class OpenAiRequest:
    """A request as it came, and what the relay must know of it.

    `wants_usage` and `wants_counts` are what the client asked for: the usage at the end, and in
    every chunk. `refusal` says why a begun answer to it is not continued.
    """

    api: Api
    body: bytes
    sent_body: bytes
    wants_usage: bool = False
    wants_counts: bool = False
    strips_counts: bool = False
    tokens_max: int | None = None
    stops: tuple[str, ...] = ()
    refusal: Refusal | None = None


def read_request(api: Api, body: bytes, dialect: Dialect) -> OpenAiRequest:
    """Return the request; one that cannot be read is passed on as it is, and never continued."""
    try:
        values = json.loads(body)
        if not isinstance(values, dict):
            raise ValueError("not an object")
    except (ValueError, RecursionError):
        unreadable = Refusal(reason=Reason.UNREADABLE)
        return OpenAiRequest(api=api, body=body, sent_body=body, refusal=unreadable)
    options = values.get("stream_options")
    options = options if isinstance(options, dict) else {}
    wants_usage = options.get("include_usage") is True
    wants_counts = wants_usage and options.get("continuous_usage_stats") is True
    refusal = _refusal(api, values, dialect)
    strips = dialect.counts_in_chunks and not wants_counts and refusal is None
    sent_body = body
    if strips:
        asked = {**options, "include_usage": True, "continuous_usage_stats": True}
        sent_body = dump({**values, "stream_options": asked})
    return OpenAiRequest(
        api=api,
        body=body,
        sent_body=sent_body,
        wants_usage=wants_usage,
        wants_counts=wants_counts,
        strips_counts=strips,
        tokens_max=_tokens_max(api, values, dialect),
        stops=_stops(values),
        refusal=refusal,
    )


def dump(values: Mapping[str, Any]) -> bytes:
    """Return JSON as it is sent; lone surrogates survive only escaped."""
    try:
        return json.dumps(values, separators=(",", ":"), ensure_ascii=False).encode()
    except UnicodeEncodeError:
        return json.dumps(values, separators=(",", ":")).encode()


def _refusal(api: Api, values: Mapping[str, Any], dialect: Dialect) -> Refusal | None:
    reasons = (
        (Reason.GUIDED, _is_guided(values)),
        (Reason.SEVERAL, _is_several(values)),
        (Reason.SEED, _is_seeded(values)),
        (Reason.LOGPROBS, _has_positions(api, values)),
        (Reason.PROMPT, _has_no_place(api, values)),
        (Reason.TOOL_CALL, _forces_a_call(values)),
    )
    for reason, holds in reasons:
        if holds:
            return Refusal(reason=reason)
    if api is Api.CHAT and dialect.chat is ChatWay.NONE:
        return Refusal(reason=Reason.ENGINE)
    return None


def _is_guided(values: Mapping[str, Any]) -> bool:
    for name in _GUIDES:
        guide = values.get(name)
        if guide and not (isinstance(guide, dict) and guide.get("type") == "text"):
            return True
    return False


def _is_several(values: Mapping[str, Any]) -> bool:
    many = any(values.get(name) not in (None, 1) for name in _COUNTS)
    prompt = values.get("prompt")
    lists = isinstance(prompt, list) and len(prompt) > 1 and isinstance(prompt[0], str | list)
    return many or lists or values.get("use_beam_search") is True


def _is_seeded(values: Mapping[str, Any]) -> bool:
    seed = values.get("seed")
    is_greedy = values.get("temperature") == 0 or values.get("top_k") == 1
    # A negative seed is llama.cpp's "choose one".
    return seed is not None and not (isinstance(seed, int) and seed < 0) and not is_greedy


def _has_positions(api: Api, values: Mapping[str, Any]) -> bool:
    if values.get("prompt_logprobs") is not None:
        return True
    # A chat's log probabilities stand for themselves; a completion's have offsets in the text.
    return api is Api.TEXT and values.get("logprobs") not in (None, False)


def _has_no_place(api: Api, values: Mapping[str, Any]) -> bool:
    if values.get("echo") or values.get("suffix"):
        return True
    if api is Api.TEXT:
        return text_prompt(values) is None
    messages = values.get("messages")
    return not (isinstance(messages, list) and messages)


def _forces_a_call(values: Mapping[str, Any]) -> bool:
    choice = values.get("tool_choice")
    return bool(values.get("tools")) and choice not in (None, "none", "auto")


def text_prompt(values: Mapping[str, Any]) -> str | None:
    """Return the prompt of a completion if it is one text."""
    prompt = values.get("prompt")
    if isinstance(prompt, list) and len(prompt) == 1:
        (prompt,) = prompt
    return prompt if isinstance(prompt, str) else None


def _tokens_max(api: Api, values: Mapping[str, Any], dialect: Dialect) -> int | None:
    limits = [values.get(name) for name in LIMITS]
    if api is Api.TEXT and "max_tokens" not in values:  # null is a word for "none"
        return dialect.text_tokens_default
    # A bool is an int in Python; a negative limit is llama.cpp's "none".
    whole = [limit for limit in limits if type(limit) is int and limit >= 0]
    return min(whole, default=None)


def _stops(values: Mapping[str, Any]) -> tuple[str, ...]:
    stop = values.get("stop")
    texts = [stop] if isinstance(stop, str) else stop if isinstance(stop, list) else []
    return tuple(text for text in texts if isinstance(text, str))
