"""The one stream that a client of OpenAI's APIs sees, whichever engines give its parts.

Pure. Events of the first engine pass as they came; those behind a seam are fitted: the first's id
and time, no second opening, the usage of the whole. Nothing that breaks off inside an event counts.
"""

import json
import re
from dataclasses import dataclass
from typing import Any

from skerry.wire.continuation.openai_continuation import Told
from skerry.wire.continuation.openai_request import Api, OpenAiRequest, dump
from skerry.wire.continuation.seam import SeamWatch, Sight
from workload_plane.relay.sse import data_of

# An answer longer than any context of today; a stream that brings more is not kept.
TOLD_BYTES_MAX = 4 * 1024 * 1024
_FOLD_PARTS = 512
# Half a surrogate pair, which JSON can spell, comes back as it was.
_UTF_8 = ("utf-8", "surrogatepass")
_DONE = b"data: [DONE]\n\n"
_SAME = ("id", "created", "model", "system_fingerprint")

Json = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class _Counted:
    """What stands around the text of an event with counts, as it comes and as it is told."""

    head: bytes
    tail: re.Pattern[bytes]
    told_head: bytes
    told_tail: bytes


class OpenAiStream:
    """Takes events in and gives events out; knows at every moment what the client was told."""

    __slots__ = (
        "_api",
        "_base",
        "_cached",
        "_choice_usage",
        "_counted",
        "_first",
        "_has_reasoning",
        "_has_tool_calls",
        "_has_usage",
        "_held",
        "_is_ended",
        "_is_opened",
        "_parts",
        "_plain",
        "_prompt_tokens",
        "_reads",
        "_request",
        "_seams",
        "_silent",
        "_tokens",
        "_too_long",
        "_unreadable",
        "_unshown",
        "_was_looked_up",
        "_watch",
        "is_closed",
        "is_cut",
        "told_bytes",
    )

    def __init__(self, request: OpenAiRequest) -> None:
        """Begin; of a request with a refusal everything passes and nothing is remembered."""
        self._request = request
        self._api = request.api
        self._reads = request.refusal is None
        self._first: Json = {}
        # As UTF-8: one letter beyond ASCII would make a whole text take two or four times as much.
        self._parts: list[bytes] = []
        self._tokens = 0
        self._unshown = 0
        self._base = 0  # tokens that were told before the present attempt
        self._seams = 0
        self._held: list[Json] = []
        self._watch: SeamWatch | None = None
        self._plain: tuple[bytes, bytes] | None = None
        self._counted: _Counted | None = None
        self._silent = False
        self._was_looked_up = False
        self._is_opened = self._is_ended = self._has_usage = False
        self._has_reasoning = self._has_tool_calls = False
        self._unreadable = self._too_long = False
        self._prompt_tokens: int | None = None
        self._cached: int | None = None
        self._choice_usage = 0
        self.is_closed = False  # the client has the end of its stream
        self.is_cut = False  # the engine need not go on: what is left is made here
        self.told_bytes = 0  # of the text that is kept

    @property
    def told(self) -> Told:
        """Return what the client was told until now."""
        return Told(
            text=self._text(),
            tokens=self._tokens,
            is_ended=self._is_ended,
            has_usage=self._has_usage,
            has_reasoning=self._has_reasoning,
            has_tool_calls=self._has_tool_calls,
            prompt_tokens=self._prompt_tokens,
            was_looked_up=self._was_looked_up,
            unreadable=self._unreadable,
            too_long=self._too_long,
        )

    @property
    def tokens(self) -> int:
        """Return how many tokens the client was told."""
        return self._tokens

    def begin_again(self, *, silent: bool = False) -> None:
        """Expect the events of another engine, which goes on; with `silent` only its usage."""
        self._held.clear()
        self._plain = self._counted = None
        self._base = self._tokens
        self._seams += 1
        self._silent = silent
        self.is_cut = False
        self._choice_usage = 0
        self._watch = None
        if self._request.stops and self._tokens:
            watch = SeamWatch(self._text(), self._request.stops)
            self._watch = watch if watch.look() is Sight.MAY_BE else None

    def feed(self, block: bytes) -> bytes:
        """Return what the client is sent for one event of the engine."""
        if (plain := self._plain) is not None:
            # All but the text is the very bytes of an event that was read whole: so is its meaning.
            head, tail = plain
            if block.startswith(head) and block.endswith(tail):
                text = block[len(head) : -len(tail)]
                if text and b'"' not in text and b"\\" not in text and _is_text(text):
                    self._keep(text)
                    self._tokens += 1
                    return block
        elif (counted := self._counted) is not None and block.startswith(counted.head):
            end = block.find(b'"', len(counted.head))
            text = block[len(counted.head) : end]
            found = counted.tail.fullmatch(block, end) if end > 0 else None
            if text and found and b"\\" not in text and _is_text(text):
                self._keep(text)
                self._choice_usage = int(found[1])
                self._tokens = self._choice_usage
                return b"%b%b%b" % (counted.told_head, text, counted.told_tail)
        return self._read(block)

    def _read(self, block: bytes) -> bytes:
        """Return what the client is sent for an event that must be understood."""
        if self.is_closed or self.is_cut:
            return b""
        data = data_of(block)
        if not data:
            return b"" if self._seams else block  # a comment keeps a connection busy, no more
        if data == b"[DONE]":
            return self._done(block)
        if not self._reads:
            return self._pass(block, data)
        try:
            chunk = json.loads(data)
            if self._seams == 0:
                return self._take_first(chunk, block)
            return self._take_again(chunk)
        except (ValueError, KeyError, TypeError, AttributeError, IndexError, RecursionError):
            if self._silent:
                return self._end_look_up()
            # Better told as it came than held back; but nothing can go on behind it.
            self._unreadable = True
            self._reads = False
            return block

    def close(self) -> bytes:
        """Return the end of a stream of which nothing is left to generate.

        Without a usage where no engine told how many tokens the prompt has.
        """
        assert not self.is_closed
        events: list[Json] = []
        if not self._is_ended:
            events.append(self._ending("length"))
        misses_usage = self._request.wants_usage and not self._has_usage
        if misses_usage and self._prompt_tokens is not None:
            completion = self._tokens + self._unshown
            events.append({**self._head(), "choices": [], "usage": self._usage(completion)})
        self._is_ended = self._has_usage = self.is_closed = True
        return b"".join(_event(event) for event in events) + _DONE

    def _pass(self, block: bytes, data: bytes) -> bytes:
        # Not begun is told apart from begun, and that is all: no one asks for more.
        self._tokens += 1
        if b'"error"' in data and _is_error(data):
            self.is_closed = True
        return block

    def _done(self, block: bytes) -> bytes:
        if self._silent:
            return self._end_look_up()
        flushed = self._flush()
        self._plain = self._counted = None
        self.is_closed = True
        return flushed + block

    def _end_look_up(self) -> bytes:
        """Note that a look-up is over; whether it brought the usage or not, there is no other."""
        self._was_looked_up = True
        self.is_cut = True
        return b""

    def _take_first(self, chunk: Json, block: bytes) -> bytes:
        """Return a first engine's event as it came, but for counts that only we had asked for."""
        if chunk.get("error"):
            self._plain = self._counted = None
            self.is_closed = True
            return block
        if not self._first:
            self._first = {name: chunk[name] for name in _SAME if name in chunk}
        usage = chunk.get("usage")
        if usage is not None:
            self._count(usage)
        text = self._tell(chunk)
        if usage is None:
            if text:
                self._plain = _around(block, text)
            return block
        if not self._request.strips_counts:
            return block
        stripped = self._stripped(chunk)
        if text and self._plain is None:
            self._counted = _counted_around(block, stripped, text, usage)
        return stripped

    def _take_again(self, chunk: Json) -> bytes:
        if chunk.get("error"):
            if self._silent:
                return self._end_look_up()
            self.is_closed = True
            return self._flush() + _event(chunk)
        if not self._first:  # the first engine died before its first event
            self._first = {name: chunk[name] for name in _SAME if name in chunk}
        chunk |= self._first
        usage = chunk.get("usage")
        if usage is not None:
            self._count(usage)
        if self._silent:
            self.is_cut = usage is not None and not chunk["choices"]
            return b""
        if usage is not None:
            chunk["usage"] = self._usage(self._base + self._choice_usage, usage)
        if self._is_opening(chunk):
            return b""
        if self._watch is None:
            self._tell(chunk)
            return self._stripped(chunk) if self._request.strips_counts else _event(chunk)
        return self._watched(chunk)

    def _watched(self, chunk: Json) -> bytes:
        """Return what may be shown while a stop text might span the seam."""
        assert self._watch is not None
        self._held.append(chunk)
        match self._watch.look(_text_of(self._api, chunk)):
            case Sight.MAY_BE if not _reason_of(chunk) and chunk["choices"]:
                return b""
            case Sight.MET:
                # Generated to be met, as an engine counts them, though nobody is shown them.
                self._unshown = sum(bool(_text_of(self._api, held)) for held in self._held)
                self._held.clear()
                self._watch = None
                self._is_ended = self.is_cut = True
                return _event(self._ending("stop"))
            case _:
                return self._flush()

    def _flush(self) -> bytes:
        held, self._held = self._held, []
        self._watch = None
        for chunk in held:
            self._tell(chunk)
        strips = self._request.strips_counts
        return b"".join(self._stripped(c) if strips else _event(c) for c in held)

    def _tell(self, chunk: Json) -> str:
        """Note what the client learns from an event; return its text if it has nothing else."""
        choices = chunk["choices"]
        if not choices:
            self._has_usage = self._has_usage or bool(chunk.get("usage"))
            return ""
        choice = choices[0]
        is_plain = not choice.get("token_ids") and not choice.get("finish_reason")
        if self._api is Api.CHAT:
            delta = choice["delta"]
            others = self._has_reasoning or delta.get("role") or delta.get("tool_calls")
            is_plain = is_plain and not others
            self._is_opened = True
            text = delta.get("content")
            if delta.get("reasoning_content") or delta.get("reasoning"):
                self._has_reasoning = True
            if delta.get("tool_calls"):
                self._has_tool_calls = True
        else:
            text = choice["text"]
        if text:
            self._keep(text.encode(*_UTF_8))
            if not self._choice_usage:
                self._tokens += len(choice.get("token_ids") or ()) or 1
        if self._choice_usage:
            self._tokens = self._base + self._choice_usage
        if choice.get("finish_reason"):
            self._is_ended = True
        return text if text and is_plain else ""

    def _text(self) -> str:
        return b"".join(self._parts).decode(*_UTF_8)

    def _keep(self, text: bytes) -> None:
        if self._too_long:
            return
        self._parts.append(text)
        self.told_bytes += len(text)
        if len(self._parts) >= _FOLD_PARTS:
            self._parts = [b"".join(self._parts)]
        if self.told_bytes > TOLD_BYTES_MAX:
            self._too_long = True
            self._parts.clear()
            self.told_bytes = 0

    def _count(self, usage: Json) -> None:
        """Note what an engine counts: behind a seam its prompt holds what was told before."""
        self._choice_usage = usage.get("completion_tokens") or 0
        prompt_tokens = usage.get("prompt_tokens") or 0
        if self._prompt_tokens is None and prompt_tokens:
            self._prompt_tokens = max(0, prompt_tokens - self._base)
        details = usage.get("prompt_tokens_details")
        if self._cached is None and isinstance(details, dict):
            self._cached = details.get("cached_tokens")

    def _usage(self, completion_tokens: int, usage: Json | None = None) -> Json:
        prompt_tokens = self._prompt_tokens or 0
        result = {
            **(usage or {}),
            "prompt_tokens": prompt_tokens,
            "completion_tokens": completion_tokens,
            "total_tokens": prompt_tokens + completion_tokens,
        }
        if self._cached is not None:
            cached = min(self._cached, prompt_tokens)
            details = result.get("prompt_tokens_details") or {}
            result["prompt_tokens_details"] = {**details, "cached_tokens": cached}
        return result

    def _stripped(self, chunk: Json) -> bytes:
        """Return an event without counts that the client had not asked for."""
        wants = self._request.wants_usage
        if not chunk["choices"]:
            return _event(chunk) if wants else b""
        if wants:
            chunk["usage"] = None  # as OpenAI has it in all chunks but the last
        else:
            chunk.pop("usage", None)
        return _event(chunk)

    def _is_opening(self, chunk: Json) -> bool:
        """Take a second opening out of the event, and say whether nothing is left of it."""
        if self._api is not Api.CHAT or not self._is_opened or not chunk["choices"]:
            return False
        choice = chunk["choices"][0]
        had_role = choice["delta"].pop("role", None) is not None
        said = any(value for value in choice["delta"].values())
        return had_role and not said and not choice.get("finish_reason")

    def _head(self) -> Json:
        kind = "chat.completion.chunk" if self._api is Api.CHAT else "text_completion"
        head = {"id": "", "object": kind, "created": 0, "model": ""}
        return head | self._first

    def _ending(self, reason: str) -> Json:
        said: Json = {"delta": {}} if self._api is Api.CHAT else {"text": "", "logprobs": None}
        choice = {"index": 0, **said, "finish_reason": reason}
        event = {**self._head(), "choices": [choice]}
        return event | {"usage": None} if self._request.wants_usage else event


