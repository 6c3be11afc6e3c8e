"""The three HTTP APIs of the simulated engine, inwards: from a body to what is asked.

Pure. OpenAI's chat and text completions, and llama.cpp's `/completion` (which has token ids). What
this engine cannot do is refused by the field's name. The way out is in `encoding.py` beside.
"""

import array
import json
import sys
from collections.abc import Mapping, Sequence
from enum import StrEnum
from typing import Any

from skerry.plumbing.errors import InvalidInput, NotFound
from workload_plane.simulated.answers import Question, split_told

# As far apart as the tokens of a chat template would put two messages.
_BETWEEN_MESSAGES = "\n" * 4
_STOPS_MAX = 16
_ONLY_WORDS = "this engine answers with words from a list"


class Api(StrEnum):
    """Which of the APIs a request came by."""

    CHAT = "chat"
    TEXT = "text"
    NATIVE = "native"


def parse_body(api: Api, data: bytes, served_name: str) -> dict[str, Any]:
    """Return the body; raises InvalidInput when it is no object, NotFound for another model."""
    try:
        body = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise InvalidInput(f"the body is not JSON: {error}") from None
    if not isinstance(body, dict):
        raise InvalidInput("the body must be a JSON object")
    model = body.get("model")
    if model != served_name and not (api is Api.NATIVE and model is None):
        raise NotFound(
            f"model {str(model)[:200]!r} is not served here; served is {served_name!r}",
            field="model",
        )
    return body


def parse_question(api: Api, body: Mapping[str, Any], variation: int) -> Question:
    """Return what is asked; raises InvalidInput naming the field."""
    _refuse_unsupported(body)
    limit = _limit(api, body)
    greedy = body.get("temperature") == 0
    seed = body.get("seed")
    fixed = seed if isinstance(seed, int) and seed >= 0 else variation
    variation = 0 if greedy else fixed + 1
    ignore_eos = body.get("ignore_eos") is True
    given, are_ids = (_chat_prompt(body), False) if api is Api.CHAT else _prompt(body.get("prompt"))
    prompt, told_tokens = split_told(
        given, variation=variation, ignore_eos=ignore_eos, are_ids=are_ids
    )
    return Question(
        prompt=prompt,
        told_tokens=told_tokens,
        max_tokens=None if limit is None or limit < 0 else limit,
        stops=_stops(body.get("stop")),
        ignore_eos=ignore_eos,
        variation=variation,
        use_cache=body.get("cache_prompt") is not False,
    )


def is_streamed(body: Mapping[str, Any]) -> bool:
    """Return whether the answer is wanted as events."""
    return body.get("stream") is True


def wants_usage(body: Mapping[str, Any]) -> bool:
    """Return whether a stream is to end with the usage."""
    options = body.get("stream_options")
    return isinstance(options, dict) and options.get("include_usage") is True


def wants_counts(body: Mapping[str, Any]) -> bool:
    """Return whether every chunk of a stream is to tell the usage until then."""
    options = body.get("stream_options")
    told = isinstance(options, dict) and options.get("continuous_usage_stats") is True
    return told and wants_usage(body)


def _refuse_unsupported(body: Mapping[str, Any]) -> None:
    for name in ("n", "n_cmpl", "best_of"):
        if body.get(name) not in (None, 1):
            raise InvalidInput(f"{name} must be 1 with this engine", field=name)
    if body.get("tools") and body.get("tool_choice") != "none":
        raise InvalidInput(f"tools cannot be called here: {_ONLY_WORDS}", field="tools")
    form = body.get("response_format")
    kind = form.get("type") if isinstance(form, dict) else form
    if kind not in (None, "text"):
        raise InvalidInput(f"response_format must be text: {_ONLY_WORDS}", field="response_format")
    if body.get("echo") is True:
        raise InvalidInput("echo cannot be had with this engine", field="echo")


def _limit(api: Api, body: Mapping[str, Any]) -> int | None:
    limit = body.get("n_predict" if api is Api.NATIVE else "max_tokens")
    if limit is None and api is Api.CHAT:
        limit = body.get("max_completion_tokens")
    if limit is None:
        return None
    if not isinstance(limit, int) or isinstance(limit, bool):
        raise InvalidInput(f"max_tokens must be a whole number, not {limit!r}", field="max_tokens")
    if limit < 1 and api is not Api.NATIVE:
        raise InvalidInput(f"max_tokens must be at least 1, not {limit}", field="max_tokens")
    return limit


def _chat_prompt(body: Mapping[str, Any]) -> bytes:
    messages = body.get("messages")
    if not isinstance(messages, list) or not messages:
        raise InvalidInput("messages must be a list with at least one", field="messages")
    parts: list[str] = []
    for number, message in enumerate(messages):
        content = message.get("content") if isinstance(message, dict) else None
        if isinstance(content, list):
            content = "".join(str(p.get("text", "")) for p in content if isinstance(p, dict))
        if not isinstance(content, str):
            raise InvalidInput("content must be a text", field=f"messages[{number}].content")
        parts.append(content)
    if not _is_continued(body, messages):
        parts.append("")
    return _encoded(_BETWEEN_MESSAGES.join(parts), "messages")


def _is_continued(body: Mapping[str, Any], messages: Sequence[Any]) -> bool:
    """Return whether the last message is the beginning of the answer, in vLLM's words."""
    if body.get("continue_final_message") is not True:
        return False
    if body.get("add_generation_prompt") is not False:
        raise InvalidInput(
            "continue_final_message needs add_generation_prompt: false",
            field="continue_final_message",
        )
    if messages[-1].get("role") != "assistant":
        raise InvalidInput(
            "continue_final_message needs an assistant's message at the end",
            field="continue_final_message",
        )
    return True


def _prompt(prompt: Any) -> tuple[bytes, bool]:
    """Return the prompt, and whether it is token ids."""
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return _encoded(prompt, "prompt"), False
    if isinstance(prompt, list) and prompt and all(type(number) is int for number in prompt):
        try:
            return _packed(prompt), True
        except OverflowError:
            raise InvalidInput("a token id is out of 0..2^32 - 1", field="prompt") from None
    raise InvalidInput("prompt must be one text or one list of token ids", field="prompt")


def _encoded(text: str, field: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise InvalidInput("half a surrogate pair is no text", field=field) from None


def _packed(tokens: list[int]) -> bytes:
    packed = array.array("I", tokens)
    assert packed.itemsize == 4
    if sys.byteorder == "big":
        packed.byteswap()
    return packed.tobytes()


def _stops(stop: Any) -> tuple[str, ...]:
    texts: Sequence[Any] = [stop] if isinstance(stop, str) else stop or []
    if (
        not isinstance(texts, list)
        or len(texts) > _STOPS_MAX
        or not all(isinstance(text, str) for text in texts)
    ):
        raise InvalidInput(f"stop must be at most {_STOPS_MAX} texts", field="stop")
    return tuple(texts)
