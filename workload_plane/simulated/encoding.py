"""The three HTTP APIs of the simulated engine, outwards: bodies, and the events of streams.

Pure. All that repeats within a stream is encoded once; a token costs the joining of three pieces.
"""

import functools
import json
from dataclasses import dataclass
from typing import Protocol

from workload_plane.simulated.answers import FIRST_WORD_TOKEN, WORDS, Answer
from workload_plane.simulated.apis import Api

_JSON_WORDS = tuple(json.dumps(f" {word}")[1:-1].encode() for word in WORDS)
_NATIVE_TOKENS = tuple(
    b'" %s","tokens":[%d]' % (word.encode(), FIRST_WORD_TOKEN + number)
    for number, word in enumerate(WORDS)
)
_DONE = b"data: [DONE]\n\n"
_OBJECTS = {Api.CHAT: "chat.completion", Api.TEXT: "text_completion"}
_CHUNK_OBJECTS = {Api.CHAT: "chat.completion.chunk", Api.TEXT: "text_completion"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Envelope:
    """What every chunk of one response repeats."""

    api: Api
    id: str
    created: int
    model: str
    prompt_tokens: int


class StreamEncoder(Protocol):
    """The events of one stream, in order."""

    def opening(self) -> bytes:
        """Return what comes before the first token."""
        ...

    def tokens(self, start: int, stop: int) -> bytes:
        """Return one event for each token from position `start` up to `stop`."""
        ...

    def closing(self, cached_tokens: int) -> bytes:
        """Return the events after the last token: why it ended, and the usage if it is wanted."""
        ...


class OpenAiStream:
    """The events of `/v1/chat/completions` and `/v1/completions`."""

    __slots__ = ("_answer", "_envelope", "_head", "_tail", "_usage")

    def __init__(self, envelope: Envelope, answer: Answer, *, usage: bool) -> None:
        """Encode what repeats."""
        self._envelope = envelope
        self._answer = answer
        self._usage = usage
        self._head = _openai_head(envelope, _CHUNK_OBJECTS) + b',"choices":[{"index":0,'
        self._head = b"data: " + self._head
        # OpenAI has a null in every chunk but the last when the usage is wanted.
        end = b'}],"usage":null}\n\n' if usage else b"}]}\n\n"
        if envelope.api is Api.CHAT:
            self._tail = b'"},"finish_reason":null' + end
        else:
            self._tail = b'","logprobs":null,"finish_reason":null' + end

    def opening(self) -> bytes:
        """Return the event with which a chat stream opens."""
        if self._envelope.api is Api.CHAT:
            return self._head + b'"delta":{"role":"assistant","content":"' + self._tail
        return b""

    def tokens(self, start: int, stop: int) -> bytes:
        """Return one event for each token from position `start` up to `stop`."""
        stop = min(stop, self._answer.shown_tokens)
        if start >= stop:
            return b""
        chat = self._envelope.api is Api.CHAT
        head = self._head + (b'"delta":{"content":"' if chat else b'"text":"')
        words = self._answer.words
        if stop - start == 1:
            return head + _JSON_WORDS[words[start]] + self._tail
        return (
            head
            + (self._tail + head).join([_JSON_WORDS[word] for word in words[start:stop]])
            + self._tail
        )

    def closing(self, cached_tokens: int) -> bytes:
        """Return why it ended, the usage if it is wanted, and the mark of the end."""
        reason = self._answer.finish_reason.encode()
        chat = self._envelope.api is Api.CHAT
        empty = b'"delta":{},' if chat else b'"text":"","logprobs":null,'
        end = b'"}],"usage":null}\n\n' if self._usage else b'"}]}\n\n'
        ending = self._head + empty + b'"finish_reason":"' + reason + end
        if not self._usage:
            return ending + _DONE
        return b'%sdata: %s,"choices":[],%s}\n\n%s' % (
            ending,
            _openai_head(self._envelope, _CHUNK_OBJECTS),
            _usage(self._envelope, self._answer, cached_tokens),
            _DONE,
        )


class NativeStream:
    """The events of llama.cpp's `/completion`."""

    __slots__ = ("_answer", "_envelope", "_middle")

    def __init__(self, envelope: Envelope, answer: Answer) -> None:
        """Encode what repeats."""
        self._envelope = envelope
        self._answer = answer
        self._middle = b',"stop":false,"tokens_evaluated":%d,"tokens_predicted":' % (
            envelope.prompt_tokens
        )

    def opening(self) -> bytes:
        """Return nothing: the first event is the first token's."""
        return b""

    def tokens(self, start: int, stop: int) -> bytes:
        """Return one event for each token from position `start` up to `stop`."""
        words, middle = self._answer.words, self._middle
        return b"".join(
            [
                b'data: {"index":0,"content":%s%s%d}\n\n'
                % (_NATIVE_TOKENS[words[at]], middle, at + 1)
                for at in range(start, min(stop, self._answer.shown_tokens))
            ]
        )

    def closing(self, cached_tokens: int) -> bytes:
        """Return the last event, which tells why it ended and counts the tokens."""
        ending = _native_end(self._envelope, self._answer, cached_tokens)
        return _event({**ending, "content": "", "tokens": []})


class CountingStream:
    """An `OpenAiStream` in which every chunk tells the usage until then, one by one."""

    __slots__ = ("_inner", "_prompt", "_shown")

    def __init__(self, envelope: Envelope, answer: Answer) -> None:
        """Count from nothing."""
        self._inner = OpenAiStream(envelope, answer, usage=True)
        self._prompt = envelope.prompt_tokens
        self._shown = answer.shown_tokens

    def opening(self) -> bytes:
        """Return the event with which a chat stream opens."""
        return self._counted(self._inner.opening(), 0)

    def tokens(self, start: int, stop: int) -> bytes:
        """Return one event for each token from position `start` up to `stop`."""
        return b"".join(
            self._counted(self._inner.tokens(at, at + 1), at + 1)
            for at in range(start, min(stop, self._shown))
        )

    def closing(self, cached_tokens: int) -> bytes:
        """Return why it ended, the usage, and the mark of the end."""
        return self._counted(self._inner.closing(cached_tokens), self._shown)

    def _counted(self, events: bytes, completion: int) -> bytes:
        usage = b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d}}\n\n' % (
            self._prompt,
            completion,
            self._prompt + completion,
        )
        return events.replace(b'"usage":null}\n\n', usage)


