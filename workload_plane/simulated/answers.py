"""What the simulated engine answers: words from a list, the same for the same prompt and seed.

Pure: a whole answer is laid out before its first token is sent.
"""

import zlib
from collections.abc import Sequence
from dataclasses import dataclass

from workload_plane.simulated.latency import draw

_TEXT = (
    "rock sea tide wave gull light harbour stone wind salt shore reef boat rope anchor mast"
    " north south east west calm storm cloud rain sun moon star night day dawn dusk sand"
)
_WORDS = tuple(_TEXT.split())
EOS_TOKEN = 2
_FIRST_WORD_TOKEN = 16
# About what English text has under a vocabulary of some 100,000 tokens.
_BYTES_PER_TOKEN = 4
# Without a limit from the user an answer ends by itself, as a real one does.
_ANSWER_TOKENS_LEAST, _ANSWER_TOKENS_MOST = 16, 64


@dataclass(frozen=True, slots=True, kw_only=True)
class Question:
    """One request, whichever API it came by; exactly one of `text` and `tokens` counts.

    `max_tokens` None leaves the length to the engine; `variation` 0 is greedy.
    """

    text: str = ""
    tokens: tuple[int, ...] | None = None
    max_tokens: int | None = None
    stops: tuple[str, ...] = ()
    ignore_eos: bool = False
    variation: int = 0

    @property
    def prompt_tokens(self) -> int:
        """Return how many tokens the prompt has."""
        if self.tokens is not None:
            return len(self.tokens)
        return max(1, -(-len(self.text.encode()) // _BYTES_PER_TOKEN))


@dataclass(frozen=True, slots=True, kw_only=True)
class Token:
    """One generated token and its text."""

    id: int
    text: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """All tokens of an answer; `finish_reason` in OpenAI's words, `stop_text` what it met."""

    tokens: tuple[Token, ...]
    finish_reason: str
    stop_text: str = ""

    @property
    def text(self) -> str:
        """Return the whole text."""
        return "".join(token.text for token in self.tokens)


def answer(question: Question, *, context_tokens: int) -> Answer:
    """Return the answer that fits into the context; the prompt itself is known to fit."""
    room = context_tokens - question.prompt_tokens
    key = _key(question)
    natural = _ANSWER_TOKENS_LEAST + int(
        draw(key, 0) * (_ANSWER_TOKENS_MOST - _ANSWER_TOKENS_LEAST)
    )
    limit = min(room, question.max_tokens if question.max_tokens is not None else room)
    ends_itself = natural < limit and not question.ignore_eos
    tokens: list[Token] = []
    text = ""
    for position in range(natural if ends_itself else limit):
        number = int(draw(key, position + 1) * len(_WORDS))
        token = Token(id=_FIRST_WORD_TOKEN + number, text=f" {_WORDS[number]}")
        text += token.text
        met = next((stop for stop in question.stops if stop and stop in text), None)
        if met is not None:
            return Answer(tokens=tuple(tokens), finish_reason="stop", stop_text=met)
        tokens.append(token)
    return Answer(tokens=tuple(tokens), finish_reason="stop" if ends_itself else "length")


def _key(question: Question) -> int:
    prompt: Sequence[int] = question.tokens or ()
    data = question.text.encode() + b"".join(number.to_bytes(8, "little") for number in prompt)
    return zlib.crc32(data) ^ question.variation << 32