def _event(values: Json) -> bytes:
    return b"data: " + dump(values) + b"\n\n"


def _is_text(data: bytes) -> bool:
    if data.isascii():
        return True
    try:
        data.decode()
    except UnicodeDecodeError:
        return False
    return True


def _around(block: bytes, text: str) -> tuple[bytes, bytes] | None:
    """Return what stands around an event's text, None where that is not plain to see."""
    written = b'"%b"' % text.encode(*_UTF_8)
    # As the last value of its kind in the event, and nowhere else, or it might be another's.
    if b"\\" in block or block.count(written) != 1:
        return None
    at = block.index(written)
    return block[: at + 1], block[at + len(written) - 1 :]


def _counted_around(block: bytes, told: bytes, text: str, usage: Json) -> _Counted | None:
    """Return what stands around an event's text when all that changes is two of its counts."""
    came, goes = _around(block, text), _around(told, text)
    if came is None or goes is None:
        return None
    tail = re.escape(came[1])
    for name, group in (("completion_tokens", rb"(\d{1,9})"), ("total_tokens", rb"\d{1,9}")):
        written = re.compile(rb'("%b":\\? ?)%d(?=[,}\\])' % (name.encode(), usage.get(name, -1)))
        found = list(written.finditer(tail))
        if len(found) != 1:
            return None
        tail = tail[: found[0].end(1)] + group + tail[found[0].end() :]
    return _Counted(head=came[0], tail=re.compile(tail), told_head=goes[0], told_tail=goes[1])


def _text_of(api: Api, chunk: Json) -> str:
    if not chunk["choices"]:
        return ""
    choice = chunk["choices"][0]
    text = choice["delta"].get("content") if api is Api.CHAT else choice["text"]
    return text or ""


def _reason_of(chunk: Json) -> bool:
    return bool(chunk["choices"] and chunk["choices"][0].get("finish_reason"))


def _is_error(data: bytes) -> bool:
    try:
        return bool(json.loads(data).get("error"))
    except (ValueError, AttributeError, RecursionError):
        return False