def stream_encoder(
    envelope: Envelope, answer: Answer, *, usage: bool, counts: bool = False
) -> StreamEncoder:
    """Return what writes the events of a stream."""
    if envelope.api is Api.NATIVE:
        return NativeStream(envelope, answer)
    if counts:
        return CountingStream(envelope, answer)
    return OpenAiStream(envelope, answer, usage=usage)


def whole_body(envelope: Envelope, answer: Answer, cached_tokens: int) -> bytes:
    """Return the body of a response that is not streamed."""
    if envelope.api is Api.NATIVE:
        ending = _native_end(envelope, answer, cached_tokens)
        return _json({**ending, "content": answer.text, "tokens": answer.tokens})
    words = answer.words
    text = b"".join([_JSON_WORDS[word] for word in words[: answer.shown_tokens]])
    if envelope.api is Api.CHAT:
        said = b'"message":{"role":"assistant","content":"%s"}' % text
    else:
        said = b'"text":"%s","logprobs":null' % text
    return b'%s,"choices":[{"index":0,%s,"finish_reason":"%s"}],%s}' % (
        _openai_head(envelope, _OBJECTS),
        said,
        answer.finish_reason.encode(),
        _usage(envelope, answer, cached_tokens),
    )


def error_body(message: str, kind: str, code: int, field: str | None = None) -> bytes:
    """Return an error as OpenAI writes it."""
    return _json({"error": {"message": message, "type": kind, "param": field, "code": code}})


def models_body(served_name: str, sequence_tokens_max: int) -> bytes:
    """Return the list of what is served."""
    model = {
        "id": served_name,
        "object": "model",
        "created": 0,
        "owned_by": "skerry",
        "max_model_len": sequence_tokens_max,
    }
    return _json({"object": "list", "data": [model]})


def _openai_head(envelope: Envelope, objects: dict[Api, str]) -> bytes:
    return b'{"id":"%s","object":"%s","created":%d,"model":%s' % (
        envelope.id.encode(),
        objects[envelope.api].encode(),
        envelope.created,
        _quoted(envelope.model),
    )


def _usage(envelope: Envelope, answer: Answer, cached_tokens: int) -> bytes:
    prompt, completion = envelope.prompt_tokens, answer.counted_tokens
    return (
        b'"usage":{"prompt_tokens":%d,"completion_tokens":%d,"total_tokens":%d,'
        b'"prompt_tokens_details":{"cached_tokens":%d}}'
        % (prompt, completion, prompt + completion, cached_tokens)
    )


def _native_end(envelope: Envelope, answer: Answer, cached_tokens: int) -> dict[str, object]:
    stop_type = "limit" if answer.finish_reason == "length" else "eos"
    return {
        "index": 0,
        "stop": True,
        "model": envelope.model,
        "tokens_predicted": answer.counted_tokens,
        "tokens_evaluated": envelope.prompt_tokens,
        "stop_type": "word" if answer.stop_text else stop_type,
        "stopping_word": answer.stop_text,
        "truncated": False,
        "timings": {
            "cache_n": cached_tokens,
            "prompt_n": envelope.prompt_tokens - cached_tokens,
            "predicted_n": answer.counted_tokens,
        },
    }


def _event(values: dict[str, object]) -> bytes:
    return b"data: " + _json(values) + b"\n\n"


@functools.lru_cache(maxsize=4)
def _quoted(text: str) -> bytes:
    return json.dumps(text).encode()


def _json(values: dict[str, object]) -> bytes:
    return json.dumps(values, separators=(",", ":")).encode()
