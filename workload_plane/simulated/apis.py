"""The three HTTP APIs of the simulated engine as pure translations: bodies in, bodies out.

OpenAI's chat and text completions, and llama.cpp's `/completion` (which has token ids).
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import StrEnum
from typing import Any

from skerry.plumbing.errors import InvalidInput
from workload_plane.simulated.answers import Answer, Question, Token

_CHAT_TOKENS_PER_MESSAGE = 4
_STOPS_MAX = 16


class Api(StrEnum):
    """Which of the APIs a request came by."""

    CHAT = "chat"
    TEXT = "text"
    NATIVE = "native"


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every chunk of one response repeats."""

    api: Api
    id: str
    created: int
    model: str
    prompt_tokens: int


def parse_question(api: Api, body: Mapping[str, Any], variation: int) -> Question:
    """Return what is asked; raises InvalidInput naming the field."""
    limit = body.get("n_predict" if api is Api.NATIVE else "max_tokens")
    if limit is None and api is Api.CHAT:
        limit = body.get("max_completion_tokens")
    if limit is not None and (not isinstance(limit, int) or isinstance(limit, bool)):
        raise InvalidInput(f"max_tokens must be a whole number, not {limit!r}", field="max_tokens")
    for name in ("n", "n_cmpl"):
        if body.get(name) not in (None, 1):
            raise InvalidInput(f"{name} must be 1 with this engine", field=name)
    greedy = body.get("temperature") == 0
    seed = body.get("seed")
    fixed = seed if isinstance(seed, int) and seed >= 0 else None
    text, tokens = _chat_text(body) if api is Api.CHAT else _prompt(body.get("prompt"))
    return Question(
        text=text,
        tokens=tokens,
        max_tokens=None if limit is None or limit < 0 else limit,
        stops=_stops(body.get("stop")),
        ignore_eos=body.get("ignore_eos") is True,
        variation=0 if greedy else (fixed if fixed is not None else variation) + 1,
    )


def token_chunk(envelope: Envelope, token: Token, position: int) -> dict[str, object]:
    """Return the stream's event for one token, the first at position 0."""
    if envelope.api is Api.NATIVE:
        return {
            "index": 0,
            "content": token.text,
            "tokens": [token.id],
            "stop": False,
            "tokens_predicted": position + 1,
            "tokens_evaluated": envelope.prompt_tokens,
        }
    return {**_head(envelope, streamed=True), "choices": [_choice(envelope, token.text)]}


def last_chunks(envelope: Envelope, answer: Answer, *, usage: bool) -> list[dict[str, object]]:
    """Return the events after the last token: why it ended, then the usage if it is wanted."""
    if envelope.api is Api.NATIVE:
        return [{**_native_end(envelope, answer), "content": "", "tokens": []}]
    head = _head(envelope, streamed=True)
    chunks = [{**head, "choices": [_choice(envelope, None, answer.finish_reason)]}]
    if usage:
        chunks.append({**head, "choices": [], "usage": _usage(envelope, answer)})
    return chunks


def role_chunk(envelope: Envelope) -> dict[str, object]:
    """Return the event with which a chat stream opens."""
    choice = {"index": 0, "delta": {"role": "assistant", "content": ""}, "finish_reason": None}
    return {**_head(envelope, streamed=True), "choices": [choice]}


def whole_body(envelope: Envelope, answer: Answer) -> dict[str, object]:
    """Return the body of a response that is not streamed."""
    if envelope.api is Api.NATIVE:
        ids = [token.id for token in answer.tokens]
        return {**_native_end(envelope, answer), "content": answer.text, "tokens": ids}
    choice: dict[str, object] = {"index": 0, "finish_reason": answer.finish_reason}
    if envelope.api is Api.CHAT:
        choice["message"] = {"role": "assistant", "content": answer.text}
    else:
        choice |= {"text": answer.text, "logprobs": None}
    head = _head(envelope, streamed=False)
    return {**head, "choices": [choice], "usage": _usage(envelope, answer)}


def error_body(message: str, kind: str, code: int) -> dict[str, object]:
    """Return an error as OpenAI writes it."""
    return {"error": {"message": message, "type": kind, "code": code}}


def _head(envelope: Envelope, *, streamed: bool) -> dict[str, object]:
    chat = "chat.completion.chunk" if streamed else "chat.completion"
    return {
        "id": envelope.id,
        "object": chat if envelope.api is Api.CHAT else "text_completion",
        "created": envelope.created,
        "model": envelope.model,
    }


def _choice(envelope: Envelope, text: str | None, reason: str | None = None) -> dict[str, object]:
    if envelope.api is Api.CHAT:
        delta = {} if text is None else {"content": text}
        return {"index": 0, "delta": delta, "finish_reason": reason}
    return {"index": 0, "text": text or "", "logprobs": None, "finish_reason": reason}


def _usage(envelope: Envelope, answer: Answer) -> dict[str, object]:
    return {
        "prompt_tokens": envelope.prompt_tokens,
        "completion_tokens": len(answer.tokens),
        "total_tokens": envelope.prompt_tokens + len(answer.tokens),
    }


def _native_end(envelope: Envelope, answer: Answer) -> dict[str, object]:
    stop_type = "limit" if answer.finish_reason == "length" else "eos"
    return {
        "index": 0,
        "stop": True,
        "model": envelope.model,
        "tokens_predicted": len(answer.tokens),
        "tokens_evaluated": envelope.prompt_tokens,
        "stop_type": "word" if answer.stop_text else stop_type,
        "stopping_word": answer.stop_text,
        "truncated": False,
        "timings": {"cache_n": 0, "prompt_n": envelope.prompt_tokens},
    }


def _chat_text(body: Mapping[str, Any]) -> tuple[str, None]:
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
        parts.append(content + "\n" * _CHAT_TOKENS_PER_MESSAGE)
    return "".join(parts), None


def _prompt(prompt: Any) -> tuple[str, tuple[int, ...] | None]:
    if isinstance(prompt, list) and len(prompt) == 1 and isinstance(prompt[0], str | list):
        prompt = prompt[0]
    if isinstance(prompt, str):
        return prompt, None
    if isinstance(prompt, list) and prompt and all(_is_token(number) for number in prompt):
        return "", tuple(prompt)
    raise InvalidInput("prompt must be one text or one list of token ids", field="prompt")


def _is_token(number: Any) -> bool:
    return isinstance(number, int) and not isinstance(number, bool) and 0 <= number < 2**32


def _stops(stop: Any) -> tuple[str, ...]:
    texts: Sequence[Any] = [stop] if isinstance(stop, str) else stop or []
    if len(texts) > _STOPS_MAX or not all(isinstance(text, str) for text in texts):
        raise InvalidInput(f"stop must be at most {_STOPS_MAX} texts", field="stop")
    return tuple(texts)
